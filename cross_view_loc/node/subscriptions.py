"""What the node listens to, each with the queue and the quality of service that fit; overridable by qos_overrides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from cross_view_loc.inputs.assembler import Role, topics_of
from cross_view_loc.node.tf import TF_DEPTH
from cross_view_loc.settings import Settings

MESSAGE_TYPES: dict[Role, type] = {
    "camera_info": CameraInfo,
    "fix": NavSatFix,
    "odometry": Odometry,
    "imu": Imu,
    "tf": TFMessage,
    "tf_static": TFMessage,
}
DEPTHS: dict[Role, int] = {"camera_info": 5, "fix": 10, "odometry": 100, "imu": 100}


def subscribe(
    node: Node, settings: Settings, on_input: Callable[[Role, Any], None], on_image: Callable[[Any], None]
) -> list[Subscription]:
    """Subscriptions to every topic that the settings name."""
    overridable = QoSOverridingOptions(
        [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY]
    )
    create = partial(node.create_subscription, qos_overriding_options=overridable)
    made = [
        create(MESSAGE_TYPES[role], topic, partial(on_input, role), _qos_of(role))
        for topic, role in topics_of(settings).items()
    ]
    image_type = CompressedImage if settings.image_transport == "compressed" else Image
    return [*made, create(image_type, settings.image_topic, on_image, _sensor_qos(1))]


def _qos_of(role: Role) -> QoSProfile:
    if role == "tf_static":
        return QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=TF_DEPTH) if role == "tf" else _sensor_qos(DEPTHS[role])


def _sensor_qos(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
