"""The orthophoto under a track: one north-up JPEG of the track's surroundings with its corners in map metres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.errors import MapError

Array = NDArray[np.float64]

MARGIN_M = 40.0
"""Of imagery around the track's bounding box."""
SEEN_M = 90.0
"""Imagery farther than this from the track is left out: it would only have to be fetched."""
CELL_PX = 256
FINEST_M_PER_PX = 0.1
MOST_PIXELS = 9_000_000
MOST_BYTES = 2_600_000
NOTHING_RGB = (34, 39, 47)
QUALITIES = (86, 80, 72)


@dataclass(frozen=True)
class MapLayer:
    """A JPEG whose pixel edges lie at these map metres: column 0 begins at `west_m`, row 0 at `north_m`."""

    jpeg: bytes
    west_m: float
    south_m: float
    east_m: float
    north_m: float
    meters_per_pixel: float


def cut_map_layer(aerial: AerialMap, track_m: Array, most_bytes: int = MOST_BYTES) -> MapLayer | None:
    """Imagery about a track (N, 2) of east, north in metres; None where there is none at all.

    As fine as the imagery itself, or as `MOST_PIXELS` and `most_bytes` allow.
    """
    track_m = track_m[np.isfinite(track_m).all(axis=1)]
    if not len(track_m):
        return None
    low, high = track_m.min(axis=0) - MARGIN_M, track_m.max(axis=0) + MARGIN_M
    gsd_m = max(_native_m_per_px(aerial, track_m), math.sqrt(float(np.prod(high - low)) / MOST_PIXELS))
    columns, rows = (max(1, math.ceil(float(side) / gsd_m / CELL_PX)) for side in high - low)
    west, north = float(low[0]), float(high[1])
    image = np.full((rows * CELL_PX, columns * CELL_PX, 3), NOTHING_RGB, np.uint8)
    cell_m, found = CELL_PX * gsd_m, False
    for row in range(rows):
        for column in range(columns):
            center = np.array([west + (column + 0.5) * cell_m, north - (row + 0.5) * cell_m])
            if np.hypot(*(track_m - center).T).min() > SEEN_M + cell_m * math.sqrt(0.5):
                continue
            try:
                patch = aerial.patch(float(center[0]), float(center[1]), CELL_PX, gsd_m)
            except MapError:
                continue
            found = True
            cell = image[row * CELL_PX : (row + 1) * CELL_PX, column * CELL_PX : (column + 1) * CELL_PX]
            cell[patch.valid] = patch.image[patch.valid]
    if not found:
        return None
    east, south = west + columns * cell_m, north - rows * cell_m
    return MapLayer(_encoded(image, most_bytes), west, south, east, north, gsd_m)


def _native_m_per_px(aerial: AerialMap, track_m: Array) -> float:
    """What the imagery itself has somewhere on the track; the finest worth drawing where nobody knows."""
    for point in track_m[:: max(1, len(track_m) // 8)]:
        try:
            native = aerial.patch(float(point[0]), float(point[1]), 64, FINEST_M_PER_PX).meters_per_pixel_source
        except MapError:
            continue
        return max(native or FINEST_M_PER_PX, FINEST_M_PER_PX)
    return FINEST_M_PER_PX


def _encoded(image: NDArray[np.uint8], most_bytes: int) -> bytes:
    """JPEG of at most `most_bytes`, if need be of fewer pixels: the extent stays."""
    while True:
        for quality in QUALITIES:
            _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
            if len(data) <= most_bytes or min(image.shape[:2]) < 64:
                return bytes(data.tobytes())
        size = (round(image.shape[1] * 0.75), round(image.shape[0] * 0.75))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
