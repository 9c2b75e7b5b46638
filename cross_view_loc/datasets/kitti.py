"""KITTI raw with the aerial images of the cross-view benchmark, as rows of a manifest.

    ROOT/raw_data/DATE/calib_cam_to_cam.txt
    ROOT/raw_data/DATE/DRIVE/image_02/data/NUMBER.png      rectified left colour camera
    ROOT/raw_data/DATE/DRIVE/oxts/data/NUMBER.txt          latitude, longitude, height, roll, pitch, yaw, …
    ROOT/satmap/DATE/DRIVE/NUMBER.png                      north up, centred on the GPS antenna, 0.195829 m per pixel
    a list: one DATE/DRIVE/NUMBER.png a line; test lists add shift x, shift y and θ, each −1 to 1

Roll, pitch and yaw of KITTI are ours: left side up, front down, counter-clockwise from east.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from cross_view_loc.datasets.selection import evenly_spaced, numbered_lines
from cross_view_loc.errors import InputError, MissingInputError

METERS_PER_PIXEL = 0.195829
CAMERA_AHEAD_M, CAMERA_LEFT_M, CAMERA_HEIGHT_M = 1.08, -0.26, 1.65
"""The left colour camera from the GPS antenna, by KITTI's calibration; the height is above the road."""
SHIFT_RANGE_M = 20.0
HEADING_RANGE_DEG = 10.0
_FORWARD_CAMERA = (-0.5, 0.5, -0.5, 0.5)
"""x, y, z, w of an optical frame that looks along the vehicle's x axis."""


def kitti_rows(
    root: Path,
    file_list: Path,
    heading_range_deg: float = HEADING_RANGE_DEG,
    shift_range_m: float = SHIFT_RANGE_M,
    frames: int | None = None,
    stride: int = 1,
) -> list[dict[str, Any]]:
    """Manifest rows of a list, or of `frames` evenly spaced ones of every `stride`th line.

    `base_link` lies on the road below the GPS antenna.

    Raises MissingInputError for an absent file, InputError naming the line that is not understood.
    """
    raw = root / "raw_data" if (root / "raw_data").is_dir() else root
    lines = numbered_lines(file_list, "give the benchmark's file with --list")
    for number, words in lines:
        if len(Path(words[0]).parts) != 3 or len(words) not in (1, 4):
            raise InputError(
                f"{file_list} line {number} is '{' '.join(words)[:80]}'; give DATE/DRIVE/NUMBER.png [shift_x shift_y "
                "theta]"
            )
    rows = []
    for number, words in evenly_spaced(lines, frames, stride):
        date, drive, name = Path(words[0]).parts
        pose = _oxts(raw / date / drive / "oxts" / "data" / f"{Path(name).stem}.txt")
        row = {
            "image": str((raw / date / drive / "image_02" / "data" / name).resolve()),
            "camera": _camera(raw / date / "calib_cam_to_cam.txt"),
            "mount": " ".join(map(str, (CAMERA_AHEAD_M, CAMERA_LEFT_M, CAMERA_HEIGHT_M, *_FORWARD_CAMERA))),
            "east_m": 0.0,
            "north_m": 0.0,
            "yaw_deg": math.degrees(pose[5]),
            "roll_deg": math.degrees(pose[3]),
            "pitch_deg": math.degrees(pose[4]),
            "aerial": str((root / "satmap" / date / drive / name).resolve()),
            "meters_per_pixel": METERS_PER_PIXEL,
        }
        if len(words) == 4:
            shift_x, shift_y, theta = (_number(word, f"{file_list} line {number}") for word in words[1:])
            row |= _prior(pose[5], shift_x, shift_y, theta, heading_range_deg, shift_range_m)
        rows.append(row)
    return rows


def _prior(
    yaw_rad: float, shift_x: float, shift_y: float, theta: float, heading_range_deg: float, shift_range_m: float
) -> dict[str, float]:
    """Where the benchmark's crop says the vehicle is: camera in its middle, heading to its right.

    The listed shifts are negated, scaled and move the middle ahead and to the left of the camera; the crop is then
    turned counter-clockwise by θ, so the vehicle heads that much to the left of what the crop says.
    """
    prior_yaw = yaw_rad - theta * math.radians(heading_range_deg)
    camera = turned(CAMERA_AHEAD_M, CAMERA_LEFT_M, yaw_rad)
    shift = turned(-shift_x * shift_range_m, -shift_y * shift_range_m, yaw_rad)
    back = turned(CAMERA_AHEAD_M, CAMERA_LEFT_M, prior_yaw)
    return {
        "prior_east_m": camera[0] + shift[0] - back[0],
        "prior_north_m": camera[1] + shift[1] - back[1],
        "prior_yaw_deg": math.degrees(prior_yaw),
    }


def calibration_path(root: Path, name: str) -> Path:
    """The calibration of the day of a list's frame."""
    raw = root / "raw_data" if (root / "raw_data").is_dir() else root
    return raw / Path(name).parts[0] / "calib_cam_to_cam.txt"


@lru_cache(maxsize=16)
def rectified_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the left colour camera's rectified images by its calibration file; None if it says none."""
    words = _calibration_line(path, "S_rect_02:", 2)
    return None if words is None else (round(words[0]), round(words[1]))


def turned(forward_m: float, left_m: float, yaw_rad: float) -> tuple[float, float]:
    """East, north of a step (forward, left)."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return c * forward_m - s * left_m, s * forward_m + c * left_m


@lru_cache(maxsize=16)
def _camera(path: Path) -> str:
    """The manifest's word for the rectified left colour camera of a day; KITTI counts pixel centres as integers."""
    values = _calibration_line(path, "P_rect_02:", 12)
    if values is None:
        raise InputError(f"{path} has no line P_rect_02 with 12 numbers; download the calibration again")
    return f"pinhole:{values[0]},{values[5]},{values[2] + 0.5},{values[6] + 0.5}"


def _calibration_line(path: Path, name: str, count: int) -> list[float] | None:
    if not path.is_file():
        raise MissingInputError(f"there is no calibration at {path}; download KITTI raw's calibration of this day")
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            values = [_number(word, str(path)) for word in line.split()[1:]]
            if len(values) == count:
                return values
    return None


def _oxts(path: Path) -> list[float]:
    if not path.is_file():
        raise MissingInputError(f"there is no pose at {path}; download KITTI raw's oxts of this drive")
    values = [_number(word, str(path)) for word in path.read_text(encoding="utf-8").split()]
    if len(values) < 6:
        raise InputError(f"{path} has {len(values)} numbers, not latitude, longitude, height, roll, pitch, yaw, …")
    return values


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: '{word}' is not a number; download the file again")
    return value
