"""Records what a running ROS 2 graph publishes for some seconds, so that what looks at bags can look at it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.bags.reader import CAMERA_INFO_TYPE, FIX_TYPE, IMAGE_TYPES, IMU_TYPE, ODOMETRY_TYPE, TF_TYPES
from cross_view_loc.errors import MissingInputError

RECORDED_TYPES = (*IMAGE_TYPES, CAMERA_INFO_TYPE, FIX_TYPE, ODOMETRY_TYPE, IMU_TYPE, TF_TYPES[0])
LOOK_AGAIN_S = 0.5
"""How often the graph is asked for new topics."""


def record_graph(path: Path, seconds: float, domain_id: int | None = None) -> int:
    """Write a rosbag2 of all topics of the types used here, with the time of their arrival; how many messages.

    Raises MissingInputError when nothing comes.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        writer = stack.enter_context(Writer(path, version=9, storage_plugin=StoragePlugin.MCAP))
        context = Context()
        rclpy.init(context=context, domain_id=domain_id)
        stack.callback(rclpy.shutdown, context=context)
        node = Node("cross_view_loc_doctor", context=context, enable_rosout=False, start_parameter_services=False)
        stack.callback(node.destroy_node)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)

        def subscribe(topic: str, kind: str) -> None:
            connection = writer.add_connection(topic, kind, typestore=store)
            counts[topic] = 0

            def take(data: bytes) -> None:
                writer.write(connection, time.time_ns(), data)
                counts[topic] += 1

            node.create_subscription(_message_class(kind), topic, take, _qos(node, topic), raw=True)

        end = time.monotonic() + seconds
        next_look = 0.0
        while time.monotonic() < end:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_AGAIN_S
                for topic, kind in _topics(node, counts):
                    subscribe(topic, kind)
            executor.spin_once(timeout_sec=0.1)
    if not sum(counts.values()):
        found = ", ".join(sorted(counts)) or "no topic of images, CameraInfo, fixes, odometry, Imu or transforms"
        raise MissingInputError(
            f"nothing came within {seconds:g} s ({found}); start the vehicle's drivers, and check ROS_DOMAIN_ID and "
            "ROS_AUTOMATIC_DISCOVERY_RANGE"
        )
    return sum(counts.values())


def _topics(node: Node, known: Collection[str]) -> list[tuple[str, str]]:
    """New topics somebody publishes, of the types used here."""
    found = ((topic, kinds[0]) for topic, kinds in node.get_topic_names_and_types() if len(kinds) == 1)
    return [
        (topic, kind)
        for topic, kind in found
        if kind in RECORDED_TYPES and topic not in known and node.count_publishers(topic)
    ]


def _qos(node: Node, topic: str) -> QoSProfile:
    """What every publisher of the topic can serve; what it keeps for latecomers comes too."""
    offered = [info.qos_profile for info in node.get_publishers_info_by_topic(topic)]
    keeps = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    return QoSProfile(
        depth=100,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if keeps else DurabilityPolicy.VOLATILE,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


def _message_class(kind: str) -> type:
    package, _, name = kind.split("/")
    found = getattr(importlib.import_module(f"{package}.msg"), name)
    assert isinstance(found, type)
    return found
