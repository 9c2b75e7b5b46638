"""Woods, trees along country roads, and bushes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import contains_xy, prepare
from shapely.geometry.base import BaseGeometry

from cross_view_loc.simulation.land import LandStyle
from cross_view_loc.simulation.materials import ROAD_MATERIALS, GroundMaterial
from cross_view_loc.simulation.roads import RoadNetwork
from cross_view_loc.simulation.site import Site
from cross_view_loc.simulation.vegetation import add_crowns, add_lobed_trees, add_trees

_NEAR_ROAD_M = 14.0
"""Trees this close to a road get finer crowns."""
_CONIFER_WIDTH = 1.3
"""Cones need a wider foot than balls to close a canopy."""
_RASTER_STEP = 4
_TREE_FROM_ROAD_M = 1.2
_SOFT = (GroundMaterial.GRASS, GroundMaterial.MEADOW, GroundMaterial.LITTER, GroundMaterial.SOIL)


class Clearance:
    """Distance to the nearest road and building, on a coarse raster."""

    def __init__(self, site: Site, buildings: list[BaseGeometry]) -> None:
        self._canvas = site.canvas
        material = site.canvas.material[::_RASTER_STEP, ::_RASTER_STEP]
        free_of_road = (~np.isin(material, ROAD_MATERIALS)).astype(np.uint8)
        free = free_of_road.copy()
        for building in buildings:
            outline = site.canvas.pixel(np.asarray(building.buffer(0.6).exterior.coords)) / _RASTER_STEP
            cv2.fillPoly(free, [np.round(outline).astype(np.int32)], 0)
        step_m = site.canvas.resolution_m * _RASTER_STEP
        self._road = cv2.distanceTransform(free_of_road, cv2.DIST_L2, 3) * step_m
        self._any = cv2.distanceTransform(free, cv2.DIST_L2, 3) * step_m

    def road_m(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) metres from points (N, 2) to what traffic uses; drives and yards of the same materials count too."""
        return self._at(self._road, points)

    def any_m(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) metres from points (N, 2) to a road or a building."""
        return self._at(self._any, points)

    def _at(self, raster: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float64]:
        index = np.floor(self._canvas.pixel(points) / _RASTER_STEP).astype(int).clip(0, len(raster) - 1)
        return raster[index[:, 1], index[:, 0]].astype(np.float64)


def grow_woods(site: Site, land: LandStyle, clearance: Clearance) -> None:
    """Cover all ground of leaf litter with trees; the edge towards roads is uneven and has bushes."""
    rng, spacing = site.rng, land.wood_spacing_m
    half = site.canvas.size_m / 2 - 1.0
    axis = np.arange(-half, half, spacing)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points = (points + rng.uniform(-0.45, 0.45, points.shape) * spacing).clip(-half, half)
    height = land.wood_height_m * rng.uniform(0.55, 1.25, len(points))
    radius = np.minimum(0.74 * spacing * rng.uniform(0.6, 1.3, len(points)), 0.36 * height)
    wooded = site.canvas.material_at(points) == GroundMaterial.LITTER
    gap = rng.random(len(points)) < rng.uniform(0.0, 0.3)
    setback = land.wood_setback_m * rng.uniform(0.5, 1.5, len(points)) + 0.5 * radius
    keep = wooded & ~gap & (clearance.any_m(points) > setback)
    trees = np.concatenate([points, radius[:, None], height[:, None]], axis=1)[keep]
    near = clearance.road_m(trees[:, :2]) < _NEAR_ROAD_M
    # Branches reach low where light comes in from the road, and high inside.
    share = rng.uniform(0.12, 0.45)
    edge = (0.04, max(0.1, share))
    for part, trunks, detail in ((trees[near], edge, 2), (trees[~near], (share - 0.05, share + 0.1), 1)):
        _add(site, land, part, trunks, detail)
    site.planter.plant_all(trees)


def line_roads(site: Site, network: RoadNetwork, land: LandStyle, clearance: Clearance) -> None:
    """Single trees in the verges, in clusters rather than in rows."""
    rng = site.rng
    places = []
    for road in network.roads:
        count = rng.poisson(land.roadside_trees_per_m * road.center.length_m * rng.uniform(0.2, 1.8))
        distance = rng.uniform(0.0, road.center.length_m, count)
        beside = rng.uniform(1.5, 2.0 + site.style.sidewalk_width_m, count) + road.width_m / 2
        places.append(road.center.position(distance, beside * rng.choice([-1.0, 1.0], count)))
    points = np.concatenate(places)
    radius = rng.uniform(1.2, 4.5, len(points))
    height = radius * rng.uniform(1.8, 3.2, len(points)) + 1.0
    trees = np.concatenate([points, radius[:, None], height[:, None]], axis=1)
    keep = np.isin(site.canvas.material_at(points), _SOFT) & (clearance.any_m(points) > _TREE_FROM_ROAD_M)
    keep &= np.abs(points).max(axis=1) < site.canvas.size_m / 2 - 2.0
    _add(site, land, trees[keep], (0.2, 0.45))
    site.planter.plant_all(trees[keep])


def grow_hedgerows(site: Site, land: LandStyle, fields: list[BaseGeometry], clearance: Clearance) -> None:
    """Trees and shrubs along the edges of some fields."""
    rng = site.rng
    places = [np.zeros((0, 2))]
    for field in fields:
        if rng.random() < 0.5 or field.is_empty:
            continue
        share = np.sort(rng.random(rng.poisson(field.exterior.length / rng.uniform(2.5, 14.0))))
        share = share[(share > rng.uniform(0.0, 0.5)) & (share < rng.uniform(0.5, 1.0))]
        line = [field.exterior.interpolate(s, normalized=True).coords[0] for s in share]
        places.append(np.array(line).reshape(-1, 2) + rng.normal(0.0, 0.7, (len(line), 2)))
    points = np.concatenate(places)
    radius = rng.uniform(0.8, 2.6, len(points)) * rng.uniform(0.7, 1.5, len(points))
    height = radius * rng.uniform(1.4, 3.2, len(points)) + 0.5
    keep = np.isin(site.canvas.material_at(points), _SOFT) & (clearance.any_m(points) > _TREE_FROM_ROAD_M + radius)
    keep &= np.abs(points).max(axis=1, initial=0.0) < site.canvas.size_m / 2 - 2.0
    trees = np.concatenate([points, radius[:, None], height[:, None]], axis=1)[keep]
    _add(site, land, trees, (0.03, 0.3), 1)
    site.planter.plant_all(trees)


def grow_gardens(site: Site, land: LandStyle, gardens: list[BaseGeometry], clearance: Clearance) -> None:
    """Trees scattered over the lots of homes."""
    rng = site.rng
    points = _scattered(gardens, 0.45 * site.style.tree_density, rng)
    radius = rng.uniform(1.0, 3.8, len(points)) * rng.uniform(0.8, 1.4, len(points))
    height = radius * rng.uniform(1.5, 3.0, len(points)) + 0.8
    keep = np.isin(site.canvas.material_at(points), _SOFT) & (clearance.any_m(points) > 0.5 + 0.5 * radius)
    trees = np.concatenate([points, radius[:, None], height[:, None]], axis=1)[keep]
    _add(site, land, trees, (0.12, 0.35))
    site.planter.plant_all(trees)


def grow_bushes(site: Site, areas: list[BaseGeometry], per_100_m2: float, clearance: Clearance) -> None:
    """Low round bushes on soft ground."""
    rng = site.rng
    points = _scattered(areas, per_100_m2, rng)
    radius = rng.uniform(0.35, 1.5, len(points))
    keep = np.isin(site.canvas.material_at(points), _SOFT) & (clearance.any_m(points) > 0.4 + radius)
    points, radius = points[keep], radius[keep]
    height = radius * rng.uniform(0.5, 1.1, len(points))
    up = site.terrain.height(points[:, 0], points[:, 1]) + 0.55 * height
    middles = np.concatenate([points, up[:, None]], axis=1)
    seeds = rng.integers(1 << 30, size=len(points))
    sizes = np.stack([radius, radius, height], axis=1)
    if len(points):
        add_crowns(site.builder, middles, sizes, np.zeros(len(points), bool), seeds, rng, 1)


def _add(
    site: Site, land: LandStyle, trees: NDArray[np.float64], trunk_share: tuple[float, float], detail: int = 2
) -> None:
    """Evergreen conifers and broad-leaved trees; far from roads (detail 1) crowns are single masses."""
    conifer = site.rng.random(len(trees)) < site.style.conifer_share
    parts = (site.builder, site.terrain)
    wide = np.array([1.0, 1.0, _CONIFER_WIDTH, 1.0])
    add_trees(*parts, trees[conifer] * wide, 1.0, site.rng, trunk_share, detail, evergreen=True)
    broad = trees[~conifer]
    if detail == 2:
        add_lobed_trees(*parts, broad, land.evergreen_share, site.rng, trunk_share)
        return
    keeps = site.rng.random(len(broad)) < land.evergreen_share
    for part, evergreen in ((broad[keeps], True), (broad[~keeps], False)):
        add_trees(*parts, part, 0.0, site.rng, trunk_share, detail, evergreen)


def _scattered(areas: list[BaseGeometry], per_100_m2: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2) random points inside the areas, in clumps."""
    chosen = [np.zeros((0, 2))]
    for area in areas:
        if area.is_empty:
            continue
        west, south, east, north = area.bounds
        count = rng.poisson(per_100_m2 * (east - west) * (north - south) / 100.0 * rng.uniform(0.3, 1.7))
        points = rng.uniform([west, south], [east, north], (count, 2))
        follows = rng.random(count) < 0.7
        leader = np.maximum.accumulate(np.where(follows, 0, np.arange(count)))
        points = points[leader] + np.where(follows[:, None], rng.normal(0.0, 2.0, (count, 2)), 0.0)
        prepare(area)
        chosen.append(points[contains_xy(area, points[:, 0], points[:, 1])])
    return np.concatenate(chosen)
