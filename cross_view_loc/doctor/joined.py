"""Frames as the localizer would get them: joined by the live node's own assembler, and watched for the road's plane."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.reader import Bag, BagTopics
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.bags.runner import BagRunner
from cross_view_loc.doctor.findings import Finding, Group, Level, worst
from cross_view_loc.doctor.gnss import positions
from cross_view_loc.doctor.road_plane import PairEstimate, RoadWatcher
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import Matrix, inverse, transform
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.fixes import Fix
from cross_view_loc.inputs.stamps import NS_PER_S, Timeline, to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

GROUP, MOUNT = Group("joined inputs"), Group("camera mount against the road")
WHOLE_S, WINDOW_S, WINDOWS = 15.0, 3.0, 4
"""A bag up to the first is joined as a whole, a longer one in so many windows."""
IMAGE_RATE_HZ = 8.0
FEWEST_PAIRS = 8
HEIGHT_M, TILT_DEG = 0.25, 2.0
"""Larger differences from TF are worth a warning."""


@dataclass
class JoinedFrames:
    """What came of the sampled images."""

    records: list[FrameRecord] = field(default_factory=list)
    example: tuple[Frame, Prior] | None = None
    road: list[PairEstimate] = field(default_factory=list)
    refusal: str = ""


def join_frames(
    bag: Bag,
    topics: BagTopics,
    settings: Settings,
    projection: MapProjection,
    motion: Callable[[int, int], Matrix | None],
    image_rate_hz: float,
    on_frame: Callable[[], object],
) -> JoinedFrames:
    """Run the assembler over some seconds of the bag; `motion` is the base frame's between two stamps."""
    joined = JoinedFrames()
    stride = max(1, round(image_rate_hz / IMAGE_RATE_HZ)) if math.isfinite(image_rate_hz) else 1
    for start_ns, stop_ns in _windows(bag.start_ns, bag.end_ns):
        watcher = RoadWatcher()

        def locate(frames: Sequence[Frame], prior: Prior, watcher: RoadWatcher = watcher) -> Estimate:
            frame, kept = frames[0], watcher.kept_stamp_ns
            watcher.add(frame, None if kept is None else motion(kept, frame.stamp_ns))
            joined.example = (frame, prior)
            return Estimate(frame.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, np.eye(3))

        def note(record: FrameRecord) -> None:
            joined.records.append(record)
            on_frame()

        runner = BagRunner(bag, topics, FrameAssembler(settings, projection), locate, stride=stride)
        try:
            runner.run(start_ns, stop_ns, note)
        except InputError as error:
            joined.refusal = str(error)
        joined.road += watcher.estimates
    return joined


def _windows(start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    if end_ns - start_ns <= to_ns(WHOLE_S):
        return [(start_ns, end_ns + 1)]
    middles = [start_ns + (end_ns - start_ns) * (2 * i + 1) // (2 * WINDOWS) for i in range(WINDOWS)]
    return [(middle - to_ns(WINDOW_S / 2), middle + to_ns(WINDOW_S / 2)) for middle in middles]


def join_findings(joined: JoinedFrames) -> list[Finding]:
    """How many of the tried images would reach the localizer."""
    total = len(joined.records)
    if not total:
        return [
            GROUP.warn("frames.joined", f"No image could be tried: {joined.refusal or 'there was none'}.",
                       "Check that the images last through the bag.")
        ]  # fmt: skip
    skipped = Counter(record.reason for record in joined.records if record.estimate is None)
    good = total - skipped.total()
    data = {"images": total, "joined": good}
    if good >= 0.8 * total:
        return [
            GROUP.ok(
                "frames.joined",
                f"{good} of {total} images tried found their camera, transform, fix and heading.", data=data
            )
        ]  # fmt: skip
    reason, count = skipped.most_common(1)[0]
    make = GROUP.fail if good == 0 else GROUP.warn
    return [
        make(
            "frames.joined",
            f"Only {good} of {total} images tried would reach the localizer ({count} times: {reason}).",
            "Do as the reason says; the other images go on.",
            data=data,
        )
    ]


def mount_findings(road: Sequence[PairEstimate], T_base_camera: Matrix, settings: Settings) -> list[Finding]:
    """Camera height and tilt by the road against TF; honest about how well the drive shows them."""
    heights = [pair.height_m for pair in road if pair.height_m is not None]
    by_tf_m = float(T_base_camera[2, 3] - settings.ground_height_in_base_m)
    tilt = _tilt_findings(road)
    if len(heights) < FEWEST_PAIRS:
        return [
            MOUNT.ok(
                "mount.height",
                f"Not judged: only {len(heights)} pairs of images show the road's plane moving by ({FEWEST_PAIRS} are "
                "needed: textured road ahead, some metres a second, nearly straight).",
            ),
            *tilt,
        ]
    findings: list[Finding] = []
    height_m, height_error_m = _median(heights)
    off_m = by_tf_m - height_m
    data = {"height_m": round(height_m, 3), "by_tf_m": round(by_tf_m, 3), "error_m": round(height_error_m, 3)}
    text = (
        f"By the road's parallax the camera is {height_m:.2f} ± {height_error_m:.2f} m above it, by TF {by_tf_m:.2f} m"
    )
    if worst(tilt) > Level.OK:
        findings.append(MOUNT.ok("mount.height", f"{text}; correct the tilt before believing it.", data=data))
    elif abs(off_m) > HEIGHT_M + 2.0 * height_error_m:
        findings.append(
            MOUNT.warn(
                "mount.height",
                f"{text} ({len(heights)} pairs of images).",
                f"Measure the camera's height; correct its transform, or where {settings.base_frame} does not "
                "lie on the "
                "ground set ground_height_in_base_m.",
                parameter="ground_height_in_base_m",
                value=round(settings.ground_height_in_base_m + off_m, 2),
                data=data,
            )
        )
    else:
        findings.append(MOUNT.ok("mount.height", f"{text} ({len(heights)} pairs of images).", data=data))
    return findings + tilt


def _tilt_findings(road: Sequence[PairEstimate]) -> list[Finding]:
    tilts = {
        "pitch": ("lower", "higher", [pair.pitch_deg for pair in road]),
        "yaw": ("further right", "further left", [pair.yaw_deg for pair in road]),
        "roll": (
            "lower on its right side",
            "lower on its left side",
            [pair.roll_deg for pair in road if pair.roll_deg is not None],
        ),
    }
    findings, fine = [], []
    for name, (more, less, values) in tilts.items():
        if len(values) < FEWEST_PAIRS:
            continue
        off_deg, error_deg = _median(values)
        data = {"off_deg": round(off_deg, 2), "error_deg": round(error_deg, 2)}
        if abs(off_deg) <= TILT_DEG + 2.0 * error_deg:
            fine.append(f"{name} {off_deg:+.1f} ± {error_deg:.1f}")
            continue
        side = more if off_deg > 0 else less
        by, verb = ("the road's plane", "hangs") if name == "roll" else ("the direction of motion", "looks")
        sentence = f"By {by} the camera {verb} {abs(off_deg):.1f} ± {error_deg:.1f} deg {side} than TF says"
        findings.append(
            MOUNT.warn(
                f"mount.{name}",
                f"{sentence} ({len(values)} pairs of images).",
                f"Correct the camera's {name} in its transform (/tf_static, URDF).",
                data=data,
            )
        )
    if fine:
        findings.append(
            MOUNT.ok("mount.tilt", f"Against the road and the direction of motion TF is right to a degree or so: "
                     f"{', '.join(fine)} deg.")
        )  # fmt: skip
    return findings


def _median(values: Sequence[float]) -> tuple[float, float]:
    """Median and its standard error by the median absolute deviation."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(np.asarray(values) - middle)))
    return middle, 1.25 * spread / math.sqrt(len(values))


def base_motion(
    track: Timeline[Matrix] | None, fixes: Sequence[Fix], settings: Settings
) -> Callable[[int, int], Matrix | None]:
    """The base frame's motion (4, 4) between two stamps (ns): by odometry, else ahead at the fixes' speed."""
    gap_ns = to_ns(settings.max_input_gap_s)
    places: tuple[NDArray[np.float64], NDArray[np.float64]] | None = positions(fixes) if len(fixes) > 3 else None

    def motion(start_ns: int, end_ns: int) -> Matrix | None:
        if not 0 < end_ns - start_ns < 2 * NS_PER_S:
            return None
        if track is not None:
            start, end = track.at(start_ns, gap_ns), track.at(end_ns, gap_ns)
            if start is not None and end is not None:
                return inverse(start) @ end
        if places is None:
            return None
        middle_s = ((start_ns + end_ns) / 2 - fixes[0].stamp_ns) / NS_PER_S
        near = np.abs(places[1] - middle_s) < 1.6
        if near.sum() < 3 or np.ptp(places[1][near]) < 1.0:
            return None
        slope = np.polyfit(places[1][near] - middle_s, places[0][near], 1)[0]
        return transform(np.eye(3), [float(np.hypot(*slope)) * (end_ns - start_ns) / NS_PER_S, 0.0, 0.0])

    return motion


def with_known_origin(settings: Settings, projection: MapProjection) -> Settings:
    """Settings whose origin is that of the projection."""
    origin = projection.origin
    return dataclasses.replace(settings, map_origin=(origin.latitude_deg, origin.longitude_deg, origin.height_m))
