"""What each released set of Loc² weights expects of its inputs: one frozen table, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cross_view_loc.errors import InputError
from cross_view_loc.matching.loc2.network import AERIAL_CELLS

TOKEN_PX = 14
"""Side of the backbone's patches."""
VIGOR_METERS_PER_PIXEL = {
    "new_york": 0.113248,
    "seattle": 0.100817,
    "san_francisco": 0.118141,
    "chicago": 0.111262,
}
"""Of that data set's 640 px tiles."""
VIGOR_TILE_PX = 640
KITTI_METERS_PER_PIXEL, KITTI_CROP_PX = 0.195829, 512


@dataclass(frozen=True)
class Quirks:
    """Deviations of the published code that its weights were trained with; all False is plain geometry."""

    aerial_endpoints: bool = True
    """The first and last aerial cells are said to lie on the tile's edges, not half a cell inside: stretched 41/40."""
    ground_endpoints: bool = True
    """The same for the angles or pixels of the ground cells: stretched n / (n − 1) along each axis."""
    depth_at_corner: bool = True
    """A cell's depth is that of the nearest pixel to its upper left corner, not that of its centre."""


PLAIN = Quirks(False, False, False)


@dataclass(frozen=True)
class RobustSearch:
    """The published search over drawn matches, in one batch here instead of its 20 draws of 100."""

    hypotheses: int = 2000
    points: int = 3
    inlier_m: float = 2.5
    refinements: int = 4


@dataclass(frozen=True)
class Loc2Specification:
    """Everything that differs between the released weights."""

    variant: str
    ground_rows_px: int
    ground_columns_px: int
    is_panorama: bool
    """Equirectangular, centre column forward and row 0 up; else pinhole."""
    aerial_px: int
    """The tile is resized to this before the backbone."""
    tile_m: float
    """Side of the tile on the ground."""
    heading_in_tile_rad: float
    """Of a vehicle at its prior heading, counter-clockwise from tile-up: how the tiles of the training were turned."""
    depth_kind: str
    """ "range" along the ray, or "z" along the optical axis: what the depth limit, and a depth image, measure."""
    depth_limit_m: float
    matches: int
    """Drawn without replacement in proportion to the score."""
    robust: RobustSearch | None
    """None: one weighted Procrustes over all matches."""
    quirks: Quirks = Quirks()
    aerial_cells: int = AERIAL_CELLS

    @property
    def ground_rows(self) -> int:
        """Rows of ground cells."""
        return self.ground_rows_px // TOKEN_PX

    @property
    def ground_columns(self) -> int:
        """Columns of ground cells."""
        return self.ground_columns_px // TOKEN_PX

    @property
    def meters_per_pixel(self) -> float:
        """Of the tile as the backbone sees it."""
        return self.tile_m / self.aerial_px

    def with_quirks(self, quirks: Quirks) -> Loc2Specification:
        """The same weights read with other coordinates."""
        return replace(self, quirks=quirks)


SPECIFICATIONS = {
    "vigor": Loc2Specification(
        variant="vigor",
        ground_rows_px=714,
        ground_columns_px=1428,
        is_panorama=True,
        aerial_px=630,
        tile_m=VIGOR_TILE_PX * sum(VIGOR_METERS_PER_PIXEL.values()) / len(VIGOR_METERS_PER_PIXEL),
        heading_in_tile_rad=0.0,
        depth_kind="range",
        depth_limit_m=35.0,
        matches=8192,
        robust=RobustSearch(),
    ),
    "kitti": Loc2Specification(
        variant="kitti",
        ground_rows_px=364,
        ground_columns_px=1232,
        is_panorama=False,
        aerial_px=504,
        tile_m=KITTI_CROP_PX * KITTI_METERS_PER_PIXEL,
        heading_in_tile_rad=-math.pi / 2,
        depth_kind="z",
        depth_limit_m=40.0,
        matches=1024,
        robust=None,
    ),
}


def specification(variant: str, city: str = "") -> Loc2Specification:
    """The table's row; `city` sets the tile's size to that of the VIGOR city. Raises InputError for unknown names."""
    if variant not in SPECIFICATIONS:
        raise InputError(f"there is no Loc2 variant '{variant}'; choose {' or '.join(SPECIFICATIONS)}")
    found = SPECIFICATIONS[variant]
    if not city:
        return found
    if variant != "vigor" or city not in VIGOR_METERS_PER_PIXEL:
        raise InputError(f"'{city}' is no city of the {variant} tiles; choose {', '.join(VIGOR_METERS_PER_PIXEL)}")
    return replace(found, tile_m=VIGOR_TILE_PX * VIGOR_METERS_PER_PIXEL[city])
