"""Several cameras, a calibration file and a stalled camera, through the offline runner."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_helpers import SPEED_MPS, START_NS, drive, with_rear_camera, write_bag2
from test_bags import PROJECTION, at_prior

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import BagRunner, choose_topics, with_topics
from cross_view_loc.errors import MissingInputError
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.settings import Settings, parameter_file_text

CALIBRATION = """
image_width: {width}
image_height: {height}
distortion_model: plumb_bob
distortion_coefficients: {{data: [0, 0, 0, 0, 0]}}
camera_matrix: {{data: [300, 0, 320, 0, 300, 180, 0, 0, 1]}}
"""


def rig_settings(**changes) -> Settings:
    values = {"cameras": ["front", "rear"], "fix_topic": "gps/fix", "odometry_topic": "odom", "imu_topic": "imu/data"}
    values |= {"front": {"image_topic": "cam/image", "camera_info_topic": "cam/camera_info"}}
    return Settings.from_mapping(values | changes)


def run(path: Path, settings: Settings):
    """The records and the frames that each estimate was made of."""
    seen = []

    def locate(frames, prior):
        seen.append(frames)
        return at_prior(frames, prior)

    with Bag(path) as bag:
        topics = choose_topics(bag, settings)
        settings = with_topics(settings, topics)
        records = BagRunner(bag, topics, FrameAssembler(settings, PROJECTION), locate).run(bag.start_ns, bag.end_ns + 1)
    return records, seen


def test_images_of_one_moment_are_localized_together_as_configured(tmp_path: Path) -> None:
    path = write_bag2(tmp_path / "bag", with_rear_camera(drive()))
    settings = rig_settings(rear={"image_topic": "rear/image", "camera_info_topic": "rear/camera_info"})
    records, seen = run(path, settings)
    assert [record.stamp_ns - START_NS for record in records] == [100_000_000 + 200_000_000 * i for i in range(5)]
    for frames in seen:
        front, rear = frames
        assert (front.name, rear.name) == ("front", "rear") and front.stamp_ns == rear.stamp_ns
        assert front.image.mean() > 80 > rear.image.mean()
        moved = rear.T_base_camera[:3, 3] - front.T_base_camera[:3, 3]
        np.testing.assert_allclose(moved, (0.01 * SPEED_MPS, 0.0, 0.0), atol=1e-6)
    written = tmp_path / "used.yaml"
    written.write_text(parameter_file_text(settings), encoding="utf-8")
    again = run(path, Settings.from_yaml(written))[0]
    assert [record.prior for record in again] == [record.prior for record in records]


def test_stalled_camera_does_not_hold_up_the_other(tmp_path: Path) -> None:
    path = write_bag2(tmp_path / "bag", with_rear_camera(drive(3.0), stalls_after_s=0.5))
    settings = rig_settings(rear={"image_topic": "rear/image", "camera_info_topic": "rear/camera_info"})
    records, seen = run(path, settings)
    assert len(records) == 15 and all(record.estimate is not None for record in records)
    assert [len(frames) for frames in seen] == [2, 2] + [1] * 13


def test_what_is_assumed_for_an_estimate_is_counted(tmp_path: Path) -> None:
    path = write_bag2(tmp_path / "bag", drive())
    cv2.imwrite(str(tmp_path / "square.png"), np.full((50, 50), 255, np.uint8))
    values = {"image_topic": "cam/image", "camera_info_topic": "cam/camera_info", "fix_topic": "gps/fix"}
    settings = Settings(**values, imu_topic="imu/data", mask=str(tmp_path / "square.png"))
    with Bag(path) as bag:
        topics = choose_topics(bag, settings)
        runner = BagRunner(bag, topics, FrameAssembler(with_topics(settings, topics), PROJECTION), at_prior)
        records = runner.run(bag.start_ns, bag.end_ns + 1)
    ((sentence, count),) = runner.assumed.items()
    assert count == len(records) == 5
    assert sentence.startswith("mask: ") and sentence.endswith("at any size; until then nothing is ignored")


def test_calibration_file_needs_no_camera_info_in_the_bag(tmp_path: Path) -> None:
    items = [item for item in with_rear_camera(drive()) if item[0] != "/rear/camera_info"]
    path = write_bag2(tmp_path / "bag", items)
    _, ((plain, *_), *_) = run(path, Settings(
        image_topic="cam/image", camera_info_topic="cam/camera_info", fix_topic="gps/fix", odometry_topic="odom"
    ))  # fmt: skip
    file = tmp_path / "rear.yaml"
    file.write_text(CALIBRATION.format(width=plain.camera.width, height=plain.camera.height))
    _, seen = run(path, rig_settings(rear={"image_topic": "rear/image", "calibration_file": str(file)}))
    assert all(frames[1].camera.fx == 300.0 for frames in seen)
    with pytest.raises(MissingInputError, match=r"rear\.camera_info_topic is rear/camera_info, but .* has no messages"):
        run(path, rig_settings(rear={"image_topic": "rear/image"}))
