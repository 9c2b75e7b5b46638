"""A depth source, which works on virtual views, asked for every pixel of a camera's image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.source import DepthSource
from cross_view_loc.depth.stored import DepthMaps, along_of, stored_shape
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.types import Frame

Array = NDArray[np.float64]


def depth_of_image(frame: Frame, source: DepthSource, shrink: int = 1) -> DepthMaps:
    """Depth of a frame's whole image, `shrink` pixels a pixel: what the localizer's own views would be told.

    Each pixel belongs to the view whose axis is nearest to its ray; 0 where no view reaches. Along the optical axis of
    a pinhole, along the ray of any other camera.
    """
    camera = frame.camera
    height, width = stored_shape(camera.width, camera.height, shrink)
    columns, rows = np.meshgrid(
        (np.arange(width) + 0.5) * (camera.width / width), (np.arange(height) + 0.5) * (camera.height / height)
    )
    rays, valid = camera.unproject(np.stack([columns, rows], axis=-1))
    depth_m, log_spread = np.zeros((height, width)), np.zeros((height, width))
    nearest, has_spread = np.zeros((height, width)), False
    for view in plan_views(camera, frame.T_base_camera):
        reach = np.where(valid, _reach(rays, view), 0.0)
        mine = reach > nearest
        if not mine.any():
            continue
        nearest = np.where(mine, reach, nearest)
        part = _bounds(mine)
        inside = mine[part]
        in_view = np.where(inside[..., None], rays[part] @ view.R_camera_view, [0.0, 0.0, 1.0])
        in_view = in_view / in_view[..., 2:]
        image, _ = view.sample(frame.image, camera)
        found = source(image, view, ViewGeometry.of(frame, view), in_view)
        if along_of(camera) == "z":
            length = (in_view @ view.R_camera_view.T)[..., 2]
        else:
            length = np.linalg.norm(in_view, axis=-1)
        depth_m[part] = np.where(inside, found.z_m * length, depth_m[part])
        if found.log_spread is not None:
            has_spread = True
            log_spread[part] = np.where(inside, found.log_spread, log_spread[part])
    spread = log_spread.astype(np.float32) if has_spread else None
    return DepthMaps(np.maximum(np.nan_to_num(depth_m), 0.0).astype(np.float32), spread)


def _reach(rays: Array, view: View) -> Array:
    """Cosine between a view's axis and unit rays (..., 3) of the camera that it sees; 0 for those it does not."""
    in_view = rays @ view.R_camera_view
    z = in_view[..., 2]
    ahead = np.where(z > 1e-6, z, 1.0)
    across, down = (np.abs(in_view[..., axis]) / ahead * view.focal_px for axis in (0, 1))
    slack = 1e-6 * view.width  # the rim of a view is the rim of its neighbour
    sees = (z > 1e-6) & (across <= view.width / 2 + slack) & (down <= view.height / 2 + slack)
    return np.where(sees, z, 0.0)


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest rectangle about what is True."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
