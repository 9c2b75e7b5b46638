"""Tiles that lines and polygons touch, as intervals of columns row by row.

A line with a buffer is a row of capsules. Within one row of tiles a capsule, which is convex, has an interval of
columns; its ends are exact, because the extremum along the capsule is at one of a few known places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.geodesy import WGS84_A_M, mercator_geodetic, mercator_pixel

Array = NDArray[np.float64]
Spans = NDArray[np.int64]
"""(N, 3) row, first column, last column + 1."""

Bounds = tuple[float, float, float, float]
"""South, west, north, east in degrees; west > east means across the antimeridian."""

_ELLIPSOID_STRETCH = 1.007
"""A metre spans up to 0.7 % more of a web-mercator map than on a sphere of the equator's radius."""

_LATITUDE_STEP_DEG = 0.05
"""Along pieces of a line this high the buffer's size in tiles varies by less than a percent below 85°."""

_TOUCH = 1e-6
"""Tiles that are only touched, to this share of a tile, are not needed."""

_CHUNK = 4096


def around_line(line: Array, zoom: int, buffer_m: float, skip_sides: bool = False) -> Spans:
    """Tiles within `buffer_m` of a line of (N, 2) tile columns and rows; `skip_sides` leaves out tiles' own sides."""
    start, end = (line[:-1], line[1:]) if len(line) > 1 else (line, line)
    start, end = _short_pieces(start, end, zoom)
    if skip_sides:
        on_side = (start == end) & (np.abs(start - np.round(start)) < _TOUCH)
        keep = ~on_side.any(axis=1)
        start, end = start[keep], end[keep]
    latitude_deg = np.abs([mercator_geodetic(0.0, points[:, 1], zoom, 1)[0] for points in (start, end)]).max(axis=0)
    cosine = np.cos(np.radians(np.minimum(latitude_deg + buffer_m / 111e3, 89.9)))
    radius = buffer_m * _ELLIPSOID_STRETCH * 2.0**zoom / (2.0 * np.pi * WGS84_A_M * cosine)
    chunks = range(0, len(start), _CHUNK)
    parts = [_capsules(start[i : i + _CHUNK], end[i : i + _CHUNK], radius[i : i + _CHUNK], 2**zoom) for i in chunks]
    return np.concatenate([np.zeros((0, 3), np.int64), *parts])


def inside_rings(rings: Sequence[Array]) -> Spans:
    """Tiles whose middle row crosses the inside (even-odd) of closed rings, each (N, 2) tile columns and rows.

    Together with the tiles around the rings' edges these are all the tiles that the polygon touches.
    """
    if not rings:
        return np.zeros((0, 3), np.int64)
    start, end = (np.concatenate(ends) for ends in zip(*((ring[:-1], ring[1:]) for ring in rings), strict=True))
    # Edge by edge, the rows whose middle lies in [low, high).
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first, stop = np.ceil(low - 0.5).astype(np.int64), np.ceil(high - 0.5).astype(np.int64)
    edge, row = _expand(first, stop)
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
    order = np.lexsort((x, row))
    pairs, rows = x[order].reshape(-1, 2), row[order].reshape(-1, 2)[:, 0]
    return _intervals(rows, pairs[:, 0], pairs[:, 1])


def on_the_globe(spans: Spans, zoom: int) -> Spans:
    """Disjoint ordered spans, columns brought into the world, rows beyond it left out."""
    count = 2**zoom
    spans = spans[(spans[:, 0] >= 0) & (spans[:, 0] < count)]
    width = np.minimum(spans[:, 2] - spans[:, 1], count)
    first = spans[:, 1] % count
    first[width == count] = 0
    stop = first + width
    over = stop > count
    wrapped = np.stack([spans[over, 0], np.zeros(over.sum(), np.int64), stop[over] - count], axis=1)
    return _merged(np.concatenate([np.stack([spans[:, 0], first, np.minimum(stop, count)], axis=1), wrapped]))


def clipped(spans: Spans, bounds: Bounds, zoom: int) -> Spans:
    """What of disjoint spans lies in tiles that the bounds touch."""
    south, west, north, east = bounds
    east += 360.0 if west > east else 0.0
    x, y = mercator_pixel([north, south], [west, east], zoom, tile_size=1)
    rows = np.arange(int(np.floor(y[0] + _TOUCH)), int(np.ceil(y[1] - _TOUCH)))
    (allowed,) = [_intervals(rows[:1], x[:1], x[1:])] if len(rows) else [np.zeros((0, 3), np.int64)]
    parts = []
    for _, first, stop in on_the_globe(allowed, zoom).tolist():
        part = np.stack([spans[:, 0], np.maximum(spans[:, 1], first), np.minimum(spans[:, 2], stop)], axis=1)
        parts.append(part[(part[:, 1] < part[:, 2]) & (part[:, 0] >= rows[0]) & (part[:, 0] <= rows[-1])])
    return _merged(np.concatenate([np.zeros((0, 3), np.int64), *parts]))


def _short_pieces(start: Array, end: Array, zoom: int) -> tuple[Array, Array]:
    """The segments cut so that the scale of the map hardly changes along each."""
    latitudes = [mercator_geodetic(0.0, points[:, 1], zoom, 1)[0] for points in (start, end)]
    count = np.maximum(1, np.ceil(np.abs(latitudes[1] - latitudes[0]) / _LATITUDE_STEP_DEG).astype(np.int64))
    segment, piece = _expand(np.zeros_like(count), count)
    step = (end - start)[segment] / count[segment, None]
    return start[segment] + piece[:, None] * step, start[segment] + (piece[:, None] + 1) * step


def _capsules(start: Array, end: Array, radius: Array, row_count: int) -> Spans:
    """Tiles within `radius` (N,) of segments (N, 2) to (N, 2), all in tiles."""
    top = np.minimum(start[:, 1], end[:, 1]) - radius
    bottom = np.maximum(start[:, 1], end[:, 1]) + radius
    first = np.floor(top + _TOUCH).astype(np.int64)
    stop = np.maximum(np.ceil(bottom - _TOUCH).astype(np.int64), first + 1)
    segment, row = _expand(np.clip(first, 0, row_count), np.clip(stop, 0, row_count))
    origin, step, r = start[segment], (end - start)[segment], radius[segment]
    length = np.hypot(step[:, 0], step[:, 1])
    # Along the segment (0 to 1), a disc's part inside the row reaches furthest where it enters or leaves the row or
    # where the capsule's straight side does: `lean` is how far the disc's centre then lies outside the row.
    lean = r * np.abs(step[:, 0]) / np.maximum(length, 1e-300)
    levels = np.stack([row - r, row - lean, row, row + 1.0, row + 1 + lean, row + 1 + r], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num((levels - origin[:, 1:]) / step[:, 1:], nan=0.0, posinf=1.0, neginf=0.0)
    t = np.clip(np.concatenate([t, np.zeros((len(t), 1)), np.ones((len(t), 1))], axis=1), 0.0, 1.0)
    center = origin[:, None] + t[..., None] * step[:, None]
    outside = np.maximum(np.maximum(row[:, None] - center[..., 1], center[..., 1] - row[:, None] - 1.0), 0.0)
    squared = r[:, None] ** 2 - outside**2
    reach = np.where(squared >= -1e-12, np.sqrt(np.maximum(squared, 0.0)), np.nan)
    touched = np.isfinite(reach).any(axis=1)
    west, east = (center[..., 0] - reach)[touched], (center[..., 0] + reach)[touched]
    return _intervals(row[touched], np.nanmin(west, axis=1), np.nanmax(east, axis=1))


def _intervals(row: Spans, west: Array, east: Array) -> Spans:
    """Spans of the columns between two edges in tiles."""
    first = np.floor(west + _TOUCH).astype(np.int64)
    stop = np.maximum(np.ceil(east - _TOUCH).astype(np.int64), first + 1)
    return np.stack([row, first, stop], axis=1)


def _expand(first: Spans, stop: Spans) -> tuple[Spans, Spans]:
    """For each index i, every number from first[i] to stop[i] − 1: the indices and the numbers."""
    count = np.maximum(stop - first, 0)
    index = np.repeat(np.arange(len(count)), count)
    return index, first[index] + np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)


def _merged(spans: Spans) -> Spans:
    """Ordered, disjoint spans."""
    if not len(spans):
        return spans
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    # Rows laid one behind the other make one axis, on which an interval starts anew where it passes all before it.
    world = int(spans[:, 2].max()) + 1
    first, stop = spans[:, 0] * world + spans[:, 1], spans[:, 0] * world + spans[:, 2]
    reached = np.maximum.accumulate(stop)
    new = np.concatenate([[True], first[1:] > reached[:-1]])
    groups = np.flatnonzero(new)
    ends = np.concatenate([groups[1:], [len(spans)]]) - 1
    return np.stack([spans[groups, 0], spans[groups, 1], reached[ends] - spans[groups, 0] * world], axis=1)
