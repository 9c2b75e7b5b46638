"""Background threads that work through wanted tiles, the most urgent first and among equals the latest wanted."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable

from cross_view_loc.aerial.tiles import TileKey

_LONGEST_QUEUE = 4000

Rank = tuple[int, int, int]
"""Priority, minus the call's number, place in the call: smaller is sooner."""


class FetchQueue:
    """`work(key)` for every key added, in `threads` daemon threads that start with the first key.

    While `pause_s()` is above zero the threads rest for so long; at inf what is queued is dropped. An exception of
    `work` ends nothing: the key is done. Beyond 4000 keys the least urgent are dropped: the vehicle has moved on.
    """

    def __init__(
        self, work: Callable[[TileKey], None], pause_s: Callable[[], float], threads: int, name: str = "tiles"
    ) -> None:
        self._work, self._pause_s, self._count, self._name = work, pause_s, threads, name
        self._condition = threading.Condition()
        self._ranks: dict[TileKey, Rank] = {}
        self._heap: list[tuple[Rank, TileKey]] = []
        self._under_way: set[TileKey] = set()
        self._calls = itertools.count()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __contains__(self, key: TileKey) -> bool:
        """Whether a key is queued or being worked on."""
        return key in self._ranks or key in self._under_way

    def __len__(self) -> int:
        """Keys queued or being worked on."""
        return len(self._ranks) + len(self._under_way)

    def add(self, keys: Iterable[TileKey], priority: int) -> None:
        """Queue keys; those queued already move up to their new rank if it is better."""
        with self._condition:
            if self._closed or math.isinf(self._pause_s()):
                return
            call = -next(self._calls)
            for place, key in enumerate(keys):
                rank = (priority, call, place)
                if key not in self._under_way and rank < self._ranks.get(key, (math.inf,)):
                    self._ranks[key] = rank
                    heapq.heappush(self._heap, (rank, key))
            if len(self._ranks) > _LONGEST_QUEUE or len(self._heap) > 4 * _LONGEST_QUEUE:
                self._heap = heapq.nsmallest(_LONGEST_QUEUE, ((rank, key) for key, rank in self._ranks.items()))
                self._ranks = {key: rank for rank, key in self._heap}
            if self._ranks and not self._threads:
                for number in range(self._count):
                    thread = threading.Thread(target=self._run, name=f"{self._name} {number}", daemon=True)
                    self._threads.append(thread)
                    thread.start()
            self._condition.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or under way; False when that takes longer."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._ranks and not self._under_way, timeout_s)

    def close(self) -> None:
        """Drop what is queued and let the threads end."""
        with self._condition:
            self._closed = True
            self._ranks.clear()
            self._heap.clear()
            self._condition.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end, altogether at most so long; False when one still works."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (key := self._take()) is not None:
            try:
                with contextlib.suppress(Exception):
                    self._work(key)
            finally:
                with self._condition:
                    self._under_way.discard(key)
                    self._condition.notify_all()

    def _take(self) -> TileKey | None:
        """The most urgent key, once there is one and the server may be asked; None at the end."""
        with self._condition:
            while not self._closed:
                pause_s = self._pause_s()
                if math.isinf(pause_s):
                    self._ranks.clear()
                    self._heap.clear()
                    self._condition.notify_all()
                if not self._heap:
                    self._condition.wait()
                elif pause_s > 0.0:
                    self._condition.wait(pause_s)
                else:
                    rank, key = heapq.heappop(self._heap)
                    if self._ranks.get(key) == rank:
                        del self._ranks[key]
                        self._under_way.add(key)
                        return key
            return None
