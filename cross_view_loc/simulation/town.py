"""The procedural town: one seed, one town, always the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.blocks import fill_blocks
from cross_view_loc.simulation.cars import build_cars, traffic_spots
from cross_view_loc.simulation.countryside import build_countryside
from cross_view_loc.simulation.detail import TINT_OF_ONE
from cross_view_loc.simulation.drive import Drive, plan_drive
from cross_view_loc.simulation.furniture import furnish_streets
from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.markings import bay_slots, paint_streets
from cross_view_loc.simulation.mesh import MeshBuilder, TriangleMesh
from cross_view_loc.simulation.palette import TOWN_PALETTE, Palette
from cross_view_loc.simulation.places import classify_place
from cross_view_loc.simulation.regions import region_named
from cross_view_loc.simulation.roads import RoadAreas, RoadNetwork, build_areas, build_network
from cross_view_loc.simulation.site import Site
from cross_view_loc.simulation.style import TownStyle
from cross_view_loc.simulation.terrain import Terrain, add_kerbs, add_terrain
from cross_view_loc.simulation.vegetation import TreePlanter, add_trees

SMALLEST_TOWN_M = 100.0
_DRIVE_STREAM, _CAR_STREAM = 1, 2
"""Keep the random numbers of drives and of cars apart."""


class Town:
    """A square town centred on the map origin; every array is a function of the constructor's arguments alone.

    mesh: static geometry (`TriangleMesh`, ENU metres). ground_material, markings, wear: (n, n) uint8 rasters with row 0
    at the north edge and column 0 at the west edge, see `GroundCanvas`. trees: (T, 4) east, north, crown radius,
    height in metres. network, areas: the roads and what they cover. style: how this town is built.
    region: one of REGIONS. palette: the colours of its ground and leaves. tint: (m, m, 3) uint8 factors on the ground's
    albedo over the same square as the other rasters, at any resolution; 128 stands for 1, the code is square.
    """

    def __init__(
        self, seed: int, size_m: float = 400.0, ground_resolution_m: float = 0.1, region: str = "town"
    ) -> None:
        """Drives exist in towns of 240 m and more; `region` is one of REGIONS.

        Raises InputError for impossible sizes and unknown regions.
        """
        if size_m < SMALLEST_TOWN_M:
            raise InputError(f"A town of {size_m:g} m is too small; make it at least {SMALLEST_TOWN_M:g} m.")
        rules = region_named(region)
        self.seed, self.size_m, self.region = seed, float(size_m), region
        rng = np.random.default_rng(seed)
        canvas = GroundCanvas(self.size_m, ground_resolution_m)
        self.ground_resolution_m = canvas.resolution_m
        self.terrain = Terrain.random(rng)
        self.style = TownStyle.random(rng, rules)
        self.network = build_network(self.size_m, self.style, rng, rules.plan)
        self.areas = build_areas(self.network, self.style, rng)

        site = Site(canvas, self.terrain, MeshBuilder(), TreePlanter(canvas), self.style, rng)
        add_terrain(site.builder, self.terrain, self.size_m)
        self.palette, self.tint = TOWN_PALETTE, np.full((1, 1, 3), TINT_OF_ONE, np.uint8)
        if rules.land:
            self.palette = Palette.random(rules, rng)
            self.network, self.tint = build_countryside(site, self.network, self.areas, rules)
        else:
            _build_town(site, self.network, self.areas)
        self.trees: NDArray[np.float64] = site.planter.trees

        self._canvas = canvas
        self._parking_spots = np.array(site.car_spots).reshape(-1, 3)
        self.mesh: TriangleMesh = site.builder.build()
        self.ground_material: NDArray[np.uint8] = canvas.material
        self.markings: NDArray[np.uint8] = canvas.markings
        self.wear: NDArray[np.uint8] = canvas.wear

    def height(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Height of the ground in metres at east x, north y (any shapes that broadcast)."""
        return self.terrain.height(x, y)

    def ground_pixel(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) column and row in the ground rasters of map points (..., 2 or more), pixel centres at + 0.5."""
        return self._canvas.pixel(points)

    def place_at(self, east_m: float, north_m: float) -> str:
        """The class of the scene at a position: "junction", "street" or "bend", see `places.classify_place`."""
        return classify_place(self.network, east_m, north_m)

    def cars(self, seed: int, occupancy: float = 0.6, keep_clear: BaseGeometry | None = None) -> TriangleMesh:
        """Parked and moving cars for one moment.

        occupancy: share of parking places in use, 0 to 1; traffic grows with it. keep_clear: an area in the map that no
        car touches (`Drive.corridor()`); the cars elsewhere do not depend on it.
        """
        rng = np.random.default_rng([self.seed, _CAR_STREAM, seed])
        parked = self._parking_spots[rng.random(len(self._parking_spots)) < occupancy]
        moving = traffic_spots(self.network, 0.5 * occupancy, rng)
        return build_cars(np.concatenate([parked, moving]), self.terrain, self.size_m, keep_clear, rng)

    def drive(self, seed: int = 0, duration_s: float = 90.0, speed_mps: float = 9.0) -> Drive:
        """A drive over the town's roads, at least 25 m inside its edge; `speed_mps` is reached on straight stretches.

        Raises InputError when the town is too small to hold a loop of roads.
        """
        rng = np.random.default_rng([self.seed, _DRIVE_STREAM, seed])
        return plan_drive(self.network, self.terrain, duration_s, speed_mps, rng)


def _build_town(site: Site, network: RoadNetwork, areas: RoadAreas) -> None:
    add_kerbs(site.builder, site.terrain, areas.carriageway, site.canvas.size_m)
    paint_streets(site.canvas, network, areas, site.style, site.rng)
    _park_in_bays(site, areas)
    fill_blocks(site, areas.blocks)
    furnish_streets(site, network, areas)
    add_trees(site.builder, site.terrain, site.planter.trees, site.style.conifer_share, site.rng)


def _park_in_bays(site: Site, areas: RoadAreas) -> None:
    """Add the kerbside parking places; most cars face the way the traffic beside them goes."""
    for bay in areas.bays:
        distance = bay_slots(bay)
        places, tangents = bay.road.center.position(distance, bay.left_m), bay.road.center.tangent(distance)
        against = site.rng.random(len(distance)) < 0.12
        for place, tangent, reverse in zip(places, tangents, against, strict=True):
            forward = -tangent if (bay.side > 0) != reverse else tangent
            site.park(place, np.arctan2(forward[1], forward[0]))
