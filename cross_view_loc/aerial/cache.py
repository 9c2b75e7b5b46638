"""Tiles on disk: an MBTiles file that every GIS program opens, with when each tile was fetched and until when it holds.

Several processes may share the file. A process killed at any moment loses at most the tile it was writing; a full disk
is said once and reading goes on; a broken file is set aside under another name and begun anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cross_view_loc.aerial import cache_file, cache_rows
from cross_view_loc.aerial.cache_file import is_busy, is_corrupt, is_full
from cross_view_loc.aerial.cache_rows import CachedTile, Place, place_of
from cross_view_loc.aerial.tiles import TileKey

__all__ = ["CachedTile", "TileCache"]

_FLUSH_EVERY_S = 30.0
_REMEMBERED_USES = 20_000


class TileCache:
    """Tiles of one source in the file `path`, at most about `limit_mb` (10⁶ bytes) of them. Safe between threads.

    `source` names what the tiles are of (one file never mixes two sources); `metadata` goes into the MBTiles metadata
    (name, attribution, bounds "west,south,east,north", …) and must hold no secret. Only a file that is somebody's map
    or another source's cache raises (ForeignFileError); whatever else is wrong becomes a sentence in `problems`, and
    tiles that can be neither read nor kept are simply absent.
    """

    def __init__(
        self,
        path: str | Path,
        limit_mb: float = 2000.0,
        *,
        source: str = "",
        metadata: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path).expanduser()
        self.limit_mb = limit_mb
        self.problem_count = 0
        self._source, self._metadata, self._now = source, dict(metadata or {}), now
        # Readers wait neither for a writer nor for the processes it waits for.
        self._lock, self._read_lock, self._use_lock = threading.RLock(), threading.RLock(), threading.Lock()
        self._problems: dict[str, str] = {}
        self._used: dict[Place, float] = {}
        """When tiles were read, not yet written down: reading must not write."""
        self._flushed_s = now()
        self._zooms: set[int] = set()
        self._closed = False
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._open()

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing wrong with the file so far."""
        return tuple(self._problems.values())

    @property
    def is_writable(self) -> bool:
        """Whether tiles can be kept; False for a read-only file or folder, and while the disk is full."""
        return self._writer is not None and "full" not in self._problems

    @property
    def size_bytes(self) -> int:
        """Bytes of the file in use (pages freed by eviction are used again and do not count)."""
        with self._read_lock:
            return cache_rows.used_bytes(self._reader) if self._reader is not None else 0

    def get(self, key: TileKey) -> CachedTile | None:
        """The tile, or that the source has none; None when nothing is known. Fresh or not is the caller's question."""
        place = place_of(key)
        try:
            with self._read_lock:
                found = cache_rows.select(self._reader, place) if self._reader is not None else None
        except sqlite3.Error as error:
            self._fault(error, "read from")
            return None
        except cache_rows.DamagedTileError:
            self._report("damaged", f"Tile {key} in {self.path} was damaged on the disk; it is fetched again.")
            return None
        if found is not None:
            with self._use_lock:
                self._used.pop(place, None)
                self._used[place] = self._now()
                if len(self._used) > _REMEMBERED_USES:  # a long drive that only reads
                    del self._used[next(iter(self._used))]
        return found

    def put(self, key: TileKey, data: bytes, *, expires_s: float, etag: str = "", last_modified: str = "") -> bool:
        """Keep a tile just fetched; False when it could not be (`problems` says why)."""
        return self._store(key, CachedTile(data, self._now(), expires_s, etag, last_modified, self._source))

    def put_missing(self, key: TileKey, reason: str, expires_s: float) -> bool:
        """Keep that the source has no such tile, and why one thinks so, until `expires_s`."""
        return self._store(key, CachedTile(None, self._now(), expires_s, "", "", self._source, reason or "missing"))

    def refresh(self, key: TileKey, expires_s: float) -> bool:
        """The source said that the tile has not changed: it holds until `expires_s`."""
        return self._write(lambda writer: cache_rows.refresh(writer, place_of(key), self._now(), expires_s))

    def forget(self, key: TileKey) -> bool:
        """Drop what is known of a tile."""
        return self._write(lambda writer: cache_rows.delete(writer, place_of(key)))

    def keys(self) -> list[TileKey]:
        """Every tile that is there, by zoom, column and row. Looks at all of them: not for the control loop."""
        try:
            with contextlib.closing(cache_file.connect(self.path, cache_file.WRITE_WAIT_S, read_only=True)) as reader:
                return cache_rows.all_keys(reader)
        except sqlite3.Error as error:
            self._fault(error, "read from")
            return []

    def close(self) -> None:
        """Write down what was used last and close the file; afterwards nothing is found and nothing kept."""
        with self._lock:
            self._write(self._note_use)
            self._closed = True
            self._disconnect()

    # --- writing ---

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> bool:
        """One transaction, wholly or not at all."""
        with self._lock:
            if self._writer is not None and cache_file.identity(self.path) != self._identity:
                self._open()  # another process set the file aside, or somebody deleted it
            writer = self._writer
            if writer is None:
                return False
            try:
                writer.execute("BEGIN IMMEDIATE")
                change(writer)
                if self._now() - self._flushed_s > _FLUSH_EVERY_S:
                    self._note_use(writer)
                writer.execute("COMMIT")
            except sqlite3.Error as error:
                cache_file.roll_back(writer)
                self._zooms.clear()  # what was noted in the transaction is not
                self._fault(error, "written to")
                return False
            self._problems.pop("full", None)
            return True

    def _store(self, key: TileKey, tile: CachedTile) -> bool:
        place = place_of(key)

        def change(writer: sqlite3.Connection) -> None:
            cache_rows.store(writer, place, tile)
            with self._use_lock:
                self._used.pop(place, None)
            if tile.data is not None and key.zoom not in self._zooms:
                cache_rows.note_zooms(writer, tile.data)
                self._zooms.add(key.zoom)
            if cache_rows.used_bytes(writer) > self.limit_mb * 1e6:
                self._note_use(writer)
                cache_rows.evict(writer, self.limit_mb * 1e6, spared=place)

        return self._write(change)

    def _note_use(self, writer: sqlite3.Connection) -> None:
        with self._use_lock:
            used, self._used = self._used, {}
        cache_rows.note_use(writer, used)
        self._flushed_s = self._now()

    # --- opening, and what goes wrong ---

    def _open(self) -> None:
        """Open or make the file; set a broken one aside first. Whatever fails leaves a cache that holds nothing."""
        with self._lock, self._read_lock:
            self._disconnect()
            if self._closed:
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with cache_file.exclusive(self.path):
                    try:
                        self._connect()
                    except sqlite3.DatabaseError as error:
                        if not is_corrupt(error):
                            raise
                        self._disconnect()
                        self._say_set_aside(cache_file.set_aside(self.path), error)
                        self._connect()
            except (sqlite3.Error, OSError) as error:
                self._disconnect()
                self._open_read_only(error)

    def _connect(self) -> None:
        self._writer = cache_file.connect(self.path, cache_file.WRITE_WAIT_S)
        cache_file.prepare(self._writer, self.path, self._metadata, self._source)
        self._reader = cache_file.connect(self.path, cache_file.READ_WAIT_S)
        self._reader.execute("SELECT 1 FROM cache LIMIT 1").fetchone()
        self._identity = cache_file.identity(self.path)
        self._zooms.clear()

    def _open_read_only(self, reason: Exception) -> None:
        """Without room or permission to write, what the file holds already can still be read."""
        try:
            self._reader = cache_file.connect(self.path, cache_file.READ_WAIT_S, read_only=True)
            self._reader.execute("SELECT 1 FROM cache LIMIT 1").fetchone()
            consequence = "its tiles are read, new ones are not kept"
        except sqlite3.Error:
            self._disconnect()
            consequence = "no tile is kept"
        remedy = "free some space" if "full" in str(reason) else "make it writable, or give another map_cache"
        self._report("open", f"Tile cache {self.path} cannot be written to ({reason}): {consequence}; {remedy}.")

    def _disconnect(self) -> None:
        with self._lock, self._read_lock:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _fault(self, error: sqlite3.Error, done: str) -> None:
        if is_corrupt(error):
            self._rebuild(error)
        elif is_full(error):
            self._report(
                "full",
                f"Tile cache {self.path} is on a full disk: new tiles are not kept, those it has are read; free some"
                " space or give another map_cache.",
            )
        elif not is_busy(error):
            self._report(done, f"Tile cache {self.path} cannot be {done} ({error}); check the disk it is on.")

    def _rebuild(self, error: sqlite3.Error) -> None:
        """Set the file aside unless another process has done so already, and begin anew."""
        with self._lock, self._read_lock:
            if self._closed:
                return
            broken = self._identity
            self._disconnect()  # before renaming: SQLite deletes its side files by their name
            try:
                with cache_file.exclusive(self.path):
                    if broken is not None and cache_file.identity(self.path) == broken:
                        self._say_set_aside(cache_file.set_aside(self.path), error)
            except OSError as failure:
                self._report("aside", f"Tile cache {self.path} is broken and cannot be renamed ({failure}); delete it.")
                return
            self._open()

    def _say_set_aside(self, aside: Path, error: sqlite3.Error) -> None:
        self._report(
            "corrupt",
            f"Tile cache {self.path} was broken ({error}): it is now {aside.name}, and a new one is begun; delete the"
            " old one once nobody wants to look at it.",
        )

    def _report(self, kind: str, sentence: str) -> None:
        """A kind of problem is said once, with its latest sentence."""
        self.problem_count += 1
        self._problems[kind] = sentence
