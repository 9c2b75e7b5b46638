"""Doctor: a good recording gets no blame, every fault its own, and nothing stops the examination."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bag_helpers import CAMERA, ORIGIN, drive, write_bag2, write_map

from cross_view_loc.cli import main
from cross_view_loc.doctor import gnss, headings, joined, machine, motion, road_plane, transforms, two_views
from cross_view_loc.doctor.advice import advised_settings, parameter_file
from cross_view_loc.doctor.examine import examine
from cross_view_loc.doctor.findings import Group, Level
from cross_view_loc.doctor.headers import read_header
from cross_view_loc.doctor.stamps import StampRecord, Thinned
from cross_view_loc.doctor.survey import FixStatus, Survey
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import rotation_z, rpy, transform
from cross_view_loc.inputs.fixes import Fix
from cross_view_loc.settings import Settings
from cross_view_loc.simulation import messages

IMAGE, INFO, FIX, ODOMETRY, IMU = "/cam/image", "/cam/camera_info", "/gps/fix", "/odom", "/imu/data"


def good_drive() -> list:
    """Two seconds with pictures that show something, and something else each time."""
    generator = np.random.default_rng(0)
    items = drive(2.0, 5)
    for topic, _, message in items:
        if topic == IMAGE:
            picture = generator.integers(60, 200, (CAMERA.height, CAMERA.width, 3)).astype(np.uint8)
            message.data = np.frombuffer(messages.encode_jpeg(picture), dtype=np.uint8)
    return items


def examined(folder: Path, items: list, configured: Settings | None = None, zoom: int = 19):
    bag = write_bag2(folder / "bag", items)
    return examine(bag, str(write_map(folder / "map.mbtiles", zoom)), configured, is_quick=True)


@pytest.fixture(autouse=True)
def this_machine(request, monkeypatch):
    """The machine takes longest to look at, and has nothing to do with a recording."""
    if "machine" not in request.node.name:
        monkeypatch.setattr(machine, "machine_findings", lambda settings: [])


def blamed(examination) -> set[str]:
    return {finding.check for finding in examination.findings if finding.level > Level.OK}


def test_a_good_recording_gets_no_blame_and_a_file_that_run_takes(tmp_path):
    examination = examined(tmp_path, good_drive())
    assert blamed(examination) == set()
    assert examination.is_ok
    assert any(finding.check == "frames.joined" for finding in examination.findings)
    path = tmp_path / "car.yaml"
    path.write_text(examination.parameter_file("bag"))
    settings = Settings.from_yaml(path)
    assert (settings.image_topic, settings.fix_topic, settings.imu_topic) == (IMAGE, FIX, IMU)
    assert settings.map_path == str(tmp_path / "map.mbtiles")
    assert "search_radius_m" not in path.read_text()  # only what differs from the defaults


# --- faults: each is found, and nothing else is blamed ---


def without(*topics: str):
    return lambda items: [item for item in items if item[0] not in topics]


def each(topic: str, change):
    """Every message of a topic changed by `change(message, index)`; None leaves it out."""

    def damaged(items: list) -> list:
        kept, index = [], 0
        for name, time_ns, message in items:
            if name == topic:
                message = change(message, index)
                index += 1
            if message is not None:
                kept.append((name, time_ns, message))
        return kept

    return damaged


def having(name: str, value, every: int = 1):
    """Set a field, by its dotted name, of every n-th message."""

    def change(message, index):
        *path, last = name.split(".")
        owner = message
        for part in path:
            owner = getattr(owner, part)
        if index % every == 0:
            setattr(owner, last, value)
        return message

    return change


def later(seconds: float, which=lambda index: True):
    def change(message, index):
        if which(index):
            message.header.stamp.sec += int(seconds)
        return message

    return change


def edges(change):
    """Static transforms, each passed through `change(child, parent, transform)`; None leaves it out."""

    def damaged(message, index):
        message.transforms = [t for t in message.transforms if change(t.child_frame_id, t) is not None]
        return message

    return each("/tf_static", damaged)


def turned_mount(child: str, stamped):
    if child == CAMERA.optical_frame:
        stamped.transform.rotation = messages.quaternion(np.eye(3))
    return stamped


def doubled(message, index):
    message.width, message.height, message.k = 2 * message.width, 2 * message.height, 2 * message.k
    return message


def dark(message, index):
    message.data = np.frombuffer(messages.encode_jpeg(np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)), np.uint8)
    return message


FAULTS = {
    "no images": (without(IMAGE), {"image.topic"}),
    "no calibration": (without(INFO), {"camera_info.topic"}),
    "no fixes": (without(FIX), {"fix.topic"}),
    "no transforms": (without("/tf_static"), {"tf.camera", "tf.antenna", "tf.imu"}),
    "no camera transform": (
        edges(lambda child, t: None if child == CAMERA.optical_frame else t),
        {"tf.camera"},
    ),
    "no antenna transform": (edges(lambda child, t: None if child == "antenna" else t), {"tf.antenna"}),
    "no Imu transform": (edges(lambda child, t: None if child == "imu_link" else t), {"tf.imu"}),
    "body axes for optical ones": (edges(turned_mount), {"tf.camera_direction"}),
    "zero K": (each(INFO, having("k", np.zeros(9))), {"camera_info.usable"}),
    "calibration of another size": (each(INFO, doubled), {"camera_info.size"}),
    "fisheye as plumb_bob": (
        each(INFO, having("d", np.array([-0.02, 0.01, 0.06, -0.04]))),
        {"camera_info.model"},
    ),
    "unknown lens": (each(INFO, having("distortion_model", "mei")), {"camera_info.usable"}),
    "cut off pictures": (each(IMAGE, lambda m, i: having("data", m.data[:200])(m, i)), {"images.decodable"}),
    "black pictures": (each(IMAGE, dark), {"images.black"}),
    "no frame in the images": (
        lambda items: each(IMAGE, having("header.frame_id", ""))(each(INFO, having("header.frame_id", ""))(items)),
        {"tf.camera"},
    ),
    "unknown covariance": (each(FIX, having("position_covariance_type", 0)), {"fix.covariance"}),
    "zero covariance": (each(FIX, having("position_covariance", np.zeros(9))), {"fix.covariance"}),
    "NaN covariance": (each(FIX, having("position_covariance", np.full(9, math.nan))), {"fix.covariance"}),
    "no altitude": (each(FIX, having("altitude", math.nan)), set()),
    "no position": (each(FIX, having("status.status", -1)), {"fix.valid"}),
    "another clock": (each(FIX, later(18)), {"clocks.offset"}),
    "stamps repeated": (each(ODOMETRY, lambda m, i: later(-1, lambda i: i == 60)(m, i)), {"stamps.order"}),
    "odometry breaks off": (each(ODOMETRY, lambda m, i: None if 20 <= i < 60 else m), {"stamps.gaps"}),
    "two receivers on one topic": (each(FIX, having("header.frame_id", "imu_link", every=2)), {"stamps.frames"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_nothing_else_is_blamed(tmp_path, fault):
    damage, expected = FAULTS[fault]
    examination = examined(tmp_path, damage(good_drive()))
    assert blamed(examination) == expected
    path = tmp_path / "car.yaml"
    path.write_text(examination.parameter_file("bag"))
    Settings.from_yaml(path)  # a file to start from, whatever is wrong


def test_the_missing_link_is_named_with_both_its_ends(tmp_path):
    def hung(child, stamped):
        if child == CAMERA.optical_frame:
            stamped.header.frame_id = "camera_mast"
        return stamped

    (finding,) = (f for f in examined(tmp_path, edges(hung)(good_drive())).findings if f.check == "tf.camera")
    assert finding.data == {"parent": "base_link", "child": "camera_mast"}
    assert "base_link -> camera_mast" in finding.sentence


def test_a_vehicle_frame_of_another_name_is_advised_and_then_taken(tmp_path):
    def renamed(child, stamped):
        stamped.header.frame_id = "base_footprint"
        return stamped

    items = each(ODOMETRY, having("child_frame_id", "base_footprint"))(edges(renamed)(good_drive()))
    examination = examined(tmp_path, items)
    assert blamed(examination) == {"tf.camera"}
    assert examination.advised().base_frame == "base_footprint"


def test_a_configured_topic_that_is_absent_is_named_with_the_one_to_set(tmp_path):
    configured = Settings(image_topic=IMAGE, camera_info_topic=INFO, fix_topic="/gnss", imu_topic=IMU)
    examination = examined(tmp_path, good_drive(), configured)
    assert blamed(examination) == {"fix.topic"}
    assert examination.advised().fix_topic == FIX


# --- the map ---


def test_coarse_imagery_and_a_drive_off_the_map_are_told(tmp_path):
    (tmp_path / "coarse").mkdir()
    assert blamed(examined(tmp_path / "coarse", good_drive(), zoom=18)) == {"map.resolution"}

    def far_east(message, index):
        message.longitude += 0.001
        return message

    (tmp_path / "off").mkdir()
    found = examined(tmp_path / "off", each(FIX, far_east)(good_drive()))
    assert "map.coverage" in blamed(found)

    def elsewhere(message, index):
        message.longitude += 20.0
        return message

    (tmp_path / "else").mkdir()
    assert "map.elsewhere" in blamed(examined(tmp_path / "else", each(FIX, elsewhere)(good_drive())))


# --- what cannot be opened ---


@pytest.mark.parametrize("kind", ["missing", "noise", "cut off"])
def test_a_bag_that_cannot_be_opened_is_one_finding_and_the_machine_is_looked_at(tmp_path, kind, capsys):
    path = tmp_path / "bag.mcap"
    if kind == "noise":
        path.write_bytes(b"no recording" * 100)
    elif kind == "cut off":
        (whole,) = write_bag2(tmp_path / "whole", good_drive()).glob("*.mcap")
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert main(["doctor", str(path), "--json", "--quick"]) == 1
    answer = json.loads(capsys.readouterr().out)
    failures = [row["check"] for row in answer["findings"] if row["level"] == "FAIL"]
    assert failures == ["bag.opens"]
    assert any(row["check"] == "machine.weights" for row in answer["findings"])


def test_messages_that_are_not_of_their_type_stop_nothing(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    types = {
        "/gps/fix": "sensor_msgs/msg/NavSatFix",
        "/cam/image": "sensor_msgs/msg/Image",
        "/tf": "tf2_msgs/msg/TFMessage",
    }
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in types.items():
            connection = writer.add_connection(topic, kind, typestore=messages.TYPESTORE)
            for index in range(20):
                writer.write(connection, 10**18 + index * 10**8, b"\0\1\0\0" + b"\xff" * (3 * index))
    examination = examine(tmp_path / "bag", None, None, is_quick=True)
    assert not examination.is_ok
    assert "check.broken" not in blamed(examination)
    assert "bag.undecodable" in blamed(examination)


def test_topics_of_unknown_types_are_named_with_what_they_may_hold(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("float64 latitude", "maker_interfaces/msg/Position"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/receiver/position", "maker_interfaces/msg/Position", typestore=store)
        for index in range(11):
            message = store.types["maker_interfaces/msg/Position"](48.0)
            writer.write(
                connection, 10**18 + index * 10**9, store.serialize_cdr(message, "maker_interfaces/msg/Position")
            )
    examination = examine(tmp_path / "bag", None, None, is_quick=True)
    assert {f.check for f in examination.findings if f.level == Level.FAIL} == {
        "image.topic", "camera_info.topic", "fix.topic",
    }  # fmt: skip
    (custom,) = (finding for finding in examination.findings if finding.check == "bag.custom_type")
    assert "1.1 Hz" in custom.sentence
    assert "sensor_msgs/NavSatFix" in custom.remedy
    (missing,) = (finding for finding in examination.findings if finding.check == "fix.topic")
    assert "/receiver/position" in missing.remedy


def test_every_camera_of_a_configured_rig_is_looked_at(tmp_path):
    cameras = {"cameras": ["front", "left"], "fix_topic": FIX, "imu_topic": IMU}
    for name, image in (("front", IMAGE), ("left", "/left/image")):
        cameras |= {f"{name}.image_topic": image, f"{name}.camera_info_topic": INFO}
    examination = examined(tmp_path, good_drive(), Settings.from_mapping(cameras))
    failures = [finding for finding in examination.findings if finding.level == Level.FAIL]
    assert [finding.check for finding in failures] == ["image.topic"]
    assert "left.image_topic" in failures[0].sentence
    path = tmp_path / "car.yaml"
    path.write_text(examination.parameter_file("bag"))
    assert Settings.from_yaml(path).cameras == ("front", "left")


def test_without_a_bag_only_the_machine_is_looked_at(capsys):
    assert main(["doctor", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "machine" in text
    assert "GNSS" not in text
    assert "ros__parameters" not in text


def test_json_is_one_object_and_the_status_tells_of_failures(tmp_path, capsys):
    bag = write_bag2(tmp_path / "bag", without(FIX)(good_drive()))
    assert main(["doctor", str(bag), "--json", "--quick", "--yaml", str(tmp_path / "car.yaml")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["counts"]["FAIL"] == 1
    assert answer["parameters"] == (tmp_path / "car.yaml").read_text()
    (failure,) = (row for row in answer["findings"] if row["level"] == "FAIL")
    assert failure["remedy"]
    assert failure["parameter"] == "fix_topic"


# --- measures ---


@pytest.mark.parametrize("is_ros1", [False, True])
def test_headers_are_read_from_bytes_as_they_are_unpacked(is_ros1):
    from rosbags.typesys import Stores, get_typestore

    message = messages.nav_sat_fix(1_600_000_000_123_456_789, "antenna", 48.0, 11.0, 1.0, np.eye(3))
    if is_ros1:
        store = get_typestore(Stores.ROS1_NOETIC)
        message.header = store.types["std_msgs/msg/Header"](7, message.header.stamp, "antenna")
        data = store.serialize_ros1(message, "sensor_msgs/msg/NavSatFix")
    else:
        data = messages.TYPESTORE.serialize_cdr(message, "sensor_msgs/msg/NavSatFix")
    assert read_header(data, is_ros1) == (1_600_000_000_123_456_789, "antenna")
    assert read_header(data[:9], is_ros1) is None


def test_stamps_are_counted_in_bounded_memory():
    record = StampRecord()
    for index in range(50_000):
        record.add(read_header(b"\0\1\0\0" + (index // 100 + 1).to_bytes(4, "little")
                               + (index % 100 * 10_000_000).to_bytes(4, "little") + b"\2\0\0\0a\0", False),
                   (index + 110) * 10_000_000)  # fmt: skip
    assert record.rate_hz == pytest.approx(100.0)
    assert record.latency_s == pytest.approx(0.1)
    assert len(record.intervals_s.values) < 10_000
    assert record.duplicates == record.backwards == 0


@pytest.mark.parametrize("count", [0, 5, 100_000])
def test_a_thinned_series_keeps_its_quantiles(count):
    thinned = Thinned(100)
    for value in range(count):
        thinned.add(value)
    assert len(thinned.values) <= 200
    assert (
        math.isnan(thinned.quantile(0.5)) if not count else thinned.quantile(0.5) == pytest.approx(count / 2, rel=0.2)
    )


def fixes_along(east_m, north_m, interval_s: float = 0.5, std_m: float = 1.0) -> list[Fix]:
    latitude, longitude, _ = MapProjection(ORIGIN).to_geodetic(np.asarray(east_m), np.asarray(north_m), 0.0)
    return [
        Fix(round(i * interval_s * 1e9), float(a), float(b), 500.0, np.eye(2) * std_m**2, "antenna")
        for i, (a, b) in enumerate(zip(latitude, longitude, strict=True))
    ]


def block(speed_mps: float = 8.0, interval_s: float = 0.5):
    """Once around a block of 120 m, counter-clockwise, and the heading on the way."""
    along = np.arange(0.0, 480.0, speed_mps * interval_s)
    side, rest = (along // 120).astype(int), along % 120
    east = np.choose(side, [rest, 120 + 0 * rest, 120 - rest, 0 * rest])
    north = np.choose(side, [0 * rest, rest, 120 + 0 * rest, 120 - rest])
    return east, north, side * math.pi / 2


@pytest.mark.parametrize(
    "seen, offset_deg, is_steady",
    [(lambda yaw: yaw, 0.0, True), (lambda yaw: yaw + 0.2, 11.5, True), (lambda yaw: yaw + 3.0, 171.9, True),
     (lambda yaw: -yaw, None, False)],
)  # fmt: skip
def test_yaw_is_compared_with_the_course_on_straight_stretches(seen, offset_deg, is_steady):
    east, north, yaw = block()
    yaws = [(round(i * 0.5e9), math.remainder(seen(value), 2 * math.pi)) for i, value in enumerate(yaw)]
    row = headings.compare(fixes_along(east, north), yaws, Settings())
    assert row is not None
    assert row.courses_differ
    assert row.is_steady == is_steady
    if offset_deg is not None:
        assert row.offset_deg == pytest.approx(offset_deg, abs=1.0)


def imu_survey(convention: str, turn_rad: float = 0.0) -> Survey:
    """A block driven with an Imu that reports in a convention, its yaw counter-clockwise too large by `turn_rad`."""
    from cross_view_loc.inputs.imus import R_ENU_NED, R_FRD_FLU

    east, north, yaw = block()
    found = Survey(fixes=fixes_along(east, north))
    for index, value in enumerate(yaw):
        R = rotation_z(value + turn_rad)
        R = R_ENU_NED.T @ R @ R_FRD_FLU if convention == "ned" else R
        stamp = round(index * 0.5e9)
        found.imu.append(messages.imu(stamp, "base_link", R, np.zeros(3), np.zeros(3), (0.1, 0.1, 0.1), 0.1, 0.1))
    return found


@pytest.mark.parametrize(
    "convention, turn_deg, expected",
    [("enu", 0.0, {}), ("enu", 4.0, {}), ("enu", 12.0, {"magnetic_declination_deg": 12.0}),
     ("enu", -90.0, {"magnetic_declination_deg": -90.0}), ("ned", 0.0, {"imu_convention": "ned"}),
     ("ned", 9.0, {"imu_convention": "ned", "magnetic_declination_deg": 9.0})],
)  # fmt: skip
def test_the_heading_is_cured_by_the_parameters_advised(convention, turn_deg, expected):
    settings = Settings(imu_topic="/imu/data")
    found = imu_survey(convention, math.radians(turn_deg))
    findings = headings.heading_findings(found, "/imu/data", settings, None)
    advised, _ = advised_settings(settings, findings)
    for name, value in expected.items():
        assert getattr(advised, name) == pytest.approx(value, abs=1.0) if name.endswith("deg") else value
    assert bool(expected) == any(finding.level > Level.OK for finding in findings)
    # With what was advised set, there is nothing left to say.
    again = headings.heading_findings(found, "/imu/data", advised, None)
    assert all(finding.level == Level.OK for finding in again)


def test_a_drifting_yaw_is_no_heading():
    found = imu_survey("enu")
    for index, message in enumerate(found.imu):
        message.orientation = messages.quaternion(rotation_z(0.05 * index))
    (finding,) = headings.heading_findings(found, "/imu/data", Settings(imu_topic="/imu/data"), None)
    assert (finding.check, finding.parameter, finding.value) == ("heading.unsteady", "heading_source", "course")


def test_scatter_sees_noise_but_not_motion_and_jumps_are_found():
    east, north, _ = block(interval_s=0.2)
    noise = np.random.default_rng(3).normal(0.0, 0.5, (2, len(east)))
    for wanted_m, added in ((0.0, 0.0 * noise), (0.5, noise)):
        place, times_s = gnss.positions(fixes_along(east + added[0], north + added[1], 0.2))
        assert gnss.scatter(place, times_s) == pytest.approx(wanted_m, abs=0.1)
    place, times_s = gnss.positions(fixes_along(east, north + np.where(np.arange(len(east)) >= 100, 40.0, 0.0), 0.2))
    assert gnss.jump_indices(place, times_s, 0.0).tolist() == [99]
    away = np.where((np.arange(len(east)) >= 100) & (np.arange(len(east)) < 110), 40.0, 0.0)
    kept = gnss.without_excursions(fixes_along(east, north + away, 0.2))
    assert len(kept) == len(east) - 10
    assert np.ptp(gnss.positions(kept)[0][:, 1]) < 125.0


def test_an_optimistic_receiver_is_floored():
    east, north, _ = block(interval_s=0.2)
    noise = np.random.default_rng(3).normal(0.0, 4.0, (2, len(east)))
    found = Survey(fixes=fixes_along(east + noise[0], north + noise[1], 0.2, std_m=0.5))
    found.fix_statuses[FixStatus(0, 2, False, True)] = len(east)
    accuracy = next(f for f in gnss.fix_findings(found, "/gps/fix", Settings()) if f.check == "fix.accuracy")
    assert accuracy.level == Level.WARN
    assert advised_settings(Settings(), [accuracy])[0].fix_min_std_m == pytest.approx(6.0, rel=0.2)


@pytest.mark.parametrize("scale, is_mirrored", [(1.0, False), (1.2, False), (1.0, True)])
def test_odometry_is_compared_with_the_fixes_by_length_and_hand(scale, is_mirrored):
    east, north, _ = block()
    wanted = np.stack([east, north], axis=1)
    given = scale * (wanted * [1.0, -1.0] if is_mirrored else wanted) @ rotation_z(0.8)[:2, :2].T + 7.0
    path_m, found_scale, same_m, mirrored_m = motion.similarity(wanted, given)
    assert found_scale == pytest.approx(scale, rel=1e-6)
    assert (same_m > 10.0, mirrored_m > 10.0) == (is_mirrored, not is_mirrored)
    assert path_m > 300.0


# --- the road's plane ---


def road_pair(height_m: float, pitch_deg: float = 2.0, distance_m: float = 1.5):
    """Rays of a road and a wall in two views of a camera that looks down by `pitch_deg`, its rotation, the motion."""
    generator = np.random.default_rng(5)
    R_base_view = rpy(0.0, math.radians(pitch_deg), 0.0) @ np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    road = np.column_stack([generator.uniform(4, 14, 150), generator.uniform(-4, 4, 150), np.full(150, -height_m)])
    wall = np.column_stack([generator.uniform(10, 40, 80), generator.uniform(5, 15, 80), generator.uniform(-1, 6, 80)])
    points = np.concatenate([road, wall])
    first, second = ((points - [moved, 0, 0]) @ R_base_view for moved in (0.0, distance_m))
    t = R_base_view.T @ [-distance_m, 0.0, 0.0]
    return first / first[:, 2:], second / second[:, 2:], R_base_view, t


def test_the_height_above_the_road_is_that_of_most_near_points():
    for height_m in (0.9, 1.6, 2.8):
        first, second, R_base_view, t = road_pair(height_m)
        found = two_views.height_above_road(first, second, np.eye(3), t, -R_base_view[2], 1 / 640)
        assert found == pytest.approx(height_m, rel=1e-3)


@pytest.mark.parametrize("roll_deg", [-4.0, 0.0, 2.5])
def test_a_camera_whose_right_side_hangs_low_has_a_positive_roll(roll_deg):
    first, second, R_base_view, t = road_pair(1.6)
    c, s = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    rolled = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])  # x (right) goes towards y (down)
    noise = np.random.default_rng(2).normal(0.0, 0.15 / 640, second.shape) * [1, 1, 0]
    first, second, t = first @ rolled, second @ rolled + noise, rolled.T @ t
    ahead, down = -t / np.linalg.norm(t), -R_base_view[2]  # by TF there is no roll
    down = down - (down @ ahead) * ahead
    found = two_views.roll_against_road(first, second, np.eye(3), t, (ahead, down), 1.6, 1 / 640)
    assert math.degrees(found) == pytest.approx(roll_deg, abs=0.3)
    narrow = np.abs(first[:, 0] / first[:, 1]) < 0.05  # a strip of road as wide as a hand
    strip = two_views.roll_against_road(first[narrow], second[narrow], np.eye(3), t, (ahead, down), 1.6, 1 / 640)
    assert strip is None


def test_motion_is_refined_from_a_wrong_mount_in_spite_of_wrong_tracks():
    first, second, _, t = road_pair(1.6)
    second = second + np.random.default_rng(1).normal(0.0, 0.2 / 640, second.shape) * [1, 1, 0]
    second[::10, :2] += 0.02
    believed = rpy(0.0, math.radians(3.0), math.radians(-2.0))  # the mount is thought to be elsewhere
    R, way, agreeing = two_views.refine_motion(first, second, np.eye(3), believed @ t, 1 / 640)
    assert math.degrees(math.acos(way @ t / np.linalg.norm(way) / np.linalg.norm(t))) < 0.4
    assert np.linalg.norm(way) == pytest.approx(np.linalg.norm(t))
    assert agreeing[::10].sum() <= 2  # a wrong track along its own line looks right
    assert agreeing.mean() > 0.7
    assert np.abs(R - np.eye(3)).max() < 2e-3


def test_a_camera_that_is_not_where_tf_has_it_is_told_with_the_parameter():
    pairs = [road_plane.PairEstimate(1.6 + 0.01 * (i % 5 - 2), 0.1, -0.2) for i in range(20)]
    T = transform(np.eye(3), (1.2, 0.0, 2.1))
    height, tilt = joined.mount_findings(pairs, T, Settings())
    assert (height.level, height.parameter) == (Level.WARN, "ground_height_in_base_m")
    assert height.value == pytest.approx(0.5)
    assert tilt.level == Level.OK
    (rolled,) = (
        finding
        for finding in joined.mount_findings([road_plane.PairEstimate(1.6, 0.1, -0.2, 3.0)] * 20, T, Settings())
        if finding.check == "mount.roll"
    )
    assert rolled.level == Level.WARN and "lower on its right side" in rolled.sentence
    tilted = [road_plane.PairEstimate(1.6, 4.0, 0.1)] * 20
    levels = {f.check: f.level for f in joined.mount_findings(tilted, T, Settings())}
    assert levels["mount.pitch"] == Level.WARN
    assert levels["mount.height"] == Level.OK  # not to be believed before the tilt is right
    (unjudged,) = joined.mount_findings(pairs[:3], T, Settings())
    assert "Not judged" in unjudged.sentence


def test_advice_beyond_a_range_or_against_other_advice_is_left_out():
    group = Group("x")
    findings = [
        group.warn("a", "A.", "B.", parameter="search_radius_m", value=1e9),
        group.warn("b", "A.", "B.", parameter="heading_source", value="imu"),
        group.warn("c", "Noisy.", "B.", parameter="fix_min_std_m", value=4.0),
    ]
    settings, notes = advised_settings(Settings(), findings)
    assert (settings.search_radius_m, settings.heading_source, settings.fix_min_std_m) == (20.0, "auto", 4.0)
    text = parameter_file(settings, notes, "bag", True)
    assert "# WARN: Noisy." in text
    assert "fix_min_std_m: 4.0" in text


def test_the_root_of_a_loop_of_frames_is_found():
    found = Survey()
    for child, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        found.parents[child] = Counter({parent: 1})
    assert transforms.root_of(found, "a") in "abc"
