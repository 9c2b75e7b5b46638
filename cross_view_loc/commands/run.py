"""`cross_view_loc run`: localize a recording offline, without ROS, with the live node's own inputs and localizer."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cross_view_loc.bags.offline import open_run
from cross_view_loc.bags.reader import BagTopics
from cross_view_loc.bags.results import (
    FrameRecord,
    reasons,
    refuse_full_folder,
    result_folder,
    without_nan,
    write_json,
    write_results,
)
from cross_view_loc.bags.runner import BagRunner, read_truth
from cross_view_loc.errors import InputError
from cross_view_loc.settings import Settings, parameter_file_text

EXAMPLES = """examples:
  a drive of `cross_view_loc simulate`, with its configuration:
    cross_view_loc run drive/bag --map drive/map.mbtiles --config drive/localizer.yaml
  your own bag: topics are guessed from their types and shown; a GeoTIFF as map; ten seconds, every second image:
    cross_view_loc run my_bag --map city.tif --start 30 --duration 10 --stride 2
  for scripts:
    cross_view_loc run recording.mcap --map city.mbtiles --config car.yaml --out out --json

BAG is a rosbag2 folder, an .mcap or .db3 file, or a ROS 1 .bag. The folder (results/<time> with the link
results/latest, or --out) then holds estimates.tum (accepted poses), estimates.csv (every image, with the reason if
it gave no pose), estimates.geojson, metrics.json and localizer.yaml (what was used).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="the recording")
    parser.add_argument("--map", type=Path, metavar="MAP", help=".mbtiles, .pmtiles, GeoTIFF, folder, source YAML")
    parser.add_argument("--config", type=Path, metavar="YAML", help="the node's parameter file; default: guess topics")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (results/<time>)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip this much of the bag (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="S", help="localize only this much of it")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="every Nth image (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Run, write the results and say where they are."""
    check_span(options)
    refuse_full_folder(options.out)
    configured = Settings.from_yaml(options.config) if options.config else None
    show = show_guesses if configured is None else lambda topics: None
    with open_run(options.bag, options.map, configured, show) as offline:
        settings, topics = offline.settings, offline.topics
        start_ns, stop_ns = offline.span(options.start, options.duration)
        runner = offline.runner(offline.localizer().locate, options.stride)
        records = run_with_bar(runner, start_ns, stop_ns)
        # Truth in a bag is relative to its own origin: without one in configuration or map nobody knows which.
        known_origin = offline.origin_from != "first fix"
        truth = read_truth(offline.bag, topics.truth) if topics.truth and known_origin else None
        unreadable, problems = offline.bag.unreadable, list(offline.source.problems)

    from cross_view_loc.evaluation.runs import run_row

    row = run_row(records, truth, settings, bag=str(options.bag))
    folder = result_folder(options.out)
    write_results(folder, records, offline.projection)
    (folder / "localizer.yaml").write_text(
        parameter_file_text(settings, f"What `cross_view_loc run {options.bag}` used."), encoding="utf-8"
    )
    summary = {
        "results": [row],
        "out": str(folder),
        "map_origin": {**dataclasses.asdict(offline.projection.origin), "from": offline.origin_from},
        "topics": dataclasses.asdict(topics),
        "images": dict(Counter(record.status for record in records)),
        "reasons": dict(reasons(records).most_common()),
        "unusable_messages": dict(runner.unusable.most_common()),
        "unreadable_messages": unreadable,
        "map_problems": problems,
    }
    write_json(folder / "metrics.json", summary)
    if options.json:
        print(json.dumps(without_nan(summary)))
    else:
        _print_summary(summary, records)
    return 0


def run_with_bar(runner: BagRunner, start_ns: int, stop_ns: int) -> list[FrameRecord]:
    """`BagRunner.run` with a bar on standard error; silent where that is no terminal."""
    with tqdm(total=runner.image_count(start_ns, stop_ns), unit="image", file=sys.stderr, disable=None) as bar:
        return runner.run(start_ns, stop_ns, lambda record: (bar.update(1), None)[1])


def check_span(options: argparse.Namespace) -> None:
    """InputError for a stretch of the bag that cannot be meant."""
    if options.start < 0.0:
        raise InputError(f"--start is {options.start:g}; give seconds from the bag's beginning, 0 or more")
    if options.duration is not None and not options.duration > 0.0:
        raise InputError(f"--duration is {options.duration:g}; give a positive number of seconds")
    if options.stride < 1:
        raise InputError(f"--stride is {options.stride}; give 1 for every image, 2 for every second one, …")


def show_guesses(topics: BagTopics) -> None:
    """Which topics were taken, for people, on standard error."""
    print("topics, guessed by their types (name others in a --config file):", file=sys.stderr)
    for part, name in dataclasses.asdict(topics).items():
        if part == "rig":  # of a configuration
            continue
        shown = ", ".join(name) if isinstance(name, tuple) else name
        print(f"  {part:12s} {shown or '-'}", file=sys.stderr)


def _print_summary(summary: dict[str, Any], records: Sequence[FrameRecord]) -> None:
    counts, row = summary["images"], summary["results"][0]
    print(
        f"{len(records)} images: {counts.get('accepted', 0)} accepted, {counts.get('refused', 0)} refused, "
        f"{counts.get('skipped', 0)} skipped"
    )
    for reason, count in list(summary["reasons"].items())[:5]:
        print(f"  {count:5d} × {reason}")
    for reason, count in list(summary["unusable_messages"].items())[:5]:
        print(f"  {count:5d} other messages × {reason}")
    if row["position_median_m"] is not None:
        print(f"against {summary['topics']['truth']}, all estimates (accepted ones):")
        print(f"  position median {row['position_median_m']:.2f} m ({_or_dash(row['accepted_position_median_m'])} m)")
        print(f"  prior    median {row['prior_position_median_m']:.2f} m")
        print(f"  heading  median {row['heading_median_deg']:.2f}°")
    for problem in summary["map_problems"][:3]:
        print(f"map: {problem}")
    print(f"map origin from {summary['map_origin']['from']}; results in {summary['out']}")


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
