"""Where to look next: near a track, all that a prior leaves possible, or wider and wider when lost."""

from __future__ import annotations

import dataclasses
import math

from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.tracking.motion import Predicted, wrapped
from cross_view_loc.tracking.rules import TrackerRules
from cross_view_loc.types import Prior

WIDEST_M = 100.0
"""Half side of the widest search there is."""
SEARCHED_STDS = 3.5
RADIUS_STEP_M = 2.0
"""Radii come in steps of this: a patch of another size is another patch, whose features have to be made anew."""


def near(predicted: Predicted, stamp_ns: int, rules: TrackerRules) -> Prior:
    """The square and the headings that a track's own uncertainty leaves, at least `track_radius_m`."""
    needed_m, needed_rad = needed(predicted)
    radius_m = max(rules.track_radius_m, needed_m)
    range_rad = max(math.radians(rules.track_heading_range_deg), needed_rad)
    return about(predicted, stamp_ns, radius_m, range_rad)


def needed(predicted: Predicted) -> tuple[float, float]:
    """Radius (m) and heading range (rad) that hold a predicted vehicle, unmeasured motion and all."""
    std_rad = math.sqrt(max(float(predicted.covariance[2, 2]), 0.0))
    return SEARCHED_STDS * predicted.gaussian_std_m + predicted.reach_m, SEARCHED_STDS * std_rad + predicted.reach_rad


def about(predicted: Predicted, stamp_ns: int, radius_m: float, range_rad: float) -> Prior:
    """A search of that size about a predicted pose; the radius is rounded up and at most `WIDEST_M`."""
    radius_m = min(RADIUS_STEP_M * math.ceil(radius_m / RADIUS_STEP_M - 1e-9), WIDEST_M)
    east_m, north_m, yaw_rad = (float(value) for value in predicted.pose)
    return Prior(stamp_ns, east_m, north_m, radius_m, yaw_rad, min(range_rad, math.pi))


def is_narrower(search: Prior, than: Prior) -> bool:
    """Whether it costs less: a smaller square, or fewer headings in one as large."""
    return search.radius_m < than.radius_m or (
        search.radius_m == than.radius_m and search.yaw_range_rad < than.yaw_range_rad
    )


def holds(search: Prior, predicted: Predicted) -> bool:
    """Whether a search finds a vehicle that is where it is predicted (the deviation of that included)."""
    east_m, north_m = predicted.pose[0] - search.east_m, predicted.pose[1] - search.north_m
    if search.yaw_range_rad >= math.pi:  # of all headings, the disc is searched
        off_m = math.hypot(east_m, north_m)
    else:
        c, s = math.cos(search.yaw_rad), math.sin(search.yaw_rad)
        off_m = max(abs(c * east_m + s * north_m), abs(-s * east_m + c * north_m))
    turn_rad = abs(wrapped(float(predicted.pose[2]) - search.yaw_rad))
    return off_m + predicted.std_m <= search.radius_m and turn_rad + predicted.std_rad <= search.yaw_range_rad + 1e-9


def grown_to_hold(search: Prior, predicted: Predicted) -> Prior | None:
    """The search about the same place, grown until it holds a predicted vehicle; None when that needs too much."""
    if holds(search, predicted):
        return search
    way_m = math.hypot(predicted.pose[0] - search.east_m, predicted.pose[1] - search.north_m)
    turn_rad = abs(wrapped(float(predicted.pose[2]) - search.yaw_rad))
    radius_m = RADIUS_STEP_M * math.ceil((way_m + predicted.std_m) / RADIUS_STEP_M)
    if radius_m > WIDEST_M:
        return None
    range_rad = min(max(search.yaw_range_rad, turn_rad + predicted.std_rad), math.pi)
    return dataclasses.replace(search, radius_m=max(search.radius_m, radius_m), yaw_range_rad=range_rad)


def widened(search: Prior, level: int, rules: TrackerRules) -> Prior:
    """Half as wide again and twice the headings for each level, up to `lost_radius_m` and all headings.

    No wider than what the fix's own deviation allows, for an estimate farther off is refused anyway.
    """
    most_m = min(rules.lost_radius_m, WIDEST_M)
    if search.position_std_m is not None:
        most_m = min(most_m, rules.consistency_sigma * search.position_std_m)
    radius_m = RADIUS_STEP_M * math.floor(min(search.radius_m * 1.5**level, most_m) / RADIUS_STEP_M)
    return dataclasses.replace(
        search,
        radius_m=max(search.radius_m, radius_m),
        yaw_range_rad=min(search.yaw_range_rad * 2.0**level, math.pi),
    )


def widening_level(lost_since_ns: int, stamp_ns: int, rules: TrackerRules) -> int:
    """How often the search of a vehicle lost since then has been widened by the stamp."""
    return min(max(stamp_ns - lost_since_ns, 0) // max(to_ns(rules.widen_interval_s), 1), 10)
