"""From a source's YAML to imagery: the right store for its kind, a cache where it is online, its offset."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cross_view_loc.aerial.offsets import OffsetSource
from cross_view_loc.aerial.origin import parse_map_origin
from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.aerial.spec import LOCAL_KINDS, SourceSpec
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.urls import shown_url
from cross_view_loc.errors import MapError

_TEMPLATE_START = re.compile(r"[^/]*\{")


def open_spec(spec: SourceSpec, cache_path: str | Path | None = None, offline: bool = False) -> AerialSource:
    """The imagery a spec describes. `cache_path` overrides the spec's; `offline` forbids the network.

    Raises MissingInputError for a missing file or API key, MapError for what cannot be used.
    """
    source = _open_file(spec) if spec.is_local_file else TiledSource(open_online(spec, cache_path, offline))
    if spec.map_offset_m != (0.0, 0.0) or spec.map_offset_regions:
        return OffsetSource(source, spec.map_offset_m, spec.map_offset_regions)
    return source


def open_online(spec: SourceSpec, cache_path: str | Path | None = None, offline: bool = False) -> Any:
    """The store (OnlineStore) of a source on the network, with its cache.

    Raises MissingInputError when its API key is not set, MapError when the service does not offer what is asked.
    """
    from cross_view_loc.aerial.cache import TileCache
    from cross_view_loc.aerial.http import TileClient
    from cross_view_loc.aerial.online import OnlineStore
    from cross_view_loc.aerial.raster_client import RasterClient

    path = Path(cache_path) if cache_path is not None else spec.cache_path or default_cache_path(spec)
    if not offline:
        spec.api_key()
    if spec.capabilities_url:
        from cross_view_loc.aerial.capabilities import with_capabilities

        spec = with_capabilities(spec, path, offline)
    cache = TileCache(path, spec.cache_limit_mb, source=source_identity(spec), metadata=cache_metadata(spec))
    client: Any = RasterClient(spec) if spec.kind == "geotiff" else TileClient(spec)
    return OnlineStore(spec, cache, client, offline=offline)


def default_cache_path(spec: SourceSpec) -> Path:
    """Where the tiles of a source are kept when nothing else is said."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cross_view_loc" / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', spec.name)}.mbtiles"


def source_identity(spec: SourceSpec) -> str:
    """What tiles in a cache are tiles of; holds no secret."""
    return f"{spec.kind} {shown_url(spec)} {spec.tile_size_px} px"


def cache_metadata(spec: SourceSpec) -> dict[str, str]:
    """Rows for the metadata of an MBTiles file with the source's tiles; holds no secret."""
    south, west, north, east = spec.bounds
    rows = {
        "name": spec.name,
        "type": "baselayer",
        "description": f"Tiles of {shown_url(spec)}",
        "bounds": f"{west:.6f},{south:.6f},{east:.6f},{north:.6f}",
        "minzoom": str(spec.zoom_min),
        "maxzoom": str(spec.zoom_max),
        "attribution": spec.attribution,
        "licence": spec.licence,
        "licence_url": spec.licence_url,
    }
    return {name: value for name, value in rows.items() if value}


def _open_file(spec: SourceSpec) -> AerialSource:
    path, template = _file_of(spec)
    source: AerialSource
    if spec.kind == "geotiff":
        from cross_view_loc.aerial.geotiff import GeotiffSource

        source = GeotiffSource(path, crs=spec.crs, attribution=spec.attribution)
    elif spec.kind == "mbtiles":
        from cross_view_loc.aerial.mbtiles import MbtilesSource

        source = MbtilesSource(path, attribution=spec.attribution)
    elif spec.kind == "pmtiles":
        source = open_pmtiles(path, spec.attribution)
    elif spec.kind in ("wms", "wmts"):
        raise MapError(f"{spec.name}: a {spec.kind} service is at an http address; for files use kind folder.")
    else:
        from cross_view_loc.aerial.folder import FolderStore

        source = TiledSource(FolderStore(path, template, spec.scheme, spec.attribution))
    return source


def open_pmtiles(path: Path, attribution: str = "") -> TiledSource:
    """A PMTiles file as imagery. Raises as PmtilesStore does, and MapError for a senseless map_origin in it."""
    from cross_view_loc.aerial.pmtiles import PmtilesStore

    store = PmtilesStore(path, attribution)
    text = store.map_origin_text
    return TiledSource(store, parse_map_origin(text, store.name) if text else None)


def _file_of(spec: SourceSpec) -> tuple[Path, str]:
    """The file or folder of a local source, and the template of tiles below it ("" without one)."""
    if spec.path is not None:
        return spec.path, ""
    whole = unquote(urlsplit(spec.url).path)
    if spec.kind in LOCAL_KINDS[:2] or spec.kind == "geotiff" or "{" not in whole:
        return Path(whole), ""
    start = _TEMPLATE_START.search(whole)
    cut = start.start() if start else len(whole)
    retina = "@2x" if spec.tile_size_px >= 512 else ""
    return Path(whole[:cut] or "/"), whole[cut:].replace("{r}", retina)
