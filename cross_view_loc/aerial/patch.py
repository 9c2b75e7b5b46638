"""A square of aerial image in metric map coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Patch:
    """S × S pixels about a map position; a pixel is exactly `meters_per_pixel` map metres, whatever the rotation.

    Pixel coordinates are (column u, row v) with pixel centres at + 0.5, so the patch's centre is (S/2, S/2).
    """

    image: NDArray[np.uint8]
    """(S, S, 3) RGB, zero where not valid."""
    valid: NDArray[np.bool_]
    """(S, S) where the map has imagery."""
    center_east_m: float
    center_north_m: float
    meters_per_pixel: float
    rotation_rad: float = np.pi / 2
    """Map yaw (counter-clockwise from east) of the image's up direction; pi/2 is north up."""
    stand_in: float = 0.0
    """Share of the valid pixels that lower zooms stand in for, because their own tiles are not there (yet)."""
    meters_per_pixel_source: float | None = None
    """Mean ground size of the imagery's own pixels, where the source knows it; coarser imagery knows less."""

    @property
    def size_px(self) -> int:
        """Side of the square in pixels."""
        return int(self.image.shape[0])

    @property
    def size_m(self) -> float:
        """Side of the square in map metres."""
        return self.size_px * self.meters_per_pixel

    def map_to_pixel(self, points_map: ArrayLike) -> NDArray[np.float64]:
        """Pixels (..., 2) of map points (..., 2) east, north in metres."""
        offset = np.asarray(points_map, dtype=np.float64) - (self.center_east_m, self.center_north_m)
        return offset @ _axes(self.rotation_rad).T / self.meters_per_pixel + self.size_px / 2.0

    def pixel_to_map(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Map points (..., 2) east, north in metres of pixels (..., 2)."""
        offset = (np.asarray(pixels, dtype=np.float64) - self.size_px / 2.0) * self.meters_per_pixel
        return offset @ _axes(self.rotation_rad) + (self.center_east_m, self.center_north_m)


def pixel_centers(size_px: int) -> NDArray[np.float64]:
    """(S, S, 2) column and row of the centre of every pixel."""
    centers = np.arange(size_px) + 0.5
    return np.stack(np.meshgrid(centers, centers), axis=-1)


def _axes(rotation_rad: float) -> NDArray[np.float64]:
    """Rows: the map directions of the image's right and down."""
    c, s = np.cos(rotation_rad), np.sin(rotation_rad)
    return np.array([[s, -c], [-c, -s]])
