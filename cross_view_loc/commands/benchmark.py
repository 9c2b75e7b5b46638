"""`cross_view_loc benchmark`: how long each stage of the method takes on this machine, and estimators compared."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.bags.results import without_nan
from cross_view_loc.commands.depth_option import HELP as DEPTH_HELP
from cross_view_loc.commands.depth_option import depth_name
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.settings import parameter_named

EXAMPLES = """examples:
  cross_view_loc benchmark
  cross_view_loc benchmark --depth flat --threads 1 --json
  cross_view_loc benchmark --estimators --frames 20      accuracy and time of every estimator on the same matches
  cross_view_loc benchmark map                           patches from memory, disk and HTTP; memory of a long drive
  cross_view_loc benchmark node --duration 180           the node in its own process over DDS: 10 Hz of 1280x720
  cross_view_loc benchmark node --transport raw --stand-in --duration 30       its overhead without inference
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """What to time."""
    parser.add_argument("what", nargs="?", choices=("method", "map", "node"), default="method", help="(%(default)s)")
    parser.add_argument("--drive-km", type=float, default=100.0, metavar="KM", help="map: simulated (%(default)s)")
    node = parser.add_argument_group("node")
    node.add_argument("--duration", type=float, default=60.0, metavar="S", help="of each setting (%(default)s)")
    node.add_argument("--rate", type=float, default=10.0, metavar="HZ", help="images a second and camera (%(default)s)")
    node.add_argument("--transport", action="append", choices=("compressed", "raw"), help="repeatable; default both")
    node.add_argument("--count", action="append", type=int, choices=(1, 2, 3, 4), help="cameras; repeatable; default 1")
    node.add_argument("--stand-in", action="store_true", help="a localizer that answers at once, in place of the real")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--depth", type=depth_name, default="learned", metavar="NAME", help=DEPTH_HELP)
    parser.add_argument("--estimator", choices=parameter_named("estimator").choices, default="consensus")
    parser.add_argument("--cameras", choices=("front", "surround", "panorama"), default="front")
    parser.add_argument(
        "--window", type=int, default=parameter_named("window_frames").default, help="moments an estimate (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--estimators", action="store_true", help="compare estimators on the same matches instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Time the localizer on a small town, with and without the aerial features already there."""
    if options.frames < 1:
        raise InputError(f"--frames is {options.frames}; give at least 1")

    if options.what == "map":
        return time_map(options)
    if options.what == "node":
        return time_node(options)
    if options.estimators:
        return compare_estimators(options)

    import numpy as np
    import torch

    from cross_view_loc.evaluation.town import make_bench
    from cross_view_loc.evaluation.town_rows import ON_THE_WAY, WINDOW_LENGTH_M
    from cross_view_loc.localizer import Localizer, LocalizerSettings

    between = ON_THE_WAY if options.window > 1 else 0
    bench = make_bench(9000, options.frames, cameras=options.cameras, town_size_m=260.0, between=between)
    threads = options.threads or os.cpu_count() or 1
    settings = LocalizerSettings(
        depth=options.depth,
        estimator=options.estimator,
        device=options.device,
        threads=threads,
        window_frames=options.window,
        window_length_m=WINDOW_LENGTH_M,
    )
    localizer = Localizer(bench.orthophoto, settings)
    localizer.locate(bench.frames[0].frames, bench.frames[0].prior)  # the first call warms caches and kernels up
    rows: list[dict[str, float]] = []
    for moment in bench.frames:
        if not moment.is_measured:
            localizer.follow(moment.frames)
            continue
        localizer.locate(moment.frames, moment.prior)
        rows.append({f"{stage}_ms": 1e3 * seconds for stage, seconds in localizer.stage_seconds.items()})
        localizer.locate(moment.frames, moment.prior)
        rows[-1]["aerial_cached_ms"] = 1e3 * localizer.stage_seconds["aerial"]
        rows[-1]["frame_ms"] = 1e3 * sum(localizer.stage_seconds.values())
    medians = {name: round(float(np.median([row[name] for row in rows])), 1) for name in rows[0]}
    machine = {
        "device": localizer.device,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    result = {
        "cameras": options.cameras,
        "window": options.window,
        "depth": options.depth,
        "estimator": options.estimator,
        **medians,
        **machine,
    }
    if options.json:
        print(json.dumps({"results": [result]}))
    else:
        print("median milliseconds a frame; frame_ms is with the aerial features already computed")
        for name, value in result.items():
            print(f"  {name:18s} {value}")
    return 0


def time_map(options: argparse.Namespace) -> int:
    """Patches from warm memory, warm disk and cold HTTP, and the memory of a long drive; needs no torch."""
    if not 0.0 < options.drive_km <= 10_000.0:
        raise InputError(f"--drive-km is {options.drive_km:g}; give a positive number of kilometres")
    from cross_view_loc.evaluation.map_benchmark import measure

    with tqdm(total=round(options.drive_km * 20), unit="patch", file=sys.stderr, disable=None) as bar:
        rows = measure(options.frames, options.drive_km, lambda: bar.update(1))
    if options.json:
        print(json.dumps({"results": rows}))
        return 0
    for row in rows:
        print(row["setting"])
        for name in list(row)[1:]:
            print(f"  {name:28s} {row[name]}")
    return 0


def time_node(options: argparse.Namespace) -> int:
    """The node in its own process over DDS under each load; what is printed says for how long each ran."""
    if not options.duration >= 1.0 or not 0.1 <= options.rate <= 50.0:
        raise InputError("--duration must be at least 1 second and --rate within 0.1 and 50 Hz")
    if importlib.util.find_spec("rclpy") is None:
        raise MissingInputError("`benchmark node` needs rclpy; pip install 'cross_view_loc[ros]', or source ROS 2")
    from cross_view_loc.evaluation.node_load import STAGE_FIGURES, Load, measure

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for cameras in options.count or [1]:
            for transport in options.transport or ["compressed", "raw"]:
                load = Load(cameras, transport, options.rate, options.duration, options.stand_in, options.depth)
                rows.append(measure(load, Path(folder), lambda text: print(text, file=sys.stderr)))
    if options.json:
        print(json.dumps(without_nan({"results": rows})))
        return 0
    for row in rows:
        print(f"{row['setting']}, {row['rate_hz']:g} Hz for {row['duration_s']:g} s")
        print(
            f"  images: {row['images_sent']} sent, {row['images_received']} received; moments: "
            f"{row['moments_processed']} processed, {row['moments_dropped']} dropped"
        )
        stages = (f"{name} {row[f'{name}_ms_p50']} / {row[f'{name}_ms_p95']}" for name in STAGE_FIGURES)
        print(f"  ms, p50 / p95: {', '.join(stages)}")
        slope = row["rss_slope_mb_per_min"]
        grows = "" if slope is None else f", growing by {slope} MB a minute in the second half"
        print(f"  CPU {row['cpu_percent']} % of one of {row['cores']} cores, memory {row['rss_mb']} MB{grows}")
    return 0


def compare_estimators(options: argparse.Namespace) -> int:
    """Planted matches and town frames (true depth, `--frames` of each of two towns), every estimator on the same."""
    import torch

    from cross_view_loc.evaluation.estimators import compare, hypotheses_milliseconds, planted_problems, town_problems

    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    planted = [problem for share in (0.3, 0.6, 0.9) for problem in planted_problems(share, options.frames)]
    rows = compare(planted) + compare(town_problems((9000, 9005), options.frames))
    milliseconds = round(hypotheses_milliseconds(), 2)
    if options.json:
        timing = {"hypotheses": 2000, "matches": 1024, "milliseconds": milliseconds}
        print(json.dumps({"results": rows, "scoring": timing, "threads": torch.get_num_threads()}))
        return 0
    print(f"{'matches':30s} {'estimator':27s} {'median m':>9s} {'heading °':>9s} {'≤1 m':>6s} {'ms':>8s}")
    for row in rows:
        print(
            f"{row['setting']:30s} {row['estimator']:27s} {row['position_median_m']:9.2f} "
            f"{row['heading_median_deg']:9.2f} {row['recall_1m']:6.0%} {row['milliseconds_p50']:8.1f}"
        )
    print(f"2000 hypotheses on 1024 matches: {milliseconds} ms on {torch.get_num_threads()} threads")
    return 0
