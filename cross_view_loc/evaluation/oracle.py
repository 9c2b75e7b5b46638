"""Depth sources of the bench: rendered depth, the oracle that shows what better depth would bring; and lost scale."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.inverse import MODEL_LOG_SPREAD, fit_inverse
from cross_view_loc.depth.relative import SCALE_UNKNOWN_STD, AnchoredDepth, RelativeDepth
from cross_view_loc.depth.sampling import sample_depth_image
from cross_view_loc.depth.source import Depth, DepthSource, begin_frame
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, FisheyeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame

TRUE_SPREAD = 0.02
"""Relative deviation that the matcher is told of: what it was trained with on rendered depth."""
SHIFT_PER_M = 0.2
"""Inverse depth is shifted by up to so much times its scale: that of 5 m."""

Array = NDArray[np.float64]


class TrueDepth:
    """Depth images of the very frames that are being located. The depth of a panorama or fisheye is range, a
    pinhole's z."""

    kind = "metric"
    log_scale_std = 0.005
    """There is no error of scale to correct; what attitude and mount are wrong by may look a little like one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[Camera, NDArray[np.float32]]] = {}
        self._now: tuple[Camera, NDArray[np.float32]] | None = None

    def set(self, frames: Sequence[Frame], depth_m: Sequence[NDArray[np.float32]]) -> None:
        """The frames that the next calls of the localizer will ask for, with a depth image (H, W) each."""
        pairs = list(zip(frames, depth_m, strict=True))
        self._known = {(frame.name, frame.stamp_ns): (frame.camera, depth) for frame, depth in pairs}
        self._now = (pairs[0][0].camera, pairs[0][1])

    def begin(self, frame: Frame) -> None:
        """The next calls are for views of this frame."""
        self._now = self._known[frame.name, frame.stamp_ns]

    def __call__(self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: Array) -> Depth:
        """Z-depth in metres along `rays` (..., 3) of a view of the frame begun, the first one set if none was."""
        if self._now is None:
            raise RuntimeError("TrueDepth is asked for depth before set")
        camera, depth_m = self._now
        pixels = view.camera_pixels(rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2], camera)
        sampled_m = sample_depth_image(depth_m, pixels, wraps=isinstance(camera, EquirectangularCamera))
        is_range = isinstance(camera, EquirectangularCamera | FisheyeCamera)
        z_m = sampled_m / np.linalg.norm(rays, axis=-1) if is_range else sampled_m
        return Depth(z_m, np.full_like(z_m, math.log(TRUE_SPREAD)))


class UnknownScaleDepth:
    """A depth source robbed of its scale, anew for each image, and anchored to the camera's height above the road.

    The lost factor follows from the seed and the frame alone: the same whatever was located before.
    """

    def __init__(self, inner: DepthSource, seed: int) -> None:
        self.inner, self.kind, self._seed = inner, inner.kind, seed
        self._depth = AnchoredDepth(RelativeDepth(inner, seed))
        self.log_scale_std = self._depth.log_scale_std
        """What the anchor left uncertain in the last image."""

    def begin(self, frame: Frame) -> None:
        """The next calls are for views of this frame."""
        begin_frame(self.inner, frame)
        self._depth = AnchoredDepth(RelativeDepth(self.inner, frame_seed(self._seed, frame)))

    def __call__(self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: Array) -> Depth:
        """Z-depth in metres along `rays` (..., 3)."""
        depth = self._depth(image, view, geometry, rays)
        self.log_scale_std = self._depth.log_scale_std
        return depth


class UnknownInverseDepth:
    """A depth source made one of inverse depth, a / z + b with a and b drawn anew for each image, and fitted again.

    What it does not know is as far as can be: its value is b. The draw follows from the seed and the frame alone.
    """

    def __init__(self, inner: DepthSource, seed: int) -> None:
        self.inner, self.kind, self._seed = inner, inner.kind, seed
        self.log_scale_std = SCALE_UNKNOWN_STD
        """What the fit left uncertain in the last image."""
        self._rng = np.random.default_rng(seed)

    def begin(self, frame: Frame) -> None:
        """The next calls are for views of this frame."""
        begin_frame(self.inner, frame)
        self._rng = np.random.default_rng(frame_seed(self._seed, frame))

    def __call__(self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: Array) -> Depth:
        """Z-depth in metres along `rays` (..., 3); none where the image shows no road."""
        found = self.inner(image, view, geometry, rays)
        a = math.exp(self._rng.uniform(-math.log(5.0), math.log(5.0)))
        b = a * self._rng.uniform(-SHIFT_PER_M, SHIFT_PER_M)
        known = found.z_m > 0
        value = a * np.where(known, 1.0 / np.where(known, found.z_m, 1.0), 0.0) + b
        fit = fit_inverse(value, geometry.flat_inverse_depth(rays))
        if fit is None:
            self.log_scale_std = SCALE_UNKNOWN_STD
            return found._replace(z_m=np.zeros_like(found.z_m))
        self.log_scale_std = fit.log_scale_std
        return Depth(*fit.depth(value, MODEL_LOG_SPREAD if found.log_spread is None else found.log_spread))


def frame_seed(seed: int, frame: Frame) -> int:
    """Of what is drawn for an image: another for every stamp and every camera."""
    return seed + 100_003 * (frame.stamp_ns // 1_000_000) + 7 * zlib.crc32(frame.name.encode())
