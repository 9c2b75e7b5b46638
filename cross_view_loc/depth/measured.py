"""Depth that a sensor has measured, or a network before: an image of distances registered to the camera's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.footprint import depth_in_cells
from cross_view_loc.depth.model import Along
from cross_view_loc.depth.source import Depth
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, StripCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame

LOG_SPREAD = math.log(0.02)
"""Log of the usual relative deviation of stereo and time-of-flight cameras at the distances of a road."""


class MeasuredDepth:
    """Reads the depth of a view's cells off one camera's depth image; unknown where it has none."""

    kind = "metric"
    log_scale_std = 0.01

    def __init__(
        self,
        depth_m: NDArray[np.float32],
        camera: Camera,
        *,
        along: Along = "z",
        log_spread: NDArray[np.float32] | float | None = LOG_SPREAD,
        interpolates: bool = False,
    ) -> None:
        """`depth_m` (h, w): of the whole image at any size, along the camera's axis or its rays; 0 unknown.

        `log_spread`: of the relative deviation, for all pixels or (h, w) for each. `interpolates`: between
        pixels, as networks' output is interpolated. What a sensor measured is not: it may be sparse, and a cell
        takes it from the pixels in its footprint.
        """
        self._depth_m, self._camera, self._along, self._log_spread = depth_m, camera, along, log_spread
        self._interpolates = interpolates

    @classmethod
    def of(cls, frame: Frame) -> MeasuredDepth:
        """The depth image of a frame that has one. That of a panorama, which has no axis, is along its rays.

        Raises ValueError for a frame that has none.
        """
        if frame.depth_m is None:
            raise ValueError(f"{frame.name} has no depth image")
        has_axis = not isinstance(frame.camera, EquirectangularCamera | StripCamera)
        return cls(frame.depth_m, frame.camera, along="z" if has_axis else "range")

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view); 0 where there is none."""
        in_camera = rays @ view.R_camera_view.T
        pixels, seen = self._camera.project(in_camera)
        height, width = self._depth_m.shape
        scale = np.array([width / self._camera.width, height / self._camera.height])
        place = np.where(seen[..., None], pixels, -1.0) * scale
        # A ray with z = 1 in the view has another z in a camera that the view is turned against.
        length = in_camera[..., 2] if self._along == "z" else np.linalg.norm(in_camera, axis=-1)
        inside = seen & (length > 0.0) & np.all((place >= 0.0) & (place < [width, height]), axis=-1)
        at = np.where(inside[..., None], place, 0.5)
        z_m = np.where(inside, self._values(self._depth_m, at) / np.where(inside, length, 1.0), 0.0)
        if not self._interpolates:
            in_cells_m = depth_in_cells(self._depth_m, self._camera, self._along, view, geometry, rays)
            # A pixel that is larger than a cell may have its centre in another one.
            z_m = np.where(in_cells_m > 0.0, in_cells_m, z_m)
        if self._log_spread is None:
            return Depth(z_m)
        if isinstance(self._log_spread, float):
            return Depth(z_m, np.full(z_m.shape, self._log_spread))
        return Depth(z_m, np.log(self._values(np.exp(self._log_spread), at)))

    def _values(self, image: NDArray[np.float32], place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (...) of an image (h, w) at places (..., 2): the nearest pixel's, or the mean of four in the log.

        Beside a pixel without a value, the nearest pixel counts.
        """
        height, width = image.shape
        if not self._interpolates:
            column, row = np.moveaxis(place.astype(int), -1, 0)
            return image[row, column].astype(np.float64)
        wraps = isinstance(self._camera, EquirectangularCamera | StripCamera)
        corner = np.floor(place - 0.5).astype(int)
        right, down = np.moveaxis(place - 0.5 - corner, -1, 0)
        columns = [corner[..., 0] + step for step in (0, 1)]
        columns = [column % width if wraps else np.clip(column, 0, width - 1) for column in columns]
        rows = [np.clip(corner[..., 1] + step, 0, height - 1) for step in (0, 1)]
        around = np.stack([image[row, column].astype(np.float64) for row in rows for column in columns])
        weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
        mean = np.exp(np.sum(weights * np.log(np.maximum(around, 1e-9)), axis=0))
        nearest = np.take_along_axis(around, weights.argmax(axis=0)[None], axis=0)[0]
        return np.where(around.min(axis=0) > 0.0, mean, nearest)
