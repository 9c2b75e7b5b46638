"""`cross_view_loc demo`: a town drive, the real node over DDS, and how well it knew where it was."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.results import FrameRecord, tum_text, without_nan, write_json
from cross_view_loc.bags.runner import choose_topics, read_truth, with_topics
from cross_view_loc.commands.depth_option import HELP as DEPTH_HELP
from cross_view_loc.commands.depth_option import depth_name
from cross_view_loc.commands.quiet_warp import start_warp
from cross_view_loc.commands.simulate import ConsoleProgress
from cross_view_loc.demo.node_process import NODE_NAME, NodeProcess, private_ros_network, wait_until
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.settings import Settings
from cross_view_loc.simulation.simulate import BAG, MAP, PARAMETERS, SimulationSettings, simulate
from cross_view_loc.types import Estimate

if TYPE_CHECKING:
    from cross_view_loc.node.playback import Received

EXAMPLES = """examples:
  cross_view_loc demo
  cross_view_loc demo --seed 9005 --duration 30 --depth flat --out /tmp/demo
  cross_view_loc demo --reuse            the drive of the last demo again

Simulates a drive through a procedural town that no network was trained in, starts the ROS 2 node as its own process,
plays the drive to it over DDS at real time, and compares the poses that come back with the truth.
"""

START_UP_S = 120.0
"""The node may take this long to load its networks; a busy laptop needs a tenth."""
SILENCE_S = 40.0
"""No estimate this long after the first image means that none will come."""
NEEDED = {
    "rclpy": "pip install 'cross_view_loc[ros]', or source a ROS 2 installation",
    "tf2_msgs": "pip install ./resource/tf2_msgs, or apt install ros-jazzy-tf2-msgs",
    "warp": "pip install 'cross_view_loc[sim]'",
    "shapely": "pip install 'cross_view_loc[sim]'",
    "matplotlib": "pip install 'cross_view_loc[plot]'",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seed", type=int, default=9000, help="town and drive; 9000-9999 are unseen (%(default)s)")
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="of the drive (%(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, metavar="HZ", help="images a second (%(default)s)")
    parser.add_argument("--depth", type=depth_name, default="learned", metavar="NAME", help=DEPTH_HELP)
    parser.add_argument("--weights-dir", default="", metavar="DIR", help="other weights than those of the package")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--reuse", action="store_true", help="play the drive that is in the folder already")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Run the whole demo."""
    started = time.monotonic()
    for module, remedy in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise MissingInputError(f"the demo needs {module}, which is not installed; {remedy}")
    say = _Narrator(sys.stderr if options.json else sys.stdout)
    drive = options.out / "drive"
    _make_drive(options, drive, say)
    # A transform for each pose and none between: so that each can be compared with its pose.
    overrides: dict[str, str | float] = {"tf_mode": "map_to_odom", "tf_rate_hz": 0.0, "depth": options.depth}
    if options.weights_dir:
        overrides["weights_dir"] = options.weights_dir
    with Bag(drive / BAG) as bag:
        received, images, node_status = _play(bag, drive, overrides, options.out / "node.log", say)
        summary = _compare(bag, drive, overrides, received, len(images), options, say)
    summary |= {"node_exit_status": node_status, "seconds": round(time.monotonic() - started, 1)}
    write_json(options.out / "demo.json", summary)
    if options.json:
        print(json.dumps(without_nan(summary)))
        return 0
    _print_summary(summary, say)
    return 0


class _Narrator:
    """Numbered steps and plain lines."""

    STEPS = 4

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._step = 0

    def step(self, text: str) -> None:
        self._step += 1
        self.line(f"[{self._step}/{self.STEPS}] {text}")

    def line(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)


def _make_drive(options: argparse.Namespace, drive: Path, say: _Narrator) -> None:
    if options.reuse:
        if not (drive / PARAMETERS).is_file():
            raise InputError(f"there is no drive in {drive} to use again; leave out --reuse")
        say.step(f"using the drive in {drive} again")
        return
    say.step(f"simulating a {options.duration:g} s drive through town {options.seed}: map, camera, GNSS, odometry, IMU")
    start_warp()
    settings = SimulationSettings(options.seed, duration_s=options.duration, image_rate_hz=options.rate)
    progress = ConsoleProgress()
    try:
        made = simulate(settings, drive, progress, force=True)
    finally:
        progress.close()
    seconds, images = sum(made["seconds"].values()), sum(made["messages"].get(topic, 0) for topic in _images_of(made))
    say.line(f"      {made['distance_m']:.0f} m, {images} images, {made['tiles']} map tiles, in {seconds:.0f} s")


def _images_of(made: dict[str, Any]) -> list[str]:
    return [topic for topic in made["messages"] if topic.endswith("/image/compressed")]


def _play(
    bag: Bag, drive: Path, overrides: dict[str, str | float], log: Path, say: _Narrator
) -> tuple[Received, list[int], int]:
    """What came back, the stamps of the images sent, and the node's exit status."""
    settings = Settings.from_yaml(drive / PARAMETERS)
    topics = choose_topics(bag, settings)
    with private_ros_network():
        from cross_view_loc.node.playback import Playback  # rclpy reads the network's settings when it starts

        say.step("starting the localizer as its own process")
        began = time.monotonic()
        sent = [name for name in bag.topics if name != topics.truth]
        with (
            NodeProcess(drive / PARAMETERS, overrides, log) as node,
            Playback(bag, sent, NODE_NAME, settings.map_frame, settings.odom_frame) as playback,
        ):
            wait_until(
                lambda: playback.listeners(topics.image) > 0, node, START_UP_S, "the node did not subscribe to images"
            )
            time.sleep(0.5)  # the other topics' subscriptions find their publishers
            say.line(f"      ready after {time.monotonic() - began:.1f} s, log in {log}")
            seconds = (bag.end_ns - bag.start_ns) / 1e9
            say.step(f"playing {seconds:.0f} s to it over DDS, at real time")
            images = _play_with_bar(playback, node, seconds)
            playback.wait_quiet(quiet_s=3.0, at_most_s=20.0)
            node.check_alive()
            if not playback.received.estimate_stamps_ns:
                raise node.failure("no estimate came back from the node")
            if not playback.received.poses:
                raise node.failure(
                    f"all {len(playback.received.estimate_stamps_ns)} estimates were refused"
                    f" ({playback.received.diagnostics.get('last refusal', 'no reason given')})"
                )
            status = node.stop()
    return playback.received, images, status


def _play_with_bar(playback: Any, node: NodeProcess, seconds: float) -> list[int]:
    shape = "      {percentage:3.0f}% |{bar:30}| {postfix}"
    first_image_s: list[float] = []
    with tqdm(total=round(seconds, 1), file=sys.stderr, disable=None, bar_format=shape) as bar:

        def after_message(played_s: float, images: int) -> bool:
            node.check_alive()
            if images and not first_image_s:
                first_image_s.append(played_s)
            bar.n = min(played_s, seconds)
            bar.set_postfix_str(f"{images} images sent, {len(playback.received.poses)} poses back", refresh=False)
            bar.update(0)
            silent = bool(first_image_s) and played_s - first_image_s[0] > SILENCE_S
            return not (silent and not playback.received.estimate_stamps_ns)

        return list(playback.play(after_message))


def _compare(
    bag: Bag, drive: Path, overrides: dict[str, str | float], received: Received, images: int,
    options: argparse.Namespace, say: _Narrator,
) -> dict[str, Any]:  # fmt: skip
    from dataclasses import replace

    from cross_view_loc.aerial.map import AerialMap
    from cross_view_loc.aerial.sources import open_source
    from cross_view_loc.demo import outcome
    from cross_view_loc.demo.table import error_rows
    from cross_view_loc.evaluation.pictures import draw_demo
    from cross_view_loc.localizer import Localizer

    say.step("comparing with the truth")
    settings = replace(Settings.from_yaml(drive / PARAMETERS), map_path=str((drive / MAP).resolve()), **overrides)  # type: ignore[arg-type]
    topics = choose_topics(bag, settings)
    settings = with_topics(settings, topics)
    projection = MapProjection(MapOrigin(*settings.map_origin), settings.map_projection)
    truth = read_truth(bag, topics.truth)
    estimates = [
        Estimate(pose.stamp_ns, pose.east_m, pose.north_m, pose.yaw_rad, pose.covariance, accepted=True)
        for pose in received.poses
    ]
    ours = outcome.compare_poses(estimates, truth)
    gnss = outcome.compare_fixes(bag, topics, projection, truth, settings.base_frame)
    aerial = AerialMap(open_source(settings.map_path), projection)
    track = outcome.truth_track(truth, bag)
    match, shown = None, outcome.typical(ours, estimates)
    if shown is not None:
        localizer = Localizer(aerial, settings.localizer_settings())
        match = outcome.match_view(bag, topics, settings, projection, aerial, shown.stamp_ns, localizer.locate)
    rows = error_rows(gnss.errors, ours.errors)
    picture = options.out / "demo.jpg"
    title = (
        f"cross_view_loc, a drive it has never seen: position error {_median(rows, 'ours'):.2f} m median,"
        f" GNSS alone {_median(rows, 'gnss'):.2f} m"
    )
    posed = {estimate.stamp_ns for estimate in estimates}
    refused_s = [stamp / 1e9 for stamp in received.estimate_stamps_ns if stamp not in posed]
    draw_demo(picture, title, outcome.overview_patch(aerial, track), track, gnss.track, ours.track, match, refused_s)
    poses_file = options.out / "estimates.tum"
    records = [FrameRecord(estimate.stamp_ns, "accepted", estimate=estimate) for estimate in estimates]
    poses_file.write_text(tum_text(records), encoding="utf-8")
    latencies_s = [pose.latency_s for pose in received.poses]
    return {
        "results": rows,
        "images": images,
        "estimates": len(received.estimate_stamps_ns),
        "poses": len(estimates),
        "accepted": len(estimates) / len(received.estimate_stamps_ns),
        "latency_median_s": float(np.nanmedian(latencies_s)),
        "latency_p95_s": float(np.nanquantile(latencies_s, 0.95)),
        "transforms": len(received.map_to_odom),
        "transform_disagreement_m": outcome.transform_disagreement_m(received.map_to_odom, estimates, bag, settings),
        "offline_difference_m": _offline_difference_m(match.estimate if match else None, shown),
        "picture": str(picture),
        "estimates_file": str(poses_file),
        "drive": str(drive),
        "log": str(options.out / "node.log"),
    }


def _median(rows: Sequence[dict[str, Any]], who: str) -> float:
    value = rows[0][f"{who}_median"]
    return float("nan") if value is None else float(value)


def _offline_difference_m(offline: Estimate | None, online: Estimate | None) -> float | None:
    if offline is None or online is None:
        return None
    return float(np.hypot(offline.east_m - online.east_m, offline.north_m - online.north_m))


def _print_summary(summary: dict[str, Any], say: _Narrator) -> None:
    from cross_view_loc.demo.table import table_text

    say.line()
    say.line(table_text(summary["results"]))
    say.line()
    share = summary["accepted"]
    say.line(
        f"  {summary['images']} images sent, {summary['estimates']} localized (newest first), "
        f"{summary['poses']} accepted ({share:.0%})"
    )
    say.line(
        f"  latency from image to pose: median {summary['latency_median_s'] * 1e3:.0f} ms, "
        f"p95 {summary['latency_p95_s'] * 1e3:.0f} ms"
    )
    if summary["transform_disagreement_m"] is not None:
        say.line(
            f"  TF map→odom: {summary['transforms']} transforms; with the odometry they give the poses back to "
            f"{summary['transform_disagreement_m'] * 1e3:.1f} mm"
        )
    if summary["offline_difference_m"] is not None:
        say.line(
            f"  the offline runner, given five seconds of the drive, puts the pictured image "
            f"{summary['offline_difference_m'] * 1e3:.0f} mm from the node"
        )
    if summary["node_exit_status"] != 0:
        say.line(f"  the node ended with status {summary['node_exit_status']} when interrupted; see {summary['log']}")
    say.line()
    say.line(f"  picture   {summary['picture']}")
    say.line(f"  poses     {summary['estimates_file']}")
    say.line(f"  drive     {summary['drive']} (bag, map.mbtiles, truth.tum, localizer.yaml)")
    say.line(f"  node log  {summary['log']}")
    say.line(f"  done in {summary['seconds']:.0f} s")
