"""A drive through an unseen town as pictures: rendered once, measured under many settings, optionally kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, FisheyeCamera, PinholeCamera

ORTHO_METERS_PER_PIXEL = 0.2
DRIVE_SECONDS = 90.0
_RECORDINGS = ("simulate.py", "recording.py", "messages.py")


@dataclass(frozen=True)
class DriveSetting:
    """What a rendered drive depends on; no prior, no estimator."""

    seed: int
    frames: int
    cameras: str = "front"
    gap: str = "mild"
    region: str = "town"
    town_size_m: float = 400.0
    between: int = 0
    """Moments rendered between two of the `frames`: what a window over time sees on its way."""


@dataclass(frozen=True)
class CameraShots:
    """What one camera of the vehicle recorded."""

    name: str
    camera: Camera
    T_base_camera: NDArray[np.float64]
    images: NDArray[np.uint8]
    """(N, H, W, 3) RGB."""
    depth_m: NDArray[np.float32]
    """(N, H, W) true depth: z of a pinhole, range of a panorama or fisheye; 0 where there is only sky."""


@dataclass(frozen=True)
class RenderedDrive:
    """An orthophoto and N moments of a drive with their exact poses."""

    setting: DriveSetting
    orthophoto: NDArray[np.uint8]
    """(S, S, 3) north-up, ORTHO_METERS_PER_PIXEL metres per pixel."""
    map_shift_m: tuple[float, float]
    """East and north by which the orthophoto shows everything displaced: an error of the map that nobody is told."""
    stamps_ns: NDArray[np.int64]
    """(N,)"""
    T_map_base: NDArray[np.float64]
    """(N, 4, 4)"""
    places: tuple[str, ...]
    """(N,) kind of place: junction, street or bend."""
    shots: tuple[CameraShots, ...]


def rendered_drive(setting: DriveSetting, device: str = "cpu", cache: Path | None = None) -> RenderedDrive:
    """Render a drive, or read it from `cache` when it has been rendered with the same sources before.

    Same setting, same drive. The folder is made when it is missing; a file that cannot be read is rendered anew.
    """
    path = cache / f"{cache_key(setting, device)}.npz" if cache else None
    if path is not None and path.is_file():
        try:
            return _load(path, setting)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            path.unlink()
    drive = render_drive(setting, device)
    if path is not None:
        _save(path, drive)
    return drive


def render_drive(setting: DriveSetting, device: str = "cpu") -> RenderedDrive:
    """Evenly spaced moments of a 90 s drive; the map's appearance and the cameras' differ as the gap says.

    Raises InputError for a gap, region, rig or size that the simulation does not know.
    """
    from cross_view_loc.simulation.gap import Shot, make_world
    from cross_view_loc.simulation.rig import make_rig

    world = make_world(setting.seed, setting.gap, setting.region, device, setting.town_size_m)
    drive = world.town.drive(seed=setting.seed, duration_s=DRIVE_SECONDS)
    orthophoto = world.orthophoto(ORTHO_METERS_PER_PIXEL)
    renderer = world.drive_renderer(drive)
    count = (setting.frames - 1) * (setting.between + 1) + 1
    times_s = [float(t_s) for t_s in np.linspace(0.5, drive.duration_s - 0.5, count)]
    T_map_base = np.stack([drive.T_map_base(t_s) for t_s in times_s])
    shots = []
    for mounted in make_rig(setting.cameras).cameras:
        # One by one: a whole drive in one batch would hold every frame's buffers at once.
        photos = [renderer.shoot([Shot.on_drive(drive, t_s, mounted)])[0] for t_s in times_s]
        images = np.stack([photo.image for photo in photos])
        depth_m = np.stack([photo.depth_m for photo in photos])
        shots.append(CameraShots(mounted.name, photos[0].camera, mounted.T_base_camera, images, depth_m))
    places = tuple(world.town.place_at(float(pose[0, 3]), float(pose[1, 3])) for pose in T_map_base)
    stamps_ns = np.array([round(t_s * 1e9) for t_s in times_s], dtype=np.int64)
    return RenderedDrive(setting, orthophoto, world.map_shift_m, stamps_ns, T_map_base, places, tuple(shots))


def _camera(width: int, height: int, numbers: NDArray[np.float64]) -> Camera:
    """A camera from what `_numbers` stored of it."""
    if not len(numbers):
        return EquirectangularCamera(width, height)
    is_fisheye, fx, fy, cx, cy, *distortion = (float(number) for number in numbers)
    kind = FisheyeCamera if is_fisheye else PinholeCamera
    return kind(width, height, fx, fy, cx, cy, tuple(distortion))


def _numbers(camera: Camera) -> NDArray[np.float64]:
    """Whether it is a fisheye, then fx, fy, cx, cy and the distortion; nothing for a panorama."""
    if not isinstance(camera, PinholeCamera | FisheyeCamera):
        return np.zeros(0)
    is_fisheye = isinstance(camera, FisheyeCamera)
    return np.array([is_fisheye, camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion], dtype=np.float64)


def cache_key(setting: DriveSetting, device: str) -> str:
    """Name of a drive's file: readable, with a digest of every argument and of the sources that make the picture."""
    arguments = json.dumps([asdict(setting), device.split(":")[0], _sources_digest()], sort_keys=True)
    digest = hashlib.sha256(arguments.encode()).hexdigest()[:16]
    return f"{setting.region}_{setting.seed}_{setting.gap}_{setting.cameras}_{setting.frames}_{digest}"


@lru_cache(maxsize=1)
def _sources_digest() -> str:
    """Of the simulation's sources, those aside that only write recordings, and of this file."""
    from cross_view_loc import simulation

    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(Path(str(simulation.__file__)).parent.glob("*.py")):
        if source.name in _RECORDINGS:
            continue
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


def _save(path: Path, drive: RenderedDrive) -> None:
    """Write beside the name and rename: two runs may share a folder, and a half-written file never has the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "orthophoto": drive.orthophoto,
        "map_shift_m": np.array(drive.map_shift_m),
        "stamps_ns": drive.stamps_ns,
        "T_map_base": drive.T_map_base,
        "places": np.array(drive.places),
    }
    for index, shots in enumerate(drive.shots):
        arrays |= {
            f"images_{index}": shots.images,
            f"depth_{index}": shots.depth_m,
            f"camera_{index}": _numbers(shots.camera),
        }
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)


def _load(path: Path, setting: DriveSetting) -> RenderedDrive:
    from cross_view_loc.simulation.rig import make_rig

    with np.load(path, allow_pickle=False) as stored:
        shots = []
        for index, mounted in enumerate(make_rig(setting.cameras).cameras):
            images = stored[f"images_{index}"]
            camera = _camera(images.shape[2], images.shape[1], stored[f"camera_{index}"])
            shots.append(CameraShots(mounted.name, camera, mounted.T_base_camera, images, stored[f"depth_{index}"]))
        east_m, north_m = (float(value) for value in stored["map_shift_m"])
        places = tuple(str(place) for place in stored["places"])
        return RenderedDrive(
            setting,
            stored["orthophoto"],
            (east_m, north_m),
            stored["stamps_ns"],
            stored["T_map_base"],
            places,
            tuple(shots),
        )
