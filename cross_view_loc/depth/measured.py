"""Depth that a sensor has measured: an image of distances registered to the camera's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.source import Depth
from cross_view_loc.geometry.cameras import Camera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View

LOG_SPREAD = math.log(0.02)
"""Log of the usual relative deviation of stereo and time-of-flight cameras at the distances of a road."""


class MeasuredDepth:
    """Reads the depth of a view's cells off one camera's depth image; unknown where it has none."""

    kind = "metric"
    log_scale_std = 0.01

    def __init__(self, depth_m: NDArray[np.float32], camera: Camera) -> None:
        """`depth_m` (h, w): z-depth along the camera's optical axis, of the whole image at any size; 0 unknown."""
        self._depth_m, self._camera = depth_m, camera

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view): that of the depth image's nearest pixel."""
        in_camera = rays @ view.R_camera_view.T
        pixels, seen = self._camera.project(in_camera)
        height, width = self._depth_m.shape
        scale = np.array([width / self._camera.width, height / self._camera.height])
        place = np.where(seen[..., None], pixels, -1.0) * scale
        inside = seen & (in_camera[..., 2] > 0.0) & np.all((place >= 0.0) & (place < [width, height]), axis=-1)
        column, row = np.moveaxis(np.where(inside[..., None], place, 0.0).astype(int), -1, 0)
        # A ray with z = 1 in the view has another z in a camera that the view is turned against.
        z_m = np.where(inside, self._depth_m[row, column] / np.where(inside, in_camera[..., 2], 1.0), 0.0)
        return Depth(z_m, np.full(z_m.shape, LOG_SPREAD))
