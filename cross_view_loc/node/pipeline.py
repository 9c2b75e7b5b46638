"""From messages to estimates: short callbacks on the executor's thread, all work on images on one thread beside it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode

from cross_view_loc.aerial.ahead import TilesAhead
from cross_view_loc.errors import CrossViewError, InputError, MissingInputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.camera_sync import ImageGroup, image_groups
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.roles import Source, input_key
from cross_view_loc.inputs.stamps import NS_PER_S, stamp_ns
from cross_view_loc.node import start
from cross_view_loc.node.complaints import Complaints
from cross_view_loc.node.health import Coverage, Health
from cross_view_loc.node.image_order import wrong_stamp
from cross_view_loc.node.outputs import Outputs
from cross_view_loc.node.subscriptions import Subscriptions
from cross_view_loc.node.worker import NewestFirstWorker
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.tracked import locate_tracked
from cross_view_loc.types import Estimate, Frame, Prior

LONGEST_LATENCY_S = 60.0
"""More means that the stamps are of another clock (a bag played without sim time)."""

FAILURES: tuple[tuple[type[CrossViewError], tuple[str, str]], ...] = (
    (MissingInputError, ("missing", "images without needed input")),
    (NoImageryError, ("map", "images without imagery")),
    (InputError, ("image", "unusable images")),
    (CrossViewError, ("map", "map or model errors")),
)
"""Kinds of failure, the special ones first: what the log and what the diagnostics count them as."""


class Pipeline:
    """Made when the node is configured; `start` and `stop` as it is activated and deactivated."""

    def __init__(
        self, node: LifecycleNode, settings: Settings, health: Health, map_file: start.MapFile, localizer: start.Locates
    ) -> None:
        self.settings, self.health = settings, health
        self._node, self._map_file, self._localizer = node, map_file, localizer
        self._log = node.get_logger()
        self.complain = Complaints(lambda text: self._log.warning(text))
        self.assembler = FrameAssembler(settings)
        self.outputs = Outputs(node, self.assembler, settings)
        self.worker: NewestFirstWorker[Any] | None = None
        self._subscriptions: Subscriptions | None = None
        self.tracker = settings.tracker()
        """Judges the estimates as a sequence; None when tracking is off."""
        self.is_enabled = True
        self._seen_time_jumps = 0
        self._last_stamp_ns = -1
        self._groups = image_groups(settings)
        self._locating = threading.Lock()
        self._tiles_ahead: TilesAhead | None = None
        self.place: tuple[float, float] | None = None
        """East, north of the middle of the last search; None before the first."""
        self.coverage: Coverage | None = None
        """Of the patch last searched; None before, and where the localizer does not tell."""

    def set_origin(self, origin: MapOrigin) -> None:
        """Count the map's metres from there: all that was measured in the old ones is forgotten."""
        projection = MapProjection(origin, self.settings.map_projection)
        with self._locating:
            start.look_at(self._localizer, self._map_file, projection)
            self.assembler.use_projection(projection)
            self.outputs.debug.use_map(start.map_of(self._map_file, projection))
            reach_m = self.settings.search_radius_m + start.LOOK_M
            self._tiles_ahead = self._map_file.tiles_ahead(projection, reach_m)
            self._last_stamp_ns, self.place = -1, None
            if self.tracker is not None:
                self.tracker.reset("the map's origin was set")
        self._log.info(f"map: {projection}")

    # --- what can be asked for, see `controls.py`; each answers with a sentence ---

    def enable(self, is_enabled: bool) -> str:
        """Work on images, or leave them alone."""
        self.is_enabled = is_enabled
        if not is_enabled and self.worker is not None:
            self.worker.clear()
        self._groups.clear()
        self.health.begin()
        self.health.paused = "" if is_enabled else "disabled: images are left alone until ~/enable is called with true"
        return self.health.paused or "enabled: images are localized"

    def reset(self) -> str:
        """Forget all that came so far but calibration, static transforms and the map's origin."""
        if self.worker is not None:
            self.worker.clear()
        with self._locating:
            self.assembler.reset()
            self._groups.clear()
            self._last_stamp_ns = -1
            if hasattr(self._localizer, "forget"):
                self._localizer.forget()
            if self.tracker is not None:
                self.tracker.reset("reset by ~/reset")
        return "forgotten where the vehicle was; searching as at the start"

    def refuse_input(self, key: str, problem: str) -> None:
        """Count and say that a message on an unwatched topic cannot be used."""
        self.complain(key, problem, self.health.count_problem(key, problem))

    # --- from activation to deactivation ---

    def start(self) -> None:
        """Subscribe, and work on what comes."""
        self.assembler.reset()
        self._groups = image_groups(self.settings)
        if self.tracker is not None:
            self.tracker.reset("activated")
        self._last_stamp_ns = -1
        self._seen_time_jumps = self.assembler.time_jumps
        self.worker = NewestFirstWorker(self._process, ready=self._is_ready, wait_s=lambda: self.settings.prior_wait_s)
        self._subscriptions = Subscriptions(self._node, self.settings, self.on_input, self.on_image)

    def stop(self) -> None:
        """Finish the present image, end the thread and hear nothing more."""
        if self._subscriptions is not None:
            self._subscriptions.close()
        self._subscriptions = None
        if self.worker is not None:
            self.worker.close()
        self.worker = None

    def close(self) -> None:
        """Give back what `start` cannot do without."""
        self.stop()
        self.outputs.close()

    def apply(self, settings: Settings) -> None:
        """Work with changed settings from the next image on."""
        self.settings = self.assembler.settings = settings
        self.outputs.tf.follow(settings)
        if hasattr(self._localizer, "settings"):
            self._localizer.settings = settings.localizer_settings()
        if self.tracker is not None:
            self.tracker.rules = settings.tracker_rules()

    @property
    def waits_for(self) -> str:
        """What must come before anything can be estimated; empty when nothing must."""
        if self.assembler.projection is None:
            return f"waiting for the first fix on {self.settings.fix_topic}: it becomes map_origin"
        return ""

    def assumptions(self) -> list[str]:
        """What is replaced by an assumption or still waited for; one sentence each."""
        undecided = [] if self._subscriptions is None else self._subscriptions.undecided
        waits = [f"{topic}: nobody publishes it yet, so image_transport auto waits" for topic in undecided]
        depth_notice = getattr(self._localizer, "depth_notice", "")  # a stand-in in tests may have no depth
        return [*self.assembler.warnings.values(), *filter(None, [self.waits_for, depth_notice]), *waits]

    def counts(self) -> dict[str, str]:
        """Images that were dropped, by name, and the depth source that serves."""
        dropped = {} if self.worker is None else {"replaced by newer images": str(self.worker.dropped)}
        dropped |= {"without a group": str(self._groups.unpaired)} if self.settings.cameras else {}
        return dropped | {"depth source": getattr(self._localizer, "depth_name", "unknown")}

    # --- executor's callbacks: short ---

    def on_input(self, source: Source, message: Any) -> None:
        """Any message but an image."""
        role, watched = source.role, not source.role.startswith("tf")
        if watched:
            self.health.arrived(source.key)
        else:
            self.outputs.tf.heard(message, is_static=role == "tf_static")
        try:
            if role == "fix" and self.assembler.projection is None:
                origin = read_fix(message).origin
                self._log.info(f"map_origin is the first fix: {origin}")
                self.set_origin(origin)
            self.assembler.add(role, message, source.camera)
        except InputError as error:
            if watched:
                self.complain(source.key, str(error), self.health.unusable(source.key, str(error)))
            else:
                self.refuse_input(source.key, str(error))
        if self.worker is not None:
            self.worker.wake()

    def on_image(self, camera: str, message: Any) -> None:
        """One image: newer ones replace it, and those of the same moment, until the worker takes them."""
        key = input_key("image", camera)
        self.health.arrived(key)
        if self.worker is None:
            return
        if not self.is_enabled:
            self.health.count("images while disabled")
            return
        if self.assembler.observe_stamp(key, stamp_ns(message)):
            self.worker.clear()
            self._groups.clear()
        group = self._groups.add(camera, message)
        if group is None:
            self.worker.wake()
        else:
            self.worker.offer(group)

    # --- the worker's thread ---

    def _is_ready(self, group: ImageGroup) -> bool:
        return self._groups.is_complete(group) and self.assembler.all_ready(group.messages)

    def _process(self, group: ImageGroup) -> None:
        """One image to one estimate; whatever is wrong with it is counted and said, and the next one has its chance."""
        try:
            with self._locating:
                self._localize(group)
        except CrossViewError as error:
            self._failed(group, error)
        except Exception as error:  # a defect here must not end the node: say everything and go on
            if not self._node.context.ok():
                return  # shut down during the inference: there is nobody left to publish to
            text = f"internal error {type(error).__name__}: {error}"
            number = self.health.not_localized("internal errors", text)
            self.complain("internal", f"{text}; please report it\n{traceback.format_exc()}", number)

    def _failed(self, group: ImageGroup, error: CrossViewError) -> None:
        kind, counted_as = next(names for error_type, names in FAILURES if isinstance(error, error_type))
        if kind == "image":
            self.health.unusable(input_key("image", group.lead), str(error))
        self.complain(kind, str(error), self.health.not_localized(counted_as, str(error)))
        if self.tracker is not None:
            self.tracker.missing(str(error), group.stamp_ns)
        self.outputs.publish_status(self.tracker, problem=str(error))

    def _localize(self, group: ImageGroup) -> None:
        started = time.perf_counter()
        settings, stamp = self.settings, group.stamp_ns
        age_s = self._age_s(stamp)
        if self.assembler.time_jumps != self._seen_time_jumps:
            self._seen_time_jumps = self.assembler.time_jumps
            self._last_stamp_ns = -1
            if self.tracker is not None:
                self.tracker.time_jumped()
            self._log.warning("stamps jumped back: inputs before the jump are forgotten")
        topic = next(camera.image_topic for camera in settings.rig if camera.name == group.lead)
        refusal = wrong_stamp(topic, stamp, self._last_stamp_ns, self.assembler.newest_input, settings.max_frame_age_s)
        if refusal is not None:
            kind, problem = refusal
            self.complain(kind, problem, self.health.not_localized(kind, problem))
            return
        prior, no_prior = self.assembler.prior(stamp)
        frames = self.assembler.frames(self._groups.take(group), self._one_camera_failed)
        decoded = time.perf_counter()
        motion = self.assembler.motion(frames[0].stamp_ns)
        located = locate_tracked(self.tracker, self._locate, frames, prior, motion, no_prior)
        inferred = time.perf_counter()
        estimate = located.estimate
        self._last_stamp_ns = stamp
        problem = ""
        try:
            self.outputs.publish(estimate, settings)
        except InputError as error:
            problem = str(error)
            self.complain("tf", problem, self.health.count("transforms held back"))
        self.health.tf_held_back(problem)
        published = time.perf_counter()
        stages_s = {"decode": decoded - started, "inference": inferred - decoded, "publish": published - inferred}
        if age_s is not None:
            stages_s["transport and waiting"] = age_s
        latency_s = self._age_s(stamp)
        self.health.localized(estimate.accepted, estimate.reason, published - started, latency_s, stages_s)
        self.outputs.publish_status(self.tracker, located, latency_s)
        self.outputs.publish_debug(frames, located, settings, self.tracker, latency_s)

    def _locate(self, frames: Sequence[Frame], search: Prior) -> Estimate:
        self.place = search.east_m, search.north_m
        if self._tiles_ahead is not None:  # before the estimate: without imagery there is none
            self._tiles_ahead.moved(search.stamp_ns, search.east_m, search.north_m)
        estimate = self._localizer.locate(frames, search)
        patch = getattr(self._localizer, "latest_patch", None)
        self.coverage = None if patch is None else Coverage(float(patch.valid.mean()), patch.stand_in)
        return estimate

    def _age_s(self, stamp: int) -> float | None:
        """How long ago that was; None when the stamps are of another clock."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp) / NS_PER_S
        return age_s if 0.0 <= age_s <= LONGEST_LATENCY_S else None

    def _one_camera_failed(self, camera: str, error: InputError) -> None:
        key = input_key("image", camera)
        self.complain(key, str(error), self.health.unusable(key, str(error)))
