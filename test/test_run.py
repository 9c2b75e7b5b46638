"""What `run` leaves: the bag of messages, the GPX track, partial results, and runs that go on where they ended."""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from bag_helpers import ORIGIN, START_NS, drive, write_bag2, write_map

from cross_view_loc import localizer
from cross_view_loc.bags.gpx import gpx_text
from cross_view_loc.bags.journal import Journal, estimate_of, row_of
from cross_view_loc.bags.output_bag import TOPICS, write_output_bag
from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.cli import main
from cross_view_loc.commands import run_many
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

PROJECTION = MapProjection(ORIGIN)
COVARIANCE = np.array([[0.5, 0.1, 0.02], [0.1, 0.25, -0.03], [0.02, -0.03, 0.01]])


def estimate(index: int, accepted: bool = True, after_ns: int = 0) -> Estimate:
    stamp = START_NS + index * 200_000_001 + after_ns
    return Estimate(
        stamp, 1.0 + index, -2.0, 0.7, COVARIANCE, 1.01, 0.02, 1 / 3, 0.1, accepted, "" if accepted else "why"
    )


def as_record(pose: Estimate, recorded_ns: int = 0) -> FrameRecord:
    status = "accepted" if pose.accepted else "refused"
    search = Prior(pose.stamp_ns, 0.0, 0.0, 0.7, 6.0, 0.1)
    state = ("tracking" if pose.accepted else "lost", pose.reason or "it agrees")
    return FrameRecord(pose.stamp_ns, status, pose.reason, None, pose, 0.0, search, recorded_ns, state)


def test_the_output_bag_holds_what_the_node_publishes(tmp_path):
    records = [as_record(estimate(0), START_NS + 77), as_record(estimate(1, False)), as_record(estimate(2)),
               FrameRecord(START_NS, "skipped", "no fix", state=("waiting", "no fix"))]  # fmt: skip
    write_output_bag(tmp_path / "out", records[:1], PROJECTION, Settings())
    write_output_bag(tmp_path / "out", records, PROJECTION, Settings(map_frame="town"))  # over a partial one
    with Bag(tmp_path / "out") as bag:
        items = list(bag.messages(TOPICS))
        counts = {name: topic.count for name, topic in bag.topics.items()}
    assert counts == {
        "/localizer/pose": 2,
        "/localizer/pose_unchecked": 3,
        "/localizer/fix": 2,
        "/localizer/odometry": 2,
        "/localizer/status": 4,
    }
    states = [item.message for item in items if item.topic == "/localizer/status"]
    assert {(each.level, each.message) for each in states} == {
        (0, "tracking: it agrees"),
        (1, "lost: why"),
        (2, "waiting: no fix"),
    }
    assert next(item.time_ns for item in items if item.topic == "/localizer/pose") == START_NS + 77
    poses = [item.message for item in items if item.topic == "/localizer/pose"]
    first = poses[0]
    assert first.header.stamp.sec * 10**9 + first.header.stamp.nanosec == START_NS
    assert (first.header.frame_id, first.pose.pose.position.x, first.pose.pose.position.y) == ("town", 1.0, -2.0)
    assert first.pose.pose.orientation.z == pytest.approx(math.sin(0.35))
    fix = next(item.message for item in items if item.topic == "/localizer/fix")
    assert PROJECTION.to_map(fix.latitude, fix.longitude, 0.0)[0] == pytest.approx(1.0, abs=1e-3)


def test_its_messages_are_the_nodes_own(tmp_path):
    pytest.importorskip("rclpy", reason="rclpy is not installed: comparing with the node needs ROS")
    from cross_view_loc.node.conversions import pose_message
    from cross_view_loc.node.estimate_outputs import fix_message, status_message
    from cross_view_loc.tracking.tracked import Located

    pose = estimate(3)
    write_output_bag(tmp_path / "out", [as_record(pose)], PROJECTION, Settings())
    with Bag(tmp_path / "out") as bag:
        ours = {item.topic: item.message for item in bag.messages(TOPICS)}
    record = as_record(pose)
    told = status_message("localizer: state", *record.state, Located(pose, record.search))
    mine = ours["/localizer/status"]
    assert (mine.name, mine.message, bytes([mine.level])) == (told.name, told.message, told.level)
    assert [(each.key, each.value) for each in mine.values] == [(each.key, each.value) for each in told.values]
    node, fix = pose_message(pose, "map"), fix_message(pose, PROJECTION, "base_link")
    for mine in (ours["/localizer/pose"], ours["/localizer/pose_unchecked"], ours["/localizer/odometry"]):
        assert list(mine.pose.covariance) == list(node.pose.covariance)
        theirs = node.pose.pose
        assert mine.pose.pose.orientation.z == pytest.approx(theirs.orientation.z, abs=1e-12)
        assert mine.pose.pose.orientation.w == pytest.approx(theirs.orientation.w, abs=1e-12)
        assert (mine.header.stamp.sec, mine.header.stamp.nanosec) == (node.header.stamp.sec, node.header.stamp.nanosec)
    mine = ours["/localizer/fix"]
    assert list(mine.position_covariance) == list(fix.position_covariance)
    assert (mine.latitude, mine.longitude, mine.altitude) == (fix.latitude, fix.longitude, fix.altitude)
    assert (mine.position_covariance_type, mine.header.frame_id) == (fix.position_covariance_type, "base_link")


def test_gpx_has_accepted_poses_and_a_new_segment_after_a_gap():
    poses = [estimate(0), estimate(1, False), estimate(2), estimate(3, after_ns=20 * 10**9)]
    root = ElementTree.fromstring(gpx_text([as_record(pose) for pose in poses], PROJECTION, "a & b"))
    space = {"g": "http://www.topografix.com/GPX/1/1"}
    segments = root.findall("g:trk/g:trkseg", space)
    assert [len(segment) for segment in segments] == [2, 1]
    point = segments[0][0]
    east, north, _ = PROJECTION.to_map(float(point.get("lat")), float(point.get("lon")), 0.0)
    assert (float(east), float(north)) == (pytest.approx(1.0, abs=1e-3), pytest.approx(-2.0, abs=1e-3))
    assert point.find("g:time", space).text == "2020-09-13T12:26:40.000Z"
    assert ElementTree.fromstring(gpx_text([], PROJECTION, "none")).find("g:trk", space) is not None


def test_an_estimate_is_written_and_read_to_the_last_bit():
    pose = estimate(7, False)
    again = estimate_of(json.loads(json.dumps(row_of(pose))))
    assert np.array_equal(again.covariance, pose.covariance)
    assert (again.stamp_ns, again.east_m, again.yaw_rad, again.confidence, again.reason, again.accepted) == (
        pose.stamp_ns, pose.east_m, pose.yaw_rad, pose.confidence, "why", False,
    )  # fmt: skip


def frames_at(stamp_ns: int) -> list[Frame]:
    return [SimpleNamespace(stamp_ns=stamp_ns)]  # type: ignore[list-item]


def test_the_journal_answers_what_it_knows_and_asks_the_rest(tmp_path):
    asked = []

    def locate(frames, prior) -> Estimate:
        asked.append(frames[0].stamp_ns)
        if frames[0].stamp_ns == 2:
            raise NoImageryError("nothing there; fetch more")
        return estimate(frames[0].stamp_ns)

    path, prior = tmp_path / "journal.jsonl", Prior(0, 0.0, 0.0, 1.0)
    first = Journal(path, {"bag": ("a", 1)}, locate)
    first.locate(frames_at(1), prior)
    with pytest.raises(NoImageryError):
        first.locate(frames_at(2), prior)
    first.close(done=False)
    with path.open("a") as file:
        file.write('{"stamp_ns": 3, "pose": [1')  # the power went
    asked.clear()
    second = Journal(path, {"bag": ("a", 1)}, locate)
    assert second.locate(frames_at(1), prior).east_m == estimate(1).east_m
    with pytest.raises(NoImageryError, match="nothing there; fetch more"):
        second.locate(frames_at(2), prior)
    second.locate(frames_at(3), prior)
    assert asked == [3]
    second.close(done=False)
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(InputError, match="begun with another bag"):
        Journal(path, {"bag": ("b", 1)}, locate)


class Believer:
    """A localizer that believes its prior; it may be interrupted, and counts what it was asked."""

    asked: ClassVar[list[int]] = []
    followed: ClassVar[list[int]] = []
    ends_at = 10**9

    def __init__(self, aerial_map, settings=None) -> None:
        self.threads = settings.threads

    def follow(self, frames: Sequence[Frame]) -> None:
        Believer.followed.append(frames[0].stamp_ns)

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        if len(Believer.asked) >= Believer.ends_at:
            Believer.ends_at = 10**9  # Ctrl-C once
            raise KeyboardInterrupt
        Believer.asked.append(frames[0].stamp_ns)
        covariance = np.diag([0.25, 0.25, 1e-4])
        return Estimate(frames[0].stamp_ns, prior.east_m + 0.1, prior.north_m, prior.yaw_rad, covariance, accepted=True)


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.setattr(localizer, "Localizer", Believer)
    monkeypatch.setattr(Believer, "asked", [])
    monkeypatch.setattr(Believer, "followed", [])
    monkeypatch.chdir(tmp_path)
    bag, tiles = write_bag2(tmp_path / "monday", drive(2.0)), write_map(tmp_path / "map.mbtiles")
    return ["run", str(bag), "--map", str(tiles)]


def test_ctrl_c_keeps_what_is_done_and_resume_ends_as_if_nothing_had_been(words, monkeypatch, capsys):
    assert main([*words, "--out", "whole"]) == 0
    everything, Believer.asked = len(Believer.asked), []
    monkeypatch.setattr(Believer, "ends_at", 4)
    assert main(words) == 130
    folder = Path("results/latest").resolve()
    summary = json.loads((folder / "metrics.json").read_text())
    assert "interrupted after 4" in summary["partial"]
    assert len((folder / "estimates.csv").read_text().splitlines()) == 5
    assert "Partial: interrupted after 4" in (folder / "report.html").read_text()
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(Believer, "ends_at", 10**9)
    Believer.asked = []
    assert main([*words, "--resume"]) == 0
    panels = 3
    assert len(Believer.asked) <= everything - 4 + panels, "what was known is not asked for again"
    assert len(Believer.followed) == 4, "a window over time needs to see again what is not estimated again"
    for name in ("estimates.csv", "estimates.tum", "estimates.geojson"):
        assert (folder / name).read_bytes() == (Path("whole") / name).read_bytes()
    assert json.loads((folder / "metrics.json").read_text())["partial"] is False
    assert main([*words, "--resume"]) == 1
    assert "reached its end" in capsys.readouterr().err


def test_resume_refuses_another_stride_and_a_folder_that_is_not_there(words, monkeypatch, capsys):
    monkeypatch.setattr(Believer, "ends_at", 3)
    assert main([*words, "--out", "one"]) == 130
    assert main([*words, "--out", "one", "--resume", "--stride", "2"]) == 1
    assert "another --start, --duration or --stride" in capsys.readouterr().err
    assert Path("one/journal.jsonl").exists(), "it can still be continued as it was begun"
    assert main([*words, "--resume"]) == 1
    assert "no run to continue" in capsys.readouterr().err


def test_an_interruption_before_anything_leaves_no_folder(words, monkeypatch):
    monkeypatch.setattr(Believer, "ends_at", 0)
    assert main([*words, "--out", "none"]) == 130
    assert not Path("none").exists()


def test_a_bag_damaged_half_way_gives_a_partial_result_and_a_failure(words, capsys, monkeypatch):
    real = Bag.messages

    def torn(self, topics, start_ns=None, stop_ns=None):
        for count, item in enumerate(real(self, topics, start_ns, stop_ns)):
            if count > 90:
                raise InputError("the bag is damaged; try `ros2 bag reindex`")
            yield item

    monkeypatch.setattr(Bag, "messages", torn)
    assert main([*words, "--out", "out"]) == 1
    assert "damaged" in json.loads(Path("out/metrics.json").read_text())["partial"]
    assert "damaged" in capsys.readouterr().err
    assert "the truth cannot be read: the bag is damaged" in Path("out/report.html").read_text()


def test_results_name_the_depth_that_served_and_why(words, monkeypatch, caplog):
    notice = "depth 'flat' stands in for 'depth-pro': the model is not here"
    monkeypatch.setattr(Believer, "depth_name", "flat", raising=False)
    monkeypatch.setattr(Believer, "depth_notice", notice, raising=False)
    assert main([*words, "--out", "flat"]) == 0
    summary = json.loads(Path("flat/metrics.json").read_text())
    (row,) = summary["results"]
    assert (row["depth"], row["depth_notice"]) == ("flat", notice)
    assert notice in summary["assumptions"]
    assert "stands in for" in Path("flat/report.html").read_text()
    assert [record.getMessage() for record in caplog.records].count(notice) == 1


def test_records_keep_no_matches(words):
    """A long drive's matches would fill the memory: 200 for each image."""
    from cross_view_loc.bags.offline import open_run

    def locate(frames, prior):
        return Believer.locate(Believer(None, Settings()), frames, prior)

    with open_run(Path(words[1]), words[3], None) as offline:
        records = offline.runner(locate).run(*offline.span(0.0, None))
    assert all(record.estimate is None or record.estimate.matches == () for record in records)
    assert all(record.recorded_ns == record.stamp_ns for record in records)


class Inline:
    """The pool's interface in this process, where the fake localizer is."""

    def __init__(self, workers, context, initializer, initargs) -> None:
        initializer(*initargs)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def submit(self, work, *arguments):
        from concurrent.futures import Future

        future: Future = Future()
        future.set_result(work(*arguments))
        return future


def test_several_bags_have_a_folder_each_and_one_that_fails_stops_no_other(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run_many, "ProcessPoolExecutor", Inline)
    blind = write_bag2(tmp_path / "tuesday", [item for item in drive() if item[0] != "/gps/fix"])
    (tmp_path / "b").mkdir()
    other = write_bag2(tmp_path / "b" / "monday", drive())
    command = ["run", words[1], str(blind), words[1], str(other), *words[2:], "--out", "all"]
    assert main([*command, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["bags"]
    assert "no GNSS fixes" in rows[str(blind)]["error"]
    assert rows[words[1]]["results"][0]["frames"] == 10
    assert rows[str(other)]["results"][0]["frames"] == 5
    assert sorted(path.name for path in Path("all").iterdir()) == ["monday", "monday-1"]
    assert main(["run", words[1], "nowhere.mcap", *words[2:]]) == 1
    assert "no bag at nowhere.mcap" in capsys.readouterr().err


def test_truth_in_another_frame_is_named_and_no_error_claimed(words, tmp_path, capsys):
    items = drive(2.0)
    for topic, _, message in items:
        if topic == "/ground_truth/odometry":
            message.header.frame_id = "world"
    words[1] = str(write_bag2(tmp_path / "elsewhere", items))
    assert main([*words, "--out", "there"]) == 1
    told = capsys.readouterr()
    assert "no errors: " in told.out and "'world'" in told.out
    assert told.err.count("the truth cannot be read") == 1 and "'world'" in told.err
    assert len(Path("there/estimates.tum").read_text().splitlines()) == 9  # all that were accepted
    assert json.loads(Path("there/metrics.json").read_text())["results"][0]["position_median_m"] is None
