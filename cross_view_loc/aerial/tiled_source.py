"""Imagery from a store of web-mercator tiles: the right zoom, exact resampling, lower zooms where tiles are missing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.resampling import bilinear, reduce
from cross_view_loc.aerial.sources import Sample
from cross_view_loc.aerial.tiles import Problems, Tile, TileKey, TileStore, decode_tile
from cross_view_loc.geometry.geodesy import MapOrigin, mercator_meters_per_pixel, mercator_pixel

Array = NDArray[np.float64]

# A zoom a hair coarser than asked for is taken rather than one twice as fine.
_COARSER_ACCEPTED = 1.02
# Tiles up to 16 times coarser stand in for missing ones; beyond that a picture says nothing about where kerbs are.
_STAND_IN_LEVELS = 4
_MAX_MOSAIC_PX = 4096 * 4096
_DECODED_BYTES = 64 * 2**20
_REMEMBERED_UNREADABLE = 1000


class TiledSource:
    """An AerialSource over any TileStore. Decoded tiles are kept: `cache_tiles` of them, about 64 MB by default."""

    def __init__(self, store: TileStore, map_origin: MapOrigin | None = None, cache_tiles: int | None = None) -> None:
        self.store = store
        self._map_origin = map_origin
        tile_bytes = 4 * store.tile_size_px**2
        self._cache_tiles = max(16, _DECODED_BYTES // tile_bytes) if cache_tiles is None else cache_tiles
        self._cache: OrderedDict[TileKey, tuple[Tile, int]] = OrderedDict()
        """Decoded tiles, each with the store's revision of it."""
        self._revision_of: Callable[[TileKey], int] = getattr(store, "revision_of", lambda key: 0)
        self._unreadable: OrderedDict[TileKey, int] = OrderedDict()
        self._problems = Problems()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """As the store calls itself."""
        return self.store.name

    @property
    def attribution(self) -> str:
        """Whom to credit; empty when the map does not say."""
        return self.store.attribution

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees."""
        return self.store.bounds

    @property
    def map_origin(self) -> MapOrigin | None:
        """Origin the map itself recommends, or None."""
        return self._map_origin

    @property
    def zooms(self) -> tuple[int, ...]:
        """The zooms of the store, ascending."""
        return self.store.zooms

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self.store.tile_size_px

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each tile that could not be read or decoded, and for whatever else the store met."""
        return self.store.problems + self._problems.sentences

    @property
    def problem_count(self) -> int:
        """Undecodable tiles met so far, and the store's problems."""
        return self._problems.count + len(self.store.problems)

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether any zoom has a tile at the place now."""
        keys = (TileKey.at(latitude_deg, longitude_deg, zoom) for zoom in reversed(self.store.zooms))
        return any(self.store.read(key) is not None for key in keys)

    def sample(
        self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """See AerialSource: RGB (H, W, 3) and valid (H, W), bilinear from the nearest zoom that is fine enough."""
        taken = self.sample_detailed(latitude_deg, longitude_deg, meters_per_pixel)
        return taken.image, taken.valid

    def sample_detailed(self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float) -> Sample:
        """As `sample`, and which share of it lower zooms stand in for."""
        latitude_deg, longitude_deg = np.asarray(latitude_deg), np.asarray(longitude_deg)
        image = np.zeros((*latitude_deg.shape, 3), dtype=np.uint8)
        valid = np.zeros(latitude_deg.shape, dtype=bool)
        middle_deg = float(latitude_deg[latitude_deg.shape[0] // 2, latitude_deg.shape[1] // 2])
        best = self._zoom_for(middle_deg, meters_per_pixel)
        first_count, resolution_sum = 0, 0.0
        for zoom in reversed([z for z in self.store.zooms if best - _STAND_IN_LEVELS <= z <= best]):
            box = _bounding_box(~valid)
            if box is None:
                break
            part, part_valid = self._sample_zoom(zoom, latitude_deg[box], longitude_deg[box], meters_per_pixel)
            new = part_valid & ~valid[box]
            image[box][new] = part[new]
            valid[box] |= new
            count = int(new.sum())
            resolution_sum += count * mercator_meters_per_pixel(middle_deg, zoom, self.tile_size)
            first_count += count if zoom == best else 0
        total = int(valid.sum())
        if total == 0:
            return Sample(image, valid)
        return Sample(image, valid, stand_in=1.0 - first_count / total, meters_per_pixel=resolution_sum / total)

    def _zoom_for(self, latitude_deg: float, meters_per_pixel: float) -> int:
        for zoom in self.store.zooms:
            resolution = mercator_meters_per_pixel(latitude_deg, zoom, self.tile_size)
            if resolution <= meters_per_pixel * _COARSER_ACCEPTED:
                return zoom
        return self.store.zooms[-1]

    def _sample_zoom(self, zoom: int, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float) -> Tile:
        """What one zoom alone has at the positions, averaged down first where it is much finer than asked for."""
        middle_deg = float(latitude_deg[latitude_deg.shape[0] // 2, latitude_deg.shape[1] // 2])
        finer = meters_per_pixel / mercator_meters_per_pixel(middle_deg, zoom, self.tile_size)
        x, y = mercator_pixel(latitude_deg, longitude_deg, zoom, self.tile_size)
        return self._sample_blocks(zoom, x, y, factor=max(1, int(finer * _COARSER_ACCEPTED)))

    def _sample_blocks(self, zoom: int, x: Array, y: Array, factor: int) -> Tile:
        """Sample global pixels; splits the request where its mosaic would not fit comfortably in memory."""
        # Whole blocks of `factor` counted from the world's corner: the same pixels whatever is asked for around them.
        left, top = (int(np.floor((values.min() - 1.0) / factor)) * factor for values in (x, y))
        right, bottom = (int(np.ceil((values.max() + 1.0) / factor)) * factor for values in (x, y))
        if (right - left) * (bottom - top) > _MAX_MOSAIC_PX and max(x.shape) > 16:
            axis = int(np.argmax(x.shape))
            halves = zip(np.array_split(x, 2, axis), np.array_split(y, 2, axis), strict=True)
            images, valids = zip(*(self._sample_blocks(zoom, *half, factor) for half in halves), strict=True)
            return np.concatenate(images, axis), np.concatenate(valids, axis)
        image, valid = reduce(*self._mosaic(zoom, left, top, right, bottom), factor)
        return bilinear(image, valid, (x - left) / factor, (y - top) / factor)

    def _mosaic(self, zoom: int, left: int, top: int, right: int, bottom: int) -> Tile:
        """Global pixels [left, right) × [top, bottom) of a zoom, put together from tiles."""
        size = self.tile_size
        image = np.zeros((bottom - top, right - left, 3), dtype=np.uint8)
        valid = np.zeros((bottom - top, right - left), dtype=bool)
        for row in range(top // size, (bottom - 1) // size + 1):
            for column in range(left // size, (right - 1) // size + 1):
                tile = self._tile(TileKey(zoom, column % 2**zoom, row))
                if tile is None:
                    continue
                x0, x1 = max(left, column * size), min(right, (column + 1) * size)
                y0, y1 = max(top, row * size), min(bottom, (row + 1) * size)
                target = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
                source = np.s_[y0 - row * size : y1 - row * size, x0 - column * size : x1 - column * size]
                image[target], valid[target] = tile[0][source], tile[1][source]
        return image, valid

    @property
    def decoded(self) -> int:
        """Decoded tiles in memory."""
        return len(self._cache)

    def _tile(self, key: TileKey) -> Tile | None:
        """The decoded tile, or None. A missing one is asked for again next time: it may have arrived."""
        if not key.exists:
            return None
        revision = self._revision_of(key)  # before reading: a change in between is noticed next time
        with self._lock:
            tile, decoded_revision = self._cache.pop(key, (None, 0))
            if tile is not None and decoded_revision == revision:
                self._cache[key] = tile, revision
                return tile
        data = self.store.read(key)
        if data is None or self._unreadable.get(key) == hash(data):
            return None
        tile = decode_tile(data, self.tile_size)
        with self._lock:
            if tile is None:
                self._unreadable[key] = hash(data)
                while len(self._unreadable) > _REMEMBERED_UNREADABLE:
                    self._unreadable.popitem(last=False)
            else:
                self._cache[key] = tile, revision
                while len(self._cache) > self._cache_tiles:
                    self._cache.popitem(last=False)
        if tile is None:
            self._problems.add(f"Tile {key} of {self.name} is not a readable image; fetch it again.")
        return tile


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Smallest rows and columns that hold every true pixel; None when there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
