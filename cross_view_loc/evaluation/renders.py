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

from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, PinholeCamera

ORTHO_METERS_PER_PIXEL = 0.2
DRIVE_SECONDS = 90.0


@dataclass(frozen=True)
class DriveSetting:
    """What a rendered drive depends on; no prior, no estimator."""

    seed: int
    frames: int
    cameras: str = "front"
    gap: str = "mild"
    region: str = "town"
    town_size_m: float = 400.0


@dataclass(frozen=True)
class CameraShots:
    """What one camera of the vehicle recorded."""

    name: str
    camera: Camera
    T_base_camera: NDArray[np.float64]
    images: NDArray[np.uint8]
    """(N, H, W, 3) RGB."""
    depth_m: NDArray[np.float32]
    """(N, H, W) true depth: z of a pinhole, range of a panorama; 0 where there is only sky."""


@dataclass(frozen=True)
class RenderedDrive:
    """An orthophoto and N moments of a drive with their exact poses."""

    setting: DriveSetting
    orthophoto: NDArray[np.uint8]
    """(S, S, 3) north-up, ORTHO_METERS_PER_PIXEL metres per pixel."""
    map_shift_m: tuple[float, float]
    """East and north by which the orthophoto shows everything displaced; its centre belongs here, not at the origin."""
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
    """Evenly spaced moments of a 90 s drive; the map's appearance and the cameras' differ as the gap says."""
    from cross_view_loc.simulation.appearance import Appearance
    from cross_view_loc.simulation.renderer import Renderer
    from cross_view_loc.simulation.rig import make_rig
    from cross_view_loc.simulation.town import Town

    seed, town_size_m = setting.seed, setting.town_size_m
    town = Town(seed, size_m=town_size_m)
    drive = town.drive(seed=seed, duration_s=DRIVE_SECONDS)
    side_px = round((town_size_m + 20.0) / ORTHO_METERS_PER_PIXEL)
    above = Renderer(town, Appearance.aerial(seed), device)
    ortho = above.render([above.ortho(0.0, 0.0, side_px, side_px, ORTHO_METERS_PER_PIXEL, lean=(0.03, 0.02))])[0][0]
    renderer = Renderer(town, Appearance.ground(seed), device, keep_clear=drive.corridor())
    times_s = np.linspace(0.5, drive.duration_s - 0.5, setting.frames)
    T_map_base = np.stack([drive.T_map_base(float(t_s)) for t_s in times_s])
    shots = []
    for mounted in make_rig(setting.cameras).cameras:
        images, depths = [], []
        for t_s, pose in zip(times_s, T_map_base, strict=True):
            T_map_camera = pose @ mounted.T_base_camera
            if mounted.focal_px is None:
                shot = renderer.panorama(T_map_camera, mounted.width, mounted.height)
            else:
                velocity = drive.velocity_map(float(t_s))
                shot = renderer.pinhole(T_map_camera, mounted.width, mounted.height, mounted.focal_px, velocity)
            rgb, depth = renderer.render([shot])
            images.append(rgb[0])
            depths.append(depth[0])
        shots.append(
            CameraShots(mounted.name, _camera(mounted), mounted.T_base_camera, np.stack(images), np.stack(depths))
        )
    places = tuple(_place(town, *pose[:2, 3]) for pose in T_map_base)
    stamps_ns = np.array([round(t_s * 1e9) for t_s in times_s], dtype=np.int64)
    return RenderedDrive(setting, ortho, (0.0, 0.0), stamps_ns, T_map_base, places, tuple(shots))


def _camera(mounted: Any) -> Camera:
    if mounted.focal_px is None:
        return EquirectangularCamera(mounted.width, mounted.height)
    f, w, h = mounted.focal_px, mounted.width, mounted.height
    return PinholeCamera(w, h, f, f, w / 2, h / 2)


def _place(town: Any, east_m: float, north_m: float) -> str:
    place_at = getattr(town, "place_at", None)
    return "street" if place_at is None else str(place_at(float(east_m), float(north_m)))


def cache_key(setting: DriveSetting, device: str) -> str:
    """Name of a drive's file: readable, with a digest of every argument and of the sources that make the picture."""
    arguments = json.dumps([asdict(setting), device.split(":")[0], _sources_digest()], sort_keys=True)
    digest = hashlib.sha256(arguments.encode()).hexdigest()[:16]
    return f"{setting.region}_{setting.seed}_{setting.gap}_{setting.cameras}_{setting.frames}_{digest}"


@lru_cache(maxsize=1)
def _sources_digest() -> str:
    """Of the simulation's sources and of this file."""
    from cross_view_loc import simulation

    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(Path(str(simulation.__file__)).parent.glob("*.py")):
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
        arrays |= {f"images_{index}": shots.images, f"depth_{index}": shots.depth_m}
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)


def _load(path: Path, setting: DriveSetting) -> RenderedDrive:
    from cross_view_loc.simulation.rig import make_rig

    with np.load(path, allow_pickle=False) as stored:
        shots = tuple(
            CameraShots(
                mounted.name,
                _camera(mounted),
                mounted.T_base_camera,
                stored[f"images_{index}"],
                stored[f"depth_{index}"],
            )
            for index, mounted in enumerate(make_rig(setting.cameras).cameras)
        )
        east_m, north_m = (float(value) for value in stored["map_shift_m"])
        places = tuple(str(place) for place in stored["places"])
        return RenderedDrive(
            setting,
            stored["orthophoto"],
            (east_m, north_m),
            stored["stamps_ns"],
            stored["T_map_base"],
            places,
            shots,
        )
