"""Odometry against the fixes: the same way, the same length, the same hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.gnss import positions, without_excursions
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.transforms import Matrix, yaw_of
from cross_view_loc.inputs.fixes import Fix
from cross_view_loc.inputs.poses import bare_frame, pose_of
from cross_view_loc.inputs.stamps import Timeline, blend_transforms, stamp_ns, to_ns
from cross_view_loc.settings import Settings

GROUP = Group("odometry")
PIECE_S = 60.0
"""Odometry drifts: it is compared in pieces of this length."""
LEAST_PATH_M = 30.0
STEP_M = 0.3
"""Steps from which a direction of motion is told."""


def base_track(messages: Sequence[Any], found: Survey, settings: Settings) -> Timeline[Matrix]:
    """Poses of the base frame in the odometry's frame over time; what is no pose or not connected is left out."""
    track: Timeline[Matrix] = Timeline(blend_transforms, history_s=float("1e9"))
    for message in messages:
        try:
            T = pose_of(message.pose.pose)
            child = bare_frame(message.child_frame_id)
            if child and child != settings.base_frame:
                T = T @ found.transforms.lookup(child, settings.base_frame)
            track.add(stamp_ns(message), T)
        except InputError:
            continue
    return track


def odometry_findings(found: Survey, topic: str, settings: Settings, track: Timeline[Matrix]) -> list[Finding]:
    """Frames, body direction, and length and hand against the fixes."""
    poses = [T for _, T in track.until(2**62)]
    if len(poses) < 2:
        return [
            GROUP.fail(
                "odometry.poses", f"No pose on {topic} can be used.",
                "Correct its publisher (finite numbers, unit quaternions, child_frame_id connected to the base frame), "
                "or leave odometry_topic empty.", parameter="odometry_topic", value="",
            )
        ]  # fmt: skip
    first = found.odometry[0]
    findings = _body_direction(poses, topic, settings)
    if found.fixes:
        findings += _against_fixes(found.fixes, track, topic, settings)
    frame = bare_frame(first.header.frame_id)
    if frame and frame != settings.odom_frame:
        findings.append(
            GROUP.ok("odometry.frame", f"Odometry on {topic} is in frame {frame}.", parameter="odom_frame", value=frame)
        )
    return findings


def _body_direction(poses: Sequence[Matrix], topic: str, settings: Settings) -> list[Finding]:
    """A vehicle moves along its x axis."""
    places = np.array([T[:2, 3] for T in poses])
    yaws = np.unwrap([yaw_of(T) for T in poses])
    stride = max(1, len(poses) // 20000)
    steps, middle = np.diff(places[::stride], axis=0), (yaws[::stride][:-1] + yaws[::stride][1:]) / 2
    long = np.linalg.norm(steps, axis=1) > STEP_M
    if long.sum() < 10:
        return []
    angle = np.arctan2(steps[long, 1], steps[long, 0]) - middle[long]
    mean = np.exp(1j * angle).mean()
    off_deg = math.degrees(float(np.angle(mean)))
    if abs(off_deg) < 20.0 and abs(mean) > 0.7:
        return []
    way = (
        "backwards" if abs(off_deg) > 135 else "sideways" if abs(off_deg) > 45 else f"{off_deg:+.0f} deg off its x axis"
    )
    return [
        GROUP.warn(
            "odometry.direction",
            f"By {topic} the base frame {settings.base_frame} moves {way} (mean direction {off_deg:+.0f} deg).",
            "Check the frame's axes (x ahead, y left) and the sign of the wheels, unless the vehicle reversed.",
            data={"direction_deg": round(off_deg, 1)},
        )
    ]


def _against_fixes(fixes: Sequence[Fix], track: Timeline[Matrix], topic: str, settings: Settings) -> list[Finding]:
    fixes = without_excursions(fixes)
    east_north, times_s = positions(fixes)
    pieces: list[tuple[float, float, float, float]] = []
    gap_ns = to_ns(settings.max_input_gap_s)
    for start_s in np.arange(times_s[0], times_s[-1], PIECE_S)[:60]:
        chosen = np.flatnonzero((times_s >= start_s) & (times_s < start_s + PIECE_S))
        chosen = chosen[:: max(1, len(chosen) // 120)]
        pairs = [(east_north[i], T) for i in map(int, chosen) if (T := track.at(fixes[i].stamp_ns, gap_ns)) is not None]
        if len(pairs) < 8:
            continue
        piece = similarity(np.array([p for p, _ in pairs]), np.array([T[:2, 3] for _, T in pairs]))
        if piece is not None:
            pieces.append(piece)
    if not pieces:
        return [GROUP.ok("odometry.scale", f"{topic} could not be compared with the fixes: too little driven at once.")]
    path_m, scale, same_m, mirrored_m = (float(np.median(column)) for column in zip(*pieces, strict=True))
    data = {"scale": round(scale, 4), "residual_m": round(same_m, 2), "mirrored_residual_m": round(mirrored_m, 2)}
    if mirrored_m < 0.5 * same_m and same_m > 2.0:
        return [
            GROUP.fail(
                "odometry.mirrored",
                f"{topic} turns the other way than the fixes: mirrored it fits to {mirrored_m:.1f} m, as it is to "
                f"{same_m:.1f} m.",
                "Correct the sign of its yaw (counter-clockwise is positive) or its y axis (left), or leave "
                "odometry_topic "
                "empty.",
                parameter="odometry_topic",
                value="",
                data=data,
            )
        ]
    allowed = 0.05 + 3.0 / path_m
    if abs(scale - 1.0) > allowed:
        make = GROUP.fail if abs(scale - 1.0) > 0.25 + allowed else GROUP.warn
        return [
            make(
                "odometry.scale",
                f"{topic} covers {scale:.3f} m where the fixes cover 1 m (pieces of {path_m:.0f} m).",
                "Correct the wheel radius or the unit in its driver, or leave odometry_topic empty.",
                parameter="odometry_topic",
                value="" if abs(scale - 1.0) > 0.25 + allowed else None,
                data=data,
            )
        ]
    hand = "" if mirrored_m > 1.5 * same_m + 0.5 else "; too straight to tell left from right"
    return [
        GROUP.ok(
            "odometry.scale",
            f"{topic} follows the fixes: length {scale:.3f} of theirs, {same_m:.2f} m apart over pieces of "
            f"{path_m:.0f} m"
            f"{hand}.",
            data=data,
        )
    ]


def similarity(wanted: NDArray[np.float64], given: NDArray[np.float64]) -> tuple[float, float, float, float] | None:
    """Path length (m), scale of `given` against `wanted` (N, 2), and what is left (m RMS) as it is and mirrored.

    The least-squares similarity in the complex plane. None when `wanted` hardly moves.
    """
    e, o = (points[:, 0] + 1j * points[:, 1] for points in (wanted, given))
    e, o = e - e.mean(), o - o.mean()
    path_m = float(np.abs(np.diff(e[:: max(1, len(e) // 20)])).sum())
    if path_m < LEAST_PATH_M:
        return None
    power = float((np.abs(o) ** 2).sum())
    if power < 1.0:
        return path_m, 0.0, float(np.sqrt((np.abs(e) ** 2).mean())), float(np.sqrt((np.abs(e) ** 2).mean()))
    rests = []
    for candidate in (o, o.conj()):
        a = (candidate.conj() * e).sum() / power
        rests.append(float(np.sqrt((np.abs(e - a * candidate) ** 2).mean())))
    # Of two noisy tracks neither regression is the right one; their geometric mean is the ratio of the extents.
    scale = math.sqrt(power / float((np.abs(e) ** 2).sum()))
    return path_m, scale, rests[0], rests[1]
