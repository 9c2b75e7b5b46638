"""The town bench: unseen towns, one appearance from above, another from the ground, random priors about the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.evaluation.metrics import FrameError, Truth, frame_error
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import level_rotation, yaw_of
from cross_view_loc.geometry.views import View
from cross_view_loc.localizer import Localizer
from cross_view_loc.types import Estimate, Frame, Prior

PROTOCOLS = {
    "offset": "prior uniform in ±20 m along each axis, heading within ±10°",
    "heading_unknown": "prior uniform within 20 m, heading unknown",
    "gnss": "prior with σ 3 m along each axis, heading with σ 5° (searched: ±20 m, ±15°)",
}
RADIUS_M = 20.0
ORTHO_METERS_PER_PIXEL = 0.2


@dataclass(frozen=True)
class TownFrame:
    """What a localizer gets at one moment of a drive, and the truth it does not get."""

    seed: int
    frames: tuple[Frame, ...]
    depth_m: tuple[NDArray[np.float32], ...]
    """Rendered depth of each image, for the oracle."""
    prior: Prior
    truth: Truth


@dataclass(frozen=True)
class TownBench:
    """A town's orthophoto and the frames of a drive through it."""

    seed: int
    orthophoto: ImageMap
    frames: tuple[TownFrame, ...]


def make_bench(
    seed: int,
    frames: int,
    protocol: str = "offset",
    cameras: str = "front",
    device: str = "cpu",
    town_size_m: float = 400.0,
) -> TownBench:
    """Render a town's orthophoto and `frames` evenly spaced moments of a 90 s drive. Same arguments, same bench."""
    from cross_view_loc.simulation.appearance import Appearance
    from cross_view_loc.simulation.renderer import Renderer
    from cross_view_loc.simulation.rig import make_rig
    from cross_view_loc.simulation.sensors import attitude_error
    from cross_view_loc.simulation.town import Town

    rng = np.random.default_rng([seed, 5])
    town = Town(seed, size_m=town_size_m)
    drive = town.drive(seed=seed, duration_s=90.0)
    side_px = round((town_size_m + 20.0) / ORTHO_METERS_PER_PIXEL)
    above = Renderer(town, Appearance.aerial(seed), device)
    ortho = above.render([above.ortho(0.0, 0.0, side_px, side_px, ORTHO_METERS_PER_PIXEL, lean=(0.03, 0.02))])[0][0]
    renderer = Renderer(town, Appearance.ground(seed), device, keep_clear=drive.corridor())
    rig = make_rig(cameras)
    moments = []
    for t_s in np.linspace(0.5, drive.duration_s - 0.5, frames):
        T_map_base = drive.T_map_base(float(t_s))
        R_level_base = level_rotation(T_map_base[:3, :3]) @ attitude_error(rng)
        shots, depths = [], []
        for mounted in rig.cameras:
            T_map_camera = T_map_base @ mounted.T_base_camera
            camera: Camera
            if mounted.focal_px is None:
                camera = EquirectangularCamera(mounted.width, mounted.height)
                shot = renderer.panorama(T_map_camera, mounted.width, mounted.height)
            else:
                f, w, h = mounted.focal_px, mounted.width, mounted.height
                camera = PinholeCamera(w, h, f, f, w / 2, h / 2)
                shot = renderer.pinhole(T_map_camera, w, h, f, drive.velocity_map(float(t_s)))
            images, depth = renderer.render([shot])
            stamp_ns = round(t_s * 1e9)
            shots.append(Frame(images[0], camera, stamp_ns, mounted.T_base_camera, R_level_base, name=mounted.name))
            depths.append(depth[0])
        truth = Truth(float(T_map_base[0, 3]), float(T_map_base[1, 3]), yaw_of(T_map_base))
        moments.append(
            TownFrame(seed, tuple(shots), tuple(depths), _prior(truth, protocol, shots[0].stamp_ns, rng), truth)
        )
    return TownBench(seed, ImageMap(ortho, ORTHO_METERS_PER_PIXEL, name=f"orthophoto of town {seed}"), tuple(moments))


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


class TrueDepth:
    """Rendered depth as a depth source: the oracle that shows what better depth would bring."""

    kind = "metric"
    log_scale_std = 0.02

    def __init__(self) -> None:
        self._remaining: list[tuple[Frame, NDArray[np.float32]]] = []

    def set(self, moment: TownFrame) -> None:
        """The images that the next call of the localizer will ask for."""
        self._remaining = list(zip(moment.frames, moment.depth_m, strict=True))

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Nearest rendered depth; only for single-view (pinhole) cameras, asked in order."""
        frame, depth = self._remaining.pop(0)
        pixels = view.camera_pixels(rays[..., :2] * view.focal_px + [view.width / 2, view.height / 2], frame.camera)
        columns = np.clip(np.floor(pixels[..., 0]).astype(int), 0, depth.shape[1] - 1)
        rows = np.clip(np.floor(pixels[..., 1]).astype(int), 0, depth.shape[0] - 1)
        return depth[rows, columns].astype(np.float64)


def evaluate_bench(
    bench: TownBench, localizer: Localizer, on_frame: Callable[[TownFrame, Estimate, FrameError], None] | None = None
) -> Iterator[FrameError]:
    """Errors of a localizer (whose map is the bench's orthophoto) over the bench's frames."""
    for moment in bench.frames:
        if isinstance(localizer.depth, TrueDepth):
            localizer.depth.set(moment)
        started = time.perf_counter()
        estimate = localizer.locate(moment.frames, moment.prior)
        seconds = time.perf_counter() - started
        prior_m = math.hypot(moment.prior.east_m - moment.truth.east_m, moment.prior.north_m - moment.truth.north_m)
        error = frame_error(estimate, moment.truth, prior_m, seconds)
        if on_frame is not None:
            on_frame(moment, estimate, error)
        yield error
