"""Whether a depth image can be that of the camera's image: its shape, its unit, and whether it measured anything."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, StripCamera
from cross_view_loc.inputs.depth_images import FARTHEST_M
from cross_view_loc.inputs.masks import shape_complaint

ROAD_FROM_M, ROAD_TO_M = 2.0, 20.0
"""Where the road's depth hardly depends on the vehicle's tilt."""
MATCHED_TO_M = 40.0
"""About how far ground cells are used."""
CELLS = (48, 40)
FEWEST, MOST = 40, 2000
"""Pixels of the road that are compared."""
NEAR_POWER, SPREAD = 0.18, 0.2
"""In powers of ten: how far the usual ratio to the road may lie from a whole one, and its quartiles from each other.

Proportional to the flat road is the road alone: a wall, or a hand before the lens, is not.
"""
INNER_STRETCH, OUTER_STRETCH = 1.04, 1.12
"""Distance along the ray over that along the axis, of what counts as middle and as sides."""
RAY_SPREAD, RAY_SLACK = 0.08, 0.3
_UNITS = {
    ("32FC1", 3): "millimetres",
    ("32FC1", 2): "centimetres",
    ("16UC1", 1): "tenths of a millimetre",
    ("16UC1", -1): "centimetres",
    ("16UC1", -3): "metres",
}


def depth_complaint(
    read_m: NDArray[np.float32], encoding: str, camera: Camera, T_base_camera: NDArray[np.float64], ground_z_m: float
) -> str:
    """What is wrong with a depth image (h, w), as read by its encoding without a limit; empty when nothing is.

    `T_base_camera` (4, 4) and the ground's height in the base frame tell how far the road is.
    """
    shape = shape_complaint(read_m.shape, camera)
    if shape:
        return shape
    road = _road(read_m, camera, T_base_camera, ground_z_m)
    power = 0 if road is None else _power_of_ten(read_m, road)
    if power:
        kind = "32FC1" if encoding == "32FC1" else "16UC1"
        unit = _UNITS.get((kind, power), "another unit")
        return (
            f"puts the road {10.0**power:g} times as far as the camera's height does, so its {encoding} seems to hold "
            f"{unit}; have the driver send 32FC1 in metres or 16UC1 in millimetres"
        )
    if _has_axis(camera) and road is not None and _is_along_rays(read_m, road):
        return (
            "seems to hold distances along the rays, as the road's grow towards the sides; have the driver send those "
            "along the optical axis (z), as REP 118 says"
        )
    if not np.any((read_m > 0.0) & (read_m <= FARTHEST_M)):
        return f"holds no distance up to {FARTHEST_M:g} m; check that the sensor is running and sees something"
    return ""


def road_share(
    depth_m: NDArray[np.float32], camera: Camera, T_base_camera: NDArray[np.float64], ground_z_m: float
) -> float:
    """Share of the image's cells on the flat road within reach in which anything was measured; 1 where none is there.

    `depth_m` (h, w) with 0 unknown; a cell is about one of the localizer's, so LiDAR's lines may fill all of them.
    """
    rows, columns = (min(cells, pixels) for cells, pixels in zip(CELLS, depth_m.shape, strict=True))
    v, u = np.meshgrid(
        (np.arange(rows) + 0.5) * camera.height / rows,
        (np.arange(columns) + 0.5) * camera.width / columns,
        indexing="ij",
    )
    rays, seen = camera.unproject(np.stack([u, v], axis=-1))
    descent = -(rays @ T_base_camera[2, :3])
    above_m = float(T_base_camera[2, 3]) - ground_z_m
    road = seen & (descent * MATCHED_TO_M > above_m)
    edges = [np.arange(cells) * pixels // cells for cells, pixels in zip((rows, columns), depth_m.shape, strict=True)]
    most_m = np.maximum.reduceat(np.maximum.reduceat(depth_m, edges[0], axis=0), edges[1], axis=1)
    return float((most_m[road] > 0.0).mean()) if road.any() else 1.0


def _is_along_rays(read_m: NDArray[np.float32], road: _Road) -> bool:
    """Whether distances grow from the middle to the sides as those along the rays do, against those along the axis.

    Where the road is so crowned, or walls so near, that it is neither, it is not said.
    """
    outer, inner = road.stretch > OUTER_STRETCH, road.stretch < INNER_STRETCH
    if min(np.count_nonzero(outer), np.count_nonzero(inner)) < FEWEST:
        return False
    ratio, stretch = np.log(road.ratio(read_m)), np.log(road.stretch)
    low, high = np.quantile(ratio[outer] - stretch[outer], (0.25, 0.75))
    growth = float(np.median(ratio[outer]) - np.median(ratio[inner]))
    per_stretch = growth / float(np.median(stretch[outer]) - np.median(stretch[inner]))
    return high - low < RAY_SPREAD and abs(per_stretch - 1.0) < RAY_SLACK


@dataclass(frozen=True)
class _Road:
    """Pixels (N,) of a depth image that show the road if it is flat."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    slope: NDArray[np.float64]
    """Metres of depth are 1 over it."""
    stretch: NDArray[np.float64]
    """Distance along the ray over depth."""

    def ratio(self, read_m: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) what was read over the flat road's depth."""
        return np.asarray(read_m[self.row, self.column] * self.slope, dtype=np.float64)


def _road(
    read_m: NDArray[np.float32], camera: Camera, T_base_camera: NDArray[np.float64], ground_z_m: float
) -> _Road | None:
    """Known pixels of the road, at most about MOST of them; None where there are too few."""
    height, width = read_m.shape
    known = np.flatnonzero(read_m > 0.0)
    # Every so manyth known pixel; an odd step, so that it does not stay in the same columns.
    known = known[:: (max(1, len(known) // (4 * MOST)) // 2) * 2 + 1]
    row, column = np.divmod(known, width)
    pixels = np.stack([(column + 0.5) * (camera.width / width), (row + 0.5) * (camera.height / height)], axis=-1)
    rays, seen = camera.unproject(pixels)
    if _has_axis(camera):
        seen = seen & (rays[:, 2] > 0.1)
        rays = rays / np.where(seen, rays[:, 2], 1.0)[:, None]
    descent = -(rays @ T_base_camera[2, :3])
    above_m = float(T_base_camera[2, 3]) - ground_z_m
    road = seen & (descent * ROAD_TO_M > above_m) & (descent * ROAD_FROM_M < above_m)
    if np.count_nonzero(road) < FEWEST or above_m <= 0.0:
        return None
    return _Road(row[road], column[road], descent[road] / above_m, np.linalg.norm(rays[road], axis=1))


def _has_axis(camera: Camera) -> bool:
    """Whether depth is along an optical axis; around a panorama it can only be along the rays."""
    return not isinstance(camera, EquirectangularCamera | StripCamera)


def _power_of_ten(read_m: NDArray[np.float32], road: _Road) -> int:
    """Exponent of the factor between depth and the flat road's; 0 when it is about one, or nothing tells."""
    ratio = np.log10(road.ratio(read_m))
    low, middle, high = (float(value) for value in np.quantile(ratio, (0.25, 0.5, 0.75)))
    power = round(middle)
    return power if abs(middle - power) < NEAR_POWER and high - low < SPREAD and math.isfinite(middle) else 0
