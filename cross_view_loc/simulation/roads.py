"""The street network: a warped, thinned grid with one arterial each way, and the areas it cuts out of the town."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon, box
from shapely.ops import unary_union

from cross_view_loc.simulation.centerline import Centerline
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.regions import TOWN_PLAN, StreetPlan
from cross_view_loc.simulation.style import TownStyle

DRIVE_MARGIN_M = 25.0
"""Drives keep this far from the town's edge."""
SMALLEST_TOWN_WITH_DRIVES_M = 240.0

BAY_WIDTH_M = 2.1
KERB_RADIUS_M = 4.0
"""Of the rounded corners between roads."""
_BAY_CLEARANCE_M = 16.0
_ATTEMPTS = 24
_NETWORKS_TO_CHOOSE_FROM = 5
_POINTS_PER_ROAD = 41


class RoadKind(Enum):
    """Arterials have two lanes each way, the others one."""

    ARTERIAL = "arterial"
    COLLECTOR = "collector"
    RESIDENTIAL = "residential"


@dataclass(frozen=True, eq=False)
class Road:
    """One road between two junctions."""

    start: int
    end: int
    kind: RoadKind
    width_m: float
    paint: int
    """Strength of its markings, 0 to 255; 0 for unmarked roads."""
    verge: GroundMaterial
    """What lies beside the carriageway."""
    center: Centerline
    surface: GroundMaterial = GroundMaterial.ASPHALT

    @cached_property
    def line(self) -> LineString:
        """The centre line as a shapely geometry."""
        return LineString(self.center.points)

    @property
    def lane_offsets_m(self) -> tuple[float, ...]:
        """Distances of the lane centres to the right of the centre line, innermost first."""
        if self.kind is RoadKind.ARTERIAL:
            return (0.129 * self.width_m, 0.366 * self.width_m)
        return (self.width_m / 4,)


@dataclass(frozen=True)
class Bay:
    """A row of kerbside parking bays; `side` is +1 left of the road, -1 right."""

    road: Road
    side: int
    start_m: float
    end_m: float

    @property
    def left_m(self) -> float:
        """Offset of the middle of the row from the road's centre line."""
        return self.side * (self.road.width_m / 2 + BAY_WIDTH_M / 2)


@dataclass(frozen=True)
class RoadNetwork:
    """Roads between numbered junctions; extends a little beyond the town."""

    roads: tuple[Road, ...]
    positions: dict[int, NDArray[np.float64]]
    """(2,) of each junction."""
    size_m: float

    @cached_property
    def graph(self) -> nx.Graph:
        """Junctions, and roads as edges with the attribute `road`."""
        graph = nx.Graph()
        for road in self.roads:
            graph.add_edge(road.start, road.end, road=road)
        return graph

    @cached_property
    def junction_radius_m(self) -> dict[int, float]:
        """How far from each junction's middle its arms begin; 0 where a road merely bends or ends."""
        radius = {}
        for node in self.graph:
            widths = [self.graph.edges[node, other]["road"].width_m for other in self.graph[node]]
            radius[node] = max(widths) / 2 + 3.2 if len(widths) >= 3 else 0.0
        return radius

    @cached_property
    def drivable(self) -> nx.Graph:
        """The roads well inside the town on which one can drive on for ever without turning round; may be empty."""
        limit = self.size_m / 2 - DRIVE_MARGIN_M
        inner = nx.Graph()
        for road in self.roads:
            if np.abs(road.center.points).max() + road.width_m / 2 <= limit:
                inner.add_edge(road.start, road.end, road=road)
        core = nx.k_core(inner, 2)
        if not core:
            return core
        # Ties are settled by the smallest junction number, not by the order of sets.
        largest = max(nx.connected_components(core), key=lambda nodes: (len(nodes), -min(nodes)))
        return core.subgraph(sorted(largest))


@dataclass(frozen=True)
class RoadAreas:
    """What the network covers, clipped to the town."""

    carriageway: list[Polygon]
    sidewalks: list[Polygon]
    blocks: list[Polygon]
    bays: list[Bay]


def build_network(
    size_m: float, style: TownStyle, rng: np.random.Generator, plan: StreetPlan = TOWN_PLAN
) -> RoadNetwork:
    """Draw a street network; towns of 240 m and more always get one that can be driven on.

    Few loops fit between the long roads of other plans than the town's: of some networks the one with most to drive on.
    """
    best: RoadNetwork | None = None
    for attempt in range(_ATTEMPTS - 1):
        # Plans wider than the town's shrink until a loop fits.
        shrink = min(1.0, TOWN_PLAN.block_m.high / plan.block_m.high) ** (attempt / _ATTEMPTS)
        network = _draw_network(size_m, style, rng, plan, shrink)
        if best is None or network.drivable.number_of_edges() > best.drivable.number_of_edges():
            best = network
        is_enough = plan is TOWN_PLAN or attempt >= _NETWORKS_TO_CHOOSE_FROM
        if is_enough and (best.drivable or size_m < SMALLEST_TOWN_WITH_DRIVES_M):
            return best
    return _draw_network(size_m, style, rng, plan, plain=True)


def _draw_network(
    size_m: float,
    style: TownStyle,
    rng: np.random.Generator,
    plan: StreetPlan,
    shrink: float = 1.0,
    plain: bool = False,
) -> RoadNetwork:
    """A plain network is a straight complete grid whose middle block lies in the centre of the town."""
    reach = size_m / 2 * (abs(np.cos(style.grid_rotation_rad)) + abs(np.sin(style.grid_rotation_rad))) + 30.0
    columns, rows = (_cuts(reach, rng, plan, shrink, plain) for _ in range(2))
    main_column, main_row = rng.integers(1, len(columns) - 1), rng.integers(1, len(rows) - 1)
    warp = _Warp.random(rng, 0.0 if plain else style.grid_rotation_rad, 0.0 if plain else shrink, plan)
    jitter = 0.0 if plain else plan.jitter_m * shrink
    main = RoadKind.ARTERIAL if plan.has_arterials else RoadKind.COLLECTOR

    grid_points, edges = {}, []
    for i, column in enumerate(columns):
        for j, row in enumerate(rows):
            shift = rng.uniform(-jitter, jitter, 2) * [i != main_column, j != main_row]
            grid_points[i * len(rows) + j] = np.array([column, row]) + shift
    for i in range(len(columns)):
        for j in range(len(rows)):
            kind = RoadKind.COLLECTOR if rng.random() < plan.collector_share else RoadKind.RESIDENTIAL
            node = i * len(rows) + j
            if i + 1 < len(columns):
                edges.append((node, node + len(rows), main if j == main_row else kind))
            if j + 1 < len(rows):
                edges.append((node, node + 1, main if i == main_column else kind))

    lines = {}
    for start, end, _ in edges:
        share = np.linspace(0.0, 1.0, _POINTS_PER_ROAD)[:, None]
        points = warp(grid_points[start] + (grid_points[end] - grid_points[start]) * share)
        if (np.abs(points).max(axis=1) < size_m / 2 + 30.0).any():
            lines[start, end] = points
    kept = [edge for edge in edges if edge[:2] in lines]
    if not plain:
        kept = _thin_out(kept, plan.thinning, rng)
    roads = tuple(_make_road(start, end, kind, lines[start, end], style, rng) for start, end, kind in kept)
    nodes = sorted({node for start, end, _ in kept for node in (start, end)})
    return RoadNetwork(roads, {node: warp(grid_points[node]) for node in nodes}, size_m)


def _cuts(
    reach_m: float, rng: np.random.Generator, plan: StreetPlan, shrink: float, plain: bool
) -> NDArray[np.float64]:
    if plain:
        half = 70.0 * np.arange(int(np.ceil(reach_m / 70.0)) + 1) + 35.0
        return np.concatenate([-half[::-1], half])
    cuts = [-reach_m - rng.uniform(0.0, 40.0)]
    while cuts[-1] < reach_m:
        cuts.append(cuts[-1] + shrink * plan.block_m(rng))
    return np.array(cuts)


@dataclass(frozen=True)
class _Warp:
    """Bends the straight grid into streets."""

    amplitudes_m: NDArray[np.float64]
    phases_rad: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @staticmethod
    def random(rng: np.random.Generator, rotation_rad: float, strength: float, plan: StreetPlan) -> _Warp:
        cosine, sine = np.cos(rotation_rad), np.sin(rotation_rad)
        amplitudes = strength * np.array([plan.bend_m(rng), plan.bend_m(rng), plan.wiggle_m(rng), plan.wiggle_m(rng)])
        return _Warp(amplitudes, rng.uniform(0.0, 2 * np.pi, 4), np.array([[cosine, -sine], [sine, cosine]]))

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[..., 0], points[..., 1]
        (a, b, c, d), (p, q, r, s) = self.amplitudes_m, self.phases_rad
        bent = np.stack(
            [
                x + a * np.sin(y / 60.0 + p) + c * np.sin(y / 27.0 + r),
                y + b * np.sin(x / 70.0 + q) + d * np.sin(x / 33.0 + s),
            ],
            axis=-1,
        )
        return bent @ self.rotation.T


_Edge = tuple[int, int, RoadKind]


def _thin_out(edges: list[_Edge], share: float, rng: np.random.Generator) -> list[_Edge]:
    """Remove some of the minor roads without cutting the town in two or making dead ends."""
    graph = nx.Graph([edge[:2] for edge in edges])
    minor = [edge for edge in edges if edge[2] is not RoadKind.ARTERIAL]
    removed = set()
    for index in rng.permutation(len(minor))[: int(share * len(minor))]:
        start, end, _ = minor[index]
        graph.remove_edge(start, end)
        if min(graph.degree(start), graph.degree(end)) < 2 or not nx.has_path(graph, start, end):
            graph.add_edge(start, end)
        else:
            removed.add((start, end))
    return [edge for edge in edges if edge[:2] not in removed]


def _make_road(
    start: int, end: int, kind: RoadKind, points: NDArray[np.float64], style: TownStyle, rng: np.random.Generator
) -> Road:
    width = {
        RoadKind.ARTERIAL: style.arterial_width_m,
        RoadKind.COLLECTOR: style.collector_width_m,
        RoadKind.RESIDENTIAL: style.residential_width_m,
    }[kind]
    has_verge, is_marked = rng.random() < style.verge_share, rng.random() < style.center_line_share
    verge = GroundMaterial.GRASS if rng.random() < 0.6 else GroundMaterial.GRAVEL
    paint = int(255 * np.clip(style.paint + rng.uniform(-0.25, 0.15), 0.4, 1.0))
    if kind is RoadKind.COLLECTOR and not is_marked:
        paint = 0
    verge = verge if has_verge and kind is RoadKind.RESIDENTIAL else GroundMaterial.SIDEWALK
    return Road(start, end, kind, width, paint, verge, Centerline(points))


def build_areas(network: RoadNetwork, style: TownStyle, rng: np.random.Generator) -> RoadAreas:
    """Carriageway with rounded corners and parking bays, pavements, and the blocks left between them."""
    half = network.size_m / 2
    town = box(-half, -half, half, half)
    parts = [road.line.buffer(road.width_m / 2) for road in network.roads]
    bays = []
    for road in network.roads:
        for side in (1, -1):
            wanted = rng.random() < style.bay_probability
            if road.kind is RoadKind.ARTERIAL or road.center.length_m < 2 * _BAY_CLEARANCE_M + 12 or not wanted:
                continue
            bay = Bay(road, side, _BAY_CLEARANCE_M, road.center.length_m - _BAY_CLEARANCE_M)
            bays.append(bay)
            parts.append(Polygon(road.center.strip(bay.start_m, bay.end_m, bay.left_m, BAY_WIDTH_M + 0.1)).buffer(0))
    rounded = unary_union(parts).buffer(KERB_RADIUS_M).buffer(-KERB_RADIUS_M)
    carriageway = rounded.buffer(-1).buffer(1).intersection(town)
    with_sidewalks = rounded.buffer(style.sidewalk_width_m).intersection(town)
    return RoadAreas(
        carriageway=polygons(carriageway),
        sidewalks=polygons(with_sidewalks.difference(carriageway)),
        blocks=[block for block in polygons(town.difference(with_sidewalks)) if block.area > 250],
        bays=bays,
    )


def polygons(geometry: object) -> list[Polygon]:
    """The non-empty polygons of any shapely geometry."""
    parts = getattr(geometry, "geoms", [geometry])
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
