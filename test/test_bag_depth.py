"""A recording's depth topic: every image gets its own depth, and what is wrong with it is said before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_helpers import drive, road_depth_m, with_depth, write_bag2, write_map
from test_bags import PROJECTION, at_prior

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import BagRunner, choose_topics, with_topics
from cross_view_loc.doctor import machine
from cross_view_loc.doctor.examine import examine
from cross_view_loc.doctor.findings import Level
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
    assert str(refusal.value).endswith(
        'no messages of type sensor_msgs/Image there; it has such on: /cam/depth; set depth_topic: "/cam/depth"'
    )


@pytest.fixture
def quick(monkeypatch) -> None:
    """The machine takes longest to look at, and has nothing to do with a recording."""
    monkeypatch.setattr(machine, "machine_findings", lambda settings: [])


def examined(folder: Path, items: list, depth_topic: str = "cam/depth"):
    """Findings about depth by check, and the examination."""
    path = write_bag2(folder / "bag", items)
    done = examine(path, str(write_map(folder / "map.mbtiles", 19)), settings(depth_topic), is_quick=True)
    return {each.check: each for each in done.findings if each.group == "depth"}, done


ROAD = road_depth_m()
GAPS = np.where(np.random.default_rng(0).random(ROAD.shape) < 0.5, np.nan, ROAD)


@pytest.mark.parametrize(
    ("values", "encoding"), [(ROAD, "32FC1"), (ROAD * 1000, "16UC1"), (GAPS, "32FC1"), (ROAD * 1.2, "32FC1")]
)
def test_good_depth_gets_no_blame_and_is_described(tmp_path, quick, values, encoding) -> None:
    found, done = examined(tmp_path, with_depth(drive(), values, encoding))
    assert all(each.level == Level.OK for each in found.values()), found
    assert set(found) == {"depth.topic", "depth.content"}
    assert found["depth.topic"].sentence.startswith("/cam/depth: sensor_msgs/Image, 5 messages, 5.0 Hz, frame 'camera_")
    described = found["depth.content"]
    assert f": {ROAD.shape[1]}x{ROAD.shape[0]} {encoding}, " in described.sentence
    assert described.data["road_share"] > 0.6 and described.data["encoding"] == encoding
    assert 'depth_topic: "/cam/depth"' in done.parameter_file("bag")


def test_sparse_depth_is_no_fault_but_told(tmp_path, quick) -> None:
    lines = np.where((np.arange(len(ROAD)) % 6 == 0)[:, None], ROAD, 0.0)
    found, _ = examined(tmp_path, with_depth(drive(), lines))
    assert found["depth.content"].level == Level.OK
    assert found["depth.content"].sentence.endswith("of the road's cells; depth 'learned' estimates the rest.")
    assert 0.02 < found["depth.content"].data["road_share"] < 0.4


def test_what_is_wrong_with_depth_is_named(tmp_path, quick) -> None:
    cases = {
        "depth.plausible": (with_depth(drive(), ROAD * 1000), "its 32FC1 seems to hold millimetres"),
        "depth.stamps": (with_depth(drive(), ROAD, late_ns=60_000_000), "the nearest is usually 0.060 s later"),
        "depth.decodable": (with_depth(drive(), ROAD * 1000, "16SC1"), "has encoding '16SC1'; have the driver send"),
    }
    for index, (check, (items, words)) in enumerate(cases.items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        found, done = examined(folder, items)
        blamed = {name for name, each in found.items() if each.level > Level.OK}
        assert blamed == {check} and done.is_ok, (check, found)
        assert found[check].level == Level.WARN and words in found[check].sentence and found[check].remedy
    nothing = with_depth(drive(), np.full(ROAD.shape, np.nan))
    assert "holds no distance up to 200 m" in examined(tmp_path, nothing)[0]["depth.plausible"].sentence


def test_a_depth_topic_that_is_not_there_fails_as_run_does(tmp_path, quick) -> None:
    found, done = examined(tmp_path, with_depth(drive(), ROAD), "/other/depth")
    missing = found["depth.topic"]
    assert missing.level == Level.FAIL and missing.parameter == "depth_topic" and missing.value == ""
    assert "it has such on: /cam/depth" in missing.sentence and not done.is_ok
