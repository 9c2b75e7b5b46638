"""Which tiles an area needs: boxes, tracks and polygons with a buffer in metres, as rows of tile columns.

An area is kept as intervals of columns, not as a list of tiles, so that a country at a fine zoom is counted at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.aerial.spans import Bounds, Spans, around_line, clipped, inside_rings, on_the_globe
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MERCATOR_MAX_LATITUDE_DEG, mercator_pixel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """Lines and polygon rings in degrees, with a buffer around them.

    Each line and ring is (N, 2) latitude, longitude, the longitudes running on across the antimeridian (`unwrapped`).
    A line of one point is a place. Insides of rings are by the even-odd rule, so that holes are holes.
    Raises InputError when nothing is left of it or a position is not on Earth.
    """

    lines: tuple[Array, ...] = ()
    rings: tuple[Array, ...] = ()
    buffer_m: float = 0.0
    name: str = "area"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.buffer_m) and 0.0 <= self.buffer_m <= 100e3):
            raise InputError(f"the buffer is {self.buffer_m:g} m; give --buffer-m between 0 and 100000")
        if not any(len(line) for line in (*self.lines, *self.rings)):
            raise InputError(f"{self.name} has no positions; give a track, polygon or box with at least one")
        for line in (*self.lines, *self.rings):
            _check_positions(line, self.name)
        if min(self.latitudes_deg.max(), -self.latitudes_deg.min()) < -MERCATOR_MAX_LATITUDE_DEG:
            raise InputError(f"{self.name} lies beyond latitude ±85.05°, where web-mercator tiles end; use a GeoTIFF")

    @classmethod
    def from_box(
        cls, south_deg: float, west_deg: float, north_deg: float, east_deg: float, buffer_m: float = 0.0
    ) -> Area:
        """A box of latitudes and longitudes; west > east crosses the antimeridian. Raises InputError."""
        text = f"{south_deg:g},{west_deg:g},{north_deg:g},{east_deg:g}"
        if not all(map(math.isfinite, (south_deg, west_deg, north_deg, east_deg))):
            raise InputError(f"the box {text} is not four numbers; give S,W,N,E in degrees")
        if south_deg > north_deg:
            raise InputError(f"the box {text} has its south above its north; give S,W,N,E in degrees, in this order")
        if west_deg > east_deg:
            east_deg += 360.0
        if east_deg - west_deg > 360.0:
            raise InputError(f"the box {text} is wider than the Earth; give S,W,N,E in degrees")
        corners = [(south_deg, west_deg), (south_deg, east_deg), (north_deg, east_deg), (north_deg, west_deg)]
        return cls(rings=(np.array(corners, dtype=np.float64),), buffer_m=buffer_m, name=f"box {text}")

    @property
    def latitudes_deg(self) -> Array:
        """Of all positions."""
        return np.concatenate([line[:, 0] for line in (*self.lines, *self.rings) if len(line)])

    @property
    def middle_latitude_deg(self) -> float:
        """Halfway between the southernmost and the northernmost position."""
        latitudes_deg = self.latitudes_deg
        return float(latitudes_deg.min() + latitudes_deg.max()) / 2.0

    def tiles(self, zooms: Iterable[int], bounds: Bounds | None = None) -> TileSet:
        """The tiles that come within the buffer of the area, of these zooms, inside `bounds` where given."""
        spans = {}
        for zoom in sorted(set(zooms)):
            lines = [_tile_xy(line, zoom) for line in self.lines if len(line)]
            rings = [_tile_xy(np.concatenate([ring, ring[:1]]), zoom) for ring in self.rings if len(ring)]
            parts = [around_line(line, zoom, self.buffer_m) for line in lines]
            # Without a buffer, an edge that runs along the side of a tile belongs to the tiles inside alone.
            parts += [around_line(ring, zoom, self.buffer_m, skip_sides=self.buffer_m == 0.0) for ring in rings]
            parts.append(inside_rings(rings))
            merged = on_the_globe(np.concatenate(parts), zoom)
            spans[zoom] = merged if bounds is None else clipped(merged, bounds, zoom)
        return TileSet(spans)


@dataclass(frozen=True, eq=False)
class TileSet:
    """Tiles of several zooms. Its length counts them; iterating goes from coarse to fine, row by row."""

    spans: dict[int, Spans]
    """By zoom: disjoint intervals of columns, ordered by row and column."""

    @property
    def zooms(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(self.spans)

    @cached_property
    def counts(self) -> dict[int, int]:
        """Tiles of each zoom."""
        return {zoom: int((spans[:, 2] - spans[:, 1]).sum()) for zoom, spans in self.spans.items()}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __iter__(self) -> Iterator[TileKey]:
        for zoom in self.spans:
            yield from self.of_zoom(zoom)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, TileKey) or key.zoom not in self.spans:
            return False
        spans = self.spans[key.zoom]
        return bool(np.any((spans[:, 0] == key.row) & (spans[:, 1] <= key.column) & (key.column < spans[:, 2])))

    def of_zoom(self, zoom: int) -> Iterator[TileKey]:
        """The tiles of one zoom."""
        for row, first, stop in self.spans[zoom].tolist():
            for column in range(first, stop):
                yield TileKey(zoom, column, row)

    def spread(self, count: int) -> list[TileKey]:
        """Up to `count` tiles of the finest zoom that has any, evenly spaced along their order."""
        zoom = max((zoom for zoom, found in self.counts.items() if found), default=None)
        if zoom is None:
            return []
        ends = np.cumsum(self.spans[zoom][:, 2] - self.spans[zoom][:, 1])
        wanted = np.unique(((np.arange(count) + 0.5) / count * ends[-1]).astype(np.int64))
        rows = np.searchsorted(ends, wanted, side="right")
        columns = self.spans[zoom][rows, 2] - (ends[rows] - wanted)
        found = zip(columns.tolist(), self.spans[zoom][rows, 0].tolist(), strict=True)
        return [TileKey(zoom, column, row) for column, row in found]


def parse_box(text: str) -> tuple[float, float, float, float]:
    """S,W,N,E of an option. Raises InputError."""
    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f'--bbox "{text}" is not four numbers; give S,W,N,E in degrees, as 48.1,11.5,48.2,11.7'
        ) from None
    return south, west, north, east


def parse_zooms(text: str) -> tuple[int, ...]:
    """Zooms of "A-B" or "A". Raises InputError."""
    try:
        first, _, last = text.partition("-")
        low, high = int(first), int(last or first)
    except ValueError:
        low, high = -1, -1
    if not 0 <= low <= high <= 30:
        raise InputError(f'--zoom "{text}" is not a range of zooms; give for example 17-19, within 0 to 30')
    return tuple(range(low, high + 1))


def _check_positions(line: ArrayLike, name: str) -> None:
    positions = np.asarray(line)
    wrong = ~((np.abs(positions[:, 0]) <= 90.0) & (np.abs(positions[:, 1]) <= 540.0))
    if wrong.any():
        latitude, longitude = positions[int(np.argmax(wrong))].tolist()
        raise InputError(
            f"{name}: latitude {latitude:g}, longitude {longitude:g} is not on Earth; check the order of the two "
            "(GeoJSON has the longitude first, --bbox the latitude)"
        )


def unwrapped(line: ArrayLike) -> Array:
    """(N, 2) latitude, longitude whose longitudes run on across the antimeridian, each step the shorter way round."""
    positions = np.asarray(line, dtype=np.float64).reshape(-1, 2)
    return np.stack([positions[:, 0], np.unwrap(positions[:, 1], period=360.0)], axis=1)


def _tile_xy(line: Array, zoom: int) -> Array:
    """(N, 2) tile columns and rows, with fractions."""
    return np.stack(mercator_pixel(line[:, 0], line[:, 1], zoom, tile_size=1), axis=1)
