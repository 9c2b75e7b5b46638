"""What makes one town differ from the next: one draw of the habits of its builders."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cross_view_loc.simulation.regions import Region, region_named


@dataclass(frozen=True)
class TownStyle:
    """Lengths in metres, shares and probabilities from 0 to 1."""

    grid_rotation_rad: float
    """Direction of the street grid, counter-clockwise from east."""
    arterial_width_m: float
    collector_width_m: float
    residential_width_m: float
    sidewalk_width_m: float
    bay_probability: float
    """Per side of a road: parking bays along the kerb."""
    verge_share: float
    """Residential roads with a grass or gravel verge instead of a pavement."""
    center_line_share: float
    """Collectors with a painted centre line; the others are unmarked."""
    edge_line_share: float
    """Collectors with painted edge lines."""
    zebra_factor: float
    """Scales how often junction arms have zebra crossings."""
    paint: float
    """Mean strength of road paint, 1 is fresh."""
    wear: float
    """Scales the number of road patches, cracks and manholes."""
    park_share: float
    commerce_share: float
    apartment_share: float
    """Share of apartment blocks in the centre; it falls towards the edge."""
    lot_area_m2: float
    """Of a family house."""
    hip_roof_share: float
    border_share: float
    """Family lots with a hedge or fence."""
    hedge_share: float
    """Hedges among those."""
    street_tree_share: float
    """Roads lined with trees."""
    conifer_share: float
    tree_density: float
    """Scales the number of trees in parks and gardens."""

    @staticmethod
    def random(rng: np.random.Generator, region: Region | None = None) -> TownStyle:
        """Draw the style of a town, or of another region's place."""
        ranges = (region or region_named("town")).style
        return TownStyle(**{field.name: ranges[field.name](rng) for field in fields(TownStyle)})
