"""Pictures that say which parts of a camera's image may be used: black is ignored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import Camera

IGNORED_BELOW = 64
"""Grey value; far from black and white, so that a mask saved with loss keeps its shape."""
ASPECT_TOLERANCE = 0.02


def read_mask(path: Path, parameter: str) -> NDArray[np.bool_]:
    """(h, w), False where the picture is black (or has no opacity).

    Raises MissingInputError when there is no file, InputError for one that is no picture or that leaves nothing.
    """
    if not path.is_file():
        raise MissingInputError(f"{parameter}: there is no mask at {path}; correct the path or leave {parameter} empty")
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise InputError(f"{parameter}: {path} is not a picture; give a PNG that is black where the image is ignored")
    values = picture.astype(np.float64) / (257.0 if picture.dtype == np.uint16 else 1.0)
    if values.ndim == 3:
        opacity = values[..., 3] / 255.0 if values.shape[2] == 4 else 1.0
        values = values[..., :3].max(axis=2) * opacity
    mask: NDArray[np.bool_] = values >= IGNORED_BELOW
    if not mask.any():
        raise InputError(f"{parameter}: {path} is all black, so nothing of the image is left; paint the rest white")
    return mask


def shape_complaint(shape: tuple[int, ...], camera: Camera) -> str:
    """What is wrong with a picture (h, w, …) that has to cover the camera's image: another aspect; else empty."""
    height, width = shape[:2]
    if abs(width * camera.height / (height * camera.width) - 1.0) <= ASPECT_TOLERANCE:
        return ""
    return (
        f"is {width}x{height} but the camera's images are {camera.width}x{camera.height}, of another shape; make it of "
        "the whole image, at any size"
    )
