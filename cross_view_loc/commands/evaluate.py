"""`cross_view_loc evaluate`: errors by a stated protocol, on places the weights have never seen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.commands.train import parse_seeds
from cross_view_loc.errors import InputError

EXAMPLES = """examples:
  cross_view_loc evaluate town --seeds 9000-9003 --json
  cross_view_loc evaluate town --seeds 9000 --depth flat --frames 20
  cross_view_loc evaluate town --protocol heading_unknown --depth learned --estimator matches
protocols:
  offset           prior uniform in ±20 m along each axis, heading within ±10°
  heading_unknown  prior uniform within 20 m, any heading
  gnss             prior with σ 3 m, heading with σ 5°
"""
DEPTHS = ("learned", "flat", "true")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the town bench."""
    benches = parser.add_subparsers(dest="bench", required=True)
    town = benches.add_parser("town", help="unseen procedural towns, exact truth")
    town.add_argument("--seeds", type=parse_seeds, default=[9000, 9001, 9002, 9003], metavar="A-B")
    town.add_argument("--frames", type=int, default=40, help="frames a town")
    town.add_argument("--protocol", choices=("offset", "heading_unknown", "gnss"), default="offset")
    town.add_argument("--cameras", choices=("front", "surround", "panorama"), default="front")
    town.add_argument("--gap", choices=("mild",), default="mild", help="between the map's look and the camera's")
    town.add_argument("--window", type=int, choices=(1,), default=1, help="frames per estimate")
    town.add_argument("--depth", action="append", choices=DEPTHS, help="may be repeated; default learned and flat")
    town.add_argument("--estimator", action="append", choices=("consensus", "matches"), help="default consensus")
    town.add_argument("--model", default="", help="folder of weights; default those that ship")
    town.add_argument("--device", default="auto")
    town.add_argument("--map-std", type=float, default=0.3, help="metres added to every covariance for the map")
    town.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Render the bench once, then measure every setting on it."""
    from cross_view_loc.evaluation.metrics import FrameError, summarize
    from cross_view_loc.evaluation.town import TrueDepth, evaluate_bench, make_bench
    from cross_view_loc.localizer import Localizer, LocalizerSettings

    depths, estimators = options.depth or ["learned", "flat"], options.estimator or ["consensus"]
    if options.frames < 1:
        raise InputError(f"--frames is {options.frames}; give at least 1")
    if "true" in depths and options.cameras == "panorama":
        raise InputError("--depth true needs pinhole cameras; use --cameras front or surround")
    errors: dict[tuple[str, str], list[FrameError]] = {(d, e): [] for d in depths for e in estimators}
    total = len(options.seeds) * len(errors) * options.frames
    with tqdm(total=total, unit="frame", file=sys.stderr, disable=None) as progress:
        for seed in options.seeds:
            progress.set_description(f"town {seed}")
            bench = make_bench(seed, options.frames, options.protocol, options.cameras)
            for depth, estimator in errors:
                settings = LocalizerSettings(
                    depth="learned" if depth == "true" else depth,
                    estimator=estimator,
                    weights_dir=options.model,
                    device=options.device,
                    map_std_m=options.map_std,
                    threads=os.cpu_count() or 1,
                )
                localizer = Localizer(bench.orthophoto, settings, TrueDepth() if depth == "true" else None)
                for error in evaluate_bench(bench, localizer):
                    errors[depth, estimator].append(error)
                    progress.update()
    model = Path(options.model).name if options.model else "town"
    rows = [
        summarize(
            found,
            protocol=options.protocol,
            depth=depth,
            estimator=estimator,
            cameras=options.cameras,
            gap=options.gap,
            window=options.window,
            model=model,
            seeds=[min(options.seeds), max(options.seeds)],
        )
        for (depth, estimator), found in errors.items()
    ]
    print(json.dumps({"results": rows}) if options.json else table(rows))
    return 0


COLUMNS = (
    ("depth", "depth", ""),
    ("estimator", "estimator", ""),
    ("frames", "frames", "d"),
    ("accepted", "accepted", ".0%"),
    ("position_median_m", "median m", ".2f"),
    ("position_mean_m", "mean m", ".2f"),
    ("lateral_median_m", "lateral", ".2f"),
    ("longitudinal_median_m", "longit.", ".2f"),
    ("heading_median_deg", "heading °", ".2f"),
    ("recall_1m", "≤1 m", ".0%"),
    ("recall_2m", "≤2 m", ".0%"),
    ("accepted_position_p95_m", "acc. p95", ".2f"),
    ("accepted_beyond_3m", "acc. >3 m", ".1%"),
    ("coverage_95", "in 95 %", ".0%"),
    ("prior_position_median_m", "prior m", ".1f"),
    ("frame_seconds_p50", "s/frame", ".2f"),
)


def table(rows: list[dict[str, object]]) -> str:
    """The rows as an aligned text table; a figure without data is a dash."""
    cells = [[title for _, title, _ in COLUMNS]]
    cells += [["–" if row[key] is None else format(row[key], style) for key, _, style in COLUMNS] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells)
