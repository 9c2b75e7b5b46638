"""GNSS: status, what the receiver says of its accuracy against its own scatter, jumps, and truth where there is one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.inputs.fixes import COVARIANCE_UNKNOWN, STATUS_NO_FIX, Fix
from cross_view_loc.inputs.poses import pose_of
from cross_view_loc.inputs.stamps import NS_PER_S, Timeline, blend_transforms, stamp_ns, to_ns
from cross_view_loc.settings import Settings

GROUP = Group("GNSS")
STATUS_NAMES = {-2: "not set", -1: "no fix", 0: "fix", 1: "SBAS", 2: "GBAS (RTK, DGNSS)"}
WINDOW = 7
"""Fixes that one parabola is laid through."""
LEAST_JUMP_M = 5.0
LONGEST_EXCURSION_S = 30.0
FAR_M = 1000.0
"""No receiver errs by that much in the median."""


def fix_findings(found: Survey, topic: str, settings: Settings) -> list[Finding]:
    """What can be said of the fixes by themselves."""
    total = sum(found.fix_statuses.values())
    if not found.fixes:
        reason = found.fix_refusals.most_common(1)[0][0] if found.fix_refusals else "no message could be read"
        return [
            GROUP.fail(
                "fix.valid", f"None of the fixes on {topic} is valid: {reason}.",
                "Record with a GNSS position, outdoors; the search needs one to begin with.", parameter="fix_topic",
            )
        ]  # fmt: skip
    findings = _validity(found, topic, total) + _covariances(found, topic, total) + _age(found, topic, settings)
    east_north, times_s = positions(found.fixes)
    scatter_m = scatter(east_north, times_s)
    findings += _scatter_findings(found, scatter_m, settings)
    jumps = jump_indices(east_north, times_s, scatter_m)
    if len(jumps):
        at_s = (found.fixes[jumps[0]].stamp_ns - found.fixes[0].stamp_ns) / NS_PER_S
        findings.append(
            GROUP.warn(
                "fix.jumps",
                f"Fixes jump {len(jumps)} times by more than {jump_limit_m(scatter_m):.0f} m "
                "against the "
                f"motion before and after, first {at_s:.1f} s after the first fix.",
                "Expect wrong searches there (tunnels, high buildings); raise search_radius_m if they last.",
                parameter="search_radius_m",
                data={"count": len(jumps)},
            )
        )
    length_m = float(np.linalg.norm(np.diff(east_north[:: max(1, len(east_north) // 500)], axis=0), axis=1).sum())
    statuses = ", ".join(
        f"{STATUS_NAMES.get(status, status)} {count / total:.0%}" for status, count in sorted(_by_status(found).items())
    )
    altitude = "" if all(math.isfinite(fix.height_m) for fix in found.fixes) else "; altitude is NaN (not needed)"
    findings.append(
        GROUP.ok(
            "fix.status",
            f"{topic}: status {statuses}; about {length_m:.0f} m driven, "
            f"first fix at {found.fixes[0].latitude_deg:.6f}, {found.fixes[0].longitude_deg:.6f}{altitude}.",
            data={"length_m": round(length_m, 1)},
        )
    )
    return findings


def _by_status(found: Survey) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row, count in found.fix_statuses.items():
        counts[row.status] = counts.get(row.status, 0) + count
    return counts


def _validity(found: Survey, topic: str, total: int) -> list[Finding]:
    refused = sum(found.fix_refusals.values())
    if not refused:
        return []
    reason, count = found.fix_refusals.most_common(1)[0]
    make = GROUP.fail if refused > total / 2 else GROUP.warn
    return [
        make(
            "fix.valid",
            f"{refused} of {total} sampled fixes on {topic} are unusable ({count} times: {reason}).",
            "Check antenna and sky view; raise max_fix_age_s to bridge short outages with odometry.",
            parameter="max_fix_age_s",
            data={"refused": refused, "total": total, "no_fix": _by_status(found).get(STATUS_NO_FIX, 0)},
        )
    ]


def _covariances(found: Survey, topic: str, total: int) -> list[Finding]:
    valid = sum(count for row, count in found.fix_statuses.items() if row.status != STATUS_NO_FIX)
    kinds = {
        "unknown by its type": lambda row: row.covariance_type == COVARIANCE_UNKNOWN,
        "all zero": lambda row: row.covariance_type != COVARIANCE_UNKNOWN and row.is_covariance_zero,
        "not finite": lambda row: row.covariance_type != COVARIANCE_UNKNOWN and not row.is_covariance_finite,
    }
    findings = []
    for name, holds in kinds.items():
        count = sum(n for row, n in found.fix_statuses.items() if row.status != STATUS_NO_FIX and holds(row))
        if count:
            findings.append(
                GROUP.warn(
                    "fix.covariance",
                    f"The covariance of {count} of {valid} sampled fixes on {topic} is {name}; their accuracy "
                    "is taken to "
                    "be fix_min_std_m.",
                    "Have the driver fill it in, or set fix_min_std_m to what the receiver achieves (1.5 m for a good "
                    "one without corrections, 3 to 5 m for a simple one).",
                    parameter="fix_min_std_m",
                    data={"kind": name, "count": count},
                )
            )
    return findings


def _age(found: Survey, topic: str, settings: Settings) -> list[Finding]:
    record = found.stamps.get(topic)
    interval_s = record.interval_s if record else math.nan
    if not interval_s > settings.max_fix_age_s * 0.9:
        return []
    wanted_s = min(3600.0, math.ceil(1.5 * interval_s))
    return [
        GROUP.warn(
            "fix.rate",
            f"Fixes on {topic} come every {interval_s:.1f} s, but one older than max_fix_age_s "
            f"({settings.max_fix_age_s:g} s) is not used.",
            "Raise the receiver's rate (5 Hz is good), or max_fix_age_s.",
            parameter="max_fix_age_s",
            value=wanted_s,
        )
    ]


def reported_std_m(fixes: Sequence[Fix]) -> float | None:
    """Median over fixes of the standard deviation an axis has by their covariance; None when all are unknown."""
    stds = [math.sqrt(float(np.trace(fix.covariance)) / 2.0) for fix in fixes if fix.covariance is not None]
    return float(np.median(stds)) if stds else None


def _scatter_findings(found: Survey, scatter_m: float | None, settings: Settings) -> list[Finding]:
    reported_m = reported_std_m(found.fixes)
    if scatter_m is None or reported_m is None:
        return []
    data = {"reported_std_m": round(reported_m, 3), "scatter_m": round(scatter_m, 3)}
    if reported_m > settings.search_radius_m:
        return [
            GROUP.fail(
                "fix.accuracy",
                f"Fixes report a standard deviation of {reported_m:.1f} m, more than search_radius_m "
                f"({settings.search_radius_m:g} m), and are refused.",
                "Wait for a better fix, or raise search_radius_m (the search takes longer by its square).",
                parameter="search_radius_m",
                value=min(100.0, float(math.ceil(2.0 * reported_m))),
                data=data,
            )
        ]
    if scatter_m > 2.0 * max(reported_m, settings.fix_min_std_m / 2.0):
        return [
            GROUP.warn(
                "fix.accuracy",
                f"Fixes report a standard deviation of {reported_m:.2f} m but scatter by {scatter_m:.2f} m "
                "about a smooth "
                "motion: the receiver is optimistic.",
                "Floor it with fix_min_std_m.",
                parameter="fix_min_std_m",
                value=round(max(settings.fix_min_std_m, 1.5 * scatter_m), 1),
                data=data,
            )
        ]
    floor = f"; taken as {settings.fix_min_std_m:g} m (fix_min_std_m)" if reported_m < settings.fix_min_std_m else ""
    return [
        GROUP.ok(
            "fix.accuracy",
            f"Reported standard deviation {reported_m:.2f} m{floor}; scatter about a smooth motion "
            f"{scatter_m:.2f} m, which "
            "does not show slow errors of a metre or two.",
            data=data,
        )
    ]


def positions(fixes: Sequence[Fix]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) metres east and north of the first fix, and (N,) seconds since it."""
    first = fixes[0].origin
    east, north, _ = MapProjection(first).to_map(
        np.array([fix.latitude_deg for fix in fixes]), np.array([fix.longitude_deg for fix in fixes]), first.height_m
    )
    return np.stack([east, north], axis=1), np.array([(fix.stamp_ns - fixes[0].stamp_ns) / NS_PER_S for fix in fixes])


def scatter(east_north: NDArray[np.float64], times_s: NDArray[np.float64]) -> float | None:
    """Standard deviation (m, per axis) of fixes about parabolas through seven of them; None of too few.

    The median over windows, so that bends and jumps do not count. Slow errors follow the parabola and stay unseen.
    """
    count = len(times_s)
    if count < 2 * WINDOW:
        return None
    interval_s = float(np.median(np.diff(times_s)))
    stds = []
    for start in np.unique(np.linspace(0, count - WINDOW, min(400, count - WINDOW + 1)).astype(int)):
        t = times_s[start : start + WINDOW]
        if np.any(np.diff(t) <= 0.0) or t[-1] - t[0] > 3.0 * WINDOW * interval_s:
            continue
        design = np.vander((t - t[3]) / (t[-1] - t[0]), 3)
        solution = np.linalg.lstsq(design, east_north[start : start + WINDOW], rcond=None)[0]
        rest = east_north[start : start + WINDOW] - design @ solution
        stds.append(math.sqrt(float((rest**2).sum()) / (2 * (WINDOW - 3))))
    return float(np.median(stds)) if stds else None


def jump_indices(
    east_north: NDArray[np.float64], times_s: NDArray[np.float64], scatter_m: float | None
) -> NDArray[np.int64]:
    """Fixes after which the position does not go on as the two steps before and the two after do."""
    if len(times_s) < 6:
        return np.zeros(0, dtype=np.int64)
    dt = np.diff(times_s)
    good = np.where(dt > 0.0, dt, np.nan)
    velocity = np.diff(east_north, axis=0) / good[:, None]
    shifted = [velocity[lag : len(velocity) - 4 + lag] for lag in (0, 1, 3, 4)]
    usual = np.median(np.stack(shifted), axis=0)
    off_m = np.linalg.norm((velocity[2:-2] - usual) * good[2:-2, None], axis=1)
    # Through long gaps nothing can be told of the motion.
    near = dt[2:-2] < np.maximum(3.0, 3.0 * np.median(dt))
    return np.flatnonzero(near & np.isfinite(off_m) & (off_m > jump_limit_m(scatter_m))) + 2


def jump_limit_m(scatter_m: float | None) -> float:
    """A step off by more is a jump: both its ends scatter, along two axes."""
    return max(LEAST_JUMP_M, 10.0 * (scatter_m or 0.0))


def without_excursions(fixes: Sequence[Fix]) -> list[Fix]:
    """The fixes but those between a jump away and the jump back, so that others are not blamed for them."""
    if len(fixes) < 2 * WINDOW:
        return list(fixes)
    east_north, times_s = positions(fixes)
    jumps = jump_indices(east_north, times_s, scatter(east_north, times_s))
    keep = np.ones(len(fixes), dtype=bool)
    for away, back in itertools.pairwise(jumps):
        if keep[away] and times_s[back] - times_s[away] < LONGEST_EXCURSION_S:
            keep[away + 1 : back + 1] = False
    return [fix for fix, is_kept in zip(fixes, keep, strict=True) if is_kept]


def truth_findings(found: Survey, topic: str, settings: Settings, projection: MapProjection) -> list[Finding]:
    """The fixes' true error, where the bag has poses in the map of a known origin."""
    truth: Timeline[Any] = Timeline(blend_transforms, history_s=float("1e9"))
    for message in found.truth:
        try:
            truth.add(stamp_ns(message), pose_of(message.pose.pose))
        except InputError:
            continue
    antenna = np.array([*_antenna(found, settings), 1.0])
    errors = []
    for fix in found.fixes[:: max(1, len(found.fixes) // 5000)]:
        T = truth.at(fix.stamp_ns, to_ns(settings.max_input_gap_s))
        if T is not None:
            east, north, _ = projection.to_map(fix.latitude_deg, fix.longitude_deg, projection.origin.height_m)
            errors.append(np.array([float(east), float(north)]) - (T @ antenna)[:2])
    if len(errors) < 3:
        return []
    error_m = np.linalg.norm(errors, axis=1)
    median_m, p95_m = (float(np.quantile(error_m, share)) for share in (0.5, 0.95))
    data = {"median_m": round(median_m, 3), "p95_m": round(p95_m, 3)}
    text = f"Against {topic}, fixes are off by {median_m:.2f} m in the median, {p95_m:.2f} m at 95 %"
    if median_m > FAR_M:
        return [
            GROUP.warn(
                "fix.truth", f"{text}: the two count from different origins.",
                "Set map_origin to the origin that the truth counts from, or give the map that tells it.",
                parameter="map_origin", data=data,
            )
        ]  # fmt: skip
    if p95_m > settings.search_radius_m / 2:
        return [
            GROUP.warn(
                "fix.truth", f"{text}.", "Check map_origin and the truth's frame; else raise search_radius_m.",
                parameter="search_radius_m", data=data,
            )
        ]  # fmt: skip
    reported_m = reported_std_m(found.fixes)
    honest = ""
    if reported_m is not None:
        std_m = math.sqrt(float((error_m**2).mean()) / 2.0)
        honest = f", {std_m / reported_m:.1f} times what they report"
    return [GROUP.ok("fix.truth", f"{text}{honest}.", data=data)]


def _antenna(found: Survey, settings: Settings) -> tuple[float, ...]:
    if settings.antenna_in_base_m:
        return settings.antenna_in_base_m
    try:
        place = found.transforms.lookup(settings.base_frame, found.fixes[0].frame_id)[:3, 3]
    except InputError:
        return 0.0, 0.0, 0.0
    return float(place[0]), float(place[1]), float(place[2])
