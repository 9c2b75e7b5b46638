"""What every builder of the town works on: the ground, the land, the mesh, the trees and the parking places."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.mesh import MeshBuilder
from cross_view_loc.simulation.style import TownStyle
from cross_view_loc.simulation.terrain import Terrain
from cross_view_loc.simulation.vegetation import TreePlanter


@dataclass(frozen=True)
class Site:
    """The town while it is being built; its parts are filled in place."""

    canvas: GroundCanvas
    terrain: Terrain
    builder: MeshBuilder
    planter: TreePlanter
    style: TownStyle
    rng: np.random.Generator
    car_spots: list[tuple[float, float, float]] = field(default_factory=list)
    """East, north, yaw of every parking place."""

    def park(self, position: ArrayLike, yaw_rad: float) -> None:
        """Add a parking place."""
        x, y = np.asarray(position, np.float64)
        self.car_spots.append((float(x), float(y), float(yaw_rad)))
