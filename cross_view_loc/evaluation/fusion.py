"""A drive fused as a vehicle would: odometry with the fixes, with our accepted poses, or with both, then against truth.

What is measured is the filter's belief at every odometry stamp when that odometry arrives, not a smoothed track: late
poses help only from their arrival on. Both filters start from the same fix and the same heading.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cross_view_loc.bags.offline import OfflineRun
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.bags.truth import static_transforms
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.evaluation.fusion_filter import (
    Array,
    Measurement,
    PoseFilter,
    State,
    information_share,
    planar,
)
from cross_view_loc.evaluation.metrics import FrameError, frame_error, summarize
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.poses import bare_frame, pose_of
from cross_view_loc.inputs.stamps import Timeline, stamp_ns, to_ns, whole_drive
from cross_view_loc.types import Estimate

GNSS_CORRELATION_S = 70.0
"""A good multi-band receiver's error has lost a third after 30 s (autocorrelation 0.66): it hardly averages out."""
POSE_CORRELATION_S = 0.3
"""Neighbouring images see the same things and their estimates err alike: on town drives the errors of accepted ones
correlate by 0.3 to 0.5 after 0.2 s, and no longer after 1 s."""
POSE_LATENCY_S = 0.2
"""From image to pose, as a node on two cores needs."""
START_HEADING_STD_RAD = math.radians(5.0)
INDEPENDENT = "gnss, fixes independent"
"""As most filters are set up: every fix counts in full, though it repeats the error of the one before."""
WAYS = ("gnss", INDEPENDENT, "poses", "gnss+poses")
ODOMETRY_GAP_NS = to_ns(0.5)


@dataclass(frozen=True)
class Fused:
    """One way of fusing a drive."""

    way: str
    """What corrects the odometry: one of WAYS."""
    states: list[State]
    """In order of arrival, one an odometry message."""
    measurements: int
    rejected: int


@dataclass(frozen=True)
class FusionInput:
    """A drive's odometry, fixes and accepted poses, as measurements at their stamps."""

    odometry: Timeline[Matrix]
    fixes: list[tuple[int, Measurement]]
    poses: list[tuple[int, Measurement]]
    start: State
    """Common to all filters: the first fix, the heading of the prior."""


def read_fusion_input(offline: OfflineRun, records: Sequence[FrameRecord], start_ns: int, stop_ns: int) -> FusionInput:
    """Collect what a filter on the vehicle would have got between two bag times.

    Raises MissingInputError without an odometry topic, InputError when nothing known gives a start.
    """
    if not offline.topics.odometry:
        raise MissingInputError(
            f"--fuse needs odometry, and {offline.bag.path} has none; name odometry_topic in --config"
        )
    odometry = whole_drive()
    tree, base_frame = static_transforms(offline), offline.settings.base_frame
    for item in offline.bag.messages([offline.topics.odometry], start_ns - to_ns(1.0), stop_ns):
        T_odom_child, child = pose_of(item.message.pose.pose), bare_frame(item.message.child_frame_id)
        moved_frame = bool(child) and child != base_frame
        odometry.add(
            stamp_ns(item.message), T_odom_child @ tree.lookup(child, base_frame) if moved_frame else T_odom_child
        )
    known = [record for record in records if record.prior is not None and record.prior.yaw_range_rad < math.pi / 4]
    lever = _lever_arm(offline)
    fixes = _fixes(offline, lever, start_ns, stop_ns)
    # A filter needs a heading to start with, and so begins at the first image whose prior has one.
    begins = next(((record, fix) for record in known for fix in fixes if fix[0] >= record.stamp_ns), None)
    if begins is None or odometry.at(begins[1][0], ODOMETRY_GAP_NS) is None:
        raise InputError("--fuse found no moment with a fix, a heading and odometry to start from; set heading_source")
    record, (begin_ns, first_fix) = begins
    assert record.prior is not None
    yaw = record.prior.yaw_rad
    c, s = math.cos(yaw), math.sin(yaw)
    base = first_fix.value - [c * lever[0] - s * lever[1], s * lever[0] + c * lever[1]]
    covariance = np.zeros((3, 3))
    covariance[:2, :2], covariance[2, 2] = first_fix.covariance, START_HEADING_STD_RAD**2
    start = State(begin_ns, np.array([*base, yaw]), covariance)
    return FusionInput(odometry, fixes, _poses(records), start)


def fuse(given: FusionInput, way: str, pose_latency_s: float = POSE_LATENCY_S) -> Fused:
    """Run the reference filter over the drive, with measurements arriving when they would."""
    started_at = given.odometry.at(given.start.stamp_ns, ODOMETRY_GAP_NS)
    assert started_at is not None
    pose_filter = PoseFilter(given.start, planar(started_at))
    states: list[State] = []
    for _, stamp, measurement in _arrivals(given, way, pose_latency_s):
        T_odom_base = given.odometry.at(stamp, ODOMETRY_GAP_NS)
        if T_odom_base is None or stamp <= given.start.stamp_ns:
            continue
        pose_filter.add(stamp, planar(T_odom_base), measurement)
        if measurement is None:
            states.append(pose_filter.state)
    return Fused(way, states, *pose_filter.counts)


def fused_errors(fused: Fused, truth: Timeline[Matrix]) -> list[FrameError]:
    """Errors of the belief at every odometry stamp the truth reaches."""
    errors = []
    for state in fused.states:
        place = truth_at(truth, state.stamp_ns)
        if place is not None:
            east, north, yaw = (float(value) for value in state.mean)
            estimate = Estimate(state.stamp_ns, east, north, yaw, state.covariance, accepted=True)
            errors.append(frame_error(estimate, place))
    return errors


def fused_row(fused: Fused, truth: Timeline[Matrix], **setting: object) -> dict[str, object]:
    """The usual row; `frames` counts odometry stamps, and `nees_per_dof` is of the fused estimate."""
    row = summarize(fused_errors(fused, truth), protocol="fused", fused=f"odometry+{fused.way}", **setting)
    return row | {"measurements": fused.measurements, "rejected": fused.rejected}


def _arrivals(given: FusionInput, way: str, pose_latency_s: float) -> Iterator[tuple[int, int, Measurement | None]]:
    """(arrival, stamp, measurement or None for odometry) in order of arrival; odometry first at equal times."""
    streams: list[Iterator[tuple[int, int, int, Measurement | None]]] = [
        ((stamp, 0, stamp, None) for stamp, _ in given.odometry.until(2**62))
    ]
    if "gnss" in way:
        fixes = given.fixes
        if way == INDEPENDENT:
            fixes = [(stamp, replace(fix, information_share=1.0)) for stamp, fix in fixes]
        streams.append((stamp, 1, stamp, fix) for stamp, fix in fixes)
    if "poses" in way:
        late_ns = to_ns(pose_latency_s)
        streams.append((stamp + late_ns, 2, stamp, pose) for stamp, pose in given.poses)
    for arrival, _, stamp, measurement in heapq.merge(*streams, key=lambda item: item[:3]):
        yield arrival, stamp, measurement


def _fixes(
    offline: OfflineRun, lever: tuple[float, float], start_ns: int, stop_ns: int
) -> list[tuple[int, Measurement]]:
    found: list[tuple[int, Array, Array]] = []
    origin_height_m = offline.projection.origin.height_m
    for item in offline.bag.messages([offline.topics.fix], start_ns, stop_ns):
        try:
            fix = read_fix(item.message)
        except InputError:
            continue
        height_m = fix.height_m if math.isfinite(fix.height_m) else origin_height_m
        east, north, _ = offline.projection.to_map(fix.latitude_deg, fix.longitude_deg, height_m)
        covariance = np.eye(2) * fix.std_m(offline.settings.fix_min_std_m) ** 2
        if fix.covariance is not None and fix.std_m(0.0) >= offline.settings.fix_min_std_m:
            covariance = fix.covariance
        found.append((fix.stamp_ns, np.array([float(east), float(north)]), covariance))
    share = information_share(GNSS_CORRELATION_S, _interval_s([stamp for stamp, _, _ in found]))
    return [(stamp, Measurement(value, covariance, lever, share)) for stamp, value, covariance in found]


def _poses(records: Sequence[FrameRecord]) -> list[tuple[int, Measurement]]:
    taken = [record.estimate for record in records if record.estimate is not None and record.estimate.accepted]
    share = information_share(POSE_CORRELATION_S, _interval_s([estimate.stamp_ns for estimate in taken]))
    return [
        (
            estimate.stamp_ns,
            Measurement(
                np.array([estimate.east_m, estimate.north_m, estimate.yaw_rad]),
                estimate.covariance,
                information_share=share,
            ),
        )
        for estimate in taken
    ]


def _interval_s(stamps: Sequence[int]) -> float:
    """The usual time from one to the next; 1 without two."""
    return float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 1.0


def _lever_arm(offline: OfflineRun) -> tuple[float, float]:
    """(x, y) of the antenna in base_link by the settings, else by the bag's static transforms, else at base_link."""
    if offline.settings.antenna_in_base_m:
        return offline.settings.antenna_in_base_m[0], offline.settings.antenna_in_base_m[1]
    first = next(offline.bag.messages([offline.topics.fix]), None)
    if first is None:
        return 0.0, 0.0
    try:
        T_base_antenna = static_transforms(offline).lookup(
            offline.settings.base_frame, bare_frame(first.message.header.frame_id)
        )
    except InputError:
        return 0.0, 0.0
    return float(T_base_antenna[0, 3]), float(T_base_antenna[1, 3])
