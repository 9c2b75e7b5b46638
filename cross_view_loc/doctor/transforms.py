"""Transforms: is every sensor connected to the vehicle, which link is missing, and does the camera look ahead."""

from __future__ import annotations

import difflib
import math

import numpy as np

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.lifting import LOWEST_CAMERA_M
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.vehicle_transforms import static_transform
from cross_view_loc.settings import Settings

GROUP = Group("transforms")
USUAL_BASES = ("base_link", "base_footprint", "base", "vehicle", "ego_vehicle", "body", "chassis", "rear_axle", "hero")
LOWEST_USUAL_M, HIGHEST_USUAL_M = 0.5, 4.5
LONGEST_LEVER_M = 15.0


def camera_findings(found: Survey, settings: Settings, image_frame: str) -> tuple[list[Finding], Matrix | None]:
    """The chain to the camera's optical frame and what the pose says; the pose (4, 4) in the base frame if known."""
    frame = settings.camera_frame or bare_frame(image_frame)
    if not frame:
        return [
            GROUP.fail(
                "tf.camera",
                "Images have no frame_id, so where the camera sits is unknown.",
                f"Set frame_id in the camera's driver, or camera_frame to its optical frame{_list(found)}.",
                parameter="camera_frame",
            )
        ], None
    try:
        T = _mount(found, settings, frame)
    except MissingInputError:
        return [_missing(found, settings, frame, "camera", "tf.camera", fatal=True)], None
    findings = _orientation(found, settings, frame, T)
    height_m = float(T[2, 3] - settings.ground_height_in_base_m)
    if not LOWEST_USUAL_M <= height_m <= HIGHEST_USUAL_M:
        make = GROUP.fail if height_m < LOWEST_CAMERA_M else GROUP.warn
        findings.append(
            make(
                "tf.camera_height",
                f"By its transform the camera is {height_m:.2f} m above the ground (frame {frame}, "
                f"ground_height_in_base_m {settings.ground_height_in_base_m:g}).",
                f"Correct the transform; where {settings.base_frame} does not lie on the ground, say how far below the "
                "ground is (negative).",
                parameter="ground_height_in_base_m",
            )
        )
    if not findings:
        yaw_deg = math.degrees(math.atan2(T[1, 2], T[0, 2]))
        up_deg = math.degrees(math.asin(np.clip(T[2, 2], -1, 1)))
        findings.append(
            GROUP.ok(
                "tf.camera",
                f"{settings.base_frame} -> {frame}: {height_m:.2f} m above the ground, "
                f"{_signed(T[0, 3], '.2f', 'm ahead', 'm behind')}, "
                f"looks {_signed(up_deg, '.1f', 'deg up', 'deg down')} and "
                f"{_signed(yaw_deg, '.1f', 'deg to the left', 'deg to the right')}.",
                data={"height_m": round(height_m, 3)},
            )
        )
    return findings, T


def _signed(value: float, digits: str, positive: str, negative: str) -> str:
    """A figure without a sign that people would have to know the meaning of."""
    return f"{abs(value):{digits}} {positive if value >= 0.0 else negative}"


def _orientation(found: Survey, settings: Settings, frame: str, T: Matrix) -> list[Finding]:
    """z of an optical frame looks ahead, its y down."""
    up_deg = math.degrees(math.asin(float(np.clip(T[2, 2], -1.0, 1.0))))
    x_level, y_up = float(T[2, 0]), float(T[2, 1])
    if abs(up_deg) > 45.0:
        optical = _optical_sibling(found, settings, frame)
        way = "straight up" if up_deg > 70 else "straight down" if up_deg < -70 else f"{abs(up_deg):.0f} deg off level"
        return [
            GROUP.fail(
                "tf.camera_direction",
                f"By its transform the camera looks {way}: {frame} is no optical frame (z ahead, x right, y "
                "down; REP-103).",
                f"Stamp images with the optical frame, or set camera_frame{' to it' if optical else ''}; the rotation "
                "from body to optical is rpy (-pi/2, 0, -pi/2).",
                parameter="camera_frame",
                value=optical,
            )
        ]
    if y_up > 0.5:
        return [
            GROUP.fail(
                "tf.camera_direction",
                f"By its transform the camera hangs upside down (y of {frame} points up).",
                "Turn the transform by 180 deg about z, unless the camera does hang so and its images are not turned.",
            )
        ]
    if abs(x_level) > 0.5:
        return [
            GROUP.warn(
                "tf.camera_direction",
                f"By its transform the camera is rolled by {math.degrees(math.asin(np.clip(x_level, -1, 1))):.0f} deg.",
                f"Check the rotation of {frame}, unless the camera is mounted so.",
            )
        ]
    if abs(up_deg) > 25.0:
        return [
            GROUP.warn(
                "tf.camera_direction",
                f"By its transform the camera looks {abs(up_deg):.0f} deg {'up' if up_deg > 0 else 'down'}.",
                f"Check the pitch of {frame}: in REP-103 a positive pitch of the body frame looks down.",
            )
        ]
    return []


def _optical_sibling(found: Survey, settings: Settings, frame: str) -> str | None:
    """A frame of the same camera that does look ahead."""
    stem = frame.removesuffix("_link").removesuffix("_frame")
    for name in sorted(found.frames()):
        if name != frame and "optical" in name and name.startswith(stem):
            try:
                T = _mount(found, settings, name)
            except MissingInputError:
                continue
            if abs(T[2, 2]) < math.sin(math.radians(45.0)) and T[2, 1] < 0.0:
                return name
    return None


def antenna_findings(found: Survey, settings: Settings, fix_frame: str) -> list[Finding]:
    """Where the antenna sits."""
    if settings.antenna_in_base_m:
        return [GROUP.ok("tf.antenna", f"The antenna's place is set: {list(settings.antenna_in_base_m)} m.")]
    frame = bare_frame(fix_frame)
    hint = (
        "Publish its transform, or set antenna_in_base_m to [x, y, z]; until then it is taken to sit at the base frame."
    )
    if not frame:
        return [
            GROUP.warn("tf.antenna", "Fixes have no frame_id, so the antenna's place is unknown.", hint,
                       parameter="antenna_in_base_m")
        ]  # fmt: skip
    try:
        x, y, z = _mount(found, settings, frame)[:3, 3]
    except MissingInputError:
        finding = _missing(found, settings, frame, "GNSS antenna", "tf.antenna", fatal=False)
        return [GROUP.warn("tf.antenna", finding.sentence, hint, parameter="antenna_in_base_m")]
    if math.dist((x, y, z), (0.0, 0.0, 0.0)) > LONGEST_LEVER_M:
        return [
            GROUP.warn(
                "tf.antenna",
                f"By TF the antenna sits at ({x:.1f}, {y:.1f}, {z:.1f}) m on the vehicle.",
                f"Check {frame}: fixes need the antenna's frame, not that of the map.",
                parameter="antenna_in_base_m",
            )
        ]
    return [GROUP.ok("tf.antenna", f"{settings.base_frame} -> {frame}: antenna at ({x:.2f}, {y:.2f}, {z:.2f}) m.")]


def sensor_findings(
    found: Survey, settings: Settings, frame: str, what: str, parameter: str, topic: str
) -> list[Finding]:
    """Whether the frame of an Imu or of odometry is connected; without, its messages are refused."""
    frame = bare_frame(frame)
    if not frame and what == "odometry":
        return []  # taken to be the base frame
    try:
        _mount(found, settings, frame)
    except InputError:
        finding = _missing(found, settings, frame, f"{what} on {topic}", f"tf.{what.lower()}", fatal=False)
        remedy = f"{finding.remedy} Until then {topic} is refused, so leave {parameter} empty."
        return [GROUP.warn(finding.check, finding.sentence, remedy, parameter=parameter, value="")]
    return []


def conflict_findings(found: Survey) -> list[Finding]:
    """Frames with two parents, transforms that are none."""
    findings = [
        GROUP.warn(
            "tf.parents",
            f"{child} is given {len(parents)} parents: {', '.join(sorted(parents))}.",
            "Let one publisher own the frame; TF keeps jumping between them.",
        )
        for child, parents in sorted(found.parents.items())
        if len(parents) > 1
    ]
    if found.transform_refusals:
        reason, count = found.transform_refusals.most_common(1)[0]
        findings.append(
            GROUP.warn(
                "tf.usable",
                f"{sum(found.transform_refusals.values())} messages hold transforms that are none ({count} "
                f"times: {reason}).",
                "Correct their publisher.",
            )
        )
    return findings


def _mount(found: Survey, settings: Settings, frame: str) -> Matrix:
    """As the assembler looks it up."""
    if frame == settings.base_frame:
        return np.eye(4)
    if not frame:
        raise MissingInputError("no frame_id")
    return found.transforms.lookup(settings.base_frame, frame)


def _missing(found: Survey, settings: Settings, frame: str, what: str, check: str, fatal: bool) -> Finding:
    """The missing link by name: which frames exist and in which tree they are."""
    frames, base = found.frames(), settings.base_frame
    make = GROUP.fail if fatal else GROUP.warn
    publish = f"publish a static transform with {static_transform(base, frame or 'FRAME')}"
    if not frames:
        return make(check, f"The bag has no transforms, so where the {what} ({frame}) sits on the vehicle is unknown.",
                    f"Record /tf_static, or {publish}.")  # fmt: skip
    if frame not in frames:
        near = difflib.get_close_matches(frame, sorted(frames), n=1, cutoff=0.6)
        like = f" (is it {near[0]}?)" if near else ""
        return make(
            check, f"TF does not know {frame or 'the empty frame'}, the frame of the {what}{like}{_list(found)}.",
            f"Correct the driver's frame_id, or {publish}.",
            parameter="camera_frame" if what == "camera" else "",
        )  # fmt: skip
    top = root_of(found, frame)
    if base not in frames:
        other = next((name for name in USUAL_BASES if name in frames and root_of(found, name) == top), None)
        return make(
            check, f"TF does not know base_frame {base}; the {what}'s frame {frame} hangs below {top}{_list(found)}.",
            "Set base_frame to the vehicle's frame (x ahead, y left, z up).", parameter="base_frame", value=other,
        )  # fmt: skip
    own = sorted(name for name in frames if root_of(found, name) == top)
    return make(
        check,
        f"No transform connects {base} (tree of {root_of(found, base)}) with the {what}'s frame {frame}: that "
        "is in the tree "
        f"of {top} ({', '.join(own[:6])}); the link {base} -> {top} is missing.",
        f"Publish the static transform {base} -> {top} with {static_transform(base, top)}.",
        data={"parent": base, "child": top},
    )


def root_of(found: Survey, frame: str) -> str:
    """The topmost frame above this one."""
    seen = [frame]
    while (parents := found.parents.get(seen[-1])) and (parent := parents.most_common(1)[0][0]) not in seen:
        seen.append(parent)
    return seen[-1]


def _list(found: Survey) -> str:
    frames = sorted(found.frames())
    return f"; TF has {', '.join(frames[:8])}{' …' if len(frames) > 8 else ''}" if frames else ""
