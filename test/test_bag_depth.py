"""A recording's depth topic: every image gets its own depth, and what is wrong with it is said before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_helpers import drive, road_depth_m, with_depth, write_bag2
from test_bags import PROJECTION, at_prior

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import BagRunner, choose_topics, with_topics
from cross_view_loc.errors import MissingInputError
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.settings import Settings


def settings(depth_topic: str = "cam/depth") -> Settings:
    return Settings(
        image_topic="cam/image", camera_info_topic="cam/camera_info", fix_topic="gps/fix", imu_topic="imu/data",
        depth_topic=depth_topic,
    )  # fmt: skip


@pytest.mark.parametrize("recorded_ns", [0, 80_000_000])
def test_every_image_has_the_depth_that_was_recorded_after_it(tmp_path: Path, recorded_ns: int) -> None:
    path = write_bag2(tmp_path / "bag", with_depth(drive(), road_depth_m(), recorded_ns=recorded_ns))
    depths = []

    def locate(frames, prior):
        depths.append(frames[0].depth_m)
        return at_prior(frames, prior)

    with Bag(path) as bag:
        used = with_topics(settings(), choose_topics(bag, settings()))
        runner = BagRunner(bag, choose_topics(bag, used), FrameAssembler(used, PROJECTION), locate)
        runner.run(bag.start_ns, bag.end_ns + 1)
    assert len(depths) == 5 and all(depth is not None for depth in depths), "the first one too"
    np.testing.assert_allclose(depths[0], road_depth_m(), rtol=1e-6)
    assert not [sentence for sentence in runner.assumed if "depth" in sentence]


def test_compressed_images_are_not_offered_as_depth(tmp_path: Path) -> None:
    path = write_bag2(tmp_path / "bag", with_depth(drive(), road_depth_m()))
    with Bag(path) as bag, pytest.raises(MissingInputError) as refusal:
        choose_topics(bag, settings("cam/image"))
    assert "depth_topic is cam/image" in str(refusal.value)
    assert str(refusal.value).endswith("no messages of type sensor_msgs/Image there; it has such on: /cam/depth")
