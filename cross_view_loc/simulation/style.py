"""What makes one town differ from the next: one draw of the habits of its builders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    def random(rng: np.random.Generator) -> TownStyle:
        """Draw the style of a town."""
        return TownStyle(
            grid_rotation_rad=rng.uniform(-np.pi / 4, np.pi / 4),
            arterial_width_m=rng.uniform(12.8, 14.6),
            collector_width_m=rng.uniform(7.0, 8.6),
            residential_width_m=rng.uniform(5.6, 6.8),
            sidewalk_width_m=rng.uniform(1.8, 3.0),
            bay_probability=rng.uniform(0.15, 0.65),
            verge_share=rng.choice([0.0, 0.15, 0.5]),
            center_line_share=rng.uniform(0.5, 1.0),
            edge_line_share=rng.choice([0.0, 0.3, 0.8]),
            zebra_factor=rng.uniform(0.4, 1.2),
            paint=rng.uniform(0.65, 1.0),
            wear=rng.uniform(0.3, 1.8),
            park_share=rng.uniform(0.04, 0.15),
            commerce_share=rng.uniform(0.04, 0.18),
            apartment_share=rng.uniform(0.1, 0.6),
            lot_area_m2=rng.uniform(420.0, 680.0),
            hip_roof_share=rng.uniform(0.15, 0.7),
            border_share=rng.uniform(0.5, 0.9),
            hedge_share=rng.uniform(0.3, 0.85),
            street_tree_share=rng.uniform(0.15, 0.65),
            conifer_share=rng.uniform(0.05, 0.35),
            tree_density=rng.uniform(0.7, 1.2),
        )
