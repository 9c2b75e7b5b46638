"""Plane shapes of plots and buildings: oriented rectangles and the splitting of blocks into lots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import LineString, Polygon
from shapely.ops import split

from cross_view_loc.simulation.roads import polygons

_SMALLEST_LOT_M2 = 120.0


@dataclass(frozen=True)
class OrientedRectangle:
    """A rectangle whose first axis is its longer one; `along` and `across` are unit vectors, counter-clockwise."""

    corner: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    length_m: float
    width_m: float

    @staticmethod
    def around(polygon: Polygon) -> OrientedRectangle | None:
        """The smallest rectangle around a polygon; None when that has no area."""
        rectangle = polygon.minimum_rotated_rectangle
        if rectangle.geom_type != "Polygon" or rectangle.area < 1e-6:
            return None
        corners = np.asarray(rectangle.exterior.coords)[:4]
        if not rectangle.exterior.is_ccw:
            corners = corners[::-1]
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        if sides[0] < sides[1]:
            corners, sides = np.roll(corners, -1, axis=0), np.roll(sides, -1)
        return OrientedRectangle(
            corners[0],
            (corners[1] - corners[0]) / sides[0],
            (corners[2] - corners[1]) / sides[1],
            float(sides[0]),
            float(sides[1]),
        )

    @property
    def yaw_rad(self) -> float:
        """Direction of the longer axis."""
        return float(np.arctan2(self.along[1], self.along[0]))

    def at(self, along_m: ArrayLike, across_m: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) map points at distances from the first corner."""
        along, across = np.asarray(along_m, np.float64), np.asarray(across_m, np.float64)
        return self.corner + along[..., None] * self.along + across[..., None] * self.across

    def part(self, along_m: tuple[float, float], across_m: tuple[float, float]) -> OrientedRectangle:
        """The rectangle between two distances on each axis; keeps the axes."""
        return OrientedRectangle(
            self.at(along_m[0], across_m[0]),
            self.along,
            self.across,
            along_m[1] - along_m[0],
            across_m[1] - across_m[0],
        )

    @property
    def corners(self) -> NDArray[np.float64]:
        """(4, 2) counter-clockwise from the first corner."""
        length, width = self.length_m, self.width_m
        return self.at([0.0, length, length, 0.0], [0.0, 0.0, width, width])

    @property
    def polygon(self) -> Polygon:
        return Polygon(self.corners)


def split_into_lots(block: Polygon, target_m2: float, rng: np.random.Generator) -> list[Polygon]:
    """Cut a block across its longer side again and again until no piece exceeds the target area."""
    if block.area < max(target_m2, _SMALLEST_LOT_M2):
        return [block]
    around = OrientedRectangle.around(block)
    if around is None:
        return [block]
    cut = rng.uniform(0.42, 0.58) * around.length_m
    line = LineString(around.at([cut, cut], [-1.0, around.width_m + 1.0]))
    pieces = polygons(split(block, line))
    if len(pieces) < 2:
        return pieces
    return [lot for piece in pieces for lot in split_into_lots(piece, target_m2, rng)]
