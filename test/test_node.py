"""The node over real DDS, in a process of its own: good poses and transforms, bad input survived and named, clean exit.

The localizer is a stand-in here that adds a constant to the prior, so that every number can be checked;
test_node_end_to_end.py drives the real one.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import ros_helpers as ros
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from ros_helpers import SECOND, Station, node_process, private_domain, stamps, vehicle_settings
from sensor_msgs.msg import CompressedImage

from cross_view_loc.settings import PARAMETERS, parameter_named


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Station]:
    """A node that has published its first pose, and the vehicle it listens to."""
    yield from _running(tmp_path_factory.mktemp("raw"), "raw")


@pytest.fixture(scope="module")
def running_compressed(tmp_path_factory) -> Iterator[Station]:
    """The same with JPEG images."""
    yield from _running(tmp_path_factory.mktemp("compressed"), "compressed")


def _running(folder: Path, transport: str) -> Iterator[Station]:
    settings = vehicle_settings(image_transport=transport)
    with private_domain() as domain, node_process(folder, settings, domain):
        station = Station(domain, compressed=transport == "compressed")
        try:
            assert station.drive_until(lambda: station.transforms), (folder / "log").read_text()
            yield station
        finally:
            station.close()


def inputs(station: Station):
    return station.diagnostics.get("localizer: inputs")


def estimates(station: Station):
    return station.diagnostics.get("localizer: estimates")


def value(status, key: str) -> str:
    return next((each.value for each in status.values if each.key == key), "")


def test_pose_is_of_base_link_in_the_map_at_the_images_stamp(running: Station) -> None:
    running.poses.clear()
    assert running.drive_until(lambda: len(running.poses) >= 5)
    for message in running.poses:
        stamp = stamps([message])[0]
        assert (stamp - 1_700_000_000 * SECOND) % (SECOND // 10) == 0, "an image's stamp, to the nanosecond"
        assert message.header.frame_id == "map"
        truth = running.vehicle.T_map_base(stamp)
        # The prior is exact: lever arm, Imu mount and the odometry since the fix all have to be right for this.
        assert message.pose.pose.position.x == pytest.approx(truth[0, 3] + ros.OFFSET_EAST_M, abs=0.02)
        assert message.pose.pose.position.y == pytest.approx(truth[1, 3] + ros.OFFSET_NORTH_M, abs=0.02)
        yaw = 2.0 * math.atan2(message.pose.pose.orientation.z, message.pose.pose.orientation.w)
        assert math.remainder(yaw - math.atan2(truth[1, 0], truth[0, 0]), 2 * math.pi) == pytest.approx(0.0, abs=1e-3)
        covariance = np.array(message.pose.covariance).reshape(6, 6)
        np.testing.assert_allclose(covariance[np.ix_([0, 1, 5], [0, 1, 5])], ros.COVARIANCE)
        assert all(covariance[i, i] >= 1e6 for i in (2, 3, 4))
    assert stamps(running.poses) == sorted(set(stamps(running.poses)))


def test_map_to_odom_composes_to_the_pose(running: Station) -> None:
    running.transforms.clear()
    running.poses.clear()
    assert running.drive_until(lambda: len(running.transforms) >= 3 and len(running.poses) >= 3)
    by_stamp = {stamps([pose])[0]: pose.pose.pose.position for pose in running.poses}
    for stamped in running.transforms[:3]:
        assert stamped.child_frame_id == "odom"
        stamp = stamps([stamped])[0] - SECOND // 2  # post-dated by transform_tolerance_s
        T_map_base = ros.matrix_of(stamped) @ running.vehicle.T_odom_base(stamp)
        assert T_map_base[:2, 3] == pytest.approx((by_stamp[stamp].x, by_stamp[stamp].y), abs=1e-3)
        assert T_map_base[2, 3] == pytest.approx(0.0, abs=1e-9)


def test_refused_estimates_come_unchecked_only(running: Station) -> None:
    running.vehicle.brightness = 5
    running.drive_until(lambda: False, at_most_s=0.6)
    running.poses.clear()
    running.unchecked.clear()
    running.drive_until(lambda: len(running.unchecked) >= 3)
    running.vehicle.brightness = 128
    assert len(running.unchecked) >= 3 and not running.poses
    assert running.drive_until(lambda: running.poses)
    running.drive_until(lambda: value(estimates(running), "last refusal") == "too dark", 3.0)
    assert value(estimates(running), "last refusal") == "too dark"


def _bad_messages(station: Station):
    """(name, publish, words its diagnostic must hold)"""
    vehicle = station.vehicle
    stamp = vehicle.stamp_ns

    def fix(**changes):
        message = vehicle.fix_message(stamp)
        if "status" in changes:
            message.status.status = changes.pop("status")
        for name, content in changes.items():
            setattr(message, name, content)
        return lambda: vehicle.fix.publish(message)

    def image(**changes):
        def publish() -> None:
            # Newer than the last image, which else would be the reason to leave it out.
            message = vehicle.image_message(vehicle.stamp_ns + SECOND // 1000)
            for name, content in changes.items():
                setattr(message, name, content)
            vehicle.image.publish(message)

        return publish

    info = vehicle.info_message(stamp)
    info.k = [0.0] * 9
    yield "NaN fix", fix(latitude=math.nan), "latitude nan"
    yield "no fix", fix(status=-1), "NO_FIX"
    yield "zero CameraInfo", lambda: vehicle.info.publish(info), "zero camera matrix"
    if vehicle.compressed:
        data = bytes(vehicle.image_message(stamp).data)
        yield "corrupt JPEG", image(data=data[: len(data) // 2]), "breaks off"
        yield "no JPEG", image(data=b"not a picture"), "cannot be decoded"
    else:
        yield "unknown encoding", image(encoding="32FC7"), "encoding '32FC7'"
        yield "short data", image(height=ros.HEIGHT * 2), "needs"
        wrong = dict(width=ros.WIDTH // 2, height=ros.HEIGHT * 2, step=ros.WIDTH // 2 * 3)
        yield "wrong size", image(**wrong), f"says {ros.WIDTH}x{ros.HEIGHT}"


@pytest.mark.parametrize("transport", ["running", "running_compressed"])
def test_bad_messages_are_named_and_survived(transport: str, request: pytest.FixtureRequest) -> None:
    running: Station = request.getfixturevalue(transport)
    for name, publish, words in list(_bad_messages(running)):
        running.spin(0.3)

        def named(words: str = words) -> bool:
            return inputs(running) is not None and words in inputs(running).message

        for _ in range(12):  # the diagnostics come once a second
            publish()
            running.spin(0.25)
            if named():
                break
        assert named(), f"{name}: {inputs(running).message}"
        assert inputs(running).level != b"\x00"
        running.poses.clear()
        assert running.drive_until(lambda: len(running.poses) >= 2), f"no pose after {name}"
        # What was refused must not have replaced what was good.
        stamp = stamps(running.poses)[-1]
        truth = running.vehicle.T_map_base(stamp)[0, 3] + ros.OFFSET_EAST_M
        assert running.poses[-1].pose.pose.position.x == pytest.approx(truth, abs=0.02)


def test_silent_topic_is_named(running: Station) -> None:
    assert running.spin_until(lambda: "/image (image) is silent" in inputs(running).message, 5.0)
    assert inputs(running).level == b"\x02"
    assert running.drive_until(lambda: inputs(running).level == b"\x00", 10.0), inputs(running).message


def test_time_set_back_starts_over(running: Station) -> None:
    running.vehicle.stamp_ns -= 20 * SECOND
    restart = running.vehicle.stamp_ns
    running.poses.clear()
    assert running.drive_until(lambda: any(stamp < restart + 10 * SECOND for stamp in stamps(running.poses)))


def test_parameters_are_described_and_thresholds_change_live(running: Station) -> None:
    describe = running.node.create_client(DescribeParameters, "/localizer/describe_parameters")
    change = running.node.create_client(SetParameters, "/localizer/set_parameters")
    assert describe.wait_for_service(10.0) and change.wait_for_service(10.0)
    request = DescribeParameters.Request(names=[parameter.name for parameter in PARAMETERS])
    future = describe.call_async(request)
    assert running.spin_until(future.done)
    for descriptor in future.result().descriptors:
        parameter = parameter_named(descriptor.name)
        assert descriptor.description == parameter.description
        assert descriptor.read_only == parameter.read_only
        if parameter.kind == "double":
            limits = descriptor.floating_point_range[0]
            assert (limits.from_value, limits.to_value) == (parameter.minimum, parameter.maximum)

    def answer(name: str, number: float) -> tuple[bool, str]:
        content = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=number)
        future = change.call_async(SetParameters.Request(parameters=[ParameterMessage(name=name, value=content)]))
        assert running.spin_until(future.done)
        return future.result().results[0].successful, future.result().results[0].reason

    assert answer("min_confidence", 0.7) == (True, "")
    successful, reason = answer("min_confidence", 1.7)
    assert not successful and "min_confidence" in reason
    successful, reason = answer("ground_height_in_base_m", 0.2)
    assert not successful and "read-only" in reason
    running.poses.clear()
    assert running.drive_until(lambda: running.poses)


def test_debug_picture_comes_while_somebody_looks(running: Station) -> None:
    pictures: list[CompressedImage] = []
    subscription = running.node.create_subscription(CompressedImage, "/localizer/debug/compressed", pictures.append, 5)
    assert running.drive_until(lambda: pictures)
    picture = cv2.imdecode(np.frombuffer(pictures[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 1280
    running.node.destroy_subscription(subscription)


def test_base_link_gets_no_second_parent(tmp_path: Path) -> None:
    """The vehicle publishes odom -> base_link, so map -> base_link must not come; the poses still do."""
    settings = vehicle_settings(tf_mode="map_to_base")
    with private_domain() as domain, node_process(tmp_path, settings, domain):
        station = Station(domain)
        try:
            assert station.drive_until(lambda: estimates(station) and "already has" in estimates(station).message)
            assert "base_link already has the parent odom; set tf_mode to map_to_odom" in estimates(station).message
            assert station.poses and not station.transforms
        finally:
            station.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_with_status_0(number: signal.Signals, tmp_path: Path) -> None:
    with (
        private_domain() as domain,
        node_process(tmp_path, vehicle_settings(), domain) as process,
    ):
        station = Station(domain)
        try:
            assert station.drive_until(lambda: station.poses), (tmp_path / "log").read_text()
        finally:
            station.close()
        process.send_signal(number)
        assert process.wait(20.0) == 0, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_first_fix_becomes_the_origin_and_missing_transform_is_named(tmp_path: Path) -> None:
    settings = vehicle_settings(map_origin=[], map_path=str(tmp_path / "map.mbtiles"), camera_frame="nowhere")
    ros.write_tiny_map(Path(settings.map_path))
    with private_domain() as domain, node_process(tmp_path, settings, domain):
        station = Station(domain)
        try:
            bad = station.vehicle.fix_message(station.vehicle.stamp_ns)
            bad.status.status = -1

            def named() -> bool:
                station.vehicle.fix.publish(bad)
                return estimates(station) is not None and "nowhere" in estimates(station).message

            assert station.drive_until(named), (tmp_path / "log").read_text()
            assert "base_link -> nowhere" in estimates(station).message
            assert estimates(station).level == b"\x02" or station.drive_until(
                lambda: estimates(station).level == b"\x02", 5.0
            )
        finally:
            station.close()
    log = (tmp_path / "log").read_text()
    assert "map_origin is the first fix: MapOrigin(latitude_deg=49.0" in log
    assert not station.poses


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "map_path is empty"),
        (["-p", "map_path:=/nowhere.mbtiles"], "/nowhere.mbtiles"),
        (["--params-file", "/nowhere.yaml"], "check the path and the text of --params-file"),
        (["-p", "search_radius_m:=wide"], "parameter search_radius_m is 'wide'; it must be of type double"),
        (["-p", "search_radius_m:=-1"], "parameter search_radius_m is -1.0; it must lie in [1, 100]"),
        (["-p", "tf_mode:=both"], "choose one of none, map_to_odom"),
    ],
)
def test_what_is_wrong_at_start_is_one_sentence_and_a_status(arguments: list[str], text: str) -> None:
    with private_domain() as domain:
        ended = subprocess.run(
            [sys.executable, "-m", "cross_view_loc.node.main", "--ros-args", *arguments],
            env=ros.environment(domain),
            cwd=ros.ROOT,
            capture_output=True,
            text=True,
            timeout=60.0,
        )
    assert ended.returncode == 1, ended.stderr
    assert text in ended.stderr and "Traceback" not in ended.stderr
