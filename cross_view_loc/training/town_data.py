"""Training data from the town: views with depth and poses under one appearance, orthophotos under others.

One `.npz` a town. The poses a localizer would know are stored beside the true ones: nominal extrinsics
and a noisy attitude, so that a network learns under the calibration errors it will meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, level_rotation, rotation_z, rpy, transform, yaw_of
from cross_view_loc.geometry.views import VIEW_HEIGHT_PX, VIEW_WIDTH_PX

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive
    from cross_view_loc.simulation.drive_renderer import DriveRenderer
    from cross_view_loc.simulation.gap import World
    from cross_view_loc.simulation.town import Town

TOWN_SIZE_M = 360.0
ORTHO_METERS_PER_PIXEL = 0.2
RENDER_FACTOR = 2
"""Views are rendered this much larger and averaged, as a real camera's image is when it is resampled."""
MOUNT_STD_RAD = math.radians(0.15)
CHUNK = 8
"""Pictures rendered at once."""


@dataclass(frozen=True)
class TownData:
    """One town's views and orthophotos, in memory."""

    images: NDArray[np.uint8]
    """(N, 192, 320, 3) RGB."""
    depth_m: NDArray[np.float16]
    """(N, 48, 80) z-depth at the centres of 4×4 cells, 0 = sky."""
    cell_depth_m: NDArray[np.float16]
    """(N, 48, 40) the same at the centres of the matcher's 4×8 cells."""
    focal_px: NDArray[np.float64]
    T_map_base: NDArray[np.float64]
    """(N, 4, 4) true."""
    T_base_camera: NDArray[np.float64]
    """(N, 4, 4) nominal."""
    R_level_base: NDArray[np.float64]
    """(N, 3, 3) as a noisy IMU reports it."""
    orthophotos: NDArray[np.uint8]
    """(K, S, S, 3) north-up, 0.2 m per pixel, centred on the map origin."""
    seed: int
    """Which town; negative for data that is no town."""
    seen_cells: NDArray[np.bool_] | None = None
    """(N, 48, 40) which of the matcher's cells the camera really saw; None: all."""
    has_depth: bool = True
    """Whether every view has depth."""

    @property
    def name(self) -> str:
        """As errors and weights call it."""
        return f"town {self.seed}"

    @cached_property
    def maps(self) -> list[ImageMap]:
        """The orthophotos as maps."""
        return [ImageMap(image, ORTHO_METERS_PER_PIXEL) for image in self.orthophotos]


def load_town(path: Path) -> TownData:
    """Read one file written by `render_town`."""
    with np.load(path) as file:
        return TownData(**{name: file[name] for name in file.files if name != "seed"}, seed=int(file["seed"]))


def render_town(
    seed: int,
    folder: Path,
    views_per_drive: int = 40,
    drives: int = 3,
    orthophotos: int = 2,
    device: str = "cpu",
    region: str = "town",
    gap: str = "mild",
) -> Path:
    """Render one town's data; returns the file written. Same arguments, same file.

    Gap "mixed": all drives but the first, and all orthophotos but the first, with what the hard gap adds, save the
    lens's distortion, which views undo, and the orthophoto's displacement, which would make labels wrong.
    """
    from cross_view_loc.simulation.gap import make_world

    rng = np.random.default_rng([seed, 77])
    is_mixed = gap == "mixed"
    world = make_world(seed, "hard" if is_mixed else "mild", region, device, TOWN_SIZE_M)
    rows: list[dict[str, NDArray[np.generic]]] = []
    for index in range(drives):
        drive = world.town.drive(seed=index, duration_s=90.0)
        times = np.sort(rng.uniform(0, drive.duration_s, views_per_drive))
        rows += _render_views(_camera_of(world, drive, index, is_mixed and index > 0), world.town, drive, times, rng)
    orthos = [_orthophoto(world, index, is_mixed and index > 0, rng) for index in range(orthophotos)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"town_{seed:04d}.npz"
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    partial = path.with_suffix(".partial.npz")  # an interrupted write must not look like a finished town
    np.savez(partial, **columns, orthophotos=np.stack(orthos), seed=seed)  # type: ignore[arg-type]
    partial.replace(path)
    return path


def _camera_of(world: World, drive: Drive, index: int, is_hard: bool) -> DriveRenderer:
    """Another camera, time and season for each drive."""
    from cross_view_loc.simulation.appearance import Appearance
    from cross_view_loc.simulation.drive_renderer import DriveRenderer
    from cross_view_loc.simulation.renderer import Renderer

    look_seed = world.seed * 10 + index
    if is_hard:
        return world.redrawn(look_seed).drive_renderer(drive, lens=False)
    look = Appearance.random(look_seed)
    return DriveRenderer(Renderer(world.town, look, world.device, keep_clear=drive.corridor()), None)


def _orthophoto(world: World, index: int, is_hard: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another flight for each; where it is hard, over the town before a tenth of it changed, with much lean."""
    from cross_view_loc.simulation.appearance import Appearance
    from cross_view_loc.simulation.renderer import Renderer

    look_seed = 500_000 + world.seed * 10 + index
    side_px = round((TOWN_SIZE_M + 20.0) / ORTHO_METERS_PER_PIXEL)
    if is_hard:
        flown = world.redrawn(look_seed)
        above, lean = flown.map_renderer, flown.lean
    else:
        above = Renderer(world.town, Appearance.aerial(look_seed), world.device)
        lean = (float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.04, 0.04)))
    camera = above.ortho(0.0, 0.0, side_px, side_px, ORTHO_METERS_PER_PIXEL, lean=lean)
    return np.asarray(above.render([camera])[0][0])


def _render_views(
    camera: DriveRenderer, town: Town, drive: Drive, times: NDArray[np.float64], rng: np.random.Generator
) -> list[dict[str, NDArray[np.generic]]]:
    from cross_view_loc.simulation.drive_renderer import Shot
    from cross_view_loc.simulation.sensors import attitude_error

    width, height = VIEW_WIDTH_PX * RENDER_FACTOR, VIEW_HEIGHT_PX * RENDER_FACTOR
    rows: list[dict[str, NDArray[np.generic]]] = []
    shots = []
    for time_s in map(float, times):
        T_map_base = _jittered(town, drive.T_map_base(time_s), rng)
        T_base_camera, focal_px = _random_mount(rng)
        true_mount = T_base_camera.copy()
        true_mount[:3, :3] = true_mount[:3, :3] @ rpy(*rng.normal(0, MOUNT_STD_RAD, 3))
        T_map_camera, velocity = T_map_base @ true_mount, drive.velocity_map(time_s)
        turn = _turn_rate(drive, time_s)
        shots.append(Shot(T_map_camera, width, height, focal_px * RENDER_FACTOR, time_s, velocity, turn))
        R_level_base = level_rotation(T_map_base[:3, :3]) @ attitude_error(rng)
        rows.append(
            {
                "T_map_base": T_map_base,
                "T_base_camera": T_base_camera,
                "R_level_base": R_level_base,
                "focal_px": np.float64(focal_px),
            }
        )
    photos = [photo for start in range(0, len(shots), CHUNK) for photo in camera.shoot(shots[start : start + CHUNK])]
    for row, photo in zip(rows, photos, strict=True):
        size = (VIEW_WIDTH_PX, VIEW_HEIGHT_PX)
        row["images"] = cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        row["depth_m"] = depth_at_cells(photo.depth_m, 4 * RENDER_FACTOR, 4 * RENDER_FACTOR)
        row["cell_depth_m"] = depth_at_cells(photo.depth_m, 4 * RENDER_FACTOR, 8 * RENDER_FACTOR)
    return rows


def _turn_rate(drive: Drive, time_s: float) -> float:
    """About the map's up axis, rad/s."""
    later_s = min(time_s + 0.1, drive.duration_s)
    if later_s - time_s < 0.01:
        return 0.0
    turn = yaw_of(drive.T_map_base(later_s)) - yaw_of(drive.T_map_base(time_s))
    return math.remainder(turn, 2 * math.pi) / (later_s - time_s)


def _jittered(town: Town, T_map_base: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The pose moved off the lane centre, turned a little, and set on the ground again."""
    T = np.array(T_map_base, dtype=np.float64)
    heading = yaw_of(T)
    sideways = rng.normal(0, 0.5)
    T[0, 3] -= math.sin(heading) * sideways
    T[1, 3] += math.cos(heading) * sideways
    T[2, 3] = float(town.height(T[0, 3], T[1, 3]))
    T[:3, :3] = rotation_z(rng.normal(0, math.radians(4.0))) @ T[:3, :3]
    return T


def _random_mount(rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """A camera as cars carry them: mostly forward, sometimes sideways or back; its focal length in view pixels."""
    around = 0.0 if rng.random() < 0.75 else float(rng.choice([90.0, -90.0, 180.0]))
    roll, pitch = math.radians(rng.normal(0, 0.4)), math.radians(rng.normal(2.0, 2.0))
    yaw = math.radians(around + rng.normal(0, 2.0))
    position = [rng.uniform(0.0, 1.8), rng.uniform(-0.3, 0.3), rng.uniform(1.25, 2.2)]
    field_rad = math.radians(rng.uniform(60.0, 95.0))
    return transform(rpy(roll, pitch, yaw) @ R_BODY_OPTICAL, position), VIEW_WIDTH_PX / 2 / math.tan(field_rad / 2)


def depth_at_cells(depth_m: NDArray[np.float32], rows_px: int, columns_px: int) -> NDArray[np.float16]:
    """Depth (H, W) at the centres of even-sized cells, (H/rows, W/columns).

    A centre falls on a pixel corner: on a plane inverse depth is linear in the image, so the four pixels around it are
    averaged as inverse depths; across an edge of an object one of them is taken as it is.
    """
    top, left = rows_px // 2, columns_px // 2
    corners = np.stack(
        [
            depth_m[top - 1 + i :: rows_px, left - 1 + j :: columns_px][
                : depth_m.shape[0] // rows_px, : depth_m.shape[1] // columns_px
            ]
            for i in (0, 1)
            for j in (0, 1)
        ]
    ).astype(np.float64)
    smooth = (corners.min(0) > 0) & (corners.max(0) < 1.15 * corners.min(0))
    harmonic = 4.0 / np.sum(1.0 / np.maximum(corners, 1e-3), axis=0)
    return np.where(smooth, harmonic, corners[3]).astype(np.float16)
