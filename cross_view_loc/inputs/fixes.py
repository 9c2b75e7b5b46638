"""NavSatFix messages to fixes that can be trusted to be numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapOrigin
from cross_view_loc.inputs.stamps import stamp_ns

COVARIANCE_UNKNOWN = 0
STATUS_NO_FIX = -1
"""Jazzy also has -2, "not set": such a driver's positions are taken as they are."""


@dataclass(frozen=True)
class Fix:
    """A position of the GNSS antenna."""

    stamp_ns: int
    latitude_deg: float
    longitude_deg: float
    height_m: float
    """Above the WGS84 ellipsoid; not finite when the receiver does not say."""
    covariance: NDArray[np.float64] | None
    """(2, 2) of east and north in m², None when unknown."""
    frame_id: str = ""
    """Frame of the antenna."""

    @property
    def origin(self) -> MapOrigin:
        """The fix as origin of a map; at height 0 when the receiver does not say how high."""
        return MapOrigin(self.latitude_deg, self.longitude_deg, self.height_m if math.isfinite(self.height_m) else 0.0)

    def std_m(self, floor_m: float) -> float:
        """Standard deviation along the worst horizontal direction, at least `floor_m` (also when unknown)."""
        if self.covariance is None:
            return floor_m
        return max(floor_m, math.sqrt(float(np.linalg.eigvalsh(self.covariance)[-1])))


def read_fix(message: Any) -> Fix:
    """The fix of a sensor_msgs/NavSatFix; a covariance of zeros or NaN counts as unknown.

    Raises InputError when the receiver says it has no fix, or the position is not a place on Earth.
    """
    if int(message.status.status) == STATUS_NO_FIX:
        raise InputError("fix has status NO_FIX; the receiver has no position yet, check antenna and sky view")
    latitude, longitude = float(message.latitude), float(message.longitude)
    if not (abs(latitude) <= 90.0 and abs(longitude) <= 360.0):
        raise InputError(f"fix lies at latitude {latitude}, longitude {longitude}; check the receiver's driver")
    if latitude == 0.0 and longitude == 0.0:
        raise InputError("fix lies at latitude 0, longitude 0 exactly; the receiver has no position yet")
    return Fix(
        stamp_ns=stamp_ns(message),
        latitude_deg=latitude,
        longitude_deg=longitude,
        height_m=float(message.altitude),
        covariance=_horizontal_covariance(message),
        frame_id=str(message.header.frame_id),
    )


def _horizontal_covariance(message: Any) -> NDArray[np.float64] | None:
    if int(message.position_covariance_type) == COVARIANCE_UNKNOWN:
        return None
    covariance = np.asarray(message.position_covariance, dtype=np.float64).reshape(3, 3)[:2, :2]
    if not np.all(np.isfinite(covariance)):
        return None
    covariance = (covariance + covariance.T) / 2.0
    smallest_variance = float(np.linalg.eigvalsh(covariance)[0])
    return covariance if smallest_variance > 0.0 else None
