"""A drive through the town: where the vehicle is at each moment, and how it rolls and pitches."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from shapely.geometry import LineString, Polygon

from cross_view_loc.simulation.roads import RoadNetwork
from cross_view_loc.simulation.route import STEP_M, plan_route
from cross_view_loc.simulation.terrain import Terrain

LATERAL_ACCELERATION_MPS2 = 2.5
LONGITUDINAL_ACCELERATION_MPS2 = 1.5
CAR_HALF_WIDTH_M = 1.2

_WHEELBASE_M = 2.7
_TRACK_M = 1.6
_SPEED_SMOOTHING_M = 2.0
# Leftover after numerical differences, kept below the limits above.
_SAFETY = 0.92


class Drive:
    """Motion of base_link (on the ground, x forward, y left, z up) along the right-hand lanes.

    The heading is that of the motion, as for the middle of a car's rear axle. Times outside [0, duration_s] are
    clamped to it.
    """

    def __init__(
        self,
        points: NDArray[np.float64],
        terrain: Terrain,
        speed_mps: float,
        duration_s: float,
        rng: np.random.Generator,
    ) -> None:
        """points: (N, 2) every metre or less along the route; speed_mps is reached on straight stretches."""
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        knots = np.concatenate([[0.0], np.cumsum(steps)])
        self._terrain = terrain
        self._curve = CubicSpline(knots, points)
        self._suspension = rng.uniform(0.0, 2 * np.pi, (2, 3)), rng.uniform(0.7, 1.3, (2, 3))

        distance = np.linspace(0.0, knots[-1], int(knots[-1] / STEP_M) + 1)
        speed = _speed_profile(distance, self.curvature(distance), speed_mps)
        spacing = distance[1] - distance[0]
        elapsed = np.concatenate([[0.0], np.cumsum(2 * spacing / (speed[1:] + speed[:-1]))])
        self._distance_at = CubicHermiteSpline(elapsed, distance, speed)
        self.duration_s = float(min(duration_s, elapsed[-1]))
        """Seconds from the first to the last pose."""
        count = max(int(np.ceil(self.distance_m(self.duration_s) / STEP_M)), 2)
        self.path = LineString(self._curve(np.linspace(0.0, self.distance_m(self.duration_s), count)))
        """Ground track of base_link (shapely, map metres)."""

    def corridor(self, margin_m: float = 0.3) -> Polygon:
        """The area the vehicle sweeps, plus a margin: what other cars must keep clear of."""
        front = self._curve(self.distance_m(self.duration_s) + np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
        swept = LineString(np.concatenate([np.asarray(self.path.coords), front]))
        return swept.buffer(CAR_HALF_WIDTH_M + margin_m)

    def distance_m(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """(...) distance driven along the path at times (...)."""
        return self._distance_at(self._clamped(t_s))

    def places_ahead(self, t_s: ArrayLike, gap_m: float) -> NDArray[np.float64]:
        """(..., 3) east, north, yaw of a car that drives the same way `gap_m` ahead of base_link (behind if negative).

        NaN where that lies before the beginning or after the end of the route.
        """
        distance = self.distance_m(t_s) + gap_m
        inside = (distance >= 0.0) & (distance <= self._curve.x[-1])
        distance = np.where(inside, distance, 0.0)
        forward = self._forward(distance)
        yaw = np.unwrap(np.arctan2(forward[..., 1], forward[..., 0]))
        places = np.concatenate([self._curve(distance), yaw[..., None]], axis=-1)
        return np.where(inside[..., None], places, np.nan)

    def speed_mps(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """(...) speed over ground at times (...)."""
        return self._distance_at(self._clamped(t_s), 1)

    def curvature(self, distance_m: ArrayLike) -> NDArray[np.float64]:
        """(...) curvature of the path in 1/m, positive in left turns."""
        first, second = self._curve(distance_m, 1), self._curve(distance_m, 2)
        cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
        return cross / np.linalg.norm(first, axis=-1) ** 3

    def turn_rate_rad_s(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """(...) rate of turn about the map's up axis at times (...), counter-clockwise."""
        return self.speed_mps(t_s) * self.curvature(self.distance_m(t_s))

    def velocity_map(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) velocity of base_link in the map at times (...), m/s."""
        distance = self.distance_m(t_s)
        position, forward = self._curve(distance), self._forward(distance)
        climb = np.sum(forward * self._terrain.gradient(position[..., 0], position[..., 1]), axis=-1)
        return self.speed_mps(t_s)[..., None] * np.concatenate([forward, climb[..., None]], axis=-1)

    def T_map_base(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """(..., 4, 4) pose of base_link in the map at times (...), on the terrain and tilted like it."""
        time = self._clamped(t_s)
        distance = self.distance_m(time)
        position, forward = self._curve(distance), self._forward(distance)
        left = np.stack([-forward[..., 1], forward[..., 0]], axis=-1)
        pitch_up = np.arctan2(self._rise(position, forward, _WHEELBASE_M), _WHEELBASE_M)
        roll = np.arctan2(self._rise(position, left, _TRACK_M), _TRACK_M)
        spring_roll, spring_pitch = self._springs(time)
        yaw = np.arctan2(forward[..., 1], forward[..., 0])

        pose = np.zeros((*time.shape, 4, 4))
        pose[..., :3, :3] = _rotation(yaw, pitch_up + spring_pitch, roll + spring_roll)
        pose[..., :2, 3] = position
        pose[..., 2, 3] = self._terrain.height(position[..., 0], position[..., 1])
        pose[..., 3, 3] = 1.0
        return pose

    def _clamped(self, t_s: ArrayLike) -> NDArray[np.float64]:
        return np.clip(np.asarray(t_s, np.float64), 0.0, self.duration_s)

    def _forward(self, distance_m: NDArray[np.float64]) -> NDArray[np.float64]:
        direction = self._curve(distance_m, 1)
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def _rise(self, position: NDArray, direction: NDArray, span_m: float) -> NDArray[np.float64]:
        ahead, behind = position + direction * span_m / 2, position - direction * span_m / 2
        return self._terrain.height(ahead[..., 0], ahead[..., 1]) - self._terrain.height(behind[..., 0], behind[..., 1])

    def _springs(self, time: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Roll and pitch (nose up) in radians: a rough road, leaning outwards in turns, diving when braking."""
        phases, pace = self._suspension
        frequencies = 2 * np.pi * np.array([0.9, 1.4, 2.3]) * pace
        amplitudes = np.array([0.003, 0.002, 0.001])
        shaking = np.sum(amplitudes * np.sin(time[..., None, None] * frequencies + phases), axis=-1)
        lateral = self.speed_mps(time) ** 2 * self.curvature(self.distance_m(time))
        braking = (self.speed_mps(time + 0.2) - self.speed_mps(time - 0.2)) / 0.4
        return shaking[..., 0] + 0.006 * lateral, shaking[..., 1] + 0.005 * braking


def plan_drive(
    network: RoadNetwork, terrain: Terrain, duration_s: float, speed_mps: float, rng: np.random.Generator
) -> Drive:
    """A random drive of the given duration; raises InputError when the town has no loop of roads."""
    points = plan_route(network, duration_s * speed_mps + 20.0, rng)
    return Drive(points, terrain, speed_mps, duration_s, rng)


def _speed_profile(distance: NDArray, curvature: NDArray, speed_mps: float) -> NDArray[np.float64]:
    """(N,) speed at evenly spaced distances that respects both acceleration limits.

    Worked out on the squared speed, whose slope along the path is twice the longitudinal acceleration: limiting the
    slope, taking minima and averaging then all keep the limits.
    """
    spacing = distance[1] - distance[0]
    lateral = _SAFETY * LATERAL_ACCELERATION_MPS2
    squared = np.minimum(speed_mps**2, lateral / np.maximum(np.abs(curvature), 1e-6))
    gain = 2 * _SAFETY * LONGITUDINAL_ACCELERATION_MPS2 * spacing
    ramp = gain * np.arange(len(squared))
    # Slowest ramp from any earlier and from any later point.
    squared = np.minimum(np.minimum.accumulate(squared - ramp) + ramp, squared)
    squared = np.minimum(np.minimum.accumulate((squared + ramp)[::-1])[::-1] - ramp, squared)
    sigma = _SPEED_SMOOTHING_M / spacing
    reach = int(np.ceil(3 * sigma))
    squared = minimum_filter1d(squared, 2 * reach + 1, mode="nearest")
    return np.sqrt(gaussian_filter1d(squared, sigma, mode="nearest", truncate=3.0))


def _rotation(yaw: NDArray, pitch_up: NDArray, roll: NDArray) -> NDArray[np.float64]:
    """(..., 3, 3) Rz(yaw) Ry(-pitch_up) Rx(roll): x points forward and up the slope, y left."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch_up), np.sin(pitch_up)
    cr, sr = np.cos(roll), np.sin(roll)
    rows = [
        [cy * cp, -sy * cr - cy * sp * sr, sy * sr - cy * sp * cr],
        [sy * cp, cy * cr - sy * sp * sr, -cy * sr - sy * sp * cr],
        [sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
