"""Packages of a ROS installation that do what this package can do by itself: used where they are importable.

Only where both do the same, bit for bit or within the rounding of doubles; `test_ros_packages.py` holds them to that:

cv_bridge
    takes raw images of 8 bits a channel whose rows have no padding. It ignores padding, breaks on big-endian data with
    current NumPy and fails with OpenCV 5, and scales 16 bits to 8 where here the upper 8 are kept: all these, and
    whatever it refuses, are converted by NumPy.
tf_transformations
    turns quaternions of messages into rotations and back.

tf2_ros is not used for look-ups: its buffer refuses what lies outside of its history, where the tree of this package
answers with the nearest pose within 0.1 s, so the node and the offline runner (which has no ROS) would differ.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry import transforms
from cross_view_loc.geometry.transforms import Matrix

BRIDGED_ENCODINGS = frozenset(
    ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2"]
    + [f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")]
)


@cache
def installed(name: str) -> ModuleType | None:
    """The package; None where it is missing or cannot be imported (built for another NumPy, for example)."""
    try:
        return importlib.import_module(name)
    except Exception:  # a broken installation raises what it likes, and nothing depends on it
        return None


def rgb_by_cv_bridge(message: Any, row_bytes: int) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of a sensor_msgs/Image; None where cv_bridge is missing, is not trusted with it, or refuses it."""
    package = installed("cv_bridge")
    is_plain = int(message.step) == row_bytes and message.encoding in BRIDGED_ENCODINGS
    if package is None or not is_plain:
        return None
    try:
        rgb = np.asarray(package.CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception:  # its own error type, or that of the OpenCV it was not built for
        return None
    fits = rgb.dtype == np.uint8 and rgb.shape == (message.height, message.width, 3)
    return np.ascontiguousarray(rgb) if fits else None


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Matrix:
    """(3, 3) rotation of a message's quaternion, normalised; InputError when it is none."""
    own = transforms.from_quaternion(x, y, z, w)  # what is no rotation is refused here: others make identity of it
    package = installed("tf_transformations")
    return own if package is None else np.asarray(package.quaternion_matrix((x, y, z, w)), dtype=np.float64)[:3, :3]


def quaternion_from_rotation(R: Matrix) -> tuple[float, float, float, float]:
    """x, y, z, w (w >= 0) of a (3, 3) rotation."""
    package = installed("tf_transformations")
    if package is None:
        values = transforms.to_quaternion(R)
    else:
        values = np.asarray(package.quaternion_from_matrix(transforms.transform(R, (0.0, 0.0, 0.0))))
        values = -values if values[3] < 0.0 else values
    x, y, z, w = (float(value) for value in values)
    return x, y, z, w
