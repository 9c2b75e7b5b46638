"""The two numeric tools of the map: interpolating a smooth coordinate conversion, and an image at given positions."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def on_lattice(convert: Callable[[Array, Array], tuple[Array, Array]], a: Array, b: Array, step_px: int) -> list[Array]:
    """Both results of `convert(a, b)` for (H, W) arrays that vary smoothly, computed at every `step_px`-th pixel.

    Between lattice points the result is bilinear. Over cells of L metres a map projection bends by about
    L² / (8 · Earth radius): 20 µm for 32 m, so nothing is lost where exact conversion of each pixel would be slow.
    """
    rows, row_weights = _nodes(a.shape[0], step_px)
    columns, column_weights = _nodes(a.shape[1], step_px)
    nodes = np.ix_(rows, columns)
    return [row_weights @ values @ column_weights.T for values in convert(a[nodes], b[nodes])]


def _nodes(count: int, step: int) -> tuple[NDArray[np.intp], Array]:
    """Indices of the lattice along an axis, and (count, nodes) weights of linear interpolation between them."""
    nodes = np.unique(np.append(np.arange(0, count, step), count - 1))
    index = np.arange(count)
    right = np.clip(np.searchsorted(nodes, index), min(1, len(nodes) - 1), len(nodes) - 1)
    left = np.maximum(right - 1, 0)
    fraction = np.where(right > left, (index - nodes[left]) / np.maximum(nodes[right] - nodes[left], 1), 0.0)
    weights = np.zeros((count, len(nodes)))
    weights[index, left] = 1.0 - fraction
    weights[index, right] += fraction
    return nodes, weights


def bilinear(
    image: NDArray[np.uint8], valid: NDArray[np.bool_], x: Array, y: Array
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image (h, w, 3) at columns x and rows y (H, W), pixel centres at + 0.5.

    A result is valid inside the image and where every pixel that contributes is; it is zero elsewhere.
    """
    # OpenCV counts pixel centres as integers.
    map_x, map_y = (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32)
    remapped = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.remap(valid.astype(np.uint8) * 255, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sampled: NDArray[np.uint8] = np.asarray(remapped, dtype=np.uint8)
    inside = (x >= 0.0) & (x <= image.shape[1]) & (y >= 0.0) & (y <= image.shape[0])
    ok = inside & (weight >= 254)
    sampled[~ok] = 0
    return sampled, ok


def reduce(
    image: NDArray[np.uint8], valid: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Mean over blocks of `factor` × `factor` pixels (sides must be multiples), valid where the whole block is."""
    if factor <= 1:
        return image, valid
    size = (image.shape[1] // factor, image.shape[0] // factor)
    weight = cv2.resize(valid.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), np.asarray(weight == 255)
