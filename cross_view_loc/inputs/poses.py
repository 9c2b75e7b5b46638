"""Geometry messages of ROS and rosbags to 4×4 matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.transforms import Matrix, transform
from cross_view_loc.inputs.ros_packages import rotation_from_quaternion


def bare_frame(name: str) -> str:
    """ROS 1 bags may still start a frame's name with a slash."""
    return str(name).lstrip("/")


def rotation_of(quaternion: Any) -> Matrix:
    return rotation_from_quaternion(quaternion.x, quaternion.y, quaternion.z, quaternion.w)


def transform_of(message: Any) -> Matrix:
    """(4, 4) of a geometry_msgs/Transform."""
    return _finite(transform(rotation_of(message.rotation), _xyz(message.translation)))


def pose_of(message: Any) -> Matrix:
    """(4, 4) of a geometry_msgs/Pose."""
    return _finite(transform(rotation_of(message.orientation), _xyz(message.position)))


def _xyz(message: Any) -> tuple[float, float, float]:
    return float(message.x), float(message.y), float(message.z)


def _finite(T: Matrix) -> Matrix:
    if not np.all(np.isfinite(T)):
        raise InputError("pose holds NaN or infinite numbers; check its publisher")
    return T
