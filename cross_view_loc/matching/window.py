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


@dataclass(frozen=True)
class _Here:
    """Where the vehicle is now."""

    stamp_ns: int
    pose: tuple[float, float, float]
    way_m: float


class GroundWindow:
    """The last moments. For each new one: `advance`, `join` what is seen now with them, `keep` it for the next.

    One vehicle, one thread. The same moment may be gone through again, for another search.
    """

    def __init__(self, settings: WindowSettings | None = None) -> None:
        self.settings = settings or WindowSettings()
        self._past: list[_Moment] = []
        self._here: _Here | None = None

    @property
    def reach_m(self) -> float:
        """Distance from here to the farthest moment that counts; 0 without any."""
        if self._here is None:
            return 0.0
        x, y, _ = self._here.pose
        return max((math.hypot(past.pose[0] - x, past.pose[1] - y) for past, _ in self._counting()), default=0.0)

    def clear(self) -> None:
        """Forget the past."""
        self._past, self._here = [], None

    def advance(self, frames: Sequence[Frame]) -> bool:
        """Go on to the moment of these frames; True when it is one to keep.

        Without `T_odom_base` in the first frame nothing of the past counts, and a stamp before the last one's begins
        anew.
        """
        T_odom_base, stamp_ns = frames[0].T_odom_base, frames[0].stamp_ns
        if self.settings.frames < 2 or T_odom_base is None:
            self.clear()
            return False
        if self._here is not None and stamp_ns < self._here.stamp_ns:
            self.clear()
        pose = (float(T_odom_base[0, 3]), float(T_odom_base[1, 3]), yaw_of(T_odom_base))
        way_m = 0.0
        if self._here is not None:
            before = self._here.pose
            way_m = self._here.way_m + math.hypot(pose[0] - before[0], pose[1] - before[1])
        self._here = _Here(stamp_ns, pose, way_m)
        self._past = [past for past in self._past if past.stamp_ns < stamp_ns]
        # A moment more than counts is kept: were this one gone through again, the oldest would still be there.
        self._past = [past for past in self._past if self._trust(past) > 0.0][-self.settings.frames :]
        return not self._past or way_m - self._past[-1].way_m >= self.settings.spacing_m

    def join(self, now: GroundObservation) -> GroundObservation:
        """What is seen now with the cells of the moments before it, all in the present level body frame."""
        here = self._here
        return now if here is None else _joined(now, [(past, _motion(past, here), t) for past, t in self._counting()])

    def keep(self, now: GroundObservation) -> None:
        """Let what is seen now count in the moments to come."""
        assert self._here is not None
        here = self._here
        cells, fine = now.cells.strongest(CELLS_KEPT), now.fine.strongest(2 * CELLS_KEPT)
        self._past.append(_Moment(here.stamp_ns, here.pose, here.way_m, cells, fine, now.views))

    def _counting(self) -> list[tuple[_Moment, float]]:
        """The past moments that count in the present one, and how much."""
        if self._here is None:
            return []
        before = [past for past in self._past if past.stamp_ns < self._here.stamp_ns]
        return [(past, self._trust(past)) for past in before[1 - self.settings.frames :]]

    def _trust(self, past: _Moment) -> float:
        """Weight of a past moment's cells: what is left of a peak one cell wide after odometry's drift blurs it."""
        assert self._here is not None
        way = self._here.way_m - past.way_m
        if way > self.settings.length_m:
            return 0.0
        drift_m = self.settings.drift_share * way + DRIFT_M_PER_S * (self._here.stamp_ns - past.stamp_ns) / 1e9
        turned_m = self.settings.yaw_drift_rad_per_m * way * USUAL_RANGE_M
        std_m = math.hypot(drift_m, turned_m)
        return 0.0 if std_m > STALE_STD_M else 1.0 / (1.0 + (std_m / CELL_M) ** 2)


def _motion(past: _Moment, here: _Here) -> Matrix:
    """(2, 3) rotation and translation that take points of the past body frame to the present one."""
    c, s = math.cos(here.pose[2]), math.sin(here.pose[2])
    d_x, d_y = past.pose[0] - here.pose[0], past.pose[1] - here.pose[1]
    turn = past.pose[2] - here.pose[2]
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
