"""What the localizer has said so far, on disk, so that an interrupted run goes on where it ended.

A run that goes on reads the bag from its beginning and asks the journal instead of the networks as long as it knows
the answer. Tracker and inputs so come to the very state they were in, and the results are those of a run in one piece.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cross_view_loc.errors import InputError, MapError, NoImageryError
from cross_view_loc.tracking.tracked import Locate
from cross_view_loc.types import Estimate, Frame, Prior

FILE_NAME = "journal.jsonl"
_ERRORS: dict[str, type[InputError] | type[MapError]] = {
    "InputError": InputError,
    "MapError": MapError,
    "NoImageryError": NoImageryError,
}


class Journal:
    """A `locate` that writes down every answer of another one, and gives again those already written.

    `about` says what the answers depend on (bag, map, configuration, span). `follow` is told of the frames whose answer
    was written: later ones may depend on them. Raises InputError when the journal at
    `path` is about something else.
    """

    def __init__(
        self,
        path: Path,
        about: dict[str, Any],
        locate: Locate,
        follow: Callable[[Sequence[Frame]], None] = lambda frames: None,
    ) -> None:
        self.path, self._locate, self._follow = path, locate, follow
        self.seconds: dict[int, float] = {}
        """How long an answer took when it was first given, by stamp: reading it again takes no time."""
        about = json.loads(json.dumps(about))
        lines = whole_lines(path)
        if lines and lines[0] != about:
            different = sorted(key for key in about | lines[0] if about.get(key) != lines[0].get(key))
            raise InputError(
                f"{path.parent} was begun with another {' and '.join(different)}; continue it as it was begun, or name "
                "another folder with --out"
            )
        self._known = deque(lines[1:])
        self.written = len(self._known)
        """Answers in the file."""
        self._file: TextIO = path.open("w", encoding="utf-8")  # again from the start: a torn last line goes
        self._write(about)
        for line in lines[1:]:
            self._write(line)

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        """The written answer for these frames, or the localizer's."""
        stamp_ns = frames[0].stamp_ns
        if self._known and self._known[0]["stamp_ns"] == stamp_ns:
            line = self._known.popleft()
            self.seconds[stamp_ns] = line.get("seconds", 0.0)
            with contextlib.suppress(InputError):  # what is wrong with them stands in the answer
                self._follow(frames)
            if "error" in line:
                raise _ERRORS.get(line["error"], InputError)(line["reason"])
            return estimate_of(line)
        self._known.clear()
        started = time.perf_counter()
        try:
            estimate = self._locate(frames, prior)
        except (InputError, MapError) as error:
            self.written += 1
            self._write({"stamp_ns": stamp_ns, "error": type(error).__name__, "reason": str(error)})
            raise
        self.written += 1
        self._write({**row_of(estimate), "stamp_ns": stamp_ns, "seconds": time.perf_counter() - started})
        return estimate

    def close(self, done: bool) -> None:
        """Close the file; a run that is done needs it no more."""
        self._file.close()
        if done:
            self.path.unlink()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def row_of(estimate: Estimate) -> dict[str, Any]:
    """An estimate without its matches, for JSON: Python writes floats so that they are read the same."""
    return {
        "pose": [estimate.stamp_ns, estimate.east_m, estimate.north_m, estimate.yaw_rad],
        "covariance": np.asarray(estimate.covariance, dtype=np.float64).ravel().tolist(),
        "scale": estimate.scale,
        "scale_std": estimate.scale_std,
        "confidence": estimate.confidence,
        "inlier_ratio": estimate.inlier_ratio,
        "accepted": bool(estimate.accepted),
        "reason": estimate.reason,
    }


def estimate_of(row: dict[str, Any]) -> Estimate:
    """The estimate of a row."""
    stamp_ns, east_m, north_m, yaw_rad = row["pose"]
    covariance = np.array(row["covariance"]).reshape(3, 3)
    rest = (row["scale"], row["scale_std"], row["confidence"], row["inlier_ratio"], row["accepted"], row["reason"])
    return Estimate(stamp_ns, east_m, north_m, yaw_rad, covariance, *rest)


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """All but what was torn off in the middle."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
