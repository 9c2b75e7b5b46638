"""Roads outside the town: asphalt, gravel or dirt, with shoulders, ragged edges, ruts, patches and cracks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.ops import unary_union

from cross_view_loc.simulation.detail import GroundDetail
from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.land import LandStyle
from cross_view_loc.simulation.markings import mark_road
from cross_view_loc.simulation.materials import ROAD_MATERIALS, GroundMaterial
from cross_view_loc.simulation.roads import Road, RoadAreas, RoadKind, RoadNetwork
from cross_view_loc.simulation.site import Site

_EDGE_STEP_M = 0.8
_FOOTPATH_M = 1.3
_PATCHES_PER_100_M = 3.0


def surface_roads(network: RoadNetwork, land: LandStyle, rng: np.random.Generator) -> RoadNetwork:
    """The same roads with what they are made of; only minor ones go without asphalt, and those are unmarked."""
    dirt = GroundMaterial.DIRT if rng.random() < land.dirt_share else GroundMaterial.GRAVEL
    all_concrete = rng.random() < 0.06
    roads = []
    for road in network.roads:
        surface = GroundMaterial.CONCRETE if all_concrete else GroundMaterial.ASPHALT
        if road.kind is RoadKind.RESIDENTIAL and rng.random() < land.unpaved_share:
            surface = dirt
        paint = road.paint if surface in (GroundMaterial.ASPHALT, GroundMaterial.CONCRETE) else 0
        roads.append(replace(road, surface=surface, paint=paint))
    return replace(network, roads=tuple(roads))


def lay_roads(site: Site, network: RoadNetwork, areas: RoadAreas, land: LandStyle, detail: GroundDetail) -> None:
    """Fill carriageways, gutters and shoulders, mark and age them."""
    canvas, rng = site.canvas, site.rng
    carriageway = unary_union(areas.carriageway)
    for road in network.roads:
        if rng.random() < land.footpath_share:
            _lay_footpath(canvas, road, site.style.sidewalk_width_m, 1 if rng.random() < 0.5 else -1)
    if land.kerbs:
        canvas.fill(carriageway.buffer(rng.uniform(0.3, 0.5)), GroundMaterial.CONCRETE)
        road_area = carriageway
    else:
        road_area = unary_union([_ragged(polygon, rng) for polygon in areas.carriageway])
    canvas.fill(road_area, GroundMaterial.ASPHALT)
    for road in sorted(network.roads, key=lambda road: road.kind is RoadKind.COLLECTOR):
        strip = road.line.buffer(road.width_m / 2 + 2.5).intersection(road_area)
        canvas.fill(strip, road.surface)
        detail.fill(strip, rng.normal(0.0, 0.18), rng.normal(0.0, 0.08))
    if not land.kerbs:
        _wear_shoulders(canvas, detail, land, rng)
    for road in network.roads:
        if road.surface in (GroundMaterial.ASPHALT, GroundMaterial.CONCRETE):
            _mark(canvas, network, road, site, land)
            _age_asphalt(canvas, detail, road, land, rng)
        else:
            _rut(detail, road, land, rng)


def _lay_footpath(canvas: GroundCanvas, road: Road, verge_m: float, side: int) -> None:
    if verge_m < 2.2:
        return
    left = side * (road.width_m / 2 + verge_m - 0.3 - _FOOTPATH_M / 2)
    canvas.fill_outline(road.center.strip(0.0, road.center.length_m, left, _FOOTPATH_M), GroundMaterial.CONCRETE)


def _ragged(polygon: Polygon, rng: np.random.Generator) -> Polygon:
    """The polygon with an edge that wanders a few centimetres in and out."""

    def shaken(ring: object) -> NDArray[np.float64]:
        points = np.asarray(ring.segmentize(_EDGE_STEP_M).coords)  # type: ignore[attr-defined]
        noise = cv2.GaussianBlur(rng.normal(0.0, 0.16, (len(points), 2)), (1, 5), 0.8)
        noise[[0, -1]] = 0.0
        return points + noise.clip(-0.25, 0.25)

    return Polygon(shaken(polygon.exterior), [shaken(ring) for ring in polygon.interiors]).buffer(0)


def _wear_shoulders(canvas: GroundCanvas, detail: GroundDetail, land: LandStyle, rng: np.random.Generator) -> None:
    """Gravel or bare earth beside the roads, as wide as traffic and rain happened to leave it."""
    material = canvas.material
    off_road = (~np.isin(material, ROAD_MATERIALS)).astype(np.uint8)
    distance_m = cv2.distanceTransform(off_road, cv2.DIST_L2, 3) * canvas.resolution_m
    size = (material.shape[1], material.shape[0])
    reach = cv2.resize(detail.noise(5, 2), size) + 0.6 * cv2.resize(detail.noise(6, 1), size) + 0.5
    wild = np.isin(material, (GroundMaterial.GRASS, GroundMaterial.MEADOW, GroundMaterial.LITTER))
    shoulder = wild & (distance_m < 2.0 * land.shoulder_m * reach)
    material[shoulder] = GroundMaterial.DIRT if rng.random() < 0.4 else GroundMaterial.GRAVEL


def _mark(canvas: GroundCanvas, network: RoadNetwork, road: Road, site: Site, land: LandStyle) -> None:
    if land.kerbs and not land.yellow_paint:
        mark_road(canvas, network, road, site.style, site.rng)
        return
    rng, center = site.rng, road.center
    start = network.junction_radius_m[road.start]
    end = center.length_m - network.junction_radius_m[road.end]
    has_center = rng.random() < site.style.center_line_share
    has_edges, is_double = rng.random() < max(0.3, site.style.edge_line_share), rng.random() < 0.6
    if road.kind is not RoadKind.COLLECTOR or not road.paint or end - start < 12.0 or not has_center:
        return
    if road.surface is GroundMaterial.ASPHALT and land.yellow_paint:
        canvas.fill_outline(center.strip(start - 0.3, end + 0.3, 0.0, 0.9), GroundMaterial.YELLOW_LINE)
    if is_double:
        for left in (0.13, -0.13):
            canvas.paint(center.strip(start, end, left, 0.12), road.paint)
    else:
        for distance in np.arange(start, end - 1.0, 12.0):
            canvas.paint(center.strip(distance, min(distance + 3.0, end), 0.0, 0.13), road.paint)
    if has_edges:
        for side in (1, -1):
            canvas.paint(center.strip(start, end, side * (road.width_m / 2 - 0.35), 0.12), road.paint)


def _age_asphalt(
    canvas: GroundCanvas, detail: GroundDetail, road: Road, land: LandStyle, rng: np.random.Generator
) -> None:
    center, length = road.center, road.center.length_m
    along = np.linspace(0.0, length, max(3, int(length / 3.0)))
    lane = road.lane_offsets_m[0]
    polish, oil = rng.normal(0.08, 0.08) * land.roughness, -abs(rng.normal(0.0, 0.14)) * land.roughness
    for side in (1, -1):
        for wheel in (-0.8, 0.8):
            detail.stroke(center.position(along, side * lane + wheel), 0.5, polish)
        detail.stroke(center.position(along, side * lane + rng.normal(0.0, 0.1, len(along))), 0.4, oil)
    for _ in range(rng.poisson(_PATCHES_PER_100_M * land.roughness * length / 100.0)):
        begin, left = rng.uniform(0.0, length), rng.uniform(-0.42, 0.42) * road.width_m
        stop = min(begin + rng.uniform(0.6, 9.0), length)
        if stop - begin < 0.4:
            continue
        outline = center.strip(begin, stop, left, rng.uniform(0.5, 2.4))
        detail.fill(Polygon(outline).buffer(0), rng.normal(-0.12, 0.3))
    for _ in range(rng.poisson(5.0 * land.roughness * length / 100.0)):  # cracks, many of them sealed with tar
        place = center.position(rng.uniform(0.0, length), rng.uniform(-0.45, 0.45) * road.width_m)
        heading = rng.uniform(0.0, 2 * np.pi) + np.cumsum(rng.normal(0.0, 0.5, 16))
        steps = rng.uniform(0.2, 0.7) * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        points = place + np.cumsum(steps, axis=0)
        canvas.wear_crack(points, int(rng.uniform(70, 200)))
        if rng.random() < 0.4:
            detail.stroke(points, 0.25, -0.35)
    for _ in range(rng.poisson(1.2 * land.kerbs * length / 100.0)):
        canvas.wear_disc(center.position(rng.uniform(0.0, length), rng.uniform(-0.35, 0.35) * road.width_m), 0.36, 150)
    if rng.random() < 0.5:  # the seam between two lanes' layers
        canvas.wear_crack(center.position(along, rng.normal(0.0, 0.04, len(along))), int(rng.uniform(40, 140)))


def _rut(detail: GroundDetail, road: Road, land: LandStyle, rng: np.random.Generator) -> None:
    """Wheel tracks: one pair along the middle of narrow roads, two pairs on others; a darker crown between."""
    center = road.center
    along = np.linspace(0.0, center.length_m, max(3, int(center.length_m / 3.0)))
    lanes = (0.0,) if rng.random() < 0.5 else (0.25 * road.width_m, -0.25 * road.width_m)
    tone = rng.choice([-1.0, 1.0, 1.0]) * rng.uniform(0.15, 0.4)
    for lane in lanes:
        sway = np.cumsum(rng.normal(0.0, 0.06, len(along))).clip(-0.5, 0.5)
        detail.stroke(center.position(along, lane + sway), 0.8, -0.6 * tone)
        for wheel in (-0.8, 0.8):
            detail.stroke(center.position(along, lane + wheel + sway), rng.uniform(0.4, 0.8), tone)
    for _ in range(rng.poisson(4.0 * land.roughness * center.length_m / 100.0)):  # pot-holes and puddle marks
        place = center.position(rng.uniform(0.0, center.length_m), rng.uniform(-0.4, 0.4) * road.width_m)
        detail.stroke(place + rng.normal(0.0, 0.4, (3, 2)), rng.uniform(0.4, 1.4), rng.normal(-0.15, 0.3))
