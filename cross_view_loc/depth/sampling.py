"""Reading a depth image between its pixels without inventing surfaces that are not there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGE_RATIO = 1.25
"""Neighbouring pixels whose depths differ by more than this belong to different surfaces: take the nearest pixel."""

Array = NDArray[np.float64]


def sample_depth_image(depth_m: NDArray[np.floating], pixels: Array, wraps: bool = False) -> Array:
    """Depth (H, W) at pixels (..., 2), centres at + 0.5; `wraps` joins the first and the last column.

    Inverse depth is interpolated bilinearly: on a plane it is linear in a pinhole's pixels, and within 1e-5 so in a
    panorama's. Across an edge, or beside the unknown (0 or not a number), the nearest pixel is taken instead.
    """
    corners, shares, nearest = _neighbours(depth_m, pixels, wraps)
    with np.errstate(invalid="ignore"):
        smooth = (corners.min(0) > 0) & (corners.max(0) < EDGE_RATIO * corners.min(0))
    interpolated = 1.0 / np.sum(shares / np.where(smooth, corners, 1.0), axis=0)
    return np.where(smooth, interpolated, nearest)


def sample_inverse_image(value: NDArray[np.floating], pixels: Array) -> Array:
    """Inverse depth (H, W) up to scale and shift at pixels (..., 2), centres at + 0.5: bilinear.

    What an edge is cannot be told before scale and shift are known; beside a pixel that is not a number the nearest is
    taken.
    """
    corners, shares, nearest = _neighbours(value, pixels, False)
    whole = np.isfinite(corners).all(0)
    return np.where(whole, np.sum(shares * np.where(whole, corners, 0.0), axis=0), nearest)


def _neighbours(image: NDArray[np.floating], pixels: Array, wraps: bool) -> tuple[Array, Array, Array]:
    """The four pixels (4, ...) around each place, their bilinear shares (4, ...), and the nearest one (...)."""
    height, width = image.shape
    u, v = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
    left, top = np.floor(u), np.floor(v)

    def at(column: Array, row: Array) -> Array:
        j = column.astype(np.int64)
        j = j % width if wraps else np.clip(j, 0, width - 1)
        return image[np.clip(row.astype(np.int64), 0, height - 1), j].astype(np.float64)

    corners = np.stack([at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)])
    right_share, bottom_share = u - left, v - top
    shares = np.stack(
        [
            (1 - right_share) * (1 - bottom_share),
            right_share * (1 - bottom_share),
            (1 - right_share) * bottom_share,
            right_share * bottom_share,
        ]
    )
    return corners, shares, at(np.floor(u + 0.5), np.floor(v + 0.5))
