"""The text files of KITTI raw: calibration of a day, poses of a drive, stamps.

Formats: "Vision meets Robotics: The KITTI Dataset", Geiger et al. 2013, and its development kit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

IMAGE_WIDTH, IMAGE_HEIGHT = 1242, 375
FOCAL_PX, CX_PX, CY_PX = 721.5377, 609.5593, 172.854
"""Of every rectified camera; KITTI counts pixel centres as integers."""
ANTENNA_HEIGHT_M = 0.93
"""Of the GPS/IMU unit above the road; oxts files give its place."""
CAMERA_IN_ANTENNA_M = (1.08, -0.26, 0.72)
"""Of the left colour camera: ahead, left and up; 1.65 m above the road."""
STEREO_M = (0.0, 0.54, -0.06, 0.48)
"""How far cameras 0 to 3 are to the right of camera 0."""
_VELODYNE_IN_ANTENNA_M = (0.81, -0.32, 0.8)
_CAMERA0_IN_VELODYNE_M = (0.27, 0.0, -0.08)
GRAVITY_MPS2 = 9.81
ACCURACY_AND_STATUS = "0.02 0.015 4 10 4 4 0"
"""Position and velocity accuracy in metres and m/s, then navigation status, satellites and three modes."""


def camera_calibration() -> str:
    """calib_cam_to_cam.txt: perfect cameras, already rectified, in a row."""
    lines = ["calib_time: 01-Jan-2001 12:00:00", f"corner_dist: {_numbers([0.0995])}"]
    size = _numbers([IMAGE_WIDTH, IMAGE_HEIGHT])
    intrinsics = [FOCAL_PX, 0, CX_PX, 0, FOCAL_PX, CY_PX, 0, 0, 1]
    for index, right_m in enumerate(STEREO_M):
        projection = [FOCAL_PX, 0, CX_PX, -FOCAL_PX * right_m, 0, FOCAL_PX, CY_PX, 0, 0, 0, 1, 0]
        values = {
            "S": size,
            "K": _numbers(intrinsics),
            "D": _numbers([0.0] * 5),
            "R": _numbers(np.eye(3).ravel()),
            "T": _numbers([-right_m, 0, 0]),  # takes camera 0's coordinates to this camera's
            "S_rect": size,
            "R_rect": _numbers(np.eye(3).ravel()),
            "P_rect": _numbers(projection),
        }
        lines += [f"{name}_{index:02d}: {text}" for name, text in values.items()]
    return "\n".join(lines) + "\n"


def imu_to_velodyne_calibration() -> str:
    """calib_imu_to_velo.txt: takes coordinates of the GPS/IMU unit (x ahead, y left, z up) to the laser's."""
    offset = [-value for value in _VELODYNE_IN_ANTENNA_M]
    return f"calib_time: 01-Jan-2001 12:00:00\nR: {_numbers(np.eye(3).ravel())}\nT: {_numbers(offset)}\n"


def velodyne_to_camera_calibration() -> str:
    """calib_velo_to_cam.txt: takes the laser's coordinates to those of camera 0 (x right, y down, z ahead)."""
    rotation = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    offset = -rotation @ np.array(_CAMERA0_IN_VELODYNE_M)
    return (
        f"calib_time: 01-Jan-2001 12:00:00\nR: {_numbers(rotation.ravel())}\nT: {_numbers(offset)}\n"
        f"delta_f: {_numbers([0, 0])}\ndelta_c: {_numbers([0, 0])}\n"
    )


@dataclass(frozen=True)
class Motion:
    """The vehicle at one moment, in the map's axes (east, north, up)."""

    R_map_base: Array
    velocity_map: Array
    """(3,) m/s."""
    acceleration_map: Array
    """(3,) m/s²."""
    rate_base: Array
    """(3,) rad/s about the vehicle's x (ahead), y (left), z (up)."""


def oxts_line(latitude_deg: float, longitude_deg: float, height_m: float, motion: Motion) -> str:
    """One oxts/data file: 30 numbers on a line.

    Latitude, longitude, height; roll, pitch, yaw (left side up, front down, counter-clockwise from east); velocity
    north, east, ahead, left, up; acceleration along x, y, z and ahead, left, up; rates about the same six axes;
    accuracies and status. Accelerations are what accelerometers feel: 9.81 m/s² up at rest. "Ahead" and "left" lie in
    the horizontal plane, x and y in the vehicle.
    """
    R = motion.R_map_base
    roll, pitch, yaw = math.atan2(R[2, 1], R[2, 2]), math.asin(-R[2, 0]), math.atan2(R[1, 0], R[0, 0])
    c, s = math.cos(yaw), math.sin(yaw)
    R_level_map = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    felt = motion.acceleration_map + np.array([0.0, 0.0, GRAVITY_MPS2])
    east, north, _ = motion.velocity_map
    values = [
        latitude_deg,
        longitude_deg,
        height_m,
        roll,
        pitch,
        yaw,
        north,
        east,
        *(R_level_map @ motion.velocity_map),
        *(R.T @ felt),
        *(R_level_map @ felt),
        *motion.rate_base,
        *(R_level_map @ R @ motion.rate_base),
    ]
    return " ".join(f"{float(value):.14g}" for value in values) + f" {ACCURACY_AND_STATUS}\n"


def stamps_text(times_s: list[float]) -> str:
    """timestamps.txt: one moment of the day a line, nine digits after the second."""
    noon = datetime(2001, 1, 1, 12)
    lines = []
    for time_s in times_s:
        seconds, nanoseconds = divmod(round(time_s * 1e9), 1_000_000_000)
        lines.append(f"{noon + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{nanoseconds:09d}")
    return "\n".join(lines) + "\n"


def _numbers(values: object) -> str:
    return " ".join(f"{float(value):.6e}" for value in np.asarray(values, dtype=np.float64).ravel())
