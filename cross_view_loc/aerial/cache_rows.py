"""The rows of the tile cache: each function is part of its caller's transaction, and may raise sqlite3.Error.

A place is (zoom_level, tile_column, tile_row) as MBTiles counts: rows from the south.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from cross_view_loc.aerial.picture import picture_header
from cross_view_loc.aerial.tiles import TileKey

_EVICT_AT_ONCE = 256
_KEEP_AFTER_EVICTION = 0.9
_COLUMNS = "zoom_level, tile_column, tile_row"
_WHERE = "WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"

Place = tuple[int, int, int]


@dataclass(frozen=True)
class CachedTile:
    """What is known of a tile. Times are Unix seconds."""

    data: bytes | None
    """The encoded picture; None when the source has none (`missing` says how that was learnt)."""
    fetched_s: float
    expires_s: float
    etag: str = ""
    last_modified: str = ""
    source: str = ""
    missing: str = ""

    def is_fresh(self, now_s: float) -> bool:
        """Whether the source need not be asked again yet."""
        return now_s < self.expires_s


class DamagedTileError(Exception):
    """The stored bytes are not those that were written."""


def place_of(key: TileKey) -> Place:
    """Where MBTiles keeps a tile."""
    return key.zoom, key.column, key.row_from_south


def select(reader: sqlite3.Connection, place: Place) -> CachedTile | None:
    """What is known of a tile, or None. Raises DamagedTileError when its bytes do not have their checksum."""
    query = (
        "SELECT tile_data, fetched_s, expires_s, etag, last_modified, source, missing, checksum FROM cache"
        f" LEFT JOIN tiles USING ({_COLUMNS}) {_WHERE}"
    )
    row = reader.execute(query, place).fetchone()
    if row is None:
        return None
    data, fetched_s, expires_s, etag, last_modified, source, missing, checksum = row
    if not missing and (data is None or zlib.crc32(data) != checksum):
        raise DamagedTileError
    return CachedTile(None if missing else data, fetched_s, expires_s, etag, last_modified, source, missing)


def store(writer: sqlite3.Connection, place: Place, tile: CachedTile) -> None:
    """Put a tile, or that there is none, in the place of what was known."""
    delete(writer, place)
    if tile.data is not None:
        writer.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (*place, tile.data))
    data = tile.data or b""
    times = (tile.fetched_s, tile.expires_s, tile.fetched_s)
    values = (*place, *times, len(data), zlib.crc32(data), tile.etag, tile.last_modified, tile.source, tile.missing)
    writer.execute(f"INSERT INTO cache VALUES ({', '.join('?' * len(values))})", values)


def refresh(writer: sqlite3.Connection, place: Place, fetched_s: float, expires_s: float) -> None:
    """Let a tile hold longer."""
    writer.execute(f"UPDATE cache SET fetched_s = ?, expires_s = ? {_WHERE}", (fetched_s, expires_s, *place))


def delete(writer: sqlite3.Connection, place: Place) -> None:
    """Drop what is known of a tile."""
    for table in ("tiles", "cache"):
        writer.execute(f"DELETE FROM {table} {_WHERE}", place)


def note_use(writer: sqlite3.Connection, used: Mapping[Place, float]) -> None:
    """Write down when tiles were used last."""
    rows = [(used_s, *place) for place, used_s in used.items()]
    writer.executemany(f"UPDATE cache SET used_s = MAX(used_s, ?) {_WHERE}", rows)


def evict(writer: sqlite3.Connection, limit_bytes: float, spared: Place) -> None:
    """Drop the tiles not used for longest, but for `spared`, until the file is a tenth below its bound."""
    while (excess := used_bytes(writer) - _KEEP_AFTER_EVICTION * limit_bytes) > 0:
        oldest = writer.execute(
            f"SELECT {_COLUMNS}, size_bytes FROM cache ORDER BY used_s LIMIT {_EVICT_AT_ONCE}"
        ).fetchall()
        dropped = [row for row in oldest if row[:3] != spared]
        if not dropped:
            return
        for zoom, column, row, size_bytes in dropped:
            delete(writer, (zoom, column, row))
            excess -= size_bytes
            if excess <= 0:
                break


def note_zooms(writer: sqlite3.Connection, data: bytes) -> None:
    """Keep the metadata true: other programs read the zooms and the format there."""
    lowest, highest = writer.execute("SELECT MIN(zoom_level), MAX(zoom_level) FROM tiles").fetchone()
    rows = {"minzoom": str(lowest), "maxzoom": str(highest)}
    header = picture_header(data)
    if header is not None:
        rows["format"] = {"jpeg": "jpg"}.get(header.format, header.format)
    writer.executemany("INSERT OR REPLACE INTO metadata VALUES (?, ?)", list(rows.items()))


def all_keys(reader: sqlite3.Connection) -> list[TileKey]:
    """Every tile that is there, by zoom, column and row."""
    found = reader.execute(f"SELECT {_COLUMNS} FROM tiles").fetchall()
    return sorted(TileKey(zoom, column, 2**zoom - 1 - row) for zoom, column, row in found)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file in use; pages freed by eviction are used again and do not count."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size
