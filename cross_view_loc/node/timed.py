"""The node with a clock on every stage, for `cross_view_loc benchmark node`; what it does is the node's own doing.

    python -m cross_view_loc.node.timed STAGES.json [--stand-in] --ros-args …

The stages are timed from outside, around functions of the running node, so that the node itself carries no clocks.
STAGES.json is written when it ends: how many images came in, and a row of milliseconds for each that was worked on.
`--stand-in` puts a localizer in place of the real one that answers with its prior at once: what is left is overhead.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc.inputs.stamps import stamp_ns
from cross_view_loc.types import Estimate, Frame, Prior

STAGES = ("transport", "waiting", "decode", "patch", "inference", "publish", "other", "total")


class StageClock:
    """Adds up the seconds of each stage of the image in work, and keeps a row for each image that led to a pose."""

    def __init__(self) -> None:
        self.received = 0
        self.rows: list[dict[str, float]] = []
        self._lock = threading.Lock()
        self._arrived_ns: dict[int, int] = {}
        self._current: dict[str, float] | None = None
        self._stamp_ns = self._started_ns = 0

    def arrive(self, stamp: int) -> None:
        """An image has reached the node; of several cameras' images of one stamp the last counts."""
        with self._lock:
            self.received += 1
            self._arrived_ns[stamp] = time.time_ns()
            while len(self._arrived_ns) > 1000:
                self._arrived_ns.pop(next(iter(self._arrived_ns)))

    def begin(self) -> None:
        """The worker takes an image."""
        self._current, self._stamp_ns, self._started_ns = {}, 0, time.time_ns()

    def add(self, stage: str, seconds: float) -> None:
        """Time spent on the image in work."""
        if self._current is not None:
            self._current[stage] = self._current.get(stage, 0.0) + seconds

    def is_of(self, stamp: int) -> None:
        """The image in work is the one of that stamp."""
        self._stamp_ns = stamp

    def left(self) -> None:
        """The pose has been published."""
        row, done_ns = self._current, time.time_ns()
        self._current = None
        with self._lock:
            arrived_ns = self._arrived_ns.pop(self._stamp_ns, None)
        if row is None or arrived_ns is None:
            return
        row["inference"] = row.pop("locate", 0.0) - row.get("patch", 0.0)
        row["transport"] = (arrived_ns - self._stamp_ns) * 1e-9
        row["waiting"] = (self._started_ns - arrived_ns) * 1e-9
        row["total"] = (done_ns - self._stamp_ns) * 1e-9
        row["other"] = row["total"] - sum(row.get(stage, 0.0) for stage in STAGES[:-2])
        self.rows.append({stage: round(1e3 * row.get(stage, 0.0), 4) for stage in STAGES})


class StandIn:
    """Believes every prior at once: what the node costs besides localizing."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        covariance = np.diag([0.04, 0.04, 1e-4])
        return Estimate(frames[0].stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, accepted=True)


def watch(clock: StageClock) -> None:
    """Put the clock around the node's stages; for this process only."""
    from cross_view_loc.aerial.map import AerialMap
    from cross_view_loc.inputs import camera_input
    from cross_view_loc.node.outputs import Outputs
    from cross_view_loc.node.pipeline import Pipeline

    def on_image(original: Callable[..., Any], *arguments: Any) -> Any:
        clock.arrive(stamp_ns(next(each for each in arguments if hasattr(each, "header"))))
        return original(*arguments)

    def localize(original: Callable[..., Any], *arguments: Any) -> Any:
        clock.begin()
        return original(*arguments)

    def publish(original: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            clock.add("publish", time.perf_counter() - started)
            clock.left()

    def timed(stage: str) -> Callable[..., Any]:
        def call(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                clock.add(stage, time.perf_counter() - started)

        return call

    _wrap(Pipeline, "on_image", on_image)
    _wrap(Pipeline, "_localize", localize)
    _wrap(Outputs, "publish", publish)
    _wrap(AerialMap, "patch", timed("patch"))
    _wrap(camera_input, "decode", timed("decode"))


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return wrapper(original, *arguments, **named)

    setattr(owner, name, wrapped)


def main(arguments: Sequence[str]) -> int:
    """Run the node, timed, until it is stopped; its exit status."""
    from cross_view_loc.node.main import main as run_node
    from cross_view_loc.node.start import build_localizer

    file, *rest = arguments
    clock = StageClock()
    watch(clock)
    is_stand_in = "--stand-in" in rest

    def make_localizer(*inputs: Any) -> Any:
        localizer = StandIn() if is_stand_in else build_localizer(*inputs)
        _wrap_locate(localizer, clock)
        return localizer

    try:
        words = ["localizer", *(word for word in rest if word != "--stand-in")]
        return run_node(words, make_localizer=make_localizer)
    finally:
        Path(file).write_text(json.dumps({"received": clock.received, "rows": clock.rows}), encoding="utf-8")


def _wrap_locate(localizer: Any, clock: StageClock) -> None:
    original = localizer.locate

    def locate(frames: Sequence[Frame], prior: Prior) -> Estimate:
        clock.is_of(frames[0].stamp_ns)
        started = time.perf_counter()
        try:
            return original(frames, prior)
        finally:
            clock.add("locate", time.perf_counter() - started)

    localizer.locate = locate


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
