"""One simulated drive on disk: bag, aerial map, truth and the localizer's parameters for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import to_quaternion
from cross_view_loc.settings import Settings, parameter_file_text
from cross_view_loc.settings.cameras import CameraSettings
from cross_view_loc.simulation import recording, tiles
from cross_view_loc.simulation.gap import make_world
from cross_view_loc.simulation.recording import Recorder
from cross_view_loc.simulation.rig import Rig, RigCamera, make_rig
from cross_view_loc.simulation.sensors import GnssCovariance

RUN_OUT_S = 1.0
"""The drive goes on for this long after the recording, which therefore ends in motion."""
BAG, MAP, TRUTH, PARAMETERS = "bag", "map.mbtiles", "truth.tum", "localizer.yaml"


class Progress(Protocol):
    """Part of tqdm's interface; `start` opens a bar of `total` steps with a title."""

    def start(self, title: str, total: int) -> Callable[[int], None]: ...


@dataclass(frozen=True)
class SimulationSettings:
    """What `simulate` can be told."""

    seed: int
    duration_s: float = 60.0
    cameras: str = "front"
    image_rate_hz: float = 5.0
    town_size_m: float = 400.0
    gnss: GnssCovariance = "honest"
    latitude_deg: float = 48.0
    longitude_deg: float = 11.0
    height_m: float = 500.0
    image_scale: float = 1.0
    device: str = "cpu"
    gap: str = "mild"
    region: str = "town"

    def __post_init__(self) -> None:
        checks = (
            (self.seed >= 0, f"--seed {self.seed} is negative; give a number from 0 up"),
            (self.duration_s >= 1.0, f"--duration {self.duration_s:g} is too short; give at least 1 second"),
            (
                0.1 <= self.image_rate_hz <= recording.MOTION_RATE_HZ,
                f"--rate {self.image_rate_hz:g} Hz cannot be recorded; choose between 0.1 and 50",
            ),
            (
                240.0 <= self.town_size_m <= 2000.0,
                f"--town-size {self.town_size_m:g} m cannot be built; choose between 240 and 2000",
            ),
            (
                abs(self.latitude_deg) <= 80.0,
                f"--latitude {self.latitude_deg:g} is too far from the equator for web-mercator tiles; stay within 80",
            ),
        )
        for passed, sentence in checks:
            if not passed:
                raise InputError(sentence)


def check_folder(out: Path, force: bool) -> None:
    """InputError when `out` is a file, or holds something that `force` does not allow to replace."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose a folder for --out")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"{out} is not empty; choose another --out or add --force to replace the drive in it")


def clear_folder(out: Path) -> None:
    """Create `out` if need be and remove what a simulation writes, and nothing else."""
    shutil.rmtree(out / BAG, ignore_errors=True)
    for name in (MAP, TRUTH, PARAMETERS):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def simulate(settings: SimulationSettings, out: Path, progress: Progress, force: bool = False) -> dict[str, Any]:
    """Write a drive to the folder `out`; returns what was written: paths, counts and seconds.

    Raises InputError for impossible settings and for a folder that already holds something (unless `force`).
    """
    rig = make_rig(settings.cameras, settings.image_scale)
    projection = MapProjection(MapOrigin(settings.latitude_deg, settings.longitude_deg, settings.height_m))
    check_folder(out, force)
    started = time.monotonic()
    step = progress.start("town", 1)
    world = make_world(settings.seed, settings.gap, settings.region, settings.device, settings.town_size_m)
    drive = world.town.drive(settings.seed, duration_s=settings.duration_s + RUN_OUT_S)
    step(1)
    clear_folder(out)  # only now: a town that cannot be built costs nobody the last drive
    town_done = time.monotonic()

    step = progress.start("map", tiles.block_count(projection, settings.town_size_m / 2.0))
    tile_count = tiles.write_mbtiles(
        out / MAP,
        world.new_map_renderer(),
        projection,
        settings.town_size_m,
        f"Town {settings.seed}",
        world.lean,
        on_block=step,
        shift_m=world.map_shift_m,
    )
    map_done = time.monotonic()

    recorder = Recorder(
        drive,
        world.drive_renderer(drive),
        rig,
        projection,
        settings.seed,
        settings.duration_s,
        settings.image_rate_hz,
        settings.gnss,
    )
    step = progress.start("images", len(recorder.image_stamps_ns()) * len(rig.cameras))
    counts = recording.write_bag(out / BAG, rig, recorder.stream(lambda: step(1)))
    write_truth(out / TRUTH, recorder)
    (out / PARAMETERS).write_text(localizer_parameters(settings, rig, out), encoding="utf-8")
    return {
        "out": str(out),
        "bag": str(out / BAG),
        "map": str(out / MAP),
        "truth": str(out / TRUTH),
        "parameters": str(out / PARAMETERS),
        "seed": settings.seed,
        "gap": settings.gap,
        "region": settings.region,
        "duration_s": settings.duration_s,
        "cameras": [camera.name for camera in rig.cameras],
        "tiles": tile_count,
        "messages": counts,
        "distance_m": round(_distance_m(recorder), 1),
        "bag_bytes": sum(file.stat().st_size for file in (out / BAG).iterdir()),
        "map_bytes": (out / MAP).stat().st_size,
        "seconds": {
            "town": round(town_done - started, 2),
            "map": round(map_done - town_done, 2),
            "bag": round(time.monotonic() - map_done, 2),
        },
    }


def write_truth(path: Path, recorder: Recorder) -> None:
    """TUM file: stamp (s) x y z qx qy qz qw of base_link in the map, one line an image moment."""
    lines = []
    for stamp_ns, T_map_base in recorder.truth():
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        values = [*T_map_base[:3, 3], *to_quaternion(T_map_base[:3, :3])]
        lines.append(f"{seconds}.{nanoseconds:09d} " + " ".join(f"{value:.9f}" for value in values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


SEARCH_RADIUS_M = 10.0
"""Four times the 95 % error of the simulated receiver: enough, and a third of the default's work."""


def localizer_parameters(settings: SimulationSettings, rig: Rig, out: Path) -> str:
    """Text of the parameter file with which node and offline runner localize this drive with all its cameras."""
    cameras: dict[str, Any] = {}
    if len(rig.cameras) > 1:
        cameras = {
            "cameras": tuple(camera.name for camera in rig.cameras),
            "rig": tuple(CameraSettings(camera.name, **_camera_topics(camera)) for camera in rig.cameras),
        }
    parameters = Settings(
        **(cameras or _camera_topics(rig.cameras[0])),
        fix_topic=recording.FIX_TOPIC,
        odometry_topic=recording.ODOMETRY_TOPIC,
        imu_topic=recording.IMU_TOPIC,
        map_frame=recording.MAP_FRAME,
        odom_frame=recording.ODOM_FRAME,
        base_frame=recording.BASE_FRAME,
        map_path=str((out / MAP).resolve()),
        map_origin=(settings.latitude_deg, settings.longitude_deg, settings.height_m),
        search_radius_m=SEARCH_RADIUS_M,
    )
    header = f"Parameters of the localizer for the simulated drive of seed {settings.seed}."
    return parameter_file_text(parameters, header)


def _camera_topics(camera: RigCamera) -> dict[str, str]:
    return {
        "image_topic": recording.image_topic(camera),
        "image_transport": "compressed",
        "camera_info_topic": recording.camera_info_topic(camera),
    }


def _distance_m(recorder: Recorder) -> float:
    positions = np.array([T[:2, 3] for _, T in recorder.truth()])
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())
