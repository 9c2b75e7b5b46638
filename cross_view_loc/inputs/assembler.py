"""From messages to what the localizer wants: a frame and a prior. The live node and the offline runner share it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import Matrix, inverse, yaw_of
from cross_view_loc.inputs.camera_input import CameraInput
from cross_view_loc.inputs.fixes import Fix, read_fix
from cross_view_loc.inputs.imus import HeadingCheck
from cross_view_loc.inputs.priors import PriorTracker
from cross_view_loc.inputs.roles import Role, input_key, sources_of
from cross_view_loc.inputs.stamps import stamp_ns, to_ns
from cross_view_loc.inputs.vehicle_motion import VehicleMotion
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import ONLY_CAMERA
from cross_view_loc.types import Frame, Prior

TIME_JUMP_S = 1.0
"""A stamp this far before an earlier one of the same topic means that time was set back (a bag starts over)."""


class FrameAssembler:
    """Keeps the latest of every input but images; `assemble` joins an image with them. Safe for two threads."""

    def __init__(self, settings: Settings, projection: MapProjection | None = None) -> None:
        """Without a projection, which then has to be given by `use_projection`, fixes and priors are refused."""
        self.time_jumps = 0
        """How often time was set back; each time everything but calibration and static transforms is forgotten."""
        self.newest_fix: Fix | None = None
        """The last one that was usable, whatever has been forgotten since."""
        self.warnings: dict[str, str] = {}
        """What is assumed because an input lacks, by input; one sentence each."""
        self._lock = threading.RLock()
        self._settings = settings
        self.projection = projection
        """The map's; None until it is known."""
        self._priors = PriorTracker(projection, settings)
        self._cameras = {each.name: CameraInput(each) for each in settings.rig}
        self._topics = {source.key: source.topic for source in sources_of(settings)}
        self._topics |= {input_key("image", each.name): each.image_topic for each in settings.rig}
        self._motion = VehicleMotion(settings)
        self._forget()

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        with self._lock:
            self._settings = self._priors.settings = self._motion.settings = settings

    def use_projection(self, projection: MapProjection) -> None:
        """Count positions from another origin; everything but calibration and static transforms is forgotten."""
        with self._lock:
            self.projection = projection
            self._priors = PriorTracker(projection, self._settings)
            self._forget()

    def reset(self) -> None:
        """Forget everything but calibration and static transforms."""
        with self._lock:
            self._forget()

    @property
    def newest_stamp_ns(self) -> int:
        """The newest stamp of any input, transforms excepted; 0 before the first."""
        return self.newest_input[1]

    @property
    def newest_input(self) -> tuple[str, int]:
        """Topic and stamp of the input with the newest stamp, transforms excepted; ("", 0) before the first."""
        with self._lock:
            if not self._newest:
                return "", 0
            key, stamp = max(self._newest.items(), key=lambda item: item[1])
        return self._topics.get(key, key), stamp

    def add(self, role: Role, message: Any, camera: str = ONLY_CAMERA) -> None:
        """Take one message, of CameraInfo and depth that of a camera.

        InputError says which topic's message cannot be used and why: nothing is kept of such a message, but of a
        TFMessage the transforms that are good.
        """
        is_cameras = role in ("camera_info", "depth")
        key = input_key(role, camera if is_cameras else "")
        with self._lock:
            try:
                if role == "fix":
                    read_fix(message)  # an unusable one says nothing about time: receivers without a fix stamp oddly
                if role not in ("tf", "tf_static"):
                    self.observe_stamp(key, stamp_ns(message))
                if is_cameras:
                    own = self._cameras[camera]
                    (own.add_info if role == "camera_info" else own.add_depth)(message)
                elif role in ("tf", "tf_static"):
                    self._motion.transforms.add(message, is_static=role == "tf_static")
                elif role == "odometry":
                    self._priors.add_odometry(stamp_ns(message), self._motion.add_odometry(message))
                elif role == "imu":
                    self._priors.add_heading(stamp_ns(message), yaw_of(self._motion.add_imu(message)))
                else:
                    self._add_fix(message)
            except InputError as error:
                raise type(error)(f"{self._topics.get(key, key)}: {error}") from error

    def observe_stamp(self, source: str, stamp: int) -> bool:
        """Note a stamp of `source`; True when it shows that time was set back, and state was forgotten."""
        with self._lock:
            went_back = stamp < self._newest.get(source, stamp) - to_ns(TIME_JUMP_S)
            if went_back:
                self.time_jumps += 1
                self._forget()
            self._newest[source] = max(stamp, self._newest.get(source, stamp))
            return went_back

    def ready(self, image_message: Any, camera: str = ONLY_CAMERA) -> bool:
        """Whether all that belongs to the image has reached its stamp, so that waiting longer gains nothing.

        That is heading, odometry, the camera's own place where it moves, its depth image, and for map_to_odom
        odom → base_link.
        """
        stamp = stamp_ns(image_message)
        settings = self._settings
        with self._lock:
            if not self._priors.ready(stamp):
                return False
            own = self._cameras[camera]
            if own.awaits_depth(stamp, to_ns(settings.camera_tolerance_s)):
                return False
            base, frame = settings.base_frame, own.frame_of(image_message)
            # A transform nobody ever sent is not worth waiting for: the image is refused by name at once.
            transforms = self._motion.transforms
            is_known_camera = bool(frame) and transforms.are_connected(base, frame)
            if is_known_camera and not transforms.has_reached(base, frame, stamp):
                return False
            return self._motion.has_reached(stamp)

    def all_ready(self, images: Mapping[str, Any]) -> bool:
        """`ready` for the images of one moment, by camera: each is carried to the first one's stamp by odometry."""
        return all(self.ready(message, camera) for camera, message in list(images.items()))

    def assemble(self, image_message: Any, camera: str = ONLY_CAMERA) -> tuple[Frame, Prior]:
        """The frame and the prior of one image message.

        Raises MissingInputError when CameraInfo, a transform or a fix lacks, InputError when the image is unusable.
        """
        prior, why = self.prior(stamp_ns(image_message))
        frame = self.frame(image_message, camera)
        if prior is None:
            raise MissingInputError(why)
        return frame, prior

    def prior(self, stamp: int) -> tuple[Prior | None, str]:
        """Where fix and heading say the vehicle is at the stamp; None and why, when they do not."""
        with self._lock:
            try:
                return self._priors.prior(stamp), ""
            except InputError as error:
                return None, str(error)

    def motion(self, stamp: int) -> Matrix | None:
        """(4, 4) pose of `base_frame` in odometry's frame at the stamp, as the tracker wants it; None without one."""
        with self._lock:
            return self._motion.pose(stamp)

    def frames(
        self, images: Sequence[tuple[str, Any]], on_problem: Callable[[str, InputError], None] = lambda *_: None
    ) -> list[Frame]:
        """The frames of one moment's images, by camera; all in the body frame and at the stamp of the first good one.

        `on_problem` is told of every image that cannot be used. Raises what is wrong with the first when none can.
        """
        frames: list[Frame] = []
        problems: list[InputError] = []
        for camera, message in images:
            try:
                frames.append(self.frame(message, camera))
            except InputError as error:
                problems.append(error)
                if len(images) > 1:
                    on_problem(camera, error)
        if not frames:
            raise problems[0]
        return [frames[0], *(self._carried(frame, frames[0]) for frame in frames[1:])]

    def frame(self, image_message: Any, camera: str = ONLY_CAMERA) -> Frame:
        """The frame of one image message.

        Raises MissingInputError when CameraInfo or a transform lacks, InputError when the image is unusable.
        """
        stamp = stamp_ns(image_message)
        own = self._cameras[camera]
        with self._lock:
            calibration = own.calibration()
            optical_frame = own.frame_of(image_message)
            if not optical_frame:
                raise MissingInputError(f"{own.settings.image_topic}: image has no frame_id; set camera_frame")
            T_base_camera = self._motion.mount(optical_frame, stamp)
            R_level_base, assumption = self._motion.level(stamp)
            self._assume("attitude", assumption)
            depth_m, no_depth = own.depth(stamp, calibration, T_base_camera, self._settings)
            mask, no_mask = own.mask(calibration)
            T_odom_base = self._motion.pose(stamp)
        image = own.picture(image_message, calibration)
        complaints = {"depth": no_depth, "mask": no_mask, "lens": own.lens_complaint(image, calibration)}
        with self._lock:
            for what, complaint in complaints.items():
                self._assume(input_key(what, camera), complaint)
        return Frame(
            image,
            calibration,
            stamp,
            T_base_camera,
            R_level_base,
            self._settings.ground_height_in_base_m,
            name=camera,
            T_odom_base=T_odom_base,
            depth_m=depth_m,
            mask=mask,
        )

    def _carried(self, frame: Frame, first: Frame) -> Frame:
        """The frame as the vehicle of the first one's stamp sees it, by odometry; without it as if simultaneous."""
        start, end = self.motion(first.stamp_ns), self.motion(frame.stamp_ns)
        moved = np.eye(4) if start is None or end is None else inverse(start) @ end
        return dataclasses.replace(
            frame,
            stamp_ns=first.stamp_ns,
            T_odom_base=first.T_odom_base,
            T_base_camera=moved @ frame.T_base_camera,
            R_level_base=first.R_level_base,
        )

    def T_odom_base(self, stamp: int) -> Matrix:
        """(4, 4) pose of `base_frame` in `odom_frame` at the stamp from TF, else from the odometry topic.

        Raises MissingInputError naming both when neither reaches the stamp.
        """
        with self._lock:
            return self._motion.T_odom_base(stamp)

    def parents_of(self, child_frame: str) -> set[str]:
        """Every frame that TF has given as parent of `child_frame` so far; more than one is a conflict."""
        with self._lock:
            return self._motion.transforms.parents_of(child_frame)

    # --- inside ---

    def _add_fix(self, message: Any) -> None:
        fix = read_fix(message)
        self.newest_fix = fix
        self._priors.add_fix(fix, self._antenna(fix))
        self._check_heading(fix.stamp_ns)

    def _check_heading(self, stamp: int) -> None:
        """Warn when the Imu's yaw is not where the vehicle drives: many count from power-up, not from east."""
        stretch = self._priors.straight_stretch(stamp)
        if stretch is not None:
            self._heading_check.add(*stretch)
        self._assume("heading", self._heading_check.warning(self._settings))

    def _assume(self, key: str, assumption: str) -> None:
        """Note what is assumed because an input lacks; empty when it does not."""
        if assumption:
            self.warnings[key] = assumption
        else:
            self.warnings.pop(key, None)

    def _antenna(self, fix: Fix) -> tuple[float, float, float]:
        if self._settings.antenna_in_base_m:
            x, y, z = self._settings.antenna_in_base_m
            return x, y, z
        assumption = ""
        try:
            T_base_antenna = self._motion.mount(fix.frame_id)
        except MissingInputError as error:
            # A prior a metre or two off still finds the place, so a fix without a transform is not thrown away.
            T_base_antenna = np.eye(4)
            assumption = f"{error}; until then the antenna is taken to sit at {self._settings.base_frame}"
        self._assume("antenna", assumption)
        x, y, z = (float(value) for value in T_base_antenna[:3, 3])
        return x, y, z

    def _forget(self) -> None:
        self._newest: dict[str, int] = {}
        self._heading_check = HeadingCheck()
        for camera in self._cameras.values():
            camera.forget()
        self._priors.reset()
        self._motion.forget()
