"""The colours of one place: what its ground and its leaves look like before light, weather and season."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cross_view_loc.simulation.land import any_of
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.regions import Colour, Region

GROUND_ALBEDO: dict[GroundMaterial, Colour] = {
    GroundMaterial.ASPHALT: (0.085, 0.085, 0.088),
    GroundMaterial.SIDEWALK: (0.30, 0.29, 0.27),
    GroundMaterial.GRASS: (0.075, 0.13, 0.035),
    GroundMaterial.CONCRETE: (0.36, 0.35, 0.32),
    GroundMaterial.PARKING_ASPHALT: (0.10, 0.10, 0.105),
    GroundMaterial.GRAVEL: (0.30, 0.26, 0.19),
    GroundMaterial.SOIL: (0.13, 0.085, 0.05),
    GroundMaterial.PLAZA: (0.36, 0.34, 0.31),
    GroundMaterial.PAVER: (0.27, 0.16, 0.12),
    GroundMaterial.MEADOW: (0.17, 0.16, 0.07),
    GroundMaterial.LITTER: (0.13, 0.09, 0.05),
    GroundMaterial.DIRT: (0.26, 0.18, 0.11),
    GroundMaterial.PLOUGHED: (0.14, 0.10, 0.065),
    GroundMaterial.CROP: (0.07, 0.14, 0.035),
    GroundMaterial.STUBBLE: (0.32, 0.26, 0.14),
    GroundMaterial.WATER: (0.05, 0.22, 0.30),
    GroundMaterial.YELLOW_LINE: (0.085, 0.085, 0.088),
}
"""Darkest albedo of every ground material where the region does not say otherwise."""


@dataclass(frozen=True)
class Palette:
    """Linear RGB albedo, shared by everything that looks at the place, from above or from the ground."""

    ground: Mapping[GroundMaterial, Colour] = field(default_factory=lambda: GROUND_ALBEDO)
    leaf: Colour = (1.0, 1.0, 1.0)
    """Factor on the colour of leaves."""
    season_strength: float = 1.0
    """How far grass follows the season: 1 wholly, 0 not at all (dry land is straw-coloured all year)."""

    @staticmethod
    def random(region: Region, rng: np.random.Generator) -> Palette:
        """One colour for each material out of the region's, none of them quite as listed."""
        ground = dict(GROUND_ALBEDO)
        for material, choices in region.ground_colours:
            ground[material] = any_of(choices, rng)
        ground[GroundMaterial.YELLOW_LINE] = ground[GroundMaterial.ASPHALT]
        leaf = any_of(region.leaf_colours, rng)
        red, green, _ = ground[GroundMaterial.GRASS]
        dryness = float(np.clip(2.0 * (red / green - 0.6), 0.0, 1.0))
        return Palette(ground, leaf, 1.0 - 0.75 * dryness)


TOWN_PALETTE = Palette()
