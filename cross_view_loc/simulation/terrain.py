"""The height of the land: a few long waves, so that height and slope are exact everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import Polygon
from shapely.geometry.polygon import orient

from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder

_DIRECTIONS = np.array([[1.0, 0.3], [0.4, 1.0], [-0.7, 0.8], [0.9, -0.6]])
_WAVELENGTHS_M = np.array([260.0, 340.0, 180.0, 150.0])
_AMPLITUDES_M = np.array([1.6, 1.3, 0.6, 0.4])

_TERRAIN_STEP_M = 4.0
_KERB_STEP_M = 4.0
_KERB_WIDTH_M = 0.14
_KERB_HEIGHT_M = 0.11


@dataclass(frozen=True)
class Terrain:
    """Sum of four plane waves."""

    amplitudes_m: NDArray[np.float64]
    phases_rad: NDArray[np.float64]

    @staticmethod
    def random(rng: np.random.Generator) -> Terrain:
        """Gently rolling land: slopes stay under about 12 %."""
        return Terrain(_AMPLITUDES_M * rng.uniform(0.5, 1.2, 4), rng.uniform(0.0, 2 * np.pi, 4))

    def height(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Height in metres at east x, north y (any shapes that broadcast)."""
        east, north = np.asarray(x, np.float64), np.asarray(y, np.float64)
        height = np.zeros(np.broadcast_shapes(east.shape, north.shape))
        for amplitude, k, phase in self._waves():
            height = height + amplitude * np.sin(k[0] * east + k[1] * north + phase)
        return height

    def gradient(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) slope towards east and north (m/m)."""
        east, north = np.asarray(x, np.float64), np.asarray(y, np.float64)
        slope = np.zeros((*np.broadcast_shapes(east.shape, north.shape), 2))
        for amplitude, k, phase in self._waves():
            slope = slope + (amplitude * np.cos(k[0] * east + k[1] * north + phase))[..., None] * k
        return slope

    def _waves(self) -> list[tuple[float, NDArray[np.float64], float]]:
        wave_vectors = _DIRECTIONS * (2 * np.pi / _WAVELENGTHS_M)[:, None]
        return list(zip(self.amplitudes_m, wave_vectors, self.phases_rad, strict=True))


def add_terrain(builder: MeshBuilder, terrain: Terrain, size_m: float) -> None:
    """Add the ground of the square town as a smooth grid."""
    count = int(np.ceil(size_m / _TERRAIN_STEP_M)) + 1
    axis = np.linspace(-size_m / 2, size_m / 2, count)
    east, north = np.meshgrid(axis, axis)
    vertices = np.stack([east, north, terrain.height(east, north)], axis=-1).reshape(-1, 3)
    slope = terrain.gradient(east, north).reshape(-1, 2)
    normals = np.concatenate([-slope, np.ones((len(slope), 1))], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    index = np.arange(count * count).reshape(count, count)
    south_west, south_east = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    north_west, north_east = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    triangles = np.concatenate(
        [np.stack([south_west, south_east, north_east], 1), np.stack([south_west, north_east, north_west], 1)]
    )
    builder.add_smooth(vertices, normals, triangles, SurfaceMaterial.GROUND, 0, vertices[:, :2])


def add_kerbs(builder: MeshBuilder, terrain: Terrain, carriageway: list[Polygon], size_m: float) -> None:
    """Add kerb stones along the outside of the carriageway."""
    starts, ends, outward = [], [], []
    for polygon in carriageway:
        oriented = orient(polygon.simplify(0.05))
        for ring in (oriented.exterior, *oriented.interiors):
            points = np.asarray(ring.segmentize(_KERB_STEP_M).coords)
            step = np.diff(points, axis=0)
            # With the exterior counter-clockwise and holes clockwise, outside is always on the right.
            right = np.stack([step[:, 1], -step[:, 0]], axis=1) / (np.linalg.norm(step, axis=1, keepdims=True) + 1e-9)
            inside = np.abs(np.concatenate([points[:-1], points[1:]], axis=1)).max(axis=1) < size_m / 2 - 0.2
            starts.append(points[:-1][inside])
            ends.append(points[1:][inside])
            outward.append(right[inside])
    start, end, right = np.concatenate(starts), np.concatenate(ends), np.concatenate(outward) * _KERB_WIDTH_M
    profile = []
    for point, offset, lift in (
        (start, 0, -0.1),
        (end, 0, -0.1),
        (end, 0, _KERB_HEIGHT_M),
        (start, 0, _KERB_HEIGHT_M),
        (start, 1, _KERB_HEIGHT_M),
        (end, 1, _KERB_HEIGHT_M),
        (start, 1, -0.1),
        (end, 1, -0.1),
    ):
        up = terrain.height(point[:, 0], point[:, 1]) + lift
        profile.append(np.concatenate([point + offset * right, up[:, None]], axis=1))
    vertices = np.stack(profile, axis=1)
    faces = np.array([[0, 2, 1], [0, 3, 2], [3, 5, 2], [3, 4, 5], [4, 7, 5], [4, 6, 7]])
    triangles = (faces + 8 * np.arange(len(vertices))[:, None, None]).reshape(-1, 3)
    seeds = np.repeat(np.arange(len(vertices)), len(faces))
    builder.add_flat(vertices.reshape(-1, 3), triangles, SurfaceMaterial.KERB, seeds)
