"""A WMTS layer's tile template, zooms, formats and bounds from the service's GetCapabilities document.

Only the web-mercator tile pyramid is taken (any names of the zooms): other grids would need tiles reprojected.
Names follow OGC 07-057r7.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import MAX_ZOOM, WORLD_BOUNDS_DEG
from cross_view_loc.aerial.urls import redacted
from cross_view_loc.errors import MapError
from cross_view_loc.geometry.geodesy import WGS84_A_M

_HALF_WORLD_M = math.pi * WGS84_A_M
_PIXEL_M = 0.28e-3
"""The pixel that the standard counts scale denominators with."""
_MERCATOR = re.compile(r"(?:EPSG:+.*|/)(3857|900913|102100|102113|3785)$", re.IGNORECASE)
_PICTURE_FORMATS = ("image/jpeg", "image/jpg", "image/png", "image/webp", "image/png8")
_HREF = "{http://www.w3.org/1999/xlink}href"


def resolved(spec: SourceSpec, document: bytes) -> SourceSpec:
    """`spec` with everything about its layer filled in from a GetCapabilities document; what it says itself stays.

    Raises MapError when the document is none, has no such layer, or offers it neither in web mercator nor as pictures.
    """
    root = _root(spec, document)
    layer = _layer(spec, root)
    style, picture_format = _style(layer, spec.style), _format(spec, layer)
    matrix_set, zooms = _matrix_set(spec, root, layer)
    wanted = [zoom for zoom in sorted(zooms) if spec.zoom_min <= zoom <= spec.zoom_max]
    while wanted and wanted[-1] - wanted[0] + 1 != len(wanted):
        wanted.pop(0)  # a gap in the pyramid: keep the fine end
    if not wanted:
        raise MapError(
            f"{spec.name}: layer {spec.layer} has zooms {min(zooms)} to {max(zooms)}, none within"
            f" {spec.zoom_min} to {spec.zoom_max}; change zoom_min and zoom_max."
        )
    return dataclasses.replace(
        spec,
        url=_template(spec, root, layer, picture_format),
        style=style,
        image_format=picture_format,
        tile_matrix_set=matrix_set,
        tile_matrix_ids=tuple(zooms[zoom][0] for zoom in wanted),
        tile_size_px=zooms[wanted[-1]][1],
        zoom_min=wanted[0],
        zoom_max=wanted[-1],
        bounds=_bounds(layer) if spec.bounds == WORLD_BOUNDS_DEG else spec.bounds,
        attribution=spec.attribution or _text(root, "ServiceProvider", "ProviderName"),
        licence=spec.licence or _text(root, "ServiceIdentification", "AccessConstraints"),
    )


def _root(spec: SourceSpec, document: bytes) -> Element:
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError:
        root = None
    if root is None or _name(root) != "Capabilities" or _first(root, "Contents") is None:
        raise MapError(
            f"{spec.name}: {redacted(spec.capabilities_url)} is no WMTS GetCapabilities document;"
            " check capabilities_url."
        )
    return root


def _layer(spec: SourceSpec, root: Element) -> Element:
    layers = {_text(layer, "Identifier"): layer for layer in _all(root, "Contents", "Layer")}
    if spec.layer in layers:
        return layers[spec.layer]
    close = difflib.get_close_matches(spec.layer, layers, n=3, cutoff=0.4) or sorted(layers)[:5]
    raise MapError(
        f'{spec.name}: the service has no layer "{spec.layer}"; set layer to one of its {len(layers)}, such as'
        f" {', '.join(close)}."
    )


def _style(layer: Element, wanted: str) -> str:
    styles = list(_all(layer, "Style"))
    chosen = [style for style in styles if style.get("isDefault", "").lower() in ("true", "1")] or styles
    return wanted or (_text(chosen[0], "Identifier") if chosen else "default")


def _format(spec: SourceSpec, layer: Element) -> str:
    offered = [(item.text or "").strip() for item in _all(layer, "Format")]
    if spec.image_format:
        if spec.image_format not in offered:
            raise MapError(
                f"{spec.name}: layer {spec.layer} is not offered as {spec.image_format}; set image_format to one of"
                f" {', '.join(offered)}."
            )
        return spec.image_format
    for picture_format in _PICTURE_FORMATS:
        if picture_format in offered:
            return picture_format
    kind = "vector tiles" if any("vector" in item or "mvt" in item for item in offered) else "no pictures"
    raise MapError(
        f"{spec.name}: layer {spec.layer} is {kind} ({', '.join(offered)}); choose a layer of orthophotos as jpeg, png"
        " or webp."
    )


def _matrix_set(spec: SourceSpec, root: Element, layer: Element) -> tuple[str, dict[int, tuple[str, int]]]:
    """The tile matrix set to use, and its {zoom: (name of the zoom, tile size in pixels)}."""
    links = {_text(link, "TileMatrixSet"): link for link in _all(layer, "TileMatrixSetLink")}
    sets = {_text(item, "Identifier"): item for item in _all(root, "Contents", "TileMatrixSet")}
    if spec.tile_matrix_set and spec.tile_matrix_set not in links:
        raise MapError(
            f'{spec.name}: layer {spec.layer} has no tile_matrix_set "{spec.tile_matrix_set}"; its sets are'
            f" {', '.join(links)}."
        )
    for name in [spec.tile_matrix_set] if spec.tile_matrix_set else list(links):
        if name not in sets or not _MERCATOR.search(_text(sets[name], "SupportedCRS")):
            continue
        limited = {
            _text(limits, "TileMatrix") for limits in _all(links[name], "TileMatrixSetLimits", "TileMatrixLimits")
        }
        zooms = _pyramid(sets[name])
        zooms = {zoom: found for zoom, found in zooms.items() if not limited or found[0] in limited}
        if zooms:
            return name, zooms
    names = {_text(sets[name], "SupportedCRS") for name in links if name in sets}
    offered = sorted(re.sub(r"^.*EPSG.*[:/]", "EPSG:", name) for name in names)
    raise MapError(
        f"{spec.name}: layer {spec.layer} is not offered as web-mercator tiles (EPSG:3857), only as"
        f" {', '.join(offered) or 'nothing'}; use the provider's WMS or another layer."
    )


def _pyramid(matrix_set: Element) -> dict[int, tuple[str, int]]:
    """The matrices that are zooms of the web-mercator pyramid, with one and the same tile size."""
    zooms: dict[int, tuple[str, int]] = {}
    for matrix in _all(matrix_set, "TileMatrix"):
        try:
            pixel_m = float(_text(matrix, "ScaleDenominator")) * _PIXEL_M
            left_m, top_m = (float(value) for value in _text(matrix, "TopLeftCorner").split())
            width_px, height_px = int(_text(matrix, "TileWidth")), int(_text(matrix, "TileHeight"))
            exact = math.log2(2.0 * _HALF_WORLD_M / (width_px * pixel_m))
        except (ValueError, ZeroDivisionError):
            continue
        at_corner = abs(left_m + _HALF_WORLD_M) < 1.0 and abs(top_m - _HALF_WORLD_M) < 1.0
        zoom = round(exact)
        if abs(exact - zoom) < 1e-4 and at_corner and width_px == height_px and 0 <= zoom <= MAX_ZOOM:
            zooms[zoom] = (_text(matrix, "Identifier"), width_px)
    sizes = {size for _, size in zooms.values()}
    return {zoom: found for zoom, found in zooms.items() if found[1] == min(sizes)}


def _template(spec: SourceSpec, root: Element, layer: Element, picture_format: str) -> str:
    """The address of tiles: the layer's own template, or the service's address for key-value requests."""
    for resource in _all(layer, "ResourceURL"):
        if resource.get("resourceType") == "tile" and resource.get("format") == picture_format:
            template = resource.get("template", "")
            for dimension in _all(layer, "Dimension"):
                placeholder = "{" + _text(dimension, "Identifier") + "}"
                value = _text(dimension, "Default").replace("\\", "")
                template = re.sub(re.escape(placeholder), value, template, flags=re.IGNORECASE)
            return template
    for operation in _all(root, "OperationsMetadata", "Operation"):
        if operation.get("name") == "GetTile":
            for get in operation.iter():
                if _name(get) == "Get" and get.get(_HREF):
                    values = [(value.text or "").upper() for value in get.iter() if _name(value) == "Value"]
                    if not values or "KVP" in values:
                        return str(get.get(_HREF)).rstrip("?&")
    return spec.url or spec.capabilities_url.partition("?")[0]


def _bounds(layer: Element) -> tuple[float, float, float, float]:
    try:
        west, south = (float(value) for value in _text(layer, "WGS84BoundingBox", "LowerCorner").split())
        east, north = (float(value) for value in _text(layer, "WGS84BoundingBox", "UpperCorner").split())
    except ValueError:
        return WORLD_BOUNDS_DEG
    return (south, west, north, east) if south < north and west != east else WORLD_BOUNDS_DEG


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, *path: str) -> Iterator[Element]:
    """Descendants along a path of names, whatever their namespaces."""
    for child in element:
        if _name(child) == path[0]:
            if len(path) == 1:
                yield child
            else:
                yield from _all(child, *path[1:])


def _first(element: Element, *path: str) -> Element | None:
    return next(_all(element, *path), None)


def _text(element: Element, *path: str) -> str:
    found = _first(element, *path)
    return (found.text or "").strip() if found is not None else ""
