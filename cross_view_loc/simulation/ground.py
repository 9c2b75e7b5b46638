"""The town's ground raster: which material, how much paint and how much wear lies where."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.roads import polygons

_SUBPIXEL_BITS = 4


class GroundCanvas:
    """Square rasters over the town: row 0 at the north edge, column 0 at the west edge.

    material holds `GroundMaterial`, markings the strength of road paint, wear that of dirt, patches and cracks (0-255).
    """

    def __init__(self, size_m: float, resolution_m: float) -> None:
        """Raises InputError when the town is not a whole number of pixels wide."""
        count = round(size_m / resolution_m)
        if count < 1 or abs(count * resolution_m - size_m) > 1e-6 * size_m:
            raise InputError(
                f"A town of {size_m} m cannot be divided into ground pixels of {resolution_m} m; "
                "choose a size that is a multiple of the resolution."
            )
        self.size_m = size_m
        self.resolution_m = size_m / count
        self.material = np.full((count, count), GroundMaterial.GRASS, np.uint8)
        self.markings = np.zeros((count, count), np.uint8)
        self.wear = np.zeros((count, count), np.uint8)

    def pixel(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) column and row of map points (..., 2 or more); pixel (i, j) has its centre at (i+0.5, j+0.5)."""
        position = np.asarray(points, np.float64)[..., :2]
        column = (position[..., 0] + self.size_m / 2) / self.resolution_m
        row = (self.size_m / 2 - position[..., 1]) / self.resolution_m
        return np.stack([column, row], axis=-1)

    def material_at(self, points: ArrayLike) -> NDArray[np.uint8]:
        """(...) material under map points (..., 2); outside the town that of its edge."""
        index = np.clip(np.floor(self.pixel(points)).astype(int), 0, len(self.material) - 1)
        return self.material[index[..., 1], index[..., 0]]

    def fill(self, geometry: object, material: GroundMaterial) -> None:
        """Cover the polygons of a shapely geometry with a material."""
        for polygon in polygons(geometry):
            rings = [self._fixed_point(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
            cv2.fillPoly(self.material, rings, int(material), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)

    def fill_outline(self, outline: ArrayLike, material: GroundMaterial) -> None:
        """Cover the inside of an outline (M, 2)."""
        cv2.fillPoly(self.material, [self._fixed_point(outline)], int(material), cv2.LINE_8, _SUBPIXEL_BITS)

    def paint(self, outline: ArrayLike, strength: int) -> None:
        """Paint the inside of an outline (M, 2) on the road."""
        if strength > 0:
            cv2.fillPoly(self.markings, [self._fixed_point(outline)], strength, cv2.LINE_AA, _SUBPIXEL_BITS)

    def wear_area(self, outline: ArrayLike, strength: int) -> None:
        """Darken the inside of an outline (M, 2)."""
        cv2.fillPoly(self.wear, [self._fixed_point(outline)], strength, cv2.LINE_AA, _SUBPIXEL_BITS)

    def wear_disc(self, center: ArrayLike, radius_m: float, strength: int) -> None:
        """Darken a disc."""
        u, v = (int(value) for value in self._fixed_point(center))
        radius = int(radius_m / self.resolution_m * 2**_SUBPIXEL_BITS)
        cv2.circle(self.wear, (u, v), radius, strength, -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def wear_crack(self, points: ArrayLike, strength: int) -> None:
        """Darken a thin line along points (M, 2)."""
        cv2.polylines(self.wear, [self._fixed_point(points)], False, strength, 1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _fixed_point(self, points: ArrayLike) -> NDArray[np.int32]:
        # OpenCV puts pixel centres at whole numbers.
        return np.round((self.pixel(points) - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
