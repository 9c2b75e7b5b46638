"""Trees: where they stand, and their crowns and trunks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely import contains_xy

from cross_view_loc.simulation.ground import GroundCanvas
from cross_view_loc.simulation.materials import EVERGREEN_SEED, GroundMaterial, SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder
from cross_view_loc.simulation.terrain import Terrain


class TreePlanter:
    """Collects trees that keep a distance from each other."""

    def __init__(self, canvas: GroundCanvas) -> None:
        self._canvas = canvas
        self._trees = np.zeros((256, 4))
        self._count = 0

    @property
    def trees(self) -> NDArray[np.float64]:
        """(T, 4) east, north, crown radius, height; metres."""
        return self._trees[: self._count].copy()

    def plant(self, position: ArrayLike, radius_m: float, height_m: float) -> None:
        """Put a tree exactly here."""
        if self._count == len(self._trees):
            self._trees = np.concatenate([self._trees, np.zeros_like(self._trees)])
        self._trees[self._count] = [*np.asarray(position, np.float64), radius_m, height_m]
        self._count += 1

    def plant_all(self, trees: NDArray[np.float64]) -> None:
        """Put trees (N, 4) exactly where they say."""
        self._trees = np.concatenate([self._trees[: self._count], trees, np.zeros((64, 4))])
        self._count += len(trees)

    def scatter(
        self,
        area: object,
        radius_m: float,
        height_m: float,
        rng: np.random.Generator,
        only_on: GroundMaterial | None = None,
    ) -> None:
        """Try one random place in an area (shapely); give up if it lies outside, is taken or is on other ground."""
        share = rng.random(2)
        if area.is_empty or area.area < 0.5:  # type: ignore[attr-defined]
            return
        west, south, east, north = area.bounds  # type: ignore[attr-defined]
        place = np.array([west + share[0] * (east - west), south + share[1] * (north - south)])
        if not contains_xy(area, *place):
            return
        if only_on is not None and self._canvas.material_at(place) != only_on:
            return
        others = self._trees[: self._count]
        apart = (others[:, 0] - place[0]) ** 2 + (others[:, 1] - place[1]) ** 2
        if (apart < (0.7 * (radius_m + others[:, 2])) ** 2).any():
            return
        self.plant(place, radius_m, height_m)


def add_trees(
    builder: MeshBuilder,
    terrain: Terrain,
    trees: NDArray[np.float64],
    conifer_share: float,
    rng: np.random.Generator,
    trunk_share: tuple[float, float] = (0.22, 0.34),
    detail: int = 2,
    evergreen: bool = False,
) -> None:
    """Add trunks and bulgy crowns for trees (T, 4) of east, north, radius, height.

    trunk_share: range of the bare trunk's share of the height. detail: how often the crowns' faces are cut in four.
    evergreen: whether they keep their leaves and their colour all year.
    """
    count = len(trees)
    if count == 0:
        return
    x, y, radius, height = trees.T
    ground = terrain.height(x, y)
    seeds = rng.integers(EVERGREEN_SEED, size=count)
    trunk = height * rng.uniform(*trunk_share, count)
    height = np.maximum(height, trunk + 1.45 * radius)
    if evergreen:
        seeds = seeds + EVERGREEN_SEED
    conifer = rng.random(count) < conifer_share
    half_sizes = np.repeat((0.05 * radius + 0.05)[:, None], 2, axis=1)
    yaws = rng.uniform(0.0, np.pi, count)
    tops = ground + trunk + 0.5 * radius
    builder.add_boxes(trees[:, :2], half_sizes, ground - 0.3, tops, yaws, SurfaceMaterial.TRUNK, seeds)
    middles = np.stack([x, y, ground + (height + trunk) / 2], axis=1)
    add_crowns(builder, middles, np.stack([radius, radius, (height - trunk) / 2], axis=1), conifer, seeds, rng, detail)


def add_crowns(
    builder: MeshBuilder,
    middles: NDArray[np.float64],
    half_sizes: NDArray[np.float64],
    tapered: NDArray[np.bool_],
    seeds: NDArray[np.int64],
    rng: np.random.Generator,
    detail: int = 2,
) -> None:
    """Add bulgy masses of leaves: middles and half_sizes (N, 3) metres; `tapered` ones narrow towards the top."""
    count = len(middles)
    sphere, faces = _sphere(detail)
    bumps = rng.standard_normal((count, 8, 3))
    waves = np.sin(2.6 * np.einsum("vk,tbk->tvb", sphere, bumps) + np.arange(8))
    crown = sphere[None] * (1.0 + 0.1 * waves.sum(axis=2))[..., None]
    crown *= half_sizes[:, None]
    taper = np.clip(1.0 - (sphere[:, 2] + 1.0) / 2, 0.05, 1.0)
    crown[..., :2] *= np.where(tapered[:, None], taper, 1.0)[..., None]
    crown += middles[:, None]

    # Crowns are lit a little as if they faced the sky.
    normals = sphere + np.array([0.0, 0.0, 0.3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    triangles = (faces + len(sphere) * np.arange(count)[:, None, None]).reshape(-1, 3)
    builder.add_smooth(
        crown.reshape(-1, 3),
        np.tile(normals, (count, 1)),
        triangles,
        SurfaceMaterial.LEAF,
        np.repeat(seeds, len(faces)),
    )


def add_lobed_trees(
    builder: MeshBuilder,
    terrain: Terrain,
    trees: NDArray[np.float64],
    evergreen_share: float,
    rng: np.random.Generator,
    trunk_share: tuple[float, float],
    lobes: int = 3,
) -> None:
    """Add broad-leaved trees (T, 4) whose crowns are a few overlapping masses, no two alike."""
    count = len(trees)
    if count == 0:
        return
    x, y, radius, height = trees.T
    ground = terrain.height(x, y)
    seeds = rng.integers(EVERGREEN_SEED, size=count) + EVERGREEN_SEED * (rng.random(count) < evergreen_share)
    trunk = height * rng.uniform(*trunk_share, count)
    thickness = np.repeat((0.035 * radius + 0.05)[:, None], 2, axis=1)
    tops = ground + 0.5 * (trunk + height)
    yaws = rng.uniform(0.0, np.pi, count)
    builder.add_boxes(trees[:, :2], thickness, ground - 0.3, tops, yaws, SurfaceMaterial.TRUNK, seeds)
    size = rng.uniform(0.5, 0.8, (count, lobes))
    angle = (
        rng.uniform(0.0, 2 * np.pi, (count, 1)) + 2 * np.pi / lobes * np.arange(lobes) + rng.normal(0, 0.4, size.shape)
    )
    away = (1.0 - size) * radius[:, None]
    deep = (height - trunk)[:, None] / 2
    up = (ground + (height + trunk) / 2)[:, None] + (1.0 - size) * deep * rng.uniform(-1.0, 1.0, size.shape)
    middles = np.stack([x[:, None] + away * np.cos(angle), y[:, None] + away * np.sin(angle), up], axis=-1)
    half_sizes = np.stack([size * radius[:, None], size * radius[:, None], size * deep], axis=-1)
    flat = np.zeros(count * lobes, bool)
    parts = middles.reshape(-1, 3), half_sizes.reshape(-1, 3)
    add_crowns(builder, *parts, flat, np.repeat(seeds, lobes), rng, 1)


@lru_cache(maxsize=3)
def _sphere(cuts: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A unit icosahedron, each face cut in four `cuts` times; counter-clockwise triangles, 320 of them for two cuts."""
    golden = (1 + 5**0.5) / 2
    corners = np.array(
        [[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)]
        + [[a, b * golden, 0] for a in (-1, 1) for b in (-1, 1)]
        + [[b * golden, 0, a] for a in (-1, 1) for b in (-1, 1)]
    )
    # Faces are the triples of mutually neighbouring corners (edge length 2).
    near = np.isclose(np.linalg.norm(corners[:, None] - corners[None], axis=2), 2.0)
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] and near[j, k] and near[k, i]
    ]
    vertices = [corner / np.linalg.norm(corner) for corner in corners]
    for _ in range(cuts):
        middles: dict[tuple[int, int], int] = {}
        smaller = []
        for a, b, c in faces:
            ab, bc, ca = (_middle(vertices, middles, *pair) for pair in ((a, b), (b, c), (c, a)))
            smaller += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = smaller
    points, triangles = np.array(vertices), np.array(faces)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    inward = np.sum(np.cross(b - a, c - a) * a, axis=1) < 0
    triangles[inward] = triangles[inward][:, [0, 2, 1]]
    return points, triangles


def _middle(vertices: list[NDArray], middles: dict[tuple[int, int], int], first: int, second: int) -> int:
    key = (min(first, second), max(first, second))
    if key not in middles:
        middle = vertices[first] + vertices[second]
        vertices.append(middle / np.linalg.norm(middle))
        middles[key] = len(vertices) - 1
    return middles[key]
