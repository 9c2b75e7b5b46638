"""What a bag holds and what of it can be used: one finding for each part the localizer needs."""

from __future__ import annotations

import dataclasses
import math

from cross_view_loc.bags.reader import (
    CAMERA_INFO_TYPE,
    DEPTH_TYPE,
    FIX_TYPE,
    IMAGE_TYPES,
    IMU_TYPE,
    ODOMETRY_TYPE,
    TF_TYPES,
    Bag,
    BagTopics,
    likely_topics,
    reference_topics,
)
from cross_view_loc.bags.runner import named_topic
from cross_view_loc.bags.topics import GUESSED, gives_attitude, unused_topics, with_guesses
from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.stamps import StampRecord, stamp_findings
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

GROUP = Group("bag")
KNOWN_TYPES = (*IMAGE_TYPES, CAMERA_INFO_TYPE, FIX_TYPE, ODOMETRY_TYPE, IMU_TYPE, *TF_TYPES)
WORDS = {
    "images": ("image", "camera", "video", "jpeg", "h264"),
    "positions": ("position", "gnss", "gps", "fix", "navsat", "pvt", "pva"),
    "an attitude": ("imu", "attitude", "ins", "pva", "orientation"),
    "odometry": ("odom", "velocity", "wheel", "twist"),
}
STANDARD = {
    "images": "sensor_msgs/Image or CompressedImage",
    "positions": "sensor_msgs/NavSatFix",
    "an attitude": "sensor_msgs/Imu",
    "odometry": "nav_msgs/Odometry",
}


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of the input: what it is called, its setting and its types."""

    name: str
    setting: str
    types: tuple[str, ...]
    is_needed: bool
    hint: str


PARTS = (
    Part("image", "image_topic", IMAGE_TYPES, True, "images"),
    Part("camera_info", "camera_info_topic", (CAMERA_INFO_TYPE,), True, ""),
    Part("fix", "fix_topic", (FIX_TYPE,), True, "positions"),
    Part("odometry", "odometry_topic", (ODOMETRY_TYPE,), False, "odometry"),
    Part("imu", "imu_topic", (IMU_TYPE,), False, "an attitude"),
)
DEPTH = Part("depth", "depth_topic", (DEPTH_TYPE,), False, "")
TITLES = {
    "image": "images",
    "camera_info": "camera calibration",
    "depth": "depth",
    "fix": "GNSS",
    "odometry": "odometry",
    "imu": "Imu",
}


def bag_findings(bag: Bag) -> list[Finding]:
    """The recording as a whole, and the topics that nothing here can read."""
    span_s = (bag.end_ns - bag.start_ns) / NS_PER_S
    total = sum(topic.count for topic in bag.topics.values())
    silent = [name for name, topic in bag.topics.items() if not topic.count]
    findings = [
        GROUP.ok(
            "bag.contents",
            f"{bag.path}: {_duration(span_s)}, {total} messages on {len(bag.topics)} topics"
            f"{f', {len(silent)} of them empty' if silent else ''}.",
            data={"duration_s": round(span_s, 3), "messages": total},
        )
    ]
    foreign = [topic for topic in bag.topics.values() if topic.type not in KNOWN_TYPES and topic.count]
    custom = [topic for topic in foreign if not topic.type.split("/")[0].endswith("_msgs")
              and not topic.type.startswith("rcl_interfaces/")]  # fmt: skip
    for topic in custom[:8]:
        rate = f"{topic.count / span_s:.1f} Hz" if span_s > 0 else f"{topic.count} messages"
        may = [what for what, words in WORDS.items() if _has_word(f"{topic.name} {topic.type}", words)]
        findings.append(
            GROUP.ok(
                "bag.custom_type",
                f"{topic.name} is {topic.type} ({rate}), a type this package does not know"
                f"{'; by its name it may hold ' + ' or '.join(may) if may else ''}.",
                remedy="Convert it to " + " or ".join(STANDARD[what] for what in may) + " to use it." if may else "",
                data={"topic": topic.name, "type": topic.type, "count": topic.count},
            )
        )
    if len(custom) > 8:
        findings.append(GROUP.ok("bag.custom_type", f"{len(custom) - 8} more topics are of types unknown here."))
    return findings


def choose(bag: Bag, configured: Settings | None) -> tuple[BagTopics, list[Finding]]:
    """The topic of every part, empty where there is none, and what is missing."""
    origins = dict.fromkeys((part.name for part in PARTS), GUESSED)
    if configured is not None:
        configured, origins = with_guesses(bag, configured)
    topics, findings = _choose(bag, configured, origins)
    return dataclasses.replace(topics, origins=origins, unused=unused_topics(bag, topics)), findings


def _choose(bag: Bag, configured: Settings | None, origins: dict[str, str]) -> tuple[BagTopics, list[Finding]]:
    guessed = likely_topics(bag)
    findings: list[Finding] = []
    if configured is None:
        names = {part.name: str(getattr(guessed, part.name)) for part in PARTS}
        findings += [_missing(bag, part) for part in PARTS if not names[part.name]]
        if names["imu"] and not _gives_attitude(bag, names["imu"]):
            findings.append(_no_orientation(names["imu"]))
            names["imu"] = ""
        return _topics(bag, names, ()), findings
    rig = []
    for camera in configured.rig:
        prefix = f"{camera.name}." if configured.cameras else ""
        chosen = {}
        for part in PARTS[:2]:
            wanted = getattr(camera, part.setting)
            if part.name == "camera_info" and camera.calibration_file:
                wanted = ""
            other = "" if prefix else getattr(guessed, part.name)
            found = ("", [_missing(bag, part)]) if not origins[part.name] else None
            chosen[part.setting], more = found or _configured(bag, part, wanted, other, prefix)
            findings += more
        chosen["depth_topic"], more = _configured(bag, DEPTH, camera.depth_topic, "", prefix)
        findings += more
        rig.append(dataclasses.replace(camera, **chosen))
    names = {"image": rig[0].image_topic, "camera_info": rig[0].camera_info_topic}
    for part in PARTS[2:]:
        wanted, other = getattr(configured, part.setting), getattr(guessed, part.name) if part.is_needed else ""
        if not origins[part.name]:
            is_rates = part.name == "imu" and guessed.imu
            wanted, findings = "", [*findings, _no_orientation(guessed.imu) if is_rates else _missing(bag, part)]
        names[part.name], more = _configured(bag, part, wanted, other, "")
        findings += more
    return _topics(bag, names, tuple(rig)), findings


def _topics(bag: Bag, names: dict[str, str], rig: tuple[CameraSettings, ...]) -> BagTopics:
    topics = BagTopics(names["image"], names["camera_info"], names["fix"], names["odometry"], names["imu"], rig=rig)
    return dataclasses.replace(topics, **reference_topics(bag))


def _configured(bag: Bag, part: Part, wanted: str, other: str, prefix: str) -> tuple[str, list[Finding]]:
    """The bag's name for a configured topic, or for want of it the `other` one, with a finding."""
    if not wanted:
        return "", []
    setting = f"{prefix}{part.setting}"
    try:
        return named_topic(bag, setting, wanted, part.types), []
    except MissingInputError as error:
        make = Group(TITLES[part.name]).fail if part.is_needed or not other else Group(TITLES[part.name]).warn
        remedy = f"Set {setting}." if other or bag.of_type(*part.types) else "Record it, or correct the name."
        if part.name == "camera_info" and not other:
            remedy = remedy.removesuffix(".") + f", or set {prefix}calibration_file to the camera's calibration."
        more = {"parameter": part.setting, "value": other} if not prefix and (other or not part.is_needed) else {}
        return other, [make(f"{part.name}.topic", f"{error}.", remedy, **more)]


def _no_orientation(topic: str) -> Finding:
    sentence = f"{topic} has rates but no orientation, so it gives neither heading nor tilt."
    return Group("Imu").ok("imu.orientation", sentence)


def _gives_attitude(bag: Bag, topic: str) -> bool:
    try:
        return gives_attitude(bag, topic)
    except (InputError, AttributeError):
        return False


def _missing(bag: Bag, part: Part) -> Finding:
    title = Group(TITLES[part.name])
    kind = " or ".join(name.replace("/msg/", "/") for name in part.types)
    empty = [topic.name for topic in bag.topics.values() if topic.type in part.types]
    near = [
        topic.name for topic in bag.topics.values()
        if topic.type not in KNOWN_TYPES and topic.count and part.hint
        and _has_word(f"{topic.name} {topic.type}", WORDS[part.hint])
    ]  # fmt: skip
    near.sort(key=lambda name: sum(_has_word(f"{name} {bag.topics[name].type}", words) for words in WORDS.values()))
    more = f"; {', '.join(empty[:3])} has that type but no messages" if empty else ""
    more += f"; {', '.join(near[:3])} may hold {part.hint} in another type" if near else ""
    sentence = f"The bag has no {TITLES[part.name]}: no topic of type {kind} with messages{more}."
    if part.is_needed:
        remedy = f"Convert {near[0]} to {STANDARD[part.hint]}." if near else f"Record a topic of type {kind}."
        if part.name == "camera_info":
            remedy = f"Record a topic of type {kind}, or set calibration_file to a file with the camera's calibration."
            return title.fail(f"{part.name}.topic", sentence, remedy, parameter="calibration_file")
        return title.fail(f"{part.name}.topic", sentence, remedy, parameter=part.setting)
    return title.ok(f"{part.name}.topic", sentence + " It is optional.")


def input_findings(bag: Bag, topics: BagTopics, stamps: dict[str, StampRecord], settings: Settings) -> list[Finding]:
    """Type, rate, gaps and frame of every chosen topic."""
    findings: list[Finding] = []
    limits = {
        "image": 1.0,
        "depth": 1.0,
        "camera_info": math.inf,
        "fix": settings.max_fix_age_s,
        "odometry": settings.max_input_gap_s,
        "imu": settings.max_input_gap_s,
    }
    chosen = [(part, str(getattr(topics, part.name)), part.setting) for part in PARTS]
    # Parameters of several cameras carry their names: they are as configured and need no advice.
    chosen[2:2] = [(part, getattr(camera, part.setting), "") for camera in topics.cameras[1:] for part in PARTS[:2]]
    chosen += [(DEPTH, camera.depth_topic, "depth_topic") for camera in topics.cameras]
    for part, name, parameter in chosen:
        record = stamps.get(name)
        if not name or record is None:
            continue
        title, kind = Group(TITLES[part.name]), bag.topics[name].type
        own = stamp_findings(title, name, record, bag.start_ns, limits[part.name])
        rate = f"{record.rate_hz:.1f} Hz" if math.isfinite(record.interval_s) else f"{record.count} messages"
        findings.append(
            title.ok(
                f"{part.name}.topic",
                f"{name}: {kind.replace('/msg/', '/')}, {record.count} messages, {rate}, frame "
                f"'{record.frame_id}'{'' if own else ', no gaps, stamps in order'}.",
                parameter="" if settings.cameras else parameter,
                value=name if parameter and not settings.cameras else None,
                data={"topic": name, "type": kind, "count": record.count,
                      "rate_hz": round(record.rate_hz, 3) if math.isfinite(record.interval_s) else None,
                      "frame_id": record.frame_id},
            )
        )  # fmt: skip
        findings += own
    return findings


def _has_word(text: str, words: tuple[str, ...]) -> bool:
    parts = text.lower().replace("/", " ").replace("_", " ")
    return any(word in parts for word in words if len(word) > 3) or any(word in parts.split() for word in words)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
