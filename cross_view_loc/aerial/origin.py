"""The map origin that a map file recommends in its own metadata."""

from __future__ import annotations

from cross_view_loc.errors import MapError
from cross_view_loc.geometry.geodesy import MapOrigin


def parse_map_origin(text: str, name: str) -> MapOrigin:
    """Origin from "lat,lon[,height]" as maps carry it. Raises MapError naming the map."""
    try:
        values = [float(part) for part in text.split(",")]
        if len(values) not in (2, 3):
            raise ValueError
    except ValueError:
        raise MapError(f'map_origin "{text}" in the metadata of {name} is not "lat,lon,height"; correct it.') from None
    return MapOrigin(*values)
