"""VIGOR, as rows of a manifest.

    ROOT/CITY/panorama/ID,LATITUDE,LONGITUDE,.jpg          equirectangular, left rim south, middle north
    ROOT/CITY/satellite/satellite_LATITUDE_LONGITUDE.png   north up, 640 px
    a label file in a folder named CITY: panorama, then four times satellite image, two offsets in pixels

The first satellite image of a line is the positive one. Its offsets are the satellite image's place minus the
panorama's: the camera lies that many rows below the middle, and that many columns to the left of it. Use the corrected
labels published with SliceMatch.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from cross_view_loc.datasets.selection import numbered_lines
from cross_view_loc.errors import InputError

METERS_PER_PIXEL = {"NewYork": 0.113248, "Seattle": 0.100817, "SanFrancisco": 0.118141, "Chicago": 0.111262}
"""Of the 640-pixel satellite images."""
CAMERA_HEIGHT_M = 2.5
"""About that of the cars that took the panoramas; the data set does not say."""
METERS_PER_DEGREE = 111_195.0
LARGEST_DISAGREEMENT_M = 15.0


def vigor_rows(root: Path, label_file: Path) -> list[dict[str, Any]]:
    """Manifest rows of a label file; `base_link` is the point on the ground below the camera and looks north.

    Where both file names carry coordinates they are compared with the label, so that a label of another convention
    is refused. Raises MissingInputError for an absent file, InputError naming the line that is not understood.
    """
    lines = numbered_lines(label_file, "give VIGOR's split of a city, one label file a city")
    city = label_file.parent.name
    if city not in METERS_PER_PIXEL:
        raise InputError(
            f"{label_file} lies in a folder '{city}', which is no city of VIGOR; keep the label files in folders "
            f"named {', '.join(METERS_PER_PIXEL)}"
        )
    rows = []
    for number, words in lines:
        where = f"{label_file} line {number}"
        try:
            panorama, satellite = words[:2]
            rows_down, columns_left = (float(word) for word in words[2:4])
            if not (math.isfinite(rows_down) and math.isfinite(columns_left)):
                raise ValueError("an offset is not finite")
        except ValueError as error:
            raise InputError(
                f"{where} is '{' '.join(words)[:80]}'; give panorama, satellite image and two offsets"
            ) from error
        east_m, north_m = -columns_left * METERS_PER_PIXEL[city], -rows_down * METERS_PER_PIXEL[city]
        _compare_with_names(panorama, satellite, east_m, north_m, where)
        rows.append(
            {
                "image": str((root / city / "panorama" / panorama).resolve()),
                "camera": "equirectangular",
                "mount": str(CAMERA_HEIGHT_M),
                "east_m": east_m,
                "north_m": north_m,
                "heading_deg": 0.0,
                "aerial": str((root / city / "satellite" / satellite).resolve()),
                "meters_per_pixel": METERS_PER_PIXEL[city],
            }
        )
    return rows


def _compare_with_names(panorama: str, satellite: str, east_m: float, north_m: float, where: str) -> None:
    camera, middle = _coordinates(panorama), _coordinates(satellite)
    if camera is None or middle is None:
        return
    named_north_m = (camera[0] - middle[0]) * METERS_PER_DEGREE
    named_east_m = (camera[1] - middle[1]) * METERS_PER_DEGREE * math.cos(math.radians(middle[0]))
    if math.hypot(east_m - named_east_m, north_m - named_north_m) > LARGEST_DISAGREEMENT_M:
        raise InputError(
            f"{where} places the camera {east_m:.0f} m east, {north_m:.0f} m north of its satellite image, but the "
            f"file names say {named_east_m:.0f} m, {named_north_m:.0f} m; use VIGOR's own or SliceMatch's label files"
        )


def _coordinates(name: str) -> tuple[float, float] | None:
    """Latitude and longitude in a file's name, its last two numbers with a fraction."""
    numbers = re.findall(r"(?<=[,_])-?\d+\.\d+(?=[,_]|\.\D|$)", name)
    return (float(numbers[-2]), float(numbers[-1])) if len(numbers) >= 2 else None
