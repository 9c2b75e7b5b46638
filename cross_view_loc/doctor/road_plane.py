"""Camera height and tilt from the images alone: the road's parallax between two of them, metres from the odometry.

Between two moments the camera sees x2 ~ R·x1 + t·w, with w the inverse depth of x1. On the road, w = n·x1 / h with n
its normal (down) and h the camera's height. R and the direction of t are fitted to what is tracked in both images, the
length of t comes from odometry or GNSS; then every track gives w, and the road h. The direction of t against that of
the odometry says where the camera looks, and level is where the vehicle drives. (Planar parallax, e.g. Hartley and
Zisserman, Multiple View Geometry, section 13; the residual of the fit is Sampson's, section 11.4.)
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.doctor.two_views import height_above_road, refine_motion, roll_against_road
from cross_view_loc.geometry.cameras import Camera
from cross_view_loc.geometry.transforms import Matrix, inverse
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.types import Frame

Array = NDArray[np.float64]
Grey = NDArray[np.uint8]

LEAST_BASELINE_M, LARGEST_BASELINE_M = 0.6, 4.0
LARGEST_TURN_DEG = 6.0
FARTHEST_M = 15.0
MOST_ROUNDS = 3
FEWEST_TRACKS = 60
VIEW_SIZE = (640, 384)
WINDOW = {"winSize": (21, 21), "maxLevel": 3}


@dataclass(frozen=True)
class PairEstimate:
    """What one pair of images says of the camera's mount, against TF."""

    height_m: float | None
    """Of the camera above the road; None where too little of it can be tracked."""
    pitch_deg: float
    """How much lower than by TF the camera looks, against the direction of motion."""
    yaw_deg: float
    """How much further right than by TF it looks."""
    roll_deg: float | None = None
    """How much lower than by TF its right side is, against the road; None where too little of it can be tracked."""


@dataclass(frozen=True)
class _Pair:
    """Two pictures of one virtual pinhole, and the motion between them as it is believed to be."""

    first: Grey
    second: Grey
    focal_px: float
    R_base_view: Matrix
    R: Matrix
    """(3, 3) and `t` (3,): coordinates in the first view to those in the second, by TF and odometry."""
    t: Array
    down: Array
    """(3,) towards the road in the first view."""
    height_m: float
    """Of the camera above it."""
    roll_rad: float | None = None
    """As found: of the camera against `down`."""


def ahead_view(camera: Camera, R_base_camera: Matrix) -> View:
    """The virtual pinhole of the camera that looks ahead most."""
    views = plan_views(camera, R_base_camera)
    best = max(views, key=lambda view: (R_base_camera @ view.R_camera_view)[0, 2])
    return View(best.focal_px * VIEW_SIZE[0] / best.width, best.yaw_rad, best.down, *VIEW_SIZE)


def pair_estimate(pair: _Pair) -> PairEstimate | None:
    """None when the two pictures do not show the same things, or hardly anything.

    What is found is where the road is laid over next, until it stays: tracking has a little of its start in its end.
    """
    believed = pair.R_base_view @ (-pair.R.T @ pair.t)
    estimate: PairEstimate | None = None
    for _ in range(MOST_ROUNDS):
        found = _fitted(pair)
        if found is None:
            return estimate
        pair, is_road = found
        seen = pair.R_base_view @ (-pair.R.T @ pair.t)
        pitch, yaw = (float(a - b) for a, b in zip(_direction(seen), _direction(believed), strict=True))
        before = estimate.height_m if estimate is not None else None
        estimate = PairEstimate(
            pair.height_m if is_road else None,
            math.degrees(pitch),
            math.degrees(math.remainder(yaw, 2.0 * math.pi)),
            None if pair.roll_rad is None else math.degrees(pair.roll_rad),
        )
        if not is_road or (before is not None and abs(before - pair.height_m) < 0.01 * pair.height_m):
            break
    return estimate


def _direction(way: Array) -> tuple[float, float]:
    """Elevation and azimuth (rad) of (3,) in the base frame."""
    return math.atan2(way[2], math.hypot(way[0], way[1])), math.atan2(way[1], way[0])


def _fitted(pair: _Pair) -> tuple[_Pair, bool] | None:
    """The pair with the motion and the height that its tracks show, and whether they show a road."""
    on_road, elsewhere = _road_tracks(pair), _far_tracks(pair)
    first, second = (np.concatenate(each) for each in zip(on_road, elsewhere, strict=True))
    if len(first) < FEWEST_TRACKS:
        return None
    pixel = 1.0 / pair.focal_px
    R, t, agreeing = refine_motion(first, second, pair.R, pair.t, pixel)
    if agreeing.sum() < max(FEWEST_TRACKS, 0.4 * len(first)):
        return None
    # The vehicle moves along the road: its normal is TF's, turned so that the motion seen is level.
    ahead = R.T @ t / np.linalg.norm(t)
    down = pair.down - (pair.down @ ahead) * ahead
    down /= np.linalg.norm(down)
    near = np.flatnonzero(agreeing[: len(on_road[0])])
    height_m = height_above_road(first[near], second[near], R, t, down, pixel)
    roll_rad = roll_against_road(first[near], second[near], R, t, (-ahead, down), height_m or pair.height_m, pixel)
    pair = dataclasses.replace(pair, R=R, t=t, down=down, height_m=height_m or pair.height_m, roll_rad=roll_rad)
    return pair, height_m is not None


def _road_tracks(pair: _Pair) -> tuple[Array, Array]:
    """Rays of road points: the second picture is first laid over the first as TF's road would have it.

    What is left to track is then what TF has wrong, without the change of scale that defeats tracking near the camera.
    """
    width, height = VIEW_SIZE
    K = np.array([[pair.focal_px, 0, width / 2 - 0.5], [0, pair.focal_px, height / 2 - 0.5], [0, 0, 1.0]])
    H = K @ (pair.R + np.outer(pair.t, pair.down) / pair.height_m) @ np.linalg.inv(K)
    laid_over = cv2.warpPerspective(pair.second, H, VIEW_SIZE, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    rows, columns = np.mgrid[0:height, 0:width]
    rays = np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones((height, width))], axis=-1)
    # Below the horizon by a margin for tilt, near enough, and not what left the picture.
    near = (rays @ pair.down > 1.2 * pair.height_m / FARTHEST_M) & (
        cv2.warpPerspective(np.full_like(pair.second, 255), H, VIEW_SIZE, flags=cv2.WARP_INVERSE_MAP) > 0
    )
    start, end = _track(pair.first, laid_over, near, 600, 0.003)
    if not len(end):
        return _rays(start, K), _rays(end, K)
    return _rays(start, K), _rays(cv2.perspectiveTransform(end[None].astype(np.float64), H)[0], K)


def _far_tracks(pair: _Pair) -> tuple[Array, Array]:
    """Rays of points in the upper part, which hardly move but by the rotation."""
    width, height = VIEW_SIZE
    K = np.array([[pair.focal_px, 0, width / 2 - 0.5], [0, pair.focal_px, height / 2 - 0.5], [0, 0, 1.0]])
    upper = np.zeros((height, width), dtype=bool)
    upper[: round(0.6 * height)] = True
    start, end = _track(pair.first, pair.second, upper, 400, 0.01)
    return _rays(start, K), _rays(end, K)


def _track(
    first: Grey, second: NDArray[Any], where: NDArray[Any], count: int, quality: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (N, 2) of the same corners in both pictures, tracked there and back."""
    empty = np.zeros((0, 2), np.float32)
    corners = cv2.goodFeaturesToTrack(first, count, quality, 5, mask=where.astype(np.uint8) * 255)
    if corners is None:
        return empty, empty
    start = corners.reshape(-1, 2)
    end, status, _ = cv2.calcOpticalFlowPyrLK(first, second, start, None, **WINDOW)  # type: ignore[call-overload]
    back, status_back, _ = cv2.calcOpticalFlowPyrLK(second, first, end, None, **WINDOW)  # type: ignore[call-overload]
    good = (status.ravel() == 1) & (status_back.ravel() == 1) & (np.linalg.norm(back - start, axis=1) < 0.3)
    return start[good], end[good]


def _rays(pixels: NDArray[np.floating], K: Matrix) -> Array:
    """(N, 3) with z = 1."""
    pixels = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
    return np.column_stack([(pixels - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(pixels))])


@dataclass
class RoadWatcher:
    """Takes frames in order and keeps what each pair of them, far enough apart, says."""

    estimates: list[PairEstimate] = field(default_factory=list)
    pairs: int = 0
    _kept: tuple[int, Grey] | None = None

    @property
    def kept_stamp_ns(self) -> int | None:
        """Stamp of the frame that the next one is compared with."""
        return None if self._kept is None else self._kept[0]

    def add(self, frame: Frame, T_kept_now: Matrix | None) -> None:
        """Another frame, and how the base frame moved since the kept one (its pose (4, 4) then); None if unknown."""
        view = ahead_view(frame.camera, frame.T_base_camera[:3, :3])
        grey: Grey = cv2.cvtColor(view.sample(frame.image, frame.camera)[0], cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        kept, self._kept = self._kept, (frame.stamp_ns, grey)
        if kept is None or T_kept_now is None:
            return
        distance_m = float(np.linalg.norm(T_kept_now[:3, 3]))
        if distance_m < LEAST_BASELINE_M:
            self._kept = kept
            return
        turn_rad = float(np.linalg.norm(cv2.Rodrigues(T_kept_now[:3, :3])[0]))
        if distance_m > LARGEST_BASELINE_M or math.degrees(turn_rad) > LARGEST_TURN_DEG:
            return
        self.pairs += 1
        T_base_view = np.array(frame.T_base_camera, dtype=np.float64)
        T_base_view[:3, :3] = T_base_view[:3, :3] @ view.R_camera_view
        T_now_kept = inverse(T_base_view) @ inverse(T_kept_now) @ T_base_view
        height_m = max(float(T_base_view[2, 3] - frame.ground_z_m), 0.3)
        pair = _Pair(
            kept[1],
            grey,
            view.focal_px,
            T_base_view[:3, :3],
            T_now_kept[:3, :3],
            T_now_kept[:3, 3],
            -T_base_view[2, :3],
            height_m,
        )
        found = pair_estimate(pair)
        if found is not None:
            self.estimates.append(found)
