"""Where cameras, antenna and IMU sit on the simulated vehicle, and what the cameras are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform

Array = NDArray[np.float64]
RigName = Literal["front", "surround", "panorama", "fisheye", "fisheye_down"]
RIG_NAMES: tuple[RigName, ...] = ("front", "surround", "panorama", "fisheye", "fisheye_down")

IMAGE_SIZE = (640, 360)
FOCAL_PX = 400.0
PANORAMA_SIZE = (1024, 512)
FISHEYE_SIZE, FISHEYE_PX_PER_RAD = (960, 600), 290.0
FISHEYE_DISTORTION = (-0.02, 0.002, 0.0, 0.0)
"""k1 to k4 of the equidistant model; the image is 201° wide with them, and its corners see nothing."""


@dataclass(frozen=True)
class RigCamera:
    """One camera of the vehicle. Principal points are in the image's middle; a panorama has no focal length."""

    name: str
    width: int
    height: int
    focal_px: float | None
    """None for a panorama (equirectangular, 360 by 180 degrees)."""
    T_base_mount: Array
    """(4, 4) pose of the camera's body frame `camera_<name>` (x forward) in `base_link`."""
    is_fisheye: bool = False
    """Its focal length is then in pixels per radian."""

    @property
    def mount_frame(self) -> str:
        """Frame of the camera's body."""
        return f"camera_{self.name}"

    @property
    def optical_frame(self) -> str:
        """Frame the images are stamped with."""
        return f"camera_{self.name}_optical"

    @property
    def T_base_camera(self) -> Array:
        """(4, 4) pose of the optical frame in `base_link`."""
        return self.T_base_mount @ T_MOUNT_OPTICAL


@dataclass(frozen=True)
class Rig:
    """Everything fixed to the vehicle."""

    name: str
    cameras: tuple[RigCamera, ...]
    T_base_antenna: Array
    T_base_imu: Array

    @property
    def lever_arm_base(self) -> Array:
        """(3,) position of the GNSS antenna in `base_link`, metres."""
        return self.T_base_antenna[:3, 3]


T_MOUNT_OPTICAL: Array = transform(R_BODY_OPTICAL, np.zeros(3))


def _mount(x_m: float, y_m: float, z_m: float, yaw_deg: float, pitch_down_deg: float) -> Array:
    # In REP-103 axes a positive pitch lowers the nose.
    return transform(rpy(0.0, np.deg2rad(pitch_down_deg), np.deg2rad(yaw_deg)), np.array([x_m, y_m, z_m]))


def make_rig(name: str, image_scale: float = 1.0) -> Rig:
    """The rig called `name`, one of RIG_NAMES; `image_scale` shrinks its images, for tests.

    Raises InputError for an unknown name or a scale that leaves less than 32 pixels.
    """
    width, height = (round(image_scale * side) for side in IMAGE_SIZE)
    if min(width, height) < 32:
        raise InputError(f"image scale {image_scale} leaves {width}×{height} pixels: choose a scale of at least 0.1")
    focal_px = FOCAL_PX * width / IMAGE_SIZE[0]
    front = RigCamera("front", width, height, focal_px, _mount(1.2, 0.0, 1.6, 0.0, 2.0))
    if name == "front":
        cameras: tuple[RigCamera, ...] = (front,)
    elif name == "surround":
        cameras = (
            front,
            RigCamera("left", width, height, focal_px, _mount(0.9, 0.8, 1.5, 90.0, 6.0)),
            RigCamera("right", width, height, focal_px, _mount(0.9, -0.8, 1.5, -90.0, 6.0)),
            RigCamera("rear", width, height, focal_px, _mount(-1.0, 0.0, 1.5, 180.0, 4.0)),
        )
    elif name == "panorama":
        rows = round(image_scale * PANORAMA_SIZE[1])
        cameras = (RigCamera("panorama", 2 * rows, rows, None, _mount(0.2, 0.0, 1.9, 0.0, 0.0)),)
    elif name in ("fisheye", "fisheye_down"):
        wide, high = (round(image_scale * side) for side in FISHEYE_SIZE)
        px_per_rad = FISHEYE_PX_PER_RAD * wide / FISHEYE_SIZE[0]
        mount = _mount(1.9, 0.0, 1.4, 0.0, 2.0 if name == "fisheye" else 30.0)
        cameras = (RigCamera("fisheye", wide, high, px_per_rad, mount, is_fisheye=True),)
    else:
        raise InputError(f"no camera rig is called '{name}': choose one of {', '.join(RIG_NAMES)}")
    antenna = transform(np.eye(3), np.array([-0.4, 0.3, 1.7]))
    imu = transform(np.eye(3), np.array([0.1, 0.0, 0.5]))
    return Rig(name, cameras, antenna, imu)
