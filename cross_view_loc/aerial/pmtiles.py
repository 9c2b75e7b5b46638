"""Web-mercator tiles in one PMTiles v3 file (raster), read only; needs the small package `pmtiles`."""

from __future__ import annotations

import gzip
import threading
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from cross_view_loc.aerial.tiles import (
    DEFAULT_TILE_SIZE_PX,
    WORLD_BOUNDS_DEG,
    Problems,
    TileKey,
    decode_tile,
)
from cross_view_loc.errors import MapError, MissingInputError

_HEADER_BYTES = 127
_MAX_DEPTH = 4
# A directory holds some thousands of entries; a vehicle stays within a few of them.
_DIRECTORIES = 64
_DAMAGED = (ValueError, EOFError, IndexError, OSError, zlib.error)


class PmtilesStore:
    """The tiles of a raster PMTiles file; `attribution` is for files that name nobody.

    Raises MissingInputError when the file or the package pmtiles is missing, MapError when it is not a whole raster
    PMTiles v3 file.
    """

    def __init__(self, path: str | Path, attribution: str = "") -> None:
        self.path = Path(path)
        self._default_attribution = attribution
        self.name = self.path.name
        self._problems = Problems()
        self._lock = threading.Lock()
        if not self.path.is_file():
            raise MissingInputError(f"Map file {self.path} does not exist; give the path of a .pmtiles file.")
        try:
            from pmtiles import tile as format_v3
        except ImportError:
            raise MissingInputError(
                f"Reading {self.path} needs the package pmtiles; run pip install pmtiles."
            ) from None
        self._format: Any = format_v3
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise MapError(f"{self.path} cannot be opened ({error.strerror}); check its permissions.") from None
        self._header = self._read_header()
        self._check_kind()
        self._directory = lru_cache(maxsize=_DIRECTORIES)(self._load_directory)
        self._metadata = self._read_metadata()
        self.zooms = tuple(range(self._header["min_zoom"], self._header["max_zoom"] + 1))
        self.tile_size_px = self._probe_tile_size()

    @property
    def attribution(self) -> str:
        """Whom to credit, from the file's metadata."""
        return str(self._metadata.get("attribution") or self._default_attribution)

    @property
    def map_origin_text(self) -> str:
        """The metadata's map_origin ("lat,lon,height"), or empty."""
        return str(self._metadata.get("map_origin", ""))

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each part of the file found unreadable so far."""
        return self._problems.sentences

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees as the file's header claims, or the whole world."""
        h = self._header
        south, west = h["min_lat_e7"] / 1e7, h["min_lon_e7"] / 1e7
        north, east = h["max_lat_e7"] / 1e7, h["max_lon_e7"] / 1e7
        return (south, west, north, east) if south < north and west != east else WORLD_BOUNDS_DEG

    def read(self, key: TileKey) -> bytes | None:
        """A tile's bytes, or None."""
        try:
            entry = self._entry(self._format.zxy_to_tileid(key.zoom, key.column, key.row))
            return self._tile_bytes(entry) if entry is not None else None
        except _DAMAGED as error:
            self._problems.add(f"Tile {key} cannot be read from {self.name} ({error}); fetch the file again.")
            return None

    def _entry(self, tile_id: int) -> Any | None:
        offset, length = self._header["root_offset"], self._header["root_length"]
        for _ in range(_MAX_DEPTH):
            entry = self._format.find_tile(self._directory(offset, length), tile_id)
            if entry is None or entry.run_length > 0:
                return entry
            offset, length = self._header["leaf_directory_offset"] + entry.offset, entry.length
        raise ValueError("directories nested too deep")

    def _tile_bytes(self, entry: Any) -> bytes:
        data = self._bytes(self._header["tile_data_offset"] + entry.offset, entry.length)
        return gzip.decompress(data) if self._header["tile_compression"] == self._format.Compression.GZIP else data

    def _load_directory(self, offset: int, length: int) -> list[Any]:
        data = self._bytes(offset, length)
        if self._header["internal_compression"] == self._format.Compression.NONE:
            data = gzip.compress(data, 1)  # the package knows compressed directories alone
        entries: list[Any] = self._format.deserialize_directory(data)
        return entries

    def _bytes(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(length)
        if len(data) < length:
            raise EOFError("the file ends before it")
        return data

    def _read_header(self) -> Any:
        start = self._bytes(0, min(_HEADER_BYTES, self.path.stat().st_size))
        if start[:7] != b"PMTiles":
            raise MapError(f"{self.path} is not a PMTiles file; give a .pmtiles file, or fetch it again.")
        if len(start) > 7 and start[7] != 3:
            raise MapError(f"{self.path} is PMTiles version {start[7]}; convert it to version 3 with pmtiles convert.")
        try:
            header = self._format.deserialize_header(start)
        except (ValueError, IndexError):
            raise MapError(f"{self.path} has a damaged header; fetch it again.") from None
        sections = ("root", "metadata", "leaf_directory", "tile_data")
        need = max(header[f"{section}_offset"] + header[f"{section}_length"] for section in sections)
        size = self.path.stat().st_size
        if size < max(need, _HEADER_BYTES):
            raise MapError(f"{self.path} is truncated, {size} of {need} bytes; fetch it again.")
        return header

    def _check_kind(self) -> None:
        tile_type, compression = self._header["tile_type"].name, self._header["tile_compression"].name
        if tile_type in ("MVT", "MLT"):
            raise MapError(f"{self.path} holds vector tiles; give a PMTiles file with images (png, jpg or webp).")
        if compression in ("BROTLI", "ZSTD") or self._header["internal_compression"].name in ("BROTLI", "ZSTD"):
            raise MapError(f"{self.path} is compressed in a way this package cannot read; convert it to gzip or none.")
        if self._header["root_length"] == 0 or self._header["tile_data_length"] == 0:
            raise MapError(f"{self.path} holds no tiles; fetch it again.")

    def _read_metadata(self) -> dict[str, Any]:
        import json

        try:
            data = self._bytes(self._header["metadata_offset"], self._header["metadata_length"])
            if self._header["internal_compression"] == self._format.Compression.GZIP:
                data = gzip.decompress(data)
            content = json.loads(data) if data else {}
        except _DAMAGED as error:
            self._problems.add(f"The metadata of {self.name} cannot be read ({error}); fetch the file again.")
            return {}
        return content if isinstance(content, dict) else {}

    def _probe_tile_size(self) -> int:
        """Side in pixels of one of the finest tiles: 256, or 512 for high-density maps."""
        try:
            entries = self._directory(self._header["root_offset"], self._header["root_length"])
            entry = self._entry(entries[-1].tile_id) if entries else None
            if entry is None:
                raise MapError(f"{self.path} holds no tiles; fetch it again.")
            tile = decode_tile(self._tile_bytes(entry))
        except _DAMAGED as error:
            raise MapError(f"{self.path} has a damaged directory ({error}); fetch it again.") from None
        return int(tile[0].shape[1]) if tile is not None else DEFAULT_TILE_SIZE_PX
