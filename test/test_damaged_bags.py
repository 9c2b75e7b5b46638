"""Real damage to real files: nothing lost passes as success, and what can be read is not thrown away."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bag_helpers import drive, write_bag2, write_map
from rosbags.convert import convert
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from cross_view_loc import localizer
from cross_view_loc.bags.reader import Bag
from cross_view_loc.cli import main
from cross_view_loc.errors import InputError
from cross_view_loc.types import Estimate


class Believer:
    """A localizer that believes its prior."""

    def __init__(self, aerial_map, settings=None) -> None:
        self.threads = settings.threads

    def follow(self, frames) -> None:
        pass

    def locate(self, frames, prior) -> Estimate:
        covariance = np.diag([0.25, 0.25, 1e-4])
        return Estimate(frames[0].stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, accepted=True)


def as_ros1(source: Path, file: Path, compression: str | None = None) -> Path:
    ros1, store = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
    convert([source], file, "", 9, compression, "", store, ros1, [], [], [], [])
    return file


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(localizer, "Localizer", Believer)
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.mbtiles")
    return tmp_path


def run(bag: Path | str) -> int:
    return main(["run", str(bag), "--map", "map.mbtiles", "--out", "out"])


def summary() -> dict:
    return json.loads(Path("out/metrics.json").read_text())


@pytest.fixture(scope="module")
def long_original(tmp_path_factory) -> Path:
    """Several chunks of a megabyte."""
    return write_bag2(tmp_path_factory.mktemp("long") / "long", drive(28.0))


@pytest.fixture(scope="module")
def long_ros1(tmp_path_factory, long_original) -> Path:
    return as_ros1(long_original, tmp_path_factory.mktemp("ros1") / "old.bag")


@pytest.fixture
def long_drive(long_original, place) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(long_original, place / "drive"))


def test_a_zeroed_block_is_not_passed_over_in_silence(long_drive, capsys):
    data = next(long_drive.glob("*.mcap")).read_bytes()
    middle, told = 300_000, []
    for length in range(200_000, 200_009):  # zeros read as empty records of nine bytes
        Path("holed.mcap").write_bytes(data[:middle] + bytes(length) + data[middle + length :])
        with Bag("holed.mcap") as bag, pytest.raises(InputError, match="damaged") as caught:
            list(bag.messages(["/odom"]))
        told.append(str(caught.value))
        if "of the 1401 messages on /odom" in told[-1]:
            break
    assert "of the 1401 messages on /odom" in told[-1], "one of the nine is what no library notices"
    assert run("holed.mcap") == 1
    assert "damaged: it gives" in summary()["partial"]
    assert "mcap recover holed.mcap" in capsys.readouterr().err


def cut(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def odometry_of(bag: Path | str) -> list[bytes]:
    with Bag(bag) as opened:
        return [bytes(item.message) for item in opened.serialized(["/odom"])]


@pytest.mark.parametrize("kind", ["file", "folder", "folder without metadata", "compressed", "zeros at the end"])
def test_an_mcap_that_was_cut_off_is_read_up_to_the_cut(kind, long_drive, place, capsys):
    folder = long_drive
    if kind == "compressed":
        store = get_typestore(Stores.ROS2_JAZZY)
        convert([folder], place / "small", "mcap", 9, "zstd", "storage", store, None, [], [], [], [])
        folder = place / "small"
    whole = odometry_of(folder)
    file = cut(next(folder.glob("*.mcap")))
    if kind == "zeros at the end":  # blocks that the file system had set aside
        file.write_bytes(file.read_bytes() + bytes(5000))
    if kind == "folder without metadata":
        (folder / "metadata.yaml").unlink()
    bag = file if kind in ("file", "zeros at the end") else folder
    read = odometry_of(bag)
    assert 0.2 * len(whole) < len(read) < 0.8 * len(whole)
    assert read == whole[: len(read)]
    assert run(bag) == 1
    told = summary()
    assert "is cut off" in told["partial"]
    assert f"mcap recover {file} -o" in told["partial"]
    assert told["results"][0]["position_median_m"] is not None, "the truth up to the cut serves"
    assert 30 < told["images"]["accepted"] < 115
    assert "--resume" not in capsys.readouterr().err
    assert main(["doctor", str(bag), "--map", "map.mbtiles", "--quick", "--json"]) == 1
    failed = [each["sentence"] for each in json.loads(capsys.readouterr().out)["findings"] if each["level"] == "FAIL"]
    assert any("is cut off" in sentence for sentence in failed)


def test_the_last_part_of_a_split_bag_may_be_cut(place):
    items = drive(28.0)
    folder = write_bag2(place / "drive", items[: len(items) // 2])
    rest = write_bag2(place / "rest", items[len(items) // 2 :])
    last = cut(Path(shutil.move(next(rest.glob("*.mcap")), folder / "drive_1.mcap")), 0.9)
    text = (folder / "metadata.yaml").read_text()
    (folder / "metadata.yaml").write_text(text.replace("- drive.mcap", "- drive.mcap\n  - drive_1.mcap"))
    with Bag(folder) as bag:
        times = [item.time_ns for item in bag.serialized(["/odom"])]
        assert f"mcap recover {last}" in bag.cut
    assert 1000 < len(times) < 1300
    assert times == sorted(times)
    assert run(folder) == 1
    assert 100 < summary()["images"]["accepted"] < 130


def test_a_stretch_before_the_cut_is_whole(long_drive):
    cut(next(long_drive.glob("*.mcap")))
    assert main(["run", "drive", "--map", "map.mbtiles", "--out", "out", "--duration", "3"]) == 0
    assert summary()["partial"] is False


def test_messages_out_of_order_in_a_cut_file_come_in_order(place):
    items = drive(28.0)
    for at in range(0, len(items) - 1, 7):
        items[at], items[at + 1] = items[at + 1], items[at]
    with Bag(cut(next(write_bag2(place / "drive", items).glob("*.mcap")))) as bag:
        times = [item.time_ns for item in bag.serialized(list(bag.topics))]
    assert len(times) > 1000
    assert times == sorted(times)


@pytest.mark.parametrize("kind", ["plain", "lz4", "never ended", "zeros at the end"])
def test_a_ros_1_bag_that_was_cut_off_is_read_up_to_the_cut(kind, long_original, long_ros1, place):
    file = place / "old.bag"
    if kind == "lz4":
        as_ros1(long_original, file, "lz4")
    else:
        shutil.copy(long_ros1, file)
    whole = odometry_of(file)
    cut(file)
    if kind == "never ended":  # as its recorder begins it: no place of an index, no counts
        data = bytearray(file.read_bytes())
        for name, size in ((b"index_pos=", 8), (b"conn_count=", 4), (b"chunk_count=", 4)):
            at = data.index(name) + len(name)
            data[at : at + size] = bytes(size)
        file.write_bytes(data)
    if kind == "zeros at the end":
        file.write_bytes(file.read_bytes() + bytes(5000))
    read = odometry_of(file)
    assert 0.2 * len(whole) < len(read) < 0.8 * len(whole)
    assert read == whole[: len(read)]
    assert run(file) == 1
    assert f"rosbag reindex {file}" in summary()["partial"]
    assert 30 < summary()["images"]["accepted"] < 115


def test_a_database_that_was_cut_off_names_what_repairs_it(place, capsys):
    file = cut(next(write_bag2(place / "drive", drive(5.0), StoragePlugin.SQLITE3).glob("*.db3")))
    assert run(file) == 1
    command = capsys.readouterr().err.split("`")[1]
    assert command.startswith(f"sqlite3 {file} .dump | ")
    if shutil.which("sqlite3") is None:
        pytest.skip("needs the sqlite3 command to try the remedy")
    subprocess.run(command, shell=True, stderr=subprocess.DEVNULL)
    assert run("repaired.db3") == 0
    assert summary()["images"]["accepted"] > 5


@pytest.mark.parametrize("name", ["drive.mcap", "old.bag"])
def test_nothing_whole_before_the_cut_is_said(place, name, capsys):
    folder, file = write_bag2(place / "drive", drive()), place / name
    if name == "old.bag":
        as_ros1(folder, file)
    else:
        file.write_bytes(next(folder.glob("*.mcap")).read_bytes())
    for share in (0.5, 0.02, 0.0):
        cut(file, share)
        assert run(file) == 1
        told = capsys.readouterr().err
        assert "record it again" in told or "give the file that was recorded" in told
        assert "Traceback" not in told


def test_a_missing_part_is_not_passed_over(place):
    folder = write_bag2(place / "drive", drive())
    text = (folder / "metadata.yaml").read_text()
    (folder / "metadata.yaml").write_text(text.replace("- drive.mcap", "- drive.mcap\n  - drive_1.mcap"))
    with pytest.raises(InputError, match="put the named files back"):
        Bag(folder)


def test_a_schema_of_another_language_is_no_damage(place, caplog):
    file = next(write_bag2(place / "drive", drive()).glob("*.mcap"))
    data = file.read_bytes()
    file.write_bytes(data.replace(b"ros2msg", b"rosXmsg"))
    with pytest.raises(InputError, match="cannot be read"):
        Bag(file)
    imu = b"sensor_msgs/msg/Imu" + (7).to_bytes(4, "little")
    assert data.count(imu + b"ros2msg") == 2, "in the chunk and in the summary"
    file.write_bytes(data.replace(imu + b"ros2msg", imu + b"rosXmsg"))
    with Bag(file) as bag:
        assert bag.cut == ""
        assert "/imu/data" not in bag.topics
        assert sum(1 for _ in bag.messages(["/odom"])) == 51
    assert "/imu/data" in caplog.text
