"""A town under one appearance, uploaded to a device: geometry in clusters, baked ground, shadow map, BVH on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation import noise
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.fleet import parked_fleet
from cross_view_loc.simulation.kernels_common import MISS, SUN, CameraData, SceneData
from cross_view_loc.simulation.kernels_ground import bake_ground
from cross_view_loc.simulation.kernels_visibility import rasterise
from cross_view_loc.simulation.lighting import ground_palette, make_look, sun_direction
from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.mesh import TriangleMesh
from cross_view_loc.simulation.moving_layer import MovingLayer, cluster_spheres
from cross_view_loc.simulation.warp_runtime import wp

if TYPE_CHECKING:
    from cross_view_loc.simulation.town import Town
    from cross_view_loc.simulation.traffic import Traffic

CLUSTER_SIZE = 64
SHADOW_RESOLUTION_M = 0.2
SHADOW_MAX_SIZE = 4096


class Scene:
    """Device arrays of one (town, appearance, cars); `data` is what kernels take."""

    def __init__(
        self,
        town: Town,
        appearance: Appearance,
        device: str,
        keep_clear: Any = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.device = device
        mesh = _spatially_sorted(town.mesh.joined(_standing_cars(town, appearance, keep_clear)), town.size_m)
        self._moving = None if traffic is None else MovingLayer(traffic, CLUSTER_SIZE, device)
        self.data = SceneData()
        self.look = make_look(appearance, town.palette)
        self._bvh: Any = None
        self._bvh_lock = threading.Lock()
        self._upload_mesh(town, mesh if self._moving is None else self._moving.mesh.joined(mesh))
        self.data.coarse_noise = self._array(noise.coarse_table(), float)
        self.data.fine_noise = self._array(noise.fine_table(), float)
        self.data.bareness = appearance.bareness
        self._bake_ground(town, appearance)
        self._cast_shadows(mesh, sun_direction(appearance))

    @property
    def cluster_count(self) -> int:
        """Number of triangle clusters, the width of a raster launch."""
        return int(self.data.clusters.shape[0])

    @property
    def has_traffic(self) -> bool:
        """Whether pictures of different moments differ."""
        return self._moving is not None

    def at(self, time_s: float, with_bvh: bool) -> tuple[Any, Any]:
        """Scene data of a moment, and the ray-casting structure of what moves (None where nothing does)."""
        return (self.data, None) if self._moving is None else self._moving.at(self.data, time_s, with_bvh)

    def ensure_bvh(self) -> None:
        """Build the ray-casting structure if no picture has needed it yet."""
        with self._bvh_lock:
            if self._bvh is None:
                constructor = "lbvh" if self.device.startswith("cuda") else "sah"
                self._bvh = wp.Mesh(self.data.vertices, self.data.triangles, bvh_constructor=constructor)
                self.data.bvh = self._bvh.id

    def _array(self, values: NDArray, dtype: Any) -> Any:
        return wp.array(np.ascontiguousarray(values), dtype=dtype, device=self.device)

    def _upload_mesh(self, town: Town, mesh: TriangleMesh) -> None:
        flat = mesh.vertices.copy()
        flat[:, 2] -= town.height(mesh.vertices[:, 0], mesh.vertices[:, 1])
        data = self.data
        data.vertices = self._array(mesh.vertices, wp.vec3)
        data.flat_vertices = self._array(flat, wp.vec3)
        data.normals = self._array(mesh.normals, wp.vec3)
        data.uv = self._array(mesh.uv, wp.vec2)
        data.triangles = self._array(mesh.triangles.ravel(), int)
        data.materials = self._array(mesh.materials, int)
        data.seeds = self._array(mesh.seeds, int)
        data.clusters = self._array(cluster_spheres(mesh.vertices, mesh.triangles, CLUSTER_SIZE), wp.vec4)
        data.flat_clusters = self._array(cluster_spheres(flat, mesh.triangles, CLUSTER_SIZE), wp.vec4)
        data.triangle_count = len(mesh.triangles)
        data.cluster_size = CLUSTER_SIZE

    def _bake_ground(self, town: Town, appearance: Appearance) -> None:
        size = town.ground_material.shape[0]
        occlusion, canopy = _ground_surroundings(town)
        dark, light = ground_palette(appearance, town.palette)
        bare = wp.zeros((size, size, 4), dtype=wp.uint8, device=self.device)
        painted = wp.zeros((size, size, 3), dtype=wp.uint8, device=self.device)
        data = self.data
        data.texel_m = town.ground_resolution_m
        data.half_size_m = town.size_m / 2.0
        data.ground_kind = self._array(town.ground_material, wp.uint8)
        layers = (town.markings, town.wear, occlusion, canopy)
        wp.launch(
            bake_ground,
            dim=(size, size),
            inputs=[
                data.ground_kind,
                *(self._array(layer, wp.uint8) for layer in layers),
                self._array(town.tint, wp.uint8),
                data.coarse_noise,
                self._array(dark, wp.vec3),
                self._array(light, wp.vec3),
                data.texel_m,
                self.look,
                bare,
                painted,
            ],
            device=self.device,
        )
        # A light blur hides the texel staircase of material borders; paint keeps its own coverage and needs none.
        finest = bare.numpy()
        finest[..., :3] = cv2.GaussianBlur(finest[..., :3], (0, 0), 0.6)
        data.ground0 = self._array(finest, wp.uint8)
        level = cv2.GaussianBlur(painted.numpy(), (0, 0), 0.6)
        for name in ("ground1", "ground2", "ground3", "ground4"):
            level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            setattr(data, name, self._array(level, wp.uint8))

    def _cast_shadows(self, mesh: TriangleMesh, sun: NDArray) -> None:
        """Depth of the first surface along the sun's rays over a square that covers the town."""
        forward = -sun
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(right, forward), forward])
        placed = mesh.vertices @ axes.T
        low, extent = placed.min(0), np.ptp(placed[:, :2], axis=0).max()
        step_m = max(SHADOW_RESOLUTION_M, extent / (SHADOW_MAX_SIZE - 4))
        size = int(extent / step_m) + 4
        matrix = np.eye(4)
        matrix[:2, :3] = axes[:2] / step_m
        matrix[:2, 3] = 1.0 - low[:2] / step_m
        matrix[2, :3] = forward
        matrix[2, 3] = 1.0 - low[2]
        camera = CameraData()
        camera.kind = SUN
        camera.direction = wp.vec3(*forward)
        camera.clip_from_map = wp.mat44(*matrix.ravel())
        camera.planes = wp.mat44(*np.tile([0.0, 0.0, 0.0, 1.0e9], 4))
        camera.depth_plane = wp.vec4(0.0, 0.0, 0.0, 1.0e9)
        self.data.shadow_from_map = camera.clip_from_map
        self.data.shadow_size = size
        keys = wp.full((1, size, size), MISS, dtype=wp.int64, device=self.device)
        cameras: Any = wp.array([camera], dtype=CameraData, device=self.device)
        wp.launch(
            rasterise,
            dim=(1, self.cluster_count),
            inputs=[self.data, cameras, size, size, 0.5, keys],
            device=self.device,
        )
        self.data.shadow = keys.reshape((size, size))


def _standing_cars(town: Town, appearance: Appearance, keep_clear: Any) -> TriangleMesh:
    if not appearance.varied_cars:
        return town.cars(appearance.cars_seed, appearance.occupancy, keep_clear)
    rng = np.random.default_rng([town.seed, 12, appearance.cars_seed])
    spots = town._parking_spots[rng.random(len(town._parking_spots)) < appearance.occupancy]
    return parked_fleet(spots, town.terrain, town.size_m, keep_clear, rng)


def _spatially_sorted(mesh: TriangleMesh, size_m: float) -> TriangleMesh:
    """Triangles in Morton order of their centres, so that runs of them are compact."""
    centres = mesh.vertices[mesh.triangles][..., :2].mean(axis=1)
    cells = np.clip((centres / size_m + 0.5) * 1023, 0, 1023).astype(np.int64)

    def spread(bits: NDArray) -> NDArray:
        for shift, mask in ((8, 0xFF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
            bits = (bits | bits << shift) & mask
        return bits

    order = np.argsort(spread(cells[:, 0]) | spread(cells[:, 1]) << 1, kind="stable")
    return TriangleMesh(
        mesh.vertices, mesh.normals, mesh.uv, mesh.triangles[order], mesh.materials[order], mesh.seeds[order]
    )


def _ground_surroundings(town: Town) -> tuple[NDArray, NDArray]:
    """How open the sky is above each ground texel (darker beside walls), and how much crown is over it; both uint8."""
    size = town.ground_material.shape[0]
    quarter = size // 4
    away_from_walls = np.full((quarter, quarter), 255, np.uint8)
    walls = town.mesh.triangles[town.mesh.materials == int(SurfaceMaterial.WALL)]
    corners = town.ground_pixel(town.mesh.vertices[walls][..., :2].reshape(-1, 2)).reshape(-1, 3, 2) / 4.0
    cv2.polylines(away_from_walls, list(np.round(corners).astype(np.int32)), True, 0, 1)
    texel_m = town.ground_resolution_m * 4.0
    distance_m = cv2.distanceTransform(away_from_walls, cv2.DIST_L2, 5) * texel_m
    openness = np.clip(distance_m / 2.5, 0.0, 1.0) * 0.5 + 0.5
    crowns = np.zeros_like(away_from_walls)
    trees = np.asarray(town.trees).reshape(-1, 4)
    for (column, row), radius_m in zip(town.ground_pixel(trees[:, :2]) / 4.0, trees[:, 2], strict=True):
        cv2.circle(crowns, (int(column), int(row)), int(radius_m / texel_m), 255, -1)
    crowns = cv2.GaussianBlur(crowns, (0, 0), 2)
    openness *= 1.0 - 0.4 * crowns / 255.0
    return (
        cv2.resize((openness * 255).astype(np.uint8), (size, size)),
        cv2.resize(crowns, (size, size)),
    )
