"""A depth model as a depth source: its numbers along the rays of a view's cells, as metres.

Metric depth is right up to a few percent at best, and off by much more for a camera unlike those it was trained on: the
height of the camera above the road corrects it, filtered over time. Relative depth is anchored to that height image by
image, inverse depth fitted to it in scale and shift.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.inverse import MODEL_LOG_SPREAD, fit_inverse
from cross_view_loc.depth.model import DepthModel
from cross_view_loc.depth.relative import SCALE_UNKNOWN_STD, anchor_scale
from cross_view_loc.depth.sampling import sample_depth_image, sample_inverse_image
from cross_view_loc.depth.scale_filter import ScaleFilter
from cross_view_loc.depth.source import Depth
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame

SCALE_POLICIES = ("trusted", "corrected", "ignored")
"""What to do with a metric model's metres: keep them, correct them by the road, or take them as relative."""
TRUSTED_STD = 0.02
PRIOR_STD = 0.1
"""Deviation of the log-scale of a metric model's metres as long as no road has said anything."""
MAPS_KEPT = 8
"""Images whose maps are kept: those of one moment."""
LOG_STEP = 5e-4
"""Of depth, relative: far below any model's error."""
CONFIDENT_STD = 0.12
"""What a road says with a larger deviation than this corrects nothing."""


class ModelDepth:
    """Metric depth by a policy; relative depth scaled, inverse depth scaled and shifted, by the camera's height.

    Images should be given as `observe_ground` does, at `view_scale` times the size of the cells' own view: what a model
    was trained on is larger.
    """

    kind = "metric"
    view_scale = 2

    def __init__(self, model: DepthModel, policy: str = "corrected") -> None:
        """Raises InputError for an unknown policy."""
        if policy not in SCALE_POLICIES:
            raise InputError(f"depth_scale is '{policy}'; choose {', '.join(SCALE_POLICIES)}")
        self.model, self.policy = model, policy
        self.log_scale_std = TRUSTED_STD if policy == "trusted" and model.measure == "metric" else PRIOR_STD
        """Of the last view."""
        self.scale = 1.0
        """Factor from the model's own numbers to the metres of the last view; of inverse depth 1 / a."""
        self._filters: dict[str, ScaleFilter] = {}
        self._filter = ScaleFilter()
        self._is_begun = False
        self._maps: dict[bytes, NDArray[np.float32]] = {}

    def begin(self, frame: Frame) -> None:
        """The next calls are for views of this frame."""
        self._filter = self._filters.setdefault(frame.name, ScaleFilter())
        self._filter.begin(frame.stamp_ns)
        self._is_begun = True

    @property
    def remembers(self) -> bool:
        """Whether earlier frames have a say in the next one's depth."""
        return self.model.measure == "metric" and self.policy == "corrected"

    def forget(self) -> None:
        """Let no earlier frame have a say."""
        self._filters, self._filter, self._is_begun = {}, ScaleFilter(), False

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view); 0 where there is none.

        Without `begin` an image stands for itself: nothing is filtered over time.
        """
        found = self._map(image, view.focal_px)
        pixels = rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2]
        if self.model.measure == "inverse":
            return self._fitted(sample_inverse_image(found, pixels), rays, geometry)
        value = np.nan_to_num(sample_depth_image(found, pixels), posinf=0.0, neginf=0.0)
        length = np.linalg.norm(rays, axis=-1) if self.model.along == "range" else 1.0
        z_m = np.maximum(value, 0.0) / length
        self.scale, self.log_scale_std = self._scale(z_m, rays, geometry)
        return Depth(_rounded(z_m * self.scale), np.full_like(z_m, MODEL_LOG_SPREAD))

    def _map(self, image: NDArray[np.uint8], focal_px: float) -> NDArray[np.float32]:
        """The model's numbers (H, W); an image that is asked for again, as another search does, is not run again."""
        key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=repr(focal_px).encode()).digest()
        found = self._maps.pop(key, None)
        if found is None:
            found = self.model(image[None], np.array([focal_px]))[0]
        self._maps[key] = found
        while len(self._maps) > MAPS_KEPT:
            del self._maps[next(iter(self._maps))]
        return found

    def _scale(
        self, z_m: NDArray[np.float64], rays: NDArray[np.float64], geometry: ViewGeometry
    ) -> tuple[float, float]:
        """Factor to metres, and the deviation of its log."""
        if self.model.measure == "metric" and self.policy == "trusted":
            return 1.0, TRUSTED_STD
        scale, std = anchor_scale(z_m, rays, geometry)
        if self.model.measure != "metric" or self.policy == "ignored":
            return scale, std
        if std < CONFIDENT_STD:
            if not self._is_begun:
                return scale, std
            self._filter.update(math.log(scale), std)
        if not self._is_begun or not self._filter.is_known:
            return 1.0, PRIOR_STD
        return math.exp(self._filter.log_scale), min(self._filter.std, PRIOR_STD)

    def _fitted(self, value: NDArray[np.float64], rays: NDArray[np.float64], geometry: ViewGeometry) -> Depth:
        """Inverse depth as metres; nothing where no road shows what scale and shift are."""
        length = np.linalg.norm(rays, axis=-1) if self.model.along == "range" else np.ones(rays.shape[:-1])
        fit = fit_inverse(value, geometry.flat_inverse_depth(rays) / length)
        if fit is None:
            self.scale, self.log_scale_std = 1.0, SCALE_UNKNOWN_STD
            return Depth(np.zeros_like(value), np.full_like(value, MODEL_LOG_SPREAD))
        self.scale, self.log_scale_std = 1.0 / fit.a, fit.log_scale_std
        z_m, log_spread = fit.depth(value)
        return Depth(_rounded(z_m / length), log_spread)


def _rounded(z_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depths in steps of LOG_STEP, so that single precision's last digits change nothing that is drawn at random."""
    known = z_m > 0
    return np.where(known, np.exp(np.round(np.log(np.where(known, z_m, 1.0)) / LOG_STEP) * LOG_STEP), 0.0)
