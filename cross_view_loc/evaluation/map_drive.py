"""A long drive over an online map on this machine: does whatever is kept in memory stay bounded?"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cross_view_loc.aerial.ahead import TilesAhead
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.online import OnlineStore
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import NoImageryError
from cross_view_loc.evaluation.tile_server import PaintedTileServer, encode, paint_tile
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection

ORIGIN = MapOrigin(48.0, 8.0, 500.0)
ZOOM = 19
PATCH_PX, METERS_PER_PIXEL = 400, 0.2
STEP_M, SPEED_M_S = 50.0, 20.0
_DIRECTION = (0.8, 0.6)
CACHE_MB = 50.0
"""Small, so that the drive goes on long after the file is full."""
_WAIT_S = 10.0
_SETTLED = 0.3
"""Share of the drive after which every memory has had time to fill."""


def answer(key: TileKey, pictures: list[bytes]) -> tuple[int, dict[str, str], bytes]:
    """One tile in 16 does not exist, one is the same placeholder everywhere, all others differ in their bytes."""
    kind = hash(key) % 16
    if kind == 0:
        return 404, {"Content-Type": "text/plain"}, b"no such tile"
    picture = pictures[0] if kind == 1 else pictures[kind % len(pictures)] + str(key).encode()
    return 200, {"Content-Type": "image/jpeg", "Cache-Control": "max-age=3600"}, picture


def long_drive(
    drive_km: float, zooms: tuple[int, int] = (15, ZOOM), on_step: Callable[[], object] = lambda: None
) -> dict[str, object]:
    """A patch every 50 m along a straight track, its tiles fetched ahead from a server on this machine.

    The row says what was in memory at most, and how fast this process grew once everything had had time to fill.
    """
    pictures = [encode(paint_tile(TileKey(ZOOM, 270_000 + index, 180_000)), "jpg") for index in range(8)]
    steps = max(10, round(drive_km * 1000.0 / STEP_M))
    with (
        tempfile.TemporaryDirectory() as folder,
        PaintedTileServer(answer=lambda key: answer(key, pictures), counts=False) as server,
    ):
        spec = SourceSpec(
            kind="xyz", name="loopback", url=server.url.replace(".png", ".jpg"), zoom_min=zooms[0], zoom_max=zooms[1],
            rate_per_s=1000.0, connections=4,
        )  # fmt: skip
        cache = TileCache(Path(folder) / "cache.mbtiles", CACHE_MB)
        store = OnlineStore(spec, cache)
        source = TiledSource(store)
        projection = MapProjection(ORIGIN, "utm")  # a tangent plane is for the neighbourhood
        aerial_map = AerialMap(source, projection)
        ahead = TilesAhead(store, projection, PATCH_PX * METERS_PER_PIXEL, METERS_PER_PIXEL)
        most: dict[str, int] = {}
        resident: list[tuple[float, float]] = []
        partial = empty = 0
        started = time.perf_counter()
        patch_s: list[float] = []
        try:
            for step in range(steps):
                east_m, north_m = (STEP_M * step * share for share in _DIRECTION)
                ahead.moved(round(step * STEP_M / SPEED_M_S * 1e9), east_m, north_m)
                store.drain(_WAIT_S)
                before = time.perf_counter()
                try:
                    patch = aerial_map.patch(east_m, north_m, PATCH_PX, METERS_PER_PIXEL)
                    partial += not patch.valid.all()
                except NoImageryError:
                    empty += 1
                patch_s.append(time.perf_counter() - before)
                for name, count in {**store.held, "decoded": source.decoded, "file": cache.size_bytes}.items():
                    most[name] = max(most.get(name, 0), count)
                if step % max(1, steps // 100) == 0:
                    resident.append((step * STEP_M / 1000.0, resident_mb()))
                on_step()
            seconds = time.perf_counter() - started
            fetched = store.arrivals
        finally:
            store.close()
    settled = np.array(resident[int(_SETTLED * len(resident)) :])
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]) if len(settled) > 2 else math.nan
    return {
        "setting": f"{drive_km:g} km drive",
        "patches": steps,
        "patch_ms_p50": round(1e3 * float(np.median(patch_s)), 2),
        "tiles_fetched": fetched,
        "tiles_per_s": round(fetched / seconds, 1),
        "partial_patches": partial,
        "empty_patches": empty,
        "memory_mb_start": round(resident[0][1], 1),
        "memory_mb_most": round(max(mb for _, mb in resident), 1),
        "memory_mb_growth_per_100_km": round(100.0 * slope, 1),
        "tile_memory_mb_most": round(most["bytes"] / 1e6, 1),
        "decoded_tiles_most": most["decoded"],
        "absent_tiles_most": most["absent"],
        "changed_tiles_most": most["changed"],
        "queued_tiles_most": most["queued"],
        "file_mb_most": round(most["file"] / 1e6, 1),
    }


def resident_mb() -> float:
    """Memory of this process that is in use now, in 10⁶ bytes; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return math.nan
    return pages * 4096 / 1e6
