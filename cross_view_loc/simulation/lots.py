"""One lot at a time: a family house with garden, shops with a car park, an apartment building."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon

from cross_view_loc.simulation.buildings import add_flat_building, add_house, add_rooftop_units
from cross_view_loc.simulation.footprints import OrientedRectangle
from cross_view_loc.simulation.materials import GroundMaterial, SurfaceMaterial
from cross_view_loc.simulation.site import Site

_STOREY_M = 2.9
_DRIVEWAY_MATERIALS = (
    GroundMaterial.CONCRETE,
    GroundMaterial.PARKING_ASPHALT,
    GroundMaterial.GRAVEL,
    GroundMaterial.PAVER,
)


def build_family_house(site: Site, lot: Polygon, block: Polygon) -> None:
    """A house with driveway, borders and garden; only trees where a house does not fit."""
    rng = site.rng
    seed = int(rng.integers(1 << 30))
    plan = _place_house(site, lot)
    if plan is None:
        for _ in range(3):
            site.planter.scatter(
                lot.buffer(-1.0), rng.uniform(2.0, 4.5), rng.uniform(4.0, 9.0), rng, GroundMaterial.GRASS
            )
        return
    base = float(site.terrain.height(*plan.corners.T).mean())
    wall = _STOREY_M * int(rng.choice([1, 2, 2])) + 0.4
    hipped = bool(rng.random() < site.style.hip_roof_share)
    add_house(site.builder, plan, base, wall, rng.uniform(1.8, 3.4), hipped, seed)
    house = plan.polygon
    front = lot.exterior.intersection(block.exterior.buffer(0.2))
    if not front.is_empty:
        _build_driveway(site, lot, house, front)
    if rng.random() < site.style.border_share:
        build_border(site, lot, front, seed)
    garden = lot.difference(house.buffer(1.5)).buffer(-1.0)
    for _ in range(int(rng.integers(1, 6) * site.style.tree_density + 0.5)):
        site.planter.scatter(garden, rng.uniform(1.6, 4.0), rng.uniform(3.0, 9.0), rng, GroundMaterial.GRASS)
    if rng.random() < 0.3:
        bed_area = lot.difference(house.buffer(1.0)).buffer(-2.0)
        radius = rng.uniform(1.5, 3.0)
        if bed_area.area > 20.0:
            bed = bed_area.representative_point().buffer(radius).intersection(bed_area)
            site.canvas.fill(bed, GroundMaterial.SOIL)


def _place_house(site: Site, lot: Polygon) -> OrientedRectangle | None:
    rng = site.rng
    size, shift = rng.uniform([9.0, 7.5], [14.0, 10.5]), rng.uniform(-0.4, 0.4, 2)
    inner = OrientedRectangle.around(lot.buffer(-2.6)) if lot.area > 60.0 else None
    if inner is None or inner.length_m * inner.width_m < 40.0:
        return None
    room = np.array([inner.length_m, inner.width_m])
    size = np.minimum(size, room)
    start = (room - size) * (0.5 + shift)
    plan = inner.part((start[0], start[0] + size[0]), (start[1], start[1] + size[1]))
    if size[0] < size[1]:
        plan = OrientedRectangle.around(plan.polygon) or plan
    if size.prod() < 38.0 or not lot.buffer(-0.8).contains(plan.polygon):
        return None
    return plan


def _build_driveway(site: Site, lot: Polygon, house: Polygon, front: shapely.Geometry) -> None:
    rng = site.rng
    entrance = front.interpolate(rng.uniform(0.25, 0.75), normalized=True)
    material = _DRIVEWAY_MATERIALS[rng.integers(len(_DRIVEWAY_MATERIALS))]
    way = LineString([entrance, house.exterior.interpolate(house.exterior.project(entrance))])
    area = way.buffer(1.5, cap_style="square").intersection(lot.buffer(0.4)).difference(house)
    site.canvas.fill(area, material)
    if way.length > 6.0:
        start, end = np.asarray(way.coords)[[0, -1]]
        direction = (end - start) / way.length
        site.park(start + 3.0 * direction, np.arctan2(direction[1], direction[0]))


def build_border(site: Site, lot: Polygon, front: shapely.Geometry, seed: int) -> None:
    """Hedge or fence round the lot, open at driveways and in places towards the street."""
    rng = site.rng
    is_hedge = rng.random() < site.style.hedge_share
    height = rng.uniform(0.9, 1.9 if is_hedge else 1.6)
    inset = lot.buffer(-0.5, join_style="mitre")
    if inset.geom_type != "Polygon" or inset.is_empty:
        return
    points = np.asarray(inset.exterior.segmentize(3.0).coords)
    middle, step = (points[:-1] + points[1:]) / 2, np.diff(points, axis=0)
    keep = site.canvas.material_at(middle) == GroundMaterial.GRASS
    gap = rng.random(len(middle)) < 0.35
    if not front.is_empty:
        keep &= ~(gap & (shapely.distance(front, shapely.points(middle)) < 1.2))
    middle, step = middle[keep], step[keep]
    length = np.linalg.norm(step, axis=1)
    half_sizes = np.stack([length / 2 + 0.02, np.full(len(length), 0.4 if is_hedge else 0.05)], axis=1)
    ground = site.terrain.height(middle[:, 0], middle[:, 1])
    material = SurfaceMaterial.HEDGE if is_hedge else SurfaceMaterial.FENCE
    yaws = np.arctan2(step[:, 1], step[:, 0])
    site.builder.add_boxes(middle, half_sizes, ground - 0.3, ground + height, yaws, material, seed)


def build_commerce(site: Site, lot: Polygon, block: Polygon) -> None:
    """A hall on one end of the lot, a car park on the rest."""
    del block
    rng = site.rng
    seed, share, height = int(rng.integers(1 << 30)), rng.uniform(0.38, 0.5), rng.uniform(4.5, 8.0)
    yard = OrientedRectangle.around(lot.buffer(-2.2))
    if yard is None or yard.length_m * yard.width_m < 80.0:
        return
    site.canvas.fill(lot.buffer(-0.6), GroundMaterial.PARKING_ASPHALT)
    hall_length = yard.length_m * share
    hall = yard.part((0.0, hall_length), (0.0, yard.width_m)).polygon.intersection(lot.buffer(-1.5))
    if hall.geom_type == "Polygon" and hall.area > 60.0:
        _build_flat(site, hall.simplify(0.5), height, seed)
    _build_car_park(site, lot, yard, hall_length + 3.5)


def _build_car_park(site: Site, lot: Polygon, yard: OrientedRectangle, start_m: float) -> None:
    """Rows of slots 2.5 m wide on both sides of lanes."""
    rng = site.rng
    bay_length, lane = 5.0, 5.8
    inside = lot.buffer(-1.0)
    shapely.prepare(inside)
    along, facing = start_m, 0.0
    while along < yard.length_m - 2.5:
        for across in np.arange(2.5, yard.width_m - 2.5, 2.5):
            middle = yard.at(along, across)
            flip, wants_tree = rng.random() < 0.5, rng.random() < 0.3
            if inside.contains(Point(middle).buffer(2.2, quad_segs=2)):
                for side in (-1.25, 1.25):
                    line = OrientedRectangle(
                        yard.at(along - 2.4, across + side - 0.05), yard.along, yard.across, 4.8, 0.1
                    )
                    site.canvas.paint(line.corners, 220)
                site.park(middle, yard.yaw_rad + (np.pi if flip else 0.0))
            elif wants_tree:
                site.planter.scatter(Point(middle).buffer(1.0).intersection(lot), 2.2, 6.0, rng)
        # Two rows back to back, then a lane.
        along += bay_length if facing else bay_length + lane
        facing = 1.0 - facing


def build_apartments(site: Site, lot: Polygon, block: Polygon) -> None:
    """A bar, or an L where the lot is deep enough, three to six storeys high."""
    del block
    rng = site.rng
    seed, height = int(rng.integers(1 << 30)), 3.1 * int(rng.integers(3, 7)) + 1.0
    ground = (GroundMaterial.PLAZA, GroundMaterial.PAVER, GroundMaterial.GRASS)[rng.integers(3)]
    yard = OrientedRectangle.around(lot.buffer(-2.2))
    if yard is None or yard.length_m * yard.width_m < 80.0:
        return
    site.canvas.fill(lot.buffer(-0.4), ground)
    length, width, wing = yard.length_m, yard.width_m, 12.5
    plan = yard.part((0.0, length), (0.0, min(width, 14.0))).polygon
    if width > 22.0:
        plan = Polygon(yard.at([0.0, length, length, wing, wing, 0.0], [0.0, 0.0, wing, wing, width, width]))
    plan = plan.intersection(lot.buffer(-1.2))
    if plan.geom_type != "Polygon" or plan.area < 60.0:
        return
    _build_flat(site, plan.simplify(0.4), height, seed)
    yard_area = lot.difference(plan.buffer(2.0)).buffer(-1.0)
    for _ in range(4):
        site.planter.scatter(yard_area, rng.uniform(2.0, 4.0), rng.uniform(5.0, 10.0), rng)


def _build_flat(site: Site, plan: Polygon, height_m: float, seed: int) -> None:
    base = float(site.terrain.height(*np.asarray(plan.exterior.coords).T).mean())
    add_flat_building(site.builder, plan, base, base + height_m, seed)
    add_rooftop_units(site.builder, plan, base + height_m, seed, site.rng)
