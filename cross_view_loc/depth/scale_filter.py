"""The scale of one camera's depth over time: what single images say of it, filtered, with outliers left out."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_STD = 0.015
"""Slope and tilt make single images err together: no number of them brings the deviation below this."""


@dataclass(frozen=True)
class ScaleFilterSettings:
    """How fast a scale may change, and when an image is not believed."""

    walk_std_per_sqrt_s: float = 0.01
    """Deviation of the log-scale's random walk."""
    gate: float = 3.0
    """Largest deviation of an image's log-scale from the filtered one, in standard deviations of their difference."""
    resets_after: int = 3
    """So many moments in a row beyond the gate, and the filter begins anew with the last of them."""


@dataclass(frozen=True)
class _State:
    stamp_ns: int
    log_scale: float = 0.0
    variance: float | None = None
    """None before the first measurement."""
    refused: int = 0
    """Moments in a row whose measurements were all beyond the gate."""


class ScaleFilter:
    """For each moment: `begin`, then `update` with what its views say; `log_scale` and `std` are the filtered ones.

    The same moment may be gone through again: it counts once. A stamp before the last one begins anew.
    """

    def __init__(self, settings: ScaleFilterSettings | None = None) -> None:
        self.settings = settings or ScaleFilterSettings()
        self._before: _State | None = None
        self._now: _State | None = None
        self._is_refused_here = False

    @property
    def is_known(self) -> bool:
        """Whether anything was measured yet."""
        return self._now is not None and self._now.variance is not None

    @property
    def log_scale(self) -> float:
        """0 as long as nothing is known."""
        return 0.0 if self._now is None else self._now.log_scale

    @property
    def std(self) -> float:
        """Deviation of `log_scale`; infinite as long as nothing is known."""
        if self._now is None or self._now.variance is None:
            return float("inf")
        return max(LEAST_STD, float(self._now.variance**0.5))

    def begin(self, stamp_ns: int) -> None:
        """Go on to a moment."""
        before = self._now
        if before is not None and stamp_ns == before.stamp_ns:
            before = self._before
        elif before is not None and stamp_ns < before.stamp_ns:
            before = None
        self._before, self._is_refused_here = before, False
        if before is None:
            self._now = _State(stamp_ns)
            return
        seconds = (stamp_ns - before.stamp_ns) / 1e9
        walked = self.settings.walk_std_per_sqrt_s**2 * seconds
        variance = None if before.variance is None else before.variance + walked
        self._now = _State(stamp_ns, before.log_scale, variance, before.refused)

    def update(self, log_scale: float, std: float) -> bool:
        """What one view of the moment says; False when it is not believed. Raises RuntimeError before `begin`."""
        if self._now is None:
            raise RuntimeError("ScaleFilter.update before begin")
        now, measured = self._now, std**2
        if now.variance is None:
            self._now = _State(now.stamp_ns, log_scale, measured)
            return True
        innovation = log_scale - now.log_scale
        if innovation**2 > self.settings.gate**2 * (now.variance + measured):
            refused = now.refused + (0 if self._is_refused_here else 1)
            self._is_refused_here = True
            if refused >= self.settings.resets_after:
                self._now, self._is_refused_here = _State(now.stamp_ns, log_scale, measured), False
                return True
            self._now = _State(now.stamp_ns, now.log_scale, now.variance, refused)
            return False
        gain = now.variance / (now.variance + measured)
        variance = max((1.0 - gain) * now.variance, min(LEAST_STD**2, now.variance))
        self._now, self._is_refused_here = _State(now.stamp_ns, now.log_scale + gain * innovation, variance), False
        return True
