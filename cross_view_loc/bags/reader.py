"""Opens rosbag2 (mcap, sqlite3) and ROS 1 bags without ROS, and guesses which topic is which."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReaderError

from cross_view_loc.bags.formats import repair
from cross_view_loc.bags.opening import one_line, open_reader
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.settings.cameras import ONLY_CAMERA, CameraSettings

DEPTH_TYPE = "sensor_msgs/msg/Image"
"""Distances do not come compressed."""
IMAGE_TYPES = ("sensor_msgs/msg/CompressedImage", DEPTH_TYPE)
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
FIX_TYPE = "sensor_msgs/msg/NavSatFix"
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
IMU_TYPE = "sensor_msgs/msg/Imu"
TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: its name, its ROS 2 type name and how many messages it holds."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message, with the time it was recorded at (not its header's stamp)."""

    topic: str
    type: str
    time_ns: int
    message: Any


class Bag:
    """A recording, open for reading; use it in a `with` statement.

    `path` is a rosbag2 folder, a single .mcap or .db3 file, a ROS 1 .bag file, or a folder with one of these. An .mcap
    that was cut off is read up to the cut, and `cut` says so. Raises MissingInputError when there
    is nothing at `path`, InputError when it is no bag, is damaged or holds no messages.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.unreadable = 0
        """Messages skipped so far because they could not be decoded."""
        if not self.path.exists():
            raise MissingInputError(
                f"there is no bag at {self.path}; give a rosbag2 folder, an .mcap, .db3 or .bag file"
            )
        self._reader, self.cut = open_reader(self.path)
        """`cut`: why the bag can be read to a cut only and what repairs it, in one sentence; empty for a whole bag."""
        counts = {name: info.msgcount for name, info in self._reader.topics.items()}
        types = {connection.topic: connection.msgtype for connection in self._reader.connections}
        self.topics = {name: BagTopic(name, kind, counts.get(name, 0)) for name, kind in sorted(types.items())}
        if self._reader.message_count == 0:
            self._reader.close()
            raise InputError(f"the bag {self.path} is empty; record again, with at least images and CameraInfo")
        self.start_ns: int = self._reader.start_time
        self.end_ns: int = self._reader.end_time

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(AnyReaderError):
            self._reader.close()

    def of_type(self, *types: str) -> list[str]:
        """Names of the topics that have one of these types and at least one message, in order of name."""
        return [topic.name for topic in self.topics.values() if topic.type in types and topic.count]

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages of these topics in the order they were recorded, those at `stop_ns` and later left out.

        A message that cannot be decoded is left out and counted in `unreadable`. Raises InputError when the file
        itself is damaged half-way, and at the end of the whole bag when a topic gave fewer messages than it should.
        """
        for topic, kind, time_ns, data in self._raw(topics, start_ns, stop_ns):
            try:
                message = self._reader.deserialize(data, kind)
            except Exception:  # bytes that do not follow their type fail in any way they like
                self.unreadable += 1
                continue
            yield BagMessage(topic, kind, time_ns, message)

    def serialized(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """As `messages`, but each `message` stays the bytes (CDR) that a ROS 2 publisher can send as they are."""
        for topic, kind, time_ns, data in self._raw(topics, start_ns, stop_ns):
            yield BagMessage(topic, kind, time_ns, data)

    @property
    def is_ros1(self) -> bool:
        """Whether the bytes of `serialized` are those of ROS 1."""
        return not self._reader.is2

    def decoded(self, item: BagMessage) -> Any:
        """The message of an item of `serialized`; InputError when its bytes do not follow its type."""
        try:
            return self._reader.deserialize(item.message, item.type)
        except Exception as error:  # as in `messages`
            raise InputError(
                f"a message on {item.topic} in {self.path} is not of its type {item.type} ({one_line(error)}); "
                "record it again"
            ) from error

    def _raw(
        self, topics: Collection[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[str, str, int, bytes]]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if not connections:
            return
        stream = self._reader.messages(connections, start=start_ns, stop=stop_ns)
        delivered: Counter[str] = Counter()
        while True:
            try:
                connection, time_ns, data = next(stream)
            except StopIteration:
                break
            except Exception as error:
                raise InputError(f"the bag {self.path} is damaged ({one_line(error)}); {repair(self.path)}") from error
            delivered[connection.topic] += 1
            yield connection.topic, connection.msgtype, time_ns, data
        if (start_ns is None or start_ns <= self.start_ns) and (stop_ns is None or stop_ns >= self.end_ns):
            self._refuse_loss(topics, delivered)

    def _refuse_loss(self, topics: Collection[str], delivered: Counter[str]) -> None:
        """InputError when a topic gave fewer messages than the index counts: the library passes over zeroed blocks."""
        for name in topics:
            counted = self.topics[name].count if name in self.topics else 0
            if delivered[name] < counted:
                raise InputError(
                    f"the bag {self.path} is damaged: it gives {delivered[name]} of the {counted} messages on {name}; "
                    f"{repair(self.path)}"
                )


@dataclass(frozen=True)
class BagTopics:
    """Which topic of a bag plays which part; empty where the bag has none."""

    image: str
    camera_info: str
    fix: str
    odometry: str = ""
    imu: str = ""
    truth: str = ""
    tf: tuple[str, ...] = ()
    tf_static: tuple[str, ...] = ()
    rig: tuple[CameraSettings, ...] = ()
    """The configured cameras with the bag's names of their topics; empty when nothing is configured."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where the topic of a part ("image", "fix", …) is from: "file", "default" or "guessed", with more after it."""
    unused: tuple[str, ...] = field(default=(), compare=False)
    """Topics of usable types, with messages, that play no part."""

    @property
    def cameras(self) -> tuple[CameraSettings, ...]:
        """`rig`, or the one camera of `image` and `camera_info`."""
        own = CameraSettings(ONLY_CAMERA, image_topic=self.image, camera_info_topic=self.camera_info)
        return self.rig or (own,)


NEEDED = {
    "image": ("images", "sensor_msgs/Image or CompressedImage", ("image", "camera", "video"), ""),
    "camera_info": (
        "CameraInfo",
        "sensor_msgs/CameraInfo",
        ("info", "calibration"),
        ", or name a file with the camera's calibration by the parameter calibration_file",
    ),
    "fix": ("GNSS fixes", "sensor_msgs/NavSatFix", ("fix", "gps", "gnss", "navsat"), ""),
}
"""Parts that must be there: what they are, their types, words of their names, what else may stand in."""


def guess_topics(bag: Bag) -> BagTopics:
    """Choose topics by their types and names: the way to run on a bag nobody has written a configuration for.

    Raises MissingInputError when images, CameraInfo or fixes are missing altogether, naming what seems to be them.
    """
    topics = likely_topics(bag)
    for part in NEEDED:
        if not getattr(topics, part):
            raise MissingInputError(without_part(bag, part))
    return topics


def without_part(bag: Bag, part: str) -> str:
    """One sentence on a bag without the needed part, naming what seems to be it."""
    what, kind, words, instead = NEEDED[part]
    found = _lookalikes(bag, words)
    return f"the bag {bag.path} has no {what}: no topic of type {kind} with messages{found}; record one{instead}"


def _lookalikes(bag: Bag, words: tuple[str, ...]) -> str:
    """Topics that by their names should hold what is missing, with why they do not, in brackets; or nothing."""
    used = (*IMAGE_TYPES, CAMERA_INFO_TYPE, FIX_TYPE, ODOMETRY_TYPE, IMU_TYPE, *TF_TYPES)
    alike = [topic for topic in bag.topics.values() if any(word in topic.name.lower() for word in words)]
    found = [f"{topic.name} is of type {topic.type}" for topic in alike if topic.type not in used and topic.count]
    found += [f"{topic.name} is empty" for topic in alike if not topic.count]
    return f" ({', '.join(found[:5])})" if found else ""


def likely_topics(bag: Bag) -> BagTopics:
    """As `guess_topics`, but what the bag lacks stays empty."""
    images = bag.of_type(*IMAGE_TYPES)
    image = _likeliest(images, ("front", "compressed", "image"), ("depth", "mask", "label", "thermal", "debug"))
    return BagTopics(
        image=image,
        camera_info=info_beside(bag, image),
        fix=_likeliest(bag.of_type(FIX_TYPE), ("gnss", "gps", "fix"), ("truth", "filtered", "rtk")),
        odometry=_likeliest([name for name in bag.of_type(ODOMETRY_TYPE) if not _is_truth(name)],
                            ("wheel", "odom"), ("gps", "gnss", "global", "map")),
        imu=_likeliest(bag.of_type(IMU_TYPE), ("imu/data", "data"), ("raw",)),
        **reference_topics(bag),
    )  # fmt: skip


def info_beside(bag: Bag, image: str) -> str:
    """The CameraInfo that by its name belongs to an image topic; empty when there is none."""
    infos = bag.of_type(CAMERA_INFO_TYPE)
    return max(infos, key=lambda name: (_shared_names(name, image), -len(name)), default="")


def reference_topics(bag: Bag) -> dict[str, Any]:
    """The topics no configuration names: transforms and, where recorded, ground truth."""
    transforms = bag.of_type(*TF_TYPES)
    return {
        "truth": next((name for name in bag.of_type(ODOMETRY_TYPE) if _is_truth(name)), ""),
        "tf": tuple(name for name in transforms if not name.endswith("_static")),
        "tf_static": tuple(name for name in transforms if name.endswith("_static")),
    }


def _is_truth(name: str) -> bool:
    return "truth" in name.lower()


def _shared_names(name: str, other: str) -> int:
    """How many names from the left two topics share: the CameraInfo of an image lies beside it."""
    pairs = list(zip(name.split("/"), other.split("/"), strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _likeliest(names: list[str], good: tuple[str, ...], bad: tuple[str, ...]) -> str:
    """The name with most of the good and fewest of the bad words; the first of equals, empty when there is none."""

    def score(name: str) -> tuple[int, int]:
        low = name.lower()
        return (-sum(word in low for word in bad), sum(word in low for word in good))

    return max(names, key=score, default="")
