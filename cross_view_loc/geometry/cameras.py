"""Camera models: pixel ⇄ ray in the optical frame (x right, y down, z forward).

Pixel coordinates are (column u, row v) with the centre of pixel (i, j) at (i + 0.5, j + 0.5): the image spans
[0, width] × [0, height]. CameraInfo and OpenCV count pixel centres as integers; `from_camera_info` adds the half.

Every camera has
    project(points (..., 3)) -> pixels (..., 2), valid (...,)     valid: the point is seen inside the image
    unproject(pixels (..., 2)) -> rays (..., 3) unit, valid (...,) valid: the lens model has one ray for the pixel
Entries that are not valid hold finite numbers without meaning.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.distortion import BrownDistortion, EquidistantDistortion

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BROWN_COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 12}


class Camera(Hashable, Protocol):
    """What the localizer asks of a camera; see the module's docstring for shapes and frames."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def project(self, points: ArrayLike) -> tuple[Array, Mask]: ...

    def unproject(self, pixels: ArrayLike) -> tuple[Array, Mask]: ...


@dataclass(frozen=True)
class PinholeCamera:
    """Pinhole with Brown–Conrady distortion in OpenCV's order (k1, k2, p1, p2, k3[, k4, k5, k6[, s1..s4]])."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: str = "plumb_bob"

    def __post_init__(self) -> None:
        _check_size(self.width, self.height)
        _check_focal(self.fx, self.fy, self.cx, self.cy)
        if self.model not in _BROWN_COEFFICIENTS:
            raise InputError(f'Pinhole model "{self.model}" is unknown; use plumb_bob or rational_polynomial.')
        object.__setattr__(
            self, "distortion", _coefficients(self.distortion, _BROWN_COEFFICIENTS[self.model], self.model)
        )

    @cached_property
    def _lens(self) -> BrownDistortion:
        return BrownDistortion(self.distortion)

    def project(self, points: ArrayLike) -> tuple[Array, Mask]:
        """Pixels of points in the optical frame; invalid behind the camera, outside the lens model or the image."""
        points = np.asarray(points, dtype=np.float64)
        z = points[..., 2]
        ahead = z > 1e-9 * np.linalg.norm(points, axis=-1)
        normalised = points[..., :2] / np.where(ahead, z, 1.0)[..., None]
        distorted, one_to_one = self._lens.distort(np.where(ahead[..., None], normalised, 0.0))
        pixels = distorted * (self.fx, self.fy) + (self.cx, self.cy)
        return pixels, ahead & one_to_one & _inside(pixels, self.width, self.height)

    def unproject(self, pixels: ArrayLike) -> tuple[Array, Mask]:
        """Unit rays of pixels; invalid where the lens model folds back."""
        distorted = (np.asarray(pixels, dtype=np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        normalised, valid = self._lens.undistort(distorted)
        rays = np.concatenate([normalised, np.ones_like(normalised[..., :1])], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True), valid


@dataclass(frozen=True)
class FisheyeCamera:
    """Equidistant (Kannala–Brandt) fisheye with up to four coefficients; sees behind itself where the image does."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.width, self.height)
        _check_focal(self.fx, self.fy, self.cx, self.cy)
        object.__setattr__(self, "distortion", _coefficients(self.distortion, 4, "equidistant"))

    @cached_property
    def _lens(self) -> EquidistantDistortion:
        return EquidistantDistortion(self.distortion)

    def project(self, points: ArrayLike) -> tuple[Array, Mask]:
        """Pixels of points in the optical frame; invalid outside the lens model or the image."""
        points = np.asarray(points, dtype=np.float64)
        sideways = np.hypot(points[..., 0], points[..., 1])
        theta_d, valid = self._lens.distort(np.arctan2(sideways, points[..., 2]))
        # Straight behind, the circle of directions is one point: no pixel is right. The origin has no direction.
        valid = valid & ((sideways > 0.0) | (points[..., 2] > 0.0))
        # On the axis the ratio's limit is irrelevant, as it multiplies zero.
        ratio = np.divide(theta_d, sideways, where=sideways > 0.0, out=np.zeros_like(sideways))
        pixels = points[..., :2] * ratio[..., None] * (self.fx, self.fy) + (self.cx, self.cy)
        return pixels, valid & _inside(pixels, self.width, self.height)

    def unproject(self, pixels: ArrayLike) -> tuple[Array, Mask]:
        """Unit rays of pixels; invalid outside the circle the lens model reaches."""
        distorted = (np.asarray(pixels, dtype=np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        theta_d = np.hypot(distorted[..., 0], distorted[..., 1])
        theta, valid = self._lens.undistort(theta_d)
        ratio = np.divide(np.sin(theta), theta_d, where=theta_d > 0.0, out=np.zeros_like(theta_d))
        return np.concatenate([distorted * ratio[..., None], np.cos(theta)[..., None]], axis=-1), valid


@dataclass(frozen=True)
class EquirectangularCamera:
    """Full sphere, 2:1; the centre column looks along +z, columns to the right turn to +x, row 0 is up."""

    width: int
    height: int

    def __post_init__(self) -> None:
        _check_size(self.width, self.height)
        if self.width != 2 * self.height:
            raise InputError(
                f"Equirectangular image of {self.width}x{self.height} px is not 2:1; resize it, or use the strip"
                " camera when top and bottom are cut off."
            )

    def project(self, points: ArrayLike) -> tuple[Array, Mask]:
        """Pixels of points in the optical frame; invalid only at the camera's own position."""
        return _project_panorama(points, self.width, self.height, self.height / 2.0)

    def unproject(self, pixels: ArrayLike) -> tuple[Array, Mask]:
        """Unit rays of pixels; columns wrap, rows outside the image are invalid."""
        return _unproject_panorama(pixels, self.width, self.height / 2.0)


@dataclass(frozen=True)
class StripCamera:
    """360° panorama cut at top and bottom: degrees per row equal degrees per column; `horizon_row` is level."""

    width: int
    height: int
    horizon_row: float

    def __post_init__(self) -> None:
        _check_size(self.width, self.height)
        if not np.isfinite(self.horizon_row):
            raise InputError(f"horizon_row {self.horizon_row} of the strip camera is not a number; give the level row.")

    def project(self, points: ArrayLike) -> tuple[Array, Mask]:
        """Pixels of points in the optical frame; invalid above and below the strip."""
        return _project_panorama(points, self.width, self.height, self.horizon_row)

    def unproject(self, pixels: ArrayLike) -> tuple[Array, Mask]:
        """Unit rays of pixels; columns wrap, rows beyond the poles are invalid."""
        return _unproject_panorama(pixels, self.width, self.horizon_row)


def from_camera_info(info: Any, rectified: bool = False) -> Camera:
    """Camera of a sensor_msgs/CameraInfo (rclpy, rosbags or ROS 1 field names), at the size its images have.

    Binning and region of interest are applied. `rectified`: its images have been undistorted, so that they follow the
    first three columns of P (of K, where nobody filled in P) without distortion. Raises InputError for a zero or broken
    K, a wrong number of distortion coefficients, a missing size or an unknown distortion model, naming the frame.
    """
    frame = getattr(getattr(info, "header", None), "frame_id", "") or "(no frame_id)"
    where = f"CameraInfo of frame {frame}"
    model = str(info.distortion_model).strip().lower()
    x_offset, y_offset, full_width, full_height = _region(info)
    x_binning, y_binning = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    width, height = full_width // x_binning, full_height // y_binning
    if width < 1 or height < 1:
        raise InputError(f"{where} has image size {width}x{height}; fill in width and height or calibrate the camera.")
    if model == "equirectangular":
        if full_width != int(info.width) or x_binning != y_binning:
            raise InputError(
                f"{where} is of a panorama that lacks columns or is binned unevenly; send all columns, binned like rows"
            )
        if full_height == int(info.height) or 2 * int(info.height) != full_width:
            return EquirectangularCamera(width, height)
        return StripCamera(width, height, (full_width / 4 - y_offset) / y_binning)

    K = np.array(_field(info, "k"), dtype=np.float64).ravel()
    coefficients = tuple(float(c) for c in _field(info, "d"))
    if rectified:
        P = np.array(_field(info, "p"), dtype=np.float64).ravel()
        K = P.reshape(3, 4)[:, :3].ravel() if P.size == 12 and np.any(P) else K
        coefficients, model = (), ""
    if K.size != 9 or not np.all(np.isfinite(K)):
        raise InputError(f"{where} has a camera matrix K that is not 9 finite numbers; calibrate the camera again.")
    if not np.any(K[:6]):
        raise InputError(f"{where} has a zero camera matrix K; calibrate the camera or give a calibration file.")
    if abs(K[1]) > 1e-6 * abs(K[0]):
        raise InputError(f"{where} has a skewed camera matrix K, which is not supported; calibrate without skew.")
    # The + 0.5 turns integer pixel centres into ours before cropping and binning, which act on pixel edges.
    intrinsics = (
        K[0] / x_binning,
        K[4] / y_binning,
        (K[2] + 0.5 - x_offset) / x_binning,
        (K[5] + 0.5 - y_offset) / y_binning,
    )
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    try:
        if model in _BROWN_COEFFICIENTS:
            return PinholeCamera(width, height, fx, fy, cx, cy, coefficients, model)
        if model in ("equidistant", "fisheye"):
            return FisheyeCamera(width, height, fx, fy, cx, cy, coefficients)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if model == "" and not any(coefficients):
        return PinholeCamera(width, height, fx, fy, cx, cy)
    raise InputError(
        f'{where} has the unknown distortion model "{info.distortion_model}"; use plumb_bob, rational_polynomial,'
        " equidistant or equirectangular."
    )


def _field(info: Any, name: str) -> Any:
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())


def _region(info: Any) -> tuple[int, int, int, int]:
    """x and y offset, width and height of the part of the full image that is sent; zeros mean all of it."""
    roi = info.roi
    if int(roi.width) == 0 or int(roi.height) == 0:
        return 0, 0, int(info.width), int(info.height)
    return int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"Camera image size {width}x{height} is empty; give the width and height of its images.")


def _check_focal(fx: float, fy: float, cx: float, cy: float) -> None:
    if not np.all(np.isfinite((fx, fy, cx, cy))) or fx <= 0.0 or fy <= 0.0:
        raise InputError(f"Focal lengths {fx}, {fy} px must be positive and finite; calibrate the camera.")


def _coefficients(values: tuple[float, ...], allowed: int, model: str) -> tuple[float, ...]:
    coefficients = tuple(float(value) for value in values)
    if not np.all(np.isfinite(coefficients)):
        raise InputError(f"Distortion {coefficients} holds numbers that are not finite; calibrate the camera again.")
    # Drivers pad with zeros up to 14; only coefficients that do something are refused.
    if any(coefficients[allowed:]):
        raise InputError(
            f"{model} takes at most {allowed} distortion coefficients, not {len(coefficients)}; check distortion_model."
        )
    return coefficients[:allowed]


def _inside(pixels: Array, width: int, height: int) -> Mask:
    u, v = pixels[..., 0], pixels[..., 1]
    return (u >= 0.0) & (u <= width) & (v >= 0.0) & (v <= height)


def _project_panorama(points: ArrayLike, width: int, height: int, horizon_row: float) -> tuple[Array, Mask]:
    points = np.asarray(points, dtype=np.float64)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    px_per_rad = width / (2.0 * np.pi)
    u = width / 2.0 + np.arctan2(x, z) * px_per_rad
    v = horizon_row + np.arctan2(y, np.hypot(x, z)) * px_per_rad
    pixels = np.stack([u, v], axis=-1)
    return pixels, np.any(points != 0.0, axis=-1) & _inside(pixels, width, height)


def _unproject_panorama(pixels: ArrayLike, width: int, horizon_row: float) -> tuple[Array, Mask]:
    pixels = np.asarray(pixels, dtype=np.float64)
    rad_per_px = 2.0 * np.pi / width
    azimuth = (pixels[..., 0] - width / 2.0) * rad_per_px
    depression = (pixels[..., 1] - horizon_row) * rad_per_px
    valid = np.abs(depression) <= np.pi / 2.0 + 1e-12
    level = np.cos(depression)
    return np.stack([level * np.sin(azimuth), np.sin(depression), level * np.cos(azimuth)], axis=-1), valid
