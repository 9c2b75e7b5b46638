"""What came back from the node against the truth in the bag: errors, the tracks to draw, the transform's check."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.patch import Patch
from cross_view_loc.bags.reader import Bag, BagTopics
from cross_view_loc.bags.runner import BagRunner, Locate, read_truth
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.metrics import FrameError, frame_error
from cross_view_loc.evaluation.pictures import MatchView, Track
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transform_tree import TransformTree
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.poses import transform_of
from cross_view_loc.inputs.stamps import Timeline, to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

MATCH_PATCH_M = 56.0
PAST_S = 5.0
"""Of the drive before an image that is looked at: what its window holds, about."""


@dataclass(frozen=True)
class Compared:
    """A track and its errors, sample by sample."""

    track: Track
    errors: list[FrameError]


def compare_poses(estimates: Sequence[Estimate], truth: Timeline[Matrix]) -> Compared:
    """Published poses against the truth; those the truth does not reach are left out."""
    known = [(estimate, place) for estimate in estimates if (place := truth_at(truth, estimate.stamp_ns))]
    errors = [frame_error(estimate, place) for estimate, place in known]
    return Compared(
        Track(
            np.array([estimate.stamp_ns / 1e9 for estimate, _ in known]),
            np.array([[estimate.east_m, estimate.north_m] for estimate, _ in known]).reshape(-1, 2),
            np.array([estimate.covariance[:2, :2] for estimate, _ in known]).reshape(-1, 2, 2),
            np.array([error.position_m for error in errors]),
        ),
        errors,
    )


def compare_fixes(
    bag: Bag, topics: BagTopics, projection: MapProjection, truth: Timeline[Matrix], base: str
) -> Compared:
    """The bag's fixes, brought from the antenna to base_link with the true heading, against the truth."""
    tree = TransformTree()
    for item in bag.messages(topics.tf_static):
        for stamped in item.message.transforms:
            tree.add_static(stamped.header.frame_id, stamped.child_frame_id, transform_of(stamped.transform))
    times_s, positions, errors = [], [], []
    for item in bag.messages([topics.fix]):
        try:
            fix = read_fix(item.message)
        except InputError:
            continue
        place = truth_at(truth, fix.stamp_ns)
        if place is None:
            continue
        east, north, _ = projection.to_map(fix.latitude_deg, fix.longitude_deg, fix.height_m)
        x, y = tree.lookup(base, fix.frame_id)[:2, 3]
        c, s = math.cos(place.yaw_rad), math.sin(place.yaw_rad)
        estimate = Estimate(
            fix.stamp_ns, float(east) - c * x + s * y, float(north) - s * x - c * y, math.nan, np.eye(3), accepted=True
        )
        times_s.append(fix.stamp_ns / 1e9)
        positions.append([estimate.east_m, estimate.north_m])
        errors.append(frame_error(estimate, place))
    track = Track(np.array(times_s), np.array(positions), None, np.array([error.position_m for error in errors]))
    return Compared(track, errors)


def truth_track(truth: Timeline[Matrix], bag: Bag) -> Track:
    """The true positions, five a second."""
    stamps = range(bag.start_ns, bag.end_ns, to_ns(0.2))
    known = [(stamp / 1e9, place) for stamp in stamps if (place := truth_at(truth, stamp))]
    positions = np.array([[place.east_m, place.north_m] for _, place in known])
    return Track(np.array([time_s for time_s, _ in known]), positions)


def transform_disagreement_m(
    map_to_odom: Sequence[tuple[int, Matrix]], estimates: Sequence[Estimate], bag: Bag, settings: Settings
) -> float | None:
    """Greatest distance between a published pose and map→odom composed with the odometry of the same moment.

    The transforms are dated ahead by `transform_tolerance_s`. None when none belongs to a pose.
    """
    odometry = read_truth(bag, settings.odometry_topic)  # any Odometry topic as poses over time
    poses = {estimate.stamp_ns: estimate for estimate in estimates}
    distances = []
    for dated_ns, T_map_odom in map_to_odom:
        stamp = dated_ns - to_ns(settings.transform_tolerance_s)
        T_odom_base = odometry.at(stamp, to_ns(0.1))
        if stamp in poses and T_odom_base is not None:
            position = (T_map_odom @ T_odom_base)[:2, 3]
            distances.append(math.dist(position, (poses[stamp].east_m, poses[stamp].north_m)))
    return max(distances, default=None)


def overview_patch(aerial: AerialMap, track: Track, margin_m: float = 30.0, size_px: int = 1000) -> Patch:
    """A north-up square of the map around a whole track."""
    low, high = track.positions_m.min(axis=0), track.positions_m.max(axis=0)
    center, side_m = (low + high) / 2, float((high - low).max()) + 2 * margin_m
    return aerial.patch(float(center[0]), float(center[1]), size_px, side_m / size_px, math.pi / 2)


def match_view(
    bag: Bag, topics: BagTopics, settings: Settings, projection: MapProjection, aerial: AerialMap, stamp_ns: int,
    locate: Locate,
) -> MatchView | None:  # fmt: skip
    """The image of that stamp, after those of `PAST_S`, through the offline runner, for its matches.

    None when it gives no estimate.
    """
    taken: deque[tuple[Frame, Estimate]] = deque(maxlen=1)  # a record keeps neither the image nor its matches

    def locate_and_keep(given: Sequence[Frame], prior: Prior) -> Estimate:
        estimate = locate(given, prior)
        taken.append((given[0], estimate))
        return estimate

    runner = BagRunner(bag, topics, FrameAssembler(settings, projection), locate_and_keep)
    try:
        runner.run(stamp_ns - to_ns(PAST_S), stamp_ns + 1)
    except (InputError, ValueError):
        return None
    if not taken or taken[0][0].stamp_ns != stamp_ns:
        return None
    ((frame, estimate),) = taken
    forward_m = 0.25 * MATCH_PATCH_M  # the camera looks ahead: show more of what lies there
    patch = aerial.patch(
        estimate.east_m + forward_m * math.cos(estimate.yaw_rad),
        estimate.north_m + forward_m * math.sin(estimate.yaw_rad),
        560,
        MATCH_PATCH_M / 560,
        estimate.yaw_rad,
    )
    return MatchView(frame, estimate, patch)


def typical(compared: Compared, estimates: Sequence[Estimate]) -> Estimate | None:
    """The estimate whose error is the median one: a fair choice for a picture."""
    if not compared.errors:
        return None
    order = np.argsort([error.position_m for error in compared.errors])
    time_s = compared.track.times_s[order[len(order) // 2]]
    return min(estimates, key=lambda estimate: abs(estimate.stamp_ns / 1e9 - time_s))
