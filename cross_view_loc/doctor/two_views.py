"""What rays of the same points in two pictures say: the motion between them, the height over the road, its lean.

Numbers only; see `road_plane.py` for the formulas' sources.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.transforms import Matrix

Array = NDArray[np.float64]

FEWEST_ROAD_POINTS = 12
LOWEST_M, HIGHEST_M = 0.3, 8.0
LEAST_SURE_ROLL_RAD = math.radians(1.5)
LEAST_LEVERAGE_PX = 4.0
"""Points that a change of the height by its own size moves by less say nothing."""


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


def roll_against_road(
    first: Array, second: Array, R: Matrix, t: Array, axes: tuple[Array, Array], height_m: float, pixel: float
) -> float | None:
    """How far the road's normal leans to the camera's right (rad), for rays as in `height_above_road`, or None.

    `axes` are where the vehicle moves and where the road should be, unit vectors (3,) in the first camera. On a road
    that leans by δ, inverse depth is (x·down + tan δ · x·right) / height: a weighted fit of both slopes, with Cauchy
    weights so that kerbs and cars have little say. None when the road seen is too narrow to tell.
    """
    ahead, down = axes
    along = np.cross(second, t)
    length = np.linalg.norm(along, axis=1)
    inverse_depth = -(along * np.cross(second, first @ R.T)).sum(1) / np.maximum(length**2, 1e-12)
    slopes = np.column_stack([first @ down, first @ np.cross(down, ahead)])
    use = (slopes[:, 0] > 0.0) & (length * slopes[:, 0] > LEAST_LEVERAGE_PX * pixel)
    if use.sum() < FEWEST_ROAD_POINTS:
        return None
    length, inverse_depth, slopes = length[use] / pixel, inverse_depth[use], slopes[use]
    fitted = np.array([1.0 / height_m, 0.0])
    for scale_px in (6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 1.0, 1.0):
        residual_px = (inverse_depth - slopes @ fitted) * length
        weight = length**2 / (1.0 + (residual_px / scale_px) ** 2)
        information = (slopes * weight[:, None]).T @ slopes
        if np.linalg.cond(information) > 1e8:
            return None
        fitted = np.linalg.solve(information, (slopes * weight[:, None]).T @ inverse_depth)
    on_road = np.abs((inverse_depth - slopes @ fitted) * length) < 1.5
    std_rad = math.sqrt(float(np.linalg.inv((slopes[on_road] * length[on_road, None] ** 2).T @ slopes[on_road])[1, 1]))
    if on_road.sum() < FEWEST_ROAD_POINTS or fitted[0] <= 0.0 or std_rad / fitted[0] > LEAST_SURE_ROLL_RAD:
        return None
    return math.atan2(float(fitted[1]), float(fitted[0]))


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
