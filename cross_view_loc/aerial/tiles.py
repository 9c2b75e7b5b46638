"""What a web-mercator tile is, and what a store of tiles promises; nothing here knows where tiles come from."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.geodesy import mercator_geodetic, mercator_pixel

MAX_ZOOM = 30
DEFAULT_TILE_SIZE_PX = 256
WORLD_BOUNDS_DEG = (-85.0511287798066, -180.0, 85.0511287798066, 180.0)
"""South, west, north, east of the web-mercator square."""

_MAX_PROBLEMS = 100

Tile = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""A decoded tile: RGB (H, W, 3) and where it is opaque (H, W)."""


@dataclass(frozen=True, order=True)
class TileKey:
    """Which tile: `2**zoom` columns from the antimeridian eastward and rows from the north (XYZ), web mercator."""

    zoom: int
    column: int
    row: int

    def __str__(self) -> str:
        return f"{self.zoom}/{self.column}/{self.row}"

    @property
    def row_from_south(self) -> int:
        """The row as TMS and MBTiles count it."""
        return 2**self.zoom - 1 - self.row

    @property
    def quadkey(self) -> str:
        """One digit per zoom level, as some servers name tiles."""
        levels = range(self.zoom - 1, -1, -1)
        return "".join(str((self.column >> level & 1) + 2 * (self.row >> level & 1)) for level in levels)

    @property
    def exists(self) -> bool:
        """Whether the numbers name a tile at all."""
        side = 2**self.zoom if 0 <= self.zoom <= MAX_ZOOM else 0
        return 0 <= self.column < side and 0 <= self.row < side

    def parent(self, levels: int = 1) -> TileKey:
        """The tile `levels` zooms lower that covers this one."""
        return TileKey(self.zoom - levels, self.column >> levels, self.row >> levels)

    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees."""
        return tile_range_bounds(self.zoom, self.column, self.row, self.column, self.row)

    @classmethod
    def at(cls, latitude_deg: float, longitude_deg: float, zoom: int) -> TileKey:
        """The tile of a zoom that a place lies in; latitudes beyond the map's edge are brought onto it."""
        x, y = mercator_pixel(latitude_deg, longitude_deg, zoom, tile_size=1)
        return cls(zoom, int(np.floor(x)) % 2**zoom, int(np.clip(np.floor(y), 0, 2**zoom - 1)))


class TileStore(Protocol):
    """Encoded tiles by key. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """File or service, as errors call it."""
        ...

    @property
    def attribution(self) -> str:
        """Whom to credit; empty when unknown."""
        ...

    @property
    def zooms(self) -> tuple[int, ...]:
        """The zooms it has, ascending, at least one."""
        ...

    @property
    def tile_size_px(self) -> int:
        """Side of a tile in pixels: 256, or 512 for high-density tiles."""
        ...

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees; west is greater than east across the antimeridian."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing found broken so far, oldest first."""
        ...

    def read(self, key: TileKey) -> bytes | None:
        """The encoded picture; None when it is not there now. Never raises for a damaged part, never waits on the
        network."""
        ...


class Problems:
    """Sentences about what was found broken, each kept once; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sentences: dict[str, None] = {}
        self._count = 0

    def add(self, sentence: str) -> None:
        """Count a problem and keep its sentence, the first hundred of them."""
        with self._lock:
            self._count += 1
            if len(self._sentences) < _MAX_PROBLEMS:
                self._sentences.setdefault(sentence)

    @property
    def count(self) -> int:
        """How many were added, repeated ones too."""
        with self._lock:
            return self._count

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences, oldest first."""
        with self._lock:
            return tuple(self._sentences)


def tile_range_bounds(zoom: int, left: int, top: int, right: int, bottom: int) -> tuple[float, float, float, float]:
    """South, west, north, east in degrees of columns left…right and rows top…bottom, all included."""
    (south, north), (west, east) = mercator_geodetic([left, right + 1], [bottom + 1, top], zoom, tile_size=1)
    return float(south), float(west), float(north), float(east)


def within_bounds(latitude_deg: float, longitude_deg: float, bounds: tuple[float, float, float, float]) -> bool:
    """Whether a place lies in (south, west, north, east); west greater than east means across the antimeridian."""
    south, west, north, east = bounds
    width = 360.0 if east - west >= 360.0 else (east - west) % 360.0
    return south <= latitude_deg <= north and (longitude_deg - west) % 360.0 <= width


def decode_tile(data: bytes, tile_size_px: int | None = None) -> Tile | None:
    """RGB and opacity of an encoded tile, resized to `tile_size_px` when given; None when it is not an image."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        return None
    pixels = (decoded // 257 if decoded.dtype == np.uint16 else decoded).astype(np.uint8)
    if tile_size_px is not None and pixels.shape[:2] != (tile_size_px, tile_size_px):
        size = (tile_size_px, tile_size_px)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    opaque = pixels[..., 3] >= 128 if pixels.ndim == 3 and pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=-1)
    return np.ascontiguousarray(pixels[..., 2::-1]), opaque
