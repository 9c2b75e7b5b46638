"""The whole way: a simulated drive over real DDS to the real node in its own process, held to truth and to the runner.

CROSS_VIEW_LOC_WEIGHTS names a folder of weights to test in place of the ones that ship.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")
pytest.importorskip("warp", reason="warp is not installed: the simulated drive needs `pip install .[sim]`")

import torch
from ros_helpers import node_process, private_domain

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import BagRunner, choose_topics
from cross_view_loc.cli import main
from cross_view_loc.demo.outcome import match_view
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import from_quaternion, transform, yaw_of
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.localizer import Localizer
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate

SECOND = 1_000_000_000


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short drive through a small town that no network was trained in."""
    folder = tmp_path_factory.mktemp("drive") / "town"
    arguments = ["--seed", "9000", "--duration", "4", "--rate", "2.5", "--town-size", "240", "--out", str(folder)]
    assert main(["simulate", *arguments]) == 0
    return folder


@dataclasses.dataclass
class Answer:
    """What came back from the node, and what the runner says to the same bag."""

    images: list[int]
    received: object
    offline: dict[int, Estimate]
    truth: dict[int, np.ndarray]
    T_odom_base: dict[int, np.ndarray]
    log: str
    status: int


@pytest.fixture(scope="module")
def answer(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """The drive played once; each image waits for the estimate of the one before, so that a busy machine drops none."""
    folder = tmp_path_factory.mktemp("node")
    settings = dataclasses.replace(
        Settings.from_yaml(drive / "localizer.yaml"),
        tf_mode="map_to_odom",
        device="cpu",
        prior_wait_s=5.0,
        tf_rate_hz=0.0,  # a transform for each pose and none between
        min_confidence=0.0,  # nearly every estimate shall come, so that all can be compared
        max_position_std_m=100.0,
        min_inlier_ratio=0.0,
        weights_dir=os.environ.get("CROSS_VIEW_LOC_WEIGHTS", ""),
    )
    with Bag(drive / "bag") as bag, private_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        from cross_view_loc.node.playback import Playback

        topics = choose_topics(bag, settings)
        names = [name for name in bag.topics if name != topics.truth]
        with (
            node_process(folder, settings, domain, real=True) as process,
            Playback(bag, names, "localizer", settings.map_frame, settings.odom_frame) as playback,
        ):
            _wait(lambda: playback.listeners(topics.image) > 0, 120.0, folder / "log")
            time.sleep(1.0)  # the other subscriptions find their publishers
            received = playback.received

            def keep_pace(played_s: float, sent: int) -> bool:
                # The latest image needs the messages after it, the one before has had them.
                end = time.monotonic() + 60.0
                while len(received.estimate_stamps_ns) < sent - 1 and time.monotonic() < end:
                    time.sleep(0.01)
                return process.poll() is None

            images = playback.play(keep_pace)
            _wait(lambda: len(received.estimate_stamps_ns) >= len(images), 60.0, folder / "log")
            time.sleep(1.5)  # one more round of diagnostics
            process.send_signal(signal.SIGTERM)
            status = process.wait(60.0)
        # Sums depend in their last digits on the number of threads; the node's process has one.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            offline, T_odom_base = _offline(bag, settings, images)
        finally:
            torch.set_num_threads(threads)
    truth = _read_tum(drive / "truth.tum")
    return Answer(images, received, offline, truth, T_odom_base, (folder / "log").read_text(), status)


def _wait(condition, at_most_s: float, log: Path) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def _offline(bag: Bag, settings: Settings, images: list[int]) -> tuple[dict[int, Estimate], dict[int, np.ndarray]]:
    projection = MapProjection(MapOrigin(*settings.map_origin), settings.map_projection)
    localizer = Localizer(AerialMap(open_source(settings.map_path), projection), settings.localizer_settings())
    assembler = FrameAssembler(settings, projection)
    runner = BagRunner(bag, choose_topics(bag, settings), assembler, localizer.locate, settings.tracker())
    records = runner.run(bag.start_ns, bag.end_ns + 1)
    poses = {stamp: assembler.T_odom_base(stamp) for stamp in images}
    return {record.stamp_ns: record.estimate for record in records if record.estimate is not None}, poses


def _read_tum(path: Path) -> dict[int, np.ndarray]:
    truth = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        stamp, x, y, z, *quaternion = line.split()
        seconds, nanoseconds = stamp.split(".")
        rotation = from_quaternion(*(float(value) for value in quaternion))
        truth[int(seconds) * SECOND + int(nanoseconds)] = transform(rotation, (float(x), float(y), float(z)))
    return truth


def test_every_image_gets_one_estimate_with_its_stamp_in_order(answer: Answer) -> None:
    assert len(answer.images) >= 8
    assert answer.received.estimate_stamps_ns == answer.images, answer.log
    stamps = [pose.stamp_ns for pose in answer.received.poses]
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(answer.images)


def test_node_and_offline_runner_agree(answer: Answer) -> None:
    assert sorted(answer.offline) == answer.images
    live = {pose.stamp_ns: pose for pose in answer.received.poses}
    assert sorted(live) == sorted(stamp for stamp, estimate in answer.offline.items() if estimate.accepted)
    assert len(live) >= 3, "the tracker takes no first looks and nothing that contradicts its track"
    for stamp, pose in live.items():
        estimate = answer.offline[stamp]
        assert (pose.east_m, pose.north_m) == pytest.approx((estimate.east_m, estimate.north_m), abs=1e-3)
        assert math.remainder(pose.yaw_rad - estimate.yaw_rad, 2 * math.pi) == pytest.approx(0.0, abs=1e-4)
        np.testing.assert_allclose(pose.covariance, estimate.covariance, rtol=1e-3, atol=1e-6)


def test_poses_are_near_the_truth(answer: Answer) -> None:
    errors = [
        math.hypot(pose.east_m - answer.truth[pose.stamp_ns][0, 3], pose.north_m - answer.truth[pose.stamp_ns][1, 3])
        for pose in answer.received.poses
    ]
    turns = [
        abs(math.remainder(pose.yaw_rad - yaw_of(answer.truth[pose.stamp_ns]), 2 * math.pi))
        for pose in answer.received.poses
    ]
    assert np.median(errors) < 2.0
    assert np.median(turns) < math.radians(3.0)


def test_map_to_odom_composes_to_the_poses(answer: Answer) -> None:
    assert len(answer.received.map_to_odom) == len(answer.received.poses)
    poses = {pose.stamp_ns: pose for pose in answer.received.poses}
    for stamp, T_map_odom in answer.received.map_to_odom:
        image_stamp = stamp - SECOND // 2  # transform_tolerance_s
        T_map_base = T_map_odom @ answer.T_odom_base[image_stamp]
        pose = poses[image_stamp]
        assert T_map_base[:2, 3] == pytest.approx((pose.east_m, pose.north_m), abs=1e-3)
        assert math.remainder(yaw_of(T_map_base) - pose.yaw_rad, 2 * math.pi) == pytest.approx(0.0, abs=1e-4)


def test_diagnostics_tell_counts_and_times(answer: Answer) -> None:
    values = answer.received.diagnostics
    assert int(values.get("accepted", 0)) + int(values.get("refused", 0)) == len(answer.images)
    assert float(values["compute p50 (s)"]) > 0.0
    assert values["image to pose p50 (s)"] == "unknown", "a bag's stamps are not of today's clock"
    assert values["fix unusable"] == "0" and values["camera_info unusable"] == "0"


def test_node_ends_with_status_0_and_no_traceback(answer: Answer) -> None:
    assert answer.status == 0, answer.log
    assert "Traceback" not in answer.log and "ready: images from /camera/front/image/compressed" in answer.log


def test_the_demos_picture_shows_the_matches_of_its_image(drive: Path, answer: Answer) -> None:
    settings = Settings.from_yaml(drive / "localizer.yaml")
    projection = MapProjection(MapOrigin(*settings.map_origin), settings.map_projection)
    aerial = AerialMap(open_source(drive / "map.mbtiles"), projection)
    localizer = Localizer(aerial, settings.localizer_settings())
    stamp = answer.images[len(answer.images) // 2]
    with Bag(drive / "bag") as bag:
        topics = choose_topics(bag, settings)
        shown = match_view(bag, topics, settings, projection, aerial, stamp, localizer.locate)
    assert shown is not None and shown.frame.stamp_ns == shown.estimate.stamp_ns == stamp
    assert len(shown.estimate.matches) > 20
