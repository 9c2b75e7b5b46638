"""Measured depth where there is any, estimated depth where there is none: sparse LiDAR, a sensor's short range."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.measured import LOG_SPREAD, MeasuredDepth
from cross_view_loc.depth.source import Depth, DepthSource
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame

FEWEST_ANCHORS = 30
"""Cells both measured and estimated below which the estimate's metres stay its own."""


def depth_of(frame: Frame, estimate: DepthSource) -> DepthSource:
    """The depth source for a frame: `estimate`, under what the frame's depth image has measured if it has one."""
    return estimate if frame.depth_m is None else FilledDepth(MeasuredDepth.of(frame), estimate)


class FilledDepth:
    """One frame's measured depth; what it leaves unknown is `estimate`'s, at the scale of what was measured."""

    def __init__(self, measured: MeasuredDepth, estimate: DepthSource) -> None:
        self._measured, self._estimate = measured, estimate
        self.kind = estimate.kind
        """Of what was not measured: the depth says itself what was."""
        self.view_scale = int(getattr(estimate, "view_scale", 1))
        self.log_scale_std = measured.log_scale_std
        """Of the last view."""

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view)."""
        seen = self._measured(image, view, geometry, rays)
        is_measured = seen.z_m > 0.0
        self.log_scale_std = self._measured.log_scale_std
        if is_measured.all():
            return seen._replace(is_measured=is_measured)
        guess = self._estimate(image, view, geometry, rays)
        z_m, both = guess.z_m, is_measured & (guess.z_m > 0.0)
        if not is_measured.any():
            self.log_scale_std = self._estimate.log_scale_std
        elif self.kind == "metric" and np.count_nonzero(both) >= FEWEST_ANCHORS:
            z_m = z_m * math.exp(float(np.median(np.log(seen.z_m[both] / guess.z_m[both]))))
        spread = np.full(z_m.shape, LOG_SPREAD) if guess.log_spread is None else guess.log_spread
        measured_spread = LOG_SPREAD if seen.log_spread is None else seen.log_spread
        return Depth(np.where(is_measured, seen.z_m, z_m), np.where(is_measured, measured_spread, spread), is_measured)
