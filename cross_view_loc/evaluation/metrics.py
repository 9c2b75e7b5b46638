"""Errors of estimates against truth, by the field's definitions, and the row of figures every command prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.types import Estimate

CHI2_95_3DOF = 7.814727903251179
"""95 % quantile of the chi-squared distribution with three degrees of freedom."""


@dataclass(frozen=True)
class Truth:
    """Where `base_link` really was."""

    east_m: float
    north_m: float
    yaw_rad: float


@dataclass(frozen=True)
class FrameError:
    """One estimate against the truth. Lateral and longitudinal are in the true vehicle frame (left, forward)."""

    position_m: float
    lateral_m: float
    longitudinal_m: float
    heading_deg: float
    """Signed, counter-clockwise positive, in (−180, 180]."""
    nees: float
    """Squared Mahalanobis distance of (east, north, yaw) under the reported covariance."""
    accepted: bool
    prior_position_m: float = math.nan
    seconds: float = math.nan


def frame_error(
    estimate: Estimate, truth: Truth, prior_position_m: float = math.nan, seconds: float = math.nan
) -> FrameError:
    """Error of an estimate; signed components are estimate minus truth."""
    d_east, d_north = estimate.east_m - truth.east_m, estimate.north_m - truth.north_m
    c, s = math.cos(truth.yaw_rad), math.sin(truth.yaw_rad)
    d_yaw = math.remainder(estimate.yaw_rad - truth.yaw_rad, 2 * math.pi)
    difference = np.array([d_east, d_north, d_yaw])
    return FrameError(
        position_m=math.hypot(d_east, d_north),
        lateral_m=-s * d_east + c * d_north,
        longitudinal_m=c * d_east + s * d_north,
        heading_deg=math.degrees(d_yaw),
        nees=float(difference @ np.linalg.solve(estimate.covariance, difference)),
        accepted=estimate.accepted,
        prior_position_m=prior_position_m,
        seconds=seconds,
    )


def summarize(errors: Sequence[FrameError], **setting: object) -> dict[str, object]:
    """One row of figures over all frames, whether accepted or not; `setting` names what was measured.

    `coverage_95` (share within the 95 % ellipsoid, nominally 0.95) and `nees_per_dof` (nominally 1) are over accepted
    frames, as are the figures that start with `accepted_`. A figure without data is None.
    """
    taken = [error for error in errors if error.accepted]
    position = _column(errors, "position_m")
    heading = np.abs(_column(errors, "heading_deg"))
    accepted = _column(taken, "position_m")
    nees = _column(taken, "nees")
    seconds = _column(errors, "seconds")
    row: dict[str, object] = {
        **setting,
        "frames": len(errors),
        "accepted": _rounded(len(taken) / len(errors)) if errors else None,
        "position_median_m": _quantile(position, 0.5),
        "position_mean_m": _mean(position),
        "position_p95_m": _quantile(position, 0.95),
        "lateral_median_m": _quantile(np.abs(_column(errors, "lateral_m")), 0.5),
        "longitudinal_median_m": _quantile(np.abs(_column(errors, "longitudinal_m")), 0.5),
        "heading_median_deg": _quantile(heading, 0.5),
        "heading_mean_deg": _mean(heading),
    }
    row |= {f"recall_{limit}m": _mean(position <= limit) for limit in (1, 2, 3, 5)}
    row |= {f"recall_{limit}deg": _mean(heading <= limit) for limit in (1, 3, 5)}
    return row | {
        "accepted_position_median_m": _quantile(accepted, 0.5),
        "accepted_position_p95_m": _quantile(accepted, 0.95),
        "accepted_recall_2m": _mean(accepted <= 2),
        "accepted_beyond_3m": _mean(accepted > 3),
        "prior_position_median_m": _quantile(_column(errors, "prior_position_m"), 0.5),
        "coverage_95": _mean(nees <= CHI2_95_3DOF),
        "nees_per_dof": _mean(nees / 3),
        "frame_seconds_p50": _quantile(seconds, 0.5),
        "frame_seconds_p95": _quantile(seconds, 0.95),
    }


def _column(errors: Sequence[FrameError], name: str) -> NDArray[np.float64]:
    values = np.array([getattr(error, name) for error in errors], dtype=np.float64)
    return values[np.isfinite(values)]


def _quantile(values: NDArray[np.float64], q: float) -> float | None:
    return _rounded(float(np.quantile(values, q))) if len(values) else None


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return _rounded(float(np.mean(values))) if len(values) else None


def _rounded(value: float) -> float:
    return round(float(value), 4)
