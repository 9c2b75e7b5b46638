"""What lens, shutter, windscreen and encoder do to a picture that was rendered through a perfect pinhole.

The picture is rendered wider than the sensor, then every pixel of the sensor is looked up in it once: through the
lens (exact, by the camera model that CameraInfo publishes) and through the camera's motion during readout. After that
come dirt and drops on the glass, vignetting and JPEG.

Rolling shutter is a warp by depth and motion: a row read `t` seconds from the middle of the readout sees the scene
from the pose at `t`; the pixel's ray is moved there and found in the picture of the middle by fixed-point iteration on
its depth. On surfaces seen by both poses that is exact to the depth picture's resolution; along occlusion edges, where
a row sees what the middle does not, the nearest visible surface is repeated over |velocity × t| × focal / depth pixels,
0.15 m ⋅ 400 px / 10 m = 6 px at the very top and bottom rows at worst. What moves in the scene is not sheared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.cameras import PinholeCamera

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_MARGIN_PX = 4
_FAR_M = 1.0e4
_ITERATIONS = 4
_EDGE_RATIO = 1.25
"""Pixels a row apart whose depths differ by more may belong to two surfaces."""


@dataclass(frozen=True)
class CameraEffects:
    """One camera on one drive. The defaults are a perfect camera; `random` draws a real one."""

    seed: int = 0
    """Places the dirt."""
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """plumb_bob: k1, k2, p1, p2, k3."""
    readout_s: float = 0.0
    """From the first row to the last; 0 is a global shutter."""
    jpeg_quality: int | None = None
    """1 to 100; None leaves the picture as it is."""
    smudges: int = 0
    """Patches of dirt that veil the picture."""
    drops: int = 0
    """Water drops, through which everything is blurred."""
    vignette: float = 0.0
    """Light lost in the corners, on top of the Appearance's."""

    @staticmethod
    def random(seed: int, wet: bool = False) -> CameraEffects:
        """A camera as vehicles carry them; `wet` puts drops on its glass."""
        rng = np.random.default_rng([seed, 8])
        k1 = rng.uniform(-0.14, 0.02)
        return CameraEffects(
            seed=seed,
            distortion=(
                float(k1),
                float(-0.25 * k1 * rng.uniform(0.0, 1.0)),
                float(rng.normal(0.0, 5e-4)),
                float(rng.normal(0.0, 5e-4)),
                0.0,
            ),
            readout_s=float(rng.uniform(0.008, 0.033)),
            jpeg_quality=int(rng.integers(35, 90)),
            smudges=int(rng.integers(0, 7)),
            drops=int(rng.integers(4, 16)) if wet else 0,
            vignette=float(rng.uniform(0.0, 0.25)),
        )


@dataclass(frozen=True)
class CameraMotion:
    """Motion of the camera while it exposes, in its own optical frame at the middle of the readout."""

    velocity_mps: Array
    """(3,)."""
    turn_rate_rad_s: Array
    """(3,) rotation vector per second."""


class Imaging:
    """A pinhole camera of one size with its effects: what to render for it, and what it makes of that."""

    def __init__(self, effects: CameraEffects, width: int, height: int, focal_px: float) -> None:
        self.effects = effects
        self.focal_px = focal_px
        has_lens = any(effects.distortion)
        self.camera = PinholeCamera(
            width,
            height,
            focal_px,
            focal_px,
            width / 2,
            height / 2,
            effects.distortion if has_lens else (),
        )
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays, _ = self.camera.unproject(np.stack([columns, rows], axis=-1))
        self._rays = (rays / rays[..., 2:]).astype(np.float32)
        """(H, W, 3) with z = 1."""
        reach = np.abs(self._rays[..., :2]).reshape(-1, 2).max(axis=0) * focal_px
        # Rows read early or late look a little beyond the picture of the middle.
        spare = _MARGIN_PX + (0.04 * height if effects.readout_s else 0.0)
        self.render_width, self.render_height = (2 * int(np.ceil(r + spare)) for r in reach)
        """Size of the pinhole picture to render, with the same focal length, pixels."""
        self._veil, self._veil_colour, self._blurred = _glass(effects, width, height)
        corner = (self._rays[..., 0] ** 2 + self._rays[..., 1] ** 2) / float(
            (self._rays[..., 0] ** 2 + self._rays[..., 1] ** 2).max()
        )
        self._falloff = (1.0 - effects.vignette * corner).astype(np.float32)[..., None]

    def develop(
        self, image: Image, depth_m: NDArray[np.float32], motion: CameraMotion
    ) -> tuple[Image, NDArray[np.float32]]:
        """The rendered picture (render_height, render_width) and its z-depth -> the camera's picture and depth.

        Depth is z in the optical frame at the moment the pixel's row was read.
        """
        columns, rows, depth = self._sources(depth_m, motion)
        taken = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        taken = self._through_glass(taken) * self._falloff
        result = np.clip(taken + 0.5, 0.0, 255.0).astype(np.uint8)
        return _jpeg(result, self.effects.jpeg_quality), depth

    def _sources(
        self, depth_m: NDArray[np.float32], motion: CameraMotion
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel is found in the rendered picture (OpenCV's columns and rows), and its depth."""
        rays, f = self._rays, np.float32(self.focal_px)
        centre_x, centre_y = depth_m.shape[1] / 2 - 0.5, depth_m.shape[0] / 2 - 0.5
        found = _depth_lookup(depth_m)
        height = rays.shape[0]
        if self.effects.readout_s == 0.0:
            columns, rows = f * rays[..., 0] + np.float32(centre_x), f * rays[..., 1] + np.float32(centre_y)
            return columns, rows, found(columns, rows)
        t = (((np.arange(height) + 0.5) / height - 0.5) * self.effects.readout_s).astype(np.float32)[:, None]
        wx, wy, wz = (np.float32(w) * t for w in motion.turn_rate_rad_s)
        vx, vy, vz = (np.float32(v) * t for v in motion.velocity_mps)
        rx, ry = rays[..., 0], rays[..., 1]
        # A turn during half a readout is a hundredth of a radian: first order is exact to 1e-4 rad.
        dx, dy, dz = rx + wy - wz * ry, ry + wz * rx - wx, 1.0 + wx * ry - wy * rx
        z = np.full(rx.shape, _FAR_M, dtype=np.float32)
        for _ in range(_ITERATIONS):
            ahead = np.maximum(z * dz + vz, 0.05)
            columns = f * (z * dx + vx) / ahead + np.float32(centre_x)
            rows = f * (z * dy + vy) / ahead + np.float32(centre_y)
            seen = found(columns, rows)
            z = np.where(seen > 0.0, (seen - vz) / dz, _FAR_M).astype(np.float32)
        return columns, rows, np.where(seen > 0.0, z, 0.0).astype(np.float32)

    def _through_glass(self, taken: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.effects.drops:
            height, width = taken.shape[:2]
            small = cv2.resize(taken, (max(2, width // 24), max(2, height // 24)), interpolation=cv2.INTER_AREA)
            # A drop is a strong lens: it shows a blurred picture of the whole surroundings, upside down.
            through = 0.5 * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
            through += 0.5 * cv2.resize(small[::-1], (width, height), interpolation=cv2.INTER_CUBIC)
            taken = taken + (through - taken) * self._blurred
        if self.effects.smudges:
            taken = taken + (self._veil_colour * float(taken.mean()) - taken) * self._veil
        return taken


def _depth_lookup(
    depth_m: NDArray[np.float32],
) -> Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]:
    """Depth of a picture between its pixels, at OpenCV's columns and rows.

    On a plane inverse depth is linear in the image, so it is interpolated where the surroundings are one surface (the
    nearest pixel alone is off by 2 % on a road 25 rows below the horizon); along edges and at the sky the nearest
    pixel stands.
    """
    inverse = np.where(depth_m > 0.0, 1.0 / np.maximum(depth_m, 1e-3), 0.0).astype(np.float32)
    around = np.ones((3, 3), dtype=np.uint8)
    one_surface = (cv2.dilate(inverse, around) < _EDGE_RATIO * cv2.erode(inverse, around)).astype(np.uint8)

    def found(columns: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        def sampled(picture: NDArray[np.float32] | NDArray[np.uint8], how: int) -> NDArray[np.float32]:
            taken = cv2.remap(picture, columns, rows, how, borderMode=cv2.BORDER_REPLICATE)
            return np.asarray(taken, dtype=np.float32)

        between = 1.0 / np.maximum(sampled(inverse, cv2.INTER_LINEAR), np.float32(1.0 / _FAR_M))
        nearest = sampled(depth_m, cv2.INTER_NEAREST)
        return np.where(sampled(one_surface, cv2.INTER_NEAREST) > 0, between, nearest)

    return found


def _glass(
    effects: CameraEffects, width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Opacity (H, W, 1) of the dirt, its colour relative to the mean light (3,), and (H, W, 1) share seen through
    drops; the same whatever the picture's size."""
    rng = np.random.default_rng([effects.seed, 9])
    veil, drops = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5) / width, (y + 0.5) / width
    aspect = height / width
    for _ in range(effects.smudges):
        u, v, size, stretch, opacity = rng.uniform([0.0, 0.0, 0.02, 0.5, 0.15], [1.0, 1.0, 0.1, 1.0, 0.6])
        angle = rng.uniform(0.0, np.pi)
        a = (x - u) * np.cos(angle) + (y - v * aspect) * np.sin(angle)
        b = (y - v * aspect) * np.cos(angle) - (x - u) * np.sin(angle)
        blob = opacity * np.exp(-0.5 * ((a / size) ** 2 + (b / (size * stretch)) ** 2))
        veil = np.maximum(veil, blob.astype(np.float32))
    colour = rng.uniform([0.35, 0.33, 0.3], [0.9, 0.85, 0.8]).astype(np.float32)
    for _ in range(effects.drops):
        u, v, size = rng.uniform([0.0, 0.0, 0.008], [1.0, 1.0, 0.035])
        distance = np.hypot(x - u, (y - v * aspect) * 0.8) / size
        drops = np.maximum(drops, np.clip((1.3 - distance) / 0.6, 0.0, 1.0).astype(np.float32))
    return veil[..., None], colour, 0.85 * drops[..., None]


def _jpeg(image: Image, quality: int | None) -> Image:
    if quality is None:
        return image
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1])
