"""Addresses of tiles from a source's template, and the same addresses fit to be shown (no API keys).

Placeholders: {z} {x} {y}, {-y} (rows from the south), {q} (quadkey), {s} (subdomain), {r} ("@2x" for 512 px tiles),
{key} (API key), {bbox} (west,south,east,north in EPSG:3857 metres), {tile_size}, {layer}, {style}, and as WMTS has
them {TileMatrix} {TileCol} {TileRow} {TileMatrixSet} {Layer} {Style}.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import MapError
from cross_view_loc.geometry.geodesy import WGS84_A_M

if TYPE_CHECKING:
    from cross_view_loc.aerial.spec import SourceSpec

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ROWS = ("y", "-y", "tilerow")
_COLUMNS = ("x", "tilecol")
_ZOOMS = ("z", "tilematrix")
_OTHERS = ("q", "s", "r", "key", "bbox", "tile_size", "layer", "style", "tilematrixset")
# Query parameters whose values people consider secret although they stand in the template.
_SECRET = re.compile(r"((?:^|[?&;])[^=&;]*(?:key|token|secret|signature|sig|password|passwd)=)[^&;#]+", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@]+@")
_HALF_WORLD_M = math.pi * WGS84_A_M


def tile_url(spec: SourceSpec, key: TileKey) -> str:
    """Address of a tile with the API key in it: for the request alone, never for a log, an error or the cache.

    Raises MissingInputError when the API key's environment variable is not set.
    """
    template = _template(spec)
    return _filled(spec, template, key, quote(spec.api_key(), safe="") if "{key}" in template else "")


def shown_url(spec: SourceSpec, key: TileKey | None = None) -> str:
    """Address of a tile, or the template, with every secret left out."""
    template = _template(spec)
    return redacted(_filled(spec, template, key, "***") if key else template)


def redacted(url: str) -> str:
    """An address without user names, passwords and what looks like a key in the query."""
    return _SECRET.sub(r"\1***", _USERINFO.sub("", url))


def check_address(spec: SourceSpec, where: str) -> None:
    """Raise MapError with one sentence when the source's url cannot be an address or template of its kind."""
    for label, address in (("url", spec.url), ("capabilities_url", spec.capabilities_url)):
        parts = urlsplit(address.replace("{s}", "s"))
        if address and not (
            (parts.scheme == "file" and parts.path) or (parts.scheme in ("http", "https") and parts.netloc)
        ):
            raise MapError(
                f'{where}: {label} "{redacted(address)}" is no address; it begins http://, https:// or file://'
            )
    names = {name.lower() for name in _PLACEHOLDER.findall(spec.url)}
    for name in sorted(names - {*_ROWS, *_COLUMNS, *_ZOOMS, *_OTHERS}):
        raise MapError(f"{where}: {{{name}}} in url is no known placeholder; use {{z}}, {{x}}, {{y}} and the like.")
    if "s" in names and not spec.subdomains:
        raise MapError(f"{where}: url has {{s}} but there are no subdomains; give them, as [a, b, c].")
    if spec.kind == "xyz" or (spec.kind == "folder" and names):
        complete = "q" in names or all(names & set(some) for some in (_ZOOMS, _COLUMNS, _ROWS))
        if not complete:
            raise MapError(f"{where}: url must hold {{z}}, {{x}} and {{y}} (or {{-y}}), or {{q}}; see config/sources.")
    if spec.kind == "wmts" and not spec.capabilities_url and not names & {*_ZOOMS} and not spec.tile_matrix_set:
        raise MapError(f"{where} has no tile_matrix_set; name the service's web-mercator one or give capabilities_url.")
    if spec.kind in ("wmts", "wms") and not names & {*_ZOOMS, "bbox"} and not spec.layer:
        raise MapError(f"{where} has no layer; name the layer of orthophotos that the service offers.")
    try:
        spec.tile_matrix.format(z=1)
    except (KeyError, IndexError, ValueError):
        raise MapError(
            f'{where}: tile_matrix "{spec.tile_matrix}" is no pattern of {{z}}, as EPSG:3857:{{z}}.'
        ) from None


def _template(spec: SourceSpec) -> str:
    """The template; WMTS and WMS requests are put together where only the service's address is given."""
    names = {name.lower() for name in _PLACEHOLDER.findall(spec.url)}
    if spec.kind == "wmts" and not names & {*_ZOOMS}:
        return _with_query(
            spec.url,
            SERVICE="WMTS", REQUEST="GetTile", VERSION=spec.version or "1.0.0", LAYER=spec.layer, STYLE=spec.style,
            FORMAT=spec.image_format or "image/jpeg", TILEMATRIXSET=spec.tile_matrix_set,
            TILEMATRIX="{TileMatrix}", TILEROW="{TileRow}", TILECOL="{TileCol}",
        )  # fmt: skip
    if spec.kind == "wms" and "bbox" not in names:
        version = spec.version or "1.3.0"
        return _with_query(
            spec.url,
            SERVICE="WMS", REQUEST="GetMap", VERSION=version, LAYERS=spec.layer, STYLES=spec.style,
            **{"SRS" if version.startswith("1.1") else "CRS": "EPSG:3857"},
            BBOX="{bbox}", WIDTH="{tile_size}", HEIGHT="{tile_size}", FORMAT=spec.image_format or "image/jpeg",
        )  # fmt: skip
    return spec.url


def _with_query(url: str, **values: str) -> str:
    """The address with the query; its own parameters of the same names give way, placeholders stay readable."""
    base, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and part.split("=")[0].upper() not in values]
    return f"{base}?{'&'.join([*kept, urlencode(values, safe='{}/:,')])}"


def _filled(spec: SourceSpec, template: str, key: TileKey, secret: str) -> str:
    from_south = (spec.scheme == "tms") if "{-y}" not in template else False
    row = key.row_from_south if from_south else key.row
    side_m = 2.0 * _HALF_WORLD_M / 2**key.zoom
    west_m, north_m = key.column * side_m - _HALF_WORLD_M, _HALF_WORLD_M - key.row * side_m
    box_m = (west_m, north_m - side_m, west_m + side_m, north_m)
    if spec.tile_matrix_ids:
        matrix = spec.tile_matrix_ids[min(max(key.zoom - spec.zoom_min, 0), len(spec.tile_matrix_ids) - 1)]
    else:
        matrix = spec.tile_matrix.format(z=key.zoom)
    subdomain = spec.subdomains[(key.column + key.row) % len(spec.subdomains)] if spec.subdomains else ""
    fill = {
        "z": str(key.zoom), "x": str(key.column), "y": str(row), "-y": str(key.row_from_south), "q": key.quadkey,
        "s": subdomain, "r": "@2x" if spec.tile_size_px >= 512 else "", "key": secret,
        "bbox": ",".join(f"{value:.6f}" for value in box_m), "tile_size": str(spec.tile_size_px),
        "tilematrix": quote(matrix, safe=":"), "tilecol": str(key.column), "tilerow": str(row),
        "tilematrixset": quote(spec.tile_matrix_set, safe=":"), "layer": quote(spec.layer, safe=":,"),
        "style": quote(spec.style or "default", safe=":,"),
    }  # fmt: skip
    return _PLACEHOLDER.sub(lambda match: fill.get(match[1].lower(), match[0]), template)
