"""How fast patches come from memory, disk and a server on this machine, and how much memory a long drive takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cross_view_loc.aerial.areas import Area
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.online import OnlineStore
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.errors import NoImageryError
from cross_view_loc.evaluation.map_drive import long_drive
from cross_view_loc.evaluation.tile_server import PaintedTileServer
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection

ORIGIN = MapOrigin(48.0, 11.0, 500.0)
ZOOM = 19
PATCH_PX, METERS_PER_PIXEL = 512, 0.2
"""About 100 m square, as the localizer asks for."""


def measure(
    repeats: int = 20, drive_km: float = 100.0, on_step: Callable[[], object] = lambda: None
) -> list[dict[str, object]]:
    """Rows of figures: patches cold over HTTP, from a warm disk, from warm memory; tiles a second; a long drive.

    `on_step` is called after each of the drive's steps, of which there are 20 a kilometre.
    """
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
    rows.append(long_drive(drive_km, on_step=on_step))
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


def _map(store: OnlineStore) -> AerialMap:
    return AerialMap(TiledSource(store), MapProjection(ORIGIN))


def _patch_or_nothing(aerial_map: AerialMap, east_m: float, north_m: float) -> None:
    try:
        aerial_map.patch(east_m, north_m, PATCH_PX, METERS_PER_PIXEL)
    except NoImageryError:
        return


def _milliseconds(seconds: list[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 2)
