"""How a tile server is treated: how fast, when again after a failure, how long a tile holds, what must not be shown."""

from __future__ import annotations

import email.utils
import hashlib
import logging
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, quote_plus

from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.aerial.urls import redacted

REFUSALS = {401: "unauthorized", 402: "payment required", 403: "forbidden", 407: "proxy", 451: "legal reasons"}
"""HTTP statuses after which a server is not asked any more."""
_LONGEST_RETRY_AFTER_S = 86400.0
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy")


class BackOff:
    """When a server that fails may be asked again: twice as long after each failure, with jitter, up to `longest_s`.

    The server's own Retry-After counts where it is longer. Safe between threads.
    """

    def __init__(
        self,
        first_s: float = 1.0,
        longest_s: float = 120.0,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.first_s, self.longest_s = first_s, longest_s
        self.failures = 0
        """Pauses in a row, without a success between them."""
        self.reason = ""
        self._random, self._clock, self._until_s, self._lock = random.Random(seed), clock, -1e300, threading.Lock()

    @property
    def remaining_s(self) -> float:
        """Seconds until the server may be asked; 0 when it may be now."""
        return max(0.0, self._until_s - self._clock())

    def fail(self, reason: str, retry_after_s: float = 0.0) -> float:
        """Note a failure; returns the seconds to wait. Failures of requests under way together count once."""
        with self._lock:
            if self.remaining_s == 0.0:
                self.failures += 1
            wait_s = min(self.longest_s, self.first_s * 2.0 ** min(self.failures - 1, 30))
            # Vehicles that lost a server together must not come back together, nor before they were told to.
            wait_s = max(wait_s * self._random.uniform(0.5, 1.0), retry_after_s * self._random.uniform(1.0, 1.1))
            self._until_s = max(self._until_s, self._clock() + wait_s)
            self.reason = reason
            return self._until_s - self._clock()

    def succeed(self) -> None:
        """The server works (again)."""
        with self._lock:
            self.failures = 0


class RateLimit:
    """Lets through at most `rate_per_s` calls per second, evenly, whoever calls."""

    def __init__(self, rate_per_s: float) -> None:
        self._interval_s, self._next_s, self._lock = 1.0 / rate_per_s, 0.0, threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Wait for this caller's turn; False when `stop` was set meanwhile."""
        with self._lock:
            turn_s = max(time.monotonic(), self._next_s)
            self._next_s = turn_s + self._interval_s
        return not stop.wait(max(0.0, turn_s - time.monotonic()))


class PlaceholderDetector:
    """Finds pictures that a server gives for everything ("no imagery", "blocked"): the same bytes for many tiles."""

    def __init__(self, tiles: int = 8, remembered: int = 4096) -> None:
        self._tiles, self._remembered, self._lock = tiles, remembered, threading.Lock()
        self._seen: OrderedDict[bytes, list[TileKey]] = OrderedDict()

    def others(self, key: TileKey, data: bytes) -> tuple[TileKey, ...]:
        """The other tiles with just these bytes when they are too many for imagery, else nothing."""
        digest = hashlib.blake2b(data, digest_size=16).digest()
        with self._lock:
            keys = self._seen.setdefault(digest, [])
            self._seen.move_to_end(digest)
            if len(self._seen) > self._remembered:
                self._seen.popitem(last=False)
            if key not in keys and len(keys) < self._tiles:
                keys.append(key)
            return tuple(other for other in keys if other != key) if len(keys) >= self._tiles else ()


class Secrets(logging.Filter):
    """Takes API keys out of texts, and out of what the HTTP library logs while `guard` is on."""

    def __init__(self, values: Iterable[str]) -> None:
        super().__init__()
        spellings = {each for value in values if value for each in (value, quote(value, safe=""), quote_plus(value))}
        self._spellings = sorted(spellings, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text with *** for every secret."""
        for spelling in self._spellings:
            text = text.replace(spelling, "***")
        return redacted(text)

    def filter(self, record: logging.LogRecord) -> bool:
        """For `logging`: the record without secrets."""
        record.msg, record.args = self.hide(record.getMessage()), ()
        return True

    def guard(self, on: bool = True) -> None:
        """Begin or end to watch the HTTP library's loggers."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            (logger.addFilter if on else logger.removeFilter)(self)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float:
    """Seconds that Retry-After asks for (a number or a date), at most a day; 0 without one."""
    text = headers.get("retry-after", "").strip()
    seconds = float(text) if re.fullmatch(r"\d{1,9}", text) else _date_s(text) - now_s
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def lifetime_s(headers: Mapping[str, str], now_s: float) -> float:
    """Seconds for which the server says that its answer holds: Cache-Control max-age, else Expires, else 0."""
    found = re.search(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})", headers.get("cache-control", ""), re.IGNORECASE)
    if found:
        age = headers.get("age", "")
        return max(0.0, float(found[1]) - (float(age) if re.fullmatch(r"\d{1,10}", age) else 0.0))
    expires_s = _date_s(headers.get("expires", ""))
    # By the server's own clock where it tells it; ours may be years off on a vehicle that has just started.
    return max(0.0, expires_s - (_date_s(headers.get("date", "")) or now_s)) if expires_s else 0.0


def _date_s(text: str) -> float:
    """Unix seconds of an HTTP date; 0 when it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
