"""The town bench: unseen towns, one appearance from above, another from the ground, random priors about the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.metrics import FrameError, Truth, frame_error
from cross_view_loc.evaluation.oracle import TrueDepth
from cross_view_loc.evaluation.renders import ORTHO_METERS_PER_PIXEL, DriveSetting, RenderedDrive, rendered_drive
from cross_view_loc.geometry.transforms import level_rotation, yaw_of
from cross_view_loc.localizer import Localizer
from cross_view_loc.types import Estimate, Frame, Prior

PROTOCOLS = {
    "offset": "prior uniform in ±20 m along each axis, heading within ±10°",
    "heading_unknown": "prior uniform within 20 m, heading unknown",
    "gnss": "prior with σ 3 m along each axis, heading with σ 5° (searched: ±20 m, ±15°)",
    "panorama": "a 360° camera instead of the others, prior as for offset",
}
RADIUS_M = 20.0


@dataclass(frozen=True)
class TownFrame:
    """What a localizer gets at one moment of a drive, and the truth it does not get."""

    seed: int
    frames: tuple[Frame, ...]
    depth_m: tuple[NDArray[np.float32], ...]
    """Rendered depth of each image, for the oracle."""
    prior: Prior
    truth: Truth
    is_measured: bool = True
    """False: only looked at on the way, for a window over time."""
    place: str = "street"
    """Kind of place: junction, street or bend."""


@dataclass(frozen=True)
class TownBench:
    """A town's orthophoto and the frames of a drive through it."""

    seed: int
    orthophoto: ImageMap
    frames: tuple[TownFrame, ...]
    gap: str = "mild"
    region: str = "town"
    map_shift_m: tuple[float, float] = (0.0, 0.0)
    """East and north by which the orthophoto is displaced; for those who fit something, not for the localizer."""


def make_bench(
    seed: int,
    frames: int,
    protocol: str = "offset",
    cameras: str = "front",
    device: str = "cpu",
    town_size_m: float = 400.0,
    gap: str = "mild",
    region: str = "town",
    cache: Path | None = None,
    between: int = 0,
) -> TownBench:
    """Render a town's orthophoto and `frames` evenly spaced moments of a 90 s drive. Same arguments, same bench.

    `cache`: a folder that keeps what was rendered. `between`: moments between two of them for a window over time to
    look at. Raises InputError for an unknown protocol.
    """
    cameras = cameras_of(protocol, cameras)
    setting = DriveSetting(seed, frames, cameras, gap, region, town_size_m, between)
    return with_priors(rendered_drive(setting, device, cache), protocol)


def cameras_of(protocol: str, cameras: str) -> str:
    """The rig a protocol uses: `cameras`, but a panorama where the protocol says so."""
    return "panorama" if protocol == "panorama" else cameras


def with_priors(drive: RenderedDrive, protocol: str = "offset") -> TownBench:
    """A rendered drive with the priors of a protocol, the IMU's error of attitude and odometry's drift.

    Odometry comes with moments on the way: without them, frames are too far apart to be joined.
    Raises InputError for another protocol.
    """
    from cross_view_loc.simulation.sensors import attitude_error, drifting_odometry

    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol '{protocol}'; choose {', '.join(PROTOCOLS)}")
    seed = drive.setting.seed
    drawn = np.random.default_rng([seed, 5])
    interval_s = float(np.diff(drive.stamps_ns[:2]).sum()) / 1e9
    T_odom_base = drifting_odometry(np.random.default_rng([seed, 6]), drive.T_map_base, interval_s)
    on_way = np.random.default_rng([seed, 7])  # so that priors and attitude are the same without moments on the way
    moments = []
    for index, T_map_base in enumerate(drive.T_map_base):
        is_measured = index % (drive.setting.between + 1) == 0
        rng = drawn if is_measured else on_way
        stamp_ns = int(drive.stamps_ns[index])
        R_level_base = level_rotation(T_map_base[:3, :3]) @ attitude_error(rng)
        frames = tuple(
            Frame(
                shots.images[index],
                shots.camera,
                stamp_ns,
                shots.T_base_camera,
                R_level_base,
                name=shots.name,
                T_odom_base=T_odom_base[index] if drive.setting.between else None,
            )
            for shots in drive.shots
        )
        truth = Truth(float(T_map_base[0, 3]), float(T_map_base[1, 3]), yaw_of(T_map_base))
        depth_m = tuple(shots.depth_m[index] for shots in drive.shots)
        prior = _prior(truth, protocol, stamp_ns, rng)
        moments.append(TownFrame(seed, frames, depth_m, prior, truth, is_measured, drive.places[index]))
    name = f"orthophoto of {drive.setting.region} {seed}"
    orthophoto = ImageMap(drive.orthophoto, ORTHO_METERS_PER_PIXEL, name=name)
    return TownBench(seed, orthophoto, tuple(moments), drive.setting.gap, drive.setting.region, drive.map_shift_m)


def _prior(truth: Truth, protocol: str, stamp_ns: int, rng: np.random.Generator) -> Prior:
    """A prior about the truth; the square is turned with the map's axes, the true position anywhere inside it."""
    if protocol == "gnss":
        east, north = rng.normal(0, 3.0, 2)
        turn, heading_range = rng.normal(0, math.radians(5.0)), math.radians(15.0)
    else:
        east, north = rng.uniform(-RADIUS_M, RADIUS_M, 2)
        turn, heading_range = rng.uniform(-math.radians(10.0), math.radians(10.0)), math.radians(10.0)
    if protocol == "heading_unknown":
        turn, heading_range = rng.uniform(-math.pi, math.pi), math.pi
        distance, bearing = RADIUS_M * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        east, north = distance * math.cos(bearing), distance * math.sin(bearing)
    # The searched square is aligned with the patch; a uniform square about the truth in map axes could reach past its
    # sides by up to √2, so the offset is drawn in the axes that the heading of the prior gives.
    yaw = truth.yaw_rad + turn
    c, s = math.cos(yaw), math.sin(yaw)
    return Prior(
        stamp_ns,
        truth.east_m + c * east - s * north,
        truth.north_m + s * east + c * north,
        RADIUS_M,
        yaw,
        heading_range,
    )


def announce(localizer: Localizer, moment: TownFrame) -> None:
    """Tell a depth source that belongs to the bench which frames it will be asked for next."""
    if isinstance(localizer.depth, TrueDepth):
        localizer.depth.set(moment.frames, moment.depth_m)


def evaluate_bench(
    bench: TownBench, localizer: Localizer, on_frame: Callable[[TownFrame, Estimate, FrameError], None] | None = None
) -> Iterator[FrameError]:
    """Errors of a localizer (whose map is the bench's orthophoto) over the bench's measured frames."""
    for moment in bench.frames:
        if not moment.is_measured and localizer.settings.window_frames < 2:
            continue
        announce(localizer, moment)
        if not moment.is_measured:
            localizer.follow(moment.frames)
            continue
        started = time.perf_counter()
        estimate = localizer.locate(moment.frames, moment.prior)
        seconds = time.perf_counter() - started
        prior_m = math.hypot(moment.prior.east_m - moment.truth.east_m, moment.prior.north_m - moment.truth.north_m)
        error = frame_error(estimate, moment.truth, prior_m, seconds)
        if on_frame is not None:
            on_frame(moment, estimate, error)
        yield error
