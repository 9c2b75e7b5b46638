"""The SQLite side of the tile cache: its tables, opening it beside other processes, and setting a broken file aside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cross_view_loc.errors import MapError

MARK = "cross_view_loc_cache"
"""Name in `metadata` that tells a cache from a map somebody made, which is never written to."""
WRITE_WAIT_S = 10.0
READ_WAIT_S = 0.1
"""A reader waits for nobody in WAL mode, except while another process recovers the file or sets it aside."""

# `tiles` and `metadata` are MBTiles 1.3; `cache` is ours and invisible to other programs.
SCHEMA = """
CREATE TABLE IF NOT EXISTS metadata (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS tiles (
    zoom_level INTEGER NOT NULL, tile_column INTEGER NOT NULL, tile_row INTEGER NOT NULL, tile_data BLOB NOT NULL,
    PRIMARY KEY (zoom_level, tile_column, tile_row));
CREATE TABLE IF NOT EXISTS cache (
    zoom_level INTEGER NOT NULL, tile_column INTEGER NOT NULL, tile_row INTEGER NOT NULL,
    fetched_s REAL NOT NULL, expires_s REAL NOT NULL, used_s REAL NOT NULL, size_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL, source TEXT NOT NULL,
    missing TEXT NOT NULL,
    PRIMARY KEY (zoom_level, tile_column, tile_row)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cache_used ON cache (used_s);
"""


class ForeignFileError(MapError):
    """The file is somebody's map, or the cache of another source."""


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file itself is broken."""
    text = str(error)
    return any(word in text for word in ("malformed", "not a database", "unsupported file format", "corrupt"))


def is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite says that there is no room."""
    return "is full" in str(error)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the file just now."""
    return "locked" in str(error)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Only one process at a time creates, opens or sets aside the file; the kernel ends the lock with the process."""
    name = path.with_name(path.name + ".lock")
    while True:
        with open(name, "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status = os.fstat(lock.fileno())
            if identity(name) == (status.st_dev, status.st_ino):  # else `stand_alone` took it away while we waited
                yield
                return


def connect(path: Path, wait_s: float, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit, to be guarded by the caller's lock. Raises sqlite3.Error."""
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "?mode=rwc")
    return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)


def prepare(connection: sqlite3.Connection, path: Path, metadata: Mapping[str, str], source: str) -> None:
    """Make the tables and bring the metadata up to date; the caller holds `exclusive`.

    Raises sqlite3.Error, or ForeignFileError when the file is a map of somebody's or the cache of another source.
    """
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if "metadata" in found or "tiles" in found:
        # Of a file whose very first write was cut short, SQLite shows nothing at all: tables come in one transaction.
        rows = dict(connection.execute("SELECT name, value FROM metadata")) if "metadata" in found else {}
        if MARK not in rows:
            raise ForeignFileError(
                f"{path} is a map and not a tile cache of this package, and maps are never written to; give another"
                " file as map_cache or --out."
            )
        if source and rows[MARK] and rows[MARK] != source:
            raise ForeignFileError(
                f"Tile cache {path} holds tiles of {rows[MARK]}, not of {source}; give another file as map_cache"
                " or --out, or delete this one."
            )
    elif found:
        raise ForeignFileError(f"{path} is an SQLite file of another kind; give another file as map_cache or --out.")
    connection.execute("PRAGMA journal_mode=WAL")
    use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in SCHEMA.split(";"):
            if statement.strip():
                connection.execute(statement)
        rows = {"type": "baselayer", "version": "1", "format": "png", **metadata, MARK: source}
        for name, value in rows.items():
            # The format becomes known with the first tile; what is known is not put back.
            keep = "DO NOTHING" if name == "format" else "DO UPDATE SET value = excluded.value"
            connection.execute(
                f"INSERT INTO metadata (name, value) VALUES (?, ?) ON CONFLICT (name) {keep}", (name, value)
            )
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def use_wal(connection: sqlite3.Connection) -> None:
    """NORMAL: after a power loss the file is whole, without the tiles of about the last second."""
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=500")
    connection.execute(f"PRAGMA journal_size_limit={4 << 20}")


def stand_alone(path: Path) -> None:
    """Fold what lies beside a closed file into it, so that it can be copied and read from a read-only disk.

    Does nothing while another process uses the file; opening it as a cache again brings the files beside it back.
    """
    if not path.is_file():
        return
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        exclusive(path),
        contextlib.closing(connect(path, READ_WAIT_S)) as connection,
    ):
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        path.with_name(path.name + ".lock").unlink(missing_ok=True)


def roll_back(connection: sqlite3.Connection) -> None:
    """End a failed transaction; SQLite may have done so itself."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file under that name now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def set_aside(path: Path) -> Path:
    """Rename the file and what belongs to it; the caller holds `exclusive`. Returns the new name."""
    stem = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
    names = (path.with_name(f"{stem}-{number}" if number else stem) for number in range(1000))
    aside = next(name for name in names if not name.exists())
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            part.rename(aside.with_name(aside.name + suffix))
    return aside
