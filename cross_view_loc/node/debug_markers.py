"""Markers of an estimate: what the camera sees of the ground, what matched, the ellipse, and where was searched.

All in the map's frame at height 0, the ground, with the image's stamp; each estimate replaces the markers of the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from geometry_msgs.msg import Point, Point32, PolygonStamped
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from cross_view_loc.geometry.transforms import apply
from cross_view_loc.matching.match_panel import agrees, ellipse, placed_point, search_outline
from cross_view_loc.node.conversions import to_time
from cross_view_loc.types import Estimate, Frame, Prior

FOOTPRINT_REACH_M = 40.0
"""As far as ground cells are used."""
COLUMNS = 33
GOOD, POOR = (0.25, 0.86, 0.52, 1.0), (1.0, 0.36, 0.36, 0.7)
CYAN, ORANGE, WHITE = (0.18, 0.89, 0.90, 1.0), (1.0, 0.69, 0.25, 1.0), (1.0, 1.0, 1.0, 0.8)


def footprint(frame: Frame) -> NDArray[np.float64]:
    """(N, 2) x forward, y left (m) of the ground a camera sees, as a closed outline out to FOOTPRINT_REACH_M.

    The rays of the lowest row meet the ground nearest; the far rim is where the rays of each column, the highest that
    still point down, are cut off. In the level body frame; empty when no ray meets the ground.
    """
    height, width = frame.camera.height, frame.camera.width
    T_base_camera, R_level_base = frame.T_base_camera, frame.R_level_base
    rows = np.linspace(0.5, height - 0.5, 41)
    u, v = np.meshgrid(np.linspace(0.5, width - 0.5, COLUMNS), rows, indexing="ij")
    rays, seen = frame.camera.unproject(np.stack([u, v], -1))
    rays = rays @ (R_level_base @ T_base_camera[:3, :3]).T
    origin = R_level_base @ T_base_camera[:3, 3]
    down = np.where(rays[..., 2] < -1e-6, rays[..., 2], -1e-6)
    reach = (frame.ground_z_m - origin[2]) / down
    reach = np.where((rays[..., 2] < -1e-6) & seen, reach, np.nan)
    points = origin[:2] + rays[..., :2] * reach[..., None]
    near: list[NDArray[np.float64]] = []
    far: list[NDArray[np.float64]] = []
    for column in points:
        good = np.isfinite(column[:, 0])
        if not good.any():
            continue
        way_m = np.hypot(*(column - origin[:2]).T)
        for found, index in ((near, int(np.nanargmin(way_m))), (far, int(np.nanargmax(way_m)))):
            share = min(1.0, FOOTPRINT_REACH_M / max(float(way_m[index]), 1e-9))
            found.append(origin[:2] + (column[index] - origin[:2]) * share)
    return np.array([*near, *reversed(far)]) if len(near) > 1 else np.empty((0, 2))


def markers(frames: Sequence[Frame], estimate: Estimate, map_frame: str) -> MarkerArray:
    """Footprint of every camera, inliers, residuals and the 95 % ellipse, each a namespace of its own."""
    kept = []
    for number, frame in enumerate(frames):
        outline = _in_map(footprint(frame), estimate)
        kept.append(_line_strip("footprint", number, outline, WHITE, 0.15))
    kept.append(_inliers(estimate))
    kept.append(_residuals(estimate))
    color = CYAN if estimate.accepted else POOR
    kept.append(_line_strip("ellipse", 0, ellipse(estimate), color, 0.2))
    for marker in kept:
        marker.header.frame_id, marker.header.stamp = map_frame, to_time(estimate.stamp_ns)
    clear = Marker(action=Marker.DELETEALL)
    clear.header.frame_id, clear.header.stamp = map_frame, to_time(estimate.stamp_ns)
    return MarkerArray(markers=[clear, *(marker for marker in kept if marker.points)])


def search_polygon(search: Prior, map_frame: str) -> PolygonStamped:
    """The searched square, or the disc when all headings are searched."""
    message = PolygonStamped()
    message.header.frame_id, message.header.stamp = map_frame, to_time(search.stamp_ns)
    message.polygon.points = [Point32(x=float(east), y=float(north)) for east, north in search_outline(search)]
    return message


def _inliers(estimate: Estimate) -> Marker:
    marker = _marker("inliers", 0, Marker.POINTS, 0.6)
    marker.scale.y = 0.6
    for match in estimate.matches:
        marker.points.append(_point(match.point_map))
        marker.colors.append(_color(GOOD if agrees(match, estimate) else POOR))
    return marker


def _residuals(estimate: Estimate) -> Marker:
    """From where the pose puts a ground point to the map point it was matched with."""
    marker = _marker("residuals", 0, Marker.LINE_LIST, 0.08)
    marker.color = _color(WHITE)
    for match in estimate.matches:
        marker.points += [_point(placed_point(match, estimate)), _point(match.point_map)]
    return marker


def _line_strip(
    namespace: str, number: int, points: NDArray[np.float64], color: tuple[float, float, float, float], width_m: float
) -> Marker:
    marker = _marker(namespace, number, Marker.LINE_STRIP, width_m)
    marker.color = _color(color)
    closed: Iterable[NDArray[np.float64]] = [*points, points[0]] if len(points) else []
    marker.points = [_point((float(point[0]), float(point[1]))) for point in closed]
    return marker


def _marker(namespace: str, number: int, kind: int, width_m: float) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = width_m
    return marker


def _in_map(points_body: NDArray[np.float64], estimate: Estimate) -> NDArray[np.float64]:
    c, s = math.cos(estimate.yaw_rad), math.sin(estimate.yaw_rad)
    T = np.eye(4)
    T[:2, :2], T[:2, 3] = [[c, -s], [s, c]], [estimate.east_m, estimate.north_m]
    return apply(T, np.pad(points_body, ((0, 0), (0, 1))))[:, :2]


def _point(east_north: tuple[float, float]) -> Point:
    return Point(x=float(east_north[0]), y=float(east_north[1]))


def _color(rgba: tuple[float, float, float, float]) -> ColorRGBA:
    return ColorRGBA(r=rgba[0], g=rgba[1], b=rgba[2], a=rgba[3])
