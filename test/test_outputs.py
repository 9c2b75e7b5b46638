"""What leaves the node beside the pose: conversions, pictures and markers by numbers, then all of it over DDS."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import ros_helpers as ros
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PolygonStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_helpers import SECOND, Station, node_process, private_domain, stamps, vehicle_settings
from sensor_msgs.msg import CompressedImage, Image, NavSatFix
from visualization_msgs.msg import Marker, MarkerArray

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.matching import match_panel
from cross_view_loc.node.debug_markers import FOOTPRINT_REACH_M, footprint, markers, search_polygon
from cross_view_loc.node.estimate_outputs import fix_message, status_message
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.tracked import Located
from cross_view_loc.types import Estimate, Frame, Match, Prior

CONFIG = Path(__file__).parents[1] / "config"
COVARIANCE = np.array([[0.09, 0.02, 0.0], [0.02, 0.04, 0.0], [0.0, 0.0, 0.0004]])


def frame(height_m: float = 1.5) -> Frame:
    camera = PinholeCamera(640, 360, 320.0, 320.0, 320.0, 180.0)
    T_base_camera = transform(R_BODY_OPTICAL, (1.0, 0.0, height_m))
    return Frame(np.full((360, 640, 3), 128, np.uint8), camera, 5 * SECOND, T_base_camera, name="front")


def estimate(**changes) -> Estimate:
    """Facing north at (10, 20); one match that agrees and one that is 5 m off."""
    matches = (
        Match((100.0, 200.0), (8.0, 3.0), (10.0 - 3.0, 20.0 + 8.0), 0.9, "front"),
        Match((500.0, 210.0), (9.0, -2.0), (10.0 + 2.0, 20.0 + 14.0), 0.5, "front"),
    )
    values = dict(stamp_ns=5 * SECOND, east_m=10.0, north_m=20.0, yaw_rad=math.pi / 2, covariance=COVARIANCE)
    return Estimate(**(values | dict(accepted=True, confidence=0.97, matches=matches) | changes))


SEARCH = Prior(5 * SECOND, 11.0, 19.0, 8.0, math.pi / 2, 0.1)


def test_fix_is_the_estimates_place_with_its_covariance_in_enu() -> None:
    projection = MapProjection(MapOrigin(*ros.ORIGIN))
    message = fix_message(estimate(), projection, "base_link")
    east, north, up = projection.to_map(message.latitude, message.longitude, message.altitude)
    assert (float(east), float(north), float(up)) == pytest.approx((10.0, 20.0, 0.0), abs=1e-4)
    assert math.isfinite(message.altitude) and message.header.frame_id == "base_link"
    covariance = np.array(message.position_covariance).reshape(3, 3)
    np.testing.assert_allclose(covariance[:2, :2], COVARIANCE[:2, :2])
    assert covariance[2, 2] >= 1e6 and message.position_covariance_type == NavSatFix.COVARIANCE_TYPE_KNOWN


def test_status_says_the_state_first_and_why_an_estimate_was_refused() -> None:
    refused = dataclasses.replace(estimate(), accepted=False, reason="ambiguous: 0.4", scale=1.03, scale_std=0.02)
    message = status_message(
        "localizer: state", "lost", "no accepted estimate for 3.2 s", Located(refused, SEARCH), 0.05
    )
    assert message.message.startswith("lost: ") and message.level == DiagnosticStatus.WARN
    values = {item.key: item.value for item in message.values}
    assert values["refused because"] == "ambiguous: 0.4" and values["search radius (m)"] == "8.0"
    assert (values["scale"], values["scale std"]) == (f"{refused.scale:.4f}", f"{refused.scale_std:.4f}")
    assert values["latency (s)"] == "0.050" and float(values["position std (m)"]) == pytest.approx(0.3115, abs=0.001)


def test_footprint_lies_before_the_vehicle_as_far_as_its_camera_sees() -> None:
    """Pinhole at 1.5 m, level: the lowest row looks 29.3 degrees down, the columns 45 degrees to both sides."""
    outline = footprint(frame())
    assert outline[:, 0].min() == pytest.approx(1.0 + 1.5 * 320.0 / 179.5, abs=0.05)
    reach_m = np.hypot(outline[:, 0] - 1.0, outline[:, 1])
    assert reach_m.max() == pytest.approx(FOOTPRINT_REACH_M, abs=0.1)
    assert outline[:, 1].max() > 20.0 and outline[:, 1].min() < -20.0
    assert np.abs(outline[:, 1]).max() <= outline[np.abs(outline[:, 1]).argmax(), 0], "45 degrees at most"


def test_markers_lie_where_the_pose_puts_them() -> None:
    found = {marker.ns: marker for marker in markers([frame()], estimate(), "map").markers if marker.ns}
    assert set(found) == {"footprint", "inliers", "residuals", "ellipse"}
    assert all(marker.header.frame_id == "map" for marker in found.values())
    north_m = [point.y for point in found["footprint"].points]
    assert min(north_m) > 20.0, "it faces north"
    assert [(point.x, point.y) for point in found["inliers"].points] == [(7.0, 28.0), (12.0, 34.0)]
    assert found["inliers"].colors[0].g > 0.8 > found["inliers"].colors[1].g
    start, end = found["residuals"].points[2:]
    assert (start.x, start.y) == pytest.approx((12.0, 29.0)) and (end.x, end.y) == (12.0, 34.0)
    east_m = [point.x for point in found["ellipse"].points]
    assert (max(east_m) - min(east_m)) / 2 == pytest.approx(math.sqrt(5.991 * 0.09), rel=0.02)


def test_search_is_a_square_or_a_disc() -> None:
    square = [(round(point.x, 4), round(point.y, 4)) for point in search_polygon(SEARCH, "map").polygon.points]
    assert sorted(square) == [(3.0, 11.0), (3.0, 27.0), (19.0, 11.0), (19.0, 27.0)]
    disc = search_polygon(dataclasses.replace(SEARCH, yaw_range_rad=math.pi), "map").polygon.points
    assert all(math.hypot(point.x - 11.0, point.y - 19.0) == pytest.approx(8.0, abs=1e-4) for point in disc)
    turned = dataclasses.replace(SEARCH, yaw_rad=math.pi / 4)
    assert max(point.y for point in search_polygon(turned, "map").polygon.points) == pytest.approx(
        19 + 8 * math.sqrt(2)
    )


@pytest.mark.parametrize("size", [(640, 360), (640, 480), (1024, 256)])
@pytest.mark.parametrize("has_map", [True, False])
def test_panel_is_drawn_for_any_picture_and_marks_pose_and_matches(size, has_map) -> None:
    base = frame()
    camera = PinholeCamera(*size, 320.0, 320.0, size[0] / 2, size[1] / 2)
    picture = dataclasses.replace(base, image=np.full((size[1], size[0], 3), 128, np.uint8), camera=camera)
    grey = np.full((520, 520, 3), 100, np.uint8)
    patch = Patch(grey, np.ones((520, 520), bool), 10.0, 26.0, 0.14, math.pi / 2) if has_map else None
    drawn = match_panel.draw(match_panel.Panel(picture, estimate(), SEARCH, patch, "tracking", 0.08))
    assert drawn.shape[1] == 1280 and drawn.dtype == np.uint8
    left = 2 * match_panel.MARGIN_PX + 1280 - match_panel.MAP_PX - 3 * match_panel.MARGIN_PX
    u, v = (np.array([520, 520]) / 2 + np.array([0.0, 6.0]) / 0.14).astype(int)
    at_pose = drawn[match_panel.HEAD_PX + v, left + u]
    assert (tuple(at_pose) == match_panel.POSE) == has_map
    decoded = cv2.imdecode(np.frombuffer(match_panel.jpeg(drawn), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == drawn.shape


# --- over DDS ---


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Station]:
    """A tracking node with everything on, whose localizer finds the vehicle where it is."""
    folder = tmp_path_factory.mktemp("outputs")
    ros.write_tiny_map(folder / "tiny.mbtiles")
    changes = dict(tracking=True, publish_fix=True, publish_odometry=True, tf_rate_hz=20.0)
    settings = vehicle_settings(map_path=str(folder / "tiny.mbtiles"), map_to_odom_motion="smooth", **changes)
    with private_domain() as domain, node_process(folder, settings, domain, program=Path(__file__)):
        station = Station(domain)
        try:
            assert station.drive_until(lambda: station.poses), (folder / "log").read_text()
            yield station
        finally:
            station.close()


def hear(station: Station, kind: type, name: str, qos: QoSProfile | int = 10) -> list:
    """What comes on one of the node's topics while the vehicle drives on."""
    found: list = []
    subscription = station.node.create_subscription(kind, f"/localizer/{name}", found.append, qos)
    assert station.drive_until(lambda: len(found) >= 2 or (found and name == "aerial_patch")), name
    station.node.destroy_subscription(subscription)
    return found


def test_fix_odometry_and_status_come(running: Station) -> None:
    truth = ros.true_pose
    fix = hear(running, NavSatFix, "fix")[-1]
    east, north, _ = MapProjection(MapOrigin(*ros.ORIGIN)).to_map(fix.latitude, fix.longitude, fix.altitude)
    assert (float(east), float(north)) == pytest.approx(tuple(truth(stamps([fix])[0])[:2, 3]), abs=0.02)
    odometry = hear(running, Odometry, "odometry")[-1]
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("map", "base_link")
    assert odometry.pose.pose.position.x == pytest.approx(truth(stamps([odometry])[0])[0, 3], abs=0.02)
    status = hear(running, DiagnosticStatus, "status")[-1]
    assert status.message.startswith("tracking: ") and status.level == DiagnosticStatus.OK
    topics = dict(running.node.get_publisher_names_and_types_by_node("localizer", "/"))
    assert topics["/localizer/latency_s"] == ["std_msgs/msg/Float64"], "silent here: the stamps are of another clock"


def test_pictures_markers_and_search_come_while_somebody_looks(running: Station) -> None:
    panel = hear(running, CompressedImage, "debug/compressed")[-1]
    assert cv2.imdecode(np.frombuffer(panel.data, np.uint8), cv2.IMREAD_COLOR).shape[1] == 1280
    found = hear(running, MarkerArray, "markers")[-1].markers
    assert found[0].action == Marker.DELETEALL and {marker.ns for marker in found[1:]} >= {"footprint", "ellipse"}
    polygons = hear(running, PolygonStamped, "search")
    assert all(message.header.frame_id == "map" and len(message.polygon.points) == 4 for message in polygons)


def test_aerial_patch_is_kept_for_late_listeners_and_lies_where_its_frame_is(running: Station) -> None:
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    running.transforms.clear()
    patch = hear(running, Image, "aerial_patch", kept)[-1]
    assert patch.header.frame_id == "aerial_patch" and (patch.width, patch.encoding) == (512, "rgb8")
    running.spin_until(lambda: any(each.child_frame_id == "aerial_patch" for each in running.transforms))
    (place,) = [ros.matrix_of(each) for each in running.transforms if each.child_frame_id == "aerial_patch"][-1:]
    T = ros.true_pose(stamps([patch])[0])
    assert np.abs(place[:2, 3] - T[:2, 3]).max() <= 8.0 + 0.1
    np.testing.assert_allclose(place[:3, :3], np.eye(3), atol=1e-9)


def test_map_to_odom_stays_current_while_no_estimate_is_accepted(running: Station) -> None:
    running.vehicle.brightness = 5
    running.drive_until(lambda: False, at_most_s=0.5)
    running.transforms.clear()
    running.poses.clear()
    running.drive_until(lambda: len([each for each in running.transforms if each.child_frame_id == "odom"]) >= 5)
    running.vehicle.brightness = 128
    sent = [each for each in running.transforms if each.child_frame_id == "odom"]
    assert len(sent) >= 5 and not running.poses
    assert stamps(sent) == sorted(set(stamps(sent))), "stamps only grow"
    assert stamps(sent)[-1] >= running.vehicle.stamp_ns - SECOND // 5
    T_map_base = ros.matrix_of(sent[-1]) @ running.vehicle.T_odom_base(running.vehicle.stamp_ns)
    assert T_map_base[:2, 3] == pytest.approx(tuple(ros.true_pose(running.vehicle.stamp_ns)[:2, 3]), abs=0.1)


def topics_in(text: object) -> Iterator[str]:
    """Every absolute topic named anywhere in a nested configuration; message paths end at their first dot."""
    if isinstance(text, dict):
        for key, value in text.items():
            yield from topics_in(key)
            yield from topics_in(value)
    elif isinstance(text, list):
        for value in text:
            yield from topics_in(value)
    elif isinstance(text, str) and re.fullmatch(r"/[a-z_]+(/[a-z_]+)*(\.[\w.\[\]]+)?", text):
        yield text.split(".")[0]


def test_rviz_and_foxglove_show_topics_that_the_node_has(running: Station) -> None:
    """Also frames: those of the default settings."""
    views = [
        yaml.safe_load((CONFIG / "localizer.rviz").read_text(encoding="utf-8")),
        json.loads((CONFIG / "foxglove_layout.json").read_text(encoding="utf-8")),
    ]
    node = running.node
    has = {name for name, _ in node.get_publisher_names_and_types_by_node("localizer", "/")}
    has |= {name for name, _ in node.get_subscriber_names_and_types_by_node("localizer", "/")}
    for view in views:
        named = set(topics_in(view))
        assert named <= has, named - has
        outputs = ("pose", "debug/compressed", "markers", "search", "aerial_patch", "odometry")
        assert {f"/localizer/{name}" for name in outputs} <= named
    frames = {Settings().map_frame, Settings().base_frame, Settings().odom_frame, Settings().aerial_patch_frame}
    scene = views[1]["configById"]["3D!scene"]
    assert {name.removeprefix("frame:") for name in scene["transforms"]} == frames
    assert views[0]["Visualization Manager"]["Global Options"]["Fixed Frame"] == Settings().map_frame
    assert scene["fixedFrame"] == Settings().map_frame and scene["followTf"] == Settings().base_frame


if __name__ == "__main__":
    import sys

    from cross_view_loc.node.main import main

    sys.exit(main(make_localizer=lambda *arguments: ros.Truthful()))
