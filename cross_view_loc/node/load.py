"""Puts a running node under a steady load over DDS, and watches what the process takes of the machine."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy


@dataclass(frozen=True)
class LoadMessage:
    """One message of the load; its header's stamp is set when it is sent."""

    at_s: float
    """Since the beginning."""
    topic: str
    data: bytes
    """CDR with the header first; of a static transform, as it is."""


class LoadPublisher:
    """Publishers of serialized messages, images best-effort as drivers send them; use it in a `with` statement."""

    def __init__(self, types: dict[str, str], image_topics: Iterable[str]) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("cross_view_loc_load", context=self._context)
        self._images = frozenset(image_topics)
        self._publishers = {topic: self._publisher(topic, name) for topic, name in types.items()}
        self.sent = 0
        """Images."""

    def __enter__(self) -> LoadPublisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def play(self, messages: Iterable[LoadMessage]) -> None:
        """Send each at its time, stamped with the moment it is sent; those of one time share the stamp."""
        began, last_at, stamp = time.monotonic(), -1.0, 0
        for message in messages:
            time.sleep(max(0.0, began + message.at_s - time.monotonic()))
            if message.at_s != last_at:
                last_at, stamp = message.at_s, time.time_ns()
            is_static = message.topic.endswith("tf_static")
            self._publishers[message.topic].publish(message.data if is_static else stamped(message.data, stamp))
            self.sent += message.topic in self._images

    def _publisher(self, topic: str, type_name: str) -> Any:
        package, _, name = type_name.split("/")
        static, image = topic.endswith("tf_static"), topic in self._images
        qos = QoSProfile(
            depth=1 if static or image else 50,
            reliability=ReliabilityPolicy.BEST_EFFORT if image else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE,
        )
        return self.node.create_publisher(getattr(importlib.import_module(f"{package}.msg"), name), topic, qos)


def stamped(data: bytes, stamp_ns: int) -> bytes:
    """A serialized message whose header, its first field, has this stamp; little-endian CDR as `rosbags` writes it."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return data[:4] + seconds.to_bytes(4, "little", signed=True) + nanoseconds.to_bytes(4, "little") + data[12:]


@dataclass
class ProcessWatch:
    """Samples processor time and resident memory of a process once a second, from /proc; use it in a `with`."""

    pid: int
    samples: list[tuple[float, float, float]] = field(default_factory=list)
    """Time (s), processor seconds used so far, resident memory (MB)."""

    def __enter__(self) -> ProcessWatch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu_percent(self) -> float:
        """Of one core, over the whole time; NaN before two samples."""
        if len(self.samples) < 2:
            return float("nan")
        first, last = self.samples[0], self.samples[-1]
        return 100.0 * (last[1] - first[1]) / (last[0] - first[0])

    @property
    def rss_mb(self) -> float:
        """The last sample."""
        return self.samples[-1][2] if self.samples else float("nan")

    @property
    def rss_slope_mb_per_min(self) -> float:
        """Line through the second half of the samples, when caches are full; NaN before a minute of them."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 30:
            return float("nan")
        times, _, memory = np.array(half).T
        return float(np.polyfit(times - times[0], memory, 1)[0] * 60.0)

    def _run(self) -> None:
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(1.0):
            try:
                with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
                    # The second field is the command in brackets, which may hold spaces.
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                return
            used_s = (int(fields[11]) + int(fields[12])) / tick
            self.samples.append((time.monotonic(), used_s, int(fields[21]) * page / 1e6))
