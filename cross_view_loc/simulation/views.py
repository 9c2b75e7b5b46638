"""Cameras the renderer can look through: pinhole, panorama and ortho, as the structures the kernels read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.simulation.kernels_common import ORTHO, PANORAMA, PINHOLE, CameraData
from cross_view_loc.simulation.warp_runtime import wp

ORTHO_PLANE_M = 300.0
"""Height of the plane ortho rays start from; a surface's height in the map is ORTHO_PLANE_M minus its depth."""

NO_PLANE = (0.0, 0.0, 0.0, 1.0e9)  # every point lies far inside


@dataclass(frozen=True)
class View:
    """One camera to render; make it with `pinhole_view`, `panorama_view` or `ortho_view`."""

    width: int
    height: int
    supersample: int
    kind: int
    data: Any
    """CameraData for the image enlarged `supersample` times."""
    first_row: int = 0
    """Row of the whole image at which this band of an ortho view begins."""
    ortho: tuple[float, float, float, float, float] | None = None
    """West edge, north edge, metres per pixel, lean east, lean north."""
    time_s: float = 0.0
    """Moment at which moving traffic is shown."""

    def band(self, first_row: int, last_row: int) -> View:
        """Rows [first_row, last_row) of an ortho view, so that large maps fit in memory."""
        if self.ortho is None:
            raise ValueError("Only ortho views can be cut into bands.")
        west, north, step_m, lean_east, lean_north = self.ortho
        rows = last_row - first_row
        data = _ortho_data(
            west, north - first_row * step_m, self.width, rows, step_m, (lean_east, lean_north), self.supersample
        )
        data.noise_key = self.data.noise_key
        return replace(self, height=rows, data=data, first_row=first_row)


def pinhole_view(
    T_map_camera: ArrayLike,
    width: int,
    height: int,
    focal_px: float,
    velocity_map: ArrayLike | None = None,
    exposure_s: float = 0.0,
    supersample: int = 1,
) -> View:
    """Pinhole with its principal point at (width / 2, height / 2), pixel centres at +0.5.

    `T_map_camera` (4, 4): pose of the optical frame (x right, y down, z forward). `velocity_map` (3,): m/s of the
    camera, for motion blur over `exposure_s`.
    """
    pose = np.asarray(T_map_camera, float)
    rotation, position = pose[:3, :3], pose[:3, 3]
    wide, high, focal = width * supersample, height * supersample, focal_px * supersample
    intrinsics = np.array([[focal, 0.0, wide / 2.0], [0.0, focal, high / 2.0], [0.0, 0.0, 1.0]])
    projection = intrinsics @ np.c_[rotation.T, -rotation.T @ position]
    column, row, depth = projection
    sides = np.stack([column, wide * depth - column, row, high * depth - row])
    data = CameraData()
    data.kind = PINHOLE
    data.noise_key = _noise_key(pose, focal_px)
    data.clip_from_map = wp.mat44(*np.stack([column, row, depth, depth]).ravel())
    data.planes = wp.mat44(*(sides / np.linalg.norm(sides[:, :3], axis=1, keepdims=True)).ravel())
    data.depth_plane = wp.vec4(*depth)
    data.position = wp.vec3(*position)
    data.rotation = wp.mat33(*rotation.ravel())
    data.focal = focal
    data.centre_x = wide / 2.0
    data.centre_y = high / 2.0
    data.pixel_size = 1.0 / focal
    if velocity_map is not None:
        data.velocity = wp.vec3(*(rotation.T @ np.asarray(velocity_map, float)))
        data.exposure_s = exposure_s
    return View(width, height, supersample, PINHOLE, data)


def panorama_view(T_map_camera: ArrayLike, width: int, height: int, supersample: int = 1) -> View:
    """Full equirectangular panorama; the image centre looks along the optical frame's +z, columns run to its +x."""
    pose = np.asarray(T_map_camera, float)
    data = CameraData()
    data.kind = PANORAMA
    data.noise_key = _noise_key(pose, width)
    data.position = wp.vec3(*pose[:3, 3])
    data.rotation = wp.mat33(*pose[:3, :3].ravel())
    data.focal = 1.0
    data.pixel_size = 2.0 * np.pi / (width * supersample)
    return View(width, height, supersample, PANORAMA, data)


def ortho_view(
    center_east_m: float,
    center_north_m: float,
    width: int,
    height: int,
    meters_per_pixel: float,
    lean: tuple[float, float] = (0.0, 0.0),
    supersample: int = 2,
) -> View:
    """North-up orthophoto; its edges lie exactly half the size in metres from the centre.

    Like a real orthophoto it is rectified to the terrain: ground pixels are where they are, whatever the height, and
    what stands on the ground leans by `lean` (east, north) metres per metre of height.
    """
    west = center_east_m - width * meters_per_pixel / 2.0
    north = center_north_m + height * meters_per_pixel / 2.0
    data = _ortho_data(west, north, width, height, meters_per_pixel, lean, supersample)
    data.noise_key = _noise_key(np.array([west, north, meters_per_pixel, *lean]), width)
    return View(
        width, height, supersample, ORTHO, data, ortho=(west, north, meters_per_pixel, float(lean[0]), float(lean[1]))
    )


def _ortho_data(
    west: float, north: float, width: int, height: int, step_m: float, lean: tuple[float, float], supersample: int
) -> CameraData:
    fine_m = step_m / supersample
    east_per_up, north_per_up = lean
    # A point at height h above the terrain is drawn h * lean away from its foot.
    matrix = np.array(
        [
            [1.0 / fine_m, 0.0, east_per_up / fine_m, -west / fine_m],
            [0.0, -1.0 / fine_m, -north_per_up / fine_m, north / fine_m],
            [0.0, 0.0, -1.0, ORTHO_PLANE_M],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    sides = np.stack([matrix[0], -matrix[0], matrix[1], -matrix[1]])
    sides[1, 3] += width * supersample
    sides[3, 3] += height * supersample
    sides /= np.linalg.norm(sides[:, :3], axis=1, keepdims=True)
    # Along a ray that looks down, whoever is higher is displaced by -lean: the ray moves by lean as it sinks.
    direction = np.array([east_per_up, north_per_up, -1.0])
    data = CameraData()
    data.kind = ORTHO
    data.clip_from_map = wp.mat44(*matrix.ravel())
    data.planes = wp.mat44(*sides.ravel())
    data.depth_plane = wp.vec4(*NO_PLANE)
    data.origin = wp.vec3(west - direction[0] * ORTHO_PLANE_M, north - direction[1] * ORTHO_PLANE_M, ORTHO_PLANE_M)
    data.direction = wp.vec3(*direction)
    data.focal = 1.0
    data.step_m = fine_m
    data.pixel_size = fine_m
    return data


def _noise_key(values: NDArray, extra: float) -> int:
    """The sensor noise of a picture follows from where it is taken, not from its place in a batch."""
    return zlib.crc32(np.ascontiguousarray(values, float).tobytes(), int(extra)) & 0x7FFFFFFF
