"""Everything but the town: suburbs, open country and forest, built on the same roads and blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from cross_view_loc.simulation.country_roads import lay_roads, surface_roads
from cross_view_loc.simulation.detail import GroundDetail
from cross_view_loc.simulation.footprints import split_into_lots
from cross_view_loc.simulation.homes import HomeBuilder
from cross_view_loc.simulation.land import LandStyle
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.poles import raise_poles, raise_rails
from cross_view_loc.simulation.regions import Region
from cross_view_loc.simulation.roads import RoadAreas, RoadNetwork
from cross_view_loc.simulation.site import Site
from cross_view_loc.simulation.terrain import add_kerbs
from cross_view_loc.simulation.woods import (
    Clearance,
    grow_bushes,
    grow_gardens,
    grow_hedgerows,
    grow_woods,
    line_roads,
)

_FIELDS = (GroundMaterial.PLOUGHED, GroundMaterial.CROP, GroundMaterial.STUBBLE, GroundMaterial.MEADOW)
_LARGEST_FIELD_M2 = 9000.0


def build_countryside(
    site: Site, network: RoadNetwork, areas: RoadAreas, region: Region
) -> tuple[RoadNetwork, NDArray[np.uint8]]:
    """Fill the site; returns the network with the roads' surfaces, and the tint of the ground (`Town.tint`)."""
    rng = site.rng
    land = LandStyle.random(region, rng)
    detail = GroundDetail(site.canvas, rng)
    network = surface_roads(network, land, rng)
    homes = HomeBuilder(site, region, land, detail, unary_union(areas.carriageway).boundary)

    for polygon in areas.sidewalks:
        site.canvas.fill(polygon, _verge(region, rng))
    wild: list[BaseGeometry] = []
    fields: list[BaseGeometry] = []
    for block in areas.blocks:
        _use_block(site, block, land, detail, homes, wild, fields)
    lay_roads(site, network, areas, land, detail)
    if land.kerbs:
        add_kerbs(site.builder, site.terrain, areas.carriageway, site.canvas.size_m)

    clearance = Clearance(site, homes.buildings)
    _dry_out(site, land, detail)  # last of the ground: bare patches must not pass for roads above
    grow_woods(site, land, clearance)
    line_roads(site, network, land, clearance)
    grow_hedgerows(site, land, fields, clearance)
    grow_gardens(site, land, homes.gardens, clearance)
    grow_bushes(site, homes.gardens, land.bush_density, clearance)
    grow_bushes(site, wild, 0.5 * land.bush_density, clearance)
    raise_poles(site, network, land, clearance)
    raise_rails(site, network, land, clearance)
    return network, detail.tint(land.roughness)


def _verge(region: Region, rng: np.random.Generator) -> GroundMaterial:
    if region.name == "forest" and rng.random() < 0.4:
        return GroundMaterial.LITTER
    return GroundMaterial.GRASS if rng.random() < 0.5 else GroundMaterial.MEADOW


def _use_block(
    site: Site,
    block: Polygon,
    land: LandStyle,
    detail: GroundDetail,
    homes: HomeBuilder,
    wild: list[BaseGeometry],
    fields: list[BaseGeometry],
) -> None:
    """Wood, fields, homes or meadow; woods and meadows keep a few clearings and homes."""
    rng = site.rng
    reach = block.buffer(site.style.sidewalk_width_m * rng.uniform(0.0, 0.9))
    if rng.random() < land.wood_share:
        site.canvas.fill(reach, GroundMaterial.LITTER)
        wild.append(reach)
        for lot in split_into_lots(block, 3000.0, rng):
            if rng.random() < 0.5 * land.home_share * (1.0 - land.wood_share) + 0.06:
                clearing = lot.buffer(-rng.uniform(2.0, 6.0))
                if clearing.geom_type == "Polygon" and clearing.area > 300.0:
                    site.canvas.fill(clearing, GroundMaterial.GRASS if rng.random() < 0.6 else GroundMaterial.MEADOW)
                    homes.build(clearing, block)
        _wear_path(detail, block, rng)
    elif rng.random() < land.field_share:
        for field in split_into_lots(block, _LARGEST_FIELD_M2 * rng.uniform(0.3, 1.2), rng):
            _lay_field(site, field, detail)
            fields.append(field)
    elif rng.random() < land.home_share:
        lot_area = site.style.lot_area_m2 * rng.uniform(0.8, 1.3)
        site.canvas.fill(block, GroundMaterial.GRASS if rng.random() < 0.75 else GroundMaterial.MEADOW)
        for lot in split_into_lots(block, lot_area, rng):
            homes.build(lot, block)
    else:
        site.canvas.fill(reach, GroundMaterial.MEADOW)
        detail.fill(reach, rng.normal(0.0, 0.2), rng.normal(0.0, 0.3))
        wild.append(reach)
        for _ in range(3):
            _wear_path(detail, block, rng)


def _lay_field(site: Site, field: Polygon, detail: GroundDetail) -> None:
    rng = site.rng
    site.canvas.fill(field, GroundMaterial.MEADOW)  # the grassy edge between fields
    inner = field.buffer(-rng.uniform(0.5, 2.5))
    crop = _FIELDS[rng.integers(len(_FIELDS))]
    site.canvas.fill(inner, crop)
    detail.fill(inner, rng.normal(0.0, 0.22), rng.normal(0.0, 0.25))
    if crop is not GroundMaterial.MEADOW:
        detail.furrows(inner, rng.uniform(0.0, np.pi), rng.uniform(0.7, 3.0), rng.uniform(0.08, 0.35))


def _wear_path(detail: GroundDetail, block: Polygon, rng: np.random.Generator) -> None:
    """Twin tracks or a footpath across a block."""
    start, end = (np.array(block.exterior.interpolate(s, normalized=True).coords[0]) for s in rng.random(2))
    middle = (start + end) / 2 + rng.uniform(-10.0, 10.0, 2)
    line = np.asarray(LineString([start, middle, end]).segmentize(4.0).coords)
    line = line + np.cumsum(rng.normal(0.0, 0.15, line.shape), axis=0)
    tone, is_pair = rng.uniform(0.2, 0.7), rng.random() < 0.5
    across = np.array([-(end - start)[1], (end - start)[0]]) / (np.linalg.norm(end - start) + 1e-9)
    for offset in (-0.8, 0.8) if is_pair else (0.0,):
        detail.stroke(line + offset * across, 0.6 if is_pair else 0.9, tone)


def _dry_out(site: Site, land: LandStyle, detail: GroundDetail) -> None:
    """Turn the driest patches of grass into meadow and bare earth."""
    material = site.canvas.material
    repeat = len(material) // len(detail.noise(0))
    for kind, bare, index, share in (
        (GroundMaterial.GRASS, GroundMaterial.MEADOW, 4, 0.5 * land.bareness),
        (GroundMaterial.GRASS, GroundMaterial.DIRT, 7, 0.15 * land.bareness),
        (GroundMaterial.MEADOW, GroundMaterial.DIRT, 7, 0.2 * land.bareness),
    ):
        field = detail.noise(index, 2)
        patch = np.repeat(np.repeat(field > np.quantile(field[::8, ::8], 1.0 - share), repeat, 0), repeat, 1)
        material[(material == kind) & patch] = bare
