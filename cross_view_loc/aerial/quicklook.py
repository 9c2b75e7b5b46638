"""One small picture of an area: what its tiles show, and in magenta where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.areas import TileSet
from cross_view_loc.aerial.tiles import TileStore, decode_tile
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import mercator_pixel

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

SIDE_PX = 1024
ABSENT_RGB = (255, 0, 255)
OUTSIDE_RGB = (32, 32, 32)
TRACK_RGB = (255, 220, 0)
_MAX_TILES = 2500
"""Pictures unpacked at most; a larger area is drawn from a coarser zoom."""


def quick_look(store: TileStore, tiles: TileSet, lines: Sequence[Array] = ()) -> Image:
    """RGB picture, north up, at most 1024 pixels wide and high, of the tiles of a set; `lines` are drawn on top.

    It shows the finest zoom of few enough tiles; where that is a coarser one, holes of finer zooms do not show.
    """
    drawn = [zoom for zoom in tiles.zooms if 0 < tiles.counts[zoom] <= _MAX_TILES]
    zoom = max(drawn, default=min((zoom for zoom in tiles.zooms if tiles.counts[zoom]), default=None))
    if zoom is None:
        return np.full((64, 64, 3), OUTSIDE_RGB, dtype=np.uint8)
    keys = list(tiles.of_zoom(zoom))
    left, width = _narrowest({key.column for key in keys}, 2**zoom)
    top, bottom = min(key.row for key in keys), max(key.row for key in keys) + 1
    cell_px = max(1, min(SIDE_PX // max(width, bottom - top), 256))
    image = np.full(((bottom - top) * cell_px, width * cell_px, 3), OUTSIDE_RGB, dtype=np.uint8)
    for key in keys:
        x, y = (key.column - left) % 2**zoom * cell_px, (key.row - top) * cell_px
        data = store.read(key)
        tile = None if data is None else decode_tile(data, cell_px)
        image[y : y + cell_px, x : x + cell_px] = ABSENT_RGB if tile is None else tile[0]
    for line in lines:
        columns, rows = mercator_pixel(line[:, 0], line[:, 1], zoom, tile_size=1)
        # Columns as the picture has them, also when the line runs beyond the antimeridian.
        columns = (columns - left + 0.5 * 2**zoom - width / 2) % 2**zoom - 0.5 * 2**zoom + width / 2
        pixels = np.round(np.stack([columns, rows - top], axis=1) * cell_px * 16).astype(np.int32)
        pieces = np.split(pixels, np.flatnonzero(np.abs(np.diff(columns)) > 2**zoom / 2) + 1)
        cv2.polylines(image, [piece[:, None] for piece in pieces], False, TRACK_RGB, 2, cv2.LINE_AA, shift=4)
    return image


def write_png(path: Path, image: Image) -> None:
    """Write an RGB picture. Raises InputError when that is not possible."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    if not done:
        raise InputError(f"a picture of {image.shape[1]} × {image.shape[0]} pixels cannot be written to {path}")
    path.write_bytes(data.tobytes())


def _narrowest(columns: set[int], count: int) -> tuple[int, int]:
    """First column and width of the narrowest strip around the world that holds all columns."""
    ordered = sorted(columns)
    gaps = [(after - before, after) for before, after in zip(ordered, [*ordered[1:], ordered[0] + count], strict=True)]
    gap, after = max(gaps)
    return after % count, count - gap + 1
