"""Virtual pinhole views: whatever the camera is, the networks always see a 320×192 pinhole image of known rays.

One remap does undistortion, rectification and resizing together. A pinhole camera becomes one view with the same axis
and about the same field of view; a fisheye or a panorama becomes several views side by side, in level directions where
the camera is tilted: its middle row does not run along the road.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera

VIEW_WIDTH_PX = 320
VIEW_HEIGHT_PX = 192
WIDEST_VIEW_RAD = math.radians(100.0)
"""A pinhole image much wider than this wastes its pixels on the rim."""
UPRIGHT = (0.0, 1.0, 0.0)
TILT_TO_LEVEL_RAD = math.radians(5.0)
"""A wide camera tilted by less is taken as level: the networks know views tilted like that."""
ROAD_DEPRESSIONS_RAD = tuple(math.radians(angle) for angle in (4.0, 8.0, 16.0))
"""Where the road within reach lies below the horizon, for cameras of vehicles."""


@dataclass(frozen=True)
class View:
    """A virtual pinhole camera inside a real one; pixel centres at + 0.5, principal point in the middle."""

    focal_px: float
    yaw_rad: float = 0.0
    """Turn about `down`: positive looks to the right."""
    down: tuple[float, float, float] = UPRIGHT
    """Unit; the view's own y axis in the real camera. The view of yaw 0 looks along the camera's axis made level."""
    width: int = VIEW_WIDTH_PX
    height: int = VIEW_HEIGHT_PX

    @property
    def R_camera_view(self) -> NDArray[np.float64]:
        """(3, 3) rotation taking view coordinates to camera coordinates (both optical)."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        return turn if self.down == UPRIGHT else _levelled(self.down) @ turn

    def rays(self, stride_rows: int = 1, stride_columns: int = 1) -> NDArray[np.float64]:
        """(H/sr, W/sc, 3) rays with z = 1 in the view frame, through the centres of cells of the given strides."""
        rows = (np.arange(self.height // stride_rows) + 0.5) * stride_rows
        columns = (np.arange(self.width // stride_columns) + 0.5) * stride_columns
        v, u = np.meshgrid(rows, columns, indexing="ij")
        return np.stack(
            [(u - self.width / 2) / self.focal_px, (v - self.height / 2) / self.focal_px, np.ones_like(u)], axis=-1
        )

    def sample(self, image: NDArray[np.uint8], camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Resample a camera image (H, W, 3) into this view.

        Returns the view's image (height, width, 3) and which of its pixels the camera really saw.
        """
        levels, valid, _ = _sampling(self, camera)
        sampled = np.zeros((self.height, self.width, *image.shape[2:]), np.uint8)
        for level in levels:
            source = image
            if level.reduction > 1:  # area average first: a plain bilinear sample would alias lane markings away
                size = (round(image.shape[1] / level.reduction), round(image.shape[0] / level.reduction))
                source = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            part = cv2.remap(source, level.map_x, level.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            if len(levels) == 1:
                return part, valid  # type: ignore[return-value]
            sampled[level.where] = part[level.where]
        return sampled, valid

    def sample_mask(self, mask: NDArray[np.bool_], camera: Camera) -> NDArray[np.bool_]:
        """A mask (h, w) of the whole camera image, at any size, in this view (height, width); False unseen."""
        _, valid, pixels = _sampling(self, camera)
        return valid & mask_at(mask, camera, pixels)

    def camera_pixels(self, pixels: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
        """View pixels (..., 2) → pixels of the real camera (..., 2)."""
        rays = np.concatenate(
            [(pixels - [self.width / 2, self.height / 2]) / self.focal_px, np.ones_like(pixels[..., :1])], axis=-1
        )
        return camera.project(rays @ self.R_camera_view.T)[0]


def mask_at(mask: NDArray[np.bool_], camera: Camera, pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A mask (h, w) of the whole camera image, at any size, at pixels (..., 2); outside, that of the rim."""
    height, width = mask.shape
    column = np.clip((pixels[..., 0] * (width / camera.width)).astype(np.int64), 0, width - 1)
    row = np.clip((pixels[..., 1] * (height / camera.height)).astype(np.int64), 0, height - 1)
    return mask[row, column]


def plan_views(camera: Camera, T_base_camera: ArrayLike | None = None) -> tuple[View, ...]:
    """The views that cover a camera's horizontal field of view, from left to right.

    With the pose (4, 4) of the optical frame in `base_link`, those of a wide camera that is tilted look level.
    """
    left_rad, right_rad = horizontal_field_rad(camera)
    if right_rad - left_rad > WIDEST_VIEW_RAD and T_base_camera is not None:
        down = _down_of(np.asarray(T_base_camera, dtype=np.float64))
        field_rad = None if down == UPRIGHT else _road_field_rad(camera, down)
        if field_rad is not None:
            return _side_by_side(*field_rad, down)
    return _side_by_side(left_rad, right_rad, UPRIGHT)


def _side_by_side(left_rad: float, right_rad: float, down: tuple[float, float, float]) -> tuple[View, ...]:
    field_rad = right_rad - left_rad
    count = 1 if field_rad <= WIDEST_VIEW_RAD else math.ceil(field_rad / math.radians(90.0))
    each_rad = field_rad / count
    focal_px = VIEW_WIDTH_PX / 2 / math.tan(each_rad / 2)
    # A rounded turn keeps a camera whose axis is in the middle exactly in the middle.
    return tuple(View(focal_px, round(left_rad + (index + 0.5) * each_rad, 6), down) for index in range(count))


def _down_of(T_base_camera: NDArray[np.float64]) -> tuple[float, float, float]:
    """Down in the camera's frame; exactly its own y axis for a camera that is about level.

    Rounded, so that a mount that trembles a little, as one carried by odometry does, keeps its views.
    """
    down = -T_base_camera[2, :3]
    if math.acos(min(1.0, max(-1.0, float(down[1])))) < TILT_TO_LEVEL_RAD:
        return UPRIGHT
    down = np.round(down, 2)
    x, y, z = (float(value) for value in down / np.linalg.norm(down))
    return x, y, z


def _levelled(down: tuple[float, float, float]) -> NDArray[np.float64]:
    """(3, 3) rotation that takes a frame with y down, and z along the camera's axis made level, to the camera's."""
    y = np.array(down)
    x = np.cross(y, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _road_field_rad(camera: Camera, down: tuple[float, float, float]) -> tuple[float, float] | None:
    """Azimuths about `down`, without gap about 0, in which the camera sees the road; None where it sees none ahead.

    None too for a camera that looks straight up or down, which has no way that is ahead.
    """
    if abs(down[2]) > 0.95:
        return None
    azimuth, depression = np.meshgrid(np.radians(np.arange(-179.5, 180.0, 1.0)), ROAD_DEPRESSIONS_RAD)
    level, sink = np.cos(depression), np.sin(depression)
    directions = np.stack([level * np.sin(azimuth), sink, level * np.cos(azimuth)], axis=-1)
    seen: NDArray[np.bool_] = np.any(camera.project(directions @ _levelled(down).T)[1], axis=0)
    right, left = seen[180:], seen[:180][::-1]
    if not (right[0] and left[0]):
        return None
    reach = [180 if side.all() else int(np.argmin(side)) for side in (left, right)]
    return -math.radians(reach[0]), math.radians(reach[1])


def horizontal_field_rad(camera: Camera) -> tuple[float, float]:
    """Azimuths, positive to the right of the optical axis, of the outermost rays of the camera's middle row.

    Raises InputError when that row sees nothing.
    """
    middle = camera.height / 2
    edge = 1e-6 * camera.width  # a panorama's outer edges are the same ray: stay just inside
    rays, valid = camera.unproject(np.array([[edge, middle], [camera.width - edge, middle]]))
    if not valid.all():  # a fisheye whose corners see nothing: go inwards to the outermost ray that exists
        columns = np.stack([np.arange(camera.width) + 0.5, np.full(camera.width, middle)], axis=-1)
        rays, valid = camera.unproject(columns)
        if valid.sum() < 2:
            raise InputError("the middle row of the camera's image sees nothing by its calibration; calibrate it again")
        rays = rays[valid][[0, -1]]
    azimuths = np.arctan2(rays[:, 0], rays[:, 2])
    return float(azimuths[0]), float(azimuths[1])


@dataclass(frozen=True)
class _Level:
    """The image reduced by a whole number, where to sample it, and for which pixels (H, W) of the view."""

    reduction: int
    map_x: NDArray[np.float32]
    map_y: NDArray[np.float32]
    where: NDArray[np.bool_]


@lru_cache(maxsize=64)
def _sampling(view: View, camera: Camera) -> tuple[tuple[_Level, ...], NDArray[np.bool_], NDArray[np.float64]]:
    """The levels, which pixels of the view the camera sees, and where they are in its image (H, W, 2)."""
    rays = view.rays() @ view.R_camera_view.T
    pixels, seen = camera.project(rays)
    inside = (pixels[..., 0] >= 0) & (pixels[..., 0] <= camera.width) & (pixels[..., 1] >= 0)
    valid = seen & inside & (pixels[..., 1] <= camera.height)
    pixels = np.where(np.isfinite(pixels), pixels, -1e6)
    reduction = _reduction(pixels, camera)
    levels = []
    for step in np.unique(reduction[valid] if valid.any() else reduction):
        # sizes are rounded when an image does not divide evenly: scale by what the reduced image really measures
        scale_x = round(camera.width / step) / camera.width
        scale_y = round(camera.height / step) / camera.height
        map_x = (pixels[..., 0] * scale_x - 0.5).astype(np.float32)  # OpenCV counts pixel centres from integers
        map_y = (pixels[..., 1] * scale_y - 0.5).astype(np.float32)
        levels.append(_Level(int(step), map_x, map_y, reduction == step))
    return tuple(levels), valid, pixels


def _reduction(pixels: NDArray[np.float64], camera: Camera) -> NDArray[np.int64]:
    """(H, W) by how much the image is averaged before it is sampled at pixels (H, W, 2); the same for a pinhole.

    A view into a fisheye or panorama is up to twice as coarse in its middle, against the image, as at its sides.
    """
    if isinstance(camera, PinholeCamera):
        step = np.median(np.abs(np.diff(pixels[pixels.shape[0] // 2, :, 0])))
        return np.full(pixels.shape[:2], max(1, int(np.floor(step + 1e-6))))
    u = np.unwrap(np.unwrap(pixels[..., 0], period=camera.width), period=camera.width, axis=0)  # panoramas go around
    (u_row, u_column), (v_row, v_column) = np.gradient(u), np.gradient(pixels[..., 1])
    across = np.sqrt(np.abs(u_column * v_row - u_row * v_column))
    return np.asarray(np.clip(np.round(across), 1, 16), dtype=np.int64)
