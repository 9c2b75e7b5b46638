"""From the values a YAML file can hold to the types of SourceSpec, each with one sentence when it does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cross_view_loc.aerial.offsets import OffsetRegion
from cross_view_loc.errors import MapError

Check = Callable[[Any, str, Path], Any]
"""(value, what errors call it, folder of the YAML) → value of the field. Raises MapError."""

_MAX_OFFSET_M = 100.0


def text(value: Any, where: str, _folder: Path) -> str:
    """A string; numbers are taken as written, for layers and zooms are often called so."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise MapError(f"{where} must be text; put it in quotes.")
    return str(value).strip()


def path(value: Any, where: str, folder: Path) -> Path:
    """A path; a relative one is meant from the YAML's folder."""
    return folder / Path(text(value, where, folder)).expanduser()


def texts(value: Any, where: str, folder: Path) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list):
        raise MapError(f"{where} must be a list, as [a, b, c].")
    return tuple(text(item, where, folder) for item in value)


def pairs(value: Any, where: str, folder: Path) -> tuple[tuple[str, str], ...]:
    """A mapping of strings."""
    if not isinstance(value, Mapping):
        raise MapError(f"{where} must be `name: value` lines.")
    return tuple((text(name, where, folder), text(item, where, folder)) for name, item in value.items())


def choice(allowed: tuple[str, ...]) -> Check:
    """One of the words."""

    def check(value: Any, where: str, _folder: Path) -> str:
        if value not in allowed:
            words = ", ".join(word for word in allowed if word)
            raise MapError(f"{where} is {value!r}; choose one of {words}.")
        return str(value)

    return check


def number(low: float, high: float) -> Check:
    """A finite number within limits."""

    def check(value: Any, where: str, _folder: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise MapError(f"{where} is {value!r}; it must be a number from {low:g} to {high:g}.")
        return float(value)

    return check


def whole(low: int, high: int) -> Check:
    """A whole number within limits."""

    def check(value: Any, where: str, _folder: Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise MapError(f"{where} is {value!r}; it must be a whole number from {low} to {high}.")
        return value

    return check


def bounds(value: Any, where: str, _folder: Path) -> tuple[float, ...]:
    """South, west, north, east in degrees."""
    south, west, north, east = _numbers(value, 4, f"{where} must be [south, west, north, east] in degrees")
    if not (-90.0 <= south < north <= 90.0 and max(abs(west), abs(east)) <= 360.0 and west != east):
        raise MapError(f"{where} {value} is no area on Earth; give [south, west, north, east] in degrees.")
    return south, west, north, east


def offset(value: Any, where: str, _folder: Path) -> tuple[float, ...]:
    """East, north in metres."""
    east_m, north_m = _numbers(value, 2, f"{where} must be [east, north] in metres")
    if max(abs(east_m), abs(north_m)) > _MAX_OFFSET_M:
        raise MapError(
            f"{where} {value} is more than {_MAX_OFFSET_M:g} m; imagery this far off needs a new georeference."
        )
    return east_m, north_m


def regions(value: Any, where: str, folder: Path) -> tuple[OffsetRegion, ...]:
    """A list of {bounds or polygon, offset_m}."""
    if not isinstance(value, list):
        raise MapError(f"{where} must be a list of regions, each with bounds or polygon, and offset_m.")
    return tuple(_region(item, f"{where}[{index}]", folder) for index, item in enumerate(value))


def _region(value: Any, where: str, folder: Path) -> OffsetRegion:
    if not isinstance(value, Mapping) or set(value) not in ({"bounds", "offset_m"}, {"polygon", "offset_m"}):
        raise MapError(f"{where} must have offset_m and either bounds or polygon, nothing else.")
    east_m, north_m = offset(value["offset_m"], f"{where}.offset_m", folder)
    if "bounds" in value:
        south, west, north, east = bounds(value["bounds"], f"{where}.bounds", folder)
        east = east if east > west else east + 360.0
        corners = ((south, west), (south, east), (north, east), (north, west))
        return OffsetRegion(corners, (east_m, north_m))
    sentence = f"{where}.polygon must be a list of at least three [latitude, longitude] in degrees"
    if not isinstance(value["polygon"], list) or len(value["polygon"]) < 3:
        raise MapError(f"{sentence}.")
    points = tuple(_numbers(point, 2, sentence) for point in value["polygon"])
    if any(abs(latitude) > 90.0 or abs(longitude) > 360.0 for latitude, longitude in points):
        raise MapError(f"{sentence}.")
    return OffsetRegion(tuple((latitude, longitude) for latitude, longitude in points), (east_m, north_m))


def _numbers(value: Any, count: int, sentence: str) -> tuple[float, ...]:
    good = isinstance(value, (list, tuple)) and len(value) == count
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) for v in value):
        raise MapError(f"{sentence}.")
    return tuple(float(v) for v in value)
