"""A sliding window over time: ground cells of the last metres, carried by odometry to where the vehicle is now.

To the solver a past moment is what another camera is: more cells in one gravity-aligned body frame. What is kept of a
moment is its strongest cells, so that nothing is encoded twice. A cell counts the less, the more odometry may have
drifted since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cross_view_loc.geometry.transforms import Matrix, yaw_of
from cross_view_loc.matching.consensus import GroundCells
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.matching.ground import GroundObservation
from cross_view_loc.types import Frame

CELLS_KEPT = 600
"""Of a past moment's coarse cells, and twice as many fine ones: they carry nearly all of its weight."""
USUAL_RANGE_M = 15.0
"""At which a drift of heading is counted as one of place."""
DRIFT_M_PER_S = 0.01
"""Of odometry with the time alone, also of a vehicle that stands."""
STALE_STD_M = 2 * CELL_M
"""Odometry this uncertain only smears."""


@dataclass(frozen=True)
class WindowSettings:
    """How far back a window reaches."""

    frames: int = 1
    """Moments at most, the present one included; 1: no past."""
    length_m: float = 20.0
    """Way at most from the oldest moment to now."""
    spacing_m: float = 2.0
    """Way at least between two kept moments: nearer ones see the same again."""
    drift_share: float = 0.03
    """Standard deviation of odometry's way, as a share of it."""
    yaw_drift_rad_per_m: float = math.radians(0.1)
    """Standard deviation of odometry's heading per metre of way."""


@dataclass(frozen=True)
class _Moment:
    stamp_ns: int
    pose: tuple[float, float, float]
    """x, y, yaw of the level body frame in the odometry's frame."""
    way_m: float
    """Driven since the window began."""
    cells: GroundCells
    fine: GroundCells
    views: int


class GroundWindow:
    """The last moments; `join` adds them to the present one. One vehicle, one thread."""

    def __init__(self, settings: WindowSettings | None = None) -> None:
        self.settings = settings or WindowSettings()
        self._past: list[_Moment] = []
        self._last: tuple[int, tuple[float, float, float], float] | None = None
        """Stamp, pose and way of the newest moment, kept or not."""

    @property
    def reach_m(self) -> float:
        """Distance from here to the farthest kept moment; 0 without any."""
        if self._last is None:
            return 0.0
        x, y, _ = self._last[1]
        return max((math.hypot(past.pose[0] - x, past.pose[1] - y) for past in self._past), default=0.0)

    def clear(self) -> None:
        """Forget the past."""
        self._past.clear()
        self._last = None

    def join(self, frames: Sequence[Frame], now: GroundObservation) -> GroundObservation:
        """The observation of one moment's frames with the cells of the moments before it, in the present body frame.

        Without `T_odom_base` in the first frame there is no past, and a stamp before the last one's begins a new
        window. The same moment may be joined again, for another search.
        """
        T_odom_base, stamp_ns = frames[0].T_odom_base, frames[0].stamp_ns
        if self.settings.frames < 2 or T_odom_base is None:
            self.clear()
            return now
        if self._last is not None and stamp_ns < self._last[0]:
            self.clear()
        pose = (float(T_odom_base[0, 3]), float(T_odom_base[1, 3]), yaw_of(T_odom_base))
        way_m = 0.0
        if self._last is not None:
            way_m = self._last[2] + math.hypot(pose[0] - self._last[1][0], pose[1] - self._last[1][1])
        earlier = [past for past in self._past if past.stamp_ns < stamp_ns][1 - self.settings.frames :]
        self._last = stamp_ns, pose, way_m
        carried = [
            (past, trust)
            for past in earlier
            if way_m - past.way_m <= self.settings.length_m and (trust := self._trust(past, stamp_ns, way_m)) > 0.0
        ]
        self._past = [past for past, _ in carried]
        joined = _joined(now, [(past, _motion(past.pose, pose), trust) for past, trust in carried])
        if not self._past or way_m - self._past[-1].way_m >= self.settings.spacing_m:
            cells, fine = now.cells.strongest(CELLS_KEPT), now.fine.strongest(2 * CELLS_KEPT)
            # One more than is used: were the same moment joined again, it would not be its own past.
            self._past.append(_Moment(stamp_ns, pose, way_m, cells, fine, now.views))
        return joined

    def _trust(self, past: _Moment, stamp_ns: int, way_m: float) -> float:
        """Weight of a past moment's cells: what is left of a peak one cell wide after odometry's drift blurs it."""
        way = way_m - past.way_m
        drift_m = self.settings.drift_share * way + DRIFT_M_PER_S * (stamp_ns - past.stamp_ns) / 1e9
        turned_m = self.settings.yaw_drift_rad_per_m * way * USUAL_RANGE_M
        std_m = math.hypot(drift_m, turned_m)
        return 0.0 if std_m > STALE_STD_M else 1.0 / (1.0 + (std_m / CELL_M) ** 2)


def _motion(past: tuple[float, float, float], now: tuple[float, float, float]) -> Matrix:
    """(2, 3) rotation and translation that take points of the past body frame to the present one."""
    c, s = math.cos(now[2]), math.sin(now[2])
    d_x, d_y = past[0] - now[0], past[1] - now[1]
    turn = past[2] - now[2]
    cos, sin = math.cos(turn), math.sin(turn)
    return np.array([[cos, -sin, c * d_x + s * d_y], [sin, cos, -s * d_x + c * d_y]])


def _joined(now: GroundObservation, carried: Sequence[tuple[_Moment, Matrix, float]]) -> GroundObservation:
    if not carried:
        return now
    cells = _concatenated([now.cells, *(_moved(past.cells, motion, trust) for past, motion, trust in carried)])
    fine = _concatenated([now.fine, *(_moved(past.fine, motion, trust) for past, motion, trust in carried)])
    past_count = len(cells.weight) - len(now.cells.weight)
    return replace(
        now,
        cells=cells,
        fine=fine,
        frame_index=np.concatenate([now.frame_index, np.full(past_count, -1)]),
        pixels=np.concatenate([now.pixels, np.full((past_count, 2), np.nan)]),
        views=now.views + sum(past.views for past, _, _ in carried),
    )


def _moved(cells: GroundCells, motion: Matrix, trust: float) -> GroundCells:
    turn = torch.from_numpy(motion).to(cells.points_body)
    origin = turn[:, 2].expand(len(cells.weight), 2)
    return GroundCells(cells.descriptors, cells.weight * trust, cells.points_body @ turn[:, :2].T + origin, origin)


def _concatenated(parts: Sequence[GroundCells]) -> GroundCells:
    def origins(part: GroundCells) -> Tensor:
        return torch.zeros_like(part.points_body) if part.origins_body is None else part.origins_body

    return GroundCells(
        torch.cat([part.descriptors for part in parts]),
        torch.cat([part.weight for part in parts]),
        torch.cat([part.points_body for part in parts]),
        torch.cat([origins(part) for part in parts]),
    )
