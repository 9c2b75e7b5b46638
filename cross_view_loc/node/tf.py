"""The transform that leaves the node, by `tf_mode`, and when it must not."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.stamps import stamp_ns, to_ns
from cross_view_loc.node.conversions import T_map_base, T_map_odom, transform_message
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate

TF_DEPTH = 100
"""Queue of /tf, as tf2_ros has it."""

FOREIGN_MEMORY_S = 10.0
"""So long after another publisher's last transform ours stays held back; a static one holds for ever."""


class TransformOutput:
    """Publishes accepted estimates on /tf just as tf2_ros does, which the wheels lack.

    A frame has one parent in TF, and a transform one publisher (REP-105): a second one makes every lookup jump between
    the two. So ours is held back while somebody else gives the frame another parent, or the same transform.
    """

    def __init__(
        self,
        node: Node,
        assembler: FrameAssembler,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is a monotonic clock in seconds; of `settings` the fixed ones are used."""
        children = {"map_to_odom": settings.odom_frame, "map_to_base": settings.base_frame}
        self._node, self._assembler, self._clock = node, assembler, clock
        self._mode = settings.tf_mode
        self._parent, self._child = settings.map_frame, children.get(self._mode, settings.child_frame)
        self._lock = threading.Lock()
        self._own_stamps: deque[int] = deque(maxlen=1000)
        self._foreign_at = -math.inf
        self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=TF_DEPTH))

    def close(self) -> None:
        """Take the publisher down."""
        self._node.destroy_publisher(self._publisher)

    def heard(self, message: TFMessage, is_static: bool) -> None:
        """Look for our own transform, published by somebody else, in what arrived on /tf or /tf_static."""
        if self._mode == "none":
            return
        for stamped in message.transforms:
            if (bare_frame(stamped.header.frame_id), bare_frame(stamped.child_frame_id)) != (self._parent, self._child):
                continue
            with self._lock:
                if is_static:
                    self._foreign_at = math.inf
                elif stamp_ns(stamped) not in self._own_stamps:
                    self._foreign_at = max(self._foreign_at, self._clock())

    def publish(self, estimate: Estimate, transform_tolerance_s: float) -> None:
        """Publish what `tf_mode` says; MissingInputError without odometry, InputError when ours is held back."""
        if self._mode == "none":
            return
        self._check_others()
        stamp = estimate.stamp_ns
        if self._mode == "map_to_odom":
            T_parent_child = T_map_odom(estimate, self._assembler.T_odom_base(stamp))
            stamp += to_ns(transform_tolerance_s)
        else:
            T_parent_child = T_map_base(estimate)
        with self._lock:
            self._own_stamps.append(stamp)  # before it leaves: it comes back on our own subscription
        self._publisher.publish(
            TFMessage(transforms=[transform_message(T_parent_child, self._parent, self._child, stamp)])
        )

    def _check_others(self) -> None:
        others = self._assembler.parents_of(self._child) - {self._parent}
        if others:
            remedy = (
                "set tf_mode to map_to_odom" if self._mode == "map_to_base" else "set tf_mode to none, or stop that one"
            )
            raise InputError(f"/tf: {self._child} already has the parent {', '.join(sorted(others))}; {remedy}")
        with self._lock:
            is_foreign = self._clock() - self._foreign_at <= FOREIGN_MEMORY_S
        if is_foreign:
            raise InputError(
                f"/tf: {self._parent} -> {self._child} is already published by {self._who_else()}; "
                "set tf_mode to none, or have that one publish no such transform"
            )

    def _who_else(self) -> str:
        """The other nodes that publish transforms: DDS does not say which of them sent a message."""
        topic = "/tf_static" if self._foreign_at == math.inf else "/tf"
        names = {
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(topic)
        } - {self._node.get_fully_qualified_name()}
        if not names:
            return f"another node on {topic}"
        return next(iter(names)) if len(names) == 1 else f"one of {', '.join(sorted(names))}"
