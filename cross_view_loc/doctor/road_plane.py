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
FEWEST_TRACKS, FEWEST_ROAD_POINTS = 60, 12
LOWEST_M, HIGHEST_M = 0.3, 8.0
LEAST_LEVERAGE_PX = 4.0
"""Points that a change of the height by its own size moves by less say nothing."""
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
    pair = dataclasses.replace(pair, R=R, t=t, down=down, height_m=height_m or pair.height_m)
    return pair, height_m is not None


def refine_motion(
    first: Array, second: Array, R: Matrix, t: Array, pixel: float
) -> tuple[Matrix, Array, NDArray[np.bool_]]:
    """R and t, of the length it came with, that fit the tracks best, and which tracks (N,) agree to a pixel or so.

    Rays (N, 3) have z = 1. Gauss–Newton on Sampson's distance with Cauchy weights.
    """
    length = float(np.linalg.norm(t))
    scale = 2.0
    for step in range(12):
        across = np.linalg.svd(t[None])[2][1:]  # two directions that turn t

        def moved(p: Array, R: Matrix = R, t: Array = t, across: Array = across) -> tuple[Matrix, Array]:
            turned = t + length * (p[3:] @ across)
            return cv2.Rodrigues(p[:3])[0] @ R, turned * (length / np.linalg.norm(turned))

        now = _sampson(first, second, R, t) / pixel
        scale = max(0.4, min(scale, 1.4826 * float(np.median(np.abs(now))) * 1.5))
        weight = 1.0 / (1.0 + (now / scale) ** 2)
        jacobian = np.stack(
            [(_sampson(first, second, *moved(1e-5 * unit)) / pixel - now) / 1e-5 for unit in np.eye(5)], axis=1
        )
        normal = (jacobian * weight[:, None]).T @ jacobian + 1e-6 * np.eye(5)
        change = -np.linalg.solve(normal, (jacobian * weight[:, None]).T @ now)
        R, t = moved(np.clip(change, -0.1, 0.1))
        if step > 3 and np.abs(change).max() < 1e-6:
            break
    return R, t, np.abs(_sampson(first, second, R, t)) < 1.5 * pixel


def _sampson(first: Array, second: Array, R: Matrix, t: Array) -> Array:
    """(N,) signed distances from the epipolar geometry, in the rays' units."""
    E = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ R / np.linalg.norm(t)
    lines, back = first @ E.T, second @ E
    scale = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    return np.asarray((second * lines).sum(1) / np.maximum(scale, 1e-12))


def height_above_road(first: Array, second: Array, R: Matrix, t: Array, down: Array, pixel: float) -> float | None:
    """Height (m) over the plane that most points lie on, for rays (N, 3) with z = 1 and x2 ~ R·x1 + t·w, or None.

    `down` is the road's unit normal in the first camera, `pixel` the size of a pixel in the rays' units.
    """
    along = np.cross(second, t)
    inverse_depth = -(along * np.cross(second, first @ R.T)).sum(1) / np.maximum((along**2).sum(1), 1e-12)
    drop = first @ down  # inverse depth is drop / height on the road
    # In the second image a change of the inverse height moves a point by this much.
    leverage = np.linalg.norm(along, axis=1) * drop
    ratio = inverse_depth / np.maximum(drop, 1e-6)
    use = (drop > 0.0) & (leverage > LEAST_LEVERAGE_PX * pixel) & (ratio > 1.0 / HIGHEST_M) & (ratio < 1.0 / LOWEST_M)
    if use.sum() < FEWEST_ROAD_POINTS:
        return None
    ratio, leverage = ratio[use], leverage[use]
    agreeing = np.abs(ratio[:, None] - ratio[None]) * leverage[:, None] < pixel
    best = agreeing[:, int(np.argmax(agreeing.sum(0)))]
    for _ in range(5):
        middle = float(np.average(ratio[best], weights=leverage[best] ** 2))
        best = np.abs(ratio - middle) * leverage < pixel
    if best.sum() < max(FEWEST_ROAD_POINTS, 0.4 * len(ratio)):
        return None
    return 1.0 / middle


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
