"""What happens to a vehicle on the road, over DDS to the node in its own process: state, diagnostics, and poses again.

The tracker is the real one; a stand-in for the networks finds the vehicle wherever it is, if that place is searched.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import ros_helpers as ros
from fault_helpers import Answer, FaultServer
from geometry_msgs.msg import PoseWithCovarianceStamped
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_helpers import SECOND, Station, Vehicle, node_process, private_domain, stamps
from sensor_msgs.msg import CameraInfo, Image

from cross_view_loc.geometry.transforms import rotation_z, to_quaternion, transform
from cross_view_loc.settings import Settings


class Rig(Vehicle):
    """A vehicle with a front and a rear camera whose every part can fail."""

    def __init__(self, node: Any, compressed: bool) -> None:
        self.silent: set[str] = set()
        self.east_m = 0.0
        """How much farther east the vehicle is than its receiver says."""
        self.rear = node.create_publisher(Image, "/rear/image", 5)
        self.rear_info = node.create_publisher(CameraInfo, "/rear/camera_info", 5)
        super().__init__(node, compressed)

    def step(self, *, image: bool = True) -> int:
        self.stamp_ns += SECOND // 10
        stamp = self.stamp_ns
        for sensor_stamp in (stamp - SECOND // 20, stamp, stamp + SECOND // 100):
            self.publish_motion(sensor_stamp)
        if "fix" not in self.silent:
            self.fix.publish(self.fix_message(stamp - SECOND // 25))
        if self.east_m:
            self.brightness = round(128 + self.east_m)
        for name, images, infos in (("front", self.image, self.info), ("rear", self.rear, self.rear_info)):
            if "info" not in self.silent:
                infos.publish(self.info_message(stamp))
            if name not in self.silent:
                images.publish(self.image_message(stamp))
        return stamp

    def publish_static(self) -> None:
        if "static" not in self.silent:
            super().publish_static()


class LateRig(Rig):
    """Neither calibration nor transforms at first."""

    def __init__(self, node: Any, compressed: bool) -> None:
        super().__init__(node, compressed)

    def publish_static(self) -> None:
        if not hasattr(self, "stamp_ns_of_static"):
            self.stamp_ns_of_static = 0  # not while it is made
            self.silent |= {"static", "info"}
        super().publish_static()


def rig_settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {"cameras": ["front", "rear"], "tracking": True, "prior_wait_s": 0.3}
    values |= {"front": {"image_topic": "/image", "camera_info_topic": "/camera_info"}}
    values |= {"rear": {"image_topic": "/rear/image", "camera_info_topic": "/rear/camera_info"}}
    values |= dict(fix_topic="/fix", odometry_topic="/odometry", imu_topic="/imu", map_origin=ros.ORIGIN)
    values |= dict(tf_mode="map_to_odom", input_timeout_s=1.0, lost_after_s=1.0, widen_interval_s=0.5)
    return Settings.from_mapping(values | changes)


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Station]:
    """A node that tracks, and the vehicle it listens to."""
    folder = tmp_path_factory.mktemp("scenarios")
    with private_domain() as domain, node_process(folder, rig_settings(), domain, stand_in=ros.Truthful):
        station = Station(domain, make_vehicle=Rig)
        station.log = folder / "log"
        try:
            yield station
        finally:
            station.close()


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every scenario begins with a vehicle whose parts all work, and that is tracked."""
    if "running" in request.fixturenames:
        station = request.getfixturevalue("running")
        station.vehicle.silent.clear()
        station.vehicle.east_m, station.vehicle.brightness = 0.0, 128
        assert station.drive_until(lambda: state(station) == "tracking"), told(station)
        station.poses.clear()
    yield


def state(station: Station) -> str:
    status = station.diagnostics.get("localizer: tracker")
    return "" if status is None else next(each.value for each in status.values if each.key == "state")


def said(station: Station, name: str) -> str:
    status = station.diagnostics.get(f"localizer: {name}")
    return "" if status is None else f"{status.level[0]} {status.message}"


def told(station: Station) -> str:
    """For a failure's text."""
    return "\n".join(f"{name}: {status.message}" for name, status in station.diagnostics.items())


def good_poses(station: Station, count: int = 3, at_most_s: float = 30.0) -> bool:
    """New poses, and where the vehicle is."""
    begin = len(station.poses)
    if not station.drive_until(lambda: len(station.poses) >= begin + count, at_most_s):
        return False
    for pose in station.poses[begin:]:
        truth = station.vehicle.T_map_base(stamps([pose])[0])
        east_m = truth[0, 3] + station.vehicle.east_m
        assert pose.pose.pose.position.x == pytest.approx(east_m, abs=0.6), "brightness is a whole number"
        assert pose.pose.pose.position.y == pytest.approx(truth[1, 3], abs=0.01)
    return True


def test_gnss_outage_is_driven_through_and_named(running: Station) -> None:
    running.vehicle.silent.add("fix")
    begin = running.vehicle.stamp_ns
    assert running.drive_until(lambda: running.vehicle.stamp_ns - begin > 5 * SECOND)  # longer than max_fix_age_s
    assert running.drive_until(lambda: "/fix (fix) is silent" in said(running, "inputs")), told(running)
    assert good_poses(running) and state(running) == "tracking"
    assert said(running, "inputs").startswith("1 "), "a warning while the vehicle is tracked"
    running.vehicle.brightness = 5  # and now a tunnel
    assert running.drive_until(lambda: state(running) == "lost"), told(running)
    assert said(running, "inputs").startswith("2 ")
    assert said(running, "tracker").startswith("1 lost: no accepted estimate for")
    running.vehicle.brightness = 128
    running.vehicle.silent.clear()
    assert good_poses(running)
    assert running.drive_until(lambda: state(running) == "tracking" and said(running, "inputs").startswith("0 "))


def test_a_stalled_camera_stops_nobody(running: Station) -> None:
    running.vehicle.silent.add("rear")
    assert running.drive_until(lambda: "/rear/image (rear image) is silent" in said(running, "inputs")), told(running)
    assert said(running, "inputs").startswith("1 ") and good_poses(running, 5)
    running.vehicle.silent = {"front"}
    assert running.drive_until(lambda: "/image (front image) is silent" in said(running, "inputs")), told(running)
    assert good_poses(running, 5), "the rear camera leads now"
    running.vehicle.silent = {"front", "rear"}
    assert running.drive_until(lambda: said(running, "inputs").startswith("2 "))
    running.vehicle.silent.clear()
    assert good_poses(running)
    assert running.drive_until(lambda: said(running, "inputs").startswith("0 ")), told(running)


def test_odometry_that_jumps_does_not_carry_the_pose_away(running: Station) -> None:
    running.vehicle.T_map_odom = transform(rotation_z(-1.0), (300.0, 120.0, 0.0))
    assert good_poses(running, 5), told(running)
    assert running.drive_until(lambda: state(running) == "tracking")
    running.transforms.clear()
    assert running.drive_until(lambda: len(running.transforms) >= 3)
    assert ros.matrix_of(running.transforms[-1])[:2, 3] == pytest.approx((300.0, 120.0), abs=1.0)


def test_time_that_jumps_back_starts_over(running: Station) -> None:
    running.vehicle.stamp_ns -= 40 * SECOND
    restart = running.vehicle.stamp_ns
    assert running.drive_until(lambda: any(stamp < restart + 20 * SECOND for stamp in stamps(running.poses)))
    assert good_poses(running) and "stamps jumped back" in running.log.read_text()


def test_given_pose_teleports_a_vehicle_without_gnss(running: Station) -> None:
    running.vehicle.silent.add("fix")
    running.vehicle.east_m = 80.0
    assert running.drive_until(lambda: state(running) == "lost", 60.0), told(running)
    given = running.node.create_publisher(PoseWithCovarianceStamped, "/initialpose", 5)
    assert running.spin_until(lambda: given.get_subscription_count() > 0)
    wrong = PoseWithCovarianceStamped()
    wrong.header.frame_id = "odom"
    given.publish(wrong)
    truth = running.vehicle.T_map_base(running.vehicle.stamp_ns)
    message = PoseWithCovarianceStamped()
    message.header.frame_id = "map"
    message.pose.pose.position.x, message.pose.pose.position.y = truth[0, 3] + 81.0, truth[1, 3] - 1.0
    q = message.pose.pose.orientation
    q.x, q.y, q.z, q.w = (float(value) for value in to_quaternion(truth[:3, :3]))
    given.publish(message)
    running.poses.clear()
    assert good_poses(running), told(running)
    assert running.drive_until(lambda: state(running) == "tracking")
    assert "initialpose: pose is given in frame 'odom'" in running.log.read_text()
    running.node.destroy_publisher(given)
    running.vehicle.east_m, running.vehicle.brightness = 0.0, 128  # the receiver is right again
    running.vehicle.silent.clear()
    running.drive_until(lambda: state(running) != "tracking", 10.0)
    running.poses.clear()
    assert good_poses(running, at_most_s=60.0), told(running)


def test_thresholds_change_while_driving(running: Station) -> None:
    change = running.node.create_client(SetParameters, "/localizer/set_parameters")
    assert change.wait_for_service(10.0)

    def put(name: str, **value: Any) -> tuple[bool, str]:
        content = ParameterValue(**value)
        future = change.call_async(SetParameters.Request(parameters=[ParameterMessage(name=name, value=content)]))
        assert running.spin_until(future.done)
        return future.result().results[0].successful, future.result().results[0].reason

    integer, text = ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_STRING
    assert put("search_radius_m", type=integer, integer_value=12) == (True, "")
    successful, reason = put("search_radius_m", type=integer, integer_value=500)
    assert not successful and "search_radius_m" in reason
    successful, reason = put("map_frame", type=text, string_value="world")
    assert not successful and "read-only" in reason
    assert good_poses(running)
    assert put("search_radius_m", type=integer, integer_value=20)[0]


def test_late_calibration_and_late_transforms_are_waited_for_by_name(tmp_path: Path) -> None:
    with private_domain() as domain, node_process(tmp_path, rig_settings(), domain, stand_in=ros.Truthful):
        station = Station(domain, make_vehicle=LateRig)
        try:
            assert station.drive_until(lambda: "2 no CameraInfo on /camera_info yet" in said(station, "estimates"))
            assert "/camera_info (front camera_info) has never arrived" in said(station, "inputs")
            assert state(station) == "waiting" and "no CameraInfo on /camera_info" in said(station, "tracker")
            station.vehicle.silent.remove("info")
            assert station.drive_until(lambda: "camera_optical" in said(station, "estimates")), told(station)
            assert "base_link -> camera_optical" in said(station, "tracker") and not station.poses
            station.vehicle.silent.clear()
            station.vehicle.publish_static()
            assert good_poses(station) and station.drive_until(lambda: state(station) == "tracking")
            assert station.drive_until(lambda: said(station, "estimates").startswith("0 ")), told(station)
        finally:
            station.close()


def test_tile_server_that_is_down_is_named_and_poses_come_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yaml = tmp_path / "ortho.yaml"
    with FaultServer(Answer(503)) as server:
        yaml.write_text(f"{{kind: xyz, name: Ortho, url: '{server.url}/{{z}}/{{x}}/{{y}}', rate_per_s: 1000}}")
        settings = rig_settings(map_path=str(yaml), map_cache=str(tmp_path / "cache.mbtiles"))
        with private_domain() as domain, node_process(tmp_path, settings, domain, stand_in=ros.OnMap):
            station = Station(domain, make_vehicle=Rig)
            try:
                assert station.drive_until(lambda: "2 Ortho has no imagery" in said(station, "estimates")), told(
                    station
                )
                assert station.drive_until(lambda: "HTTP 503" in said(station, "map")), told(station)
                assert said(station, "map").startswith("1 ") and state(station) == "waiting"
                server.default = None
                assert good_poses(station, at_most_s=120.0), told(station)
                assert station.drive_until(lambda: state(station) == "tracking")
            finally:
                station.close()


def test_missing_weights_are_one_sentence_and_a_status(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    ros.write_tiny_map(tmp_path / "map.mbtiles")
    given = ["-p", f"map_path:={tmp_path / 'map.mbtiles'}", "-p", f"weights_dir:={tmp_path}"]
    with private_domain() as domain:
        ended = subprocess.run(
            [sys.executable, "-m", "cross_view_loc.node.main", "--ros-args", *given],
            env=ros.environment(domain), cwd=ros.ROOT, capture_output=True, text=True, timeout=120.0,
        )  # fmt: skip
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("localizer: ") and str(tmp_path / "town_matcher.safetensors") in last


def test_two_nodes_in_two_namespaces_do_not_disturb_each_other(tmp_path: Path) -> None:
    settings = ros.vehicle_settings(
        image_topic="image", camera_info_topic="camera_info", fix_topic="fix", tf_mode="none",
        odometry_topic="/odometry", imu_topic="/imu", tracking=True,
    )  # fmt: skip
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    received: dict[str, list[Any]] = {"one": [], "two": []}
    with (
        private_domain() as domain,
        node_process(folders[0], settings, domain, stand_in=ros.Truthful, arguments=["-r", "__ns:=/one"]),
        node_process(folders[1], settings, domain, stand_in=ros.Truthful, arguments=["-r", "__ns:=/two"]),
    ):
        station = Station(domain)
        for name, kept in received.items():
            station.node.create_subscription(PoseWithCovarianceStamped, f"/{name}/localizer/pose", kept.append, 50)
        vehicle = station.vehicle
        others = [(getattr(vehicle, each), each) for each in ("image", "info", "fix")]
        pairs = []
        for publisher, _ in others:
            kind, topic = publisher.msg_type, publisher.topic_name
            pairs.append([station.node.create_publisher(kind, f"/{name}{topic}", 5) for name in received])
        silent_two = [False]

        class Both:
            def __init__(self, publishers):
                self.publishers = publishers

            def publish(self, message):
                for index, publisher in enumerate(self.publishers):
                    if not (index == 1 and silent_two[0]):
                        publisher.publish(message)

        vehicle.image, vehicle.info, vehicle.fix = (Both(pair) for pair in pairs)
        try:
            assert station.drive_until(lambda: all(len(kept) >= 3 for kept in received.values()), 60.0), told(station)
            silent_two[0] = True
            station.drive_until(lambda: False, 0.5)
            for kept in received.values():
                kept.clear()
            assert station.drive_until(lambda: len(received["one"]) >= 3) and not received["two"]
            assert station.drive_until(lambda: "is silent" in station.diagnostics["two/localizer: inputs"].message), (
                told(station)
            )
            assert "is silent" not in station.diagnostics["one/localizer: inputs"].message
            silent_two[0] = False
            assert station.drive_until(lambda: received["two"])
        finally:
            station.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_while_loading_ends_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    with (
        private_domain() as domain,
        node_process(tmp_path, ros.vehicle_settings(), domain, stand_in=ros.SlowToLoad) as process,
    ):
        end = time.monotonic() + 60.0
        while "loading begins" not in (tmp_path / "log").read_text() and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(30.0) == 0, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_interrupt_during_an_inference_ends_cleanly(tmp_path: Path) -> None:
    with (
        private_domain() as domain,
        node_process(tmp_path, ros.vehicle_settings(), domain, stand_in=ros.Slow) as process,
    ):
        station = Station(domain)
        try:
            assert station.drive_until(lambda: "inference begins" in (tmp_path / "log").read_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(30.0) == 0, (tmp_path / "log").read_text()
        finally:
            station.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_yaw_of_the_stand_in_is_the_vehicles() -> None:
    """The scenarios rest on it."""
    T = ros.true_pose(1_700_000_000 * SECOND)
    assert (T[0, 3], T[1, 3]) == pytest.approx((50.0, 0.0)) and math.atan2(T[1, 0], T[0, 0]) == pytest.approx(
        math.pi / 2
    )
