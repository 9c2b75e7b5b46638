"""From frames to lifted ground cells: views → descriptors and depth → points of one gravity-aligned body frame.

Several cameras, and several views of one wide camera, are one thing to the solver: more cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cross_view_loc.depth.source import DepthSource
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.lifting import ViewGeometry, lifted_inside
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.matching.consensus import GroundCells
from cross_view_loc.matching.encoders import DEPTH_KINDS, TOKEN_COLUMNS_PX, TOKEN_ROWS_PX, Matcher
from cross_view_loc.types import Frame

WEIGHT_NORM = 200.0
"""Sum of an untrained view's confidences over this is a few units; training used the same number."""


@dataclass(frozen=True)
class GroundObservation:
    """The lifted cells of all views, and where each came from."""

    cells: GroundCells
    frame_index: NDArray[np.int64]
    """(T,) which frame."""
    pixels: NDArray[np.float64]
    """(T, 2) in that frame's image."""


@torch.inference_mode()
def observe_ground(frames: Sequence[Frame], matcher: Matcher, depth: DepthSource, device: str) -> GroundObservation:
    """Encode and lift every view of every frame. Raises InputError when an image does not fit its camera."""
    planned = [(index, frame, view) for index, frame in enumerate(frames) for view in _views(frame)]
    images, elevations, inverses, lifted = [], [], [], []
    for index, frame, view in planned:
        image, seen = view.sample(frame.image, frame.camera)
        geometry = ViewGeometry.of(frame, view)
        pixel_rays, rays = view.rays(), view.rays(TOKEN_ROWS_PX, TOKEN_COLUMNS_PX)
        images.append(image)
        elevations.append(geometry.elevation(pixel_rays))
        inverses.append(geometry.flat_inverse_depth(pixel_rays))
        lifted.append((index, *_lift(frame, view, geometry, rays, depth(image, view, geometry, rays), seen)))
    batch = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255.0
    descriptors, log_confidence = matcher.ground(batch, _tensor(elevations, device), _tensor(inverses, device))
    confidence = log_confidence[..., DEPTH_KINDS.index(depth.kind)].exp() / WEIGHT_NORM
    used = [torch.from_numpy(usable).to(device) for _, _, _, usable in lifted]
    cells = GroundCells(
        torch.cat([d[mask] for d, mask in zip(descriptors, used, strict=True)]),
        torch.cat([c[mask] for c, mask in zip(confidence, used, strict=True)]),
        torch.from_numpy(np.concatenate([points[usable] for _, points, _, usable in lifted])).to(device).float(),
    )
    return GroundObservation(
        cells,
        np.concatenate([np.full(int(usable.sum()), index) for index, _, _, usable in lifted]),
        np.concatenate([pixels[usable] for _, _, pixels, usable in lifted]),
    )


def _views(frame: Frame) -> tuple[View, ...]:
    height, width = frame.image.shape[:2]
    if (width, height) != (frame.camera.width, frame.camera.height):
        raise InputError(
            f"image of {frame.name} is {width}x{height} but its calibration is for "
            f"{frame.camera.width}x{frame.camera.height}; publish the CameraInfo of this resolution"
        )
    return plan_views(frame.camera)


def _lift(
    frame: Frame,
    view: View,
    geometry: ViewGeometry,
    rays: NDArray[np.float64],
    depth_m: NDArray[np.float64],
    seen: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Points (T, 2) in the level body frame, camera pixels (T, 2), and which cells can be used (T,)."""
    points = geometry.lift(rays, depth_m)
    origin = frame.R_level_base @ geometry.T_base_view[:3, 3]
    seen_share = cv2.resize(seen.astype(np.float32), rays.shape[1::-1], interpolation=cv2.INTER_AREA)
    usable = (depth_m > 0) & lifted_inside(points, origin) & (seen_share > 0.5)
    centres = rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2]
    pixels = view.camera_pixels(centres, frame.camera)
    return points[..., :2].reshape(-1, 2), pixels.reshape(-1, 2), usable.reshape(-1)


def _tensor(arrays: list[NDArray[np.float64]], device: str) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device).float()


def mean_direction(frames: Sequence[Frame]) -> tuple[float, float]:
    """(forward, left) mean of the views' horizontal directions; length 1 for one camera, about 0 for a full circle."""
    directions = []
    for frame in frames:
        for view in _views(frame):
            axis = (frame.T_base_camera[:3, :3] @ view.R_camera_view)[:, 2]
            directions.append(axis[:2] / max(float(np.hypot(axis[0], axis[1])), 1e-6))
    mean = np.mean(directions, axis=0)
    return float(mean[0]), float(mean[1])
