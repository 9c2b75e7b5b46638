"""Orthophoto of a town as MBTiles: web-mercator tiles whose every pixel shows the ground that its centre names.

Web-mercator tiles are no squares of the map: on the ellipsoid a pixel is 0.3 % wider than high at 48° north, and
the grid turns against the map's axes with distance from its origin. Over 4 × 4 tiles (some 100 m) an affine map
describes both to well below a millimetre, so blocks of that size are rendered and resampled through one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.geodesy import MapProjection, mercator_geodetic, mercator_pixel
from cross_view_loc.simulation.messages import encode_jpeg

if TYPE_CHECKING:
    from cross_view_loc.simulation.renderer import Renderer

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

TILE_PX = 256
MIN_ZOOM, MAX_ZOOM = 17, 20
BLOCK_TILES = 4
BLOCK_PX = BLOCK_TILES * TILE_PX
SUPERSAMPLING = 2
LEAN = (0.03, 0.02)
"""Metres that roofs move east and north for each metre of height: no orthophoto looks straight down everywhere."""


@dataclass(frozen=True)
class TileRange:
    """Tiles of one zoom level that touch the town; `x1` and `y1` are exclusive, y counts from the north (XYZ)."""

    x0: int
    y0: int
    x1: int
    y1: int


def tile_range(projection: MapProjection, half_size_m: float, zoom: int) -> TileRange:
    """Tiles that touch the square of ± `half_size_m` about the map's origin."""
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=np.float64) * half_size_m
    latitude_deg, longitude_deg, _ = projection.to_geodetic(corners[:, 0], corners[:, 1], 0.0)
    x, y = mercator_pixel(latitude_deg, longitude_deg, zoom, TILE_PX)
    return TileRange(
        int(np.floor(x.min() / TILE_PX)),
        int(np.floor(y.min() / TILE_PX)),
        int(np.floor(x.max() / TILE_PX)) + 1,
        int(np.floor(y.max() / TILE_PX)) + 1,
    )


def map_of_pixels(projection: MapProjection, x: Array, y: Array, zoom: int = MAX_ZOOM) -> tuple[Array, Array]:
    """East and north in metres of global web-mercator pixel positions, on the plane of the map's origin."""
    latitude_deg, longitude_deg = mercator_geodetic(x, y, zoom, TILE_PX)
    east_m, north_m, _ = projection.to_map(latitude_deg, longitude_deg, projection.origin.height_m)
    return east_m, north_m


def block_affine(projection: MapProjection, x0_px: float, y0_px: float) -> Array:
    """(2, 3) matrix from pixels (column, row) of the block that starts at a global z20 pixel to east and north metres.

    Fitted over the block by least squares.
    """
    column, row = np.meshgrid(np.linspace(0.0, BLOCK_PX, 5), np.linspace(0.0, BLOCK_PX, 5))
    east_m, north_m = map_of_pixels(projection, x0_px + column, y0_px + row)
    design = np.stack([column.ravel(), row.ravel(), np.ones(column.size)], axis=1)
    solution, *_ = np.linalg.lstsq(design, np.stack([east_m.ravel(), north_m.ravel()], axis=1), rcond=None)
    return solution.T


def render_block(
    renderer: Renderer,
    projection: MapProjection,
    x0_px: float,
    y0_px: float,
    half_size_m: float,
    lean: tuple[float, float],
    shift_m: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """(BLOCK_PX, BLOCK_PX, 3) RGB of one block of z20 pixels; black beyond the town.

    What stands at p (east, north) is drawn at p + shift_m.
    """
    affine = block_affine(projection, x0_px, y0_px)
    fine = BLOCK_PX * SUPERSAMPLING
    step_m = float(np.min(np.linalg.norm(affine[:, :2], axis=0))) / SUPERSAMPLING
    centre = affine @ [BLOCK_PX / 2, BLOCK_PX / 2, 1.0]
    # The square that is rendered has finer pixels than the block needs, and a margin for the block's tiny rotation.
    render_px = int(np.ceil(fine * 1.004)) + 8
    east_m, north_m = float(centre[0]) - shift_m[0], float(centre[1]) - shift_m[1]
    camera = renderer.ortho(east_m, north_m, render_px, render_px, step_m, lean=lean, supersample=1)
    rendered = np.asarray(renderer.render([camera])[0])[0]

    # Map metres of a fine pixel's centre, then the rendered pixel that holds them; OpenCV counts centres from 0.
    linear, offset = affine[:, :2] / SUPERSAMPLING, affine[:, 2]
    to_column_row = np.array([[1.0, 0.0], [0.0, -1.0]]) / step_m
    A = to_column_row @ linear
    b = to_column_row @ (offset - centre) + render_px / 2.0
    b = b + A @ [0.5, 0.5] - 0.5
    warped = cv2.warpAffine(
        rendered, np.hstack([A, b[:, None]]), (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    block = np.asarray(cv2.resize(warped, (BLOCK_PX, BLOCK_PX), interpolation=cv2.INTER_AREA))
    centres = np.arange(BLOCK_PX) + 0.5
    east = affine[0, 0] * centres[None] + affine[0, 1] * centres[:, None] + offset[0]
    north = affine[1, 0] * centres[None] + affine[1, 1] * centres[:, None] + offset[1]
    block[np.maximum(np.abs(east), np.abs(north)) > half_size_m] = 0
    return np.ascontiguousarray(block)


def _root_canvases(
    renderer: Renderer,
    projection: MapProjection,
    half_size_m: float,
    lean: tuple[float, float],
    shift_m: tuple[float, float],
    on_tile: Callable[[int], None],
) -> Iterator[tuple[int, int, Image]]:
    """(x, y, image) of every tile of the lowest zoom, as an image of all its z20 pixels."""
    root = tile_range(projection, half_size_m, MIN_ZOOM)
    detail = tile_range(projection, half_size_m, MAX_ZOOM)
    tiles_per_root = 2 ** (MAX_ZOOM - MIN_ZOOM)
    side = tiles_per_root * TILE_PX
    for root_y in range(root.y0, root.y1):
        for root_x in range(root.x0, root.x1):
            canvas = np.zeros((side, side, 3), dtype=np.uint8)
            for row in range(0, tiles_per_root, BLOCK_TILES):
                for column in range(0, tiles_per_root, BLOCK_TILES):
                    x, y = root_x * tiles_per_root + column, root_y * tiles_per_root + row
                    if x >= detail.x1 or y >= detail.y1 or x + BLOCK_TILES <= detail.x0 or y + BLOCK_TILES <= detail.y0:
                        continue
                    u, v = column * TILE_PX, row * TILE_PX
                    canvas[v : v + BLOCK_PX, u : u + BLOCK_PX] = render_block(
                        renderer, projection, x * TILE_PX, y * TILE_PX, half_size_m, lean, shift_m
                    )
                    on_tile(1)
            yield root_x, root_y, canvas


def block_count(projection: MapProjection, half_size_m: float) -> int:
    """Blocks that `write_mbtiles` renders, for a progress bar."""
    detail = tile_range(projection, half_size_m, MAX_ZOOM)
    columns = (detail.x1 - 1) // BLOCK_TILES - detail.x0 // BLOCK_TILES + 1
    rows = (detail.y1 - 1) // BLOCK_TILES - detail.y0 // BLOCK_TILES + 1
    return columns * rows


def write_mbtiles(
    path: Path,
    renderer: Renderer,
    projection: MapProjection,
    size_m: float,
    name: str,
    lean: tuple[float, float] = LEAN,
    on_block: Callable[[int], None] = lambda _: None,
    shift_m: tuple[float, float] = (0.0, 0.0),
) -> int:
    """Write the town of `size_m` a side as MBTiles 1.3 (zoom 17 to 20, JPEG); returns the number of tiles.

    The file must not exist. Lower zooms are area averages of the rendered one. Rows are stored bottom up (TMS), as
    the format demands. The row `map_origin` of the metadata holds "latitude,longitude,height". `shift_m` is an error
    of the map: east and north by which everything is drawn displaced.
    """
    half_size_m = size_m / 2.0
    written = 0
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        connection.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        connection.execute("CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)")
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", metadata(projection, half_size_m, name).items())
        for root_x, root_y, canvas in _root_canvases(renderer, projection, half_size_m, lean, shift_m, on_block):
            for zoom in range(MAX_ZOOM, MIN_ZOOM - 1, -1):
                # Each zoom straight from the finest: rounding to bytes once adds no bias from level to level.
                side = canvas.shape[0] >> (MAX_ZOOM - zoom)
                shrunk = np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
                wanted = tile_range(projection, half_size_m, zoom)
                across = 2 ** (zoom - MIN_ZOOM)
                rows = [
                    (zoom, x, 2**zoom - 1 - y, encode_jpeg(_cut(shrunk, x - root_x * across, y - root_y * across)))
                    for y in range(max(wanted.y0, root_y * across), min(wanted.y1, (root_y + 1) * across))
                    for x in range(max(wanted.x0, root_x * across), min(wanted.x1, (root_x + 1) * across))
                ]
                connection.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
                written += len(rows)
        connection.commit()
    finally:
        connection.close()
    return written


def metadata(projection: MapProjection, half_size_m: float, name: str) -> dict[str, str]:
    """Rows of the metadata table."""
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=np.float64) * half_size_m
    latitude_deg, longitude_deg, _ = projection.to_geodetic(corners[:, 0], corners[:, 1], 0.0)
    west, south, east, north = longitude_deg.min(), latitude_deg.min(), longitude_deg.max(), latitude_deg.max()
    origin = projection.origin
    return {
        "name": name,
        "format": "jpg",
        "bounds": f"{west:.9f},{south:.9f},{east:.9f},{north:.9f}",
        "center": f"{origin.longitude_deg:.9f},{origin.latitude_deg:.9f},{MAX_ZOOM}",
        "minzoom": str(MIN_ZOOM),
        "maxzoom": str(MAX_ZOOM),
        "type": "baselayer",
        "version": "1.0",
        "description": "Orthophoto of a procedural town rendered by cross_view_loc",
        "attribution": "Procedural town, cross_view_loc (no rights reserved)",
        "map_origin": f"{origin.latitude_deg!r},{origin.longitude_deg!r},{origin.height_m!r}",
    }


def _cut(canvas: Image, column: int, row: int) -> Image:
    u, v = column * TILE_PX, row * TILE_PX
    return canvas[v : v + TILE_PX, u : u + TILE_PX]
