"""What the parameters say about one camera."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

ONLY_CAMERA = "camera"
"""Name of the camera where there is but one."""


@dataclass(frozen=True)
class CameraSettings:
    """For their meaning see the parameters of the same names; of several cameras these are `NAME.image_topic` etc."""

    name: str
    image_topic: str = ""
    image_transport: str = "auto"
    camera_info_topic: str = ""
    calibration_file: str = ""
    camera_frame: str = ""
    depth_topic: str = ""


CAMERA_SUFFIXES = tuple(row.name for row in dataclasses.fields(CameraSettings) if row.name != "name")
