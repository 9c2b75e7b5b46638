"""Which tiles a vehicle will need next: around where it is, and ahead along its motion. For sources on the network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.geometry.geodesy import MapProjection, mercator_meters_per_pixel

if TYPE_CHECKING:
    from cross_view_loc.aerial.online import OnlineStore

# As TiledSource takes a zoom a hair coarser than asked for.
_COARSER_ACCEPTED = 1.02
_STAND_IN_LEVELS = 3
_MOST_TILES = 400


def online_store(source: AerialSource) -> OnlineStore | None:
    """The store behind a source that fetches tiles from the network; None for files."""
    from cross_view_loc.aerial.online import OnlineStore

    store = getattr(source, "store", None)
    return store if isinstance(store, OnlineStore) else None


class TilesAhead:
    """Tells a store which tiles will be wanted, as a vehicle moves over the map. Cheap: only when it has moved on.

    `reach_m` is how far about the vehicle imagery is looked at; `meters_per_pixel` the resolution it is asked for in.
    """

    def __init__(
        self,
        store: OnlineStore,
        projection: MapProjection,
        reach_m: float,
        meters_per_pixel: float,
        ahead_s: float = 20.0,
    ) -> None:
        self._store, self._projection = store, projection
        self._reach_m, self._meters_per_pixel, self._ahead_s = reach_m, meters_per_pixel, ahead_s
        self._last: tuple[int, float, float] | None = None
        self._told: tuple[float, float] | None = None

    def moved(self, stamp_ns: int, east_m: float, north_m: float) -> None:
        """The vehicle is (about) there: want what lies around it and where it will be within `ahead_s`."""
        velocity = self._velocity(stamp_ns, east_m, north_m)
        self._last = (stamp_ns, east_m, north_m)
        if self._told is not None and math.dist(self._told, (east_m, north_m)) < self._reach_m / 4.0:
            return
        self._told = (east_m, north_m)
        self._store.want(self.keys(east_m, north_m, velocity))

    def keys(self, east_m: float, north_m: float, velocity_m_s: tuple[float, float] = (0.0, 0.0)) -> list[TileKey]:
        """Tiles in the order of need: a coarse one that stands in first, then fine ones, the nearest in time first."""
        way_m = math.hypot(*velocity_m_s) * self._ahead_s
        steps = min(int(way_m / self._reach_m), 50)
        found: dict[TileKey, None] = {}
        for step in range(steps + 1):
            share = step * self._reach_m / way_m if step else 0.0
            center = [
                place + speed * self._ahead_s * share
                for place, speed in zip((east_m, north_m), velocity_m_s, strict=True)
            ]
            fine = self._square(center[0], center[1])
            coarse = {key.parent(min(_STAND_IN_LEVELS, key.zoom - self._store.zooms[0])): None for key in fine}
            found |= coarse | dict.fromkeys(fine)
        return list(found)[:_MOST_TILES]

    def _square(self, east_m: float, north_m: float) -> list[TileKey]:
        """Tiles of the zoom that patches are cut from, over the square of `reach_m` about a place, the middle first."""
        reach_m = self._reach_m
        latitude_deg, longitude_deg, _ = self._projection.to_geodetic(
            [east_m, east_m - reach_m, east_m + reach_m], [north_m, north_m + reach_m, north_m - reach_m]
        )
        zoom = self._zoom(float(latitude_deg[0]))
        middle, first, last = (
            TileKey.at(float(a), float(b), zoom) for a, b in zip(latitude_deg, longitude_deg, strict=True)
        )
        columns = (last.column - first.column) % 2**zoom + 1
        keys = [
            TileKey(zoom, (first.column + right) % 2**zoom, row)
            for row in range(first.row, last.row + 1)
            for right in range(columns)
        ]
        return sorted(keys, key=lambda key: max(abs(key.column - middle.column), abs(key.row - middle.row)))

    def _zoom(self, latitude_deg: float) -> int:
        for zoom in self._store.zooms:
            resolution = mercator_meters_per_pixel(latitude_deg, zoom, self._store.tile_size_px)
            if resolution <= self._meters_per_pixel * _COARSER_ACCEPTED:
                return zoom
        return self._store.zooms[-1]

    def _velocity(self, stamp_ns: int, east_m: float, north_m: float) -> tuple[float, float]:
        """East, north m/s since the last place; zero without one, or when time or place jumped."""
        if self._last is None:
            return 0.0, 0.0
        seconds = (stamp_ns - self._last[0]) * 1e-9
        if not 0.0 < seconds < 10.0:
            return 0.0, 0.0
        velocity = (east_m - self._last[1]) / seconds, (north_m - self._last[2]) / seconds
        return velocity if math.hypot(*velocity) < 70.0 else (0.0, 0.0)
