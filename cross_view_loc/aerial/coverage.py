"""Whether a store has the tiles that an area needs: counts, damaged tiles, holes along a track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.areas import TileSet
from cross_view_loc.aerial.picture import picture_header
from cross_view_loc.aerial.tiles import TileKey, TileStore, decode_tile
from cross_view_loc.geometry.geodesy import geodetic_to_ecef

Array = NDArray[np.float64]

_LISTED = 1000
_STEP_M = 5.0


@dataclass
class Coverage:
    """How much of what is needed is there, by zoom."""

    wanted: dict[int, int] = field(default_factory=dict)
    present: dict[int, int] = field(default_factory=dict)
    damaged: list[TileKey] = field(default_factory=list)
    """Tiles that are there but are no whole picture; the first thousand."""
    absent: list[TileKey] = field(default_factory=list)
    """Tiles that are not there; the first thousand."""

    @property
    def share(self) -> float:
        """Share of the wanted tiles of the finest zoom that is there and whole."""
        finest = max(self.wanted, default=None)
        return self.present[finest] / max(self.wanted[finest], 1) if finest is not None else 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every tile of every zoom is there and whole."""
        return self.present == self.wanted

    def rows(self) -> list[dict[str, int | float]]:
        """One row a zoom, for people and programs."""
        return [
            {
                "zoom": zoom,
                "wanted": wanted,
                "present": self.present[zoom],
                "share": round(self.present[zoom] / max(wanted, 1), 4),
            }
            for zoom, wanted in self.wanted.items()
        ]


@dataclass(frozen=True)
class Hole:
    """A stretch of a track without tiles of the zoom that was asked for."""

    start: tuple[float, float]
    """Latitude, longitude."""
    end: tuple[float, float]
    length_m: float
    from_start_m: float
    """How far along the track it begins."""


def survey(
    store: TileStore, tiles: TileSet, decode: bool = False, on_tile: Callable[[], object] = lambda: None
) -> Coverage:
    """Look for every tile of a set. `decode` also unpacks each picture: slower, and finds damage inside."""
    result = Coverage()
    for zoom in tiles.zooms:
        result.wanted[zoom], result.present[zoom] = tiles.counts[zoom], 0
        for key in tiles.of_zoom(zoom):
            data = store.read(key)
            if data is None:
                _note(result.absent, key)
            elif not is_picture(data, decode):
                _note(result.damaged, key)
            else:
                result.present[zoom] += 1
            on_tile()
    return result


def is_picture(data: bytes, decode: bool) -> bool:
    """Whether the bytes are a whole picture, by their frame or by unpacking them."""
    header = picture_header(data)
    if header is not None and not header.is_whole:
        return False
    return decode_tile(data) is not None if decode or header is None else True


def holes_along(
    lines: Sequence[Array], has_tile: Callable[[TileKey], bool], zoom: int, step_m: float = _STEP_M
) -> tuple[list[Hole], float]:
    """Stretches of the lines, (N, 2) latitude and longitude, that lie on tiles which are not there; and their length.

    Lines are looked at every `step_m` metres; a hole's ends are right to that.
    """
    known: dict[TileKey, bool] = {}
    holes: list[Hole] = []
    total_m = before_m = 0.0
    for line in lines:
        points, along_m = _densely(line, step_m)
        keys = [TileKey.at(latitude, longitude, zoom) for latitude, longitude in points]
        for key in keys:
            if key not in known:
                known[key] = has_tile(key)
        open_at: int | None = None
        for index, there in enumerate([*(known[key] for key in keys), True]):
            if not there and open_at is None:
                open_at = index
            elif there and open_at is not None:
                holes.append(_hole(points, along_m, open_at, index - 1, before_m))
                open_at = None
        total_m += float(along_m[-1])
        before_m = total_m
    return holes, total_m


def _hole(points: Array, along_m: Array, first: int, last: int, before_m: float) -> Hole:
    start, end = points[first].tolist(), points[last].tolist()
    length_m = float(along_m[last] - along_m[first])
    return Hole((start[0], start[1]), (end[0], end[1]), length_m, before_m + float(along_m[first]))


def _densely(line: Array, step_m: float) -> tuple[Array, Array]:
    """Points at most `step_m` apart along a line, and how far along it they lie."""
    xyz = geodetic_to_ecef(line[:, 0], line[:, 1], np.zeros(len(line)))
    lengths_m = np.linalg.norm(np.diff(xyz, axis=0), axis=1)
    at_m = np.concatenate([[0.0], np.cumsum(lengths_m)])
    steps = np.unique(np.concatenate([at_m, np.arange(0.0, at_m[-1], step_m)]))
    return np.stack([np.interp(steps, at_m, line[:, axis]) for axis in (0, 1)], axis=1), steps


def _note(keys: list[TileKey], key: TileKey) -> None:
    if len(keys) < _LISTED:
        keys.append(key)
