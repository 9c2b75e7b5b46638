"""What every layout needs of a town: moments of a drive, the camera's pictures and aerial images around places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.simulation.drive_renderer import DriveRenderer, Photo, Shot
from cross_view_loc.simulation.gap import World, make_world

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
STEP_S = 0.1
"""Moments are chosen on this grid."""


@dataclass(frozen=True)
class LayoutSettings:
    """What a layout is written from."""

    seed: int
    frames: int = 20
    """Ground images in each list of frames."""
    town_size_m: float | None = None
    """None: large enough for the layout's aerial images."""
    gap: str = "mild"
    region: str = "town"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"--seed {self.seed} is negative; give a number from 0 up")
        if not 1 <= self.frames <= 5000:
            raise InputError(f"--frames {self.frames} cannot be written; choose between 1 and 5000")
        if self.town_size_m is not None and not 240.0 <= self.town_size_m <= 2000.0:
            raise InputError(f"--town-size {self.town_size_m:g} m cannot be built; choose between 240 and 2000")


@dataclass(frozen=True)
class Scene:
    """A town, a drive through it, and where on Earth both are."""

    world: World
    drive: Drive
    cameras: DriveRenderer
    projection: MapProjection

    @classmethod
    def make(cls, settings: LayoutSettings, seed: int, size_m: float, projection: MapProjection) -> Scene:
        """The town of `seed` with a drive long enough for the frames. Raises InputError."""
        world = make_world(seed, settings.gap, settings.region, settings.device, settings.town_size_m or size_m)
        drive = world.town.drive(seed=seed, duration_s=max(90.0, 2.0 * settings.frames))
        return cls(world, drive, world.drive_renderer(drive, lens=False), projection)

    def moments_s(self, count: int, reach_m: float) -> list[float]:
        """`count` ascending moments, spread over the drive, with `reach_m` of town to every side of the vehicle.

        Raises InputError when there are not as many.
        """
        times = np.arange(5, math.floor(self.drive.duration_s / STEP_S) - 5) * STEP_S
        places = np.asarray(self.drive.T_map_base(times))[:, :2, 3]
        inside = times[np.abs(places).max(axis=1) <= self.world.town.size_m / 2 - reach_m]
        if len(inside) < count:
            raise InputError(
                f"the drive of seed {self.world.seed} has {len(inside)} of {count} moments with {reach_m:.0f} m of town"
                " to every side; give a larger --town-size, fewer --frames or another --seed"
            )
        return [float(t) for t in inside[np.linspace(0, len(inside) - 1, count).round().astype(int)]]

    def aerial(self, east_m: float, north_m: float, side_px: int, meters_per_pixel: float) -> Image:
        """(S, S, 3) RGB, north up, about a place of the map as the map's maker believes it to be there."""
        shift_east_m, shift_north_m = self.world.map_shift_m
        above = self.world.map_renderer
        view = above.ortho(
            east_m - shift_east_m, north_m - shift_north_m, side_px, side_px, meters_per_pixel, lean=self.world.lean
        )
        return np.asarray(above.render([view])[0][0])


@dataclass(frozen=True)
class OffCentrePinhole:
    """A pinhole whose principal point is not in the middle, made of a larger picture where it is.

    Pixel centres at + 0.5. The larger picture is at most a quarter of a pixel off the smaller one's grid.
    """

    width: int
    height: int
    focal_px: float
    cx: float
    cy: float

    @property
    def rendered_size(self) -> tuple[int, int]:
        """Width and height of the larger picture."""
        return _centred_side(self.width, self.cx), _centred_side(self.height, self.cy)

    def shoot(self, cameras: DriveRenderer, shot: Shot) -> Photo:
        """The picture and its depth; `shot` gives pose and motion."""
        width, height = self.rendered_size
        whole = Shot(
            shot.T_map_camera, width, height, self.focal_px, shot.time_s, shot.velocity_map, shot.turn_rate_rad_s
        )
        photo = cameras.shoot([whole])[0]
        left, top = width / 2 - self.cx, height / 2 - self.cy
        columns, rows = np.meshgrid(
            (np.arange(self.width) + left).astype(np.float32), (np.arange(self.height) + top).astype(np.float32)
        )
        image = cv2.remap(photo.image, columns, rows, cv2.INTER_LINEAR)
        depth_m = cv2.remap(photo.depth_m, columns, rows, cv2.INTER_NEAREST)
        return Photo(np.asarray(image, np.uint8), np.asarray(depth_m, np.float32), photo.camera)


def _centred_side(side_px: int, principal_px: float) -> int:
    """Pixels of a picture about the principal point that holds the smaller one; even or odd, whichever fits better."""
    least = math.ceil(2 * max(principal_px, side_px - principal_px)) + 2
    return min(least, least + 1, key=lambda side: abs(math.remainder(side / 2 - principal_px, 1.0)))


def write_image(path: Path, image: Image) -> None:
    """RGB as PNG or JPEG, by the name's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1])):
        raise OSError(28, "cannot write the image", str(path))
