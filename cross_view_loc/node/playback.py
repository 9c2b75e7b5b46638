"""Plays a bag to a running localizer over DDS at real time, and records what comes back."""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from cross_view_loc.bags.reader import IMAGE_TYPES, TF_TYPES, Bag
from cross_view_loc.geometry.transforms import Matrix, from_quaternion, yaw_of
from cross_view_loc.inputs.poses import transform_of
from cross_view_loc.inputs.stamps import stamp_ns


@dataclass(frozen=True)
class ReceivedPose:
    """A published pose of base_link in the map: metres, radians, (3, 3) covariance of east, north, yaw."""

    stamp_ns: int
    east_m: float
    north_m: float
    yaw_rad: float
    covariance: NDArray[np.float64]
    latency_s: float
    """From the moment its image was handed to DDS to the moment the pose arrived; NaN for an unknown stamp."""


@dataclass
class Received:
    """Everything that came back."""

    poses: list[ReceivedPose] = field(default_factory=list)
    """Accepted ones, from ~/pose."""
    estimate_stamps_ns: list[int] = field(default_factory=list)
    """Images that led to an estimate, accepted or refused, from ~/pose_unchecked."""
    map_to_odom: list[tuple[int, Matrix]] = field(default_factory=list)
    """(stamp_ns, T_map_odom)"""
    diagnostics: dict[str, str] = field(default_factory=dict)
    """The localizer's last diagnostic values by key."""


class Playback:
    """Publishers for a bag's topics and subscriptions to the localizer's; use it in a `with` statement.

    The messages go out as the bytes they were recorded as, so types and contents are exactly those of the bag.
    """

    def __init__(self, bag: Bag, topics: Collection[str], localizer: str, map_frame: str, odom_frame: str) -> None:
        self.received = Received()
        self._bag, self._topics = bag, list(topics)
        self._localizer, self._frames = localizer, (map_frame, odom_frame)
        self._sent_at: dict[int, float] = {}
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("cross_view_loc_playback", context=self._context)
        self._publishers = {name: self._publisher(name) for name in self._topics}
        self._node.create_subscription(PoseWithCovarianceStamped, f"/{localizer}/pose", self._on_pose, 50)
        self._node.create_subscription(PoseWithCovarianceStamped, f"/{localizer}/pose_unchecked", self._on_estimate, 50)
        self._node.create_subscription(TFMessage, "/tf", self._on_tf, 200)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._spinner = threading.Thread(target=self._spin, name="playback", daemon=True)
        self._spinner.start()

    def __enter__(self) -> Playback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._spinner.join(timeout=2.0)
        self._node.destroy_node()  # else its publishers stay in the graph until it is garbage-collected
        rclpy.try_shutdown(context=self._context)

    def listeners(self, topic: str) -> int:
        """How many subscriptions the topic has."""
        return int(self._node.count_subscribers(topic))

    def play(self, until_sent: Callable[[float, int], bool]) -> list[int]:
        """Send the bag at the pace it was recorded; returns the stamps of its images.

        `until_sent` is told the seconds played and the images sent, after each message; False stops the playback.
        """
        images: list[int] = []
        started = time.monotonic()
        for item in self._bag.serialized(self._topics):
            offset_s = (item.time_ns - self._bag.start_ns) / 1e9
            time.sleep(max(0.0, started + offset_s - time.monotonic()))
            if item.type in IMAGE_TYPES:
                stamp = _stamp_of_serialized(item.message)
                self._sent_at[stamp] = time.monotonic()
                images.append(stamp)
            self._publishers[item.topic].publish(bytes(item.message))
            if not until_sent(offset_s, len(images)):
                break
        return images

    def wait_quiet(self, quiet_s: float, at_most_s: float) -> None:
        """Return when no estimate has come for `quiet_s`."""
        end = time.monotonic() + at_most_s
        count, since = len(self.received.estimate_stamps_ns), time.monotonic()
        while time.monotonic() < min(end, since + quiet_s):
            time.sleep(0.05)
            if len(self.received.estimate_stamps_ns) != count:
                count, since = len(self.received.estimate_stamps_ns), time.monotonic()

    def _publisher(self, topic: str) -> Any:
        package, _, name = self._bag.topics[topic].type.split("/")
        message_type = getattr(importlib.import_module(f"{package}.msg"), name)
        static = self._bag.topics[topic].type in TF_TYPES and topic.endswith("_static")
        qos = QoSProfile(
            depth=1 if static else 50,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE,
        )
        return self._node.create_publisher(message_type, topic, qos)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        arrived = time.monotonic()
        q, p = message.pose.pose.orientation, message.pose.pose.position
        stamp = stamp_ns(message)
        covariance = np.asarray(message.pose.covariance, dtype=np.float64).reshape(6, 6)
        self.received.poses.append(
            ReceivedPose(
                stamp,
                p.x,
                p.y,
                yaw_of(from_quaternion(q.x, q.y, q.z, q.w)),
                covariance[np.ix_([0, 1, 5], [0, 1, 5])],
                arrived - self._sent_at.get(stamp, math.nan),
            )
        )

    def _on_estimate(self, message: PoseWithCovarianceStamped) -> None:
        self.received.estimate_stamps_ns.append(stamp_ns(message))

    def _on_tf(self, message: TFMessage) -> None:
        for stamped in message.transforms:
            if (stamped.header.frame_id, stamped.child_frame_id) == self._frames:
                self.received.map_to_odom.append((stamp_ns(stamped), transform_of(stamped.transform)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if self._localizer in status.name:
                self.received.diagnostics |= {item.key: item.value for item in status.values}

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except (ExternalShutdownException, RuntimeError):
            return  # the context is shut down from __exit__


def _stamp_of_serialized(data: bytes) -> int:
    """Nanoseconds of the header's stamp: the first two 32-bit numbers after CDR's four bytes of preamble."""
    order = "little" if data[1] & 1 else "big"
    seconds = int.from_bytes(data[4:8], order, signed=True)  # type: ignore[arg-type]
    return seconds * 1_000_000_000 + int.from_bytes(data[8:12], order)  # type: ignore[arg-type]
