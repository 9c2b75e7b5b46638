"""`cross_view_loc map`: look into an aerial map, check it along a track, cut a picture out of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cross_view_loc.aerial.ahead import online_store
from cross_view_loc.aerial.areas import Area, parse_box, parse_zooms
from cross_view_loc.aerial.coverage import holes_along, survey
from cross_view_loc.aerial.export import MercatorGrid, export
from cross_view_loc.aerial.inventory import Inventory
from cross_view_loc.aerial.mbtiles import MbtilesStore
from cross_view_loc.aerial.sources import AerialSource, open_source
from cross_view_loc.aerial.tiles import TileKey, TileStore
from cross_view_loc.commands.prefetch import lines_of_file
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import mercator_geodetic, mercator_meters_per_pixel

EXAMPLES = """examples:
  cross_view_loc map info city.mbtiles
  cross_view_loc map check city.mbtiles --track tour.gpx --buffer-m 60
  cross_view_loc map check city.mbtiles --track my_bag --json
  cross_view_loc map export city.mbtiles --bbox 48.13,11.55,48.14,11.57 --out part.tif
  cross_view_loc map export city.tif --bbox 48.13,11.55,48.14,11.57 --zoom 18 --out part.png

Of an online source (a YAML) the tiles in its cache are looked at; nothing is fetched.
`check` unpacks every tile of an MBTiles file; its exit status is 1 when tiles are damaged or the track has holes.
`export` writes web mercator (EPSG:3857): a GeoTIFF, or a PNG with a world file (.pgw, .prj) beside it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done with a map."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{info,check,export}")
    info = actions.add_parser("info", help="coverage, zooms, age, size")
    check = actions.add_parser("check", help="damaged tiles, holes along a track")
    check.add_argument("--track", type=Path, metavar="FILE", help="GPX, GeoJSON or a bag: where imagery is needed")
    check.add_argument("--buffer-m", type=float, default=0.0, metavar="M", help="and around it (%(default)s)")
    check.add_argument("--zoom", type=parse_zooms, metavar="A-B", help="zooms needed; default: the map's finest")
    cut = actions.add_parser("export", help="GeoTIFF or PNG of an area")
    cut.add_argument("--bbox", required=True, metavar="S,W,N,E", help="the area in degrees")
    cut.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .tif or .png")
    cut.add_argument("--zoom", type=parse_zooms, metavar="Z", help="default: the map's finest")
    for action in (info, check, cut):
        action.add_argument("map", type=Path, metavar="MAP", help="an .mbtiles or any other map that `run` takes")
        action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    return {"info": _info, "check": _check, "export": _export}[options.action](options)


def store_of(source: AerialSource) -> TileStore | None:
    """The tiles of a map that is made of tiles, None for rasters."""
    return getattr(source, "store", None)


def file_of(path: Path, source: AerialSource) -> Path | None:
    """The MBTiles file that holds the tiles: the map itself, or the cache of an online source; None for others."""
    online = online_store(source)
    file = path if online is None else online.cache.path
    return file if file.suffix.lower() == ".mbtiles" else None


def _opened(path: Path) -> AerialSource:
    """The map as it is on this machine: looking into an online source's cache must fetch nothing."""
    return open_source(path, offline=True)


def _info(options: argparse.Namespace) -> int:
    source = _opened(options.map)
    file = file_of(options.map, source)
    counts = _counts(file)
    # Of an online source, what its cache holds: the service's own bounds are often the whole world.
    south, west, north, east = MbtilesStore(file).bounds if file is not None and counts else source.bounds
    facts: dict[str, Any] = {
        "file": str(options.map),
        "attribution": source.attribution,
        "south_west_north_east_deg": [south, west, north, east],
        "map_origin": dataclasses.asdict(source.map_origin) if source.map_origin else None,
        "size_bytes": (file or options.map).stat().st_size if (file or options.map).is_file() else None,
    }
    if file is not None and file != options.map:
        facts["cache"] = str(file)
    middle_deg = (south + north) / 2
    store = store_of(source)
    if store is not None:
        size_px = facts["tile_size_px"] = store.tile_size_px
        facts["zooms"] = [
            {"zoom": zoom, "metres_per_pixel": round(mercator_meters_per_pixel(middle_deg, zoom, size_px), 4)}
            | counts.get(zoom, {})
            for zoom in store.zooms
            if zoom in counts or not counts
        ]
    facts |= _file_facts(file)
    facts["problems"] = list(source.problems)
    if options.json:
        print(json.dumps(facts))
    else:
        _print_info(facts)
    return 0


def _counts(file: Path | None) -> dict[int, dict[str, int]]:
    if file is None:
        return {}
    with Inventory(file) as inventory:
        return {row.zoom: {"tiles": row.tiles, "size_bytes": row.size_bytes} for row in inventory.zooms()}


def _file_facts(file: Path | None) -> dict[str, Any]:
    """Age and metadata, which only MBTiles files have."""
    if file is None:
        return {}
    with Inventory(file) as inventory:
        ages = inventory.ages(time.time())
        return {"age": dataclasses.asdict(ages) if ages else None, "metadata": inventory.metadata}


def _print_info(facts: dict[str, Any]) -> None:
    south, west, north, east = facts["south_west_north_east_deg"]
    print(f"{facts['file']}: latitude {south:.6f} to {north:.6f}, longitude {west:.6f} to {east:.6f}")
    print(f"  attribution  {facts['attribution'] or '-'}")
    for name in ("licence", "licence_url", "name", "format"):
        if facts.get("metadata", {}).get(name):
            print(f"  {name:12s} {facts['metadata'][name]}")
    if "cache" in facts:
        print(f"  cache        {facts['cache']}")
    if facts["size_bytes"]:
        print(f"  size         {facts['size_bytes'] / 1e6:.1f} MB")
    for row in facts.get("zooms", []):
        tiles = f", {row['tiles']} tiles, {row['size_bytes'] / 1e6:.1f} MB" if "tiles" in row else ""
        print(f"  zoom {row['zoom']:2d}      {row['metres_per_pixel']:.3f} m per pixel{tiles}")
    if facts.get("age"):
        age = facts["age"]
        print(f"  fetched      {_day(age['oldest_s'])} to {_day(age['newest_s'])}, median {_day(age['median_s'])}")
        print(f"  expired      {age['expired']} tiles; of {age['known_missing']} more the server has none")
    for problem in facts["problems"]:
        print(f"  problem      {problem}")


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d")


def _check(options: argparse.Namespace) -> int:
    source = _opened(options.map)
    file = file_of(options.map, source)
    result: dict[str, Any] = {"file": str(file or options.map)}
    if file is not None:
        damaged, total = _damaged(file)
        result |= {"tiles": total, "damaged": [str(key) for key in damaged], "age": _file_facts(file)["age"]}
    if options.track is not None:
        result |= _along(source, options)
    elif "tiles" not in result:
        raise InputError(f"{options.map} is no MBTiles file, whose tiles could be checked; give --track")
    result["problems"] = list(source.problems)
    if result.get("tiles") == 0:
        result["problems"].append(f"{file} holds no tiles yet.")
    result["ok"] = not (result.get("damaged") or result.get("holes") or result["problems"])
    if options.json:
        print(json.dumps(result))
    else:
        _print_check(result)
    return 0 if result["ok"] else 1


def _damaged(path: Path) -> tuple[list[TileKey], int]:
    with Inventory(path) as inventory:
        total = sum(row.tiles for row in inventory.zooms())
        with tqdm(inventory.tiles(), total=total, unit="tile", file=sys.stderr, disable=None) as bar:
            return sorted(key for key, is_whole in bar if not is_whole), total


def _along(source: AerialSource, options: argparse.Namespace) -> dict[str, Any]:
    """Holes along the track's middle, and coverage of what lies within the buffer."""
    lines = lines_of_file(options.track)
    area = Area(lines=lines, buffer_m=options.buffer_m, name=str(options.track))
    store = store_of(source)
    if store is not None:
        zooms = options.zoom or store.zooms[-1:]
        holes, length_m = holes_along(lines, lambda key: store.read(key) is not None, zooms[-1])
        coverage = survey(store, area.tiles(zooms))
        rows: list[dict[str, int | float]] | None = coverage.rows()
    else:
        # Rasters are asked at the middles of tiles of a few metres.
        holes, length_m = holes_along(lines, lambda key: source.contains(*_middle(key)), 22)
        rows = None
    return {
        "track": str(options.track),
        "track_m": round(length_m, 1),
        "holes": [dataclasses.asdict(hole) for hole in holes],
        "holes_m": round(sum(hole.length_m for hole in holes), 1),
        "coverage": rows,
    }


def _middle(key: TileKey) -> tuple[float, float]:
    latitude_deg, longitude_deg = mercator_geodetic(key.column + 0.5, key.row + 0.5, key.zoom, 1)
    return float(latitude_deg), float(longitude_deg)


def _print_check(result: dict[str, Any]) -> None:
    if "tiles" in result:
        print(f"{result['file']}: {result['tiles']} tiles, {len(result['damaged'])} damaged")
        for key in result["damaged"][:10]:
            print(f"  tile {key} is damaged; run prefetch again to replace it")
        if result["age"]:
            print(
                f"  fetched {_day(result['age']['oldest_s'])} or later; {result['age']['expired']} tiles have expired"
            )
    if "holes" in result:
        print(f"{result['track']}: {result['track_m']:.0f} m, {result['holes_m']:.0f} m of it without imagery")
        for hole in result["holes"][:10]:
            (latitude, longitude), length = hole["start"], hole["length_m"]
            at = f"latitude {latitude:.6f}, longitude {longitude:.6f}"
            print(f"  hole of {length:.0f} m, {hole['from_start_m']:.0f} m from the start, at {at}")
        for row in result["coverage"] or []:
            print(f"  zoom {row['zoom']}: {row['present']} of {row['wanted']} tiles within the buffer")
    for problem in result["problems"]:
        print(f"  {problem}")
    print("all is there" if result["ok"] else "fetch what is missing with cross_view_loc prefetch")


def _export(options: argparse.Namespace) -> int:
    box = parse_box(options.bbox)
    area = Area.from_box(*box)  # refuses boxes that are none
    if not options.out.parent.is_dir():
        raise MissingInputError(f"there is no folder {options.out.parent}; create it or give another --out")
    source = _opened(options.map)
    zoom = options.zoom[-1] if options.zoom else _finest(source, area.middle_latitude_deg)
    store = store_of(source)
    grid = MercatorGrid.of_box(box, zoom, store.tile_size_px if store is not None else 256)
    with tqdm(total=grid.height_px, unit="row", file=sys.stderr, disable=None) as bar:
        share = export(source, grid, options.out, lambda count: bar.update(count))
    facts = {
        "out": str(options.out),
        "zoom": zoom,
        "width_px": grid.width_px,
        "height_px": grid.height_px,
        "metres_per_pixel": round(mercator_meters_per_pixel(area.middle_latitude_deg, zoom, grid.tile_size_px), 4),
        "covered": round(share, 4),
        "attribution": source.attribution,
    }
    if options.json:
        print(json.dumps(facts))
    else:
        print(
            f"{options.out}: {grid.width_px} × {grid.height_px} pixels of {facts['metres_per_pixel']:.3f} m, EPSG:3857,"
            f" {share:.1%} with imagery; credit: {source.attribution or '-'}"
        )
    return 0


def _finest(source: AerialSource, latitude_deg: float) -> int:
    """The map's finest zoom; for rasters, the first one that is as fine as 0.2 m."""
    store = store_of(source)
    if store is not None:
        return store.zooms[-1]
    return int(np.argmax([mercator_meters_per_pixel(latitude_deg, zoom) <= 0.2 for zoom in range(31)]))
