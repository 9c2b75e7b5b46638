"""The offline runner: a bag's messages through the live node's own assembler and localizer, in a fixed order."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cross_view_loc.bags.reader import (
    CAMERA_INFO_TYPE,
    DEPTH_TYPE,
    FIX_TYPE,
    IMAGE_TYPES,
    IMU_TYPE,
    NEEDED,
    ODOMETRY_TYPE,
    Bag,
    BagTopics,
    guess_topics,
    reference_topics,
    without_part,
)
from cross_view_loc.bags.results import FrameRecord, grouped
from cross_view_loc.bags.topics import GUESSED, PARTS, gives_attitude, unused_topics, with_guesses
from cross_view_loc.errors import InputError, MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.camera_sync import ImageGroup, ImageGroups, image_groups
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.poses import bare_frame, pose_of
from cross_view_loc.inputs.roles import Source, input_key
from cross_view_loc.inputs.stamps import Timeline, stamp_ns, to_ns, whole_drive
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings
from cross_view_loc.tracking.status import state_after
from cross_view_loc.tracking.tracked import Locate, locate_tracked
from cross_view_loc.tracking.tracker import Tracker

WARM_UP_S = 30.0
"""Fixes, odometry and headings from this long before the first wanted image are read too: a course needs a history."""


def choose_topics(bag: Bag, settings: Settings | None) -> BagTopics:
    """The topics named by `settings`; what their file leaves open, or all without settings, is guessed from the bag.

    Raises MissingInputError naming a configured topic that the bag lacks and the topics that could be meant.
    """
    topics = _guessed(bag) if settings is None else _named(bag, settings)
    return dataclasses.replace(topics, unused=unused_topics(bag, topics))


def _guessed(bag: Bag) -> BagTopics:
    topics = guess_topics(bag)
    if topics.imu and not gives_attitude(bag, topics.imu):
        topics = dataclasses.replace(topics, imu="")
    return dataclasses.replace(topics, origins={part: GUESSED for part in PARTS if getattr(topics, part)})


def _named(bag: Bag, settings: Settings) -> BagTopics:
    settings, origins = with_guesses(bag, settings)
    for part in NEEDED:
        if not origins[part]:
            raise MissingInputError(without_part(bag, part))
    if not settings.fix_topic:
        raise MissingInputError("the configuration leaves fix_topic empty; name the topic")
    wanted = (
        ("fix_topic", settings.fix_topic, (FIX_TYPE,)),
        ("odometry_topic", settings.odometry_topic, (ODOMETRY_TYPE,)),
        ("imu_topic", settings.imu_topic, (IMU_TYPE,)),
    )
    rig = tuple(_camera_topics(bag, camera, bool(settings.cameras)) for camera in settings.rig)
    named = {setting: named_topic(bag, setting, name, types) for setting, name, types in wanted if name}
    return BagTopics(
        image=rig[0].image_topic,
        camera_info=rig[0].camera_info_topic,
        fix=named["fix_topic"],
        odometry=named.get("odometry_topic", ""),
        imu=named.get("imu_topic", ""),
        rig=rig,
        origins=origins,
        **reference_topics(bag),
    )


def with_topics(settings: Settings, topics: BagTopics) -> Settings:
    """The settings with the bag's own topic names, as the assembler then names them in its sentences."""
    others: dict[str, Any] = {"fix_topic": topics.fix, "odometry_topic": topics.odometry, "imu_topic": topics.imu}
    if settings.cameras:
        return dataclasses.replace(settings, rig=topics.rig, **others)
    only = topics.cameras[0]
    return dataclasses.replace(
        settings,
        image_topic=only.image_topic,
        camera_info_topic=only.camera_info_topic,
        depth_topic=only.depth_topic,
        **others,
    )


def first_fix_origin(bag: Bag, topic: str) -> MapOrigin:
    """The first valid fix as map origin; MissingInputError when no fix of the topic is valid."""
    refusal = "no message could be decoded"
    for item in bag.messages([topic]):
        try:
            return read_fix(item.message).origin
        except InputError as error:
            refusal = str(error)
    raise MissingInputError(f"no fix on {topic} in {bag.path} is valid ({refusal}); record with a GNSS fix")


def read_truth(bag: Bag, topic: str, map_frame: str = "") -> Timeline[Matrix]:
    """T_map_base over time of an Odometry topic that holds ground truth; InputError if it is not in `map_frame`."""
    truth = whole_drive()
    for item in bag.messages([topic]):
        frame = bare_frame(item.message.header.frame_id)
        if map_frame and frame and frame != map_frame:
            raise InputError(f"{topic} is in frame '{frame}', not '{map_frame}'; record it in the map's frame")
        truth.add(stamp_ns(item.message), pose_of(item.message.pose.pose))
    return truth


@dataclass
class BagRunner:
    """Feeds a bag to an assembler and a localizer; deterministic, because nothing depends on the clock on the wall."""

    bag: Bag
    topics: BagTopics
    assembler: FrameAssembler
    locate: Locate
    tracker: Tracker | None = None
    """Judges the estimates as a sequence; None: every image on its own."""
    stride: int = 1
    """Every how manyth image is localized."""
    unusable: Counter[str] = field(default_factory=Counter)
    """How often a message besides the images was refused, by reason."""
    assumed: Counter[str] = field(default_factory=Counter)
    """For how many estimates something was assumed because an input lacked or could not be true, by sentence."""
    _seen_time_jumps: int = 0
    _static_loss: InputError | None = None
    """What of the static transforms could not be read."""

    def image_count(self, start_ns: int, stop_ns: int) -> int:
        """About how many images will be localized between two bag times (all images taken as evenly spaced)."""
        share = (min(stop_ns, self.bag.end_ns) - max(start_ns, self.bag.start_ns)) / max(
            self.bag.end_ns - self.bag.start_ns, 1
        )
        return max(1, round(self.bag.topics[self.topics.image].count * min(max(share, 0.0), 1.0) / self.stride))

    def run(
        self, start_ns: int, stop_ns: int, on_record: Callable[[FrameRecord], None] = lambda record: None
    ) -> list[FrameRecord]:
        """Localize the images recorded in [start_ns, stop_ns), in order.

        Raises InputError when there is no image there, or when not one of them could be localized (with the reason);
        at the end, after `on_record` had every record, also when the bag was cut off there.
        """
        records: list[FrameRecord] = []
        for record in self._records(start_ns, stop_ns):
            records.append(record)
            on_record(record)
        if not records:
            raise InputError(
                f"{self.topics.image} has no image in the wanted part of {self.bag.path}; check --start and --duration"
            )
        if all(record.estimate is None for record in records):
            reason, count = grouped(Counter(record.reason for record in records)).most_common(1)[0]
            raise InputError(
                f"none of the {len(records)} images on {self.topics.image} could be localized ({count} times: {reason})"
            )
        if self._static_loss is not None:
            raise self._static_loss
        if self.bag.cut and stop_ns > self.bag.end_ns:
            raise InputError(self.bag.cut)
        return records

    def _records(self, start_ns: int, stop_ns: int) -> Iterator[FrameRecord]:
        self._feed_static_transforms()
        sources = self._sources()
        cameras = {camera.image_topic: camera.name for camera in self.topics.cameras}
        settings = self.assembler.settings
        groups = image_groups(settings, list(cameras.values()))
        waiting: deque[tuple[ImageGroup, int]] = deque()
        wait_ns = to_ns(settings.prior_wait_s)
        seen, newest_stamp = 0, -1
        for item in self.bag.messages([*sources, *cameras], start_ns - to_ns(WARM_UP_S)):
            if item.topic not in cameras:
                self._add(sources[item.topic], item.message)
            elif start_ns <= item.time_ns < stop_ns:
                group = groups.add(cameras[item.topic], item.message)
                if group is not None and seen % self.stride == 0:
                    waiting.append((group, item.time_ns))
                seen += group is not None
            while waiting and self._has_waited(groups, *waiting[0], item.time_ns - wait_ns):
                newest_stamp, record = self._localize(groups, *waiting.popleft(), newest_stamp)
                yield record
            if item.time_ns >= stop_ns and not waiting:
                return
        while waiting:
            newest_stamp, record = self._localize(groups, *waiting.popleft(), newest_stamp)
            yield record

    def _has_waited(self, groups: ImageGroups, group: ImageGroup, since_ns: int, waited_ns: int) -> bool:
        """As in the node: until all that belongs to the images is there, but no longer than `prior_wait_s`."""
        if waited_ns > since_ns:
            return True
        return groups.is_complete(group) and self.assembler.all_ready(group.messages)

    def _localize(
        self, groups: ImageGroups, group: ImageGroup, recorded_ns: int, newest_stamp: int
    ) -> tuple[int, FrameRecord]:
        stamp = group.stamp_ns
        self.assembler.observe_stamp(input_key("image", group.lead), stamp)
        if self.assembler.time_jumps != self._seen_time_jumps:
            self._seen_time_jumps, newest_stamp = self.assembler.time_jumps, -1
            if self.tracker is not None:
                self.tracker.time_jumped()
        if stamp <= newest_stamp:
            reason = (
                f"{self.topics.image}: the stamp is not newer than the image's before; have the camera's driver stamp "
                "each image when it is taken"
            )
            if stamp == 0:
                reason = f"{self.topics.image}: the stamp is 0; have the camera's driver stamp its images"
            return newest_stamp, FrameRecord(stamp, "skipped", reason, recorded_ns=recorded_ns)
        return stamp, self._record(groups.take(group), stamp, recorded_ns)

    def _record(self, images: list[tuple[str, Any]], stamp: int, recorded_ns: int) -> FrameRecord:
        prior, no_prior = self.assembler.prior(stamp)
        try:
            frames = self.assembler.frames(images, self._count_unusable)
            self.assumed.update(self.assembler.warnings.values())
            started = time.perf_counter()
            motion = self.assembler.motion(frames[0].stamp_ns)
            located = locate_tracked(self.tracker, self.locate, frames, prior, motion, no_prior)
        except (InputError, MapError) as error:
            if self.tracker is not None:
                self.tracker.missing(str(error), stamp)
            state = state_after(self.tracker, problem=str(error))
            return FrameRecord(stamp, "skipped", str(error), prior, recorded_ns=recorded_ns, state=state)
        seconds = time.perf_counter() - started
        estimate = dataclasses.replace(located.estimate, matches=())  # a long drive's would fill the memory
        status = "accepted" if estimate.accepted else "refused"
        state = state_after(self.tracker, located)
        return FrameRecord(stamp, status, estimate.reason, prior, estimate, seconds, located.search, recorded_ns, state)

    def _sources(self) -> dict[str, Source]:
        topics = self.topics
        sources = [Source("camera_info", each.camera_info_topic, each.name) for each in topics.cameras]
        sources += [Source("depth", each.depth_topic, each.name) for each in topics.cameras]
        sources += [Source("fix", topics.fix), Source("odometry", topics.odometry), Source("imu", topics.imu)]
        sources += [Source("tf", name) for name in topics.tf]
        return {source.topic: source for source in sources if source.topic}

    def _feed_static_transforms(self) -> None:
        """They hold for the whole recording, wherever in it they were written (often only once, often late)."""
        try:
            for item in self.bag.messages(self.topics.tf_static):
                self._add(Source("tf_static", item.topic), item.message)
        except InputError as error:  # damaged; those read may do, but the run is not whole
            self._static_loss = error

    def _add(self, source: Source, message: Any) -> None:
        try:
            self.assembler.add(source.role, message, source.camera)
        except InputError as error:
            self.unusable[str(error)] += 1

    def _count_unusable(self, camera: str, error: InputError) -> None:
        self.unusable[str(error)] += 1


def _camera_topics(bag: Bag, camera: CameraSettings, is_named: bool) -> CameraSettings:
    """The camera with the bag's names of its topics."""
    prefix = f"{camera.name}." if is_named else ""
    depth, info = camera.depth_topic, "" if camera.calibration_file else camera.camera_info_topic
    return dataclasses.replace(
        camera,
        image_topic=named_topic(bag, f"{prefix}image_topic", camera.image_topic, IMAGE_TYPES),
        camera_info_topic=named_topic(bag, f"{prefix}camera_info_topic", info, (CAMERA_INFO_TYPE,)) if info else "",
        depth_topic=named_topic(bag, f"{prefix}depth_topic", depth, (DEPTH_TYPE,)) if depth else "",
    )


def named_topic(bag: Bag, setting: str, name: str, types: tuple[str, ...]) -> str:
    """The bag's topic for a configured name, which may be relative as in a node without a namespace."""
    for candidate in (name, f"/{name}"):
        topic = bag.topics.get(candidate)
        if topic is not None and topic.type in types and topic.count:
            return candidate
    there = next((bag.topics[each] for each in (name, f"/{name}") if each in bag.topics), None)
    if there is not None and there.count and there.type not in types:
        name = f"{name}, which is of type {there.type}"
    there_are = bag.of_type(*types)
    found = ", ".join(there_are) or "none at all"
    paste = f'; set {setting}: "{there_are[0]}"' if len(there_are) == 1 else ""
    if len(there_are) > 1:
        paste = f'; set {setting} to the right one, as in {setting}: "{there_are[0]}"'
    short = " or ".join(kind.replace("/msg/", "/") for kind in types)
    raise MissingInputError(
        f"{setting} is {name}, but {bag.path} has no messages of type {short} there; it has such on: {found}{paste}"
    )
