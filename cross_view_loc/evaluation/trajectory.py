"""Errors of a whole trajectory by the definitions of Sturm et al. (IROS 2012), in the plane, as `evo` prints them.

ATE: distance of each pose from the true one, as it is or after the rigid motion of the whole trajectory that fits best
(Umeyama 1991). RPE: difference of the motions between successive poses, which says how smooth an estimate is whatever
its offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.evaluation.metrics import Truth
from cross_view_loc.types import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrajectoryError:
    """Root mean squares over a trajectory; NaN where there are too few poses (one for ATE, two for the others)."""

    ate_m: float
    ate_aligned_m: float
    rpe_m: float
    rpe_deg: float

    def row(self) -> dict[str, float | None]:
        """For the row of figures; None in place of NaN."""
        named = {
            "ate_rmse_m": self.ate_m,
            "ate_aligned_rmse_m": self.ate_aligned_m,
            "rpe_rmse_m": self.rpe_m,
            "rpe_rmse_deg": self.rpe_deg,
        }
        return {name: round(value, 6) if np.isfinite(value) else None for name, value in named.items()}


def trajectory_error(estimates: Sequence[Estimate], truths: Sequence[Truth]) -> TrajectoryError:
    """Errors of estimates against the truth at the same stamps, in order of time."""
    found = np.array([[pose.east_m, pose.north_m, pose.yaw_rad] for pose in estimates], dtype=np.float64).reshape(-1, 3)
    true = np.array([[pose.east_m, pose.north_m, pose.yaw_rad] for pose in truths], dtype=np.float64).reshape(-1, 3)
    if len(found) != len(true):
        raise ValueError(f"{len(found)} estimates cannot be compared with {len(true)} truths")
    if len(found) == 0:
        return TrajectoryError(*(float("nan"),) * 4)
    ate_m = _rms(np.linalg.norm(found[:, :2] - true[:, :2], axis=1))
    if len(found) == 1:
        return TrajectoryError(ate_m, *(float("nan"),) * 3)
    aligned = rigid_fit(found[:, :2], true[:, :2])
    motion, true_motion = _motions(found), _motions(true)
    turn = true_motion[:, 2]
    difference = _turned(motion[:, :2] - true_motion[:, :2], -turn)
    heading = np.degrees(np.abs(np.angle(np.exp(1j * (motion[:, 2] - turn)))))
    return TrajectoryError(
        ate_m,
        _rms(np.linalg.norm(aligned - true[:, :2], axis=1)),
        _rms(np.linalg.norm(difference, axis=1)),
        _rms(heading),
    )


def rigid_fit(source: Array, target: Array) -> Array:
    """(N, 2) `source` after the rotation and shift that bring it nearest to `target` (N, 2) in least squares."""
    middle, goal = source.mean(0), target.mean(0)
    p, q = source - middle, target - goal
    yaw = np.arctan2((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum(), (p * q).sum())
    return _turned(p, np.full(len(p), yaw)) + goal


def _motions(poses: Array) -> Array:
    """(N − 1, 3) each pose in the frame of the one before."""
    step = np.diff(poses, axis=0)
    return np.column_stack([_turned(step[:, :2], -poses[:-1, 2]), step[:, 2]])


def _turned(points: Array, yaw_rad: Array) -> Array:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.column_stack([c * points[:, 0] - s * points[:, 1], s * points[:, 0] + c * points[:, 1]])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
