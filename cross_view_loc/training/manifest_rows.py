"""The rows of a training manifest: what each says, and one sentence naming file and row where it says nonsense.

A manifest is a CSV file with a header, or JSON lines (`.jsonl`) with one object a line; relative paths start at its
folder. Columns:

    image             the ground image
    camera            pinhole:fx,fy,cx,cy[,k1,k2,p1,p2,k3,…] | fisheye:fx,fy,cx,cy[,k1,…] (pixels; the centre of the
                      first pixel is 0.5, 0.5) | equirectangular | strip | a camera_info YAML file
    mount             the camera on the vehicle: "height_m pitch_deg roll_deg yaw_deg" (all but the height may be left
                      out; positive pitch looks down, positive yaw left), or "x y z qx qy qz qw" of the optical frame in
                      base_link, whose origin lies on the ground
    latitude_deg, longitude_deg    or    east_m, north_m       of base_link
    yaw_deg (counter-clockwise from east)    or    heading_deg (clockwise from north)
    roll_deg, pitch_deg            of base_link; may be left out
    aerial            an MBTiles or GeoTIFF map, or a north-up image file
    meters_per_pixel  of the image file
    aerial_latitude_deg, aerial_longitude_deg   or   aerial_east_m, aerial_north_m    of the image file's centre
    origin_latitude_deg, origin_longitude_deg, origin_height_m   of east_m and north_m in a map; default: the map's own
    depth             may be left out: .npy in metres or 16-bit .png, as large as the image; along the optical axis of a
                      pinhole, along the ray of any other camera; 0 where nothing is (sky)
    depth_m_per_unit  metres of one unit of a .png
    prior_east_m, prior_north_m, prior_yaw_deg   may be left out: where a benchmark's search starts
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, from_quaternion, rpy, transform

COLUMNS = (
    *("image", "camera", "mount", "latitude_deg", "longitude_deg", "east_m", "north_m", "yaw_deg", "heading_deg"),
    *("roll_deg", "pitch_deg", "aerial", "meters_per_pixel", "aerial_latitude_deg", "aerial_longitude_deg"),
    *("aerial_east_m", "aerial_north_m", "origin_latitude_deg", "origin_longitude_deg", "origin_height_m"),
    *("depth", "depth_m_per_unit", "prior_east_m", "prior_north_m", "prior_yaw_deg"),
)
MAP_SUFFIXES = (".mbtiles", ".tif", ".tiff")


@dataclass(frozen=True)
class ManifestRow:
    """One ground image with its camera's place on the vehicle, the vehicle's pose and an aerial source."""

    where: str
    """File and row, as errors name it."""
    image: Path
    camera: str
    T_base_camera: NDArray[np.float64]
    """(4, 4) optical frame in base_link."""
    geodetic_deg: tuple[float, float] | None
    """Latitude, longitude of base_link, or None when it is given in map metres."""
    map_m: tuple[float, float] | None
    """East, north of base_link, or None."""
    yaw_rad: float
    """Counter-clockwise from east (true east there with a geodetic position, the map's with metres)."""
    R_level_base: NDArray[np.float64]
    aerial: Path
    meters_per_pixel: float | None
    aerial_center: tuple[float, float] | None
    """Of an image file, in the same kind of coordinates as the position."""
    origin: tuple[float, float, float] | None
    depth: Path | None
    depth_m_per_unit: float
    prior: tuple[float, float, float] | None = None
    """East, north (m) and yaw (rad) where a benchmark's search starts."""

    @property
    def is_map(self) -> bool:
        """Whether the aerial source is a georeferenced map rather than an image file."""
        return self.aerial.suffix.lower() in MAP_SUFFIXES


def read_rows(path: Path) -> list[ManifestRow]:
    """All rows; raises MissingInputError or InputError naming the file and the row that cannot be used."""
    if not path.is_file():
        raise MissingInputError(f"there is no manifest at {path}; make one with `cross_view_loc train manifest`")
    rows = [_row(values, path.parent, where) for where, values in _raw_rows(path)]
    if not rows:
        raise InputError(f"{path} has no rows; give one line an image")
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a manifest as CSV or, by its suffix, JSON lines; empty columns are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
            return
        used = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
        writer = csv.DictWriter(file, used, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _raw_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; save the manifest as CSV or JSON lines") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path} line {number} is not a JSON object ({error}); give one object a line"
                ) from error
            if not isinstance(values, dict):
                raise InputError(f"{path} line {number} is not a JSON object; give one object a line")
            yield f"{path} line {number}", values
        return
    reader = csv.DictReader(text.splitlines())
    for values in reader:
        where = f"{path} line {reader.line_num}"
        if None in values:
            raise InputError(f'{where} has more cells than the header; put "…" about cells with commas')
        yield where, values


class _Cells:
    """The cells of one row, read by name; an empty one is as good as absent."""

    def __init__(self, values: dict[str, Any], folder: Path, where: str) -> None:
        unknown = [name for name in values if name not in COLUMNS]
        if unknown:
            raise InputError(f"{where} has the unknown column '{unknown[0]}'; the columns are {', '.join(COLUMNS)}")
        self._values = {name: value for name, value in values.items() if value not in (None, "")}
        self._folder, self.where = folder, where

    def has(self, *names: str) -> bool:
        return all(name in self._values for name in names)

    def text(self, name: str) -> str:
        if name not in self._values:
            raise InputError(f"{self.where} has no {name}; fill in this column")
        value = self._values[name]
        return " ".join(str(each) for each in value) if isinstance(value, list) else str(value).strip()

    def number(self, name: str, default: float | None = None) -> float:
        if default is not None and name not in self._values:
            return default
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{self.where}: {name} is '{text}'; give a number")
        return value

    def pair(self, first: str, second: str) -> tuple[float, float] | None:
        if not self.has(first) and not self.has(second):
            return None
        return self.number(first), self.number(second)

    def path(self, name: str) -> Path:
        path = self._folder / Path(self.text(name)).expanduser()
        if not path.is_file():
            raise MissingInputError(f"{self.where}: {name} {path} does not exist; correct the path")
        return path


def _row(values: dict[str, Any], folder: Path, where: str) -> ManifestRow:
    cells = _Cells(values, folder, where)
    geodetic, map_m = cells.pair("latitude_deg", "longitude_deg"), cells.pair("east_m", "north_m")
    if (geodetic is None) == (map_m is None):
        raise InputError(f"{where}: give either latitude_deg and longitude_deg or east_m and north_m")
    if geodetic is not None and not (abs(geodetic[0]) <= 90 and abs(geodetic[1]) <= 360):
        raise InputError(f"{where}: latitude {geodetic[0]}, longitude {geodetic[1]} is no place on Earth; give degrees")
    if cells.has("yaw_deg") == cells.has("heading_deg"):
        raise InputError(f"{where}: give either yaw_deg (from east) or heading_deg (clockwise from north)")
    yaw_deg = cells.number("yaw_deg") if cells.has("yaw_deg") else 90.0 - cells.number("heading_deg")
    roll, pitch = math.radians(cells.number("roll_deg", 0.0)), math.radians(cells.number("pitch_deg", 0.0))
    depth = cells.path("depth") if cells.has("depth") else None
    if depth is not None and depth.suffix.lower() not in (".npy", ".png"):
        raise InputError(f"{where}: depth {depth} is of an unknown kind; give a .npy or 16-bit .png file")
    is_png = depth is not None and depth.suffix.lower() == ".png"
    aerial = cells.path("aerial")
    is_map = aerial.suffix.lower() in MAP_SUFFIXES
    names = (
        ("aerial_latitude_deg", "aerial_longitude_deg") if geodetic is not None else ("aerial_east_m", "aerial_north_m")
    )
    center = None if is_map else cells.pair(*names)
    if not is_map and geodetic is not None and center is None:
        raise InputError(
            f"{where}: the place of the aerial image is unknown; give {names[0]} and {names[1]} of its centre"
        )
    gsd = None if is_map else cells.number("meters_per_pixel")
    if gsd is not None and gsd <= 0:
        raise InputError(f"{where}: meters_per_pixel is {gsd:g}; give a positive number")
    origin = cells.pair("origin_latitude_deg", "origin_longitude_deg")
    prior = cells.pair("prior_east_m", "prior_north_m")
    return ManifestRow(
        where,
        cells.path("image"),
        cells.text("camera"),
        _mount(cells.text("mount"), where),
        geodetic,
        map_m,
        math.remainder(math.radians(yaw_deg), 2 * math.pi),
        rpy(roll, pitch, 0.0),
        aerial,
        gsd,
        center,
        None if origin is None else (*origin, cells.number("origin_height_m", 0.0)),
        depth,
        cells.number("depth_m_per_unit") if is_png else 1.0,
        None if prior is None else (*prior, math.radians(cells.number("prior_yaw_deg"))),
    )


def _mount(text: str, where: str) -> NDArray[np.float64]:
    """(4, 4) T_base_camera of a mount's numbers."""
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if not (1 <= len(numbers) <= 4 or len(numbers) == 7) or not np.all(np.isfinite(numbers)):
        raise InputError(
            f"{where}: mount is '{text}'; give 'height_m pitch_deg roll_deg yaw_deg' or 'x y z qx qy qz qw'"
        )
    if len(numbers) == 7:
        try:
            T = transform(from_quaternion(*numbers[3:]), numbers[:3])
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    else:
        height_m, pitch_deg, roll_deg, yaw_deg = (*numbers, *(0.0,) * (4 - len(numbers)))
        R_base_body = rpy(math.radians(roll_deg), math.radians(pitch_deg), math.radians(yaw_deg))
        T = transform(R_base_body @ R_BODY_OPTICAL, (0.0, 0.0, height_m))
    if not 0.1 <= T[2, 3] <= 100.0:
        raise InputError(f"{where}: the camera is {T[2, 3]:g} m above the ground; give its height, 0.1 to 100 m")
    return T
