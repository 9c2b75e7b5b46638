"""Parked and moving cars: the layer of the town that differs from one picture to the next."""

from __future__ import annotations

import mapbox_earcut as earcut
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder, TriangleMesh
from cross_view_loc.simulation.roads import RoadNetwork
from cross_view_loc.simulation.terrain import Terrain

# Side view of a body from the rear bumper over the roof to the front bumper, in lengths (x) and heights (z).
_CAR_PROFILE = np.array(
    [
        [-0.5, 0.22],
        [-0.5, 0.62],
        [-0.47, 0.66],
        [-0.36, 1],
        [0.12, 1],
        [0.28, 0.62],
        [0.47, 0.52],
        [0.5, 0.4],
        [0.5, 0.22],
    ]
)
_VAN_PROFILE = np.array(
    [
        [-0.5, 0.22],
        [-0.5, 0.62],
        [-0.47, 0.95],
        [-0.36, 1],
        [0.3, 1],
        [0.42, 0.62],
        [0.47, 0.52],
        [0.5, 0.4],
        [0.5, 0.22],
    ]
)
_ROOF_TAPER = 0.86
_WHEEL_RADIUS_M = 0.33
_WHEEL_SEED = 3
_WHEEL_CORNERS = 8
_EDGE_MARGIN_M = 4.0


def traffic_spots(network: RoadNetwork, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, 3) east, north, yaw of cars on the roads: at most one per road and direction, in the right-hand lane."""
    spots = []
    for road in network.roads:
        for heading in (1, -1):
            present, along, lane = rng.random(3)
            if present >= share:
                continue
            offset = road.lane_offsets_m[int(lane * len(road.lane_offsets_m))]
            distance = (0.2 + 0.6 * along) * road.center.length_m
            forward = heading * road.center.tangent(distance)
            place = road.center.position(distance, -heading * offset)
            spots.append((*place, np.arctan2(forward[1], forward[0])))
    return np.array(spots).reshape(-1, 3)


def build_cars(
    spots: NDArray[np.float64],
    terrain: Terrain,
    size_m: float,
    keep_clear: BaseGeometry | None,
    rng: np.random.Generator,
) -> TriangleMesh:
    """Cars at spots (N, 3), a little askew; none touches `keep_clear` or stands at the town's edge."""
    count = len(spots)
    is_van = rng.random(count) < 0.15
    length = np.where(is_van, 5.2, rng.uniform(3.9, 4.8, count))
    width = np.where(is_van, 2.0, 1.8)
    height = np.where(is_van, 2.1, rng.uniform(1.42, 1.62, count))
    x, y = (spots[:, axis] + rng.normal(0.0, 0.12, count).clip(-0.25, 0.25) for axis in (0, 1))
    yaw = spots[:, 2] + rng.normal(0.0, 0.03, count)
    seeds = rng.integers(1 << 30, size=count)

    keep = np.maximum(np.abs(x), np.abs(y)) < size_m / 2 - _EDGE_MARGIN_M
    if keep_clear is not None and count:
        shapely.prepare(keep_clear)
        keep &= ~shapely.intersects(keep_clear, _footprints(x, y, yaw, length, width))
    builder = MeshBuilder()
    for profile, chosen in ((_CAR_PROFILE, keep & ~is_van), (_VAN_PROFILE, keep & is_van)):
        if chosen.any():
            pose = _Placement(x[chosen], y[chosen], yaw[chosen], terrain)
            sizes = np.stack([length, width, height], axis=1)[chosen]
            _add_bodies(builder, pose, profile, sizes, seeds[chosen])
            _add_wheels(builder, pose, sizes)
    return builder.build()


def _footprints(x: NDArray, y: NDArray, yaw: NDArray, length: NDArray, width: NDArray) -> NDArray:
    forward = np.stack([np.cos(yaw), np.sin(yaw)], axis=1) * (length / 2)[:, None]
    left = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1) * (width / 2 + 0.05)[:, None]
    middle = np.stack([x, y], axis=1)
    ring = [middle - forward - left, middle + forward - left, middle + forward + left, middle - forward + left]
    return shapely.polygons(np.stack(ring, axis=1))


class _Placement:
    """Takes points from the cars' own frames (x forward, y left, z up) onto the slope they stand on."""

    def __init__(self, x: NDArray, y: NDArray, yaw: NDArray, terrain: Terrain) -> None:
        self._x, self._y, self._cosine, self._sine = x, y, np.cos(yaw), np.sin(yaw)
        self._ground, self._slope = terrain.height(x, y), terrain.gradient(x, y)
        self.count = len(x)

    def to_map(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, M, 3) points of the N cars to (N * M, 3) in the map."""
        east = points[..., 0] * self._cosine[:, None] - points[..., 1] * self._sine[:, None]
        north = points[..., 0] * self._sine[:, None] + points[..., 1] * self._cosine[:, None]
        up = points[..., 2] + self._ground[:, None] + east * self._slope[:, :1] + north * self._slope[:, 1:]
        return np.stack([east + self._x[:, None], north + self._y[:, None], up], axis=-1).reshape(-1, 3)


def _add_bodies(
    builder: MeshBuilder, pose: _Placement, profile: NDArray[np.float64], sizes: NDArray[np.float64], seeds: NDArray
) -> None:
    count = len(profile)
    taper = np.where(profile[:, 1] > 0.7, _ROOF_TAPER, 1.0)
    right = np.stack([profile[:, 0], -0.5 * taper, profile[:, 1]], axis=1)
    shape = np.concatenate([right, right * [1.0, -1.0, 1.0]])
    i = np.arange(count)
    j = (i + 1) % count
    side = earcut.triangulate_float64(profile, np.array([count], np.uint32)).reshape(-1, 3).astype(int)
    a, b, c = (profile[side[:, k]] for k in range(3))
    clockwise = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    side[clockwise] = side[clockwise][:, [0, 2, 1]]
    faces = np.concatenate(
        [np.stack([i, j, i + count], 1), np.stack([j, j + count, i + count], 1), side, side[:, [0, 2, 1]] + count]
    )
    uv = np.tile(profile, (2 * pose.count, 1))
    _add_copies(builder, pose.to_map(shape[None] * sizes[:, None]), faces, seeds, pose.count, uv)


def _add_wheels(builder: MeshBuilder, pose: _Placement, sizes: NDArray[np.float64]) -> None:
    angle = 2 * np.pi * np.arange(_WHEEL_CORNERS) / _WHEEL_CORNERS
    fan = np.array([[0, k, k + 1] for k in range(1, _WHEEL_CORNERS - 1)])
    for along in (-0.31, 0.31):
        for side in (-1, 1):
            points = np.empty((pose.count, _WHEEL_CORNERS, 3))
            points[..., 0] = along * sizes[:, :1] + _WHEEL_RADIUS_M * np.cos(angle)
            points[..., 1] = side * (sizes[:, 1:2] / 2 + 0.01)
            points[..., 2] = _WHEEL_RADIUS_M * (1.0 + np.sin(angle))
            faces = fan if side < 0 else fan[:, [0, 2, 1]]
            _add_copies(builder, pose.to_map(points), faces, np.full(pose.count, _WHEEL_SEED), pose.count, None)


def _add_copies(
    builder: MeshBuilder, vertices: NDArray, faces: NDArray, seeds: NDArray, copies: int, uv: NDArray | None
) -> None:
    """Add the same faces for each of `copies` equal runs of vertices."""
    run = len(vertices) // copies
    triangles = (faces + run * np.arange(copies)[:, None, None]).reshape(-1, 3)
    builder.add_flat(vertices, triangles, SurfaceMaterial.CAR, np.repeat(seeds, len(faces)), uv)
