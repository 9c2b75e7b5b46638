"""Bags: reading, guessing topics, the runner's order and what it leaves on disk."""

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bag_helpers import CAMERA, ORIGIN, SPEED_MPS, START_NS, TYPES, drive, write_bag1, write_bag2
from rosbags.rosbag2 import StoragePlugin

from cross_view_loc.bags import results
from cross_view_loc.bags.reader import Bag, guess_topics
from cross_view_loc.bags.runner import BagRunner, choose_topics, first_fix_origin, read_truth, with_topics
from cross_view_loc.errors import InputError, MissingInputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.settings import Settings
from cross_view_loc.simulation import messages
from cross_view_loc.types import Estimate, Frame, Prior

PROJECTION = MapProjection(ORIGIN)


@pytest.fixture(scope="module")
def bag_path(tmp_path_factory) -> Path:
    return write_bag2(tmp_path_factory.mktemp("bags") / "drive", drive())


def at_prior(frames: Sequence[Frame], prior: Prior) -> Estimate:
    """A localizer that believes its prior."""
    covariance = np.diag([0.25, 0.25, 1e-4])
    return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, accepted=True)


def run(path: Path, locate=at_prior, start_ns: int = 0, stop_ns: int = 2**62, stride: int = 1, **changes):
    with Bag(path) as bag:
        topics = choose_topics(bag, None)
        settings = dataclasses.replace(with_topics(Settings(), topics), **changes)
        runner = BagRunner(bag, topics, FrameAssembler(settings, PROJECTION), locate, stride=stride)
        return runner.run(start_ns or bag.start_ns, stop_ns)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_rosbag2_messages_come_in_recorded_order(tmp_path, storage):
    path = write_bag2(tmp_path / "bag", drive(), storage)
    with Bag(path) as bag:
        assert {name: topic.type for name, topic in bag.topics.items()} == TYPES
        times = [item.time_ns for item in bag.messages(TYPES)]
        assert len(times) == sum(topic.count for topic in bag.topics.values())
    assert times == sorted(times)
    assert times[0] == START_NS


def test_a_single_mcap_file_is_a_bag_too(bag_path):
    (file,) = bag_path.glob("*.mcap")
    with Bag(file) as bag:
        assert bag.topics["/cam/image"].count == 5


def test_ros1_bag_gives_the_same_fixes(tmp_path, bag_path):
    old = write_bag1(tmp_path / "old.bag", drive())
    with Bag(old) as first, Bag(bag_path) as second:
        fixes = [[(f.message.latitude, f.time_ns) for f in bag.messages(["/gps/fix"])] for bag in (first, second)]
    assert len(fixes[0]) == 6
    assert fixes[0] == fixes[1]


def make_no_bag(kind: str, folder: Path) -> Path:
    path = folder / kind
    if kind == "empty":
        return write_bag2(path, [])
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"this is not a recording" * 20)
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "noise.mcap", "noise.db3", "noise.bag", "noise.txt"])
def test_what_is_no_bag_is_refused_in_one_sentence(tmp_path, kind):
    with pytest.raises(InputError) as refusal:
        Bag(make_no_bag(kind, tmp_path))
    assert kind in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_topics_are_guessed_by_type_and_truth_is_never_odometry(bag_path):
    with Bag(bag_path) as bag:
        topics = guess_topics(bag)
    assert (topics.image, topics.camera_info, topics.fix) == ("/cam/image", "/cam/camera_info", "/gps/fix")
    assert (topics.odometry, topics.imu, topics.truth) == ("/odom", "/imu/data", "/ground_truth/odometry")
    assert (topics.tf, topics.tf_static) == ((), ("/tf_static",))


def without(*topics: str):
    return [item for item in drive() if item[0] not in topics]


@pytest.mark.parametrize("topic, word", [("/cam/image", "images"), ("/cam/camera_info", "CameraInfo"),
                                         ("/gps/fix", "GNSS fixes")])  # fmt: skip
def test_a_bag_without_a_needed_input_is_refused_naming_it(tmp_path, topic, word):
    with Bag(write_bag2(tmp_path / "bag", without(topic))) as bag, pytest.raises(MissingInputError, match=word):
        guess_topics(bag)


@pytest.mark.parametrize("settings", [None, Settings(fix_topic="gps/fix", image_topic="/cam/image",
                                                      image_transport="compressed",
                                                      camera_info_topic="/cam/camera_info")])  # fmt: skip
def test_a_topic_of_an_unknown_type_is_named_with_its_type(tmp_path, monkeypatch, settings):
    items = [(*item[:2], messages.TYPESTORE.types["std_msgs/msg/String"]("48 N")) if item[0] == "/gps/fix" else item
             for item in drive()]  # fmt: skip
    monkeypatch.setitem(TYPES, "/gps/fix", "std_msgs/msg/String")
    with Bag(write_bag2(tmp_path / "bag", items)) as bag, pytest.raises(MissingInputError) as caught:
        choose_topics(bag, settings)
    assert "gps/fix" in str(caught.value)
    assert "is of type std_msgs/msg/String" in str(caught.value)


@pytest.mark.parametrize("first_covariance", [-1.0, 0.0])
def test_an_imu_without_orientation_is_not_used(tmp_path, first_covariance):
    """Said by -1, or not said at all: an orientation that nobody filled in."""
    items = drive()
    for topic, _, message in items:
        if topic == "/imu/data":
            message.orientation_covariance[:] = 0.0
            message.orientation_covariance[0] = first_covariance
    with Bag(write_bag2(tmp_path / "bag", items)) as bag:
        assert choose_topics(bag, None).imu == ""


def test_configured_topics_may_be_relative_and_wrong_ones_name_the_right_ones(bag_path):
    settings = Settings(
        image_topic="cam/image", image_transport="compressed", camera_info_topic="cam/camera_info", fix_topic="gps/fix"
    )
    with Bag(bag_path) as bag:
        assert choose_topics(bag, settings).image == "/cam/image"
        with pytest.raises(MissingInputError, match=r"fix_topic is gps/fxi.*/gps/fix"):
            choose_topics(bag, dataclasses.replace(settings, fix_topic="gps/fxi"))


def test_priors_follow_the_true_drive(bag_path):
    records = run(bag_path)
    assert [record.status for record in records] == ["accepted"] * 5
    for record in records:
        true_east_m = SPEED_MPS * (record.stamp_ns - START_NS) / 1e9
        # The odometry between fix and image closes the gap exactly.
        assert math.hypot(record.estimate.east_m - true_east_m, record.estimate.north_m) < 1e-3
        assert abs(record.estimate.yaw_rad) < 1e-6


def test_a_run_repeats_itself(bag_path):
    first, second = run(bag_path), run(bag_path)
    assert results.tum_text(first) == results.tum_text(second)


def test_late_odometry_and_late_static_transforms_are_waited_for(tmp_path, bag_path):
    """Bag times are when a message was recorded; what counts are stamps."""
    late = {"/odom": 60_000_000, "/imu/data": 40_000_000, "/tf_static": 900_000_000}
    items = sorted(((t, time + late.get(t, 0), m) for t, time, m in drive()), key=lambda item: item[1])
    records = run(write_bag2(tmp_path / "late", items))
    assert results.tum_text(records) == results.tum_text(run(bag_path))


def test_window_and_stride_choose_images(bag_path):
    stamps = [record.stamp_ns for record in run(bag_path)]
    assert [record.stamp_ns for record in run(bag_path, stride=2)] == stamps[::2]
    assert [record.stamp_ns for record in run(bag_path, start_ns=stamps[2], stop_ns=stamps[4])] == stamps[2:4]
    with pytest.raises(InputError, match="--start"):
        run(bag_path, start_ns=START_NS + 10**12)


def test_bad_images_are_skipped_with_their_reason(tmp_path):
    items = drive()
    images = [message for topic, _, message in items if topic == "/cam/image"]
    images[1].data = np.frombuffer(b"not a JPEG", dtype=np.uint8)
    images[2].data = np.frombuffer(messages.encode_jpeg(np.zeros((9, 12, 3), np.uint8)), dtype=np.uint8)
    images[3].header.stamp = images[0].header.stamp
    records = run(write_bag2(tmp_path / "bag", items))
    assert [record.status for record in records] == ["accepted", "skipped", "skipped", "skipped", "accepted"]
    assert "/cam/image" in records[1].reason
    assert f"12x9 but CameraInfo on /cam/camera_info says {CAMERA.width}x{CAMERA.height}" in records[2].reason
    assert "not newer" in records[3].reason


def test_images_without_stamps_are_told_so(tmp_path):
    items = drive()
    for topic, _, message in items:
        if topic == "/cam/image":
            message.header.stamp.sec = message.header.stamp.nanosec = 0
    with pytest.raises(InputError, match="/cam/image: the stamp is 0; have the camera's driver"):
        run(write_bag2(tmp_path / "bag", items))


@pytest.mark.parametrize("topic, word", [("/tf_static", "base_link"), ("/gps/fix", "fix")])
def test_a_run_without_any_estimate_fails_and_says_why(tmp_path, topic, word):
    items = drive()
    if topic == "/gps/fix":
        for name, _, message in items:
            if name == topic:
                message.latitude = math.nan
    else:
        items = without(topic)
    with pytest.raises(InputError, match=rf"none of the 5 images.*{word}") as refusal:
        run(write_bag2(tmp_path / "bag", items))
    assert "\n" not in str(refusal.value)


def test_a_place_without_imagery_is_a_skipped_image(bag_path):
    def half_the_map(frames: Sequence[Frame], prior: Prior) -> Estimate:
        if prior.east_m > 2.0:
            raise NoImageryError("nothing there; fetch more")
        return at_prior(frames, prior)

    records = run(bag_path, half_the_map)
    assert [record.status for record in records].count("skipped") == 3
    assert results.reasons(records) == {"nothing there; fetch more": 3}


def test_reasons_of_other_numbers_are_counted_together_with_their_range():
    said = ["unlike: only 29% agree", "tile 5/6: HTTP 403, forbidden", "unlike: only 31.5% agree", ""]
    records = [results.FrameRecord(i, "refused", reason) for i, reason in enumerate(said)]
    assert results.reasons(records) == {"unlike: only 29–31.5% agree": 2, "tile 5/6: HTTP 403, forbidden": 1}


@pytest.mark.parametrize("altitude", [math.nan, math.inf])
def test_first_valid_fix_is_the_origin(tmp_path, altitude):
    items = drive()
    fixes = [message for topic, _, message in items if topic == "/gps/fix"]
    fixes[0].status.status = -1
    fixes[1].altitude = altitude
    with Bag(write_bag2(tmp_path / "bag", items)) as bag:
        origin = first_fix_origin(bag, "/gps/fix")
    assert origin.longitude_deg == fixes[1].longitude
    assert origin.height_m == 0.0


def test_truth_is_interpolated(bag_path):
    with Bag(bag_path) as bag:
        truth = read_truth(bag, "/ground_truth/odometry")
    assert truth.at(START_NS + 510_000_000, 10**9)[0, 3] == pytest.approx(SPEED_MPS * 0.51, abs=1e-6)


def test_results_on_disk(tmp_path, bag_path):
    def every_second_refused(frames: Sequence[Frame], prior: Prior) -> Estimate:
        refused = (prior.stamp_ns - START_NS) // 10**8 % 4 == 1
        estimate = at_prior(frames, prior)
        return dataclasses.replace(estimate, accepted=not refused, reason="ambiguous" if refused else "")

    records = run(bag_path, every_second_refused)
    folder = results.result_folder(None, tmp_path / "results")
    results.write_results(folder, records, PROJECTION)
    assert (tmp_path / "results" / "latest").resolve() == folder.resolve()
    second = results.result_folder(None, tmp_path / "results")
    assert (tmp_path / "results" / "latest").resolve() == second.resolve() != folder.resolve()
    tum = [line.split() for line in (folder / "estimates.tum").read_text().splitlines()]
    rows = list(csv.DictReader((folder / "estimates.csv").open()))
    assert len(rows) == 5
    accepted = [row for row in rows if row["status"] == "accepted"]
    assert len(tum) == len(accepted) < 5
    assert [line[0].replace(".", "") for line in tum] == [row["stamp_ns"] for row in accepted]
    assert {row["reason"] for row in rows if row["status"] == "refused"} == {"ambiguous"}
    assert float(rows[0]["latitude_deg"]) == pytest.approx(48.0, abs=1e-6)
    assert float(rows[0]["var_yaw"]) == pytest.approx(1e-4)
    timings = list(csv.DictReader((folder / "timings.csv").open()))
    assert [row["stamp_ns"] for row in timings] == [row["stamp_ns"] for row in rows]
    assert [float(row["seconds"]) for row in timings] == pytest.approx([r.seconds for r in records], abs=1e-6)
    points = json.loads((folder / "estimates.geojson").read_text())["features"]
    assert points[0]["geometry"]["coordinates"][1] == pytest.approx(48.0, abs=1e-6)
    assert points[0]["properties"]["bearing_deg"] == pytest.approx(90.0)


def test_json_knows_no_nan(tmp_path):
    results.write_json(tmp_path / "a.json", {"a": [math.nan, 1.0], "b": {"c": math.inf}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.0], "b": {"c": None}}


def test_a_map_of_elsewhere_names_both_places():
    from types import SimpleNamespace

    from cross_view_loc.bags.offline import refuse_map_of_elsewhere
    from cross_view_loc.errors import NoImageryError
    from cross_view_loc.geometry.geodesy import MapOrigin

    madrid = SimpleNamespace(bounds=(39.9, -3.1, 40.1, -2.9))
    with pytest.raises(NoImageryError, match=r"far\.mbtiles has no imagery .*latitude 48\.00030, longitude 11\.00040"):
        refuse_map_of_elsewhere(madrid, "far.mbtiles", MapOrigin(48.0003, 11.0004))
    refuse_map_of_elsewhere(madrid, "far.mbtiles", MapOrigin(40.15, -3.15))  # the drive may begin beside the map
    fiji = SimpleNamespace(bounds=(-17.0, 179.9, -16.0, 179.99))
    refuse_map_of_elsewhere(fiji, "fiji.mbtiles", MapOrigin(-16.5, -179.99))  # across the antimeridian


def test_truth_in_another_frame_is_refused_naming_both(bag_path):
    with Bag(bag_path) as bag:
        topic = guess_topics(bag).truth
        assert read_truth(bag, topic, "map").newest_stamp == read_truth(bag, topic).newest_stamp
        with pytest.raises(InputError, match=r"in frame 'map', not 'world'"):
            read_truth(bag, topic, "world")
