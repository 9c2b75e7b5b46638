"""Paints the street surface: materials of the street areas, lane markings, parking bays, patches and cracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.centerline import Centerline
from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.roads import BAY_WIDTH_M, Bay, Road, RoadAreas, RoadKind, RoadNetwork
from cross_view_loc.simulation.style import TownStyle

BAY_LENGTH_M = 5.8
_ZEBRA_PROBABILITY = {RoadKind.ARTERIAL: 0.9, RoadKind.COLLECTOR: 0.55, RoadKind.RESIDENTIAL: 0.2}
_WEAR_PER_HECTARE = 10.0
# Outline of a straight-ahead arrow: (forward, left) in metres.
_ARROW = np.array([[-2, -0.08], [1, -0.08], [1, -0.35], [2.4, 0], [1, 0.35], [1, 0.08], [-2, 0.08]])


def paint_streets(
    canvas: GroundCanvas, network: RoadNetwork, areas: RoadAreas, style: TownStyle, rng: np.random.Generator
) -> None:
    """Fill pavements, verges and carriageways, then mark and age them."""
    for polygon in areas.sidewalks:
        canvas.fill(polygon, GroundMaterial.SIDEWALK)
    for road in network.roads:
        _fill_verge(canvas, network, road, style)
    for polygon in areas.carriageway:
        canvas.fill(polygon, GroundMaterial.ASPHALT)
    for road in network.roads:
        mark_road(canvas, network, road, style, rng)
    for bay in areas.bays:
        _mark_bay(canvas, bay)
    _add_wear(canvas, network, style, rng)


def bay_slots(bay: Bay) -> NDArray[np.float64]:
    """(N,) distances along the road of the middles of a row's parking slots."""
    count = int((bay.end_m - bay.start_m) / BAY_LENGTH_M)
    return bay.start_m + BAY_LENGTH_M * (np.arange(count, dtype=np.float64) + 0.5)


def _fill_verge(canvas: GroundCanvas, network: RoadNetwork, road: Road, style: TownStyle) -> None:
    start = network.junction_radius_m[road.start] + 3.0
    end = road.center.length_m - network.junction_radius_m[road.end] - 3.0
    if road.verge is GroundMaterial.SIDEWALK or end - start < 5.0:
        return
    width = road.width_m + 2 * style.sidewalk_width_m + 0.2
    canvas.fill_outline(road.center.strip(start, end, 0.0, width), road.verge)


def mark_road(
    canvas: GroundCanvas, network: RoadNetwork, road: Road, style: TownStyle, rng: np.random.Generator
) -> None:
    """Paint a road's white lines, stop lines and crossings."""
    zebra = rng.random(2) < _ZEBRA_PROBABILITY[road.kind] * style.zebra_factor
    has_edge_lines = rng.random() < style.edge_line_share
    center, width, paint = road.center, road.width_m, road.paint
    radius_start, radius_end = network.junction_radius_m[road.start], network.junction_radius_m[road.end]
    start, end = radius_start, center.length_m - radius_end
    if end - start < 18.0:
        return
    # Traffic arrives at the start on the road's left side and at the end on its right: right-hand traffic.
    if radius_start:
        start += _mark_junction_arm(canvas, road, start, 1, bool(zebra[0]))
    if radius_end:
        end -= _mark_junction_arm(canvas, road, end, -1, bool(zebra[1]))
    if road.kind is RoadKind.ARTERIAL:
        for left in (0.12, -0.12):
            canvas.paint(center.strip(start, end, left, 0.12), paint)
        for side in (1, -1):
            _dash(canvas, center, (start, end), side * 0.25 * width, 0.14, (3.0, 4.0), paint)
            canvas.paint(center.strip(start, end, side * (width / 2 - 0.3), 0.12), paint)
            distance = start + 6.0 if side > 0 else end - 6.0
            for offset in road.lane_offsets_m:
                _paint_arrow(canvas, center, distance, side * offset, -side, paint)
    elif road.kind is RoadKind.COLLECTOR:
        _dash(canvas, center, (start, end), 0.0, 0.12, (3.0, 4.5), paint)
        if has_edge_lines:
            for side in (1, -1):
                canvas.paint(center.strip(start, end, side * (width / 2 - 0.25), 0.1), paint)


def _mark_junction_arm(canvas: GroundCanvas, road: Road, edge_m: float, inward: int, zebra: bool) -> float:
    """Paint crossing and stop line; `inward` is +1 at the road's start. Returns the length used up."""
    center, width = road.center, road.width_m
    used = 1.0
    if zebra:
        near, far = sorted((edge_m + inward * 0.4, edge_m + inward * 3.6))
        for left in np.arange(-width / 2 + 0.5, width / 2 - 0.3, 1.0):
            canvas.paint(center.strip(near, far, left, 0.5), road.paint or 200)
        used = 4.6
    if road.kind is not RoadKind.RESIDENTIAL:
        near, far = sorted((edge_m + inward * used, edge_m + inward * (used + 0.45)))
        canvas.paint(center.strip(near, far, inward * width / 4, width / 2 - 0.3), road.paint)
        used += 0.8
    return used


def _dash(
    canvas: GroundCanvas,
    center: Centerline,
    span_m: tuple[float, float],
    left_m: float,
    width_m: float,
    dash_gap_m: tuple[float, float],
    paint: int,
) -> None:
    for distance in np.arange(span_m[0], span_m[1] - 0.5, sum(dash_gap_m)):
        canvas.paint(center.strip(distance, min(distance + dash_gap_m[0], span_m[1]), left_m, width_m), paint)


def _paint_arrow(
    canvas: GroundCanvas, center: Centerline, distance_m: float, left_m: float, heading: int, paint: int
) -> None:
    """`heading` is +1 for traffic along the road, -1 against it."""
    forward = heading * center.tangent(distance_m)
    left = np.array([-forward[1], forward[0]])
    canvas.paint(center.position(distance_m, left_m) + _ARROW[:, :1] * forward + _ARROW[:, 1:] * left, paint)


def _mark_bay(canvas: GroundCanvas, bay: Bay) -> None:
    center, paint = bay.road.center, bay.road.paint or 180
    count = len(bay_slots(bay))
    for distance in bay.start_m + BAY_LENGTH_M * np.arange(count + 1):
        canvas.paint(center.strip(distance - 0.05, distance + 0.05, bay.left_m, BAY_WIDTH_M), paint)
    road_side = bay.left_m - bay.side * BAY_WIDTH_M / 2
    canvas.paint(center.strip(bay.start_m, bay.start_m + BAY_LENGTH_M * count, road_side, 0.1), paint)


def _add_wear(canvas: GroundCanvas, network: RoadNetwork, style: TownStyle, rng: np.random.Generator) -> None:
    for _ in range(int(_WEAR_PER_HECTARE * style.wear * canvas.size_m**2 / 1e4)):
        road = network.roads[rng.integers(len(network.roads))]
        distance = rng.uniform(0.0, road.center.length_m)
        left = rng.uniform(-0.4, 0.4) * road.width_m
        kind = rng.random()
        if kind < 0.4:  # manhole
            canvas.wear_disc(road.center.position(distance, left), 0.38, 140)
        elif kind < 0.7:  # patch
            end = min(distance + rng.uniform(2.0, 14.0), road.center.length_m)
            canvas.wear_area(road.center.strip(distance, end, left, rng.uniform(1.0, 2.6)), int(rng.uniform(40, 90)))
        else:  # crack
            steps = np.concatenate([road.center.position(distance, left)[None], rng.normal(0.0, 0.5, (14, 2))])
            canvas.wear_crack(np.cumsum(steps, axis=0), 110)
