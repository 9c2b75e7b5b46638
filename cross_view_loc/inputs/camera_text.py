"""Cameras as a manifest writes them: a word with numbers, or a calibration file of ROS."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import (
    Camera,
    EquirectangularCamera,
    FisheyeCamera,
    PinholeCamera,
    StripCamera,
    from_camera_info,
)


def parse_camera(text: str, folder: Path, width: int, height: int) -> Camera:
    """The camera of a manifest's cell for images of a size; a file is looked for in `folder`.

    Raises InputError with what is wrong about it, MissingInputError when the file does not exist.
    """
    kind, _, numbers = text.partition(":")
    if text == "equirectangular":
        return EquirectangularCamera(width, height)
    if text == "strip":
        return StripCamera(width, height, height / 2)
    if kind in ("pinhole", "fisheye"):
        try:
            fx, fy, cx, cy, *distortion = (float(number) for number in numbers.replace(",", " ").split())
        except ValueError as error:
            raise InputError(f"camera '{text}' is not understood; give {kind}:fx,fy,cx,cy[,k1,…] in pixels") from error
        if kind == "fisheye":
            return FisheyeCamera(width, height, fx, fy, cx, cy, tuple(distortion))
        model = "plumb_bob" if len(distortion) <= 5 else "rational_polynomial"
        return PinholeCamera(width, height, fx, fy, cx, cy, tuple(distortion), model)
    if Path(text).suffix not in (".yaml", ".yml"):
        raise InputError(
            f"camera '{text}' is not understood; give pinhole:fx,fy,cx,cy[,k1,…], fisheye:…, equirectangular, strip or "
            "a camera_info YAML file"
        )
    camera = read_calibration_file(folder / text)
    if (camera.width, camera.height) != (width, height):
        raise InputError(
            f"{folder / text} is for images of {camera.width}x{camera.height}, not {width}x{height}; give the "
            "calibration of this size"
        )
    return camera


def camera_text(camera: Camera) -> str:
    """The cell that `parse_camera` reads back as this camera; InputError when there is none."""
    if isinstance(camera, EquirectangularCamera):
        return "equirectangular"
    if isinstance(camera, StripCamera) and camera.horizon_row == camera.height / 2:
        return "strip"
    if isinstance(camera, PinholeCamera | FisheyeCamera):
        distortion = list(camera.distortion)
        while distortion and distortion[-1] == 0.0:
            distortion.pop()
        kind = "pinhole" if isinstance(camera, PinholeCamera) else "fisheye"
        return f"{kind}:" + ",".join(repr(v) for v in (camera.fx, camera.fy, camera.cx, camera.cy, *distortion))
    raise InputError(f"a manifest has no word for a {type(camera).__name__} like this; use equirectangular or strip")


def read_calibration_file(path: Path, rectified: bool = False) -> Camera:
    """A file of camera_calibration / camera_info_manager; integer pixel centres, as ROS has them.

    `rectified` as for `from_camera_info`. Raises MissingInputError when there is no file, InputError when it is of
    another kind.
    """
    if not path.is_file():
        raise MissingInputError(f"there is no camera file at {path}; correct the path")
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        info = SimpleNamespace(
            width=int(data["image_width"]),
            height=int(data["image_height"]),
            distortion_model=str(data.get("distortion_model", "plumb_bob")),
            d=list(data.get("distortion_coefficients", {}).get("data", [])),
            k=list(data["camera_matrix"]["data"]),
            p=list(data.get("projection_matrix", {}).get("data", [])),
            binning_x=0,
            binning_y=0,
            roi=SimpleNamespace(width=0, height=0, x_offset=0, y_offset=0),
            header=SimpleNamespace(frame_id=str(data.get("camera_name", path.stem))),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a camera_info file (image_width, image_height, camera_matrix: data, …); write one with "
            "camera_calibration"
        ) from error
    return from_camera_info(info, rectified)
