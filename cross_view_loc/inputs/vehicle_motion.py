"""How the vehicle moves and leans, and where its sensors sit: from Imu, odometry and transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transforms import Matrix, level_rotation, slerp
from cross_view_loc.inputs.imus import attitude_in_map, has_orientation
from cross_view_loc.inputs.poses import bare_frame, pose_of
from cross_view_loc.inputs.stamps import Timeline, blend_transforms, stamp_ns, to_ns
from cross_view_loc.inputs.vehicle_transforms import VehicleTransforms, static_transform
from cross_view_loc.settings import Settings


class VehicleMotion:
    """Keeps what came, by stamp. Not safe for two threads by itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.transforms = VehicleTransforms()
        self.forget()

    def forget(self) -> None:
        """Drop everything but static transforms."""
        self._attitudes: Timeline[Matrix] = Timeline(slerp)
        self._odometry: Timeline[Matrix] = Timeline(blend_transforms)
        self.transforms.clear_moving()

    def add_odometry(self, message: Any) -> Matrix:
        """Keep and return the (4, 4) pose of `base_frame` in the odometry's frame; InputError when it is none."""
        T_odom_child = pose_of(message.pose.pose)
        child = bare_frame(message.child_frame_id)
        if child and child != self.settings.base_frame:
            T_odom_child = T_odom_child @ self.transforms.lookup(child, self.settings.base_frame)
        self._odometry.add(stamp_ns(message), T_odom_child)
        return T_odom_child

    def add_imu(self, message: Any) -> Matrix:
        """Keep and return the (3, 3) attitude R_map_base; InputError when the message tells none."""
        if not has_orientation(message):
            raise InputError(
                "Imu has no orientation (covariance -1, or a quaternion nobody filled in); leave imu_topic empty, or "
                "name the output of its filter"
            )
        R_base_imu = self.mount(message.header.frame_id)[:3, :3]
        R_map_base = attitude_in_map(message, self.settings, R_base_imu)
        self._attitudes.add(stamp_ns(message), R_map_base)
        return R_map_base

    def mount(self, frame: str, stamp: int | None = None) -> Matrix:
        """(4, 4) pose of a sensor's frame in `base_frame`; MissingInputError when TF does not know it."""
        if bare_frame(frame) == self.settings.base_frame:
            return np.eye(4)
        if not frame:
            raise MissingInputError("message has no frame_id, so where its sensor sits is unknown; correct its driver")
        base = self.settings.base_frame
        try:
            return self.transforms.lookup(base, frame, stamp)
        except MissingInputError as error:
            if self.transforms.are_connected(base, frame):
                raise
            raise MissingInputError(f"{error}, as with {static_transform(base, bare_frame(frame))}") from error

    def level(self, stamp: int) -> tuple[Matrix, str]:
        """(3, 3) R_level_base by the parameter attitude, and what is assumed where it is not known; "" where it is.

        Roll and pitch are the Imu's, else odometry's. Raises MissingInputError when they must and do not say.
        """
        settings, attitude = self.settings, None
        if settings.attitude in ("auto", "sensors"):
            attitude = self._attitudes.at(stamp, self._gap_ns)
            if attitude is None:
                attitude = self._odometry.at(stamp, self._gap_ns)
        if attitude is not None:
            return level_rotation(attitude), ""
        if settings.attitude == "sensors":
            raise MissingInputError(
                "attitude is 'sensors' but neither Imu nor odometry has an orientation at the image's stamp; set "
                "imu_topic or odometry_topic, or attitude to auto"
            )
        lacks = settings.attitude == "auto" and bool(settings.imu_topic or settings.odometry_topic)
        assumed = "no Imu or odometry orientation at the image's stamp; the vehicle is taken as level" if lacks else ""
        return np.eye(3), assumed

    def pose(self, stamp: int) -> Matrix | None:
        """(4, 4) pose of `base_frame` in odometry's frame at the stamp, to compare with that of another image.

        From the odometry topic where one is configured, else from TF; None without odometry there.
        """
        if self.settings.odometry_topic:
            return self._odometry.at(stamp, self._gap_ns)
        try:
            return self.transforms.lookup(self.settings.odom_frame, self.settings.base_frame, stamp)
        except MissingInputError:
            return None

    def T_odom_base(self, stamp: int) -> Matrix:
        """(4, 4) pose of `base_frame` in `odom_frame` at the stamp from TF, else from the odometry topic.

        Raises MissingInputError naming both when neither reaches the stamp.
        """
        try:
            return self.transforms.lookup(self.settings.odom_frame, self.settings.base_frame, stamp)
        except MissingInputError as error:
            pose = self._odometry.at(stamp, self._gap_ns)
            if pose is None:
                raise MissingInputError(f"{error}, or set odometry_topic") from error
            return pose

    def has_reached(self, stamp: int) -> bool:
        """Whether waiting for odom → base_link gains nothing at the stamp."""
        settings = self.settings
        odom, base = settings.odom_frame, settings.base_frame
        if settings.tf_mode == "map_to_odom":
            # Odometry that comes on its topic alone has been waited for already.
            comes_by_topic = bool(settings.odometry_topic) and not self.transforms.are_connected(odom, base)
            return comes_by_topic or self.transforms.has_reached(odom, base, stamp)
        # The tracker takes motion from TF when no topic gives it.
        is_by_tf = settings.tracking and not settings.odometry_topic and self.transforms.are_connected(odom, base)
        return not is_by_tf or self.transforms.has_reached(odom, base, stamp)

    @property
    def _gap_ns(self) -> int:
        return to_ns(self.settings.max_input_gap_s)
