"""Planar estimates in the layouts of ROS messages, without ROS: what is not estimated is of unknown variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNKNOWN_VARIANCE = 1e6
"""Of z (m²), roll and pitch (rad²), which are not estimated: a consumer that fuses them anyway learns nothing."""


def covariance_rows(covariance: NDArray[np.float64]) -> list[float]:
    """36 numbers, row by row over x y z roll pitch yaw, of a (3, 3) covariance of x, y, yaw."""
    full = np.diag([0.0, 0.0, UNKNOWN_VARIANCE, UNKNOWN_VARIANCE, UNKNOWN_VARIANCE, 0.0])
    x_y_yaw = [0, 1, 5]
    full[np.ix_(x_y_yaw, x_y_yaw)] = covariance
    return [float(value) for value in full.ravel()]


def position_covariance_rows(covariance: NDArray[np.float64]) -> list[float]:
    """9 numbers, row by row over east north up, of a (3, 3) covariance of x, y, yaw: as a NavSatFix has them."""
    full = np.diag([0.0, 0.0, UNKNOWN_VARIANCE])
    full[:2, :2] = covariance[:2, :2]
    return [float(value) for value in full.ravel()]


def unknown_twist_rows() -> list[float]:
    """36 numbers: the covariance of a twist that is not estimated."""
    return [float(value) for value in (np.eye(6) * UNKNOWN_VARIANCE).ravel()]
