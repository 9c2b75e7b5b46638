"""Tracks and polygons from GPX and GeoJSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.areas import unwrapped
from cross_view_loc.errors import InputError, MissingInputError

Array = NDArray[np.float64]

_MAX_BYTES = 500_000_000


@dataclass(frozen=True)
class Shapes:
    """What a file draws: lines and polygon rings, each (N, 2) latitude, longitude in degrees."""

    lines: tuple[Array, ...] = ()
    rings: tuple[Array, ...] = ()


def read_shapes(path: str | Path) -> Shapes:
    """Lines and rings of a .gpx, .geojson or .json file. Raises MissingInputError or InputError naming the file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingInputError(f"there is no file {path}; give a GPX or GeoJSON file")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is larger than 500 MB; give a thinner track")
    suffix = path.suffix.lower()
    if suffix not in (".gpx", ".geojson", ".json"):
        raise InputError(f"{path} is neither GPX nor GeoJSON; give a file that ends in .gpx, .geojson or .json")
    shapes = _read_gpx(path) if suffix == ".gpx" else _read_geojson(path)
    if not shapes.lines and not shapes.rings:
        raise InputError(f"{path} has no positions; give a track, route, waypoints, line or polygon")
    return shapes


def read_track(path: str | Path) -> tuple[Array, ...]:
    """Lines of a file; the edges of polygons count as lines too. Raises as `read_shapes`."""
    shapes = read_shapes(path)
    return shapes.lines + shapes.rings


def read_polygon(path: str | Path) -> tuple[Array, ...]:
    """Rings of the polygons of a GeoJSON file. Raises as `read_shapes`, and InputError when it has none."""
    shapes = read_shapes(path)
    if not shapes.rings:
        raise InputError(f"{path} has no polygon; give a GeoJSON Polygon, or this file with --track")
    return shapes.rings


def _read_gpx(path: Path) -> Shapes:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError) as error:
        raise InputError(f"{path} is not readable as GPX ({error}); export it again") from error
    lines: list[Array] = []
    places: list[tuple[float, float]] = []
    for element in root.iter():
        kind = _local_name(element)
        if kind in ("trkseg", "rte"):
            points = [_gpx_point(child, path) for child in element if _local_name(child) in ("trkpt", "rtept")]
            if points:
                lines.append(unwrapped(points))
        elif kind == "wpt":
            places.append(_gpx_point(element, path))
    # Waypoints mark places of a track; alone, they are the places that are meant.
    return Shapes(tuple(lines) or tuple(unwrapped([place]) for place in places))


def _local_name(element: ElementTree.Element) -> str:
    """Without the namespace, of which GPX has two versions and many writers have none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _gpx_point(element: ElementTree.Element, path: Path) -> tuple[float, float]:
    try:
        return float(element.attrib["lat"]), float(element.attrib["lon"])
    except (KeyError, ValueError):
        raise InputError(f"{path} has a point without lat and lon ({element.attrib}); export it again") from None


def _read_geojson(path: Path) -> Shapes:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as GeoJSON ({error}); export it again") from error
    lines: list[Array] = []
    rings: list[Array] = []
    for kind, coordinates in _geometries(content, path):
        try:
            if kind == "Point":
                lines.append(_positions([coordinates]))
            elif kind == "MultiPoint":
                lines += [_positions([point]) for point in coordinates]
            elif kind == "LineString":
                lines.append(_positions(coordinates))
            elif kind == "MultiLineString":
                lines += [_positions(line) for line in coordinates]
            elif kind == "Polygon":
                rings += [_positions(ring) for ring in coordinates]
            elif kind == "MultiPolygon":
                rings += [_positions(ring) for polygon in coordinates for ring in polygon]
        except (TypeError, ValueError, IndexError):
            raise InputError(f"{path} has a {kind} whose coordinates are not numbers; export it again") from None
    return Shapes(tuple(line for line in lines if len(line)), tuple(ring for ring in rings if len(ring)))


def _geometries(content: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Type and coordinates of every geometry in a GeoJSON object."""
    waiting = [content]
    while waiting:
        item = waiting.pop(0)
        if item is None:  # a Feature may lack a place
            continue
        if not isinstance(item, dict) or "type" not in item:
            raise InputError(f"{path} is JSON but not GeoJSON: an object without a type; export it as GeoJSON")
        kind = item["type"]
        children = {"FeatureCollection": "features", "GeometryCollection": "geometries"}.get(kind)
        if children is not None:
            waiting += list(item.get(children) or [])
        elif kind == "Feature":
            waiting.append(item.get("geometry"))
        else:
            yield str(kind), item.get("coordinates")


def _positions(coordinates: Any) -> Array:
    """(N, 2) latitude, longitude of GeoJSON positions, which have the longitude first and perhaps a height."""
    return unwrapped([(float(position[1]), float(position[0])) for position in coordinates])
