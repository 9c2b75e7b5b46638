"""Which topic of a bag plays which part: as a parameter file names them, the others guessed; and that in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cross_view_loc.bags.reader import (
    CAMERA_INFO_TYPE,
    FIX_TYPE,
    IMAGE_TYPES,
    IMU_TYPE,
    ODOMETRY_TYPE,
    Bag,
    BagTopics,
    info_beside,
    likely_topics,
)
from cross_view_loc.errors import InputError
from cross_view_loc.inputs.imus import has_orientation
from cross_view_loc.settings import Settings, parameter_named
from cross_view_loc.settings.cameras import ONLY_CAMERA

PARTS = {
    "image": ("image_topic", IMAGE_TYPES),
    "camera_info": ("camera_info_topic", (CAMERA_INFO_TYPE,)),
    "fix": ("fix_topic", (FIX_TYPE,)),
    "odometry": ("odometry_topic", (ODOMETRY_TYPE,)),
    "imu": ("imu_topic", (IMU_TYPE,)),
}
"""Parts whose topics can be guessed: their parameters and types."""
USABLE_TYPES = tuple(kind for _, types in PARTS.values() for kind in types)
MOST_UNUSED = 12
FILE, DEFAULT, GUESSED = "file", "default", "guessed"


def with_guesses(bag: Bag, settings: Settings) -> tuple[Settings, dict[str, str]]:
    """The settings with topics of the bag where their file names none, and where the topic of each part is from.

    What the file says stands, an empty name (none) too. Its silence leaves the default where the bag has that, else
    the likeliest topic; and so does a name that is the default's and that the bag lacks, as of a file copied whole.
    A part that is neither named nor found is from "". Settings of no file are taken as they are. Cameras with names
    are never guessed.
    """
    if settings.named is None:
        return settings, dict.fromkeys(PARTS, FILE)
    likely, changes, origins = likely_topics(bag), dict[str, str](), dict.fromkeys(PARTS, FILE)
    for part, (setting, types) in PARTS.items():
        wanted, is_named = getattr(settings, setting), setting in settings.named
        if settings.cameras and part in ("image", "camera_info"):
            continue
        if settings.calibration_file and part == "camera_info":
            continue
        if wanted and _topic_of(bag, wanted, types):
            origins[part] = FILE if is_named else DEFAULT
            continue
        if is_named and (not wanted or wanted != parameter_named(setting).default):
            continue
        guess = getattr(likely, part)
        if part == "camera_info":
            guess = info_beside(bag, changes.get("image_topic") or _topic_of(bag, settings.image_topic, IMAGE_TYPES))
        if part == "imu" and guess and not _is_attitude(bag, guess):
            guess = ""
        if guess:
            changes[setting] = guess
            origins[part] = f"{GUESSED}: the default {wanted} is not in the bag" if is_named else GUESSED
        elif not is_named:
            origins[part] = ""
    return dataclasses.replace(settings, **changes) if changes else settings, origins  # type: ignore[arg-type]


def unused_topics(bag: Bag, topics: BagTopics) -> tuple[str, ...]:
    """Topics of usable types, with messages, that play no part."""
    used = {topics.image, topics.camera_info, topics.fix, topics.odometry, topics.imu, topics.truth}
    for camera in topics.rig:
        used |= {camera.image_topic, camera.camera_info_topic, camera.depth_topic}
    return tuple(name for name in bag.of_type(*USABLE_TYPES) if name not in used)


def topics_text(topics: Mapping[str, Any]) -> str:
    """`BagTopics` as a mapping in words: what each topic is for and where its name is from, under a heading."""
    origins = topics["origins"]
    rig = [camera for camera in topics["rig"] if camera["name"] != ONLY_CAMERA]
    guessed = [part for part in PARTS if origins.get(part, "").startswith(GUESSED)]
    is_configured = any(origins.get(part) in (FILE, DEFAULT) for part in PARTS)
    if not is_configured:
        lines = ["topics, guessed by their types (name others in a --config file):"]
    elif guessed:
        lines = ["topics, of the --config file and, where it names none, guessed by their types:"]
    else:
        lines = ["topics, as the --config file names them:"]
    for part in PARTS:
        if rig and part in ("image", "camera_info"):
            continue
        origin = origins.get(part, "")
        note = f"  ({origin})" if is_configured and origin else ""
        if origin == FILE and not topics[part]:
            note = "  (file: none)"
        lines.append(f"  {part:12s} {topics[part] or '-'}{note}")
    for camera in rig or topics["rig"]:
        names = [camera["image_topic"], camera["camera_info_topic"] or camera["calibration_file"]] if rig else []
        if names or camera["depth_topic"]:
            named = f"{camera['name']}" if rig else "depth"
            lines.append(f"  {named:12s} {', '.join(filter(None, [*names, camera['depth_topic']]))}  (file)")
    lines += [f"  {part:12s} {', '.join(topics[part]) or '-'}" for part in ("tf", "tf_static")]
    lines.append(f"  {'truth':12s} {topics['truth'] or '-'}")
    unused = list(topics["unused"])
    if unused:
        more = f" and {len(unused) - MOST_UNUSED} more" if len(unused) > MOST_UNUSED else ""
        lines.append(f"  in the bag, unused: {', '.join(unused[:MOST_UNUSED])}{more}")
    return "\n".join(lines)


def gives_attitude(bag: Bag, topic: str) -> bool:
    """Whether the Imu topic's first message has an orientation."""
    first = next(bag.messages([topic]), None)
    return first is not None and has_orientation(first.message)


def _is_attitude(bag: Bag, topic: str) -> bool:
    try:
        return gives_attitude(bag, topic)
    except (InputError, AttributeError):  # damaged there; whoever reads the bag from its beginning says so
        return False


def _topic_of(bag: Bag, name: str, types: tuple[str, ...]) -> str:
    """The bag's name of a topic, which may be relative; empty when it has no messages of these types there."""
    there = (bag.topics.get(each) for each in (name, f"/{name}"))
    return next((topic.name for topic in there if topic and topic.type in types and topic.count), "")
