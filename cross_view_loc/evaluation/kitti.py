"""The KITTI cross-view benchmark by its published protocol.

The aerial image, 0.195829 m per pixel with the GPS antenna in its middle, is turned so that the vehicle heads to its
right, moved by [1.08, 0.26] m so that the camera is in its middle, moved by the listed shifts (negated, × 20 m, ahead
and to the left) and turned counter-clockwise by the listed θ × 10° or 180°. Wanted is the camera's place in that crop.
Here the crop is the prior: its middle, and a vehicle that heads to its right give or take the range. The localizer
cuts what it needs from the whole image itself, so that an estimate is a place and a heading in the world.

`base_link` is the point on the road below the camera, whose errors the benchmark counts. Roll and pitch are those of
the INS, as a vehicle would know them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cross_view_loc.datasets.kitti import (
    CAMERA_AHEAD_M,
    CAMERA_HEIGHT_M,
    CAMERA_LEFT_M,
    SHIFT_RANGE_M,
    calibration_path,
    kitti_rows,
    rectified_size,
    turned,
)
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.evaluation.metrics import Truth
from cross_view_loc.evaluation.pairs import Pair, with_unique_names
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.types import Prior

VARIANTS = {"10": 10.0, "180": 180.0}
"""Degrees of heading noise by the variant's name."""
LISTS = {"same": "test1_files.txt", "cross": "test2_files.txt"}
LIST_FOLDERS = (".", "splits", "dataLoader")
SATMAP_PX = 1280


def variant_name(text: str) -> str:
    """10 or 180, with or without ±. Raises InputError."""
    name = text.strip().lstrip("±").removeprefix("+-").removesuffix("°")
    if name not in VARIANTS:
        raise InputError(f"there is no variant '{text}' of the KITTI benchmark; choose ±10 or ±180")
    return name


def kitti_pairs(
    root: Path, area: str, variant: str, lists: Path | None = None, frames: int | None = None, stride: int = 1
) -> list[Pair]:
    """The frames of a test list, or `frames` evenly spaced ones of every `stride`th.

    `lists`: the list itself or the folder it is in; default `root` and its folders splits and dataLoader.
    Raises MissingInputError or InputError naming file and line.
    """
    file_list = find_list(root, area, lists)
    if not (root / "satmap").is_dir():
        raise MissingInputError(f"there is no folder satmap in {root}; give the folder that holds raw_data and satmap")
    range_deg = VARIANTS[variant]
    rows = kitti_rows(root, file_list, range_deg, frames=frames, stride=stride)
    return with_unique_names([_pair(root, row, range_deg, file_list) for row in rows])


def find_list(root: Path, area: str, lists: Path | None) -> Path:
    """Where the test list of an area is. Raises MissingInputError."""
    name = LISTS[area]
    if lists is not None:
        return lists / name if lists.is_dir() else lists
    for folder in LIST_FOLDERS:
        if (root / folder / name).is_file():
            return root / folder / name
    raise MissingInputError(
        f"there is no {name} ({area} area) in {root}, {root / 'splits'} or {root / 'dataLoader'}; give its folder with "
        "--list"
    )


def _pair(root: Path, row: dict[str, Any], range_deg: float, file_list: Path) -> Pair:
    aerial = Path(row["aerial"])
    name = "/".join(aerial.parts[-3:])
    if "prior_yaw_deg" not in row:
        raise InputError(f"{file_list}: {name} has no noise after it; give one of the benchmark's test lists")
    yaw_rad = math.radians(row["yaw_deg"])
    R_level_base = rpy(math.radians(row["roll_deg"]), math.radians(row["pitch_deg"]), 0.0)
    return Pair(
        name,
        Path(row["image"]),
        row["camera"],
        rectified_size(calibration_path(root, name)),
        transform(R_BODY_OPTICAL, R_level_base.T @ (0.0, 0.0, CAMERA_HEIGHT_M)),  # plumb above, however it leans
        R_level_base,
        aerial,
        SATMAP_PX,
        row["meters_per_pixel"],
        Truth(*_below_camera(row["east_m"], row["north_m"], yaw_rad), yaw_rad),
        _prior(row, range_deg),
    )


def _below_camera(east_m: float, north_m: float, yaw_rad: float) -> tuple[float, float]:
    """East, north below the camera of a vehicle whose antenna is there."""
    east, north = turned(CAMERA_AHEAD_M, CAMERA_LEFT_M, yaw_rad)
    return east_m + east, north_m + north


def _prior(row: dict[str, Any], range_deg: float) -> Prior:
    """The crop's middle with a search that surely holds the truth.

    The shifts are along and across the true heading, the searched square along and across the crop's, which is up to
    the range off: seen from the crop's axes a square of ± 20 m reaches 20 (cos + sin) m. Of any heading it is a disc;
    how the crop is turned is then no hint but says which way up the published weights see it.
    """
    yaw_rad, range_rad = math.remainder(math.radians(row["prior_yaw_deg"]), 2 * math.pi), math.radians(range_deg)
    middle = _below_camera(row["prior_east_m"], row["prior_north_m"], yaw_rad)
    if range_deg >= 180.0:
        return Prior(0, *middle, SHIFT_RANGE_M * math.sqrt(2.0), yaw_rad)
    radius_m = SHIFT_RANGE_M * (math.cos(range_rad) + math.sin(range_rad))
    return Prior(0, *middle, radius_m, yaw_rad, range_rad)
