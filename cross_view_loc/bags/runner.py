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
    FIX_TYPE,
    IMAGE_TYPES,
    IMU_TYPE,
    ODOMETRY_TYPE,
    Bag,
    BagMessage,
    BagTopics,
    guess_topics,
    reference_topics,
)
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.errors import InputError, MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.assembler import FrameAssembler, Role
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.imus import has_orientation
from cross_view_loc.inputs.poses import pose_of
from cross_view_loc.inputs.stamps import Timeline, blend_transforms, stamp_ns, to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.tracked import Locate, locate_tracked
from cross_view_loc.tracking.tracker import Tracker

WARM_UP_S = 30.0
"""Fixes, odometry and headings from this long before the first wanted image are read too: a course needs a history."""


def choose_topics(bag: Bag, settings: Settings | None) -> BagTopics:
    """The topics named by `settings`, or guessed from the bag when there are none.

    Raises MissingInputError naming a configured topic that the bag lacks and the topics that could be meant.
    """
    if settings is None:
        topics = guess_topics(bag)
        return topics if not topics.imu or _gives_attitude(bag, topics.imu) else dataclasses.replace(topics, imu="")
    wanted = (
        ("image_topic", settings.image_topic, IMAGE_TYPES),
        ("camera_info_topic", settings.camera_info_topic, (CAMERA_INFO_TYPE,)),
        ("fix_topic", settings.fix_topic, (FIX_TYPE,)),
        ("odometry_topic", settings.odometry_topic, (ODOMETRY_TYPE,)),
        ("imu_topic", settings.imu_topic, (IMU_TYPE,)),
    )
    named = {setting: _named_topic(bag, setting, name, types) for setting, name, types in wanted if name}
    missing = [setting for setting, name, _ in wanted[:3] if not name]
    if missing:
        raise MissingInputError(f"the configuration leaves {missing[0]} empty; name the topic")
    return BagTopics(
        image=named["image_topic"],
        camera_info=named["camera_info_topic"],
        fix=named["fix_topic"],
        odometry=named.get("odometry_topic", ""),
        imu=named.get("imu_topic", ""),
        **reference_topics(bag),
    )


def with_topics(settings: Settings, topics: BagTopics) -> Settings:
    """The settings with the bag's own topic names, as the assembler then names them in its sentences."""
    return dataclasses.replace(
        settings,
        image_topic=topics.image,
        camera_info_topic=topics.camera_info,
        fix_topic=topics.fix,
        odometry_topic=topics.odometry,
        imu_topic=topics.imu,
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


def read_truth(bag: Bag, topic: str) -> Timeline[Matrix]:
    """T_map_base over time of an Odometry topic that holds ground truth."""
    truth: Timeline[Matrix] = Timeline(blend_transforms, history_s=float("1e9"))
    for item in bag.messages([topic]):
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
    camera_name: str = "camera"
    stride: int = 1
    """Every how manyth image is localized."""
    unusable: Counter[str] = field(default_factory=Counter)
    """How often a message besides the images was refused, by reason."""
    _seen_time_jumps: int = 0

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

        Raises InputError when there is no image there, or when not one of them could be localized (with the reason).
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
            reason, count = Counter(record.reason for record in records).most_common(1)[0]
            raise InputError(
                f"none of the {len(records)} images on {self.topics.image} could be localized ({count} times: {reason})"
            )
        return records

    def _records(self, start_ns: int, stop_ns: int) -> Iterator[FrameRecord]:
        self._feed_static_transforms()
        roles = self._roles()
        waiting: deque[BagMessage] = deque()
        wait_ns = to_ns(self.assembler.settings.prior_wait_s)
        seen, newest_stamp = 0, -1
        for item in self.bag.messages([*roles, self.topics.image], start_ns - to_ns(WARM_UP_S)):
            if item.topic == self.topics.image:
                if start_ns <= item.time_ns < stop_ns:
                    if seen % self.stride == 0:
                        waiting.append(item)
                    seen += 1
            else:
                self._add(roles[item.topic], item.message)
            while waiting and self._has_waited(waiting[0], item.time_ns, wait_ns):
                newest_stamp, record = self._localize(waiting.popleft(), newest_stamp)
                yield record
            if item.time_ns >= stop_ns and not waiting:
                return
        while waiting:
            newest_stamp, record = self._localize(waiting.popleft(), newest_stamp)
            yield record

    def _has_waited(self, image: BagMessage, now_ns: int, wait_ns: int) -> bool:
        """As in the node: until heading and odometry have reached the image, but no longer than `prior_wait_s`."""
        return now_ns > image.time_ns + wait_ns or self.assembler.ready(image.message)

    def _localize(self, image: BagMessage, newest_stamp: int) -> tuple[int, FrameRecord]:
        stamp = stamp_ns(image.message)
        self.assembler.observe_stamp("image", stamp)
        if self.assembler.time_jumps != self._seen_time_jumps:
            self._seen_time_jumps, newest_stamp = self.assembler.time_jumps, -1
            if self.tracker is not None:
                self.tracker.time_jumped()
        if stamp <= newest_stamp:
            reason = f"{self.topics.image}: the stamp is not newer than the image's before; poses leave in order"
            return newest_stamp, FrameRecord(stamp, "skipped", reason)
        return stamp, self._record(image.message, stamp)

    def _record(self, message: Any, stamp: int) -> FrameRecord:
        prior, no_prior = self.assembler.prior(stamp)
        try:
            frame = self.assembler.frame(message, self.camera_name)
            started = time.perf_counter()
            motion = self.assembler.motion(stamp)
            located = locate_tracked(self.tracker, self.locate, [frame], prior, motion, no_prior)
        except (InputError, MapError) as error:
            if self.tracker is not None:
                self.tracker.missing(str(error), stamp)
            return FrameRecord(stamp, "skipped", str(error), prior)
        seconds = time.perf_counter() - started
        estimate = located.estimate
        status = "accepted" if estimate.accepted else "refused"
        return FrameRecord(stamp, status, estimate.reason, prior, estimate, seconds, located.search)

    def _roles(self) -> dict[str, Role]:
        topics = self.topics
        roles: dict[str, Role] = {topics.camera_info: "camera_info", topics.fix: "fix"}
        if topics.odometry:
            roles[topics.odometry] = "odometry"
        if topics.imu:
            roles[topics.imu] = "imu"
        return roles | dict.fromkeys(topics.tf, "tf")

    def _feed_static_transforms(self) -> None:
        """They hold for the whole recording, wherever in it they were written (often only once, often late)."""
        for item in self.bag.messages(self.topics.tf_static):
            self._add("tf_static", item.message)

    def _add(self, role: Role, message: Any) -> None:
        try:
            self.assembler.add(role, message)
        except InputError as error:
            self.unusable[str(error)] += 1


def _named_topic(bag: Bag, setting: str, name: str, types: tuple[str, ...]) -> str:
    """The bag's topic for a configured name, which may be relative as in a node without a namespace."""
    for candidate in (name, f"/{name}"):
        topic = bag.topics.get(candidate)
        if topic is not None and topic.type in types and topic.count:
            return candidate
    found = ", ".join(bag.of_type(*types)) or "none at all"
    short = " or ".join(kind.replace("/msg/", "/") for kind in types)
    raise MissingInputError(
        f"{setting} is {name}, but {bag.path} has no messages of type {short} there; it has such on: {found}"
    )


def _gives_attitude(bag: Bag, topic: str) -> bool:
    """Whether the Imu topic's first message has an orientation."""
    first = next(bag.messages([topic]), None)
    return first is not None and has_orientation(first.message)
