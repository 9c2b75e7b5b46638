"""Estimates to ROS messages."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped

from cross_view_loc.geometry.planar import covariance_rows
from cross_view_loc.geometry.transforms import Matrix, inverse, rotation_z, transform, yaw_of
from cross_view_loc.inputs.ros_packages import quaternion_from_rotation
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.types import Estimate


def to_time(stamp_ns: int) -> Time:
    """A message stamp from integer nanoseconds."""
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    return Time(sec=seconds, nanosec=nanoseconds)


def pose_message(estimate: Estimate, map_frame: str) -> PoseWithCovarianceStamped:
    """Pose of `base_link` in the map at the image's stamp; z, roll and pitch are 0 with an unknown variance."""
    message = PoseWithCovarianceStamped()
    message.header.stamp = to_time(estimate.stamp_ns)
    message.header.frame_id = map_frame
    message.pose.pose.position.x = float(estimate.east_m)
    message.pose.pose.position.y = float(estimate.north_m)
    x, y, z, w = quaternion_from_rotation(rotation_z(estimate.yaw_rad))
    orientation = message.pose.pose.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = x, y, z, w
    message.pose.covariance = covariance_rows(estimate.covariance)
    return message


def T_map_base(estimate: Estimate) -> Matrix:
    """(4, 4) planar pose of the estimate."""
    return transform(rotation_z(estimate.yaw_rad), (estimate.east_m, estimate.north_m, 0.0))


def T_map_odom(estimate: Estimate, T_odom_base: Matrix) -> Matrix:
    """(4, 4) planar pose of the odometry's frame: T_map_base · T_odom_base⁻¹, both at the image's stamp.

    The estimate says nothing about height, roll and pitch, so these stay the odometry's own.
    """
    planar = transform(rotation_z(yaw_of(T_odom_base)), (T_odom_base[0, 3], T_odom_base[1, 3], 0.0))
    return T_map_base(estimate) @ inverse(planar)


def transform_message(T_parent_child: Matrix, parent: str, child: str, stamp_ns: int) -> TransformStamped:
    """A stamped transform from a (4, 4) matrix."""
    message = TransformStamped()
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id, message.child_frame_id = parent, child
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = (float(value) for value in T_parent_child[:3, 3])
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_from_rotation(T_parent_child[:3, :3])
    return message
