"""What tells one metre of a surface from the next: tone, hue, tracks and stains, the same from above and below."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.noise import TABLE_SIZE, coarse_table
from cross_view_loc.simulation.roads import polygons

TINT_OF_ONE = 128
"""Code of the albedo factor 1 in a tint raster; a factor f is coded as 128 * sqrt(f)."""
_PER_UNIT = 80.0
"""Steps of the 8-bit layers for a change of the albedo by a factor e."""
_STEP = 2
"""Ground pixels a pixel of the detail."""
_SHIFT_BITS = 4

# Amplitudes by material of log albedo: fine grain, patches of some metres, patches of tens of metres, dry-to-green hue.
_ROUGH: dict[GroundMaterial, tuple[float, float, float, float]] = {
    GroundMaterial.ASPHALT: (0.10, 0.20, 0.14, 0.04),
    GroundMaterial.YELLOW_LINE: (0.10, 0.20, 0.14, 0.04),
    GroundMaterial.CONCRETE: (0.10, 0.20, 0.08, 0.08),
    GroundMaterial.GRASS: (0.32, 0.26, 0.14, 0.30),
    GroundMaterial.MEADOW: (0.42, 0.32, 0.18, 0.32),
    GroundMaterial.LITTER: (0.48, 0.38, 0.18, 0.22),
    GroundMaterial.GRAVEL: (0.18, 0.28, 0.22, 0.16),
    GroundMaterial.DIRT: (0.18, 0.30, 0.25, 0.20),
    GroundMaterial.SOIL: (0.30, 0.30, 0.20, 0.15),
    GroundMaterial.PLOUGHED: (0.22, 0.20, 0.14, 0.08),
    GroundMaterial.CROP: (0.25, 0.22, 0.14, 0.18),
    GroundMaterial.STUBBLE: (0.24, 0.20, 0.14, 0.10),
}
_ROUGH_ELSE = (0.08, 0.12, 0.08, 0.05)


class GroundDetail:
    """Layers over the ground at twice its pixel size; `tint` turns them into one raster of albedo factors."""

    def __init__(self, canvas: GroundCanvas, rng: np.random.Generator) -> None:
        self._canvas = canvas
        self._size = len(canvas.material) // _STEP
        self._tone, self._hue, self._strokes = (np.full((self._size, self._size), 128, np.uint8) for _ in range(3))
        self._offsets = rng.integers(0, TABLE_SIZE, (8, 2))

    def fill(self, area: BaseGeometry, tone: float, hue: float = 0.0) -> None:
        """Change an area's albedo by the factor exp(tone); positive hue makes it drier, negative greener."""
        for polygon in polygons(area):
            rings = [self._fixed_point(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
            for layer, value in ((self._tone, tone), (self._hue, hue)):
                cv2.fillPoly(layer, rings, _code(value), cv2.LINE_AA, _SHIFT_BITS)

    def furrows(self, area: BaseGeometry, direction_rad: float, pitch_m: float, depth: float) -> None:
        """Rows of crops or furrows: waves across an area, with the tramlines that machines leave."""
        mask = np.zeros_like(self._tone)
        for polygon in polygons(area):
            cv2.fillPoly(mask, [self._fixed_point(np.asarray(polygon.exterior.coords))], 1, cv2.LINE_8, _SHIFT_BITS)
        rows, columns = np.nonzero(mask)
        across = (columns * np.sin(direction_rad) + rows * np.cos(direction_rad)) * _STEP * self._canvas.resolution_m
        wave = np.sin(2 * np.pi * across / pitch_m)
        tramline = np.abs(across / 18.0 - np.round(across / 18.0)) * 18.0
        wave = wave - 1.2 * (np.abs(tramline - 0.9) < 0.25)
        self._tone[rows, columns] = np.clip(self._tone[rows, columns] + _PER_UNIT * depth * wave, 0, 255)

    def stroke(self, points: ArrayLike, width_m: float, tone: float) -> None:
        """Lighten (tone > 0) or darken a soft band along points (M, 2): ruts, polished lanes, oil."""
        thickness = max(1, round(width_m / (_STEP * self._canvas.resolution_m)))
        outline = [self._fixed_point(points)]
        cv2.polylines(self._strokes, outline, False, _code(tone), thickness, cv2.LINE_AA, _SHIFT_BITS)

    def noise(self, index: int, stretch: int = 1) -> NDArray[np.float32]:
        """(n, n) fixed random field in [-0.5, 0.5] over the detail raster; `stretch` widens its features."""
        down, right = self._offsets[index % len(self._offsets)]
        count = -(-self._size // stretch)
        rows, columns = (np.arange(start, start + count + 1) % TABLE_SIZE for start in (down, right))
        part = coarse_table()[rows[:, None], columns[None, :]] - np.float32(0.5)
        if stretch > 1:
            part = cv2.resize(part, None, fx=stretch, fy=stretch, interpolation=cv2.INTER_CUBIC)
        return part[: self._size, : self._size]

    def tint(self, roughness: float) -> NDArray[np.uint8]:
        """(n, n, 3) albedo factors, coded as `TINT_OF_ONE` says."""
        kind = self._canvas.material[::_STEP, ::_STEP]
        amplitudes = np.array([_ROUGH.get(material, _ROUGH_ELSE) for material in GroundMaterial], np.float32)
        table = np.zeros((256, 4), np.float32)
        table[: len(amplitudes)] = 2.0 * min(roughness, 1.2) * amplitudes
        tone = (self._tone.astype(np.float32) - 128.0) / _PER_UNIT
        tone += (cv2.GaussianBlur(self._strokes, (0, 0), 1.2).astype(np.float32) - 128.0) / _PER_UNIT
        for index, stretch in enumerate((1, 2, 6)):
            tone += cv2.LUT(kind, np.ascontiguousarray(table[:, index])) * self.noise(index, stretch)
        hue = (self._hue.astype(np.float32) - 128.0) / _PER_UNIT
        hue += cv2.LUT(kind, np.ascontiguousarray(table[:, 3])) * self.noise(3, 3)
        tint = np.empty((*kind.shape, 3), np.uint8)
        for channel, pull in enumerate((0.5, 0.1, -0.1)):
            factor = cv2.exp(0.5 * (tone + pull * hue))
            tint[..., channel] = np.clip(TINT_OF_ONE * factor, 0, 255)
        return tint

    def _fixed_point(self, points: ArrayLike) -> NDArray[np.int32]:
        return np.round((self._canvas.pixel(points) / _STEP - 0.5) * 2**_SHIFT_BITS).astype(np.int32)


def _code(value: float) -> int:
    return int(np.clip(128 + _PER_UNIT * value, 0, 255))
