"""`cross_view_loc evaluate sensitivity`: what wrong calibration, map, prior and odometry cost, and who notices."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.commands.depth_option import town_depth_name
from cross_view_loc.commands.quiet_warp import start_warp
from cross_view_loc.commands.tables import text_table
from cross_view_loc.commands.train import parse_seeds
from cross_view_loc.errors import InputError

EXAMPLES = """examples:
  cross_view_loc evaluate sensitivity --seeds 9000-9001 --frames 20
  cross_view_loc evaluate sensitivity --depth learned --depth flat --depth true --only pitch --only odometry --json
  cross_view_loc evaluate sensitivity --cameras surround --window 1

The pictures are true; what the localizer is told is wrong by the amount in the first column, the same in every frame.
  +m, +°        how much larger the median errors are than those of the row "none" of the same depth; those of odometry
                than with exact odometry in the same window
  moved, turned medians between the estimates of the same frames with and without the disturbance
  in 95 %       accepted estimates whose error lies within the 95 % ellipsoid of their covariance; NEES/3 should be 1:
                where they are far off, the covariance does not know of the disturbance
"""
COLUMNS = (
    ("disturbance", "told wrongly", ""),
    ("depth", "depth", ""),
    ("frames", "frames", "d"),
    ("accepted", "accepted", ".0%"),
    ("position_median_m", "median m", ".2f"),
    ("position_added_m", "+m", "+.2f"),
    ("moved_median_m", "moved m", ".2f"),
    ("heading_median_deg", "heading °", ".2f"),
    ("heading_added_deg", "+°", "+.2f"),
    ("turned_median_deg", "turned °", ".2f"),
    ("recall_2m_5deg", "≤2 m, 5°", ".0%"),
    ("coverage_95", "in 95 %", ".0%"),
    ("nees_per_dof", "NEES/3", ".2f"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seeds", type=parse_seeds, default=[9000, 9001], metavar="A-B")
    parser.add_argument("--frames", type=int, default=20, help="frames a town (%(default)s)")
    parser.add_argument(
        "--cameras", choices=("front", "surround", "panorama", "fisheye", "fisheye_down"), default="front"
    )
    parser.add_argument("--gap", choices=("mild", "hard"), default="mild")
    parser.add_argument(
        "--depth", action="append", type=town_depth_name, metavar="NAME", help="repeatable; default learned and flat"
    )
    parser.add_argument("--only", action="append", metavar="WORD", help="disturbances with this in their name")
    parser.add_argument(
        "--window", type=int, default=5, metavar="N", help="moments for those of odometry; 1: none (%(default)s)"
    )
    parser.add_argument("--town-size", type=float, default=400.0, help="side in metres (%(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep rendered towns there and use them again")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Measure every disturbance with every depth source on the same pictures."""
    if options.frames < 1 or options.window < 1:
        raise InputError(f"--frames is {options.frames} and --window {options.window}; give at least 1")
    if options.cache is not None and options.cache.exists() and not options.cache.is_dir():
        raise InputError(f"{options.cache} is a file; choose a folder for --cache")
    from cross_view_loc.evaluation.sensitivity import disturbances, measure_sensitivity
    from cross_view_loc.localizer import LocalizerSettings
    from cross_view_loc.simulation.gap import map_std_of

    known = disturbances(options.window)
    wanted = [each for each in known if not each.is_reference and _is_wanted(each.name, options.only)]
    windows = {each.window for each in wanted}
    chosen = [each for each in known if each in wanted or (each.is_reference and each.window in windows)]
    if not wanted:
        names = ", ".join(each.name for each in known if not each.is_reference)
        raise InputError(f"--only {' '.join(options.only)} names no disturbance; there are: {names}")
    depths = list(dict.fromkeys(options.depth or ["learned", "flat"]))
    base = LocalizerSettings(device=options.device, map_std_m=map_std_of(options.gap), threads=os.cpu_count() or 1)
    start_warp()
    total = len(options.seeds) * options.frames * len(depths) * len(chosen)
    with tqdm(total=total, unit="frame", file=sys.stderr, disable=None) as progress:

        def advance(doing: str) -> None:
            progress.set_description(doing, refresh=False)
            progress.update()

        results = measure_sensitivity(
            options.seeds, options.frames, depths, chosen, base, options.cameras, options.gap, options.town_size,
            options.cache, advance,
        )  # fmt: skip
    references = {each.name for each in known if each.is_reference}
    plain = {(result.depth, result.window): result for result in results if result.disturbance in references}
    more = {"cameras": options.cameras, "gap": options.gap, "seeds": [min(options.seeds), max(options.seeds)]}
    rows = [result.row(plain[result.depth, result.window], **more) for result in results]
    print(json.dumps({"results": rows}) if options.json else table(rows))
    if missing := without_past(rows):
        print(missing, file=sys.stderr)
    return 0


def without_past(rows: list[dict[str, object]]) -> str:
    """One sentence when windows over time had hardly a past to look at; empty when they had, or there are none."""
    counts = [(int(str(row["frames_with_past"])), int(str(row["frames"]))) for row in rows if row["window"] != 1]
    if not counts:
        return ""
    with_past, frames = (sum(column) for column in zip(*counts, strict=True))
    if with_past >= frames / 2:
        return ""
    how_many = "no frame" if not with_past else f"only {with_past} of {frames} frames"
    return (
        f"rows of a window: {how_many} had an earlier moment near enough to count, so there is no past and they tell "
        "nothing of odometry; give more --frames, which then lie closer together"
    )


def _is_wanted(name: str, words: list[str] | None) -> bool:
    return not words or any(word in name for word in words)


def table(rows: list[dict[str, object]]) -> str:
    """The rows as an aligned text table, names to the left; a figure without data is a dash."""
    return text_table(rows, COLUMNS, names=1)
