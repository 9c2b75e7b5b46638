"""Errors of estimates against truth, by the field's definitions, and the row of figures every command prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.types import Estimate

CHI2_50_3DOF = 2.365973884375338
CHI2_95_3DOF = 7.814727903251179
CHI2_99_3DOF = 11.344866730144373
"""Quantiles of the chi-squared distribution with three degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4): the
squared Mahalanobis distance of a Gaussian error (east, north, yaw) under its own covariance lies below them in 50, 95
and 99 % of all cases (Bar-Shalom, Li, Kirubarajan 2001, section 5.4)."""

RIGHT_MODE_M, RIGHT_MODE_DEG = 2.5, 5.0
"""An estimate this near to the truth is in the right mode: what `Estimate.confidence` is the probability of."""


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
    confidence: float = math.nan
    """What the estimate claimed: the probability that it lies in the right mode, 0 to 1."""

    @property
    def is_right_mode(self) -> bool:
        """Whether the truth lies in the mode that the estimate chose."""
        return self.position_m <= RIGHT_MODE_M and abs(self.heading_deg) <= RIGHT_MODE_DEG


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
        confidence=estimate.confidence,
    )


def chi2_3dof_cdf(nees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a chi-squared variable of three degrees of freedom lies below (N,) values, in closed form.

    erf(√(x/2)) − √(2x/π)·exp(−x/2), the Maxwell–Boltzmann distribution of √x.
    """
    x = np.clip(np.asarray(nees, dtype=np.float64), 0.0, None)
    tail = np.sqrt(2.0 * x / math.pi) * np.exp(-x / 2.0)
    return np.array([math.erf(math.sqrt(value / 2.0)) for value in x]) - tail


def summarize(errors: Sequence[FrameError], **setting: object) -> dict[str, object]:
    """One row of figures over all frames, whether accepted or not; `setting` names what was measured.

    `coverage_50`, `coverage_95`, `coverage_99` (shares within the 50, 95 and 99 % ellipsoids of the reported
    covariance, nominally 0.5, 0.95, 0.99) and `nees_per_dof` (mean squared Mahalanobis distance over three degrees of
    freedom, nominally 1) are over accepted frames, as are the figures that start with `accepted_`. `recall_2m_5deg`
    counts frames within both limits; `right_mode` those within 2.5 m and 5°, which the mean of the confidences should
    equal. A figure without data is None.
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
    both = np.array([error.position_m <= 2 and abs(error.heading_deg) <= 5 for error in errors], dtype=bool)
    return row | {
        "recall_2m_5deg": _mean(both),
        "right_mode": _mean(np.array([error.is_right_mode for error in errors], dtype=bool)),
        "confidence_mean": _mean(_column(errors, "confidence")),
        "accepted_position_median_m": _quantile(accepted, 0.5),
        "accepted_position_p95_m": _quantile(accepted, 0.95),
        "accepted_recall_2m": _mean(accepted <= 2),
        "accepted_beyond_3m": _mean(accepted > 3),
        "accepted_beyond_5m": _mean(accepted > 5),
        "prior_position_median_m": _quantile(_column(errors, "prior_position_m"), 0.5),
        "coverage_50": _mean(nees <= CHI2_50_3DOF),
        "coverage_95": _mean(nees <= CHI2_95_3DOF),
        "coverage_99": _mean(nees <= CHI2_99_3DOF),
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
