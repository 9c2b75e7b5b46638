"""A depth model as a depth source: its numbers along the rays of a view's cells, as metres."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.model import DepthModel
from cross_view_loc.depth.relative import anchor_scale
from cross_view_loc.depth.source import Depth
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View


class ModelDepth:
    """Metric depth as it is; relative depth scaled, inverse depth scaled and shifted, by the camera's height."""

    kind = "metric"

    def __init__(self, model: DepthModel) -> None:
        self.model, self.log_scale_std = model, 0.1

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view); 0 where the model has none."""
        found = self.model(image[None], np.array([view.focal_px]))[0]
        u = rays[..., 0] * view.focal_px + view.width / 2 - 0.5  # OpenCV counts pixel centres from integers
        v = rays[..., 1] * view.focal_px + view.height / 2 - 0.5
        flat = (u.reshape(-1, u.shape[-1]).astype(np.float32), v.reshape(-1, v.shape[-1]).astype(np.float32))
        sampled = cv2.remap(found, *flat, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        value = np.asarray(sampled, dtype=np.float64).reshape(u.shape)
        if self.model.measure == "inverse":
            value = _depth_of_inverse(value, geometry.flat_inverse_depth(rays))
        z_m = np.nan_to_num(value / (np.linalg.norm(rays, axis=-1) if self.model.along == "range" else 1.0))
        if self.model.measure != "metric":
            scale, self.log_scale_std = anchor_scale(z_m, rays, geometry)
            z_m = z_m * scale
        return Depth(z_m)


def _depth_of_inverse(value: NDArray[np.float64], flat_inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (value − b) with b from the line value = a · flat_inverse + b of the near ground; 0 where that is nothing."""
    near = (flat_inverse > 1 / 25.0) & np.isfinite(value)
    if near.sum() < 40:
        return np.zeros_like(value)
    slope, shift = np.polyfit(flat_inverse[near], value[near], 1)
    inverse = value - shift
    return np.where((inverse > 0) & (slope > 0), 1.0 / np.where(inverse > 0, inverse, 1.0), 0.0)
