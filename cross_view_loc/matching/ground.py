"""From frames to lifted ground cells: views → descriptors and depth → points of one gravity-aligned body frame.

Several cameras, and several views of one wide camera, are one thing to the solver: more cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cross_view_loc.depth.filled import depth_of
from cross_view_loc.depth.source import Depth, DepthSource, begin_frame, view_for
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.lifting import ViewGeometry, lifted_inside
from cross_view_loc.geometry.views import VIEW_HEIGHT_PX, VIEW_WIDTH_PX, View, plan_views
from cross_view_loc.matching.consensus import GroundCells
from cross_view_loc.matching.encoders import DEPTH_KINDS, FINE, TOKEN_COLUMNS_PX, TOKEN_ROWS_PX, Matcher
from cross_view_loc.matching.segmenter import Segmenter
from cross_view_loc.types import Frame

WEIGHT_NORM = 200.0
"""Sum of an untrained view's confidences over this is a few units; training used the same number."""

USUAL_LOG_SPREAD = math.log(0.03)
"""Of measured depth that comes without any."""


@dataclass(frozen=True)
class GroundObservation:
    """The lifted cells of all views, and where each came from."""

    cells: GroundCells
    fine: GroundCells
    frame_index: NDArray[np.int64]
    """(T,) which frame, −1 for a cell of an earlier moment; of the coarse cells, as are the pixels."""
    pixels: NDArray[np.float64]
    """(T, 2) in that frame's image; not a number for a cell of an earlier moment."""
    views: int = 1
    """How many views there are, of all frames and moments."""

    @property
    def present(self) -> GroundCells:
        """The coarse cells of the present moment, which are the first."""
        mask = torch.from_numpy(self.frame_index >= 0).to(self.cells.weight.device)
        return self.cells if bool(mask.all()) else self.cells.take(mask)

    log_scale_std: float = 0.05
    """Deviation of the log-scale of what is seen now."""


@torch.inference_mode()
def observe_ground(
    frames: Sequence[Frame], matcher: Matcher, depth: DepthSource, device: str, segmenter: Segmenter | None = None
) -> GroundObservation:
    """Encode and lift every view of every frame, but for what `segmenter` says moves.

    Raises InputError when an image does not fit its camera.
    """
    planned = [(index, frame, view) for index, frame in enumerate(frames) for view in _views(frame)]
    images, elevations, inverses, lifted, kinds, scale_variances, begun = [], [], [], [], [], [], -1
    sampled = [view.sample(frame.image, frame.camera) for _, frame, view in planned]
    moving = None if segmenter is None else segmenter(np.stack([image for image, _ in sampled]))
    for number, (index, frame, view) in enumerate(planned):
        if index != begun:
            begin_frame(depth, frame)
            begun = index
        image, seen = sampled[number]
        if moving is not None:
            seen = seen & ~moving[number]
        if frame.mask is not None:
            seen = seen & view.sample_mask(frame.mask, frame.camera)
        geometry = ViewGeometry.of(frame, view)
        pixel_rays = view.rays()
        images.append(image)
        elevations.append(geometry.elevation(pixel_rays))
        inverses.append(geometry.flat_inverse_depth(pixel_rays))
        rays = cell_rays(view)
        source = depth_of(frame, depth)
        wanted = view_for(source, view)
        shown = image if wanted == view else wanted.sample(frame.image, frame.camera)[0]
        found = source(shown, wanted, geometry, rays)
        lifted.append(_lift(frame, geometry, rays, found, seen))
        kinds.append(_kinds(found, source.kind))
        scale_variances.append(source.log_scale_std**2)
    batch = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255.0
    features = matcher.ground(batch, _tensor(elevations, device), _tensor(inverses, device))
    points, z_m, spread, usable = (_tensor(list(column), device) for column in zip(*lifted, strict=True))
    kind, count = torch.from_numpy(np.stack(kinds)).to(device), coarse_count()
    trust = matcher.trust_in_depth(z_m, spread) * (kind == DEPTH_KINDS.index("metric"))[..., None]
    layers, used = [], usable > 0
    for index, (layer, part) in enumerate(zip(features, (slice(0, count), slice(count, None)), strict=True)):
        confidence = layer.log_confidence.gather(-1, kind[:, part, None])
        weight = (confidence[..., 0] + trust[:, part, index]).exp() / WEIGHT_NORM
        mask = used[:, part]
        layers.append(GroundCells(layer.descriptors[mask], weight[mask], points[:, part][mask].float()))
    seen_by = used[:, :count].cpu().numpy()
    return GroundObservation(
        layers[0],
        layers[1],
        np.repeat([index for index, _, _ in planned], seen_by.sum(1)),
        np.concatenate([_pixels(frame, view)[mask] for (_, frame, view), mask in zip(planned, seen_by, strict=True)]),
        len(planned),
        # A view that does not know its scale (no road in it) says nothing, but takes nothing from those that do.
        math.sqrt(len(planned) / sum(1.0 / max(variance, 1e-12) for variance in scale_variances)),
    )


def coarse_count(height_px: int = VIEW_HEIGHT_PX, width_px: int = VIEW_WIDTH_PX) -> int:
    """Coarse cells of a view."""
    return (height_px // TOKEN_ROWS_PX) * (width_px // TOKEN_COLUMNS_PX)


def cell_rays(view: View) -> NDArray[np.float64]:
    """(3·H/4, W/8, 3) rays through the centres of a view's coarse cells, then of their upper, then lower halves."""
    coarse = view.rays(TOKEN_ROWS_PX, TOKEN_COLUMNS_PX)
    fine = view.rays(TOKEN_ROWS_PX // FINE, TOKEN_COLUMNS_PX)
    return np.concatenate([coarse, *(fine[part::FINE] for part in range(FINE))])


def _views(frame: Frame) -> tuple[View, ...]:
    height, width = frame.image.shape[:2]
    if (width, height) != (frame.camera.width, frame.camera.height):
        raise InputError(
            f"image of {frame.name} is {width}x{height} but its calibration is for "
            f"{frame.camera.width}x{frame.camera.height}; publish the CameraInfo of this resolution"
        )
    return plan_views(frame.camera, frame.T_base_camera)


def _lift(
    frame: Frame, geometry: ViewGeometry, rays: NDArray[np.float64], depth: Depth, seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Points (T, 2) in the level body frame, depth (T,), log-spread (T,) and which cells can be used (T,)."""
    points = geometry.lift(rays, depth.z_m)
    origin = frame.R_level_base @ geometry.T_base_view[:3, 3]
    parts = 1 + FINE
    shape = (rays.shape[1], rays.shape[0] // parts)
    seen_share = np.concatenate([cv2.resize(seen.astype(np.float32), shape, interpolation=cv2.INTER_AREA)] * parts)
    usable = (depth.z_m > 0) & lifted_inside(points, origin) & (seen_share > 0.5)
    spread = np.full_like(depth.z_m, USUAL_LOG_SPREAD) if depth.log_spread is None else depth.log_spread
    return points[..., :2].reshape(-1, 2), depth.z_m.reshape(-1), spread.reshape(-1), usable.reshape(-1)


def _kinds(depth: Depth, kind: str) -> NDArray[np.int64]:
    """(T,) by DEPTH_KINDS, whose confidence goes with each cell."""
    estimated, measured = DEPTH_KINDS.index(kind), DEPTH_KINDS.index("metric")
    is_measured = np.zeros(depth.z_m.shape, bool) if depth.is_measured is None else depth.is_measured
    return np.where(is_measured, measured, estimated).reshape(-1)


def _pixels(frame: Frame, view: View) -> NDArray[np.float64]:
    """(T, 2) where the centres of a view's coarse cells are in the camera's image."""
    rays = view.rays(TOKEN_ROWS_PX, TOKEN_COLUMNS_PX)
    centres = rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2]
    return view.camera_pixels(centres, frame.camera).reshape(-1, 2)


def _tensor(arrays: Sequence[NDArray[np.generic]], device: str) -> torch.Tensor:
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
