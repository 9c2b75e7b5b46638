"""Moving cars in a scene whose other geometry is uploaded once: their triangles come first and get new vertices per
moment.

Every moment has its own vertex, normal and cluster arrays (a copy on the device and a few thousand vertices from the
host), so that pictures of different moments can be rendered at the same time. Ray casting knows the scene at rest,
where these cars lie far below the town; they are found in a small structure of their own. Moving cars cast no shadow
into the scene's shadow map; a dark quad under each stands for the contact shadow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.fleet import model_mesh
from cross_view_loc.simulation.kernels_common import SceneData
from cross_view_loc.simulation.mesh import TriangleMesh
from cross_view_loc.simulation.traffic import HIDDEN_UP_M, Traffic
from cross_view_loc.simulation.warp_runtime import wp

_FIELDS = tuple(SceneData.__annotations__)


class MovingLayer:
    """The traffic's triangles, a whole number of clusters for each car."""

    def __init__(self, traffic: Traffic, cluster_size: int, device: str) -> None:
        self._traffic, self._device, self._cluster_size = traffic, device, cluster_size
        meshes = [model_mesh(int(model)) for model in traffic.models]
        self._triangles, self.mesh = _resting(meshes, traffic.seeds, cluster_size)
        self._faces: Any = wp.array(self._triangles.ravel(), dtype=int, device=device)

    def at(self, data: Any, time_s: float, with_bvh: bool) -> tuple[Any, Any]:
        """Scene data for one moment, and the ray-casting structure of the moving cars (a `wp.Mesh`, or None)."""
        vertices, normals = self._traffic.vertices(time_s)
        moment = SceneData()
        for name in _FIELDS:
            setattr(moment, name, getattr(data, name))
        if not len(vertices):
            return moment, None
        spheres = cluster_spheres(vertices, self._triangles, self._cluster_size)
        for name, values, dtype in (
            ("vertices", vertices, wp.vec3),
            ("normals", normals, wp.vec3),
            ("clusters", spheres, wp.vec4),
        ):
            array = wp.clone(getattr(data, name))
            wp.copy(array, wp.array(values, dtype=dtype, device=self._device), count=len(values))
            setattr(moment, name, array)
        if not with_bvh:
            return moment, None
        points: Any = wp.array(vertices, dtype=wp.vec3, device=self._device)
        return moment, wp.Mesh(points, self._faces)


def cluster_spheres(vertices: NDArray, triangles: NDArray, cluster_size: int) -> NDArray[np.float32]:
    """(clusters, 4): centre and radius of a sphere about each run of cluster_size triangles."""
    count = -(-len(triangles) // cluster_size)
    members = np.minimum(np.arange(count * cluster_size), len(triangles) - 1)
    points = vertices[triangles[members]].reshape(count, cluster_size * 3, 3)
    centres = (points.min(axis=1) + points.max(axis=1)) / 2.0
    radii = np.linalg.norm(points - centres[:, None], axis=2).max(axis=1)
    return np.concatenate([centres, radii[:, None] * 1.0001], axis=1).astype(np.float32)


def _resting(
    meshes: list[TriangleMesh], seeds: NDArray[np.int64], cluster_size: int
) -> tuple[NDArray[np.int32], TriangleMesh]:
    """Triangles of all cars, and their mesh at rest below the town; padded by degenerate triangles."""
    vertices, normals, uv, triangles, materials, colours = [], [], [], [], [], []
    first = 0
    for mesh, seed in zip(meshes, seeds, strict=True):
        count = -(-len(mesh.triangles) // cluster_size) * cluster_size
        padded = np.zeros((count, 3), dtype=np.int32)
        padded[: len(mesh.triangles)] = mesh.triangles
        vertices.append(mesh.vertices + np.array([0.0, 0.0, HIDDEN_UP_M], dtype=np.float32))
        normals.append(mesh.normals)
        uv.append(mesh.uv)
        triangles.append(padded + np.int32(first))
        materials.append(np.full(count, mesh.materials[0], dtype=np.int32))
        colours.append(np.full(count, seed, dtype=np.int32))
        first += len(mesh.vertices)

    def joined(parts: list, width: tuple[int, ...], dtype: type) -> NDArray:
        return np.concatenate(parts) if parts else np.zeros((0, *width), dtype)

    faces = joined(triangles, (3,), np.int32)
    return faces, TriangleMesh(
        joined(vertices, (3,), np.float32),
        joined(normals, (3,), np.float32),
        joined(uv, (2,), np.float32),
        faces,
        joined(materials, (), np.int32),
        joined(colours, (), np.int32),
    )
