"""The pictures a vehicle's camera takes on a drive: rendered, then spoiled as lens, shutter and encoder spoil them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera
from cross_view_loc.simulation.camera_effects import CameraEffects, CameraMotion, Imaging
from cross_view_loc.simulation.fisheye import FisheyeLens
from cross_view_loc.simulation.rig import FISHEYE_DISTORTION

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive
    from cross_view_loc.simulation.renderer import Renderer
    from cross_view_loc.simulation.rig import RigCamera
    from cross_view_loc.simulation.views import View

Array = NDArray[np.float64]
SimulatedCamera = PinholeCamera | EquirectangularCamera | FisheyeCamera


@dataclass(frozen=True)
class Shot:
    """One picture to take."""

    T_map_camera: Array
    """(4, 4) pose of the optical frame at `time_s`, the middle of the picture's readout."""
    width: int
    height: int
    focal_px: float | None
    """None for a panorama."""
    time_s: float = 0.0
    """Moment of the drive: where the traffic is."""
    velocity_map: Array | None = None
    """(3,) m/s; None for a camera that stands still."""
    turn_rate_rad_s: float = 0.0
    """About the map's up axis, counter-clockwise; only the rolling shutter asks for it."""
    is_fisheye: bool = False
    """Panoramas and fisheyes know no camera effects."""

    @staticmethod
    def on_drive(drive: Drive, time_s: float, camera: RigCamera) -> Shot:
        """What a camera of the vehicle sees at a moment of its drive; it moves like base_link."""
        return Shot(
            np.asarray(drive.T_map_base(time_s), dtype=np.float64) @ camera.T_base_camera,
            camera.width,
            camera.height,
            camera.focal_px,
            time_s,
            drive.velocity_map(time_s),
            float(drive.turn_rate_rad_s(time_s)),
            camera.is_fisheye,
        )


@dataclass(frozen=True)
class Photo:
    """A picture taken."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    depth_m: NDArray[np.float32]
    """(H, W) z in the optical frame at the moment each row was read (range for a panorama or fisheye), 0 = sky."""
    camera: SimulatedCamera
    """True calibration, with the lens's distortion."""

    @property
    def distortion(self) -> tuple[float, ...]:
        """Coefficients of plumb_bob or equidistant; empty for a perfect lens and a panorama."""
        return () if isinstance(self.camera, EquirectangularCamera) else self.camera.distortion


class DriveRenderer:
    """Takes pictures with one renderer and one camera's effects; make it with `World.drive_renderer`."""

    def __init__(self, renderer: Renderer, effects: CameraEffects | None) -> None:
        self.renderer = renderer
        self.effects = effects
        self._imagings: dict[tuple[int, int, float], Imaging] = {}

    def camera(self, shot: Shot) -> SimulatedCamera:
        """What CameraInfo says of the camera of a shot."""
        width, height, focal_px = shot.width, shot.height, shot.focal_px
        if focal_px is None:
            return EquirectangularCamera(width, height)
        if shot.is_fisheye:
            return FisheyeCamera(width, height, focal_px, focal_px, width / 2, height / 2, FISHEYE_DISTORTION)
        if self.effects is None:
            return PinholeCamera(width, height, focal_px, focal_px, width / 2, height / 2)
        return self._imaging(width, height, focal_px).camera

    def shoot(self, shots: Sequence[Shot]) -> list[Photo]:
        """Take pictures, rendered together where their size allows; none depends on the others in the list."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, shot in enumerate(shots):
            by_size.setdefault(self._render_size(shot), []).append(index)
        photos: dict[int, Photo] = {}
        for size, members in by_size.items():
            images, depths = self.renderer.render([self._view(shots[index], *size) for index in members])
            for index, image, depth in zip(members, images, depths, strict=True):
                photos[index] = self._developed(shots[index], image, depth)
        return [photos[index] for index in range(len(shots))]

    def _imaging(self, width: int, height: int, focal_px: float) -> Imaging:
        key = (width, height, focal_px)
        if key not in self._imagings:
            assert self.effects is not None
            if len(self._imagings) > 8:
                self._imagings.clear()  # random focal lengths must not fill the memory
            self._imagings[key] = Imaging(self.effects, *key)
        return self._imagings[key]

    def _render_size(self, shot: Shot) -> tuple[int, int]:
        camera = self.camera(shot)
        if isinstance(camera, FisheyeCamera):
            return FisheyeLens(camera).panorama_size
        if self.effects is None or shot.focal_px is None:
            return shot.width, shot.height
        imaging = self._imaging(shot.width, shot.height, shot.focal_px)
        return imaging.render_width, imaging.render_height

    def _view(self, shot: Shot, width: int, height: int) -> View:
        renderer = self.renderer
        if shot.focal_px is None or shot.is_fisheye:
            return renderer.panorama(shot.T_map_camera, width, height, time_s=shot.time_s)
        return renderer.pinhole(shot.T_map_camera, width, height, shot.focal_px, shot.velocity_map, time_s=shot.time_s)

    def _developed(self, shot: Shot, image: NDArray[np.uint8], depth: NDArray[np.float32]) -> Photo:
        camera = self.camera(shot)
        if isinstance(camera, FisheyeCamera):
            return Photo(*FisheyeLens(camera).bend(image, depth), camera)
        if self.effects is None or shot.focal_px is None:
            return Photo(image, depth, camera)
        velocity = np.zeros(3) if shot.velocity_map is None else np.asarray(shot.velocity_map, dtype=np.float64)
        R_camera_map = np.asarray(shot.T_map_camera, dtype=np.float64)[:3, :3].T
        motion = CameraMotion(R_camera_map @ velocity, R_camera_map @ [0.0, 0.0, shot.turn_rate_rad_s])
        image, depth = self._imaging(shot.width, shot.height, shot.focal_px).develop(image, depth, motion)
        return Photo(image, depth, camera)
