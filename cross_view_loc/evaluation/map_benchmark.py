"""How fast patches come from memory, disk and a server on this machine, and how much memory a long drive takes."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cross_view_loc.aerial.areas import Area
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.online import OnlineStore
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import NoImageryError
from cross_view_loc.evaluation.tile_server import PaintedTileServer, encode, paint_tile
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection

ORIGIN = MapOrigin(48.0, 11.0, 500.0)
ZOOM = 19
PATCH_PX, METERS_PER_PIXEL = 512, 0.2
"""About 100 m square, as the localizer asks for."""


@dataclass
class EndlessStore:
    """Every tile everywhere, from a few painted ones: what a drive across a country reads."""

    zooms: tuple[int, ...] = (ZOOM,)
    name: str = "endless"
    attribution: str = ""
    tile_size_px: int = 256
    bounds: tuple[float, float, float, float] = (-85.0, -180.0, 85.0, 180.0)
    problems: tuple[str, ...] = ()
    tiles_read: int = 0
    _pictures: list[bytes] = field(default_factory=lambda: [_picture(i) for i in range(8)])

    def read(self, key: TileKey) -> bytes | None:
        """See TileStore."""
        self.tiles_read += 1
        return self._pictures[(key.column + key.row) % len(self._pictures)]


def measure(repeats: int = 20, drive_km: float = 100.0) -> list[dict[str, object]]:
    """Rows of figures: patches cold over HTTP, from a warm disk, from warm memory; tiles a second; a long drive."""
    with tempfile.TemporaryDirectory() as folder, PaintedTileServer() as server:
        spec = SourceSpec(
            kind="xyz", name="loopback", url=server.url.replace(".png", ".jpg"), zoom_min=ZOOM, zoom_max=ZOOM,
            rate_per_s=1000.0, connections=4, bulk_download="allowed",
        )  # fmt: skip
        path = Path(folder) / "cache.mbtiles"
        area = Area(lines=(np.array([[ORIGIN.latitude_deg, ORIGIN.longitude_deg]]),), buffer_m=400.0)
        tiles = area.tiles([ZOOM])
        server.paint(tiles, "jpg")
        store = OnlineStore(spec, TileCache(path))
        try:
            rows = [_cold(store, repeats)]
        finally:
            store.close()
        store = OnlineStore(spec, TileCache(Path(folder) / "all.mbtiles"))
        try:
            started = time.perf_counter()
            report = store.fetch_all(tiles)
            seconds = time.perf_counter() - started
        finally:
            store.close()
        rows.append(
            {
                "setting": "prefetch, loopback",
                "tiles": report.fetched,
                "tiles_per_s": round(report.fetched / seconds, 1),
            }
        )
        rows += _warm(spec, Path(folder) / "all.mbtiles", repeats)
    rows.append(_long_drive(drive_km))
    return rows


def _cold(store: OnlineStore, repeats: int) -> dict[str, object]:
    """Patches nobody has asked for before: first what there is at once, then with all tiles."""
    first: list[float] = []
    complete: list[float] = []
    for index in range(repeats):
        east_m = 150.0 * (index % 5) - 300.0
        north_m = 150.0 * (index // 5 % 5) - 300.0
        aerial_map = _map(store)
        started = time.perf_counter()
        _patch_or_nothing(aerial_map, east_m, north_m)
        first.append(time.perf_counter() - started)
        store.drain(60.0)
        _patch_or_nothing(aerial_map, east_m, north_m)
        complete.append(time.perf_counter() - started)
    return {
        "setting": "cold, HTTP on the loopback",
        "patch_ms_p50": _milliseconds(complete),
        "returns_at_once_ms_p50": _milliseconds(first),
        "returns_at_once_ms_max": round(1e3 * max(first), 2),
    }


def _warm(spec: SourceSpec, path: Path, repeats: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    disk: list[float] = []
    memory: list[float] = []
    for index in range(repeats):
        store = OnlineStore(spec, TileCache(path), offline=True)
        try:
            aerial_map = _map(store)
            for seconds in (disk, memory):
                started = time.perf_counter()
                aerial_map.patch(7.0 * (index % 7), 5.0, PATCH_PX, METERS_PER_PIXEL)
                seconds.append(time.perf_counter() - started)
        finally:
            store.close()
    for name, times in (("warm disk", disk), ("warm memory", memory)):
        rows.append({"setting": name, "patch_ms_p50": _milliseconds(times)})
    return rows


def _long_drive(drive_km: float) -> dict[str, object]:
    """A patch every 25 m straight on: the memory after a tenth of the drive and at its end."""
    store = EndlessStore()
    source = TiledSource(store)
    samples: list[float] = []
    steps = max(10, round(drive_km * 1000.0 / 25.0))
    started = time.perf_counter()
    for step in range(steps):
        latitude = ORIGIN.latitude_deg + 25.0 * step / 111e3 * 0.6
        longitude = ORIGIN.longitude_deg + 25.0 * step / 111e3 * 0.8 / math.cos(math.radians(latitude))
        projection = MapProjection(MapOrigin(latitude, longitude))
        AerialMap(source, projection).patch(0.0, 0.0, PATCH_PX // 2, 2 * METERS_PER_PIXEL)
        if step % max(1, steps // 50) == 0:
            samples.append(resident_mb())
    settled = samples[len(samples) // 10 :]
    return {
        "setting": f"{drive_km:g} km drive",
        "patches": steps,
        "patch_ms_mean": round(1e3 * (time.perf_counter() - started) / steps, 2),
        "tiles_read": store.tiles_read,
        "memory_mb_start": round(samples[0], 1),
        "memory_mb_after_tenth": round(settled[0], 1),
        "memory_mb_most": round(max(settled), 1),
        "memory_mb_growth": round(settled[-1] - settled[0], 1),
    }


def resident_mb() -> float:
    """Memory of this process that is in use now, in 10⁶ bytes; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return math.nan
    return pages * 4096 / 1e6


def _map(store: OnlineStore) -> AerialMap:
    return AerialMap(TiledSource(store), MapProjection(ORIGIN))


def _patch_or_nothing(aerial_map: AerialMap, east_m: float, north_m: float) -> None:
    try:
        aerial_map.patch(east_m, north_m, PATCH_PX, METERS_PER_PIXEL)
    except NoImageryError:
        return


def _picture(index: int) -> bytes:
    return encode(paint_tile(TileKey(ZOOM, 270_000 + index, 180_000)), "jpg")


def _milliseconds(seconds: list[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 2)
