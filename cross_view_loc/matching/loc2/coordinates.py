"""Where the cells of the released matchers lie: aerial cells in the tile, ground cells along their rays.

The published plane is (row, column) metres, down and right positive, about the tile's centre; a vehicle at yaw 0 faces
up. Ours is (right, up) for the patch and (x forward, y left) for the body: right = column, up = −row; forward = −x,
left = −y. Both planes are right-handed seen from above, so yaw keeps its sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.matching.loc2.specification import TOKEN_PX, Loc2Specification

Array = NDArray[np.float64]


def steps(count: int, ends: bool) -> Array:
    """(count,) positions in [0, 1]: cell centres (i + 0.5) / count, or with `ends` i / (count − 1)."""
    return np.arange(count) / (count - 1) if ends else (np.arange(count) + 0.5) / count


def aerial_points(spec: Loc2Specification) -> Tensor:
    """(cells², 2) right, up metres from the tile's centre, row by row from the top."""
    axis = (steps(spec.aerial_cells, spec.quirks.aerial_endpoints) - 0.5) * spec.tile_m
    row, column = np.meshgrid(axis, axis, indexing="ij")
    return torch.from_numpy(np.stack([column, -row], -1).reshape(-1, 2)).float()


@dataclass(frozen=True)
class GroundImage:
    """The resized image that the ground cells belong to, as rays: equirectangular, or pinhole with its intrinsics."""

    spec: Loc2Specification
    fx: float = math.nan
    fy: float = math.nan
    cx: float = math.nan
    cy: float = math.nan

    def rays(self, columns: Array, rows: Array) -> Array:
        """Pixels of the resized image (...), (...) → optical rays (..., 3) of length 1 ("range") or z = 1 ("z")."""
        if not self.spec.is_panorama:
            return np.stack([(columns - self.cx) / self.fx, (rows - self.cy) / self.fy, np.ones_like(rows)], -1)
        phi = columns * (2 * math.pi / self.spec.ground_columns_px)  # 0 behind, pi ahead, clockwise
        theta = rows * (math.pi / self.spec.ground_rows_px)  # 0 up
        level = np.sin(theta)
        return np.stack([-level * np.sin(phi), -np.cos(theta), -level * np.cos(phi)], -1)

    def cell_rays(self) -> Array:
        """(rows, columns, 3) rays the weights take the cells' centres to lie on."""
        spec, ends = self.spec, self.spec.quirks.ground_endpoints
        return self.rays(
            *np.meshgrid(
                steps(spec.ground_columns, ends) * spec.ground_columns_px,
                steps(spec.ground_rows, ends) * spec.ground_rows_px,
            )
        )

    def depth_pixels(self) -> tuple[Array, Array]:
        """(rows, columns) each: column and row, in the resized image, of the pixel whose depth a cell gets."""
        spec = self.spec
        inside = 0.5 if spec.quirks.depth_at_corner else TOKEN_PX / 2
        columns, rows = np.meshgrid(
            np.arange(spec.ground_columns) * TOKEN_PX + inside, np.arange(spec.ground_rows) * TOKEN_PX + inside
        )
        return columns, rows


def sample_depth_image(depth_m: Array, image: GroundImage) -> Array:
    """A depth image (H, W) of any resolution, of the variant's kind → depth of the cells (rows, columns).

    The nearest pixel to a cell's upper left corner under the quirk, else the one at its centre. Never interpolated:
    between a car and the street behind it there is nothing.
    """
    height, width = depth_m.shape
    spec = image.spec
    if spec.quirks.depth_at_corner:
        rows = np.arange(spec.ground_rows) * height // spec.ground_rows
        columns = np.arange(spec.ground_columns) * width // spec.ground_columns
    else:
        rows = ((np.arange(spec.ground_rows) + 0.5) * height / spec.ground_rows).astype(int)
        columns = ((np.arange(spec.ground_columns) + 0.5) * width / spec.ground_columns).astype(int)
    return np.asarray(depth_m[rows[:, None], columns], dtype=np.float64)


def usable_depth(depth_m: Array, spec: Loc2Specification) -> NDArray[np.bool_]:
    """Which depths (...) the matcher may use: known and not beyond the variant's limit."""
    return np.isfinite(depth_m) & (depth_m > 0) & (depth_m <= spec.depth_limit_m)
