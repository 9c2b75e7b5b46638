"""A home outside the town: house or trailer, drive, yard, shed, pool and borders."""

from __future__ import annotations

import numpy as np
from shapely import affinity
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import nearest_points

from cross_view_loc.simulation.buildings import add_house
from cross_view_loc.simulation.detail import GroundDetail
from cross_view_loc.simulation.footprints import OrientedRectangle
from cross_view_loc.simulation.land import LandStyle, any_of
from cross_view_loc.simulation.lots import build_border
from cross_view_loc.simulation.materials import GroundMaterial, SurfaceMaterial, coloured_seed
from cross_view_loc.simulation.regions import Region
from cross_view_loc.simulation.site import Site

_LONGEST_DRIVE_M = 45.0
_PAVED = (GroundMaterial.CONCRETE, GroundMaterial.CONCRETE, GroundMaterial.PAVER, GroundMaterial.PARKING_ASPHALT)
_LOOSE = (GroundMaterial.GRAVEL, GroundMaterial.DIRT)


class HomeBuilder:
    """Builds homes on lots; collects what trees must keep away from and where gardens are."""

    def __init__(
        self, site: Site, region: Region, land: LandStyle, detail: GroundDetail, road_edge: BaseGeometry
    ) -> None:
        self._site, self._region, self._land, self._detail, self._road_edge = site, region, land, detail, road_edge
        self.buildings: list[BaseGeometry] = []
        self.gardens: list[BaseGeometry] = []

    def build(self, lot: Polygon, block: Polygon) -> None:
        """Fill one lot; only a garden where no house fits."""
        site, land, rng = self._site, self._land, self._site.rng
        dryness = float(np.clip(rng.normal(0.0, land.lawn_spread), -0.5, 0.4))
        self._detail.fill(lot, rng.normal(0.0, 0.6) * land.lawn_spread, dryness)
        self.gardens.append(lot)
        is_trailer = rng.random() < land.trailer_share
        plan = self._place(lot, is_trailer)
        if plan is None:
            return
        house = self._build_house(plan, is_trailer)
        self._build_drive(lot, house)
        if rng.random() < land.shed_share:
            self._build_shed(lot, house)
        if rng.random() < land.pool_share:
            self._dig_pool(lot)
        if rng.random() < 0.7:  # a terrace or path along the house
            shifted = affinity.translate(house.buffer(rng.uniform(0.3, 1.2)), *rng.normal(0.0, 1.2, 2))
            self._fill(shifted.difference(house).intersection(lot), _PAVED[rng.integers(3)])
        for _ in range(int(rng.integers(0, 4))):  # flower beds and bare corners
            spot = Point(rng.uniform(lot.bounds[:2], lot.bounds[2:])).buffer(rng.uniform(0.8, 3.0), quad_segs=3)
            self._fill(affinity.scale(spot, 1.0, rng.uniform(0.4, 1.0)).intersection(lot), GroundMaterial.SOIL)
        if rng.random() < site.style.border_share:
            front = lot.exterior.intersection(block.exterior.buffer(0.2))
            build_border(site, lot, front, int(rng.integers(1 << 30)))

    def _fill(self, area: BaseGeometry, material: GroundMaterial) -> None:
        self._site.canvas.fill(area, material)

    def _place(self, lot: Polygon, is_trailer: bool) -> OrientedRectangle | None:
        rng = self._site.rng
        size = np.sort(rng.uniform([10.0, 7.5], [17.0, 11.5]) * self._land.house_scale)[::-1]
        if is_trailer:
            size = np.array([rng.uniform(13.0, 21.0), rng.uniform(4.0, 6.0)])
        inner = OrientedRectangle.around(lot.buffer(-2.0))
        if inner is None or inner.width_m < 5.0:
            return None
        room = np.array([inner.length_m, inner.width_m])
        if rng.random() < 0.5 and room[1] > size[0]:  # the ridge across the lot
            inner = OrientedRectangle(inner.at(0.0, inner.width_m), -inner.across, inner.along, *room[::-1])
            room = room[::-1]
        size = np.minimum(size, 0.95 * room)
        start = (room - size) * rng.uniform(0.1, 0.9, 2)
        plan = inner.part((start[0], start[0] + size[0]), (start[1], start[1] + size[1]))
        if size[0] < size[1]:
            plan = OrientedRectangle.around(plan.polygon) or plan
        return plan if size.min() > 3.5 and lot.contains(plan.polygon) else None

    def _roof(self) -> tuple[SurfaceMaterial, int]:
        rng, is_metal = self._site.rng, self._site.rng.random() < self._land.metal_roof_share
        colours = self._region.metal_colours if is_metal else self._region.roof_colours
        seed = coloured_seed(any_of(colours, rng), int(rng.integers(4096)))
        return (SurfaceMaterial.ROOF_METAL if is_metal else SurfaceMaterial.ROOF_SHINGLE), seed

    def _build_house(self, plan: OrientedRectangle, is_trailer: bool) -> Polygon:
        """The house with, often, a wing of the same roof across it."""
        site, rng = self._site, self._site.rng
        seed, roof = int(rng.integers(1 << 30)), self._roof()
        base = float(site.terrain.height(*plan.corners.T).mean())
        wall = 2.7 if is_trailer else float(rng.choice([2.7, 2.9, 3.0, 5.6]))
        slope = rng.uniform(0.12, 0.25) if is_trailer else rng.uniform(0.3, 0.8)
        hipped = not is_trailer and bool(rng.random() < site.style.hip_roof_share)
        ridge = slope * plan.width_m / 2
        add_house(site.builder, plan, base, wall, ridge, hipped, seed, roof, bool(rng.random() < 0.4))
        house = plan.polygon
        if not is_trailer and rng.random() < 0.6:
            width = plan.width_m * rng.uniform(0.6, 0.95)
            begin = rng.uniform(0.0, plan.length_m - width)
            out = rng.uniform(1.5, 5.0)
            forward = (-out, plan.width_m * 0.6) if rng.random() < 0.5 else (plan.width_m * 0.4, plan.width_m + out)
            wing = OrientedRectangle.around(plan.part((begin, begin + width), forward).polygon)
            if wing is not None:
                add_house(site.builder, wing, base, wall, slope * wing.width_m / 2, hipped, seed, roof, False)
                house = house.union(wing.polygon)
        self.buildings.append(house)
        return house

    def _build_drive(self, lot: Polygon, house: Polygon) -> None:
        """From the house to the road, through the verge."""
        site, rng = self._site, self._site.rng
        beside = house.exterior.interpolate(rng.random(), normalized=True)
        target = nearest_points(self._road_edge, Point(beside))[0]
        start = nearest_points(house.exterior, target)[0]
        drive = LineString([start, target])
        if not 2.0 < drive.length < _LONGEST_DRIVE_M:
            return
        loose = rng.random() < self._land.gravel_drive_share
        material = _LOOSE[rng.integers(2)] if loose else _PAVED[rng.integers(4)]
        if drive.length > 15.0:
            sway = np.array(drive.interpolate(0.5, normalized=True).coords[0]) + rng.uniform(-4.0, 4.0, 2)
            drive = LineString([start, sway, target])
        width = rng.uniform(2.6, 6.0) if not loose else rng.uniform(2.4, 3.6)
        area = drive.buffer(width / 2, cap_style="square").union(target.buffer(0.75 * width))
        if rng.random() < 0.4:  # room to turn or park before the house
            area = area.union(start.buffer(rng.uniform(2.5, 5.0)))
        area = area.difference(house)
        self._fill(area, material)
        self._detail.fill(area, rng.normal(0.0, 0.2), rng.normal(0.0, 0.15))
        if loose:
            ends = np.asarray(drive.coords)
            direction = (ends[-1] - ends[0]) / np.linalg.norm(ends[-1] - ends[0])
            for wheel in (-0.8, 0.8):
                self._detail.stroke(ends + wheel * np.array([-direction[1], direction[0]]), 0.6, rng.uniform(0.1, 0.35))
        for _ in range(int(rng.integers(0, 3))):  # stains where cars stand
            place = np.asarray(drive.interpolate(rng.random(), normalized=True).coords[0])
            self._detail.stroke(place + rng.normal(0.0, 0.25, (2, 2)), rng.uniform(0.4, 1.0), -0.4)
        if drive.length > 6.5:
            (x0, y0), (x1, y1) = drive.coords[0], drive.coords[1]
            place = drive.interpolate(3.2)
            site.park((place.x, place.y), float(np.arctan2(y1 - y0, x1 - x0)))

    def _build_shed(self, lot: Polygon, house: BaseGeometry) -> None:
        rng = self._site.rng
        room = lot.difference(house.buffer(2.0)).buffer(-3.0)
        if room.is_empty:
            return
        corner = room.geoms[0] if hasattr(room, "geoms") else room
        place = np.asarray(corner.exterior.interpolate(rng.random(), normalized=True).coords[0])
        length, width = rng.uniform(2.5, 9.0), rng.uniform(2.2, 4.8)
        angle = rng.uniform(0.0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        plan = OrientedRectangle(place, along, np.array([-along[1], along[0]]), max(length, width), width)
        if not lot.contains(plan.polygon) or plan.polygon.intersects(house.buffer(0.5)):
            return
        base = float(self._site.terrain.height(*plan.corners.T).mean())
        seed = int(rng.integers(1 << 30))
        add_house(self._site.builder, plan, base, rng.uniform(1.9, 2.6), 0.25 * width, False, seed, self._roof(), False)
        self.buildings.append(plan.polygon)

    def _dig_pool(self, lot: Polygon) -> None:
        rng = self._site.rng
        yard = lot.buffer(-4.0)
        for building in self.buildings[-3:]:
            yard = yard.difference(building.buffer(3.0))
        if yard.area < 40.0:
            return
        middle = yard.representative_point()
        pool = affinity.rotate(
            affinity.scale(middle.buffer(1.0), rng.uniform(2.5, 5.0), rng.uniform(1.5, 2.5)), rng.uniform(0, 180)
        )
        self._fill(pool.buffer(rng.uniform(0.6, 1.8)), _PAVED[rng.integers(3)])
        self._fill(pool, GroundMaterial.WATER)
