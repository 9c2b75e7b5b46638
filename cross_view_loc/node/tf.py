"""The transform that leaves the node, by `tf_mode`, and when it must not.

Stamps. map_to_base and child carry the image's stamp, as the pose does. map_to_odom changes slowly, so it is post-dated
by `transform_tolerance_s`: whoever asks for the vehicle's place now, with odometry newer than the image, finds a
transform. It leaves with each accepted estimate, and between estimates `tf_rate_hz` times a second, then stamped with
the newest input's stamp plus the tolerance: TF stays current as long as sensors speak, also when no estimate is
accepted, and simulated time needs no special case. Stamps only grow.

`map_to_odom_motion` smooth moves the vehicle to where an estimate puts it at `correction_speed_m_per_s` and
`correction_yaw_rate_deg_per_s` at most (planners dislike jumps), but at once when that is farther than
`correction_jump_m`; jump always does so at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import rclpy.clock
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.timer import Timer
from tf2_msgs.msg import TFMessage

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.assembler import TIME_JUMP_S, FrameAssembler
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.stamps import stamp_ns, to_ns
from cross_view_loc.node.conversions import T_map_base, T_map_odom, transform_message
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.correction import Correction, CorrectionLimits
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
        self._correction = Correction()
        self._tolerance_s, self._newest_ns = settings.transform_tolerance_s, -1
        self._T_odom_base = np.eye(4)
        self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=TF_DEPTH))
        self.follow(settings)
        self._timer: Timer | None = None
        if self._mode == "map_to_odom" and settings.tf_rate_hz > 0.0:
            steady = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)
            self._timer = node.create_timer(1.0 / settings.tf_rate_hz, self.republish, clock=steady)

    def follow(self, settings: Settings) -> None:
        """Take over live parameters."""
        limits = CorrectionLimits(
            settings.correction_speed_m_per_s,
            math.radians(settings.correction_yaw_rate_deg_per_s),
            settings.correction_jump_m,
        )
        with self._lock:
            self._correction.limits = limits if settings.map_to_odom_motion == "smooth" else None
            self._tolerance_s = settings.transform_tolerance_s

    def close(self) -> None:
        """Take the publisher down."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
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

    def publish(self, estimate: Estimate) -> None:
        """Publish what `tf_mode` says; MissingInputError without odometry, InputError when ours is held back."""
        if self._mode == "none":
            return
        self._check_others()
        stamp = estimate.stamp_ns
        if self._mode != "map_to_odom":
            self._send(T_map_base(estimate), stamp)
            return
        T_odom_base = self._assembler.T_odom_base(stamp)
        with self._lock:
            if stamp < self._newest_ns - to_ns(TIME_JUMP_S):  # time was set back
                self._correction.forget()
                self._newest_ns = -1
            self._correction.aim(T_map_odom(estimate, T_odom_base))
            self._T_odom_base = T_odom_base
        self._show(stamp if self._timer is None else max(stamp, self._assembler.newest_stamp_ns))

    def republish(self) -> None:
        """Keep map → odom current, as long as inputs come."""
        newest_ns = self._assembler.newest_stamp_ns
        try:
            self._check_others()
            T_odom_base = self._assembler.T_odom_base(newest_ns)
            with self._lock:
                self._T_odom_base = T_odom_base
        except MissingInputError:
            pass  # the last place known will do to turn about
        except InputError:
            return  # ours is held back; `publish` says so
        self._show(newest_ns)

    def _show(self, stamp: int) -> None:
        with self._lock:
            T_parent_child = None if stamp <= self._newest_ns else self._correction.at(stamp, self._T_odom_base)
            if T_parent_child is None:
                return
            self._newest_ns = stamp
            stamp += to_ns(self._tolerance_s)
        self._send(T_parent_child, stamp)

    def _send(self, T_parent_child: Matrix, stamp: int) -> None:
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
