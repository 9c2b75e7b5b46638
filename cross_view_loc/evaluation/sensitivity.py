"""What wrong calibration, map, prior and odometry do to an estimate, and whether its covariance knows.

The pictures are true; what the localizer is told about them is wrong by a stated amount, the same in every frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.evaluation.metrics import FrameError, summarize
from cross_view_loc.evaluation.renders import DriveSetting, RenderedDrive, rendered_drive
from cross_view_loc.evaluation.town import TownBench, TownFrame, evaluate_bench, with_priors
from cross_view_loc.evaluation.town_rows import ON_THE_WAY, RowSetting, make_localizer
from cross_view_loc.geometry.cameras import Camera, FisheyeCamera, PinholeCamera
from cross_view_loc.geometry.transforms import inverse, rotation_z, rpy, transform
from cross_view_loc.localizer import LocalizerSettings
from cross_view_loc.matching.window import GroundWindow
from cross_view_loc.types import Estimate, Frame

Array = NDArray[np.float64]
NOTHING = "none"


@dataclass(frozen=True)
class Disturbance:
    """One thing that the localizer is told wrongly."""

    name: str
    change: Callable[[TownBench, RenderedDrive], TownBench]
    window: int = 1
    """Moments an estimate, joined by odometry."""
    is_reference: bool = False
    """Nothing is wrong: what the others of the same window are compared with."""

    def applies_to(self, bench: TownBench) -> bool:
        """Whether it changes anything: a panorama has no focal length."""
        needs_focal = self.name.startswith(("focal", "principal"))
        cameras = [frame.camera for frame in bench.frames[0].frames]
        return not needs_focal or any(isinstance(camera, PinholeCamera | FisheyeCamera) for camera in cameras)


def disturbances(window: int = 5) -> tuple[Disturbance, ...]:
    """All of them, `none` first; those of odometry in windows of `window` moments, none of them for 1."""
    mounted: list[tuple[str, Callable[[Array], Array]]] = [
        ("camera 0.2 m too high", partial(_shifted, up_m=0.2)),
        ("camera 0.2 m too low", partial(_shifted, up_m=-0.2)),
        ("camera 0.3 m too far ahead", partial(_shifted, ahead_m=0.3)),
        ("camera pitch +2°", partial(_turned, pitch_deg=2.0)),
        ("camera pitch -2°", partial(_turned, pitch_deg=-2.0)),
        ("camera roll +2°", partial(_turned, roll_deg=2.0)),
        ("camera yaw +1°", partial(_turned, yaw_deg=1.0)),
    ]
    lenses: list[tuple[str, Callable[[Camera], Camera]]] = [
        ("focal length +2 %", lambda camera: _lens(camera, focal=1.02)),
        ("principal point +1 % right", lambda camera: _lens(camera, right=0.01)),
        ("principal point +1 % down", lambda camera: _lens(camera, down=0.01)),
    ]
    maps: list[tuple[str, Callable[[ImageMap], ImageMap]]] = [
        ("map +1 % m/px about its middle", lambda old: ImageMap(old.image, old.meters_per_pixel * 1.01, name=old.name)),
        ("map 0.5 m east", lambda old: ImageMap(old.image, old.meters_per_pixel, 0.5, 0.0, old.name)),
    ]
    found = [Disturbance(NOTHING, lambda bench, drive: bench, is_reference=True)]
    found += [Disturbance(name, _with_mounts(change)) for name, change in mounted]
    found.append(Disturbance("vehicle level though it is not", _level))
    found += [Disturbance(name, _with_lenses(change)) for name, change in lenses]
    found += [Disturbance(name, _with_map(change)) for name, change in maps]
    found.append(Disturbance("prior of GNSS (σ 3 m, 5°)", lambda bench, drive: with_priors(drive, "gnss")))
    if window > 1:
        found += [
            Disturbance(f"window {window}, exact odometry", _with_odometry(1.0, 0.0), window, is_reference=True),
            Disturbance(f"window {window}, odometry +2 %", _with_odometry(1.02, 0.0), window),
            Disturbance(f"window {window}, odometry turns 0.2°/m", _with_odometry(1.0, 0.2), window),
        ]
    return tuple(found)


@dataclass
class SensitivityResult:
    """The frames of one disturbance with one depth source."""

    disturbance: str
    depth: str
    window: int = 1
    errors: list[FrameError] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    with_past: int = 0
    """Estimates for which an earlier moment lay within the window; one of a single moment tells nothing of odometry."""

    def row(self, undisturbed: SensitivityResult, **more: object) -> dict[str, object]:
        """The usual figures; how much larger the medians are than the undisturbed ones, and how far estimates moved.

        `moved_median_m` and `turned_median_deg` are between the estimates of the same frames, whatever the truth.
        """
        row = summarize(self.errors, disturbance=self.disturbance, depth=self.depth, window=self.window, **more)
        plain = summarize(undisturbed.errors)
        pairs = list(zip(self.estimates, undisturbed.estimates, strict=True))
        moved = [math.hypot(a.east_m - b.east_m, a.north_m - b.north_m) for a, b in pairs]
        turned = [abs(math.remainder(a.yaw_rad - b.yaw_rad, 2 * math.pi)) for a, b in pairs]
        return row | {
            "frames_with_past": self.with_past,
            "position_added_m": _difference(row, plain, "position_median_m"),
            "heading_added_deg": _difference(row, plain, "heading_median_deg"),
            "moved_median_m": round(float(np.median(moved)), 4),
            "turned_median_deg": round(math.degrees(float(np.median(turned))), 4),
        }


def measure_sensitivity(
    seeds: Iterable[int],
    frames: int,
    depths: Sequence[str],
    chosen: Sequence[Disturbance],
    base: LocalizerSettings,
    cameras: str = "front",
    gap: str = "mild",
    town_size_m: float = 400.0,
    cache: Path | None = None,
    on_frame: Callable[[str], None] = lambda doing: None,
) -> list[SensitivityResult]:
    """One result for each depth source and disturbance; the drives are rendered once."""
    results = {
        (depth, each.name): SensitivityResult(each.name, depth, each.window) for depth in depths for each in chosen
    }
    between = ON_THE_WAY if any(each.window > 1 for each in chosen) else 0
    for seed in seeds:
        drive = rendered_drive(DriveSetting(seed, frames, cameras, gap, "town", town_size_m, between), cache=cache)
        bench = with_priors(drive)
        for depth in depths:
            for each in chosen:
                if each.applies_to(bench):
                    for _ in _measure(results[depth, each.name], each, bench, drive, base):
                        on_frame(f"{seed} {depth} {each.name}")
    return [result for result in results.values() if result.errors]


def _measure(
    result: SensitivityResult, disturbance: Disturbance, bench: TownBench, drive: RenderedDrive, base: LocalizerSettings
) -> Iterator[FrameError]:
    disturbed = disturbance.change(bench, drive)
    localizer = make_localizer(RowSetting(depth=result.depth, window=disturbance.window), drive, base)
    localizer.use_map(disturbed.orthophoto)
    localizer.window = GroundWindow()

    def remember(moment: TownFrame, estimate: Estimate, error: FrameError) -> None:
        result.errors.append(error)
        result.estimates.append(estimate)
        result.with_past += localizer.window.reach_m > 0.0

    yield from evaluate_bench(disturbed, localizer, remember)


def _with_frames(bench: TownBench, change: Callable[[Frame], Frame]) -> TownBench:
    moments = (replace(moment, frames=tuple(map(change, moment.frames))) for moment in bench.frames)
    return replace(bench, frames=tuple(moments))


def _with_mounts(change: Callable[[Array], Array]) -> Callable[[TownBench, RenderedDrive], TownBench]:
    return lambda bench, drive: _with_frames(
        bench, lambda frame: replace(frame, T_base_camera=change(frame.T_base_camera))
    )


def _with_lenses(change: Callable[[Camera], Camera]) -> Callable[[TownBench, RenderedDrive], TownBench]:
    return lambda bench, drive: _with_frames(bench, lambda frame: replace(frame, camera=change(frame.camera)))


def _with_map(change: Callable[[ImageMap], ImageMap]) -> Callable[[TownBench, RenderedDrive], TownBench]:
    return lambda bench, drive: replace(bench, orthophoto=change(bench.orthophoto))


def _level(bench: TownBench, drive: RenderedDrive) -> TownBench:
    return _with_frames(bench, lambda frame: replace(frame, R_level_base=np.eye(3)))


def _with_odometry(factor: float, turn_deg_per_m: float) -> Callable[[TownBench, RenderedDrive], TownBench]:
    """Odometry that is true but for the length of its way and a turn that adds up with it."""

    def change(bench: TownBench, drive: RenderedDrive) -> TownBench:
        T_odom_base = disturbed_odometry(drive.T_map_base, factor, turn_deg_per_m)
        moments = [
            replace(moment, frames=tuple(replace(frame, T_odom_base=pose) for frame in moment.frames))
            for moment, pose in zip(bench.frames, T_odom_base, strict=True)
        ]
        return replace(bench, frames=tuple(moments))

    return change


def disturbed_odometry(T_map_base: Array, factor: float, turn_deg_per_m: float) -> list[Array]:
    """Poses (4, 4) from the first one on, by the true steps (N, 4, 4) of which each is too long and turns too far."""
    poses = [np.eye(4)]
    for before, after in itertools.pairwise(T_map_base):
        step = inverse(before) @ after
        way_m = float(np.linalg.norm(step[:3, 3]))
        turn = rpy(0.0, 0.0, math.radians(turn_deg_per_m) * way_m)
        poses.append(poses[-1] @ transform(step[:3, :3] @ turn, step[:3, 3] * factor))
    return poses


def _shifted(T_base_camera: Array, ahead_m: float = 0.0, up_m: float = 0.0) -> Array:
    return transform(np.eye(3), np.array([ahead_m, 0.0, up_m])) @ T_base_camera


def _turned(T_base_camera: Array, roll_deg: float = 0.0, pitch_deg: float = 0.0, yaw_deg: float = 0.0) -> Array:
    """Turned where it stands: about its own axis of sight, about the one to its left, about the vehicle's up.

    A positive pitch lowers the axis of sight, a positive yaw turns it to the left.
    """
    R = T_base_camera[:3, :3]
    ahead = math.atan2(R[1, 2], R[0, 2])
    R_level_camera = rpy(0.0, 0.0, -ahead) @ R @ rotation_z(math.radians(roll_deg))
    lower = rpy(0.0, math.radians(pitch_deg), ahead + math.radians(yaw_deg))
    return transform(lower @ R_level_camera, T_base_camera[:3, 3])


def _lens(camera: Camera, focal: float = 1.0, right: float = 0.0, down: float = 0.0) -> Camera:
    """With focal lengths times a factor, and the principal point moved by shares of the width."""
    if not isinstance(camera, PinholeCamera | FisheyeCamera):
        return camera
    return replace(
        camera,
        fx=camera.fx * focal,
        fy=camera.fy * focal,
        cx=camera.cx + right * camera.width,
        cy=camera.cy + down * camera.width,
    )


def _difference(row: dict[str, object], plain: dict[str, object], key: str) -> float | None:
    value, usual = row[key], plain[key]
    return round(value - usual, 4) if isinstance(value, float) and isinstance(usual, float) else None
