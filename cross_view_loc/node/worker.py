"""One thread that always works on the newest image, off the executor's callbacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestFirstWorker(Generic[T]):
    """A slot for one item and a thread that empties it: an item still waiting is replaced by a newer one.

    `process` gets each item taken and must not raise. Before that the thread waits, at most `wait_s()` from the
    item's arrival, until `ready(item)`; `wake` tells it to look again. `dropped` counts replaced items.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        ready: Callable[[T], bool] = lambda item: True,
        wait_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.dropped = 0
        self._process, self._ready, self._wait_s = process, ready, wait_s
        self._condition = threading.Condition()
        self._slot: tuple[T, float] | None = None
        self._stopping = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="localizer", daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Put the newest item into the slot."""
        with self._condition:
            self.dropped += self._slot is not None
            self._slot = item, time.monotonic()
            self._condition.notify_all()

    def wake(self) -> None:
        """Something `ready` depends on has changed."""
        with self._condition:
            self._condition.notify_all()

    def clear(self) -> None:
        """Forget the waiting item."""
        with self._condition:
            self._slot = None

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing waits or is worked on; False when that took longer."""
        with self._condition:
            return self._condition.wait_for(lambda: self._slot is None and not self._busy, timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """Let the present item finish and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._take()) is not None:
            self._process(item)
            with self._condition:
                self._busy = False
                self._condition.notify_all()

    def _take(self) -> T | None:
        with self._condition:
            self._condition.wait_for(lambda: self._slot is not None or self._stopping)
            if self._stopping or self._slot is None:
                return None
            item, arrived = self._slot
            self._slot, self._busy = None, True
            left_s = arrived + self._wait_s() - time.monotonic()
            self._condition.wait_for(lambda: self._stopping or self._ready(item), max(left_s, 0.0))
            return None if self._stopping else item
