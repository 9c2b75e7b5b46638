"""One aerial image of known ground resolution as a map: for image pairs, the orthophoto of the town, training."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.errors import MapError, MissingInputError, NoImageryError


class ImageMap:
    """A north-up RGB image (H, W, 3); map coordinates are metres about its centre unless told otherwise."""

    def __init__(
        self,
        image: NDArray[np.uint8],
        meters_per_pixel: float,
        center_east_m: float = 0.0,
        center_north_m: float = 0.0,
        name: str = "aerial image",
    ) -> None:
        if not (math.isfinite(meters_per_pixel) and meters_per_pixel > 0):
            raise MapError(f"{name}: metres per pixel is {meters_per_pixel}; give a positive number")
        self.image, self.meters_per_pixel, self.name = image, meters_per_pixel, name
        self.center_east_m, self.center_north_m = center_east_m, center_north_m
        self._opaque = np.full(image.shape[:2], 255, np.uint8)

    @classmethod
    def from_file(cls, path: str | Path, meters_per_pixel: float) -> ImageMap:
        """Read an image file; raises MissingInputError or MapError naming it."""
        if not Path(path).is_file():
            raise MissingInputError(f"there is no aerial image at {path}; check the path")
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise MapError(f"{path} is not an image that can be decoded; convert it to PNG or JPEG")
        return cls(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), meters_per_pixel, name=str(path))  # type: ignore[arg-type]

    def pixel(self, east_m: float, north_m: float) -> NDArray[np.float64]:
        """Map metres → (u, v) in the image, pixel centres at + 0.5."""
        height, width = self.image.shape[:2]
        return np.array(
            [
                width / 2 + (east_m - self.center_east_m) / self.meters_per_pixel,
                height / 2 - (north_m - self.center_north_m) / self.meters_per_pixel,
            ]
        )

    def patch(
        self, center_east_m: float, center_north_m: float, size_px: int, meters_per_pixel: float, rotation_rad: float
    ) -> Patch:
        """Cut a rotated metric patch; raises NoImageryError when it lies wholly outside the image."""
        c, s = math.cos(rotation_rad), math.sin(rotation_rad)
        right, up = np.array([s, -c]) * meters_per_pixel, np.array([c, s]) * meters_per_pixel
        corner = np.array([center_east_m, center_north_m]) + (up - right) * (size_px / 2)
        # patch (u, v) → image, both with centres at + 0.5; OpenCV counts from the centre of the first pixel
        origin = self.pixel(*(corner + 0.5 * right - 0.5 * up)) - 0.5
        column = self.pixel(*(corner + 1.5 * right - 0.5 * up)) - 0.5 - origin
        row = self.pixel(*(corner + 0.5 * right - 1.5 * up)) - 0.5 - origin
        matrix = np.stack([column, row, origin], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        source, opaque = self._reduced(meters_per_pixel, matrix)
        image = cv2.warpAffine(source, matrix, (size_px, size_px), flags=flags)
        valid = cv2.warpAffine(opaque, matrix, (size_px, size_px), flags=flags) > 254
        if not valid.any():
            raise NoImageryError(
                f"{self.name} does not cover ({center_east_m:.0f} E, {center_north_m:.0f} N) m; give a larger image"
            )
        return Patch(
            image,  # type: ignore[arg-type]
            valid,
            center_east_m,
            center_north_m,
            meters_per_pixel,
            rotation_rad,
            meters_per_pixel_source=self.meters_per_pixel,
        )

    def _reduced(
        self, meters_per_pixel: float, matrix: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The image smoothed to the patch's resolution when it is much finer, so that sampling does not alias."""
        ratio = meters_per_pixel / self.meters_per_pixel
        if ratio < 1.5:
            return self.image, self._opaque
        return cv2.GaussianBlur(self.image, (0, 0), 0.4 * ratio), self._opaque  # type: ignore[return-value]
