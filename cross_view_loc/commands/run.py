"""`cross_view_loc run`: localize a recording offline, without ROS, with the live node's own inputs and localizer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.bags.formats import bags_in
from cross_view_loc.bags.results import FrameRecord, refuse_full_folder, without_nan
from cross_view_loc.bags.runner import BagRunner
from cross_view_loc.commands.run_one import REPORT, Done, run_bag, show_topics
from cross_view_loc.errors import InputError

__all__ = ["check_span", "configure", "execute", "run_with_bar", "show_topics"]

INTERRUPTED = 130
"""Exit status after Ctrl-C."""
EXAMPLES = """examples:
  a drive of `cross_view_loc simulate`, with its configuration:
    cross_view_loc run drive/bag --map drive/map.mbtiles --config drive/localizer.yaml
  your own bag: topics are guessed from their types and shown; a GeoTIFF as map; ten seconds, every second image:
    cross_view_loc run my_bag --map city.tif --start 30 --duration 10 --stride 2
  for scripts:
    cross_view_loc run recording.mcap --map city.mbtiles --config car.yaml --out out --json

  several drives side by side, a folder for each:
    cross_view_loc run monday.mcap tuesday.mcap --map city.mbtiles --config car.yaml
  all recordings that lie in a folder, in order of name:
    cross_view_loc run recordings/ --map city.mbtiles --config car.yaml
  what Ctrl-C or a power cut ended:
    cross_view_loc run my_bag --map city.tif --resume

BAG is a rosbag2 folder, an .mcap or .db3 file, a ROS 1 .bag, or a folder of these. An .mcap that was cut off is
localized up to the cut. The folder (results/<time> with the link
results/latest, or --out) then holds report.html (opens in any browser, offline), estimates.tum and .gpx (accepted
poses), estimates.csv (every image, with the reason if it gave no pose), timings.csv (computing time of each),
estimates.geojson, estimates_bag (the messages the node would have published), metrics.json and localizer.yaml (what was
used).

Exit status: 0 when poses were accepted; 1 when none was, when more than a third of the images gave no estimate,
when the bag is damaged or its truth cannot be read (the results that there are stay), or when nothing could be done;
130 after Ctrl-C; of several bags the worst one's.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="the recording; several run side by side")
    parser.add_argument("--map", type=Path, metavar="MAP", help=".mbtiles, .pmtiles, GeoTIFF, folder, source YAML")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="the node's parameter file; topics it does not name are guessed"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (results/<time>)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip this much of the bag (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="S", help="localize only this much of it")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="every Nth image (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run (--out, or results/latest)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--truth", help=argparse.SUPPRESS)  # of `evaluate bag`, often looked for here


def execute(options: argparse.Namespace) -> int:
    """Run, write the results and say where they are."""
    if options.truth is not None:
        raise InputError(
            f"run measures against no --truth but a topic of the bag that is called truth; for {options.truth} take "
            f"`cross_view_loc evaluate bag {options.bags[0]} --truth {options.truth}` with the same --map and --config"
        )
    check_span(options)
    options.bags = _expanded(options.bags)
    if len(options.bags) > 1:
        from cross_view_loc.commands.run_many import run_many

        return run_many(options)
    if not options.resume:
        refuse_full_folder(options.out)
    done = run_bag(options.bags[0], options)
    if options.json:
        print(json.dumps(without_nan(done.summary)))
    else:
        _print_summary(done)
    if done.partial:
        hint = "; --resume goes on from there" if done.exit_status == INTERRUPTED else ""  # not over what is damaged
        print(f"cross_view_loc run: partial: {done.partial}{hint}", file=sys.stderr)
    for failure in done.failures:
        print(f"cross_view_loc run: {failure}", file=sys.stderr)
    return done.exit_status


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


def _expanded(paths: list[Path]) -> list[Path]:
    """The bags, folders of several replaced by what lies in them; says on standard error which these are."""
    bags: list[Path] = []
    for path in paths:
        inside = bags_in(path)
        if inside:
            print(f"{path} holds {len(inside)}: {', '.join(each.name for each in inside)}", file=sys.stderr)
        bags += inside or [path]
    return bags


def _print_summary(done: Done) -> None:
    summary = done.summary
    counts, row = summary["images"], summary["results"][0]
    print(
        f"{sum(counts.values())} images: "
        f"{counts.get('accepted', 0)} accepted, {counts.get('refused', 0)} refused, {counts.get('skipped', 0)} skipped"
        f"; {summary['images_per_second']:.1f} a second"
    )
    for reason, count in list(summary["reasons"].items())[:5]:
        print(f"  {count:5d} × {reason}")
    for reason, count in list(summary["unusable_messages"].items())[:5]:
        print(f"  {count:5d} other messages × {reason}")
    for sentence, count in list(summary["assumptions"].items())[:5]:
        print(f"  {count:5d} estimates with an assumption: {sentence}")
    if row["position_median_m"] is not None:
        print(f"against {summary['topics']['truth']}, all estimates (accepted ones):")
        print(f"  position median {row['position_median_m']:.2f} m ({_or_dash(row['accepted_position_median_m'])} m)")
        print(f"  prior    median {row['prior_position_median_m']:.2f} m")
        print(f"  heading  median {row['heading_median_deg']:.2f}°")
    elif summary["no_truth"]:
        print(f"no errors: {summary['no_truth']}")
    for problem in summary["map_problems"][:3]:
        print(f"map: {problem}")
    print(f"map origin from {summary['map_origin']['from']}; results in {summary['out']}")
    print(f"look at {done.folder / REPORT}")


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
