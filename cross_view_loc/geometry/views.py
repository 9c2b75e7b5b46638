"""Virtual pinhole views: whatever the camera is, the networks always see a 320×192 pinhole image of known rays.

One remap does undistortion, rectification and resizing together. A pinhole camera becomes one view with the same axis
and about the same field of view; a fisheye or a panorama becomes several views side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera

VIEW_WIDTH_PX = 320
VIEW_HEIGHT_PX = 192
WIDEST_VIEW_RAD = math.radians(100.0)
"""A pinhole image much wider than this wastes its pixels on the rim."""


@dataclass(frozen=True)
class View:
    """A virtual pinhole camera inside a real one; pixel centres at + 0.5, principal point in the middle."""

    focal_px: float
    yaw_rad: float = 0.0
    """Turn about the real camera's y axis (down): positive looks to the right."""
    width: int = VIEW_WIDTH_PX
    height: int = VIEW_HEIGHT_PX

    @property
    def R_camera_view(self) -> NDArray[np.float64]:
        """(3, 3) rotation taking view coordinates to camera coordinates (both optical)."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def rays(self, stride_rows: int = 1, stride_columns: int = 1) -> NDArray[np.float64]:
        """(H/sr, W/sc, 3) rays with z = 1 in the view frame, through the centres of cells of the given strides."""
        rows = (np.arange(self.height // stride_rows) + 0.5) * stride_rows
        columns = (np.arange(self.width // stride_columns) + 0.5) * stride_columns
        v, u = np.meshgrid(rows, columns, indexing="ij")
        return np.stack(
            [(u - self.width / 2) / self.focal_px, (v - self.height / 2) / self.focal_px, np.ones_like(u)], axis=-1
        )

    def sample(self, image: NDArray[np.uint8], camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Resample a camera image (H, W, 3) into this view.

        Returns the view's image (height, width, 3) and which of its pixels the camera really saw.
        """
        map_x, map_y, valid, reduction = _sampling_map(self, camera)
        if reduction > 1:  # area average first: a plain bilinear sample would alias lane markings away
            size = (round(image.shape[1] / reduction), round(image.shape[0] / reduction))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        sampled = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return sampled, valid  # type: ignore[return-value]

    def camera_pixels(self, pixels: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
        """View pixels (..., 2) → pixels of the real camera (..., 2)."""
        rays = np.concatenate(
            [(pixels - [self.width / 2, self.height / 2]) / self.focal_px, np.ones_like(pixels[..., :1])], axis=-1
        )
        return camera.project(rays @ self.R_camera_view.T)[0]


def plan_views(camera: Camera) -> tuple[View, ...]:
    """The views that cover a camera's horizontal field of view, from left to right."""
    left_rad, right_rad = horizontal_field_rad(camera)
    field_rad = right_rad - left_rad
    count = 1 if field_rad <= WIDEST_VIEW_RAD else math.ceil(field_rad / math.radians(90.0))
    each_rad = field_rad / count
    focal_px = VIEW_WIDTH_PX / 2 / math.tan(each_rad / 2)
    # A rounded turn keeps a camera whose axis is in the middle exactly in the middle.
    return tuple(View(focal_px, round(left_rad + (index + 0.5) * each_rad, 6)) for index in range(count))


def horizontal_field_rad(camera: Camera) -> tuple[float, float]:
    """Azimuths, positive to the right of the optical axis, of the outermost rays of the camera's middle row.

    Raises InputError when that row sees nothing.
    """
    middle = camera.height / 2
    edge = 1e-6 * camera.width  # a panorama's outer edges are the same ray: stay just inside
    rays, valid = camera.unproject(np.array([[edge, middle], [camera.width - edge, middle]]))
    if not valid.all():  # a fisheye whose corners see nothing: go inwards to the outermost ray that exists
        columns = np.stack([np.arange(camera.width) + 0.5, np.full(camera.width, middle)], axis=-1)
        rays, valid = camera.unproject(columns)
        if valid.sum() < 2:
            raise InputError("the middle row of the camera's image sees nothing by its calibration; calibrate it again")
        rays = rays[valid][[0, -1]]
    azimuths = np.arctan2(rays[:, 0], rays[:, 2])
    return float(azimuths[0]), float(azimuths[1])


@lru_cache(maxsize=64)
def _sampling_map(
    view: View, camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], int]:
    rays = view.rays() @ view.R_camera_view.T
    pixels, seen = camera.project(rays)
    inside = (pixels[..., 0] >= 0) & (pixels[..., 0] <= camera.width) & (pixels[..., 1] >= 0)
    valid = seen & inside & (pixels[..., 1] <= camera.height)
    step = np.abs(np.diff(pixels[view.height // 2, :, 0]))
    reduction = max(1, int(np.floor(np.median(step) + 1e-6)))
    # sizes are rounded when an image does not divide evenly: scale by what the reduced image really measures
    scale_x = round(camera.width / reduction) / camera.width
    scale_y = round(camera.height / reduction) / camera.height
    pixels = np.where(np.isfinite(pixels), pixels, -1e6)
    map_x = (pixels[..., 0] * scale_x - 0.5).astype(np.float32)  # OpenCV counts pixel centres from integers
    map_y = (pixels[..., 1] * scale_y - 0.5).astype(np.float32)
    return map_x, map_y, valid, reduction
