"""Warnings that do not flood the log."""

from __future__ import annotations

import time
from collections.abc import Callable

LOG_EVERY_S = 10.0


class Complaints:
    """Logs at once the first time, then at most every `LOG_EVERY_S` for this kind of problem."""

    def __init__(self, warn: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is a monotonic clock in seconds."""
        self._warn, self._clock = warn, clock
        self._logged: dict[str, float] = {}

    def __call__(self, kind: str, text: str, number: int) -> None:
        """`number` is how often it has happened so far."""
        now = self._clock()
        if now - self._logged.get(kind, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[kind] = now
            self._warn(f"{text} ({number} so far)")
