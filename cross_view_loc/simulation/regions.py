"""Kinds of places: what a town, a suburb, the countryside or a forest may look like, as ranges a seed draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.materials import GroundMaterial

REGIONS = ("town", "suburb", "rural", "forest")

Colour = tuple[float, float, float]
"""Linear RGB albedo, 0 to 1."""


@dataclass(frozen=True)
class Span:
    """A number drawn evenly between two."""

    low: float
    high: float

    def __call__(self, rng: np.random.Generator) -> float:
        return rng.uniform(self.low, self.high)


@dataclass(frozen=True)
class Pick:
    """One of a few numbers, each as likely as the others."""

    options: tuple[float, ...]

    def __call__(self, rng: np.random.Generator) -> float:
        return rng.choice(self.options)


Ranges = Mapping[str, Span | Pick]


@dataclass(frozen=True)
class StreetPlan:
    """How the grid of roads is drawn; lengths in metres."""

    block_m: Span = Span(58.0, 98.0)
    """Between neighbouring roads."""
    bend_m: Span = Span(5.0, 15.0)
    """Amplitude of bends some 400 m long."""
    wiggle_m: Span = Span(1.0, 5.0)
    """Amplitude of bends some 190 m long."""
    jitter_m: float = 7.0
    """How far junctions stray."""
    thinning: float = 0.22
    """Share of the minor roads taken out."""
    collector_share: float = 0.45
    has_arterials: bool = True


TOWN_PLAN = StreetPlan()


@dataclass(frozen=True)
class Region:
    """One kind of place. `style` and `land` name the fields of `TownStyle` and `LandStyle` they are drawn for."""

    name: str
    plan: StreetPlan
    style: Ranges
    land: Ranges
    """Empty for the town, which is built by rules of its own."""
    ground_colours: tuple[tuple[GroundMaterial, tuple[Colour, ...]], ...] = ()
    leaf_colours: tuple[Colour, ...] = ((1.0, 1.0, 1.0),)
    """Factors on the colour of leaves."""
    roof_colours: tuple[Colour, ...] = ()
    """Of shingles and tiles."""
    metal_colours: tuple[Colour, ...] = ()


def region_named(name: str) -> Region:
    """The region's rules. Raises InputError for names that are not in REGIONS."""
    if name not in _TABLE:
        raise InputError(f"There is no region '{name}'; choose one of {', '.join(REGIONS)}.")
    return _TABLE[name]


_TOWN_STYLE: dict[str, Span | Pick] = {
    "grid_rotation_rad": Span(-np.pi / 4, np.pi / 4),
    "arterial_width_m": Span(12.8, 14.6),
    "collector_width_m": Span(7.0, 8.6),
    "residential_width_m": Span(5.6, 6.8),
    "sidewalk_width_m": Span(1.8, 3.0),
    "bay_probability": Span(0.15, 0.65),
    "verge_share": Pick((0.0, 0.15, 0.5)),
    "center_line_share": Span(0.5, 1.0),
    "edge_line_share": Pick((0.0, 0.3, 0.8)),
    "zebra_factor": Span(0.4, 1.2),
    "paint": Span(0.65, 1.0),
    "wear": Span(0.3, 1.8),
    "park_share": Span(0.04, 0.15),
    "commerce_share": Span(0.04, 0.18),
    "apartment_share": Span(0.1, 0.6),
    "lot_area_m2": Span(420.0, 680.0),
    "hip_roof_share": Span(0.15, 0.7),
    "border_share": Span(0.5, 0.9),
    "hedge_share": Span(0.3, 0.85),
    "street_tree_share": Span(0.15, 0.65),
    "conifer_share": Span(0.05, 0.35),
    "tree_density": Span(0.7, 1.2),
}

_ASPHALTS = (
    (0.06, 0.06, 0.065),
    (0.10, 0.10, 0.10),
    (0.14, 0.14, 0.145),
    (0.21, 0.21, 0.21),
    (0.16, 0.14, 0.12),
    (0.13, 0.115, 0.125),
)
_GRAVELS = ((0.30, 0.26, 0.19), (0.45, 0.43, 0.39), (0.33, 0.32, 0.31), (0.34, 0.25, 0.17))
_DIRTS = ((0.27, 0.19, 0.12), (0.34, 0.27, 0.18), (0.27, 0.155, 0.095), (0.19, 0.14, 0.10), (0.23, 0.18, 0.12))
_GREENS = ((0.075, 0.13, 0.035), (0.06, 0.11, 0.03), (0.11, 0.15, 0.045), (0.13, 0.15, 0.06))
_STRAWS = ((0.23, 0.20, 0.10), (0.28, 0.24, 0.13), (0.18, 0.165, 0.08), (0.22, 0.19, 0.12))
_LITTERS = ((0.13, 0.09, 0.05), (0.20, 0.15, 0.09), (0.09, 0.09, 0.04), (0.24, 0.20, 0.14), (0.15, 0.09, 0.055))
_CONCRETES = ((0.36, 0.35, 0.32), (0.44, 0.43, 0.40), (0.28, 0.26, 0.24), (0.38, 0.33, 0.28))
_PLOUGHED = ((0.14, 0.10, 0.065), (0.08, 0.06, 0.045), (0.22, 0.16, 0.11), (0.24, 0.13, 0.08))
_CROPS = ((0.07, 0.14, 0.035), (0.05, 0.10, 0.03), (0.12, 0.19, 0.05), (0.22, 0.21, 0.06))
_STUBBLES = ((0.32, 0.26, 0.14), (0.35, 0.29, 0.15), (0.25, 0.21, 0.13), (0.21, 0.15, 0.08))
_PAVERS = ((0.27, 0.16, 0.12), (0.33, 0.24, 0.18), (0.22, 0.21, 0.20), (0.38, 0.32, 0.24))

_COUNTRY_COLOURS = (
    (GroundMaterial.ASPHALT, _ASPHALTS),
    (GroundMaterial.GRASS, (*_GREENS, *_GREENS, *_STRAWS)),
    (GroundMaterial.CONCRETE, _CONCRETES),
    (GroundMaterial.GRAVEL, _GRAVELS),
    (GroundMaterial.SOIL, _PLOUGHED),
    (GroundMaterial.PAVER, _PAVERS),
    (GroundMaterial.MEADOW, (*_STRAWS, *_GREENS)),
    (GroundMaterial.LITTER, _LITTERS),
    (GroundMaterial.DIRT, _DIRTS),
    (GroundMaterial.PLOUGHED, _PLOUGHED),
    (GroundMaterial.CROP, _CROPS),
    (GroundMaterial.STUBBLE, _STUBBLES),
)
_LEAVES = ((1.0, 1.0, 1.0), (1.5, 1.15, 1.6), (0.7, 0.75, 0.8), (1.3, 1.1, 0.9), (1.0, 0.75, 0.9))
_SHINGLES = (
    (0.14, 0.14, 0.15),
    (0.25, 0.24, 0.23),
    (0.20, 0.14, 0.10),
    (0.28, 0.20, 0.15),
    (0.09, 0.09, 0.10),
    (0.38, 0.36, 0.33),
    (0.11, 0.13, 0.11),
)
_CLAYS = ((0.42, 0.16, 0.09), (0.36, 0.12, 0.08), (0.45, 0.22, 0.13), (0.27, 0.15, 0.11), (0.24, 0.19, 0.16))
_METALS = ((0.70, 0.71, 0.72), (0.55, 0.57, 0.58), (0.30, 0.10, 0.08), (0.16, 0.24, 0.18), (0.75, 0.73, 0.66))

_QUIET: dict[str, Span | Pick] = _TOWN_STYLE | {
    "bay_probability": Span(0.0, 0.0),
    "zebra_factor": Span(0.0, 0.15),
    "wear": Span(0.6, 3.0),
    "park_share": Span(0.05, 0.2),
    "commerce_share": Span(0.0, 0.0),
    "apartment_share": Span(0.0, 0.0),
    "verge_share": Pick((1.0,)),
}

_SUBURB = Region(
    "suburb",
    StreetPlan(Span(62.0, 112.0), Span(5.0, 20.0), Span(2.0, 9.0), 11.0, 0.22, 0.3, has_arterials=False),
    _QUIET
    | {
        "collector_width_m": Span(7.4, 10.5),
        "residential_width_m": Span(5.8, 8.6),
        "sidewalk_width_m": Span(2.5, 7.5),
        "center_line_share": Span(0.0, 0.9),
        "lot_area_m2": Span(450.0, 1000.0),
        "border_share": Span(0.2, 0.8),
        "hedge_share": Span(0.1, 0.6),
        "street_tree_share": Span(0.1, 0.9),
        "conifer_share": Span(0.0, 0.3),
        "tree_density": Span(1.0, 3.6),
    },
    {
        "unpaved_share": Pick((0.0,)),
        "dirt_share": Pick((0.0,)),
        "kerbs": Pick((1.0, 1.0, 1.0, 0.0)),
        "yellow_paint": Pick((0.0, 0.0, 1.0)),
        "shoulder_m": Span(0.0, 0.3),
        "footpath_share": Pick((0.0, 0.4, 0.9)),
        "wood_share": Span(0.0, 0.12),
        "field_share": Pick((0.0,)),
        "home_share": Span(0.86, 1.0),
        "wood_spacing_m": Span(5.5, 9.0),
        "wood_height_m": Span(8.0, 16.0),
        "wood_setback_m": Span(1.5, 5.0),
        "bush_density": Span(1.0, 6.0),
        "evergreen_share": Pick((0.0, 0.2, 1.0)),
        "roadside_trees_per_m": Span(0.005, 0.08),
        "house_scale": Span(1.0, 1.45),
        "trailer_share": Pick((0.0,)),
        "metal_roof_share": Span(0.0, 0.35),
        "pool_share": Span(0.0, 0.3),
        "shed_share": Span(0.2, 0.8),
        "gravel_drive_share": Span(0.0, 0.25),
        "rail_share": Pick((0.0,)),
        "pole_share": Pick((0.0, 0.5, 0.9)),
        "lawn_spread": Span(0.1, 0.5),
        "bareness": Span(0.0, 0.5),
        "roughness": Span(0.5, 1.5),
    },
    _COUNTRY_COLOURS,
    _LEAVES,
    (*_CLAYS, *_CLAYS, *_SHINGLES),
    _METALS,
)

_RURAL_STYLE: dict[str, Span | Pick] = _QUIET | {
    "collector_width_m": Span(6.2, 8.6),
    "residential_width_m": Span(5.2, 6.8),
    "sidewalk_width_m": Span(2.0, 8.0),
    "center_line_share": Span(0.3, 1.0),
    "lot_area_m2": Span(900.0, 2600.0),
    "border_share": Span(0.0, 0.4),
    "hedge_share": Span(0.0, 0.4),
    "street_tree_share": Span(0.0, 0.3),
    "conifer_share": Span(0.0, 0.5),
    "tree_density": Span(0.3, 2.2),
}
_RURAL_LAND: dict[str, Span | Pick] = {
    "unpaved_share": Pick((0.0, 0.35, 0.7, 1.0)),
    "dirt_share": Pick((0.0, 0.3, 1.0)),
    "kerbs": Pick((0.0,)),
    "yellow_paint": Pick((0.0, 1.0, 1.0)),
    "shoulder_m": Span(0.2, 2.0),
    "footpath_share": Pick((0.0,)),
    "wood_share": Span(0.05, 0.35),
    "field_share": Span(0.1, 0.6),
    "home_share": Span(0.1, 0.6),
    "wood_spacing_m": Span(3.9, 6.0),
    "wood_height_m": Span(7.0, 18.0),
    "wood_setback_m": Span(1.5, 6.0),
    "bush_density": Span(0.2, 2.5),
    "evergreen_share": Pick((0.0, 0.0, 0.2, 1.0)),
    "rail_share": Span(0.0, 0.15),
    "roadside_trees_per_m": Span(0.0, 0.04),
    "house_scale": Span(0.85, 1.25),
    "trailer_share": Pick((0.0, 0.2, 0.7)),
    "metal_roof_share": Span(0.1, 0.8),
    "pool_share": Span(0.0, 0.05),
    "shed_share": Span(0.4, 1.0),
    "gravel_drive_share": Span(0.5, 1.0),
    "pole_share": Pick((0.3, 0.7, 1.0)),
    "lawn_spread": Span(0.15, 0.5),
    "bareness": Span(0.1, 0.9),
    "roughness": Span(0.7, 1.7),
}
_RURAL = Region(
    "rural",
    StreetPlan(Span(75.0, 150.0), Span(3.0, 22.0), Span(0.0, 9.0), 16.0, 0.15, 0.45, has_arterials=False),
    _RURAL_STYLE,
    _RURAL_LAND,
    _COUNTRY_COLOURS,
    _LEAVES,
    _SHINGLES,
    _METALS,
)

_FOREST = Region(
    "forest",
    StreetPlan(Span(80.0, 150.0), Span(6.0, 26.0), Span(3.0, 12.0), 18.0, 0.15, 0.55, has_arterials=False),
    _RURAL_STYLE | {"sidewalk_width_m": Span(1.5, 6.0), "conifer_share": Span(0.0, 0.95)},
    _RURAL_LAND
    | {
        "wood_share": Span(0.72, 0.97),
        "field_share": Span(0.0, 0.12),
        "home_share": Span(0.1, 0.7),
        "unpaved_share": Pick((0.0, 0.0, 0.35, 0.8)),
        "shoulder_m": Span(0.2, 1.5),
        "wood_spacing_m": Span(3.7, 5.2),
        "wood_height_m": Span(9.0, 22.0),
        "wood_setback_m": Span(0.5, 4.0),
        "bush_density": Span(1.0, 4.0),
        "rail_share": Span(0.0, 0.4),
        "pole_share": Pick((0.0, 0.3, 0.8)),
    },
    _COUNTRY_COLOURS,
    _LEAVES,
    _SHINGLES,
    _METALS,
)

_TABLE: Mapping[str, Region] = MappingProxyType(
    {"town": Region("town", TOWN_PLAN, _TOWN_STYLE, {}), "suburb": _SUBURB, "rural": _RURAL, "forest": _FOREST}
)
