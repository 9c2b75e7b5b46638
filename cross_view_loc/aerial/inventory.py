"""What an MBTiles file holds: tiles of each zoom, their bytes, and, in this package's caches, how old they are."""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross_view_loc.aerial.coverage import is_picture
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import MapError


@dataclass(frozen=True)
class ZoomCount:
    """Tiles of one zoom."""

    zoom: int
    tiles: int
    size_bytes: int


@dataclass(frozen=True)
class Ages:
    """When tiles were fetched, in Unix seconds; only files that this package fetched know."""

    oldest_s: float
    median_s: float
    newest_s: float
    expired: int
    """Tiles that their server would like asked for again; they are used all the same."""
    known_missing: int
    """Tiles of which the server said that it has none."""


class Inventory:
    """A look at an MBTiles file without opening it as a map; use it in a `with` statement. Raises MapError."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._connection = sqlite3.connect(self.path.resolve().as_uri() + "?mode=ro", uri=True)
            self.metadata = {
                str(name): str(value) for name, value in self._connection.execute("SELECT name, value FROM metadata")
            }
            found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'cache'").fetchone()
        except sqlite3.Error as error:
            raise MapError(f"{self.path} is not a readable MBTiles file ({error}); fetch it again") from error
        self.is_cache = found is not None

    def __enter__(self) -> Inventory:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def zooms(self) -> list[ZoomCount]:
        """Tiles of each zoom, ascending."""
        query = "SELECT zoom_level, COUNT(*), SUM(LENGTH(tile_data)) FROM tiles GROUP BY zoom_level ORDER BY zoom_level"
        return [ZoomCount(int(zoom), int(count), int(size or 0)) for zoom, count, size in self._rows(query)]

    def ages(self, now_s: float) -> Ages | None:
        """How old the tiles are; None for a file that does not say, or has none."""
        if not self.is_cache:
            return None
        rows = list(self._rows("SELECT fetched_s, expires_s, missing FROM cache"))
        fetched = sorted(float(fetched_s) for fetched_s, _, missing in rows if not missing)
        if not fetched:
            return None
        return Ages(
            oldest_s=fetched[0],
            median_s=statistics.median(fetched),
            newest_s=fetched[-1],
            expired=sum(not missing and expires_s <= now_s for _, expires_s, missing in rows),
            known_missing=sum(bool(missing) for *_, missing in rows),
        )

    def has(self, key: TileKey) -> bool:
        """Whether the file has a tile, whole or not."""
        query = "SELECT 1 FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
        return any(self._rows(query, (key.zoom, key.column, key.row_from_south)))

    def tiles(self) -> Iterator[tuple[TileKey, bool]]:
        """Every tile and whether its picture is whole: it can be unpacked, and is as it was written."""
        checksum = "cache.checksum" if self.is_cache else "NULL"
        join = "LEFT JOIN cache USING (zoom_level, tile_column, tile_row)" if self.is_cache else ""
        query = f"SELECT zoom_level, tile_column, tile_row, tile_data, {checksum} FROM tiles {join}"
        for zoom, column, row, data, expected in self._rows(query):
            key = TileKey(zoom, column, 2**zoom - 1 - row)
            is_same = expected is None or zlib.crc32(data or b"") == expected
            yield key, bool(data) and is_same and is_picture(bytes(data), decode=True)

    def _rows(self, query: str, values: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            with contextlib.closing(self._connection.execute(query, values)) as cursor:
                yield from cursor
        except sqlite3.Error as error:
            raise MapError(f"{self.path} cannot be read further ({error}); fetch it again") from error
