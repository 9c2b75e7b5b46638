"""What the parameters say about one camera."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

ONLY_CAMERA = "camera"
"""Name of the camera where there is but one."""

_RECTIFIED = re.compile(r"(^|/)image_rect(_[a-z]+)*(/(compressed|theora|ffmpeg|zstd))?$")


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
    rectified: str = "auto"
    mask: str = ""

    @property
    def is_rectified(self) -> bool:
        """Whether its images have been undistorted: as `rectified` says, or by the name of their topic."""
        return self.rectified == "true" if self.rectified != "auto" else is_rectified_name(self.image_topic)


def is_rectified_name(image_topic: str) -> bool:
    """Whether a topic is called as image_proc calls undistorted images, whatever transport follows: image_rect…"""
    return _RECTIFIED.search(image_topic) is not None


CAMERA_SUFFIXES = tuple(row.name for row in dataclasses.fields(CameraSettings) if row.name != "name")
