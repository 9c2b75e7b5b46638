"""What a depth image, dense or sparse, says of each cell of a view: a measured surface, never a mean of two.

LiDAR projected into an image measures a pixel in fifty, in lines. So every pixel that was measured is brought into the
view, and a cell takes from those in its footprint the one in their middle by distance. Two surfaces that meet in a cell
are thereby never averaged: the one with more pixels near the cell's centre is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.model import Along
from cross_view_loc.geometry.cameras import Camera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import VIEW_WIDTH_PX, View

Array = NDArray[np.float64]
ROWS_PX, COLUMNS_PX = 4, 8
"""Of a cell's footprint in a view 320 pixels wide. Fine cells look as far: half a cell is often between two lines."""
MOST_PIXELS = 60_000
"""About as many as the view has; of a denser image every so manyth is taken."""
ROAD_HEIGHT_M, ROAD_SLOPE = 0.25, 0.02
"""Up to so much above or below the flat road, and so much more a metre of distance, a pixel lies on the road."""
RIM_WEIGHT = 0.5
"""Of a pixel on the footprint's rim against one at its centre."""


def depth_in_cells(
    depth_m: NDArray[np.float32], camera: Camera, along: Along, view: View, geometry: ViewGeometry, rays: Array
) -> Array:
    """Z-depth (...) in metres along `rays` (..., 3, with z = 1 in the view); 0 where nothing was measured.

    `depth_m` (h, w): of the camera's whole image at any size, 0 unknown. On the road, depth changes within a cell by up
    to a quarter: a pixel that lies on it is moved along it to the cell's own ray.
    """
    points = _points_in_view(depth_m, camera, along, view)
    raster = view.width / VIEW_WIDTH_PX
    focal_px, size = view.focal_px / raster, (round(view.height / raster), VIEW_WIDTH_PX)
    middle = np.array([size[1] / 2, size[0] / 2])
    slopes = points[:, :2] / points[:, 2:]
    places = slopes * focal_px + middle
    nearest = _nearest_in_pixel(places, points[:, 2], size)
    wanted = rays[..., :2].reshape(-1, 2) * focal_px + middle
    candidates = _around(nearest, wanted)
    known = candidates >= 0
    if not known.any():
        return np.zeros(rays.shape[:-1])
    at = np.where(known, candidates, 0)
    off = np.abs(places[at] - wanted[:, None]) / [COLUMNS_PX / 2, ROWS_PX / 2]
    weight = np.where(known, 1.0 - (1.0 - RIM_WEIGHT) * np.clip(off.max(-1), 0.0, 1.0), 0.0)
    z_m = points[at, 2]
    descent = geometry.height_m * geometry.flat_inverse_depth(np.column_stack([slopes, np.ones(len(slopes))]))
    own_descent = geometry.height_m * geometry.flat_inverse_depth(rays).reshape(-1, 1)
    above_m = np.abs(geometry.height_m - z_m * descent[at])
    on_road = (above_m < ROAD_HEIGHT_M + ROAD_SLOPE * z_m) & (descent[at] > 0.0) & (own_descent > 0.0)
    moved_m = z_m * descent[at] / np.where(own_descent > 0.0, own_descent, 1.0)
    return _weighted_median(np.where(on_road, moved_m, z_m), weight).reshape(rays.shape[:-1])


def _points_in_view(depth_m: NDArray[np.float32], camera: Camera, along: Along, view: View) -> Array:
    """(N, 3) what was measured, in the view's frame; only what lies before it."""
    height, width = depth_m.shape
    known = np.flatnonzero(depth_m > 0.0)
    step = len(known) // MOST_PIXELS + 1
    known = known[:: step + (step + 1) % 2]  # an odd step: an even one could stay in the same columns
    row, column = np.divmod(known, width)
    pixels = np.stack([(column + 0.5) * (camera.width / width), (row + 0.5) * (camera.height / height)], axis=-1)
    rays, seen = camera.unproject(pixels)
    if along == "z":
        seen = seen & (rays[:, 2] > 1e-6)
        rays = rays / np.where(seen, rays[:, 2], 1.0)[:, None]
    points = (rays * depth_m[row, column].astype(np.float64)[:, None]) @ view.R_camera_view
    return np.asarray(points[seen & (points[:, 2] > 1e-3)], dtype=np.float64)


def _nearest_in_pixel(places: Array, z_m: Array, size: tuple[int, int]) -> NDArray[np.int64]:
    """(h, w) which point is the nearest of those in a pixel, as it hides the others; −1 where there is none."""
    column, row = np.floor(np.clip(places, -1.0, 1e6)).astype(np.int64).T
    inside = np.flatnonzero((column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0]))
    far_first = inside[np.argsort(-z_m[inside], kind="stable")]
    found = np.full(size, -1, dtype=np.int64)
    found[row[far_first], column[far_first]] = far_first  # the last that is written stays
    return found


def _around(found: NDArray[np.int64], wanted: Array) -> NDArray[np.int64]:
    """(T, ROWS_PX · COLUMNS_PX) what is found in the footprints about places (T, 2); −1 beyond the view's edges."""
    height, width = found.shape
    left, top = np.clip(np.round(wanted - [COLUMNS_PX / 2, ROWS_PX / 2]), -1e4, 1e4).astype(np.int64).T
    rows = (top[:, None] + np.arange(ROWS_PX))[:, :, None]
    columns = (left[:, None] + np.arange(COLUMNS_PX))[:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    there = found[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside, there, -1).reshape(len(wanted), -1)


def _weighted_median(values: Array, weights: Array) -> Array:
    """(T,) of rows (T, K), always one of the values; 0 for a row without weight."""
    order = np.argsort(np.where(weights > 0.0, values, np.inf), axis=1, kind="stable")
    values, weights = np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1)
    heaped = np.cumsum(weights, axis=1)
    middle = np.argmax(heaped >= heaped[:, -1:] / 2, axis=1)[:, None]
    return np.where(heaped[:, -1] > 0.0, np.take_along_axis(values, middle, axis=1)[:, 0], 0.0)
