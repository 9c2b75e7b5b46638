"""Web-mercator tiles in one SQLite file (MBTiles 1.3, raster), read only."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.origin import parse_map_origin
from cross_view_loc.aerial.resampling import bilinear, reduce
from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, mercator_geodetic, mercator_meters_per_pixel, mercator_pixel

_MAX_ZOOM = 30
# A zoom a hair coarser than asked for is taken rather than one twice as fine.
_COARSER_ACCEPTED = 1.02
_MAX_MOSAIC_PX = 4096 * 4096
_MAX_PROBLEMS = 100

Tile = tuple[NDArray[np.uint8], NDArray[np.bool_]]


class MbtilesSource:
    """Raster MBTiles. Decoded tiles are kept (`cache_tiles` of them); a missing tile is filled from lower zooms.

    Raises MissingInputError when there is no such file, MapError when it is not a raster MBTiles.
    """

    def __init__(self, path: str | Path, cache_tiles: int = 256) -> None:
        self.path = Path(path)
        self.name = self.path.name
        if not self.path.is_file():
            raise MissingInputError(f"Map file {self.path} does not exist; give the path of an .mbtiles file.")
        self._lock = threading.RLock()
        self._cache: OrderedDict[tuple[int, int, int], Tile | None] = OrderedDict()
        self._cache_tiles = cache_tiles
        self._problems: list[str] = []
        self.problem_count = 0
        """Unreadable tiles met so far; `problems` keeps the sentences of the first hundred."""
        try:
            # One connection under one lock: the node's worker thread is not the one that opened the map.
            uri = self.path.resolve().as_uri() + "?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self.metadata = self._read_metadata()
            self.zooms = self._existing_zooms()
        except sqlite3.Error as error:
            raise MapError(f"{self.path} is not a readable MBTiles file ({error}); fetch it again.") from error
        if self.metadata.get("format", "").lower() in ("pbf", "mvt"):
            raise MapError(f"{self.path} holds vector tiles; give an MBTiles file with images (png, jpg or webp).")
        if not self.zooms:
            raise MapError(f"{self.path} holds no tiles; fetch it again.")
        self.tile_size = self._probe_tile_size()

    @property
    def attribution(self) -> str:
        """Whom to credit, from the file's metadata."""
        return self.metadata.get("attribution", "")

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each unreadable tile met so far."""
        with self._lock:
            return tuple(self._problems)

    @property
    def map_origin(self) -> MapOrigin | None:
        """The metadata's map_origin, or None. Raises MapError when it cannot be understood."""
        text = self.metadata.get("map_origin")
        return parse_map_origin(text, self.name) if text else None

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees of the finest zoom's tiles (metadata often claims the whole world)."""
        zoom = self.zooms[-1]
        with self._lock:
            west, east, south, north = self._connection.execute(
                "SELECT MIN(tile_column), MAX(tile_column), MIN(tile_row), MAX(tile_row) FROM tiles"
                " WHERE zoom_level = ?",
                (zoom,),
            ).fetchone()
        rows = 2**zoom
        (south_deg, north_deg), (west_deg, east_deg) = mercator_geodetic(
            [west, east + 1], [rows - south, rows - north - 1], zoom, tile_size=1
        )
        return float(south_deg), float(west_deg), float(north_deg), float(east_deg)

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether any zoom has a tile at the place."""
        for zoom in reversed(self.zooms):
            x, y = mercator_pixel(latitude_deg, longitude_deg, zoom, tile_size=1)
            if self._read(zoom, int(np.floor(x)) % 2**zoom, int(np.floor(y))) is not None:
                return True
        return False

    def sample(
        self, latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64], meters_per_pixel: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """See AerialSource: RGB (H, W, 3) and valid (H, W), bilinear from the nearest zoom that is fine enough."""
        latitude_deg, longitude_deg = np.asarray(latitude_deg), np.asarray(longitude_deg)
        middle_latitude_deg = float(latitude_deg[latitude_deg.shape[0] // 2, latitude_deg.shape[1] // 2])
        zoom = self._zoom_for(middle_latitude_deg, meters_per_pixel)
        finer = meters_per_pixel / mercator_meters_per_pixel(middle_latitude_deg, zoom, self.tile_size)
        x, y = mercator_pixel(latitude_deg, longitude_deg, zoom, self.tile_size)
        return self._sample_blocks(zoom, x, y, factor=max(1, int(finer * _COARSER_ACCEPTED)))

    def _zoom_for(self, latitude_deg: float, meters_per_pixel: float) -> int:
        for zoom in self.zooms:
            resolution = mercator_meters_per_pixel(latitude_deg, zoom, self.tile_size)
            if resolution <= meters_per_pixel * _COARSER_ACCEPTED:
                return zoom
        return self.zooms[-1]

    def _sample_blocks(self, zoom: int, x: NDArray[np.float64], y: NDArray[np.float64], factor: int) -> Tile:
        """Sample global pixels; splits the request where its mosaic would not fit comfortably in memory."""
        # Whole blocks of `factor` counted from the world's corner: the same pixels whatever is asked for around them.
        left, top = (int(np.floor((values.min() - 1.0) / factor)) * factor for values in (x, y))
        right, bottom = (int(np.ceil((values.max() + 1.0) / factor)) * factor for values in (x, y))
        if (right - left) * (bottom - top) > _MAX_MOSAIC_PX and max(x.shape) > 16:
            axis = int(np.argmax(x.shape))
            halves = zip(np.array_split(x, 2, axis), np.array_split(y, 2, axis), strict=True)
            images, valids = zip(*(self._sample_blocks(zoom, *half, factor) for half in halves), strict=True)
            return np.concatenate(images, axis), np.concatenate(valids, axis)
        image, valid = reduce(*self._mosaic(zoom, left, top, right, bottom), factor)
        return bilinear(image, valid, (x - left) / factor, (y - top) / factor)

    def _mosaic(self, zoom: int, left: int, top: int, right: int, bottom: int) -> Tile:
        """Global pixels [left, right) × [top, bottom) of a zoom, put together from tiles."""
        size = self.tile_size
        image = np.zeros((bottom - top, right - left, 3), dtype=np.uint8)
        valid = np.zeros((bottom - top, right - left), dtype=bool)
        for row in range(top // size, (bottom - 1) // size + 1):
            for column in range(left // size, (right - 1) // size + 1):
                tile = self._tile_or_ancestor(zoom, column % 2**zoom, row)
                if tile is None:
                    continue
                x0, x1 = max(left, column * size), min(right, (column + 1) * size)
                y0, y1 = max(top, row * size), min(bottom, (row + 1) * size)
                target = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
                source = np.s_[y0 - row * size : y1 - row * size, x0 - column * size : x1 - column * size]
                image[target], valid[target] = tile[0][source], tile[1][source]
        return image, valid

    def _tile_or_ancestor(self, zoom: int, column: int, row: int) -> Tile | None:
        """The tile, or its part of the nearest lower zoom that has one, enlarged; None when nothing is there."""
        for lower in reversed([z for z in self.zooms if z <= zoom]):
            levels = zoom - lower
            tile = self._tile(lower, column >> levels, row >> levels)
            if tile is None:
                continue
            if levels == 0:
                return tile
            part_px = self.tile_size / 2**levels
            if part_px < 1:
                return None
            centers = (np.arange(self.tile_size) + 0.5) / 2**levels
            x = (column % 2**levels) * part_px + centers
            y = (row % 2**levels) * part_px + centers
            return bilinear(*tile, *np.meshgrid(x, y))
        return None

    def _tile(self, zoom: int, column: int, row: int) -> Tile | None:
        key = (zoom, column, row)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        data = self._read(*key)
        tile = None
        if data is not None:
            tile = _decode(data, self.tile_size)
            if tile is None:
                self._report(f"Tile {zoom}/{column}/{row} of {self.name} is not a readable image; fetch it again.")
        with self._lock:
            self._cache[key] = tile
            while len(self._cache) > self._cache_tiles:
                self._cache.popitem(last=False)
        return tile

    def _read(self, zoom: int, column: int, row: int) -> bytes | None:
        """A tile's bytes; MBTiles counts rows from the south."""
        query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
        try:
            with self._lock:
                found = self._connection.execute(query, (zoom, column, 2**zoom - 1 - row)).fetchone()
        except sqlite3.Error as error:
            self._report(f"Tile {zoom}/{column}/{row} cannot be read from {self.name} ({error}); fetch the file again.")
            return None
        return bytes(found[0]) if found and found[0] is not None else None

    def _report(self, sentence: str) -> None:
        with self._lock:
            self.problem_count += 1
            if sentence not in self._problems and len(self._problems) < _MAX_PROBLEMS:
                self._problems.append(sentence)

    def _read_metadata(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._connection.execute("SELECT name, value FROM metadata")}

    def _existing_zooms(self) -> list[int]:
        # Thirty-one index look-ups instead of a scan over every tile.
        query = "SELECT 1 FROM tiles WHERE zoom_level = ? LIMIT 1"
        return [zoom for zoom in range(_MAX_ZOOM + 1) if self._connection.execute(query, (zoom,)).fetchone()]

    def _probe_tile_size(self) -> int:
        """Side in pixels of the finest zoom's tiles: 256, or 512 for high-density maps."""
        query = "SELECT tile_data FROM tiles WHERE zoom_level = ? LIMIT 20"
        for (data,) in self._connection.execute(query, (self.zooms[-1],)):
            tile = _decode(bytes(data), None)
            if tile is not None:
                return int(tile[0].shape[1])
        return 256


def _decode(data: bytes, tile_size: int | None) -> Tile | None:
    """RGB and opacity of an encoded tile, resized to `tile_size`; None when it is not an image."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        return None
    pixels = (decoded // 257 if decoded.dtype == np.uint16 else decoded).astype(np.uint8)
    if tile_size is not None and pixels.shape[:2] != (tile_size, tile_size):
        pixels = np.asarray(cv2.resize(pixels, (tile_size, tile_size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    opaque = pixels[..., 3] >= 128 if pixels.ndim == 3 and pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=-1)
    return np.ascontiguousarray(pixels[..., 2::-1]), opaque
