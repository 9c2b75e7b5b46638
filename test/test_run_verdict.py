"""Exit statuses that say what came of a run, and sentences that say what to do about it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bag_helpers import drive, write_bag2, write_map

from cross_view_loc import localizer
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.cli import OUTPUT_CLOSED, main
from cross_view_loc.commands import run_many
from cross_view_loc.commands.run_one import Done, shortfall
from cross_view_loc.doctor.findings import Level
from cross_view_loc.doctor.maps import _coverage
from cross_view_loc.types import Estimate


def estimate(stamp_ns: int, is_accepted: bool, reason: str = "") -> Estimate:
    return Estimate(stamp_ns, 0.0, 0.0, 0.0, np.diag([0.2, 0.2, 1e-4]), accepted=is_accepted, reason=reason)


class Refuser:
    """A localizer whose gate lets nothing through."""

    accepts = False

    def __init__(self, aerial_map, settings=None) -> None:
        self.threads = settings.threads

    def follow(self, frames) -> None:
        pass

    def locate(self, frames, prior) -> Estimate:
        reason = "" if self.accepts else "too few inliers"
        found = estimate(frames[0].stamp_ns, self.accepts, reason)
        return dataclasses.replace(found, east_m=prior.east_m, north_m=prior.north_m, yaw_rad=prior.yaw_rad)


class Accepter(Refuser):
    accepts = True


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(localizer, "Localizer", Accepter)
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.mbtiles")
    return tmp_path


def records(accepted: int, refused: int, skipped: int) -> list[FrameRecord]:
    found = [FrameRecord(n, "accepted", "", None, estimate(n, True)) for n in range(accepted)]
    found += [FrameRecord(n, "refused", "unclear", None, estimate(n, False, "unclear")) for n in range(refused)]
    return found + [FrameRecord(n, "skipped", "no imagery; get a map", None, None) for n in range(skipped)]


def test_a_run_without_accepted_poses_is_no_success_but_keeps_its_results(monkeypatch, capsys):
    monkeypatch.setattr(localizer, "Localizer", Refuser)
    bag = write_bag2(Path("bag"), drive(2.0))
    assert main(["run", str(bag), "--map", "map.mbtiles", "--out", "out"]) == 1
    told = capsys.readouterr().err
    assert "none of the 10 images gave an accepted pose (10 times: too few inliers)" in told and "doctor" in told
    summary = json.loads(Path("out/metrics.json").read_text())
    assert summary["images"] == {"refused": 10} and not summary["partial"]
    assert "accepted pose" in summary["failures"][0]
    assert Path("out/report.html").exists() and Path("out/estimates_bag").is_dir()


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        ((1, 9, 0), ""),  # refusing is an honest answer
        ((6, 0, 3), ""),
        ((4, 0, 6), "6 of 10 images gave no estimate (6 times: no imagery; get a map)"),
        ((10, 0, 9), "9 of 19 images gave no estimate"),
        ((0, 3, 2), "none of the 5 images gave an accepted pose (3 times: unclear)"),
    ],
)
def test_much_of_a_drive_lost_is_a_failure(counts, what):
    told = shortfall(records(*counts))
    assert told.startswith(what) if what else not told


def test_equal_stamps_are_a_failure_with_a_remedy(capsys):
    items = drive(2.0)
    images = [message for topic, _, message in items if topic == "/cam/image"]
    for message in images:
        message.header.stamp = images[len(images) // 2].header.stamp
    bag = write_bag2(Path("equal"), items)
    assert main(["run", str(bag), "--map", "map.mbtiles", "--out", "out"]) == 1
    told = capsys.readouterr().err
    assert "not newer" in told and "have the camera's driver stamp" in told


def test_a_wrong_topic_gives_the_line_to_paste(capsys):
    bag = write_bag2(Path("bag"), drive())
    Path("car.yaml").write_text("/**:\n  ros__parameters:\n    fix_topic: nowhere\n    image_topic: /cam/image\n"
                                "    camera_info_topic: /cam/camera_info\n")  # fmt: skip
    assert main(["run", str(bag), "--map", "map.mbtiles", "--config", "car.yaml"]) == 1
    assert 'fix_topic: "/gps/fix"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("truth_frame", "projection", "said"), [("odom", "enu", "'odom'"), ("map", "utm", "map_projection utm")]
)
def test_a_manifest_takes_no_truth_of_another_frame(truth_frame, projection, said, capsys):
    items = drive(2.0)
    for topic, _, message in items:
        if topic == "/ground_truth/odometry":
            message.header.frame_id = truth_frame
    bag = write_bag2(Path("bag"), items)
    assert main(["run", str(write_bag2(Path("plain"), drive())), "--map", "map.mbtiles", "--out", "out"]) == 0
    text = Path("out/localizer.yaml").read_text()
    lines = [f"    map_projection: {projection}" if "map_projection:" in line else line for line in text.splitlines()]
    Path("car.yaml").write_text("\n".join(lines))
    capsys.readouterr()
    command = ["train", "manifest", str(bag), "--map", "map.mbtiles", "--config", "car.yaml", "--out", "bag.csv"]
    assert main([*command, "--truth-topic", "/ground_truth/odometry"]) == 1
    assert said in capsys.readouterr().err
    assert not Path("bag.csv").exists()
    if projection == "utm":  # a fix is geodetic, whatever the map's axes
        assert main([*command, "--truth-topic", "/gps/fix"]) == 0, capsys.readouterr().err


def test_guessed_topics_of_several_bags_are_shown(monkeypatch, capsys):
    bag = write_bag2(Path("first"), drive())
    other = write_bag2(Path("other"), drive())
    from test_run import Inline

    monkeypatch.setattr(run_many, "ProcessPoolExecutor", Inline)
    assert main(["run", str(bag), str(other), "--map", "map.mbtiles", "--out", "out"]) == 0
    told = capsys.readouterr()
    assert told.err.count("topics, guessed") == 2 and "/gps/fix" in told.err
    config = ["--config", "out/first/localizer.yaml"]
    assert main(["run", str(bag), str(other), "--map", "map.mbtiles", "--out", "again", *config]) == 0
    assert "guessed" not in capsys.readouterr().err


def test_the_line_of_a_failed_bag_says_so():
    summary = {"images": {"refused": 2}, "results": [{"accepted_position_median_m": None}], "images_per_second": 1.0}
    line = run_many._line(Path("bag"), Done(Path("out"), summary, "", 1, ("none accepted",)))
    assert "failed: none accepted" in line


def test_evaluation_keeps_what_was_done_before_ctrl_c(monkeypatch, capsys):
    bag = write_bag2(Path("bag"), drive(2.0))
    calls = []

    class Interrupted(Accepter):
        def locate(self, frames, prior) -> Estimate:
            calls.append(frames)
            if len(calls) == 7:
                raise KeyboardInterrupt
            return super().locate(frames, prior)

    monkeypatch.setattr(localizer, "Localizer", Interrupted)
    command = ["evaluate", "bag", str(bag), "--map", "map.mbtiles", "--out", "out", "--fuse", "--json"]
    assert main(command) == 130
    told = capsys.readouterr()
    assert "partial, without --fuse" in told.err and "interrupted after 6" in told.err
    assert json.loads(told.out)["results"][0]["frames"] == 6
    assert json.loads(Path("out/metrics.json").read_text())["partial"]


def test_a_reader_that_goes_away_is_no_complaint():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "cross_view_loc.cli", "models", "list"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (OUTPUT_CLOSED, b"")


def test_a_bag_that_cannot_be_opened_has_its_remedy_once(capsys):
    Path("bad.mcap").write_bytes(b"nothing of the kind")
    assert main(["doctor", "bad.mcap", "--quick"]) == 1
    told = capsys.readouterr().out
    assert "give the file that was recorded" in told
    assert "ros2 bag reindex" not in told and "mcap recover" not in told


@pytest.mark.parametrize(
    ("covered", "is_online", "level"),
    [(0.3, False, Level.FAIL), (0.7, False, Level.WARN), (0.3, True, Level.WARN), (1.1, False, Level.OK)],
)
def test_doctor_fails_where_most_of_the_track_has_no_imagery(covered, is_online, level):
    east = np.linspace(0.0, 0.01, 200)  # degrees: some 740 m
    track = np.stack([np.full(200, 48.0), 11.0 + east], axis=1)
    source = SimpleNamespace(contains=lambda latitude_deg, longitude_deg: longitude_deg < 11.0 + covered * 0.01)
    (finding,) = _coverage(source, [track], is_online)
    assert finding.level == level
