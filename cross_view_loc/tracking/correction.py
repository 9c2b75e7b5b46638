"""How the published map → odom follows the estimates: at once, or no faster than a speed and a turn rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cross_view_loc.geometry.transforms import Matrix, inverse, rotation_z, transform, yaw_of
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.tracking.motion import wrapped


@dataclass(frozen=True)
class CorrectionLimits:
    """How fast a correction may move the vehicle in the map, beside its own motion."""

    speed_m_per_s: float = 1.0
    yaw_rate_rad_per_s: float = math.radians(5.0)
    jump_m: float = 5.0
    """A correction larger than this is made at once: gliding through houses helps nobody."""


class Correction:
    """The transform that is shown and the one the estimates ask for; `limits` None shows that one at once.

    A turn of odom about its own origin swings a vehicle far from there sideways. So it is the vehicle's pose in the map
    that is moved, at limited speed and turn rate, and map → odom follows from it.
    """

    def __init__(self, limits: CorrectionLimits | None = None) -> None:
        self.limits = limits
        self.forget()

    def forget(self) -> None:
        """Until the next `aim` there is nothing to show."""
        self._shown: Matrix | None = None
        self._target: Matrix | None = None
        self._stamp_ns = 0

    def aim(self, T_map_odom: Matrix) -> None:
        """What an estimate asks for, (4, 4); the first one is shown at once."""
        self._target = T_map_odom
        if self._shown is None:
            self._shown = T_map_odom

    def at(self, stamp_ns: int, T_odom_base: Matrix) -> Matrix | None:
        """(4, 4) T_map_odom to show at the stamp, with the vehicle at `T_odom_base`; None before the first `aim`."""
        if self._target is None or self._shown is None:
            return None
        seconds = max(stamp_ns - self._stamp_ns, 0) / NS_PER_S if self._stamp_ns else 0.0
        self._stamp_ns = max(stamp_ns, self._stamp_ns)
        if self.limits is None:
            self._shown = self._target
            return self._shown
        shown, wanted = self._shown @ T_odom_base, self._target @ T_odom_base
        way = wanted[:3, 3] - shown[:3, 3]
        turn_rad = wrapped(yaw_of(wanted) - yaw_of(shown))
        way_m = float(np.linalg.norm(way))
        slowest = max(
            way_m / max(self.limits.speed_m_per_s * seconds, 1e-12),
            abs(turn_rad) / max(self.limits.yaw_rate_rad_per_s * seconds, 1e-12),
        )
        if slowest <= 1.0 or way_m > self.limits.jump_m:
            self._shown = self._target
            return self._shown
        # One share for both, so that they arrive together and the vehicle glides straight to its place.
        rotation = rotation_z(turn_rad / slowest) @ shown[:3, :3]
        self._shown = transform(rotation, shown[:3, 3] + way / slowest) @ inverse(T_odom_base)
        return self._shown
