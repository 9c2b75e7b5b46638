"""VIGOR's grid of satellite images, and the label files that tie panoramas to them.

Half of a satellite image overlaps the next one, so that every place lies in the central quarter of one image (its
positive) and in the outer part of three more (semi-positive). A line of a label file is the panorama, then four times a
satellite image and two offsets in pixels: the satellite image's place minus the panorama's, north then east.

The corrected labels (Lentsch et al., SliceMatch, 2023) divide metres by the city's own resolution. The original ones
divided by one resolution for all cities, and so does what is written here as original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TILE_PX = 640
SPACING_PX = 320
METERS_PER_PIXEL = {"NewYork": 0.113248, "Seattle": 0.100817, "SanFrancisco": 0.118141, "Chicago": 0.111262}
ORIGINAL_METERS_PER_PIXEL = 0.114
"""What Zhu et al., VIGOR, 2021, state for all cities."""
Cell = tuple[int, int]
"""Column (to the east) and row (to the north) of a satellite image in its city's grid."""


@dataclass(frozen=True)
class TileGrid:
    """The satellite images of a city; their middles are a grid in map metres."""

    meters_per_pixel: float
    east_m: float = 0.0
    """Of the middle of cell (0, 0)."""
    north_m: float = 0.0

    @property
    def spacing_m(self) -> float:
        """Between the middles of neighbours."""
        return SPACING_PX * self.meters_per_pixel

    def middle_m(self, cell: Cell) -> tuple[float, float]:
        """East, north of a cell's middle."""
        return self.east_m + cell[0] * self.spacing_m, self.north_m + cell[1] * self.spacing_m

    def cells_of(self, east_m: float, north_m: float) -> list[Cell]:
        """The positive cell of a place, then the three semi-positive ones, nearest first."""
        column, row = (east_m - self.east_m) / self.spacing_m, (north_m - self.north_m) / self.spacing_m
        whole = (math.floor(column), math.floor(row))
        corners = [(whole[0] + right, whole[1] + up) for right in (0, 1) for up in (0, 1)]
        return sorted(corners, key=lambda cell: ((cell[0] - column) ** 2 + (cell[1] - row) ** 2, cell))


@dataclass(frozen=True)
class Labelled:
    """A panorama and its four satellite images."""

    panorama: str
    east_m: float
    north_m: float
    satellites: tuple[tuple[str, float, float], ...]
    """Name, east, north of the middle; the positive one first."""

    def line(self, meters_per_pixel: float) -> str:
        """Its line in a label file whose offsets are in pixels of that size."""
        words = [self.panorama]
        for name, east_m, north_m in self.satellites:
            offsets = (north_m - self.north_m) / meters_per_pixel, (east_m - self.east_m) / meters_per_pixel
            words += [name, *(f"{offset:.6f}" for offset in offsets)]
        return " ".join(words) + "\n"


def label_files(rows: list[Labelled], meters_per_pixel: float, suffix: str) -> dict[str, str]:
    """Name and text of a city's three label files: every other panorama is for training in the same area."""
    lists = {
        "same_area_balanced_train": rows[::2],
        "same_area_balanced_test": rows[1::2],
        "pano_label_balanced": rows,
    }
    return {f"{name}{suffix}.txt": "".join(row.line(meters_per_pixel) for row in part) for name, part in lists.items()}
