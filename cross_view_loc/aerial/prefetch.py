"""What fetching an area ahead of a drive will take, found out before anybody is asked whether to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross_view_loc.aerial.areas import Area, TileSet
from cross_view_loc.aerial.inventory import Inventory
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.errors import InputError, MapError
from cross_view_loc.geometry.geodesy import mercator_meters_per_pixel

WANTED_M_PER_PX = 0.3
"""Imagery finer than this holds nothing more for the localizer, which looks at 0.2 m and coarser."""
STAND_IN_ZOOMS = 2
"""Coarser zooms fetched besides: they add a third, and stand in where a tile of the finest is missing."""
SAMPLES = 4
_TYPICAL_BYTES_PER_PX = 0.3
_COUNTED = 300_000


@dataclass(frozen=True)
class Plan:
    """Tiles to fetch, and what is known of their cost."""

    tiles: TileSet
    held: int
    """Tiles that the file has already."""
    tile_bytes: float
    """Mean size of a tile."""
    bytes_from: str
    """Where `tile_bytes` comes from, in words."""

    @property
    def to_fetch(self) -> int:
        """Tiles that the file does not have."""
        return len(self.tiles) - self.held

    @property
    def size_bytes(self) -> float:
        """About what the tiles to fetch will weigh."""
        return self.to_fetch * self.tile_bytes


def refuse_unless_allowed(spec: SourceSpec) -> None:
    """Raise InputError when the source cannot or must not be fetched in bulk."""
    if spec.is_local_file:
        raise InputError(
            f"{spec.name} is a file on this machine already; give it with --map, there is nothing to fetch"
        )
    if spec.bulk_download != "allowed":
        terms = f" (terms: {spec.licence_url})" if spec.licence_url else ""
        raise InputError(
            f"{spec.name} forbids fetching areas ahead{terms}; take another source, or set bulk_download: allowed in "
            "its YAML if its terms allow it to you"
        )


def wanted_zooms(spec: SourceSpec, area: Area, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """The zooms asked for, or else the first one fine enough for the localizer and two coarser ones.

    Raises InputError when the source does not have a zoom that was asked for.
    """
    if asked is not None:
        if asked[0] < spec.zoom_min or asked[-1] > spec.zoom_max:
            raise InputError(
                f"{spec.name} has zooms {spec.zoom_min} to {spec.zoom_max}, not {asked[0]}-{asked[-1]}; "
                "give others with --zoom"
            )
        return asked
    finest = spec.zoom_min
    while finest < spec.zoom_max and _metres(area, finest, spec) > WANTED_M_PER_PX:
        finest += 1
    return tuple(range(max(spec.zoom_min, finest - STAND_IN_ZOOMS), finest + 1))


def make_plan(spec: SourceSpec, area: Area, zooms: tuple[int, ...], out: Path) -> Plan:
    """Count tiles and estimate their size; asks the server for a few tiles unless `out` has some.

    Writes nothing. Raises InputError when the area has no tiles or the disk no room, MapError with the reason when the
    server refuses or does not answer.
    """
    tiles = area.tiles(zooms, spec.bounds)
    if not len(tiles):
        south, west, north, east = spec.bounds
        raise InputError(
            f"{area.name} lies outside {spec.name}, which covers {south:g},{west:g},{north:g},{east:g} (S,W,N,E); "
            "check the area or take another source"
        )
    held, tile_bytes, bytes_from = _from_file(out, tiles) if out.is_file() else (0, 0.0, "")
    if not tile_bytes:
        tile_bytes, bytes_from = _from_server(spec, tiles)
    plan = Plan(tiles, held, tile_bytes, bytes_from)
    free_bytes = shutil.disk_usage(out.parent).free
    if plan.size_bytes > 0.95 * free_bytes:
        raise InputError(
            f"{plan.to_fetch} tiles need about {plan.size_bytes / 1e9:.1f} GB, but the disk of {out} has "
            f"{free_bytes / 1e9:.1f} GB left; give a smaller area, a lower --zoom or another --out"
        )
    return plan


def _metres(area: Area, zoom: int, spec: SourceSpec) -> float:
    return mercator_meters_per_pixel(area.middle_latitude_deg, zoom, spec.tile_size_px)


def _from_file(out: Path, tiles: TileSet) -> tuple[int, float, str]:
    with Inventory(out) as inventory:
        rows = inventory.zooms()
        count, size_bytes = sum(row.tiles for row in rows), sum(row.size_bytes for row in rows)
        held = sum(inventory.has(key) for key in tiles) if count and len(tiles) <= _COUNTED else 0
    return held, size_bytes / max(count, 1), f"mean of the {count} tiles in {out.name}"


def _from_server(spec: SourceSpec, tiles: TileSet) -> tuple[float, str]:
    client = _client(spec)
    sizes: list[int] = []
    reason = ""
    try:
        for key in tiles.spread(SAMPLES):
            answer = client.fetch(key)
            if answer.status == "ok" and answer.data is not None:
                sizes.append(len(answer.data))
            elif answer.status in ("refused", "failed"):
                reason = answer.reason
                break
    finally:
        client.close()
    if sizes:
        return sum(sizes) / len(sizes), f"mean of {len(sizes)} tiles tried"
    if reason:
        raise MapError(reason)
    return _TYPICAL_BYTES_PER_PX * spec.tile_size_px**2, "a typical size: the server has none of the tiles tried"


def _client(spec: SourceSpec) -> Any:
    from cross_view_loc.aerial.http import TileClient
    from cross_view_loc.aerial.raster_client import RasterClient

    return RasterClient(spec) if spec.kind == "geotiff" else TileClient(spec)
