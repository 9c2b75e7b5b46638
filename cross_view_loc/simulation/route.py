"""Where a drive goes: an endless walk over the drivable roads, as a smooth line in the right-hand lane."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.centerline import Centerline
from cross_view_loc.simulation.roads import KERB_RADIUS_M, SMALLEST_TOWN_WITH_DRIVES_M, Road, RoadNetwork

STEP_M = 0.5
_TIGHTEST_TURN_M = 4.8
_CLEARANCE_M = 1.5
_SHARPEST_TURN_RAD = np.radians(115.0)
_SHARE_OF_ROAD_FOR_TURN = 0.42
_SMOOTHING_M = 1.2


def plan_route(network: RoadNetwork, length_m: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2) points every `STEP_M` along the right-hand lanes, at least `length_m` long.

    Raises InputError when the town is too small to hold a loop of roads.
    """
    if not network.drivable:
        raise InputError(
            f"A town of {network.size_m:g} m has no loop of roads to drive on; "
            f"make it at least {SMALLEST_TOWN_WITH_DRIVES_M:g} m."
        )
    legs = _walk(network, length_m, rng)
    lanes = _choose_lanes(legs)
    turns = [
        _turn_lengths(network, before, after, lane[1], next_lane[0])
        for (before, after), (lane, next_lane) in zip(pairwise(legs), pairwise(lanes), strict=True)
    ]
    pieces: list[NDArray[np.float64]] = []
    for index, leg in enumerate(legs):
        start = turns[index - 1][1] if index else 0.0
        end = turns[index][0] if index < len(turns) else 0.0
        piece = _lane(leg, start, end, lanes[index])
        if pieces:
            pieces.append(_turn(pieces[-1], piece))
        pieces.append(piece)
    return _resampled_and_smoothed(np.concatenate(pieces))


class _Leg:
    """A road driven in one direction."""

    def __init__(self, road: Road, start: int) -> None:
        self.road = road
        self.start = start
        self.end = road.end if start == road.start else road.start
        self.center = road.center if start == road.start else Centerline(road.center.points[::-1])
        self.first_direction = self.center.tangent(0.0)
        self.last_direction = self.center.tangent(self.center.length_m)


def _turn_angle(before: _Leg, after: _Leg) -> float:
    """Change of heading in radians, positive to the left."""
    (a, b), (c, d) = before.last_direction, after.first_direction
    return float(np.arctan2(a * d - b * c, a * c + b * d))


def _walk(network: RoadNetwork, length_m: float, rng: np.random.Generator) -> list[_Leg]:
    """Random legs without turning round; avoids hairpins and prefers roads not driven yet where it can."""
    graph = network.drivable
    nodes = sorted(graph)
    here = nodes[rng.integers(len(nodes))]
    neighbours = sorted(graph[here])
    there = neighbours[rng.integers(len(neighbours))]
    legs = [_Leg(graph.edges[here, there]["road"], here)]
    visits = {frozenset((here, there)): 1}
    driven = legs[0].center.length_m
    while driven < length_m + 200.0:
        current = legs[-1]
        options = [_Leg(graph.edges[current.end, n]["road"], current.end) for n in sorted(graph[current.end])]
        options = [leg for leg in options if leg.end != current.start]
        gentle = [leg for leg in options if abs(_turn_angle(current, leg)) < _SHARPEST_TURN_RAD]
        options = gentle or options
        weights = np.array([1.0 / (1 + visits.get(frozenset((leg.start, leg.end)), 0)) ** 2 for leg in options])
        chosen = options[rng.choice(len(options), p=weights / weights.sum())]
        key = frozenset((chosen.start, chosen.end))
        visits[key] = visits.get(key, 0) + 1
        legs.append(chosen)
        driven += 0.8 * chosen.center.length_m
    return legs


def _choose_lanes(legs: list[_Leg]) -> list[tuple[float, float]]:
    """Distance right of the centre line at the beginning and end of each leg.

    On arterials: right turns use the outer lane, left turns the inner one, and straight on keeps the lane.
    """
    turns = [_turn_angle(before, after) for before, after in pairwise(legs)]
    lanes = []
    previous_lane = 0
    for index, leg in enumerate(legs):
        offsets = leg.road.lane_offsets_m
        turn_in = turns[index - 1] if index else 0.0
        turn_out = turns[index] if index < len(turns) else 0.0
        first = _lane_for_turn(turn_in, previous_lane)
        last = _lane_for_turn(turn_out, first)
        first, last = min(first, len(offsets) - 1), min(last, len(offsets) - 1)
        lanes.append((offsets[first], offsets[last]))
        previous_lane = last
    return lanes


def _lane_for_turn(turn_rad: float, current_lane: int) -> int:
    if turn_rad < -0.6:
        return 1
    return 0 if turn_rad > 0.6 else current_lane


def _lane(leg: _Leg, start_m: float, end_m: float, offsets_m: tuple[float, float]) -> NDArray[np.float64]:
    """(M, 2) lane centre of a leg without the given lengths at its ends; changes lane on the way where needed."""
    distance = np.arange(start_m, leg.center.length_m - end_m, STEP_M)
    share = (distance - distance[0]) / max(distance[-1] - distance[0], STEP_M)
    blend = share * share * (3.0 - 2.0 * share)
    return leg.center.position(distance, -(offsets_m[0] + (offsets_m[1] - offsets_m[0]) * blend))


def _turn_lengths(
    network: RoadNetwork, before: _Leg, after: _Leg, offset_before_m: float, offset_after_m: float
) -> tuple[float, float]:
    """How far before a junction's middle a turn begins and how far after it ends, such that it is about an arc."""
    angle = _turn_angle(before, after)
    usual = max(network.junction_radius_m[before.end] + 1.0, 6.0)
    limits = tuple(_SHARE_OF_ROAD_FOR_TURN * leg.center.length_m for leg in (before, after))
    if abs(np.sin(angle)) < 0.25 and np.cos(angle) > 0.0:
        return min(usual, limits[0]), min(usual, limits[1])
    # Where the two lanes' straight continuations meet, measured from the middle along either road.
    meets_before = (offset_after_m - offset_before_m * np.cos(angle)) / np.sin(angle)
    meets_after = meets_before * np.cos(angle) - offset_before_m * np.sin(angle)
    if angle > 0.0:
        tangent = max(usual + meets_before, usual - meets_after, _TIGHTEST_TURN_M * np.tan(angle / 2))
    else:
        # The widest right turn that keeps its distance from the rounded kerb of the inner corner.
        to_kerb = min(before.road.width_m / 2 - offset_before_m, after.road.width_m / 2 - offset_after_m)
        bend = 1.0 / np.cos(angle / 2)
        spare = (to_kerb * bend - _CLEARANCE_M) / (bend - 1.0)
        tangent = float(np.clip(KERB_RADIUS_M + spare, _TIGHTEST_TURN_M, 25.0)) * np.tan(-angle / 2)
    first, second = tangent - meets_before, tangent + meets_after
    return float(np.clip(first, 0.0, limits[0])), float(np.clip(second, 0.0, limits[1]))


def _turn(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 2) cubic curve that joins two lane pieces with their directions; close to an arc."""
    start, end = before[-1], after[0]
    out, into = before[-1] - before[-2], after[1] - after[0]
    out, into = out / np.linalg.norm(out), into / np.linalg.norm(into)
    angle = abs(np.arctan2(out[0] * into[1] - out[1] * into[0], out @ into))
    chord = np.linalg.norm(end - start)
    # Handle length that makes a cubic Bézier curve follow a circular arc of this angle.
    handle = chord / 3.0 if angle < 1e-3 else chord * 2.0 / 3.0 * np.tan(angle / 4) / np.sin(min(angle, 2.8) / 2)
    control = np.stack([start, start + handle * out, end - handle * into, end])
    t = np.linspace(0.0, 1.0, max(int(chord / (STEP_M / 2)), 4))[1:-1, None]
    return (
        (1 - t) ** 3 * control[0]
        + 3 * (1 - t) ** 2 * t * control[1]
        + 3 * (1 - t) * t**2 * control[2]
        + t**3 * control[3]
    )


def _resampled_and_smoothed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    for _ in range(2):  # smoothing changes the spacing a little, so space evenly again afterwards
        distance = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        even = np.arange(0.0, distance[-1], STEP_M)
        points = np.stack([np.interp(even, distance, points[:, axis]) for axis in (0, 1)], axis=1)
        points = gaussian_filter1d(points, _SMOOTHING_M / STEP_M / np.sqrt(2), axis=0, mode="nearest")
    return points[4:-4]  # the filter pulls the ends together
