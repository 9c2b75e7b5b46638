"""What stands along the streets: lamps, trees, signs and bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from shapely import contains_xy, prepare
from shapely.geometry import Point
from shapely.ops import unary_union

from cross_view_loc.simulation.materials import GroundMaterial, SurfaceMaterial
from cross_view_loc.simulation.roads import BAY_WIDTH_M, RoadAreas, RoadNetwork
from cross_view_loc.simulation.site import Site

_FROM_KERB_M = 1.6
_LAMP_SEED, _BIN_SEED, _SIGN_SEEDS = 1, 7, (2, 3, 4, 5)


def furnish_streets(site: Site, network: RoadNetwork, areas: RoadAreas) -> None:
    """Line the roads, but never on the carriageway."""
    rng = site.rng
    carriageway = unary_union(areas.carriageway).buffer(0.35)
    prepare(carriageway)
    with_bays = {(id(bay.road), bay.side) for bay in areas.bays}
    limit = network.size_m / 2 - 2.0
    for road in network.roads:
        has_trees = rng.random() < site.style.street_tree_share
        for side in (1, -1):
            bay_width = BAY_WIDTH_M if (id(road), side) in with_bays else 0.0
            left = side * (road.width_m / 2 + _FROM_KERB_M + bay_width)
            first = network.junction_radius_m[road.start] + 6.0 + rng.uniform(0.0, 6.0)
            last = road.center.length_m - network.junction_radius_m[road.end] - 6.0
            distance = first + np.concatenate([[0.0], np.cumsum(rng.uniform(9.0, 13.0, 16))])
            distance = distance[distance < last]
            places = road.center.position(distance, left)
            toward_road = -side * _left_of(road.center.tangent(distance))
            free = ~contains_xy(carriageway, places[:, 0], places[:, 1]) & (np.abs(places).max(axis=1) < limit)
            for index, (place, inward) in enumerate(zip(places, toward_road, strict=True)):
                choice = rng.random(2)
                if not free[index]:
                    continue
                if index % 3 == 0 and side == 1:
                    _add_lamp(site, place, inward)
                elif has_trees:
                    site.planter.plant(place, rng.uniform(1.6, 2.4), rng.uniform(6.0, 9.0))
                    site.canvas.fill(Point(place).buffer(0.6), GroundMaterial.SOIL)
                elif choice[0] < 0.12:
                    _add_sign(site, place, inward, int(rng.choice(_SIGN_SEEDS)))
                elif choice[1] < 0.08:
                    ground = float(site.terrain.height(*place))
                    _box(site, place, (0.28, 0.28), (ground - 0.1, ground + 1.0), inward, _BIN_SEED)


def _left_of(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([-direction[..., 1], direction[..., 0]], axis=-1)


def _add_lamp(site: Site, place: NDArray[np.float64], inward: NDArray[np.float64]) -> None:
    ground = float(site.terrain.height(*place))
    top = ground + 7.0
    head = place + 1.2 * inward
    _box(site, place, (0.07, 0.07), (ground - 0.2, top), inward, _LAMP_SEED)
    _box(site, (place + head) / 2, (0.6, 0.04), (top - 0.1, top), inward, _LAMP_SEED)
    _box(site, head, (0.35, 0.12), (top - 0.15, top), inward, _LAMP_SEED, SurfaceMaterial.LAMP)


def _add_sign(site: Site, place: NDArray[np.float64], inward: NDArray[np.float64], seed: int) -> None:
    ground = float(site.terrain.height(*place))
    along = _left_of(inward)
    _box(site, place, (0.03, 0.03), (ground - 0.1, ground + 2.3), along, _LAMP_SEED)
    _box(site, place, (0.02, 0.32), (ground + 1.75, ground + 2.4), along, seed, SurfaceMaterial.LAMP)


def _box(
    site: Site,
    place: NDArray[np.float64],
    half_size: tuple[float, float],
    heights: tuple[float, float],
    direction: NDArray[np.float64],
    seed: int,
    material: SurfaceMaterial = SurfaceMaterial.METAL,
) -> None:
    yaw = np.arctan2(direction[1], direction[0])
    site.builder.add_boxes(place, half_size, heights[0], heights[1], yaw, material, seed)
