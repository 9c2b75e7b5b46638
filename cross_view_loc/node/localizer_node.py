"""The ROS 2 node: sensor topics in, `~/pose` and TF out; all work on images happens off the executor's callbacks.

Publishes
    ~/pose             geometry_msgs/PoseWithCovarianceStamped of base_frame in map_frame at the image's stamp:
                       accepted estimates only, in the order of their stamps
    ~/pose_unchecked   the same for every estimate, also those the gate refused
    ~/debug/compressed sensor_msgs/CompressedImage, the matched pixels; drawn only while somebody subscribes
    /tf                by tf_mode
    /diagnostics       once a second, see `health.py` for what is a warning and what an error
"""

from __future__ import annotations

import time
import traceback
from functools import partial
from typing import Any

import rclpy.clock
import rclpy.node
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from cross_view_loc.errors import CrossViewError, InputError, MissingInputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler, Role, topics_of
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.stamps import NS_PER_S, stamp_ns, to_ns
from cross_view_loc.node import debug_picture, parameters, start
from cross_view_loc.node.conversions import pose_message, to_time
from cross_view_loc.node.health import Health
from cross_view_loc.node.tf import TF_DEPTH, TransformOutput
from cross_view_loc.node.worker import NewestFirstWorker
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame

MESSAGE_TYPES: dict[Role, type] = {
    "camera_info": CameraInfo,
    "fix": NavSatFix,
    "odometry": Odometry,
    "imu": Imu,
    "tf": TFMessage,
    "tf_static": TFMessage,
}
DEPTHS: dict[Role, int] = {"camera_info": 5, "fix": 10, "odometry": 100, "imu": 100}
LOG_EVERY_S = 10.0
LONGEST_LATENCY_S = 60.0
"""More means that the stamps are of another clock (a bag played without sim time)."""


class LocalizerNode(rclpy.node.Node):
    """See the module's text; `make_localizer` lets tests replace the real localizer."""

    def __init__(
        self,
        make_localizer: start.MakeLocalizer = start.build_localizer,
        **node_arguments: Any,
    ) -> None:
        """Declare, load, warm up, then subscribe. Raises CrossViewError when settings, map or weights are unusable."""
        super().__init__("localizer", **node_arguments)
        self.settings = parameters.declare(self)
        self._make_localizer = make_localizer
        self._logged: dict[str, float] = {}
        self._worker: NewestFirstWorker[Any] | None = None
        watched = {"image": self.settings.image_topic}
        watched |= {str(role): topic for topic, role in topics_of(self.settings).items() if not role.startswith("tf")}
        self.health = Health(watched)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time and no /clock, this must still speak.
        steady = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self._map_file = start.MapFile(self.settings.map_path, self.settings.map_cache, self.settings.map_offline)
        origin = start.configured_origin(self.settings, self._map_file)
        if origin is not None:
            self._begin(MapProjection(origin, self.settings.map_projection))
        else:
            self.get_logger().info(f"waiting for the first fix on {self.settings.fix_topic}: it becomes map_origin")
            self._first_fix = self.create_subscription(
                NavSatFix, self.settings.fix_topic, self._begin_at_fix, _sensor_qos(1)
            )

    def close(self) -> None:
        """Finish the present image, then take the node down."""
        if self._worker is not None:
            self._worker.close()
        self._map_file.close()
        self.destroy_node()

    # --- start ---

    def _begin_at_fix(self, message: NavSatFix) -> None:
        self.health.arrived("fix")
        try:
            origin = read_fix(message).origin
        except InputError as error:
            self._complain("fix", str(error), self.health.unusable("fix", str(error)))
            return
        self.destroy_subscription(self._first_fix)
        self.get_logger().info(f"map_origin is the first fix: {origin}")
        self._begin(MapProjection(origin, self.settings.map_projection))

    def _begin(self, projection: MapProjection) -> None:
        logger, settings = self.get_logger(), self.settings
        started = time.perf_counter()
        self._localizer = self._make_localizer(settings, projection, self._map_file)
        loaded_s = time.perf_counter() - started
        warm_s = start.warm_up(self._localizer, settings.device)
        logger.info(f"localizer loaded in {loaded_s:.1f} s, warmed up in {warm_s:.1f} s; {projection}")
        self._assembler = FrameAssembler(settings, projection)
        self._tiles_ahead = self._map_file.tiles_ahead(projection, settings)
        self._seen_time_jumps = 0
        self._last_stamp_ns = -1
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "~/pose", 10)
        self._pose_unchecked = self.create_publisher(PoseWithCovarianceStamped, "~/pose_unchecked", 10)
        self._debug = self.create_publisher(CompressedImage, "~/debug/compressed", 1)
        self._tf = TransformOutput(self, self._assembler, settings)
        self._worker = NewestFirstWorker(
            self._process,
            ready=self._assembler.ready,
            wait_s=lambda: self.settings.prior_wait_s,
        )
        parameters.follow_changes(self, lambda: self.settings, self._apply)
        self._subscribe()
        logger.info(f"ready: images from {settings.image_topic}, poses of {settings.base_frame} on ~/pose")

    def _subscribe(self) -> None:
        overridable = QoSOverridingOptions(
            [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY]
        )
        subscribe = partial(self.create_subscription, qos_overriding_options=overridable)
        for topic, role in topics_of(self.settings).items():
            if role == "tf_static":
                qos = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            else:
                qos = QoSProfile(depth=TF_DEPTH) if role == "tf" else _sensor_qos(DEPTHS[role])
            subscribe(MESSAGE_TYPES[role], topic, partial(self._on_input, role), qos)
        image_type = CompressedImage if self.settings.image_transport == "compressed" else Image
        subscribe(image_type, self.settings.image_topic, self._on_image, _sensor_qos(1))

    # --- executor's callbacks: short ---

    def _on_input(self, role: Role, message: Any) -> None:
        watched = not role.startswith("tf")
        if watched:
            self.health.arrived(role)
        else:
            self._tf.heard(message, is_static=role == "tf_static")
        try:
            self._assembler.add(role, message)
        except InputError as error:
            number = self.health.unusable(role, str(error)) if watched else self.health.count("unusable transforms")
            self._complain(role, str(error), number)
        assert self._worker is not None
        self._worker.wake()

    def _on_image(self, message: Any) -> None:
        assert self._worker is not None
        self.health.arrived("image")
        if self._assembler.observe_stamp("image", stamp_ns(message)):
            self._worker.clear()
        self._worker.offer(message)

    def _apply(self, settings: Settings) -> None:
        self.settings = self._assembler.settings = settings
        if hasattr(self._localizer, "settings"):
            self._localizer.settings = settings.localizer_settings()
        self.get_logger().info("parameters changed")

    def _publish_diagnostics(self) -> None:
        assumptions: list[str] = []
        if self._worker is not None:
            assumptions = list(self._assembler.warnings.values())
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        map_problems = self._map_file.problems()
        for verdict in self.health.verdicts(self.settings.input_timeout_s, assumptions, map_problems):
            values = [KeyValue(key=key, value=value) for key, value in verdict.values.items()]
            if verdict.name == "estimates" and self._worker is not None:
                values.append(KeyValue(key="replaced by newer images", value=str(self._worker.dropped)))
            message.status.append(
                DiagnosticStatus(
                    level=bytes([verdict.level]),
                    name=f"{self.get_fully_qualified_name().lstrip('/')}: {verdict.name}",
                    message=verdict.sentence,
                    hardware_id=self.settings.image_topic,
                    values=values,
                )
            )
        self._diagnostics.publish(message)

    # --- the worker's thread ---

    def _process(self, message: Any) -> None:
        """One image to one estimate; whatever is wrong with it is counted and said, and the next one has its chance."""
        try:
            self._localize(message)
        except MissingInputError as error:
            self._complain("missing", str(error), self.health.not_localized("images without needed input", str(error)))
        except NoImageryError as error:
            self._complain("map", str(error), self.health.not_localized("images without imagery", str(error)))
        except InputError as error:
            self.health.unusable("image", str(error))
            self._complain("image", str(error), self.health.not_localized("unusable images", str(error)))
        except CrossViewError as error:
            self._complain("map", str(error), self.health.not_localized("map or model errors", str(error)))
        except Exception as error:  # a defect here must not end the node: say everything and go on
            if not self.context.ok():
                return  # shut down during the inference: there is nobody left to publish to
            text = f"internal error {type(error).__name__}: {error}"
            number = self.health.not_localized("internal errors", text)
            self._complain("internal", f"{text}; please report it\n{traceback.format_exc()}", number)

    def _localize(self, message: Any) -> None:
        started = time.perf_counter()
        stamp = stamp_ns(message)
        if self._assembler.time_jumps != self._seen_time_jumps:
            self._seen_time_jumps = self._assembler.time_jumps
            self._last_stamp_ns = -1
            self.get_logger().warning("stamps jumped back: inputs before the jump are forgotten")
        refusal = self._wrong_stamp(stamp)
        if refusal is not None:
            kind, problem = refusal
            self._complain(kind, problem, self.health.not_localized(kind, problem))
            return
        frame, prior = self._assembler.assemble(message)
        if self._tiles_ahead is not None:  # before the estimate: without imagery there is none
            self._tiles_ahead.moved(prior.stamp_ns, prior.east_m, prior.north_m)
        estimate = self._localizer.locate([frame], prior)
        self._last_stamp_ns = stamp
        self._publish(estimate)
        compute_s = time.perf_counter() - started
        latency_s = (self.get_clock().now().nanoseconds - stamp) / NS_PER_S
        is_measurable = 0.0 <= latency_s <= LONGEST_LATENCY_S
        self.health.localized(estimate.accepted, estimate.reason, compute_s, latency_s if is_measurable else None)
        self._publish_debug(frame, estimate)

    def _wrong_stamp(self, stamp: int) -> tuple[str, str] | None:
        """Why an image of this stamp is dropped: a name to count it by and a sentence; None when it is not."""
        settings = self.settings
        if stamp <= self._last_stamp_ns:
            late_s = (self._last_stamp_ns - stamp) / NS_PER_S
            return "dropped: not newer than the last image", (
                f"{settings.image_topic}: image has a stamp {late_s:.3f} s before the last one localized, not after "
                "it, and poses leave in order; make its driver give every image its own, growing stamp"
            )
        newest_topic, newest_ns = self._assembler.newest_input
        behind_s = (newest_ns - stamp) / NS_PER_S
        if newest_ns - stamp > to_ns(settings.max_frame_age_s):
            return "dropped: too old", (
                f"{settings.image_topic}: image is {behind_s:.1f} s older than the newest stamp on {newest_topic}; "
                "set both drivers to one clock (chrony, PTP), or raise max_frame_age_s if images come that late"
            )
        return None

    def _publish(self, estimate: Estimate) -> None:
        message = pose_message(estimate, self.settings.map_frame)
        self._pose_unchecked.publish(message)
        if not estimate.accepted:
            return
        self._pose.publish(message)
        try:
            self._tf.publish(estimate, self.settings.transform_tolerance_s)
        except InputError as error:
            self.health.tf_held_back(str(error))
            self._complain("tf", str(error), self.health.count("transforms held back"))
        else:
            self.health.tf_held_back("")

    def _publish_debug(self, frame: Frame, estimate: Estimate) -> None:
        if not self.settings.publish_debug or self._debug.get_subscription_count() == 0:
            return
        message = CompressedImage(format="jpeg", data=debug_picture.jpeg(debug_picture.draw(frame, estimate)))
        message.header.stamp = to_time(frame.stamp_ns)
        self._debug.publish(message)

    def _complain(self, kind: str, text: str, number: int) -> None:
        """Log at once the first time, then at most every `LOG_EVERY_S` for this kind of problem."""
        now = time.monotonic()
        if now - self._logged.get(kind, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[kind] = now
            self.get_logger().warning(f"{text} ({number} so far)")


def _sensor_qos(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
