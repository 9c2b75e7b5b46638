"""A fisheye's picture, bent out of a panorama taken at the same place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera

Map = NDArray[np.float32]


@dataclass(frozen=True)
class FisheyeLens:
    """Bends panoramas, whose middle looks along the fisheye's axis, as its lens does."""

    camera: FisheyeCamera

    @property
    def panorama_size(self) -> tuple[int, int]:
        """Width and height of the panorama it wants: no coarser than the fisheye is in its middle."""
        height = 8 * math.ceil(math.pi * self.camera.fx / 8)
        return 2 * height, height

    def bend(
        self, panorama: NDArray[np.uint8], range_m: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The fisheye's image (H, W, 3), black beyond its circle, and range (H, W), 0 in sky and beyond the circle."""
        column, row, seen = _sampling(self.camera, *self.panorama_size)
        image = cv2.remap(panorama, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        # Between two surfaces lies no third one: ranges are not mixed.
        ranges = cv2.remap(range_m, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
        return np.where(seen[..., None], image, 0).astype(np.uint8), np.where(seen, ranges, 0.0).astype(np.float32)


@lru_cache(maxsize=4)
def _sampling(camera: FisheyeCamera, width: int, height: int) -> tuple[Map, Map, NDArray[np.bool_]]:
    v, u = np.meshgrid(np.arange(camera.height) + 0.5, np.arange(camera.width) + 0.5, indexing="ij")
    rays, seen = camera.unproject(np.stack([u, v], axis=-1))
    pixels, _ = EquirectangularCamera(width, height).project(np.where(seen[..., None], rays, (0.0, 0.0, 1.0)))
    # OpenCV counts pixel centres from integers.
    return (pixels[..., 0] - 0.5).astype(np.float32), (pixels[..., 1] - 0.5).astype(np.float32), seen
