"""Imu messages to attitudes in the map, and whether their yaw is believable."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from cross_view_loc.geometry.transforms import Matrix, rotation_z
from cross_view_loc.inputs.poses import rotation_of
from cross_view_loc.settings import Settings

R_ENU_NED = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
R_FRD_FLU = np.diag([1.0, -1.0, -1.0])


def has_orientation(message: Any) -> bool:
    """Whether a sensor_msgs/Imu gives its attitude: many drivers fill in rates and accelerations only.

    Those say so by a covariance of -1, or leave the quaternion as it was made: identity or zeros, without covariance.
    """
    if float(message.orientation_covariance[0]) == -1.0:
        return False
    q = message.orientation
    is_untouched = (q.x, q.y, q.z) == (0.0, 0.0, 0.0) and not any(message.orientation_covariance)
    return not is_untouched


def attitude_in_map(message: Any, settings: Settings, R_base_imu: Matrix) -> Matrix:
    """(3, 3) R_map_base of an Imu mounted as `R_base_imu`; InputError when the quaternion is none."""
    R_world_imu = rotation_of(message.orientation)
    if settings.imu_convention == "ned":
        R_world_imu = R_ENU_NED @ R_world_imu @ R_FRD_FLU
    # East-positive declination: magnetic north lies clockwise of true north, so counter-clockwise yaw shrinks.
    return rotation_z(-np.radians(settings.magnetic_declination_deg)) @ R_world_imu @ R_base_imu.T


class HeadingCheck:
    """Compares an absolute heading with the course over ground, fix by fix."""

    FIXES = 5
    """So many in a row must disagree: one fix may lie off, and a vehicle may reverse for a moment."""
    MARGIN_DEG = 15.0
    """Beyond the searched range: the side slip, the bend and the noise that a right heading may show."""

    def __init__(self) -> None:
        self._differences_rad: deque[float] = deque(maxlen=self.FIXES)

    def add(self, course_rad: float, course_std_rad: float, yaw_rad: float) -> None:
        """Another stretch of straight driving: its course, how well it is known, and the heading during it."""
        self._differences_rad.append(math.remainder(yaw_rad - course_rad, 2.0 * math.pi))
        self._std_rad = course_std_rad

    def warning(self, settings: Settings) -> str:
        """A sentence with the remedy; empty while the two agree."""
        allowed_rad = math.radians(settings.heading_range_deg + self.MARGIN_DEG)
        differences = self._differences_rad
        if len(differences) < self.FIXES or any(abs(each) <= allowed_rad + self._std_rad for each in differences):
            return ""
        return (
            f"{settings.imu_topic}: yaw differs by {math.degrees(differences[-1]):.0f} deg from the course over ground "
            "(unless the vehicle reverses, the search looks in the wrong direction); set heading_source to course or "
            "odometry, or correct magnetic_declination_deg or imu_convention"
        )
