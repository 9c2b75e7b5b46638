"""The same estimate in the forms that other packages want, and how the localizer is.

~/fix        sensor_msgs/NavSatFix of base_frame (parameter publish_fix): accepted estimates, covariance in ENU; the
             altitude is that of the map's plane there: finite, as navsat_transform needs it, of unknown variance
~/odometry   nav_msgs/Odometry, pose of base_frame in map_frame (parameter publish_odometry): accepted estimates; the
             twist is not estimated, and its covariance says so
~/status     diagnostic_msgs/DiagnosticStatus for every image: the message begins with the state's word (waiting,
             searching, tracking, lost), level OK, or WARN when lost and ERROR when waiting; the values of an estimate
             are its gate's, its deviations, the search, and `scale`, `scale std`: by how much the depth's metres had
             to be stretched to fit the map, and the deviation of that (1 when the depth is right)
~/latency_s  std_msgs/Float64: seconds from the image's stamp to its pose
"""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import NavSatFix, NavSatStatus
from std_msgs.msg import Float64

from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.planar import position_covariance_rows, unknown_twist_rows
from cross_view_loc.node.conversions import to_time
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.status import LEVELS, OK, status_values
from cross_view_loc.tracking.tracked import Located
from cross_view_loc.types import Estimate


def fix_message(estimate: Estimate, projection: MapProjection, frame: str) -> NavSatFix:
    """The estimate as a fix of `frame`; the map's axes count as east and north (in UTM, turned by the convergence)."""
    latitude, longitude, altitude = projection.to_geodetic(estimate.east_m, estimate.north_m, 0.0)
    message = NavSatFix(latitude=float(latitude), longitude=float(longitude), altitude=float(altitude))
    message.header.stamp, message.header.frame_id = to_time(estimate.stamp_ns), frame
    message.status.status = NavSatStatus.STATUS_FIX
    message.position_covariance = position_covariance_rows(estimate.covariance)
    message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
    return message


def odometry_message(pose: PoseWithCovarianceStamped, child_frame: str) -> Odometry:
    """The pose message as odometry in the map's frame."""
    message = Odometry(header=pose.header, child_frame_id=child_frame, pose=pose.pose)
    message.twist.covariance = unknown_twist_rows()
    return message


def status_message(
    name: str, state: str, reason: str, located: Located | None = None, latency_s: float | None = None
) -> DiagnosticStatus:
    """State and sentence, and with an estimate its figures."""
    return DiagnosticStatus(
        level=bytes([LEVELS.get(state, OK)]),
        name=name,
        message=f"{state}: {reason}",
        values=[KeyValue(key=key, value=value) for key, value in status_values(state, located, latency_s).items()],
    )


class EstimateOutputs:
    """Publishers beside the pose's."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self._node, self._base_frame = node, settings.base_frame
        self._fix = node.create_publisher(NavSatFix, "~/fix", 10) if settings.publish_fix else None
        self._odometry = node.create_publisher(Odometry, "~/odometry", 10) if settings.publish_odometry else None
        self._status = node.create_publisher(DiagnosticStatus, "~/status", 10)
        self._latency = node.create_publisher(Float64, "~/latency_s", 10)

    def accepted(self, estimate: Estimate, pose: PoseWithCovarianceStamped, projection: MapProjection | None) -> None:
        """An accepted estimate, whose pose message has just left."""
        if self._fix is not None and projection is not None:
            self._fix.publish(fix_message(estimate, projection, self._base_frame))
        if self._odometry is not None:
            self._odometry.publish(odometry_message(pose, self._base_frame))

    def status(self, state: str, reason: str, located: Located | None = None, latency_s: float | None = None) -> None:
        """After every image, with or without an estimate."""
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: state"
        self._status.publish(status_message(name, state, reason, located, latency_s))
        if latency_s is not None:
            self._latency.publish(Float64(data=latency_s))

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in (self._fix, self._odometry, self._status, self._latency):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
