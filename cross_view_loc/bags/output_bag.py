"""A run's estimates as a rosbag2 (mcap) of the messages that the live node publishes, to open beside the input."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.planar import covariance_rows, position_covariance_rows, unknown_twist_rows
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.status import LEVELS, OK, status_values
from cross_view_loc.tracking.tracked import Located
from cross_view_loc.types import Estimate

NODE_NAME = "/localizer"
TOPICS = {
    f"{NODE_NAME}/pose": "geometry_msgs/msg/PoseWithCovarianceStamped",
    f"{NODE_NAME}/pose_unchecked": "geometry_msgs/msg/PoseWithCovarianceStamped",
    f"{NODE_NAME}/odometry": "nav_msgs/msg/Odometry",
    f"{NODE_NAME}/fix": "sensor_msgs/msg/NavSatFix",
    f"{NODE_NAME}/status": "diagnostic_msgs/msg/DiagnosticStatus",
}
"""As the node names them; the first two always, the others here too though the node asks a parameter."""
_STORE = get_typestore(Stores.ROS2_JAZZY)
_TYPES: Any = _STORE.types


def write_output_bag(path: Path, records: Sequence[FrameRecord], projection: MapProjection, settings: Settings) -> Path:
    """Write the bag: every estimate on ~/pose_unchecked, accepted ones on the pose's other topics, ~/status after every
    image, in the order of the images.

    Stamps are the images'; bag times are when the image was recorded, so that both bags play side by side.
    """
    if path.is_dir():  # of a run that was interrupted, and now is continued
        shutil.rmtree(path)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=_STORE) for topic, kind in TOPICS.items()}
        for record in records:
            messages = {} if record.estimate is None else _messages(record.estimate, projection, settings)
            for topic, message in (messages | _status(record)).items():
                data = _STORE.serialize_cdr(message, TOPICS[topic])
                writer.write(connections[topic], record.recorded_ns or record.stamp_ns, data)
    return path


def _status(record: FrameRecord) -> dict[str, Any]:
    """What is told after an image, but the latency, of which a recording knows nothing (timings.csv has the computing
    time): the same bag gives the same bytes."""
    state, reason = record.state
    if not state:
        return {}
    located = None
    if record.estimate is not None and record.search is not None:
        located = Located(record.estimate, record.search)
    pair = _TYPES["diagnostic_msgs/msg/KeyValue"]
    status = _TYPES["diagnostic_msgs/msg/DiagnosticStatus"](
        level=LEVELS.get(state, OK),
        name=f"{NODE_NAME.lstrip('/')}: state",
        message=f"{state}: {reason}",
        hardware_id="",
        values=[pair(key=key, value=value) for key, value in status_values(state, located).items()],
    )
    return {f"{NODE_NAME}/status": status}


def _messages(estimate: Estimate, projection: MapProjection, settings: Settings) -> dict[str, Any]:
    header = _header(estimate.stamp_ns, settings.map_frame)
    pose = _pose(estimate)
    stamped = _TYPES["geometry_msgs/msg/PoseWithCovarianceStamped"](header=header, pose=pose)
    messages = {f"{NODE_NAME}/pose_unchecked": stamped}
    if not estimate.accepted:
        return messages
    zero = _TYPES["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    twist = _TYPES["geometry_msgs/msg/TwistWithCovariance"](
        twist=_TYPES["geometry_msgs/msg/Twist"](linear=zero, angular=zero), covariance=np.array(unknown_twist_rows())
    )
    latitude, longitude, altitude = projection.to_geodetic(estimate.east_m, estimate.north_m, 0.0)
    fix_type = _TYPES["sensor_msgs/msg/NavSatFix"]
    fix = fix_type(
        header=_header(estimate.stamp_ns, settings.base_frame),
        status=_TYPES["sensor_msgs/msg/NavSatStatus"](status=0, service=0),
        latitude=float(latitude),
        longitude=float(longitude),
        altitude=float(altitude),
        position_covariance=np.array(position_covariance_rows(estimate.covariance)),
        position_covariance_type=fix_type.COVARIANCE_TYPE_KNOWN,
    )
    odometry = _TYPES["nav_msgs/msg/Odometry"](
        header=header, child_frame_id=settings.base_frame, pose=pose, twist=twist
    )
    return messages | {
        f"{NODE_NAME}/pose": stamped, f"{NODE_NAME}/odometry": odometry, f"{NODE_NAME}/fix": fix,
    }  # fmt: skip


def _header(stamp_ns: int, frame: str) -> Any:
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    stamp = _TYPES["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return _TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def _pose(estimate: Estimate) -> Any:
    half = estimate.yaw_rad / 2.0
    return _TYPES["geometry_msgs/msg/PoseWithCovariance"](
        pose=_TYPES["geometry_msgs/msg/Pose"](
            position=_TYPES["geometry_msgs/msg/Point"](x=float(estimate.east_m), y=float(estimate.north_m), z=0.0),
            orientation=_TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=math.sin(half), w=math.cos(half)),
        ),
        covariance=np.array(covariance_rows(estimate.covariance)),
    )
