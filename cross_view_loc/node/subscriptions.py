"""What the node listens to, each with the queue and the quality of service that fit; overridable by qos_overrides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy.clock
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from cross_view_loc.inputs.roles import Role, Source, sources_of
from cross_view_loc.node.tf import TF_DEPTH
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

MESSAGE_TYPES: dict[Role, type] = {
    "camera_info": CameraInfo,
    "depth": Image,
    "fix": NavSatFix,
    "odometry": Odometry,
    "imu": Imu,
    "tf": TFMessage,
    "tf_static": TFMessage,
}
QUEUES: dict[Role, int] = {"camera_info": 5, "depth": 5, "fix": 10, "odometry": 100, "imu": 100}
LOOK_AGAIN_S = 0.25
"""How often the graph is asked for the type of images that nobody publishes yet."""


class Subscriptions:
    """Every topic that the settings name; of images whose type is to be found out, once somebody publishes them."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        on_input: Callable[[Source, Any], None],
        on_image: Callable[[str, Any], None],
    ) -> None:
        """`on_image` gets the camera's name and the message."""
        self._node, self._on_image = node, on_image
        overridable = QoSOverridingOptions(
            [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY]
        )
        self._create = partial(node.create_subscription, qos_overriding_options=overridable)
        self._made: list[Subscription] = [
            self._create(MESSAGE_TYPES[source.role], source.topic, partial(on_input, source), _qos_of(source.role))
            for source in sources_of(settings)
        ]
        self._undecided = list(settings.rig)
        steady = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)
        self._timer = node.create_timer(LOOK_AGAIN_S, self._subscribe_to_images, clock=steady)
        self._subscribe_to_images()

    @property
    def undecided(self) -> list[str]:
        """Image topics whose type nobody has told yet."""
        return [camera.image_topic for camera in self._undecided]

    def close(self) -> None:
        """Hear nothing more."""
        self._node.destroy_timer(self._timer)
        for subscription in self._made:
            self._node.destroy_subscription(subscription)
        self._made = []

    def _subscribe_to_images(self) -> None:
        for camera in list(self._undecided):
            image_type = self._image_type(camera)
            if image_type is not None:
                self._undecided.remove(camera)
                on_image = partial(self._on_image, camera.name)
                self._made.append(self._create(image_type, camera.image_topic, on_image, _sensor_qos(1)))
        if not self._undecided:
            self._timer.cancel()

    def _image_type(self, camera: CameraSettings) -> type | None:
        """By `image_transport`; auto goes by the end of the topic's name, else by what somebody publishes there."""
        chosen, topic = camera.image_transport, camera.image_topic
        if chosen == "compressed" or (chosen == "auto" and topic.endswith("/compressed")):
            return CompressedImage
        if chosen == "raw":
            return Image
        types = {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}
        if "sensor_msgs/msg/Image" in types:
            return Image
        return CompressedImage if "sensor_msgs/msg/CompressedImage" in types else None


def _qos_of(role: Role) -> QoSProfile:
    if role == "tf_static":
        return QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=TF_DEPTH) if role == "tf" else _sensor_qos(QUEUES[role])


def _sensor_qos(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
