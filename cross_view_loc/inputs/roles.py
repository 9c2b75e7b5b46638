"""Which topic is for what: the list that the node subscribes to and the offline runner reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import ONLY_CAMERA

Role = Literal["camera_info", "depth", "fix", "odometry", "imu", "tf", "tf_static"]


@dataclass(frozen=True)
class Source:
    """A topic besides the images', what it is for, and of which camera."""

    role: Role
    topic: str
    camera: str = ""

    @property
    def key(self) -> str:
        """How it is called in counts and diagnostics."""
        return input_key(self.role, self.camera)


def input_key(role: str, camera: str = "") -> str:
    """The name of a camera's input, in front of it the camera's where there may be several."""
    return role if camera in ("", ONLY_CAMERA) else f"{camera} {role}"


def sources_of(settings: Settings) -> tuple[Source, ...]:
    """Every topic besides the images'; those left empty, or replaced by a file, are absent."""
    infos = [
        Source("camera_info", each.camera_info_topic, each.name) for each in settings.rig if not each.calibration_file
    ]
    depths = [Source("depth", each.depth_topic, each.name) for each in settings.rig]
    others = [Source("fix", settings.fix_topic), Source("odometry", settings.odometry_topic)]
    others += [Source("imu", settings.imu_topic), Source("tf", "/tf"), Source("tf_static", "/tf_static")]
    return tuple(source for source in (*infos, *depths, *others) if source.topic)
