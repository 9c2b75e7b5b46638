"""Planar poses through time: where a vehicle seen then must be now, and how far an estimate is from that.

A pose is (east, north, yaw) in metres and radians. Motion comes from odometry where there is any; without it the
vehicle may be anywhere that its greatest speed reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.transforms import Matrix, yaw_of
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.tracking.rules import TrackerRules
from cross_view_loc.types import Estimate

Vector = NDArray[np.float64]

STANDING_DRIFT_M, STANDING_DRIFT_RAD = 0.05, math.radians(0.1)
"""Odometry is never better than this between two images."""
JUMP_MARGIN_M = 1.0
"""A way longer than the greatest speed allows by more than this is odometry that has jumped."""


@dataclass(frozen=True)
class Seen:
    """A pose somebody believed in at a stamp."""

    stamp_ns: int
    pose: Vector
    """(3,) east, north, yaw."""
    covariance: Vector
    """(3, 3) of it."""
    T_odom_base: Matrix | None = None
    """(4, 4) pose of `base_link` in the odometry's frame at the stamp; None without odometry."""


@dataclass(frozen=True)
class Predicted:
    """Where a vehicle must be: a Gaussian, and around it what unmeasured motion may have added."""

    pose: Vector
    covariance: Vector
    reach_m: float = 0.0
    reach_rad: float = 0.0

    @property
    def gaussian_std_m(self) -> float:
        """Standard deviation along the worst direction, unmeasured motion aside."""
        return math.sqrt(max(float(np.linalg.eigvalsh(self.covariance[:2, :2])[-1]), 0.0))

    @property
    def std_m(self) -> float:
        """The same with unmeasured motion, which counts as a deviation of its reach."""
        return math.hypot(self.gaussian_std_m, self.reach_m)

    @property
    def std_rad(self) -> float:
        """The same of the heading."""
        return math.hypot(math.sqrt(max(float(self.covariance[2, 2]), 0.0)), self.reach_rad)

    def distance(self, pose: Vector, covariance: Vector) -> tuple[float, float, float]:
        """How far a pose (3,) with its covariance (3, 3) is: in standard deviations, metres and radians.

        What unmeasured motion explains is taken off first.
        """
        offset = np.array([*(pose[:2] - self.pose[:2]), wrapped(float(pose[2] - self.pose[2]))])
        way_m, turn_rad = math.hypot(offset[0], offset[1]), abs(float(offset[2]))
        offset[:2] *= max(0.0, 1.0 - self.reach_m / way_m) if way_m > 0.0 else 0.0
        offset[2] *= max(0.0, 1.0 - self.reach_rad / turn_rad) if turn_rad > 0.0 else 0.0
        total = self.covariance + covariance
        return math.sqrt(max(float(offset @ np.linalg.solve(total, offset)), 0.0)), way_m, turn_rad


def seen(estimate: Estimate, T_odom_base: Matrix | None) -> Seen:
    """An estimate as something seen."""
    pose = np.array([estimate.east_m, estimate.north_m, estimate.yaw_rad])
    return Seen(estimate.stamp_ns, pose, np.asarray(estimate.covariance, dtype=np.float64), T_odom_base)


def predict(then: Seen, stamp_ns: int, T_odom_base: Matrix | None, rules: TrackerRules) -> Predicted:
    """Where a vehicle seen then is at the stamp, by odometry between the two, else by its greatest speed.

    With way d in the body frame of then: p' = p + R(yaw) d, whose derivative by yaw carries the heading's error to the
    side. Odometry adds `odometry_drift_share` of the way, and its heading's drift, half of which acts on the way.
    """
    seconds = abs(stamp_ns - then.stamp_ns) / NS_PER_S
    step = None if T_odom_base is None or then.T_odom_base is None else _between(then.T_odom_base, T_odom_base)
    if step is None or math.hypot(step[0], step[1]) > rules.max_speed_m_per_s * seconds + JUMP_MARGIN_M:
        reach_rad = min(math.radians(rules.max_yaw_rate_deg_per_s) * seconds, math.pi)
        return Predicted(then.pose, then.covariance, rules.max_speed_m_per_s * seconds, reach_rad)
    c, s = math.cos(then.pose[2]), math.sin(then.pose[2])
    way = np.array([c * step[0] - s * step[1], s * step[0] + c * step[1]])
    pose = np.array([*(then.pose[:2] + way), wrapped(float(then.pose[2]) + step[2])])
    jacobian = np.array([[1.0, 0.0, -way[1]], [0.0, 1.0, way[0]], [0.0, 0.0, 1.0]])
    length_m = float(np.hypot(*way))
    yaw_std = STANDING_DRIFT_RAD + math.radians(rules.odometry_yaw_drift_deg_per_m) * length_m
    way_std = STANDING_DRIFT_M + rules.odometry_drift_share * length_m
    sideways = np.array([-0.5 * way[1], 0.5 * way[0], 1.0]) * yaw_std
    drift = np.diag([way_std**2, way_std**2, 0.0]) + np.outer(sideways, sideways)
    return Predicted(pose, jacobian @ then.covariance @ jacobian.T + drift)


def wrapped(angle_rad: float) -> float:
    """The same angle in [-pi, pi]."""
    return math.remainder(angle_rad, 2.0 * math.pi)


def _between(start: Matrix, end: Matrix) -> tuple[float, float, float]:
    """x forward, y left and turn from one planar pose to another, in the first one's frame."""
    yaw = yaw_of(start[:3, :3])
    c, s = math.cos(yaw), math.sin(yaw)
    east, north = end[0, 3] - start[0, 3], end[1, 3] - start[1, 3]
    return c * east + s * north, -s * east + c * north, wrapped(yaw_of(end[:3, :3]) - yaw)
