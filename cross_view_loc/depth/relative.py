"""Depth known only up to a scale per image, and its metres back from the camera's height above the road."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.source import Depth, DepthSource
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View

SCALE_UNKNOWN_STD = math.log(5.0) / math.sqrt(3.0)
"""Deviation of a log-scale that is uniform between 1/5 and 5."""
GROUND_WITHIN_M = 25.0
"""Flat-ground depth beyond this depends more on pitch than on the camera's height."""
SMALLEST_STD, FEWEST_CELLS = 0.02, 40
_BIN = 0.02


class RelativeDepth:
    """A depth source whose scale is unknown anew in every image, as that of a relative-depth network."""

    log_scale_std = SCALE_UNKNOWN_STD

    def __init__(self, inner: DepthSource, seed: int, scale_range: tuple[float, float] = (0.2, 5.0)) -> None:
        """Multiply the depth of `inner` by a factor drawn log-uniformly from `scale_range`, deterministic by seed.

        Raises ValueError for a range that is not ascending and positive.
        """
        if not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(f"scale_range is {scale_range}; give two positive numbers, the smaller first")
        self.inner, self.kind = inner, inner.kind
        self._rng = np.random.default_rng(seed)
        self._log_range = (math.log(scale_range[0]), math.log(scale_range[1]))

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        found = self.inner(image, view, geometry, rays)
        return found._replace(z_m=found.z_m * math.exp(self._rng.uniform(*self._log_range)))


def anchor_scale(depth: NDArray[np.float64], rays: NDArray[np.float64], geometry: ViewGeometry) -> tuple[float, float]:
    """(factor that makes relative depth metric, deviation of its log) from the camera's known height.

    On the road, flat-ground depth over relative depth is the scale; on what stands upright the ratio is larger, and on
    slopes it drifts. So: the mode of the log-ratio's histogram over cells (...) of `rays` (..., 3) below the horizon,
    weighted towards the near and low ones, then the mean around that mode. Without enough such cells: (1, unknown).
    """
    flat_inverse = geometry.flat_inverse_depth(rays)
    usable = (depth > 0) & np.isfinite(depth) & (flat_inverse > 1.0 / GROUND_WITHIN_M)
    if int(usable.sum()) < FEWEST_CELLS:
        return 1.0, SCALE_UNKNOWN_STD
    # An error of pitch shifts the flat ray's depth in proportion to the depth: near cells hardly feel it.
    weight = np.minimum(flat_inverse[usable], 0.2)
    log_ratio = -np.log(flat_inverse[usable] * depth[usable])
    low = float(log_ratio.min()) - 3 * _BIN
    bins = ((log_ratio - low) / _BIN).astype(int)
    histogram = np.bincount(bins, weight, minlength=int(bins.max()) + 4)
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
    peak = low + (int(np.convolve(histogram, kernel, mode="same").argmax()) + 0.5) * _BIN
    spread = 0.06
    for _ in range(5):
        near = weight * np.clip(1 - ((log_ratio - peak) / spread) ** 2, 0.0, None) ** 2
        if near.sum() <= 0:
            break
        peak = float((near * log_ratio).sum() / near.sum())
    inlying = weight * (np.abs(log_ratio - peak) < spread)
    share = float(inlying.sum() / weight.sum())
    deviation = math.sqrt(float((inlying * (log_ratio - peak) ** 2).sum() / max(inlying.sum(), 1e-9)))
    # The spread is that of cells, not of their mean; but their errors (tilt, slope) go together, so it stands for both.
    return math.exp(peak), max(SMALLEST_STD, deviation / math.sqrt(max(share, 0.05)))


class AnchoredDepth:
    """A relative depth source made metric by the height of the camera above the road, image by image."""

    def __init__(self, inner: DepthSource, log_scale_std: float = 0.05) -> None:
        """`log_scale_std` holds until the first image; after it, the deviation that the last image's ground showed."""
        self.inner, self.kind = inner, inner.kind
        self.log_scale_std = log_scale_std

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        found = self.inner(image, view, geometry, rays)
        scale, self.log_scale_std = anchor_scale(found.z_m, rays, geometry)
        return found._replace(z_m=found.z_m * scale)
