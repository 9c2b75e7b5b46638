"""Depth sources of the bench: rendered depth, the oracle that shows what better depth would bring; and lost scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.relative import AnchoredDepth, RelativeDepth
from cross_view_loc.depth.source import Depth, DepthSource
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, FisheyeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.types import Frame

TRUE_SPREAD = 0.02
"""Relative deviation that the matcher is told of: what it was trained with on rendered depth."""
EDGE_RATIO = 1.25
"""Neighbouring pixels whose depths differ by more than this belong to different surfaces: take the nearest pixel."""

Array = NDArray[np.float64]


class TrueDepth:
    """Depth images of the very frames that are being located. The depth of a panorama or fisheye is range, a
    pinhole's z."""

    kind = "metric"
    log_scale_std = 0.005
    """There is no error of scale to correct; what attitude and mount are wrong by may look a little like one."""

    def __init__(self) -> None:
        self._views: cycle[tuple[Camera, NDArray[np.float32]]] = cycle(())

    def set(self, frames: Sequence[Frame], depth_m: Sequence[NDArray[np.float32]]) -> None:
        """The frames that the next calls of the localizer will ask for, with a depth image (H, W) each."""
        self._views = cycle(
            [
                (frame.camera, depth)
                for frame, depth in zip(frames, depth_m, strict=True)
                for _ in plan_views(frame.camera, frame.T_base_camera)
            ]
        )

    def __call__(self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: Array) -> Depth:
        """Z-depth in metres along `rays` (..., 3); views are asked for in the order of the frames' own views."""
        camera, depth_m = next(self._views)
        pixels = view.camera_pixels(rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2], camera)
        sampled_m = sample_depth_image(depth_m, pixels, wraps=isinstance(camera, EquirectangularCamera))
        is_range = isinstance(camera, EquirectangularCamera | FisheyeCamera)
        z_m = sampled_m / np.linalg.norm(rays, axis=-1) if is_range else sampled_m
        return Depth(z_m, np.full_like(z_m, math.log(TRUE_SPREAD)))


class UnknownScaleDepth:
    """A depth source robbed of its scale, anew for each image, and anchored to the camera's height above the road.

    The lost factor follows from the seed and the frame's stamp alone: the same whatever was located before.
    """

    def __init__(self, inner: DepthSource, seed: int) -> None:
        self.inner, self.kind, self._seed = inner, inner.kind, seed
        self._depth = AnchoredDepth(RelativeDepth(inner, seed))
        self.log_scale_std = self._depth.log_scale_std
        """What the anchor left uncertain in the last image."""

    def set(self, frames: Sequence[Frame], depth_m: Sequence[NDArray[np.float32]]) -> None:
        """The frames that the next calls will ask for; their true depth is not looked at."""
        self._depth = AnchoredDepth(RelativeDepth(self.inner, self._seed + 100_003 * (frames[0].stamp_ns // 1_000_000)))

    def __call__(self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: Array) -> Depth:
        """Z-depth in metres along `rays` (..., 3)."""
        depth = self._depth(image, view, geometry, rays)
        self.log_scale_std = self._depth.log_scale_std
        return depth


def sample_depth_image(depth_m: NDArray[np.float32], pixels: Array, wraps: bool = False) -> Array:
    """Depth (H, W) at pixels (..., 2), centres at + 0.5; `wraps` joins the first and the last column.

    Inverse depth is interpolated bilinearly: on a plane it is linear in a pinhole's pixels, and within 1e-5 so in a
    panorama's. Across an edge, or beside the sky (0), the nearest pixel is taken instead.
    """
    height, width = depth_m.shape
    u, v = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
    left, top = np.floor(u), np.floor(v)

    def at(column: Array, row: Array) -> Array:
        j = column.astype(np.int64)
        j = j % width if wraps else np.clip(j, 0, width - 1)
        return depth_m[np.clip(row.astype(np.int64), 0, height - 1), j].astype(np.float64)

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
    smooth = (corners.min(0) > 0) & (corners.max(0) < EDGE_RATIO * corners.min(0))
    interpolated = 1.0 / np.sum(shares / np.where(smooth, corners, 1.0), axis=0)
    return np.where(smooth, interpolated, at(np.floor(u + 0.5), np.floor(v + 0.5)))
