"""What the report's map and charts draw: a column per quantity, an entry per image; None where there is nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.results import FrameRecord, grouped
from cross_view_loc.evaluation.metrics import CHI2_95_3DOF, Truth, chi2_3dof_cdf, frame_error
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline
from cross_view_loc.types import Estimate, Prior

Array = NDArray[np.float64]
Number = float | None

CHI2_95_2D = 5.991
"""The 95 % quantile of a chi-squared variable of two degrees of freedom."""
MOST_FRAMES = 4000
"""Drawn one by one; of longer drives every second, third, … image is. Figures and CDFs are over all of them."""
STATUSES = ("accepted", "refused", "skipped")


@dataclass(frozen=True)
class Residual:
    """An estimate minus what it is held against, in that one's vehicle frame: the truth, or else the prior."""

    position_m: float
    lateral_m: float
    longitudinal_m: float
    heading_deg: Number
    distance2: Number
    """Squared Mahalanobis distance: three degrees of freedom against truth, two against a prior of known deviation."""


def residual(record: FrameRecord, place: Truth | None) -> Residual | None:
    """Of an estimate against `place`, or against its prior where that is None; None where there is neither."""
    estimate = record.estimate
    if estimate is None:
        return None
    if place is not None:
        error = frame_error(estimate, place)
        return Residual(error.position_m, error.lateral_m, error.longitudinal_m, error.heading_deg, error.nees)
    prior = record.prior
    if prior is None:
        return None
    knows_heading = prior.yaw_range_rad < math.pi
    yaw_rad = prior.yaw_rad if knows_heading else estimate.yaw_rad
    error = frame_error(estimate, Truth(prior.east_m, prior.north_m, yaw_rad))
    return Residual(
        error.position_m,
        error.lateral_m,
        error.longitudinal_m,
        error.heading_deg if knows_heading else None,
        _prior_distance2(estimate, prior),
    )


def frame_columns(records: Sequence[FrameRecord], truth: Timeline[Matrix] | None) -> dict[str, Any]:
    """Columns over (a regular choice of) the images, ready for JSON.

    Positions are map metres from `offset_m`, times seconds from the first image, ellipses 95 % (semi-axes in metres,
    direction of the major one counter-clockwise from east), `lat`, `lon`, `head` the residuals and `s_…` their standard
    deviations in the vehicle's frame.
    """
    step = max(1, math.ceil(len(records) / MOST_FRAMES))
    reasons: dict[str, int] = {}
    rows = [_row(record, truth, records[0].stamp_ns, reasons) for record in records[::step]]
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return {"step": step, "count": len(rows), "reasons": list(reasons), **columns}


COLUMNS = (
    "stamp", "t", "status", "reason", "e", "n", "yaw", "major", "minor", "angle", "conf", "inlier", "seconds",
    "pe", "pn", "pstd", "te", "tn", "tyaw", "pos", "lat", "lon", "head", "d2", "prior_err", "s_lat", "s_lon", "s_head",
)  # fmt: skip


def _row(record: FrameRecord, truth: Timeline[Matrix] | None, first_ns: int, reasons: dict[str, int]) -> dict[str, Any]:
    """`reasons` collects every sentence once; the row has its number."""
    row: dict[str, Any] = {
        "stamp": str(record.stamp_ns),  # JavaScript's numbers end at 2^53
        "t": _rounded((record.stamp_ns - first_ns) / 1e9),
        "status": STATUSES.index(record.status),
        "reason": reasons.setdefault(record.reason, len(reasons)) if record.reason else None,
    }
    place = None if truth is None else truth_at(truth, record.stamp_ns)
    if place is not None:
        row |= {"te": _rounded(place.east_m), "tn": _rounded(place.north_m), "tyaw": _rounded(place.yaw_rad, 4)}
    prior, estimate = record.prior, record.estimate
    if prior is not None:
        row |= {"pe": _rounded(prior.east_m), "pn": _rounded(prior.north_m), "pstd": _rounded(prior.position_std_m)}
        if place is not None:
            row["prior_err"] = _rounded(math.hypot(prior.east_m - place.east_m, prior.north_m - place.north_m))
    if estimate is None:
        return row
    major, minor, angle = ellipse_95(estimate.covariance)
    row |= {
        "e": _rounded(estimate.east_m), "n": _rounded(estimate.north_m), "yaw": _rounded(estimate.yaw_rad, 4),
        "major": _rounded(major), "minor": _rounded(minor), "angle": _rounded(angle),
        "conf": _rounded(estimate.confidence), "inlier": _rounded(estimate.inlier_ratio),
        "seconds": _rounded(record.seconds, 4),
    }  # fmt: skip
    against = residual(record, place) if truth is None or place is not None else None
    if against is None:
        return row
    lateral, longitudinal = deviations(estimate)
    extra = 0.0 if truth is not None else (prior.position_std_m or math.nan) if prior is not None else math.nan
    return row | {
        "pos": _rounded(against.position_m),
        "lat": _rounded(against.lateral_m), "lon": _rounded(against.longitudinal_m),
        "head": _rounded(against.heading_deg), "d2": _rounded(against.distance2, 2),
        "s_lat": _rounded(math.hypot(lateral, extra)), "s_lon": _rounded(math.hypot(longitudinal, extra)),
        "s_head": _rounded(math.degrees(math.sqrt(max(float(estimate.covariance[2, 2]), 0.0))) if truth else None),
    }  # fmt: skip


def distributions(records: Sequence[FrameRecord], truth: Timeline[Matrix] | None) -> dict[str, Any]:
    """Over all images: quantiles of the position's residuals, and how often the reported ellipses held them."""
    everything, accepted, priors, distances = [], [], [], []
    for record in records:
        place = None if truth is None else truth_at(truth, record.stamp_ns)
        if truth is not None and place is None:
            continue
        if place is not None and record.prior is not None:
            priors.append(math.hypot(record.prior.east_m - place.east_m, record.prior.north_m - place.north_m))
        against = residual(record, place)
        if against is None:
            continue
        everything.append(against.position_m)
        if record.status == "accepted":
            accepted.append(against.position_m)
            if against.distance2 is not None:
                distances.append(against.distance2)
    limit = CHI2_95_2D if truth is None else CHI2_95_3DOF
    return {
        "all": _quantiles(everything),
        "accepted": _quantiles(accepted),
        "prior": _quantiles(priors),
        "dof": 2 if truth is None else 3,
        "limit95": limit,
        "held": len(distances),
        "within95": _rounded(float(np.mean(np.array(distances) <= limit))) if distances else None,
        "coverage": _coverage(np.array(distances), 2 if truth is None else 3),
    }


def grouped_reasons(records: Iterable[FrameRecord]) -> list[dict[str, Any]]:
    """Reasons for refusing and skipping, most frequent first; sentences that differ only in numbers are one."""
    kinds: dict[str, Counter[str]] = {}
    for record in records:
        if record.reason:
            kinds.setdefault(record.status, Counter())[record.reason] += 1
    rows = [
        {"status": status, "reason": reason, "count": count}
        for status, kind in kinds.items()
        for reason, count in grouped(kind).items()
    ]
    return sorted(rows, key=lambda row: -row["count"])


def ellipse_95(covariance: Array) -> tuple[float, float, float]:
    """Semi-axes (m) and the major one's direction (rad, from east) of the position's 95 % ellipse."""
    values, vectors = np.linalg.eigh(covariance[:2, :2])
    minor, major = np.sqrt(CHI2_95_2D * np.clip(values, 0.0, None))
    return float(major), float(minor), float(np.arctan2(vectors[1, 1], vectors[0, 1]))


def deviations(estimate: Estimate) -> tuple[float, float]:
    """Standard deviations (m) to the left and forward of the estimated heading."""
    c, s = math.cos(estimate.yaw_rad), math.sin(estimate.yaw_rad)
    left, forward = np.array([-s, c]), np.array([c, s])
    position = estimate.covariance[:2, :2]
    return math.sqrt(max(float(left @ position @ left), 0.0)), math.sqrt(max(float(forward @ position @ forward), 0.0))


def _prior_distance2(estimate: Estimate, prior: Prior) -> Number:
    if prior.position_std_m is None:
        return None
    difference = np.array([estimate.east_m - prior.east_m, estimate.north_m - prior.north_m])
    covariance = estimate.covariance[:2, :2] + np.eye(2) * prior.position_std_m**2
    return float(difference @ np.linalg.solve(covariance, difference))


def _coverage(distances: Array, dof: int) -> list[Number]:
    """Share of squared distances within the region of probability 0, 0.02, …, 1; they should be equal."""
    if not len(distances):
        return []
    below = chi2_3dof_cdf(distances) if dof == 3 else 1.0 - np.exp(-distances / 2.0)
    return [_rounded(float(np.mean(below <= p))) for p in np.linspace(0.0, 1.0, 51)]


def _quantiles(values: Sequence[float]) -> list[Number]:
    """At 0, 0.01, …, 1."""
    return [_rounded(float(q)) for q in np.quantile(values, np.linspace(0.0, 1.0, 101))] if values else []


def _rounded(value: float | None, digits: int = 3) -> Number:
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
