"""What makes one place outside the town differ from the next: one draw of its land, its roads and its houses."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cross_view_loc.simulation.regions import Colour, Region


@dataclass(frozen=True)
class LandStyle:
    """Lengths in metres, shares and probabilities from 0 to 1."""

    unpaved_share: float
    """Minor roads without asphalt."""
    dirt_share: float
    """Dirt among those; the others are gravel."""
    kerbs: float
    """1 with kerb stones and concrete gutters, 0 without."""
    yellow_paint: float
    """1 for yellow centre lines, 0 for white."""
    shoulder_m: float
    """Mean width of the gravel or bare earth beside roads."""
    footpath_share: float
    """Roads with a concrete footpath in the verge."""
    wood_share: float
    field_share: float
    home_share: float
    """Blocks of wood, of fields among the rest, and of homes among what is then left; what remains is meadow."""
    wood_spacing_m: float
    wood_height_m: float
    wood_setback_m: float
    """Between the road and the edge of woods."""
    bush_density: float
    """Bushes per 100 m² of gardens."""
    evergreen_share: float
    """Broad-leaved trees that keep their leaves; conifers always do."""
    rail_share: float
    """Sides of roads with a guard rail or marker posts."""
    roadside_trees_per_m: float
    house_scale: float
    trailer_share: float
    metal_roof_share: float
    pool_share: float
    shed_share: float
    gravel_drive_share: float
    pole_share: float
    """Roads with telegraph poles."""
    lawn_spread: float
    """How much the lots' lawns differ."""
    bareness: float
    """How much of the grass is worn or dried out."""
    roughness: float
    """Scales stains, ruts, patches and cracks."""

    @staticmethod
    def random(region: Region, rng: np.random.Generator) -> LandStyle:
        """Draw the land of one place."""
        return LandStyle(**{field.name: float(region.land[field.name](rng)) for field in fields(LandStyle)})


def any_of(colours: tuple[Colour, ...], rng: np.random.Generator, spread: float = 0.25) -> Colour:
    """One of the colours, a little brighter or darker and of slightly another hue."""
    colour = np.array(colours[rng.integers(len(colours))])
    colour = colour * (1.0 + spread * rng.uniform(-1.0, 1.0)) * (1.0 + 0.08 * rng.uniform(-1.0, 1.0, 3))
    red, green, blue = np.clip(colour, 0.01, 0.85)
    return float(red), float(green), float(blue)
