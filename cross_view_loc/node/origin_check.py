"""`check_map_origin`: does navsat_transform mean the same map as we do? Three points through its /fromLL tell.

    ros2 run cross_view_loc check_map_origin --ros-args --params-file car.yaml [-r fromLL:=/car/fromLL]

The points lie some hundred metres from map_origin, so that an answer of (0, 0, 0), which navsat_transform gives before
its datum is set, is never a right one. Three pairs of points tell a displacement from a turn and from a stretch, and
each has another cause.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import CrossViewError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection

Array = NDArray[np.float64]

POINTS_M: Array = np.array([[500.0, 0.0], [0.0, 500.0], [-400.0, -300.0]])
"""(3, 2) east, north of map_origin."""
AGREE_M = 0.05
"""Five centimetres at half a kilometre: below what anybody drives by, above rounding."""
ANSWER_S = 5.0


def points_geodetic(projection: MapProjection) -> list[tuple[float, float, float]]:
    """Latitude, longitude (degrees) and height (m) of the three points."""
    height_m = projection.origin.height_m
    latitudes, longitudes, _ = projection.to_geodetic(POINTS_M[:, 0], POINTS_M[:, 1], 0.0)
    return [(float(lat), float(lon), height_m) for lat, lon in zip(latitudes, longitudes, strict=True)]


def judge(answers: Sequence[Sequence[float]], projection: MapProjection) -> tuple[bool, str]:
    """Whether the three answers (x, y, …) of /fromLL are our map's, and a sentence with the remedy when not."""
    theirs = np.array([answer[:2] for answer in answers], dtype=np.float64)
    if not np.any(theirs):
        return False, (
            "/fromLL answers (0, 0, 0) to everything: its datum is not set yet; set wait_for_datum: true with "
            "datum: [latitude, longitude, 0.0] of map_origin, and start the odometry it waits for"
        )
    farthest_m = float(np.linalg.norm(theirs - POINTS_M, axis=1).max())
    if farthest_m <= AGREE_M:
        return True, f"navsat_transform and the localizer agree on the map to {farthest_m * 100:.1f} cm"
    scale, turn_rad, shift = fit_similarity(POINTS_M, theirs)
    left_m = float(np.linalg.norm(theirs - _moved(POINTS_M, scale, turn_rad, shift), axis=1).max())
    shift_m = float(np.hypot(*shift))
    other = "utm" if projection.kind == "enu" else "enu"
    remedies = []
    if shift_m > AGREE_M:
        remedies.append("set its datum to map_origin")
    if abs(turn_rad) > math.radians(3.0):
        remedies.append("give its datum the heading 0.0, and set magnetic_declination_radians and yaw_offset to 0.0")
    elif abs(turn_rad) * 500.0 > AGREE_M or abs(scale - 1.0) * 500.0 > AGREE_M:
        remedies.append(f"set map_projection: {other}, which is what it works in")
    if left_m > AGREE_M or not remedies:
        remedies.append("check use_local_cartesian, which some releases honour in a part of their code only")
    return False, (
        f"navsat_transform's map lies {shift_m:.2f} m off, is turned by {math.degrees(turn_rad):.3f}° and stretched by "
        f"{(scale - 1.0) * 1e6:.0f} ppm against ours (map_projection {projection.kind}); {' and '.join(remedies)}"
    )


def fit_similarity(ours: Array, theirs: Array) -> tuple[float, float, Array]:
    """Scale, turn (radians) and shift (2,) with theirs ≈ scale · R(turn) · ours + shift, of (N, 2) points.

    Least squares in closed form, with points as complex numbers.
    """
    a, b = ours[:, 0] + 1j * ours[:, 1], theirs[:, 0] + 1j * theirs[:, 1]
    a_mean, b_mean = a.mean(), b.mean()
    factor = np.vdot(a - a_mean, b - b_mean) / np.vdot(a - a_mean, a - a_mean)
    shift = b_mean - factor * a_mean
    return float(abs(factor)), float(np.angle(factor)), np.array([shift.real, shift.imag])


def _moved(points: Array, scale: float, turn_rad: float, shift: Array) -> Array:
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    return scale * points @ np.array([[c, s], [-s, c]]) + shift


def ask(projection: MapProjection, from_ll: Callable[[float, float, float], Sequence[float]]) -> tuple[bool, str]:
    """Put the three points to `from_ll` (latitude, longitude, height → x, y, z) and judge the answers."""
    return judge([from_ll(*point) for point in points_geodetic(projection)], projection)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the service once; 0 when both mean the same map, 1 when not or nobody answers."""
    try:
        agrees, sentence = _ask_service(arguments)
    except CrossViewError as error:
        agrees, sentence = False, str(error)
    print(f"check_map_origin: {sentence}", file=sys.stdout if agrees else sys.stderr)
    return 0 if agrees else 1


def _ask_service(arguments: Sequence[str] | None) -> tuple[bool, str]:
    try:
        import rclpy
        from robot_localization.srv import FromLL
    except ImportError as error:
        raise MissingInputError(
            f"{error.name} is missing; source ROS and install ros-jazzy-robot-localization"
        ) from error
    from cross_view_loc.node.parameters import Declared

    rclpy.init(args=None if arguments is None else list(arguments))
    node = rclpy.create_node("check_map_origin")
    try:
        settings = Declared(node).settings()
        if not settings.map_origin:
            raise MissingInputError("map_origin is not set; give the localizer's parameter file with --params-file")
        client = node.create_client(FromLL, "fromLL")
        if not client.wait_for_service(ANSWER_S):
            raise MissingInputError(
                f"nobody offers {client.srv_name}; start navsat_transform, or remap it with -r fromLL:=NAME"
            )

        def from_ll(latitude: float, longitude: float, height: float) -> Sequence[float]:
            request: Any = FromLL.Request()
            request.ll_point.latitude, request.ll_point.longitude, request.ll_point.altitude = (
                latitude,
                longitude,
                height,
            )
            future = client.call_async(request)
            rclpy.spin_until_future_complete(node, future, timeout_sec=ANSWER_S)
            if not future.done():
                raise MissingInputError(f"{client.srv_name} does not answer; look at navsat_transform's log")
            point = future.result().map_point
            return point.x, point.y, point.z

        return ask(MapProjection(MapOrigin(*settings.map_origin), settings.map_projection), from_ll)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
