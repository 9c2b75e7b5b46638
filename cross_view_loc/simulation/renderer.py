"""Pictures and depth of a town: visibility (raster or ray cast), shading, camera; one code path on CPU and CUDA."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.simulation import (
    kernels_lamps,
    kernels_moving,
    kernels_sensor,
    kernels_shade,
    kernels_visibility,
    noise,
)
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.kernels_common import MISS, ORTHO, PINHOLE, CameraData
from cross_view_loc.simulation.lamps import Lamps
from cross_view_loc.simulation.lighting import make_sensor
from cross_view_loc.simulation.scene import Scene
from cross_view_loc.simulation.views import View, ortho_view, panorama_view, pinhole_view
from cross_view_loc.simulation.warp_runtime import wp

if TYPE_CHECKING:
    from cross_view_loc.simulation.town import Town
    from cross_view_loc.simulation.traffic import Traffic

NEAR_M = 0.15
CHUNK_SAMPLES = {"cpu": 1 << 20, "cuda": 1 << 24}  # 27 bytes of buffers a sample


class Renderer:
    """Renders one town under one appearance, with the cars that the appearance parks in it.

    The same inputs give the same bytes on one device, whatever `threads` (CPU only; 0 means all cores, at most 8) and
    whatever else is in the batch.
    """

    def __init__(
        self,
        town: Town,
        appearance: Appearance,
        device: str = "cpu",
        keep_clear: Any = None,
        threads: int = 0,
        traffic: Traffic | None = None,
    ) -> None:
        """`keep_clear`: shapely geometry in map metres where no car may stand (the path of the drive).

        `traffic`: cars that move; each picture shows them where they are at its view's `time_s`.
        """
        self.town = town
        self.appearance = appearance
        self.device = str(wp.get_device(device))
        self._on_cuda = self.device.startswith("cuda")
        self._threads = 1 if self._on_cuda else threads or min(8, os.cpu_count() or 1)
        for module in (kernels_visibility, kernels_moving, kernels_shade, kernels_lamps, kernels_sensor):
            wp.load_module(module, device=self.device)  # before any threads: compiling is not for two at once
        self._scene = Scene(town, appearance, self.device, keep_clear, traffic)
        look = self._scene.look
        for light in ("zenith", "horizon", "fog_colour"):
            setattr(look, light, getattr(look, light) * appearance.sky)
        is_lit = appearance.lamp_strength > 0.0
        self._lamps = Lamps(town, traffic, appearance.lamp_strength) if is_lit else None
        self._sensor = make_sensor(appearance)
        self._gaussian: Any = wp.array(noise.gaussian_table(), dtype=float, device=self.device)

    def pinhole(
        self,
        T_map_camera: ArrayLike,
        width: int,
        height: int,
        focal_px: float,
        velocity: ArrayLike | None = None,
        supersample: int = 1,
        time_s: float = 0.0,
    ) -> View:
        """See `views.pinhole_view`; `velocity` (3,) m/s in the map frame blurs with the appearance's exposure time.

        `time_s` is the moment at which moving traffic is shown.
        """
        view = pinhole_view(
            T_map_camera, width, height, focal_px, velocity, self.appearance.exposure_s, supersample=supersample
        )
        return replace(view, time_s=time_s)

    def panorama(
        self, T_map_camera: ArrayLike, width: int, height: int, supersample: int = 1, time_s: float = 0.0
    ) -> View:
        """See `views.panorama_view`; `time_s` is the moment at which moving traffic is shown."""
        return replace(panorama_view(T_map_camera, width, height, supersample), time_s=time_s)

    def ortho(
        self,
        center_east: float,
        center_north: float,
        width: int,
        height: int,
        meters_per_pixel: float,
        lean: tuple[float, float] = (0.0, 0.0),
        supersample: int = 2,
    ) -> View:
        """See `views.ortho_view`."""
        return ortho_view(center_east, center_north, width, height, meters_per_pixel, lean, supersample)

    def render(self, views: Sequence[View], method: str = "auto") -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Render views of one size: rgb (n, H, W, 3) uint8 and depth (n, H, W) float32 in metres.

        Depth is z in the optical frame (pinhole), range (panorama) or the distance below `views.ORTHO_PLANE_M` (ortho);
        0 where there is only sky, or for an ortho view nothing at all (such pixels are black).
        `method`: "raster", "raycast" or "auto"; it matters for pinholes only, the others have one way.
        Raises InputError when the views differ in size.
        """
        if not views:
            raise InputError("Nothing to render: the list of cameras is empty; pass at least one.")
        sizes = sorted({(view.width, view.height) for view in views})
        if len(sizes) > 1:
            raise InputError(f"Cameras of one batch must have one size, got {sizes}; render each size on its own.")
        width, height = sizes[0]
        rgb = np.empty((len(views), height, width, 3), np.uint8)
        depth = np.empty((len(views), height, width), np.float32)
        jobs = self._chunks(views, method)
        if any(raycast for _, raycast, _, _ in jobs):
            self._scene.ensure_bvh()

        def run(job: tuple[list[View], bool, list[int], slice]) -> None:
            members, raycast, indices, rows = job
            part_rgb, part_depth = self._render_chunk(members, raycast)
            rgb[indices, rows] = part_rgb
            depth[indices, rows] = part_depth

        if self._threads > 1 and len(jobs) > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(run, jobs))
        else:
            for job in jobs:
                run(job)
        return rgb, depth

    def _chunks(self, views: Sequence[View], method: str) -> list[tuple[list[View], bool, list[int], slice]]:
        """Pieces of work of bounded memory: (views, whether to cast rays, their indices, rows of the image)."""
        limit = CHUNK_SAMPLES["cuda" if self._on_cuda else "cpu"]
        groups: dict[tuple[bool, int, float], list[int]] = {}
        jobs: list[tuple[list[View], bool, list[int], slice]] = []
        for index, view in enumerate(views):
            row_samples = view.width * view.supersample**2
            if view.kind == ORTHO:
                rows = max(1, 4 * limit // row_samples)
                for first in range(0, view.height, rows):
                    last = min(view.height, first + rows)
                    jobs.append(([view.band(first, last)], False, [index], slice(first, last)))
                continue
            raycast = view.kind != PINHOLE or method == "raycast" or (method == "auto" and self._on_cuda)
            moment_s = view.time_s if self._scene.has_traffic else 0.0
            groups.setdefault((raycast, view.supersample, moment_s), []).append(index)
        for (raycast, supersample, _), indices in groups.items():
            samples = views[0].width * views[0].height * supersample**2
            size = max(1, min(limit // samples, -(-len(indices) // self._threads)))
            for start in range(0, len(indices), size):
                members = indices[start : start + size]
                jobs.append(([views[i] for i in members], raycast, members, slice(None)))
        return jobs

    def _render_chunk(self, views: list[View], raycast: bool) -> tuple[NDArray, NDArray]:
        """Views of one size, moment, method and supersampling -> rgb, depth."""
        device, count = self.device, len(views)
        data, moving = self._scene.at(views[0].time_s, raycast)
        width, height, supersample = views[0].width, views[0].height, views[0].supersample
        wide, high = width * supersample, height * supersample
        cameras: Any = wp.array([view.data for view in views], dtype=CameraData, device=device)
        radiance = wp.empty((count, high, wide), dtype=wp.vec3, device=device)
        fine_depth = wp.empty((count, high, wide), dtype=float, device=device)
        rgb = wp.empty((count, height, width, 3), dtype=wp.uint8, device=device)
        depth = wp.empty((count, height, width), dtype=float, device=device)
        if raycast:
            keys = wp.empty((count, high, wide), dtype=wp.int64, device=device)
            inputs = [data, cameras, wide, high, keys]
            wp.launch(kernels_visibility.cast_rays, dim=(count, high, wide), inputs=inputs, device=device)
            if moving is not None:
                inputs = [moving.id, cameras, wide, high, keys]
                wp.launch(kernels_moving.cast_moving, dim=(count, high, wide), inputs=inputs, device=device)
        else:
            keys = wp.full((count, high, wide), MISS, dtype=wp.int64, device=device)
            inputs = [data, cameras, wide, high, NEAR_M, keys]
            clusters = self._scene.cluster_count
            wp.launch(kernels_visibility.rasterise, dim=(count, clusters), inputs=inputs, device=device)
        inputs = [data, self._scene.look, cameras, wide, high, keys, radiance, fine_depth]
        wp.launch(kernels_shade.shade, dim=(count, high, wide), inputs=inputs, device=device)
        if self._lamps is not None and views[0].kind != ORTHO:
            positions, colours, cast = self._lamps.near([np.array(v.data.position) for v in views], views[0].time_s)
            lights: list[Any] = [
                wp.array(positions, dtype=wp.vec3, device=device),
                wp.array(colours, dtype=wp.vec3, device=device),
                wp.array(cast, dtype=float, device=device),
            ]
            inputs = [self._scene.look, cameras, *lights, wide, high, fine_depth, radiance]
            wp.launch(kernels_lamps.shine, dim=(count, high, wide), inputs=inputs, device=device)
        inputs = [
            cameras,
            self._sensor,
            self._gaussian,
            supersample,
            views[0].first_row,
            radiance,
            fine_depth,
            rgb,
            depth,
        ]
        wp.launch(kernels_sensor.expose, dim=(count, height, width), inputs=inputs, device=device)
        return rgb.numpy(), depth.numpy()
