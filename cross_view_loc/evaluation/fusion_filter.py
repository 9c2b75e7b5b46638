"""A small reference filter: x, y and yaw by odometry, corrected by poses or positions that may come late.

Extended Kalman filter on the error of (east, north, yaw), after Thrun, Burgard, Fox, Probabilistic Robotics (2005),
sections 3.3 and 5.4: odometry increments move the state, measurements correct it at their own stamp. It is written out
here because what matters is what a library would leave to do: the odometry and antenna models, late measurements,
correlated noise. Three states in closed form take a page; it measures, it does not ship in the node.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.transforms import Matrix, yaw_of

Array = NDArray[np.float64]
HISTORY_NS = 3_000_000_000
"""A measurement older than this before the newest event is dropped (robot_localization's history_length)."""


@dataclass(frozen=True)
class OdometryNoise:
    """Random walk of dead reckoning; wheel odometry on a car is about this good, its scale and gyro bias included."""

    position_m: float = 0.05
    """Per square root of a metre driven, along each axis."""
    yaw_rad: float = math.radians(0.05)
    """Per square root of a metre driven."""
    yaw_rad_s: float = math.radians(0.05)
    """Per square root of a second."""


@dataclass(frozen=True)
class Measurement:
    """A position of a point of the vehicle or, with three values, a pose of `base_link`."""

    value: Array
    """(2,) east, north of the point, or (3,) with the yaw of the vehicle."""
    covariance: Array
    """(n, n) of one measurement alone."""
    point_in_base_m: tuple[float, float] = (0.0, 0.0)
    """Where on the vehicle (x forward, y left): the antenna's lever arm."""
    information_share: float = 1.0
    """How much of a measurement each one is worth beside its neighbours, 0 to 1; see `information_share`."""


def information_share(correlation_s: float, interval_s: float) -> float:
    """What one of many measurements with correlated errors is worth: interval / (2 · correlation time), at most 1.

    The mean of n samples of a first-order Gauss–Markov error has the variance σ² · 2τ / (n Δt) for n Δt ≫ τ (Priestley,
    Spectral Analysis and Time Series, 1981, section 5.3.2), so white noise of σ² · 2τ / Δt says the same.
    """
    return min(1.0, interval_s / (2.0 * correlation_s)) if correlation_s > 0.0 else 1.0


@dataclass(frozen=True)
class State:
    """Where the filter believes the vehicle is."""

    stamp_ns: int
    mean: Array
    """(3,) east, north, yaw."""
    covariance: Array
    """(3, 3)"""


@dataclass
class _Event:
    stamp_ns: int
    odometry: Array
    """(3,) x, y, yaw of base_link in the odometry's frame at the stamp."""
    measurement: Measurement | None = None
    rejected: bool = False
    state: State | None = None
    """After this event."""


@dataclass
class PoseFilter:
    """Give it events in order of arrival; each takes effect at its own stamp, and what came after is done again."""

    first: State
    """The belief to start from; earlier events are dropped."""
    first_odometry: Array
    """(3,) x, y, yaw of the odometry at that stamp."""
    noise: OdometryNoise = field(default_factory=OdometryNoise)
    gate_sigma: float = 4.0
    """A measurement further than this from the prediction, in standard deviations over all its values, is rejected."""
    dropped: int = 0
    """Events that came too late."""
    _events: list[_Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events = [_Event(self.first.stamp_ns, np.asarray(self.first_odometry, dtype=np.float64))]
        self._events[0].state = self.first
        self._taken = self._rejected = 0

    @property
    def state(self) -> State:
        """The belief at the newest stamp."""
        state = self._events[-1].state
        assert state is not None
        return state

    @property
    def counts(self) -> tuple[int, int]:
        """Measurements taken, and those of them rejected as too far off (by the last word on each)."""
        return self._taken, self._rejected + sum(event.rejected for event in self._events)

    def add(self, stamp_ns: int, odometry: Array, measurement: Measurement | None = None) -> bool:
        """Take the odometry at a stamp and, maybe, what was measured then; False when it is too late to use."""
        newest_ns = self._events[-1].stamp_ns
        if stamp_ns < max(self.first.stamp_ns, newest_ns - HISTORY_NS):
            self.dropped += 1
            return False
        index = bisect.bisect_right(self._events, stamp_ns, key=lambda event: event.stamp_ns)
        self._events.insert(index, _Event(stamp_ns, np.asarray(odometry, dtype=np.float64), measurement))
        self._taken += measurement is not None
        for later in range(index, len(self._events)):
            self._replay(later)
        outdated = bisect.bisect_left(self._events, newest_ns - HISTORY_NS, key=lambda event: event.stamp_ns) - 1
        if outdated > 256:
            self._rejected += sum(event.rejected for event in self._events[:outdated])
            del self._events[:outdated]
        return True

    def _replay(self, index: int) -> None:
        event, before = self._events[index], self._events[index - 1]
        assert before.state is not None
        state = moved(before.state, before.odometry, event.odometry, event.stamp_ns, self.noise)
        event.rejected = False
        if event.measurement is not None:
            corrected = measured(state, event.measurement, self.gate_sigma)
            event.rejected = corrected is None
            state = corrected or state
        event.state = state


def planar(T_odom_base: Matrix) -> Array:
    """(3,) x, y, yaw of a (4, 4) pose."""
    return np.array([T_odom_base[0, 3], T_odom_base[1, 3], yaw_of(T_odom_base)])


def moved(state: State, start: Array, end: Array, stamp_ns: int, noise: OdometryNoise) -> State:
    """The state after the odometry went from `start` to `end`, (3,) each; the increment is applied in the body."""
    c, s = math.cos(start[2]), math.sin(start[2])
    forward = c * (end[0] - start[0]) + s * (end[1] - start[1])
    left = -s * (end[0] - start[0]) + c * (end[1] - start[1])
    turn = math.remainder(end[2] - start[2], 2.0 * math.pi)
    cy, sy = math.cos(state.mean[2]), math.sin(state.mean[2])
    step = np.array([cy * forward - sy * left, sy * forward + cy * left])
    F = np.eye(3)
    F[0, 2], F[1, 2] = -step[1], step[0]
    way_m = math.hypot(forward, left)
    seconds = (stamp_ns - state.stamp_ns) * 1e-9
    Q = np.diag([noise.position_m**2 * way_m] * 2 + [noise.yaw_rad**2 * way_m + noise.yaw_rad_s**2 * seconds])
    mean = np.array([state.mean[0] + step[0], state.mean[1] + step[1], _wrapped(state.mean[2] + turn)])
    return State(stamp_ns, mean, F @ state.covariance @ F.T + Q)


def measured(state: State, measurement: Measurement, gate_sigma: float) -> State | None:
    """The state corrected; None when the measurement lies outside the gate (tested as if it stood alone)."""
    x, y = measurement.point_in_base_m
    c, s = math.cos(state.mean[2]), math.sin(state.mean[2])
    lever = np.array([c * x - s * y, s * x + c * y])
    count = len(measurement.value)
    H = np.eye(3)[:count]
    H[0, 2], H[1, 2] = -lever[1], lever[0]
    predicted = state.mean[:count].copy()
    predicted[:2] += lever
    innovation = measurement.value - predicted
    if count == 3:
        innovation[2] = _wrapped(innovation[2])
    carried = H @ state.covariance @ H.T
    if float(innovation @ np.linalg.solve(carried + measurement.covariance, innovation)) > gate_sigma**2:
        return None
    R = measurement.covariance / measurement.information_share
    gain = np.linalg.solve(carried + R, H @ state.covariance).T
    mean = state.mean + gain @ innovation
    mean[2] = _wrapped(mean[2])
    # Joseph's form keeps the covariance symmetric and positive.
    keep = np.eye(3) - gain @ H
    return State(state.stamp_ns, mean, keep @ state.covariance @ keep.T + gain @ R @ gain.T)


def _wrapped(angle_rad: float) -> float:
    return math.remainder(float(angle_rad), 2.0 * math.pi)
