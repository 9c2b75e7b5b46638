"""Triangle meshes with a material and a seed per triangle, and the builder that collects them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.simulation.materials import SurfaceMaterial

_BOX_TRIANGLES = np.array(
    [[0, 1, 5], [0, 5, 4], [1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6], [3, 0, 4], [3, 4, 7], [4, 5, 6], [4, 6, 7]]
)
"""Sides and top of a box whose corners 0-3 are the bottom (counter-clockwise) and 4-7 the top; no underside."""


@dataclass(frozen=True)
class TriangleMesh:
    """Indexed triangles in map coordinates (ENU metres), counter-clockwise seen from outside."""

    vertices: NDArray[np.float32]
    """(V, 3) east, north, up in metres."""
    normals: NDArray[np.float32]
    """(V, 3) unit length."""
    uv: NDArray[np.float32]
    """(V, 2) texture coordinates; their meaning depends on the material, see `SurfaceMaterial`."""
    triangles: NDArray[np.int32]
    """(F, 3) indices of vertices."""
    materials: NDArray[np.int32]
    """(F,) `SurfaceMaterial`."""
    seeds: NDArray[np.int32]
    """(F,) varies the look of objects that share a material."""

    def joined(self, other: TriangleMesh) -> TriangleMesh:
        """Both meshes as one; the triangles of `other` come last."""
        return TriangleMesh(
            np.concatenate([self.vertices, other.vertices]),
            np.concatenate([self.normals, other.normals]),
            np.concatenate([self.uv, other.uv]),
            np.concatenate([self.triangles, other.triangles + np.int32(len(self.vertices))]),
            np.concatenate([self.materials, other.materials]),
            np.concatenate([self.seeds, other.seeds]),
        )


class MeshBuilder:
    """Collects parts and concatenates them once; parts keep the order in which they were added."""

    def __init__(self) -> None:
        self._vertices: list[NDArray[np.float32]] = []
        self._normals: list[NDArray[np.float32]] = []
        self._uv: list[NDArray[np.float32]] = []
        self._triangles: list[NDArray[np.int32]] = []
        self._materials: list[NDArray[np.int32]] = []
        self._seeds: list[NDArray[np.int32]] = []
        self._vertex_count = 0

    def add_smooth(
        self,
        vertices: ArrayLike,
        normals: ArrayLike,
        triangles: ArrayLike,
        material: SurfaceMaterial,
        seed: ArrayLike = 0,
        uv: ArrayLike | None = None,
    ) -> None:
        """Add triangles (F, 3) over shared vertices (V, 3) with given normals (V, 3); `seed` is one or (F,)."""
        points = np.asarray(vertices, np.float32)
        faces = np.asarray(triangles, np.int32)
        self._vertices.append(points)
        self._normals.append(np.asarray(normals, np.float32))
        self._uv.append(np.zeros((len(points), 2), np.float32) if uv is None else np.asarray(uv, np.float32))
        self._triangles.append(faces + np.int32(self._vertex_count))
        self._materials.append(np.full(len(faces), int(material), np.int32))
        self._seeds.append(np.broadcast_to(np.asarray(seed, np.int32), (len(faces),)))
        self._vertex_count += len(points)

    def add_flat(
        self,
        vertices: ArrayLike,
        triangles: ArrayLike,
        material: SurfaceMaterial,
        seed: ArrayLike = 0,
        uv: ArrayLike | None = None,
    ) -> None:
        """Add triangles (F, 3) over vertices (V, 3), each triangle with its own three vertices and its own normal."""
        faces = np.asarray(triangles, np.int32)
        corners = np.asarray(vertices, np.float64)[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        split = np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3)
        split_uv = None if uv is None else np.asarray(uv, np.float32)[faces].reshape(-1, 2)
        self.add_smooth(corners.reshape(-1, 3), np.repeat(normals, 3, axis=0), split, material, seed, split_uv)

    def add_boxes(
        self,
        centers: ArrayLike,
        half_sizes: ArrayLike,
        bottoms: ArrayLike,
        tops: ArrayLike,
        yaws_rad: ArrayLike,
        material: SurfaceMaterial,
        seeds: ArrayLike = 0,
    ) -> None:
        """Add upright boxes without undersides.

        centers (N, 2) and half_sizes (N, 2) in metres, the latter along and across the box's own yaw; bottoms, tops,
        yaws_rad and seeds are one for all or (N,).
        """
        middle = np.asarray(centers, np.float64).reshape(-1, 2)
        count = len(middle)
        if count == 0:
            return
        yaw = np.broadcast_to(np.asarray(yaws_rad, np.float64), (count,))
        along = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        half = np.broadcast_to(np.asarray(half_sizes, np.float64), (count, 2))
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = np.empty((count, 8, 3))
        footprint = (
            middle[:, None]
            + signs[None, :, :1] * (half[:, :1] * along)[:, None]
            + signs[None, :, 1:] * (half[:, 1:] * across)[:, None]
        )
        corners[:, :4, :2] = footprint
        corners[:, 4:, :2] = footprint
        corners[:, :4, 2] = np.broadcast_to(np.asarray(bottoms, np.float64), (count,))[:, None]
        corners[:, 4:, 2] = np.broadcast_to(np.asarray(tops, np.float64), (count,))[:, None]
        triangles = (_BOX_TRIANGLES + 8 * np.arange(count)[:, None, None]).reshape(-1, 3)
        triangle_seeds = np.repeat(np.broadcast_to(np.asarray(seeds, np.int32), (count,)), len(_BOX_TRIANGLES))
        self.add_flat(corners.reshape(-1, 3), triangles, material, triangle_seeds)

    def build(self) -> TriangleMesh:
        """Everything added so far as one mesh (an empty mesh when nothing was)."""

        def concatenated(parts: list, width: tuple[int, ...], dtype: type) -> NDArray:
            return np.concatenate(parts) if parts else np.zeros((0, *width), dtype)

        return TriangleMesh(
            concatenated(self._vertices, (3,), np.float32),
            concatenated(self._normals, (3,), np.float32),
            concatenated(self._uv, (2,), np.float32),
            concatenated(self._triangles, (3,), np.int32),
            concatenated(self._materials, (), np.int32),
            concatenated(self._seeds, (), np.int32),
        )
