"""One drive in every format a recorder writes gives the same records, to the byte."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from bag_helpers import ORIGIN, TYPES, drive, write_bag2
from rosbags.convert import convert
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.results import write_results
from cross_view_loc.bags.runner import BagRunner, choose_topics, with_topics
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

PROJECTION = MapProjection(ORIGIN)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return write_bag2(tmp_path_factory.mktemp("formats") / "mcap", drive(2.0))


def converted(source: Path, target: Path, storage: str = "mcap", compress: str | None = None, mode: str = "") -> Path:
    store = get_typestore(Stores.ROS1_NOETIC) if target.suffix == ".bag" else None
    default = get_typestore(Stores.ROS2_JAZZY)
    convert([source], target, storage, 9, compress, mode, default, store, [], [], [], [])
    return target


def split(target: Path) -> Path:
    """A folder of two files, as `ros2 bag record --max-bag-duration` leaves it."""
    items = drive(2.0)
    half = len(items) // 2
    parts = [
        write_bag2(target.with_name(f"{target.name}_{number}"), part, StoragePlugin.SQLITE3)
        for number, part in enumerate((items[:half], items[half:]))
    ]
    target.mkdir()
    infos = [yaml.safe_load((part / "metadata.yaml").read_text())["rosbag2_bagfile_information"] for part in parts]
    names = []
    for number, part in enumerate(parts):
        names.append(f"drive_{number}.db3")
        next(part.glob("*.db3")).rename(target / names[-1])
    whole = infos[0] | {
        "relative_file_paths": names,
        "duration": {"nanoseconds": sum(info["duration"]["nanoseconds"] for info in infos)},
        "message_count": sum(info["message_count"] for info in infos),
        "topics_with_message_count": [
            first | {"message_count": first["message_count"] + second["message_count"]}
            for first, second in zip(
                infos[0]["topics_with_message_count"], infos[1]["topics_with_message_count"], strict=True
            )
        ],
    }
    whole.pop("files", None)
    (target / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": whole}))
    return target


FORMATS = {
    "sqlite3": lambda source, folder: converted(source, folder / "db3", "sqlite3"),
    "ROS 1": lambda source, folder: converted(source, folder / "old.bag"),
    "ROS 1, lz4": lambda source, folder: converted(source, folder / "small.bag", compress="lz4"),
    "zstd messages": lambda source, folder: converted(source, folder / "zm", "sqlite3", "zstd", "message"),
    "zstd file": lambda source, folder: converted(source, folder / "zf", "sqlite3", "zstd", "file"),
    "split": lambda source, folder: split(folder / "split"),
}


def by_all_inputs(frames: Sequence[Frame], prior: Prior) -> Estimate:
    """An estimate in which every bit of what it was given shows."""
    frame = frames[0]
    assert frame.T_odom_base is not None
    seen = float(frame.image.sum()) * 1e-9 + frame.camera.width * 1e-6 + float(frame.T_base_camera.sum()) * 1e-3
    moved = float(frame.T_odom_base.sum() + frame.R_level_base.sum()) * 1e-3
    covariance = np.diag([0.25, 0.25, 1e-4])
    return Estimate(
        frame.stamp_ns, prior.east_m + seen, prior.north_m + moved, prior.yaw_rad, covariance, accepted=True
    )


def results_of(path: Path, folder: Path) -> dict[str, bytes]:
    with Bag(path) as bag:
        topics = choose_topics(bag, None)
        settings = dataclasses.replace(with_topics(Settings(), topics))
        records = BagRunner(bag, topics, FrameAssembler(settings, PROJECTION), by_all_inputs).run(0, 2**62)
    assert [record.status for record in records] == ["accepted"] * 10
    folder.mkdir()
    write_results(folder, records, PROJECTION)
    return {file: (folder / file).read_bytes() for file in ("estimates.tum", "estimates.csv", "estimates.geojson")}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_bytes(original, tmp_path, name):
    expected = results_of(original, tmp_path / "expected")
    other = FORMATS[name](original, tmp_path)
    with Bag(other) as bag:
        assert {topic: info.type for topic, info in bag.topics.items()} == TYPES
    assert results_of(other, tmp_path / "found") == expected


def test_a_missing_part_of_a_split_bag_is_named(tmp_path):
    folder = split(tmp_path / "split")
    (folder / "drive_1.db3").unlink()
    with pytest.raises(InputError, match=r"split"):
        results_of(folder, tmp_path / "found")
