"""Settings that are allowed each by itself and make no sense together: refused with the parameter and the remedy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cross_view_loc.depth.spec import parse_depth
from cross_view_loc.errors import InputError

if TYPE_CHECKING:
    from cross_view_loc.settings import Settings

_CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def first_contradiction(settings: Settings) -> str:
    """One sentence; empty when there is none."""
    checks = (_numbers, _depth, _cameras, _frames, _topics)
    return next((sentence for check in checks for sentence in check(settings)), "")


def ignored_settings(settings: Settings) -> list[str]:
    """One sentence for each setting that somebody has set and that does nothing beside the others."""
    sentences = []
    single = f"estimator '{settings.estimator}'" if settings.estimator != "consensus" else ""
    single = "loc2_weights" if settings.loc2_weights else single
    if single and settings.window_frames not in (1, type(settings).window_frames):
        sentences.append(
            f"parameter window_frames is {settings.window_frames} but {single} looks at the present alone; leave it "
            "out, or take the estimator 'consensus' with our weights"
        )
    if settings.loc2_weights and settings.segmenter != "none":
        sentences.append(
            f"parameter segmenter is '{settings.segmenter}' but loc2_weights do without one; leave one of them out, or "
            "use a mask"
        )
    if settings.loc2_weights and settings.estimator != type(settings).estimator:
        sentences.append(
            f"parameter estimator is '{settings.estimator}' but loc2_weights bring their own; leave one of them out"
        )
    return sentences


def _numbers(settings: Settings) -> Iterator[str]:
    for name in ("map_origin", "new_origin"):
        origin = getattr(settings, name)
        if origin and (len(origin) != 3 or abs(origin[0]) > 90.0 or abs(origin[1]) > 360.0):
            yield f"setting {name} is {list(origin)}; give [latitude_deg, longitude_deg, height_m]"
    if settings.antenna_in_base_m and len(settings.antenna_in_base_m) != 3:
        yield f"setting antenna_in_base_m has {len(settings.antenna_in_base_m)} numbers; give [x, y, z]"


def _depth(settings: Settings) -> Iterator[str]:
    for parameter, names in (("depth", (settings.depth,)), ("depth_fallback", settings.depth_fallback)):
        for name in names:
            try:
                parse_depth(name)
            except InputError as error:
                yield f"parameter {parameter}: {error}"
    is_measured = any(camera.depth_topic for camera in settings.rig)
    if settings.attitude == "estimated" and settings.depth == "flat" and not is_measured:
        yield "attitude is 'estimated' but depth 'flat' shows no tilt; set depth to a model, or attitude to auto"


def _cameras(settings: Settings) -> Iterator[str]:
    twice = [name for name, count in Counter(settings.cameras).items() if count > 1]
    if twice:
        yield f"setting cameras lists '{twice[0]}' twice; give every camera a name of its own"
    odd = [name for name in settings.cameras if not _CAMERA_NAME.fullmatch(name)]
    if odd:
        yield f"setting cameras lists '{odd[0]}'; a camera's name has letters, digits and _ only"
    if not settings.cameras:
        return
    default = type(settings).image_topic
    if settings.image_topic != default:
        yield (
            f"settings cameras and image_topic both say which cameras there are; put '{settings.image_topic}' into "
            f"{settings.cameras[0]}.image_topic, or leave cameras empty"
        )
    topics: dict[str, str] = {}
    for camera in settings.rig:
        other = topics.setdefault(camera.image_topic, camera.name)
        if other != camera.name:
            yield (
                f"settings {other}.image_topic and {camera.name}.image_topic are both '{camera.image_topic}'; list a "
                "camera once, and give each its own topic"
            )


def _frames(settings: Settings) -> Iterator[str]:
    pairs = [("map_frame", "base_frame"), ("map_frame", "odom_frame"), ("odom_frame", "base_frame")]
    if settings.tf_mode == "child":
        if not settings.child_frame:
            yield "setting tf_mode is 'child' but child_frame is empty; name the leaf frame"
        pairs += [(name, "child_frame") for name in ("map_frame", "odom_frame", "base_frame")]
    for name in ("map_frame", "odom_frame", "base_frame"):
        if not getattr(settings, name):
            yield f"setting {name} is empty; name the frame"
    for first, second in pairs:
        if getattr(settings, first) == getattr(settings, second):
            yield f"settings {first} and {second} are both '{getattr(settings, first)}'; give each frame its own name"


def _topics(settings: Settings) -> Iterator[str]:
    if settings.heading_source == "imu" and not settings.imu_topic:
        yield "setting heading_source is 'imu' but imu_topic is empty; name the Imu topic"
    if settings.heading_source == "odometry" and not settings.odometry_topic:
        yield "setting heading_source is 'odometry' but odometry_topic is empty; name the topic"
    for camera in settings.rig:
        prefix = f"{camera.name}." if settings.cameras else ""
        if not camera.image_topic:
            yield f"setting {prefix}image_topic is empty; name the camera's images"
        if not camera.camera_info_topic and not camera.calibration_file:
            yield f"setting {prefix}camera_info_topic is empty; name the topic, or give a {prefix}calibration_file"
