"""Where the heading comes from, and whether it is one: the Imu's yaw against the course over ground."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.gnss import positions, scatter, without_excursions
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import Matrix, yaw_of
from cross_view_loc.inputs.fixes import Fix
from cross_view_loc.inputs.imus import attitude_in_map
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.priors import PriorTracker
from cross_view_loc.inputs.stamps import Timeline, stamp_ns, to_ns
from cross_view_loc.settings import Settings

GROUP = Group("heading")
STRETCH_M = 20.0
FEWEST = 5
SMALL_DEG = 5.0
"""Below this an offset costs nothing: it lies well within the searched range."""
DECLINATION_DEG = 30.0
"""Larger ones exist only near the magnetic poles."""
STEADY_DEG = 12.0
MOST = 0.7
"""So many stretches have to agree; on the others the vehicle may have reversed."""
FIX_INTERVAL_S = 0.45

Series = Sequence[tuple[int, float]]
"""Stamps (ns) and yaws (rad)."""


@dataclass(frozen=True)
class Comparison:
    """Yaw less course over ground on straight stretches."""

    stretches: int
    offset_deg: float
    spread_deg: float
    """Median absolute deviation from the offset, as a standard deviation."""
    course_std_deg: float
    """How well the fixes tell a course."""
    agreeing: float
    """Share of stretches within 20 degrees, and what the fixes leave open, of the offset."""
    courses_differ: bool
    """Whether the courses differ enough to tell an offset from a wrong sign."""

    @property
    def is_steady(self) -> bool:
        # A mirrored yaw agrees on the streets of one direction, and then perfectly.
        return self.spread_deg <= STEADY_DEG + self.course_std_deg and self.agreeing >= MOST

    def text(self) -> str:
        """For sentences."""
        return f"{self.offset_deg:+.1f} deg (spread {self.spread_deg:.1f} deg, {self.stretches} straight stretches)"


def compare(fixes: Sequence[Fix], yaws: Series, settings: Settings) -> Comparison | None:
    """Lay a series of yaws beside the course, stretch by stretch as the node does; None with too few stretches."""
    if len(fixes) < 2 or not yaws:
        return None
    fixes = without_excursions(fixes)
    noise_m = scatter(*positions(fixes)) or 0.0
    tracker = PriorTracker(
        MapProjection(fixes[0].origin),
        dataclasses.replace(
            settings,
            heading_source="imu",
            imu_topic="compared",
            course_min_distance_m=STRETCH_M,
            fix_min_std_m=min(max(0.5, noise_m), 100.0),
        ),
    )
    differences, courses, stds = [], [], []
    waiting, last_ns = 0, -(10**18)
    for fix in fixes:
        if fix.stamp_ns - last_ns < to_ns(FIX_INTERVAL_S):
            continue
        last_ns = fix.stamp_ns
        while waiting < len(yaws) and yaws[waiting][0] <= fix.stamp_ns + to_ns(settings.max_input_gap_s):
            tracker.add_heading(*yaws[waiting])
            waiting += 1
        tracker.add_fix(fix)
        stretch = tracker.straight_stretch(fix.stamp_ns)
        if stretch is not None:
            course_rad, course_std_rad, yaw_rad = stretch
            stds.append(course_std_rad)
            differences.append(yaw_rad - course_rad)
            courses.append(course_rad)
    if len(differences) < FEWEST:
        return None
    offset_rad = circular_median(differences)
    std_rad = float(np.median(stds))
    away = np.abs([math.remainder(d - offset_rad, 2 * math.pi) for d in differences])
    concentration = abs(np.exp(1j * np.array(courses)).mean())
    return Comparison(
        len(differences),
        math.degrees(offset_rad),
        1.4826 * math.degrees(float(np.median(away))),
        math.degrees(std_rad),
        float((away < math.radians(20.0) + std_rad).mean()),
        bool(concentration < 0.9),
    )


def circular_median(angles_rad: Iterable[float]) -> float:
    """The angle about which the others lie on both sides alike; found from the mean direction of the denser half."""
    angles = np.asarray(list(angles_rad))
    center = float(np.angle(np.exp(1j * angles).mean()))
    for _ in range(3):
        away = np.array([math.remainder(angle - center, 2 * math.pi) for angle in angles])
        center = math.remainder(center + float(np.median(away)), 2 * math.pi)
    return center


def heading_findings(found: Survey, topic: str, settings: Settings, odometry: Timeline[Matrix] | None) -> list[Finding]:
    """Which heading there is, whether it is right, and what to set."""
    source = settings.heading_source
    if source in ("none", "course"):
        return [GROUP.ok("heading.source", f"heading_source is {source}, as configured.")]
    if source == "odometry" or not topic or not found.imu:
        return _without_imu(found, topic, settings, odometry)
    yaws = {convention: imu_yaws(found, settings, convention) for convention in ("enu", "ned")}
    if not yaws["enu"]:
        return [
            GROUP.warn("heading.imu", f"The attitude on {topic} cannot be used (no transform to its frame, or no "
                       "quaternion).", "Publish the Imu's transform.", parameter="heading_source", value="course")
        ]  # fmt: skip
    rows = {convention: compare(found.fixes, series, settings) for convention, series in yaws.items()}
    now, other = settings.imu_convention, "ned" if settings.imu_convention == "enu" else "enu"
    if rows[now] is None:
        return [
            GROUP.ok(
                "heading.imu",
                f"{topic} has orientation; its yaw could not be compared with the course over ground (fewer "
                f"than {FEWEST} "
                f"straight stretches of {STRETCH_M:g} m driven).",
            )
        ]
    return _judged(topic, rows, now, other, settings)


def _judged(topic: str, rows: dict[str, Comparison | None], now: str, other: str, settings: Settings) -> list[Finding]:
    row = rows[now]
    assert row is not None
    set_deg = settings.magnetic_declination_deg
    rest_deg = math.remainder(row.offset_deg - set_deg, 360.0)
    data = {name: dataclasses.asdict(each) for name, each in rows.items() if each is not None}
    if row.is_steady and abs(rest_deg) <= SMALL_DEG:
        return [GROUP.ok("heading.imu", f"Yaw on {topic} follows the course over ground: {row.text()} off.", data=data)]
    candidate = rows[other]
    findings = []
    chosen, name = row, now
    if (
        candidate is not None
        and candidate.is_steady
        and (not row.is_steady or abs(candidate.offset_deg) <= DECLINATION_DEG < abs(row.offset_deg))
    ):
        chosen, name = candidate, other
        sentence = (
            f"Yaw on {topic} read as {now} is {row.text()} off the course over ground, read as {other} "
            f"{candidate.offset_deg:+.1f} deg: it counts "
            f"{'clockwise from north' if other == 'ned' else 'as in REP-103'}."
        )
        findings.append(
            GROUP.fail(
                "heading.convention",
                sentence,
                "Set imu_convention.",
                parameter="imu_convention",
                value=other,
                data=data,
            )
        )
    rest_deg = math.remainder(chosen.offset_deg - set_deg, 360.0)
    if chosen.is_steady and abs(rest_deg) > SMALL_DEG:
        if not chosen.courses_differ and abs(chosen.offset_deg) > DECLINATION_DEG:
            findings.append(
                _unsteady(topic, chosen, "one direction driven cannot tell an offset from a wrong sign", data)
            )
        else:
            findings.append(_offset(topic, chosen, name, settings, data))
    elif not chosen.is_steady:
        findings.append(_unsteady(topic, chosen, "it drifts, or counts from somewhere else each time", data))
    return findings


def _offset(topic: str, row: Comparison, convention: str, settings: Settings, data: dict[str, Any]) -> Finding:
    size = abs(row.offset_deg)
    make = GROUP.fail if size > settings.heading_range_deg else GROUP.warn
    meaning = (
        "the size of a magnetic declination (or the Imu is mounted turned)"
        if size <= DECLINATION_DEG
        else "as of a yaw counted from north, a turned mount, or one counted from power-up"
    )
    remedy = "Set magnetic_declination_deg, which is taken off the yaw"
    if size > DECLINATION_DEG:
        remedy += "; if the offset is another after the next start, set heading_source to course instead"
    return make(
        "heading.offset",
        f"Yaw on {topic} (as {convention}) is {row.text()} off the course over ground: {meaning}.",
        remedy + ".",
        parameter="magnetic_declination_deg",
        value=round(row.offset_deg, 1),
        data=data,
    )


def _unsteady(topic: str, row: Comparison, why: str, data: dict[str, Any]) -> Finding:
    return GROUP.fail(
        "heading.unsteady",
        f"Yaw on {topic} is no heading: {row.text()} off the course over ground; {why}.",
        "Use the course over ground (with odometry_topic also at a stand), or repair the Imu's filter.",
        parameter="heading_source",
        value="course",
        data=data,
    )


def _without_imu(found: Survey, topic: str, settings: Settings, odometry: Timeline[Matrix] | None) -> list[Finding]:
    row = None
    if odometry is not None and found.fixes:
        yaws = [(stamp, yaw_of(T)) for stamp, T in odometry.until(2**62)]
        row = compare(found.fixes, yaws, settings)
    name = settings.odometry_topic
    if row is not None and row.is_steady and abs(row.offset_deg) <= SMALL_DEG and row.courses_differ:
        return [
            GROUP.ok(
                "heading.odometry",
                f"Yaw on {name} is absolute: {row.text()} off the course over ground.",
                parameter="heading_source",
                value="odometry",
            )
        ]
    if settings.heading_source == "odometry" and row is not None:
        return [
            GROUP.fail(
                "heading.odometry", f"Yaw on {name} is {row.text()} off the course over ground, so it is no heading.",
                "Set heading_source to course, which measures this turn.", parameter="heading_source", value="course",
            )
        ]  # fmt: skip
    if found.imu and not topic:
        return []  # its missing transform has been reported
    reason = (
        f"the Imu on {topic} has no orientation" if topic and found.imu_without_orientation else
        f"{topic} has no usable message" if topic else "there is no Imu"
    )  # fmt: skip
    return [
        GROUP.warn(
            "heading.source",
            f"No absolute heading: {reason}; the course over ground is used, from the first "
            f"{settings.course_min_distance_m:g} m "
            f"driven{' and kept by odometry' if name else ', but not at a stand'}.",
            "An Imu or a dual antenna with absolute heading (imu_topic) also serves from the start.",
            parameter="imu_topic",
            value="" if topic else None,
        )
    ]


def imu_yaws(found: Survey, settings: Settings, convention: str) -> list[tuple[int, float]]:
    """Yaws of the base frame by the Imu read in a convention, without declination; what is not usable is left out."""
    settings = dataclasses.replace(settings, imu_convention=convention, magnetic_declination_deg=0.0)
    yaws = []
    for message in found.imu:
        try:
            frame = bare_frame(message.header.frame_id)
            R = (
                np.eye(3)
                if frame == settings.base_frame
                else found.transforms.lookup(settings.base_frame, frame)[:3, :3]
            )
            yaws.append((stamp_ns(message), yaw_of(attitude_in_map(message, settings, R))))
        except InputError:
            continue
    return yaws
