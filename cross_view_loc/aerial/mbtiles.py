"""Web-mercator tiles in one SQLite file (MBTiles 1.3, raster), read only."""

from __future__ import annotations

import sqlite3
import threading
from functools import cached_property
from pathlib import Path

from cross_view_loc.aerial.origin import parse_map_origin
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import (
    DEFAULT_TILE_SIZE_PX,
    MAX_ZOOM,
    Problems,
    TileKey,
    decode_tile,
    tile_range_bounds,
)
from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin


class MbtilesStore:
    """The tiles of a raster MBTiles file; `attribution` is for files that name nobody.

    Raises MissingInputError when there is no such file, MapError when it is not a raster MBTiles.
    """

    def __init__(self, path: str | Path, attribution: str = "") -> None:
        self.path = Path(path)
        self._default_attribution = attribution
        self.name = self.path.name
        if not self.path.is_file():
            raise MissingInputError(f"Map file {self.path} does not exist; give the path of an .mbtiles file.")
        self._lock = threading.Lock()
        self._problems = Problems()
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
        self.tile_size_px = self._probe_tile_size()

    @property
    def attribution(self) -> str:
        """Whom to credit, from the file's metadata."""
        return self.metadata.get("attribution", "") or self._default_attribution

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each part of the file found unreadable so far."""
        return self._problems.sentences

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees of the finest zoom's tiles (metadata often claims the whole world)."""
        zoom = self.zooms[-1]
        query = (
            "SELECT MIN(tile_column), MAX(tile_column), MIN(tile_row), MAX(tile_row) FROM tiles WHERE zoom_level = ?"
        )
        with self._lock:
            left, right, south, north = self._connection.execute(query, (zoom,)).fetchone()
        rows = 2**zoom - 1
        return tile_range_bounds(zoom, left, rows - north, right, rows - south)

    def read(self, key: TileKey) -> bytes | None:
        """A tile's bytes; MBTiles counts rows from the south."""
        query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
        try:
            with self._lock:
                found = self._connection.execute(query, (key.zoom, key.column, key.row_from_south)).fetchone()
        except sqlite3.Error as error:
            self._problems.add(f"Tile {key} cannot be read from {self.name} ({error}); fetch the file again.")
            return None
        return bytes(found[0]) if found and found[0] is not None else None

    def _read_metadata(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._connection.execute("SELECT name, value FROM metadata")}

    def _existing_zooms(self) -> tuple[int, ...]:
        # Thirty-one index look-ups instead of a scan over every tile.
        query = "SELECT 1 FROM tiles WHERE zoom_level = ? LIMIT 1"
        return tuple(zoom for zoom in range(MAX_ZOOM + 1) if self._connection.execute(query, (zoom,)).fetchone())

    def _probe_tile_size(self) -> int:
        """Side in pixels of the finest zoom's tiles: 256, or 512 for high-density maps."""
        query = "SELECT tile_data FROM tiles WHERE zoom_level = ? LIMIT 20"
        for (data,) in self._connection.execute(query, (self.zooms[-1],)):
            tile = decode_tile(bytes(data)) if data is not None else None
            if tile is not None:
                return int(tile[0].shape[1])
        return DEFAULT_TILE_SIZE_PX


class MbtilesSource(TiledSource):
    """Raster MBTiles as imagery. Raises as MbtilesStore does."""

    def __init__(self, path: str | Path, cache_tiles: int | None = None, attribution: str = "") -> None:
        self._file = MbtilesStore(path, attribution)
        self.path = self._file.path
        super().__init__(self._file, cache_tiles=cache_tiles)

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata table."""
        return self._file.metadata

    @property
    def map_origin(self) -> MapOrigin | None:
        """The metadata's map_origin, or None. Raises MapError when it cannot be understood."""
        text = self.metadata.get("map_origin")
        return parse_map_origin(text, self.name) if text else None
