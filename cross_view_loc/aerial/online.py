"""A tile server as a TileStore: reading looks into memory and the cache on disk; the network is background threads'."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from cross_view_loc.aerial.cache import CachedTile, TileCache
from cross_view_loc.aerial.fetch_all import FetchReport, fetch_all
from cross_view_loc.aerial.fetch_queue import FetchQueue
from cross_view_loc.aerial.http import BROKEN_TILE_AGAIN_S, TileAnswer, TileClient
from cross_view_loc.aerial.http_policy import BackOff
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey

READ_PRIORITY, WANT_PRIORITY, REFRESH_PRIORITY = 0, 1, 2
"""Tiles that an image needs now, those that soon will be needed, and those that may have changed."""
_ASK_AGAIN_S = 86400.0
_REMEMBERED = 20_000
"""Tiles that are absent, and tiles that changed: about a day's drive of each."""
_CLOSE_WAIT_S = 2.0


class FetchesTiles(Protocol):
    """What a store needs of a client; one with a `back_off` (TileClient) is left alone while that says so."""

    refusal: str

    def fetch(self, key: TileKey, etag: str = "", last_modified: str = "") -> TileAnswer: ...

    def close(self) -> None: ...


class OnlineStore:
    """The tiles of `spec`'s server; see TileStore. Safe between threads; takes over `cache` and `client`.

    `read` never waits for the network: what is neither in memory nor in `cache` is None now, and is fetched by
    background threads for the next time. `waits` is for programs that have time and want the same result each time:
    reading then waits for the tile. `offline` never touches the network, whatever else is asked.
    """

    def __init__(
        self,
        spec: SourceSpec,
        cache: TileCache,
        client: FetchesTiles | None = None,
        offline: bool = False,
        *,
        waits: bool = False,
        memory_mb: float = 64.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.spec, self.cache, self.offline, self.waits = spec, cache, offline, waits
        self.client: FetchesTiles | None = None if offline else client or TileClient(spec)
        self.back_off: BackOff = getattr(self.client, "back_off", None) or BackOff()
        self.problem_count = 0
        self.arrivals = 0
        """Tiles fetched so far: whoever keeps what was computed from a lower zoom may look whether this grew."""
        self.changes = 0
        """Tiles given out before that were withdrawn or replaced since: what was computed from them is old."""
        self._memory: OrderedDict[TileKey, bytes] = OrderedDict()
        self._memory_bytes, self._memory_limit = 0, memory_mb * 1e6
        self._absent: OrderedDict[TileKey, float] = OrderedDict()
        """Unix time before which a tile need not be looked for: the source has none, or it failed."""
        self.has_answered = False
        """Whether the server has given a tile yet, or said that it has none."""
        self._changed: OrderedDict[TileKey, int] = OrderedDict()
        self._sentences: dict[str, str] = {}
        self._now, self._lock = now, threading.Lock()
        threads = spec.connections if self.client is not None else 1
        self._queue = FetchQueue(self._obtain, self._pause_s, threads, f"tiles of {spec.name}")

    # --- TileStore ---

    @property
    def name(self) -> str:
        """As the source's YAML calls it."""
        return self.spec.name

    @property
    def attribution(self) -> str:
        """Whom to credit."""
        return self.spec.attribution

    @property
    def zooms(self) -> tuple[int, ...]:
        """The zooms that the source's YAML names."""
        return tuple(range(self.spec.zoom_min, self.spec.zoom_max + 1))

    @property
    def tile_size_px(self) -> int:
        """Side of a tile."""
        return self.spec.tile_size_px

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees."""
        return self.spec.bounds

    @property
    def problems(self) -> tuple[str, ...]:
        """The latest sentence of each kind of problem, the latest kind last; gone again when it is over."""
        with self._lock:
            return self.cache.problems + tuple(self._sentences.values())

    def read(self, key: TileKey) -> bytes | None:
        """The encoded picture, or None when it is not here now (it is then on its way, unless there is none)."""
        if not (key.exists and self.spec.zoom_min <= key.zoom <= self.spec.zoom_max):
            return None
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
            if self._absent.get(key, 0.0) > self._now():
                return None
        if self.waits and self.client is not None:
            self.fetch_all([key])
            with self._lock:
                return self._memory.get(key)
        if key in self._queue:
            return None
        known = self.cache.get(key)
        if known is None or not known.is_fresh(self._now()):
            if self.client is not None:
                self._queue.add([key], READ_PRIORITY if known is None else REFRESH_PRIORITY)
            elif known is None:
                self._report("offline", self._offline_sentence(key))
        if known is not None:
            self._remember(key, known)
        return known.data if known is not None else None

    def revision_of(self, key: TileKey) -> int:
        """Another number once a tile that was given out is withdrawn (a placeholder) or replaced by a newer one."""
        with self._lock:
            return self._changed.get(key, 0)

    @property
    def held(self) -> dict[str, int]:
        """What is in memory: tiles and their bytes, tiles known to be absent or changed, tiles queued."""
        with self._lock:
            counts = {"tiles": len(self._memory), "bytes": self._memory_bytes}
            return counts | {"absent": len(self._absent), "changed": len(self._changed), "queued": len(self._queue)}

    # --- ahead of need ---

    def want(self, keys: Iterable[TileKey], priority: int = WANT_PRIORITY) -> None:
        """Bring tiles into memory in the background, the first ones first; a later call goes before earlier ones."""
        now_s = self._now()
        with self._lock:
            new = [key for key in keys if key not in self._memory and self._absent.get(key, 0.0) <= now_s]
        self._queue.add([key for key in new if key.exists and key.zoom in self.zooms], priority)

    def fetch_all(
        self, keys: Collection[TileKey], on_progress: Callable[[FetchReport], None] | None = None
    ) -> FetchReport:
        """Bring tiles into the cache and wait for it; what is there and fresh is not asked for. See `fetch_all`."""
        return fetch_all(self, keys, on_progress)

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything wanted so far has been tried; False when that takes longer."""
        return self._queue.drain(timeout_s)

    def close(self) -> None:
        """End the threads, drop connections, close the cache. A request under way may end a little later, unheard."""
        self._queue.close()
        if self.client is not None:
            self.client.close()
        self._queue.join(_CLOSE_WAIT_S)
        self.cache.close()

    # --- background ---

    def obtain(self, key: TileKey) -> tuple[CachedTile | None, TileAnswer | None]:
        """What the cache has when that is fresh, else the server's answer, kept already. Waits for the network."""
        known = self.cache.get(key)
        if known is not None and (known.is_fresh(self._now()) or self.client is None):
            self._remember(key, known)
            return known, None
        if self.client is None:
            return None, None
        has_data = known is not None and known.data is not None
        answer = (
            self.client.fetch(key, known.etag, known.last_modified) if known and has_data else self.client.fetch(key)
        )
        self._keep(key, known if has_data else None, answer)
        return known, answer

    def _obtain(self, key: TileKey) -> None:
        try:
            self.obtain(key)
        except Exception as error:
            # A defect, whose text may hold an address; the localizer goes on without the tile.
            sentence = f"{self.name}, tile {key}: internal error {type(error).__name__}; please report it."
            self._report("internal", sentence)
            self._note_absent(key, self._now() + BROKEN_TILE_AGAIN_S)

    def _pause_s(self) -> float:
        """How long the threads shall leave the server alone; inf for good."""
        if self.client is None:
            return 0.0
        return float("inf") if self.client.refusal else self.back_off.remaining_s

    def _keep(self, key: TileKey, known: CachedTile | None, answer: TileAnswer) -> None:
        """Put an answer into memory and cache; an old picture outlives every answer that is none."""
        now_s = self._now()
        self.has_answered |= answer.status in ("ok", "not_modified", "missing")
        if answer.reason and answer.was_asked:
            kind = answer.status if answer.http_status is None else f"{answer.status} {answer.http_status}"
            self._report(kind, answer.reason)
        for other in answer.same_as:
            self._forget(other)
            self.cache.put_missing(other, answer.reason, answer.expires_s)
            self._note_absent(other, answer.expires_s)
            self._note_change(other)
        if answer.status == "ok" and answer.data is not None:
            self._settle()
            options = {"etag": answer.etag, "last_modified": answer.last_modified}
            self.cache.put(key, answer.data, expires_s=answer.expires_s, **options)
            self._remember(key, CachedTile(answer.data, now_s, answer.expires_s))
            self.arrivals += 1
            if known is not None and known.data != answer.data:
                self._note_change(key)
        elif known is not None:
            until_s = {"not_modified": answer.expires_s, "missing": now_s + _ASK_AGAIN_S}.get(answer.status)
            if until_s is not None:
                self.cache.refresh(key, until_s)
            self._remember(key, known)
        elif answer.status == "missing":
            self.cache.put_missing(key, answer.reason, answer.expires_s)
            self._note_absent(key, answer.expires_s)
        elif answer.was_asked:
            self._note_absent(key, now_s + answer.retry_after_s)

    def _remember(self, key: TileKey, tile: CachedTile) -> None:
        if tile.data is None:
            self._note_absent(key, tile.expires_s)
            return
        self._forget(key)
        with self._lock:
            self._absent.pop(key, None)
            self._memory[key] = tile.data
            self._memory_bytes += len(tile.data)
            while self._memory_bytes > self._memory_limit and len(self._memory) > 1:
                self._memory_bytes -= len(self._memory.popitem(last=False)[1])

    def _forget(self, key: TileKey) -> None:
        with self._lock:
            self._memory_bytes -= len(self._memory.pop(key, b""))

    def _note_absent(self, key: TileKey, until_s: float) -> None:
        with self._lock:
            self._absent[key] = until_s
            while len(self._absent) > _REMEMBERED:
                self._absent.popitem(last=False)

    def _note_change(self, key: TileKey) -> None:
        with self._lock:
            self.changes += 1
            self._changed[key] = self.changes
            while len(self._changed) > _REMEMBERED:
                self._changed.popitem(last=False)

    def _report(self, kind: str, sentence: str) -> None:
        with self._lock:
            self.problem_count += 1
            self._sentences.pop(kind, None)
            self._sentences[kind] = sentence

    def _settle(self) -> None:
        """The server gives pictures: what was wrong with it as a whole is over."""
        with self._lock:
            for kind in [kind for kind in self._sentences if re.fullmatch(r"failed( 408| 425| 429| 5\d\d)?", kind)]:
                del self._sentences[kind]

    def _offline_sentence(self, key: TileKey) -> str:
        return (
            f"{self.name}, tile {key}: not in the cache {self.cache.path}, and the network is off; fetch the area with"
            " cross_view_loc prefetch, or set map_offline to false."
        )
