"""How far the map and the camera are apart: one place, drawn once for the orthophoto and once for the drive.

`mild` is another season, time of day and set of parked cars. `hard` adds what maps and cameras suffer in the field:
night, low sun, wet roads and fog; a tenth of objects and markings changed since the map was made; an orthophoto off by
decimetres whose buildings lean; moving traffic; a lens, a rolling shutter, JPEG and dirt.

A bench takes one world a town::

    world = make_world(seed, gap)
    drive = world.town.drive(seed=seed, duration_s=90.0)
    ortho = ImageMap(world.orthophoto(0.2), 0.2)                       # centred on the origin, errors and all
    cameras = world.drive_renderer(drive)
    photo, = cameras.shoot([Shot.on_drive(drive, t_s, rig_camera)])
    photo.image, photo.depth_m, photo.camera                           # camera: PinholeCamera with its distortion

Training data draws one town several times: `world.redrawn(other_seed)` is the same place at another time with another
camera and another map (hard: another tenth has changed), for a drive or an orthophoto each. Pictures that are stored
as plain pinholes use `drive_renderer(drive, lens=False)`: every effect but the distortion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.camera_effects import CameraEffects
from cross_view_loc.simulation.drive_renderer import DriveRenderer, Photo, Shot

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive
    from cross_view_loc.simulation.renderer import Renderer
    from cross_view_loc.simulation.staleness import Change
    from cross_view_loc.simulation.town import Town

__all__ = ["GAPS", "Photo", "Shot", "World", "make_world"]

GAPS = ("mild", "hard")
MILD_LEAN = (0.03, 0.02)
_SHIFT_M = (0.1, 0.5)
_LEAN = (0.04, 0.12)


@dataclass(frozen=True)
class World:
    """A town, and how map and camera see it."""

    seed: int
    gap: str
    town: Town
    """What vehicles meet."""
    map_look: Appearance
    drive_look: Appearance
    lean: tuple[float, float]
    """Metres that what stands up moves east and north in the orthophoto for each metre of height."""
    map_shift_m: tuple[float, float]
    """East and north by which the orthophoto is displaced: what stands at p is drawn at p + shift."""
    camera_effects: CameraEffects | None
    """None for the perfect pinhole."""
    device: str = "cpu"

    def redrawn(self, seed: int) -> World:
        """The same town with looks, map errors and camera drawn from another seed."""
        return _draw(self.town, seed, self.gap, self.device)

    @cached_property
    def map_town(self) -> Town:
        """The town as it was when the map was made."""
        return self._map_state[0]

    @cached_property
    def map_changes(self) -> dict[str, Change]:
        """What changed since the map was made, by kind of thing; empty when nothing did."""
        return self._map_state[1]

    @cached_property
    def map_renderer(self) -> Renderer:
        """Renders what the orthophoto shows, without its displacement: see `orthophoto`."""
        return self.new_map_renderer()

    def new_map_renderer(self) -> Renderer:
        """As `map_renderer`, for those who want its memory back while the world lives on."""
        from cross_view_loc.simulation.renderer import Renderer  # compiles for the device when imported

        return Renderer(self.map_town, self.map_look, self.device)

    def orthophoto(self, meters_per_pixel: float = 0.2, margin_m: float = 10.0) -> NDArray[np.uint8]:
        """(S, S, 3) RGB north-up picture with its lean and displacement.

        Who uses it takes its centre for the map's origin: `map_shift_m` is an error of the map that nobody knows.
        """
        side_px = round((self.town.size_m + 2 * margin_m) / meters_per_pixel)
        east_m, north_m = self.map_shift_m
        above = self.map_renderer
        view = above.ortho(0.0 - east_m, 0.0 - north_m, side_px, side_px, meters_per_pixel, lean=self.lean)
        return np.asarray(above.render([view])[0][0])

    def drive_renderer(self, drive: Drive, lens: bool = True) -> DriveRenderer:
        """Renders what cameras meet on a drive, whose corridor is kept clear of parked cars.

        `lens=False` leaves out the distortion, for pictures that are stored as plain pinholes.
        """
        from cross_view_loc.simulation.renderer import Renderer
        from cross_view_loc.simulation.traffic import Traffic

        traffic = Traffic(self.town, drive, self.seed) if self.gap == "hard" else None
        corridor = drive.corridor()
        renderer = Renderer(self.town, self.drive_look, self.device, keep_clear=corridor, traffic=traffic)
        effects = self.camera_effects
        if effects is not None and not lens:
            effects = replace(effects, distortion=(0.0,) * 5)
        return DriveRenderer(renderer, effects)

    @cached_property
    def _map_state(self) -> tuple[Town, dict[str, Change]]:
        from cross_view_loc.simulation.staleness import stale_town

        return stale_town(self.town, self.seed) if self.gap == "hard" else (self.town, {})


def make_world(seed: int, gap: str = "mild", region: str = "town", device: str = "cpu", size_m: float = 400.0) -> World:
    """A town with everything that its bench draws from the seed; the same arguments give the same pictures.

    Raises InputError for an unknown gap, region or size.
    """
    if gap not in GAPS:
        raise InputError(f'gap "{gap}" is unknown: choose one of {", ".join(GAPS)}')
    from cross_view_loc.simulation.town import Town

    return _draw(Town(seed, size_m=size_m, region=region), seed, gap, device)


def map_std_of(gap: str) -> float:
    """Deviation along each axis of the orthophoto's displacement, metres: what a user would know of such a map."""
    low, high = _SHIFT_M
    mean_square = (high**3 - low**3) / (3 * (high - low))  # of a length drawn evenly between the two
    return 0.0 if gap == "mild" else math.sqrt(mean_square / 2)


def _draw(town: Town, seed: int, gap: str, device: str) -> World:
    if gap == "mild":
        looks = Appearance.aerial(seed), Appearance.ground(seed)
        return World(seed, gap, town, *looks, MILD_LEAN, (0.0, 0.0), None, device)
    rng = np.random.default_rng([seed, 7])
    look = Appearance.hard_ground(seed)
    return World(
        seed,
        gap,
        town,
        Appearance.aerial(seed),
        look,
        _polar(rng, _LEAN),
        _polar(rng, _SHIFT_M),
        CameraEffects.random(seed, wet=look.wetness > 0.5),
        device,
    )


def _polar(rng: np.random.Generator, length: tuple[float, float]) -> tuple[float, float]:
    """A vector with a length in the given range and any direction."""
    radius, bearing = rng.uniform(*length), rng.uniform(0.0, 2.0 * np.pi)
    return float(radius * np.cos(bearing)), float(radius * np.sin(bearing))
