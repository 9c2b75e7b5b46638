"""Rigid transforms as 4×4 matrices: `T_a_b` is the pose of b in a and maps b's coordinates to a's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError

Matrix = NDArray[np.float64]


R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""An optical frame (x right, y down, z forward) in a body frame (x forward, y left, z up) that looks the same way."""


def transform(rotation: ArrayLike, translation: ArrayLike) -> Matrix:
    """(4, 4) transform from a (3, 3) rotation and a (3,) translation in metres."""
    T = np.eye(4)
    T[:3, :3] = np.asarray(rotation, dtype=np.float64)
    T[:3, 3] = np.asarray(translation, dtype=np.float64)
    return T


def inverse(T: ArrayLike) -> Matrix:
    """Inverse of rigid transforms (..., 4, 4): the transposed rotation, so that rounding never breaks it."""
    T = np.asarray(T, dtype=np.float64)
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    result = np.zeros_like(T)
    result[..., :3, :3] = R_inverse
    result[..., :3, 3] = -(R_inverse @ T[..., :3, 3, None])[..., 0]
    result[..., 3, 3] = 1.0
    return result


def apply(T: ArrayLike, points: ArrayLike) -> Matrix:
    """Points (..., 3) mapped by one transform (4, 4)."""
    T = np.asarray(T, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ T[:3, :3].T + T[:3, 3]


def from_quaternion(x: float, y: float, z: float, w: float) -> Matrix:
    """(3, 3) rotation of a quaternion in ROS order, normalised here.

    Raises InputError when it is not finite or all zero (an unset message field).
    """
    norm = np.sqrt(x * x + y * y + z * z + w * w)
    if not np.isfinite(norm) or norm < 1e-6:
        raise InputError(f"Quaternion ({x}, {y}, {z}, {w}) is not a rotation; fill in the orientation of its message.")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def to_quaternion(R: ArrayLike) -> Matrix:
    """(4,) unit quaternion x, y, z, w (w >= 0) of a (3, 3) rotation."""
    R = np.asarray(R, dtype=np.float64)
    xx, yy, zz = R[0, 0], R[1, 1], R[2, 2]
    # Four times the outer product of the quaternion with itself; its largest column is the best conditioned one.
    outer = np.array(
        [
            [1 + xx - yy - zz, R[0, 1] + R[1, 0], R[0, 2] + R[2, 0], R[2, 1] - R[1, 2]],
            [R[0, 1] + R[1, 0], 1 - xx + yy - zz, R[1, 2] + R[2, 1], R[0, 2] - R[2, 0]],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], 1 - xx - yy + zz, R[1, 0] - R[0, 1]],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + xx + yy + zz],
        ]
    )
    column = outer[:, int(np.argmax(np.diagonal(outer)))]
    quaternion = column / np.linalg.norm(column)
    return -quaternion if quaternion[3] < 0 else quaternion


def slerp(R_start: ArrayLike, R_end: ArrayLike, fraction: float) -> Matrix:
    """(3, 3) rotation at `fraction` (0 to 1) of the shorter way from one rotation to another."""
    start, end = to_quaternion(R_start), to_quaternion(R_end)
    cosine = float(start @ end)
    if cosine < 0.0:
        end, cosine = -end, -cosine
    angle = np.arctan2(np.linalg.norm(end - cosine * start), cosine)
    if angle < 1e-9:
        blended = (1.0 - fraction) * start + fraction * end
    else:
        blended = (np.sin((1.0 - fraction) * angle) * start + np.sin(fraction * angle) * end) / np.sin(angle)
    return from_quaternion(*blended)


def rotation_z(yaw_rad: float) -> Matrix:
    """(3, 3) rotation about z, counter-clockwise seen from above."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rpy(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Matrix:
    """(3, 3) rotation Rz(yaw) · Ry(pitch) · Rx(roll), the fixed-axis convention of ROS (REP-103)."""
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    cp, sp = np.cos(pitch_rad), np.sin(pitch_rad)
    Rx = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    Ry = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    return rotation_z(yaw_rad) @ Ry @ Rx


def yaw_of(R: ArrayLike) -> float:
    """Yaw (radians, counter-clockwise from the x axis) of a (3, 3) rotation or (4, 4) transform."""
    R = np.asarray(R, dtype=np.float64)
    return float(np.arctan2(R[1, 0], R[0, 0]))


def level_rotation(R_world_base: ArrayLike) -> Matrix:
    """(3, 3) R_level_base: roll and pitch of the body in a gravity-aligned frame with the body's yaw.

    `R_world_base` is the body's orientation in any frame whose z axis points up (map, odom, an IMU's world).
    """
    R_world_base = np.asarray(R_world_base, dtype=np.float64)[:3, :3]
    return rotation_z(-yaw_of(R_world_base)) @ R_world_base
