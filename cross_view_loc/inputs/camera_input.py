"""One camera of the vehicle: its calibration from CameraInfo or a file, its frame, and its depth images."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera, from_camera_info
from cross_view_loc.inputs.camera_text import read_calibration_file
from cross_view_loc.inputs.depth_check import depth_complaint, road_share
from cross_view_loc.inputs.depth_images import FARTHEST_M, decode_depth
from cross_view_loc.inputs.image_circle import has_black_corners
from cross_view_loc.inputs.images import decode
from cross_view_loc.inputs.lens_check import straight_field_deg
from cross_view_loc.inputs.masks import read_mask, shape_complaint
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.stamps import stamp_ns, to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import ONLY_CAMERA, CameraSettings

DEPTHS_KEPT = 10
DEPTH_STARTS_S = 1.0
"""Images of the first so much time wait for a depth topic that has been silent so far."""
SPARSE = 0.9
"""Share of the road's cells: where less of them is measured, it is said who estimates the rest."""


def parameter_of(settings: CameraSettings, name: str) -> str:
    """How a parameter of the camera is called."""
    return name if settings.name == ONLY_CAMERA else f"{settings.name}.{name}"


class CameraInput:
    """Keeps what came for one camera. Not safe for two threads by itself."""

    def __init__(self, settings: CameraSettings) -> None:
        """Raises InputError when calibration file or mask is none, MissingInputError when there is no such file."""
        self.settings = settings
        self._refusal = ""
        self._info_frame = ""
        self._camera: Camera | None = None
        self._depths: deque[Any] = deque(maxlen=DEPTHS_KEPT)
        self._first_awaited_ns: int | None = None
        if settings.calibration_file:
            self._camera = read_calibration_file(Path(settings.calibration_file), settings.is_rectified)
        self._mask = read_mask(Path(settings.mask), parameter_of(settings, "mask")) if settings.mask else None

    def add_info(self, message: Any) -> None:
        """A CameraInfo; InputError when it calibrates nothing, and the one before stays."""
        try:
            self._camera = from_camera_info(message, self.settings.is_rectified)
        except InputError as error:
            self._refusal = str(error)
            raise
        self._info_frame = message.header.frame_id

    def add_depth(self, message: Any) -> None:
        """A depth image; it is decoded when an image needs it."""
        self._depths.append(message)

    def forget(self) -> None:
        """Drop all but the calibration."""
        self._depths.clear()
        self._first_awaited_ns = None

    def frame_of(self, image_message: Any) -> str:
        """The camera's optical frame; empty when neither parameters nor messages tell it."""
        names = (self.settings.camera_frame, image_message.header.frame_id, self._info_frame)
        return next(filter(None, map(bare_frame, names)), "")

    def calibration(self) -> Camera:
        """The camera model; MissingInputError naming the topic without one."""
        if self._camera is not None:
            return self._camera
        topic = self.settings.camera_info_topic
        if self._refusal:
            raise MissingInputError(f"no usable CameraInfo on {topic}: {self._refusal}")
        raise MissingInputError(
            f"no CameraInfo on {topic} yet; start the camera's driver, correct camera_info_topic or give a"
            " calibration_file"
        )

    def picture(self, image_message: Any, camera: Camera) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of an image of that calibration; InputError naming the topic when it cannot be."""
        topic = self.settings.image_topic
        try:
            image = decode(image_message)
        except InputError as error:
            raise InputError(f"{topic}: {error}") from error
        if image.shape[:2] != (camera.height, camera.width):
            says = (
                f"CameraInfo on {self.settings.camera_info_topic}"
                if not self.settings.calibration_file
                else self.settings.calibration_file
            )
            raise InputError(
                f"{topic}: image is {image.shape[1]}x{image.shape[0]} but {says} says {camera.width}x{camera.height};"
                " send the calibration of this size"
            )
        return image

    def lens_complaint(self, image: NDArray[np.uint8], camera: Camera) -> str:
        """What is wrong with the model of the lens by a look at an image (H, W, 3); empty when nothing is."""
        topic = self.settings.image_topic
        if isinstance(camera, PinholeCamera) and has_black_corners(image):
            return (
                f"{topic}: images are round, with black corners as a fisheye's, but their calibration is a pinhole's; "
                "calibrate with distortion_model equidistant or send rectified images"
            )
        wide_deg = 0.0 if self.settings.is_rectified else straight_field_deg(camera)
        if not wide_deg:
            return ""
        return (
            f"{topic}: raw images are by their calibration {wide_deg:.0f} deg wide with hardly any distortion, as "
            "hardly any lens is; calibrate a fisheye with distortion_model equidistant, or set rectified to true if "
            "they are undistorted"
        )

    def mask(self, camera: Camera) -> tuple[NDArray[np.bool_] | None, str]:
        """(h, w) which parts of an image of that calibration may be used; None and why for a mask of another shape."""
        if self._mask is None:
            return None, ""
        why = shape_complaint(self._mask.shape, camera)
        name = parameter_of(self.settings, "mask")
        return (None, f"{name}: {self.settings.mask} {why}; until then nothing is ignored") if why else (self._mask, "")

    def depth(
        self, stamp: int, camera: Camera, T_base_camera: NDArray[np.float64], settings: Settings
    ) -> tuple[NDArray[np.float32] | None, str]:
        """(h, w) metres, 0 where unknown, of the depth image nearest to the stamp, and what is estimated instead of it.

        None and why without one.

        Calibration, pose (4, 4) in the base frame and where the ground is tell whether it can be true.

        The camera's depth is then estimated as for one that measures none.
        """
        topic = self.settings.depth_topic
        if not topic:
            return None, ""
        nearest = min(self._depths, key=lambda message: abs(stamp_ns(message) - stamp), default=None)
        if nearest is None or abs(stamp_ns(nearest) - stamp) > to_ns(settings.camera_tolerance_s):
            return None, (
                f"{topic}: no depth image within camera_tolerance_s ({settings.camera_tolerance_s:g} s) of the "
                "camera's image; its depth is estimated; have depth stamped as the image it belongs to, or raise "
                "camera_tolerance_s"
            )
        try:
            read_m = decode_depth(nearest, math.inf)
        except InputError as error:
            return None, f"{topic}: {error}; until then the camera's depth is estimated"
        why = depth_complaint(read_m, nearest.encoding, camera, T_base_camera, settings.ground_height_in_base_m)
        if why:
            return None, f"{topic}: depth image {why}; until then the camera's depth is estimated"
        depth_m = np.where(read_m <= FARTHEST_M, read_m, np.float32(0.0))
        if road_share(depth_m, camera, T_base_camera, settings.ground_height_in_base_m) >= SPARSE:
            return depth_m, ""
        return depth_m, (
            f"{topic}: depth image leaves part of the road unmeasured; there depth '{settings.depth}' estimates it"
        )

    def awaits_depth(self, stamp: int, tolerance_ns: int) -> bool:
        """Whether the depth image of that stamp may still come: there is no later one yet.

        A topic on which nothing has come at all is only waited for at the beginning.
        """
        if not self.settings.depth_topic:
            return False
        if not self._depths:
            self._first_awaited_ns = stamp if self._first_awaited_ns is None else self._first_awaited_ns
            return stamp - self._first_awaited_ns < to_ns(DEPTH_STARTS_S)
        return all(stamp_ns(message) < stamp - tolerance_ns for message in self._depths)
