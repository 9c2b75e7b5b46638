"""What the node has seen and done, and what that means; without ROS, so that every rule can be tested.

Published as diagnostics, beside `machine` (`machine.py`, always OK) and `lifecycle` (ERROR: a transition failed, and
why); while the node is not active, `lifecycle` alone:

`inputs`
    ERROR  a required topic (image, camera_info, fix) has never arrived, or is silent for `input_timeout_s`
           (CameraInfo may be silent once it is known; of several cameras all must be silent; the fix is only a WARN
           while the state is tracking).
    WARN   the same for one camera of several and for a configured optional topic (odometry, imu, depth); a message was
           unusable within the last `PROBLEM_MEMORY_S`; something lacks that is replaced by an assumption (antenna
           position, attitude, depth); another depth source stands in for the chosen one; the origin or an image's
           type is still waited for.
`estimates`
    ERROR  images arrive but none could be localized for `input_timeout_s`: the missing input, the missing imagery,
           the clock that differs or the failure is named.
    WARN   fewer than half of the last 50 estimates were accepted (the last reason is named); TF is held back.
           Its values name the depth source that serves, beside counts and durations.
`tracker`
    WARN   the state is lost, or waiting for an input, which is named.
`map`
    WARN   parts of the map could not be read (a damaged tile, a server that refuses); less than half of the patch last
           searched has imagery, or more than half of it is coarser imagery that stands in.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

PROBLEM_MEMORY_S = 5.0
OK, WARN, ERROR = 0, 1, 2
REQUIRED = ("image", "camera_info", "fix")


@dataclass(frozen=True)
class Verdict:
    """One line of diagnostics: level (0 OK, 1 WARN, 2 ERROR), a sentence and named values."""

    name: str
    level: int
    sentence: str
    values: dict[str, str]


@dataclass
class _Input:
    topic: str
    count: int = 0
    bad: int = 0
    problem: str = ""
    problem_at: float = -1e9
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    def rate_hz(self, now: float) -> float:
        """Over the last five seconds."""
        return sum(now - arrival <= 5.0 for arrival in self.arrivals) / 5.0


def _role_of(key: str) -> str:
    """Of an input that may have its camera's name in front."""
    return key.rsplit(" ", 1)[-1]


class Health:
    """Counters behind a lock; `clock` is a monotonic clock in seconds."""

    def __init__(self, topics: dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._inputs = {role: _Input(topic) for role, topic in topics.items()}
        self._started = self._localized_at = clock()
        self.paused = ""
        """Why nothing is localized on purpose; empty when it is."""
        self._problems: dict[str, tuple[str, float]] = {}
        self._problem = ""
        self._tf_problem = ""
        self._reason = ""
        self._counts: Counter[str] = Counter()
        self._accepted: deque[bool] = deque(maxlen=50)
        self._compute_s: deque[float] = deque(maxlen=200)
        self._latency_s: deque[float] = deque(maxlen=200)
        self._stages_s: dict[str, deque[float]] = {}

    def begin(self) -> None:
        """The node begins to listen: what is silent is so from now on."""
        with self._lock:
            self._started = self._localized_at = self._clock()

    def arrived(self, role: str) -> None:
        """A message of this role came in."""
        with self._lock:
            self._inputs[role].count += 1
            self._inputs[role].arrivals.append(self._clock())

    def never_arrived(self, timeout_s: float) -> dict[str, str]:
        """Topics, by their role, on which nothing has come although the node has listened for longer than that."""
        with self._lock:
            if self._clock() - self._started <= timeout_s:
                return {}
            return {role: entry.topic for role, entry in self._inputs.items() if not entry.count}

    def unusable(self, role: str, problem: str) -> int:
        """A message of this role could not be used; returns how many so far."""
        with self._lock:
            entry = self._inputs[role]
            entry.bad += 1
            entry.problem, entry.problem_at = problem, self._clock()
            return entry.bad

    def count(self, name: str, amount: int = 1) -> int:
        """Count an event; returns how many so far."""
        with self._lock:
            self._counts[name] += amount
            return self._counts[name]

    def count_problem(self, name: str, problem: str) -> int:
        """A message on an unwatched topic could not be used; returns how often so far."""
        with self._lock:
            self._problems[name] = problem, self._clock()
            self._counts[f"unusable messages on {name}"] += 1
            return self._counts[f"unusable messages on {name}"]

    def not_localized(self, name: str, problem: str) -> int:
        """An image could not be localized because of `problem`; returns how many for this `name`."""
        with self._lock:
            self._problem = problem
            self._counts[name] += 1
            return self._counts[name]

    def localized(
        self,
        accepted: bool,
        reason: str,
        compute_s: float,
        latency_s: float | None,
        stages_s: Mapping[str, float] | None = None,
    ) -> None:
        """An image led to an estimate; `latency_s` from stamp to publication, None when the clocks differ.

        `stages_s` are the parts of it by name.
        """
        with self._lock:
            self._localized_at = self._clock()
            self._problem = ""
            self._reason = reason or self._reason
            self._accepted.append(accepted)
            self._counts["accepted" if accepted else "refused"] += 1
            self._compute_s.append(compute_s)
            if latency_s is not None:
                self._latency_s.append(latency_s)
            for stage, seconds in (stages_s or {}).items():
                self._stages_s.setdefault(stage, deque(maxlen=200)).append(seconds)

    def tf_held_back(self, problem: str) -> None:
        """Why no transform was published; empty when it was."""
        with self._lock:
            self._tf_problem = problem

    def counts(self) -> dict[str, int]:
        """All events counted so far."""
        with self._lock:
            return dict(self._counts)

    def verdicts(
        self,
        timeout_s: float,
        assumptions: Sequence[str] = (),
        map_problems: tuple[int, str] = (0, ""),
        more_values: Mapping[str, str] | None = None,
        is_tracking: bool = False,
        coverage: Coverage | None = None,
    ) -> list[Verdict]:
        """The present state of inputs, estimates and map; `map_problems` is their number and the latest one."""
        with self._lock:
            now = self._clock()
            inputs = self._inputs_verdict(now, timeout_s, assumptions, is_tracking)
            estimates = self._estimates_verdict(now, timeout_s)
            estimates.values.update(more_values or {})
            return [inputs, estimates, map_verdict(*map_problems, coverage)]

    def _inputs_verdict(self, now: float, timeout_s: float, assumptions: Sequence[str], is_tracking: bool) -> Verdict:
        errors: list[str] = []
        warnings, values = list(assumptions), {}
        silent_s = {key: self._silent_s(key, now) for key in self._inputs}
        for role, entry in self._inputs.items():
            last = entry.arrivals[-1] if entry.arrivals else None
            if silent_s[role] > timeout_s:
                what = "has never arrived" if last is None else f"is silent for {silent_s[role]:.1f} s"
                alike = [seconds for key, seconds in silent_s.items() if _role_of(key) == _role_of(role)]
                is_needed = _role_of(role) in REQUIRED and min(alike) > timeout_s
                is_needed &= not (is_tracking and role == "fix")
                (errors if is_needed else warnings).append(f"{entry.topic} ({role}) {what}")
            if now - entry.problem_at <= PROBLEM_MEMORY_S:
                warnings.append(f"{entry.bad} unusable messages, the last: {entry.problem}")
            values[f"{role} topic"] = entry.topic
            values[f"{role} rate (Hz)"] = f"{entry.rate_hz(now):.1f}"
            values[f"{role} age (s)"] = "never" if last is None else f"{now - last:.2f}"
            values[f"{role} messages"] = str(entry.count)
            values[f"{role} unusable"] = str(entry.bad)
        warnings += [text for text, at in self._problems.values() if now - at <= PROBLEM_MEMORY_S]
        level = ERROR if errors else WARN if warnings else OK
        return Verdict("inputs", level, "; ".join(errors + warnings) or "all inputs arrive", values)

    def _silent_s(self, key: str, now: float) -> float:
        """Since when nothing has come; 0 for CameraInfo that is known."""
        arrivals = self._inputs[key].arrivals
        if arrivals and _role_of(key) == "camera_info":
            return 0.0
        return now - (arrivals[-1] if arrivals else self._started)

    def _estimates_verdict(self, now: float, timeout_s: float) -> Verdict:
        values = {name: str(number) for name, number in sorted(self._counts.items())}
        named = [("compute", self._compute_s), ("image to pose", self._latency_s), *self._stages_s.items()]
        for name, series in named:
            for percent in (50, 95):
                value = f"{np.percentile(series, percent):.3f}" if series else "unknown"
                values[f"{name} p{percent} (s)"] = value
        share = sum(self._accepted) / len(self._accepted) if self._accepted else 0.0
        values["accepted share of last 50"] = f"{share:.2f}" if self._accepted else "unknown"
        values["last refusal"] = self._reason
        image = any(entry.arrivals for key, entry in self._inputs.items() if _role_of(key) == "image")
        if self.paused:
            return Verdict("estimates", OK, self.paused, values)
        if self._problem and image and now - self._localized_at > timeout_s:
            return Verdict("estimates", ERROR, self._problem, values)
        if not self._accepted:
            waiting = "the first image is being worked on" if image else "waiting for the first image"
            return Verdict("estimates", OK, self._problem or waiting, values)
        if self._tf_problem:
            return Verdict("estimates", WARN, f"no transform is published: {self._tf_problem}", values)
        if share < 0.5:
            sentence = f"only {share:.0%} of the last {len(self._accepted)} estimates accepted; last: {self._reason}"
            return Verdict("estimates", WARN, sentence, values)
        return Verdict("estimates", OK, f"{share:.0%} of the last {len(self._accepted)} estimates accepted", values)


@dataclass(frozen=True)
class Coverage:
    """Of the patch last searched: which share has imagery, and of that which share coarser imagery stands in for."""

    valid: float
    stand_in: float


def map_verdict(count: int, latest: str, coverage: Coverage | None = None) -> Verdict:
    """Problems of the map so far, the latest of them, and what of the patch last searched is there."""
    values = {"problems": str(count), "latest problem": latest}
    sentences = []
    if coverage is not None:
        values |= {"imagery of last patch": f"{coverage.valid:.2f}", "of it standing in": f"{coverage.stand_in:.2f}"}
        if coverage.valid < 0.5:
            sentences.append(f"only {coverage.valid:.0%} of the place has imagery; fetch a map of it")
        if coverage.stand_in > 0.5:
            sentences.append(f"coarser imagery stands in for {coverage.stand_in:.0%} of the place")
    if count:
        sentences.append(f"map: {count} problem{'s' if count > 1 else ''}, latest: {latest}")
    sentence = "; ".join(sentences) or "no part of the map was unreadable so far"
    return Verdict("map", WARN if sentences else OK, sentence, values)


def tracker_verdict(state: str, reason: str) -> Verdict:
    """The tracker's state and why."""
    level = WARN if state in ("lost", "waiting") else OK
    return Verdict("tracker", level, f"{state}: {reason}", {"state": state, "reason": reason})
