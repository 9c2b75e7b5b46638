"""A polyline with arc length: everything along a road (paint, bays, lanes) is placed by (distance, offset) on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Centerline:
    """Smooth polyline in the map; distances run from its first point, offsets are positive to its left."""

    def __init__(self, points: ArrayLike) -> None:
        """points: (N, 2) east, north in metres, no two neighbours equal."""
        self.points = np.asarray(points, np.float64)
        steps = np.diff(self.points, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        self.distances_m = np.concatenate([[0.0], np.cumsum(lengths)])
        directions = steps / lengths[:, None]
        at_vertices = np.concatenate([directions[:1], directions[:-1] + directions[1:], directions[-1:]])
        self._tangents = at_vertices / np.linalg.norm(at_vertices, axis=1, keepdims=True)

    @property
    def length_m(self) -> float:
        return float(self.distances_m[-1])

    def tangent(self, distance_m: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) unit direction, continuous along the line."""
        distance = np.asarray(distance_m, np.float64)
        direction = np.stack([np.interp(distance, self.distances_m, self._tangents[:, axis]) for axis in (0, 1)], -1)
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def position(self, distance_m: ArrayLike, left_m: ArrayLike = 0.0) -> NDArray[np.float64]:
        """(..., 2) points at distances along the line, `left_m` to its left (negative: right)."""
        distance = np.asarray(distance_m, np.float64)
        point = np.stack([np.interp(distance, self.distances_m, self.points[:, axis]) for axis in (0, 1)], -1)
        tangent = self.tangent(distance)
        normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
        return point + np.asarray(left_m, np.float64)[..., None] * normal

    def strip(self, start_m: float, end_m: float, left_m: float, width_m: float) -> NDArray[np.float64]:
        """(M, 2) outline of a band of the given width whose middle runs `left_m` left of the line."""
        inner = self.distances_m[(self.distances_m > start_m) & (self.distances_m < end_m)]
        distance = np.concatenate([[start_m], inner, [end_m]])
        right_edge = self.position(distance, left_m - width_m / 2)
        left_edge = self.position(distance, left_m + width_m / 2)
        return np.concatenate([right_edge, left_edge[::-1]])
