"""What stands on the blocks between the roads: parks, shops, apartment buildings and family houses."""

from __future__ import annotations

import numpy as np
from shapely.geometry import LineString, Polygon

from cross_view_loc.simulation.footprints import split_into_lots
from cross_view_loc.simulation.lots import build_apartments, build_commerce, build_family_house
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.site import Site

_PARK_TREE_M2 = 65.0


def fill_blocks(site: Site, blocks: list[Polygon]) -> None:
    """Choose a use for every block and build it; apartments are more frequent near the centre."""
    half = site.canvas.size_m / 2
    style = site.style
    for block in blocks:
        centrality = 1.0 - np.hypot(block.centroid.x, block.centroid.y) / half
        choice = site.rng.random()
        if choice < style.park_share:
            _build_park(site, block)
            continue
        choice -= style.park_share
        if choice < style.commerce_share:
            build, lot_area = build_commerce, 2600.0
        elif choice - style.commerce_share < 0.06 + style.apartment_share * centrality:
            build, lot_area = build_apartments, 1300.0
        else:
            build, lot_area = build_family_house, style.lot_area_m2 * site.rng.uniform(0.9, 1.2)
        for lot in split_into_lots(block, lot_area, site.rng):
            build(site, lot, block)


def _build_park(site: Site, block: Polygon) -> None:
    rng = site.rng
    site.canvas.fill(block, GroundMaterial.GRASS)
    path_material = GroundMaterial.GRAVEL if rng.random() < 0.7 else GroundMaterial.PAVER
    for _ in range(3):
        start, end = (np.array(block.exterior.interpolate(s, normalized=True).coords[0]) for s in rng.random(2))
        bend = (start + end) / 2 + rng.uniform(-8.0, 8.0, 2)
        path = LineString([start, bend, end]).buffer(rng.uniform(0.9, 1.5)).intersection(block)
        site.canvas.fill(path, path_material)
    inside = block.buffer(-1.5)
    for _ in range(int(site.style.tree_density * block.area / _PARK_TREE_M2)):
        site.planter.scatter(inside, rng.uniform(3.5, 6.5), rng.uniform(7.0, 14.0), rng, GroundMaterial.GRASS)
