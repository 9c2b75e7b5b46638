"""The transform that leaves the node, by `tf_mode`, and when it must not."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.node.conversions import T_map_base, T_map_odom, transform_message
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate

TF_DEPTH = 100
"""Queue of /tf, as tf2_ros has it."""


class TransformOutput:
    """Publishes accepted estimates on /tf just as tf2_ros does, which the wheels lack."""

    def __init__(self, node: Node, assembler: FrameAssembler) -> None:
        self._assembler = assembler
        self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=TF_DEPTH))

    def publish(self, estimate: Estimate, settings: Settings) -> None:
        """Publish what `tf_mode` says; MissingInputError without odometry, InputError when frames have other parents.

        A frame has one parent in TF (REP-105): a second publisher of it makes every lookup jump between the two.
        """
        mode, stamp_ns = settings.tf_mode, estimate.stamp_ns
        if mode == "none":
            return
        children = {"map_to_odom": settings.odom_frame, "map_to_base": settings.base_frame}
        child = children.get(mode, settings.child_frame)
        others = self._assembler.parents_of(child) - {settings.map_frame}
        if others:
            remedy = "set tf_mode to map_to_odom" if mode == "map_to_base" else "set tf_mode to none, or stop that one"
            raise InputError(f"/tf: {child} already has the parent {', '.join(sorted(others))}; {remedy}")
        if mode == "map_to_odom":
            T_parent_child = T_map_odom(estimate, self._assembler.T_odom_base(stamp_ns))
            stamp_ns += to_ns(settings.transform_tolerance_s)
        else:
            T_parent_child = T_map_base(estimate)
        message = transform_message(T_parent_child, settings.map_frame, child, stamp_ns)
        self._publisher.publish(TFMessage(transforms=[message]))
