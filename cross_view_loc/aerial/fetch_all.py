"""Fetching many tiles and waiting for them: in parallel within the source's limits, and resumable, as the cache is."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import InputError

if TYPE_CHECKING:
    from cross_view_loc.aerial.online import OnlineStore

ATTEMPTS = 5
"""Per tile, of those in which the server was asked."""
GIVE_UP_AFTER = 8
"""Failures of the server in a row, with growing pauses between them: about four minutes."""
GIVE_UP_AT_FIRST = 3
"""Likewise of a server that has given nothing yet: more often a wrong address than a bad moment."""
LONGEST_PAUSE_S = 600.0

Outcome = Literal["held", "fetched", "missing", "failed"]


@dataclass(frozen=True)
class FetchReport:
    """How far fetching has come; counts are of tiles."""

    total: int
    held: int = 0
    """In the cache and fresh already."""
    fetched: int = 0
    """Fetched, or found unchanged."""
    missing: int = 0
    """The source has none."""
    failed: int = 0
    bytes: int = 0
    """Of the tiles fetched."""
    stopped: str = ""
    """Why it ended before all were tried: one sentence with the remedy; empty when it did not."""
    problems: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """Tiles tried."""
        return self.held + self.fetched + self.missing + self.failed


def fetch_all(
    store: OnlineStore, keys: Collection[TileKey], on_progress: Callable[[FetchReport], None] | None = None
) -> FetchReport:
    """Bring every tile into the store's cache; `on_progress` is called after each, in the calling thread.

    Ends early, and says why, when the server refuses, keeps failing or asks for a long pause, and when the disk is
    full. Interrupted (also by an exception of `on_progress`), it keeps what was fetched. Raises InputError offline.
    """
    if store.client is None:
        raise InputError(f"{store.name} is offline, so nothing can be fetched; set map_offline to false.")
    report = FetchReport(len(keys))
    run = _Run(store, iter(keys))
    threads = [threading.Thread(target=run.work, daemon=True) for _ in range(min(store.spec.connections, len(keys)))]
    for thread in threads:
        thread.start()
    try:
        ended = 0
        while ended < len(threads):
            result = run.results.get()
            if result is None:
                ended += 1
                continue
            outcome, size_bytes = result
            counts = {outcome: getattr(report, outcome) + 1, "bytes": report.bytes + size_bytes}
            report = dataclasses.replace(report, **counts)
            if on_progress is not None:
                on_progress(report)
    finally:
        run.stop.set()
    return dataclasses.replace(report, stopped=run.stopped, problems=store.problems)


class _Run:
    """The threads' common state. Results are an outcome and bytes for each tile; None when a thread ends."""

    def __init__(self, store: OnlineStore, keys: Iterator[TileKey]) -> None:
        self.store, self.keys = store, keys
        self.results: queue.Queue[tuple[Outcome, int] | None] = queue.Queue()
        self.stop, self.stopped, self._lock = threading.Event(), "", threading.Lock()

    def work(self) -> None:
        try:
            while not self.stop.is_set():
                with self._lock:
                    key = next(self.keys, None)
                if key is None:
                    return
                result = self._one(key)
                if result is not None:
                    self.results.put(result)
        finally:
            self.results.put(None)

    def _one(self, key: TileKey) -> tuple[Outcome, int] | None:
        """A tile's result; None when everything stops before there is one."""
        asked = 0
        while not self.stop.is_set():
            known, answer = self.store.obtain(key)
            if answer is None:
                return ("held" if known is not None and known.data is not None else "missing"), 0
            if answer.status == "refused":
                self._end(answer.reason)
                return None
            if answer.status != "failed":
                if not self.store.cache.is_writable and not self.store.waits:
                    self._end(next(iter(self.store.cache.problems), "The tile cache is closed."))
                    return None
                return ("missing" if answer.status == "missing" else "fetched"), len(answer.data or b"")
            asked += answer.was_asked
            pause_s = self.store.back_off.remaining_s
            patience = GIVE_UP_AFTER if self.store.has_answered else GIVE_UP_AT_FIRST
            if pause_s > LONGEST_PAUSE_S or self.store.back_off.failures >= patience:
                self._end(f"{answer.reason.rstrip('.')}; run it again later, it goes on where it stopped.")
                return None
            if (pause_s == 0.0 and answer.was_asked) or asked >= ATTEMPTS:
                return "failed", 0
            self.stop.wait(pause_s)
        return None

    def _end(self, reason: str) -> None:
        with self._lock:
            self.stopped = self.stopped or reason
        self.stop.set()
