"""The road's plane under the vehicle, fitted to lifted points: roll and pitch of the vehicle against it, and height.

Needs depth that does not itself come from believing the road flat under the vehicle. The plane is the road's, not
gravity's: what a slope tilts alike, vehicle and road, is not seen here, and need not be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.measured import MeasuredDepth
from cross_view_loc.depth.source import DepthSource, begin_frame, view_for
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.types import Frame

Array = NDArray[np.float64]
PRIOR_TILT_RAD, PRIOR_HEIGHT_M = math.radians(5.0), 0.5
"""Deviations of a vehicle against the road, before anything is seen."""
STARTS_RAD = tuple(math.radians(angle) for angle in (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0))
"""Slopes along and across that are tried first; the best of them is refined."""
STAGES = ((10.0, 0.4), (15.0, 0.3), (20.0, 0.25))
"""(reach, greatest distance from the plane) in metres: near points first, which a tilt moves least."""
ROUNDS = 6
MOST_ROUNDS, SETTLED_RAD = 8, math.radians(0.15)
USUAL_RANGE_M = 8.0
FEWEST_POINTS = 60
POINT_STD_M = 0.06
"""A depth wrong by a share moves a point off the road by that share of the camera's height, however far it is."""
INDEPENDENT_SHARE = 0.03
"""Points err together: so many of them count as if each erred on its own."""


@dataclass(frozen=True)
class RoadPlane:
    """z = height + slope_x · x + slope_y · y in `base_link`."""

    slope_x: float
    slope_y: float
    height_m: float
    covariance: Array
    """(3, 3) of the two slopes (rad, for they are small) and the height (m)."""

    @property
    def pitch_rad(self) -> float:
        """Of the vehicle against the road, nose down positive, as about y in REP-103."""
        return math.atan(self.slope_x * math.cos(self.roll_rad))

    @property
    def roll_rad(self) -> float:
        """Of the vehicle against the road, right side down positive."""
        return -math.atan(self.slope_y)

    @property
    def R_level_base(self) -> Array:
        """(3, 3) rotation that makes the road level and keeps the yaw."""
        up = np.array([-self.slope_x, -self.slope_y, 1.0])
        up /= np.linalg.norm(up)
        ahead = np.array([1.0, 0.0, 0.0]) - up[0] * up
        ahead /= np.linalg.norm(ahead)
        return np.stack([ahead, np.cross(up, ahead), up])

    @property
    def ground_z_m(self) -> float:
        """Height of the road in the levelled body frame."""
        return self.height_m / math.sqrt(1.0 + self.slope_x**2 + self.slope_y**2)


def fit_plane(origins_base: Array, offsets_base: Array, ground_z_m: float = 0.0) -> RoadPlane | None:
    """The plane that the points near `base_link` lie on: cameras' places (N, 3) and points as seen from them (N, 3).

    The best of a grid of slopes, then iteratively reweighted least squares, at first over near points; no randomness.
    What a depth is wrong by moves its point along the ray, forward as much as down, so that a plane through the points
    themselves would come out too flat: the logarithm of depth is compared with that of where the ray meets the plane.
    None when too few points agree on a plane.
    """
    if len(offsets_base) < FEWEST_POINTS:
        return None
    before = np.array([0.0, 0.0, ground_z_m])
    prior = np.diag([1 / PRIOR_TILT_RAD**2, 1 / PRIOR_TILT_RAD**2, 1 / PRIOR_HEIGHT_M**2])
    distance_m = np.linalg.norm(offsets_base, axis=1)
    points = origins_base + offsets_base
    plane = _best_start(_design(points), points[:, 2], _nearness(distance_m, STAGES[0][0]), ground_z_m)
    along = _design(offsets_base) * [1.0, 1.0, 0.0]
    information, agreeing = prior, 0
    for reach_m, arm_m in STAGES:
        for _ in range(ROUNDS):
            above = origins_base[:, 2] - _design(origins_base) @ plane
            fall = offsets_base[:, 0] * plane[0] + offsets_base[:, 1] * plane[1] - offsets_base[:, 2]
            meets = (fall > 1e-3) & (above > 1e-3)
            fall, above = np.where(meets, fall, 1.0), np.where(meets, above, 1.0)
            height_m = above.mean()
            over = height_m * np.log(above / fall)  # metres above the plane, nearly
            slope = -_design(origins_base) / above[:, None] - along / fall[:, None]
            kept = np.clip(1.0 - (over / arm_m) ** 2, 0.0, None) ** 2 * meets
            kept = kept * _nearness(distance_m * above / fall, reach_m)
            weight = kept * INDEPENDENT_SHARE / POINT_STD_M**2
            jacobian = slope * height_m
            information = prior + (jacobian * weight[:, None]).T @ jacobian
            gradient = prior @ (before - plane) - (jacobian * weight[:, None]).T @ over
            plane = plane + np.linalg.solve(information, gradient)
            agreeing = int((kept > 0).sum())
    if agreeing < FEWEST_POINTS:
        return None
    return RoadPlane(float(plane[0]), float(plane[1]), float(plane[2]), np.linalg.inv(information))


def _design(points: Array) -> Array:
    return np.column_stack([points[:, 0], points[:, 1], np.ones(len(points))])


def _nearness(distance_m: Array, reach_m: float) -> Array:
    """(N,) weights; beyond the reach 0."""
    return (distance_m < reach_m) / (1.0 + (distance_m / USUAL_RANGE_M) ** 2)


def _best_start(design: Array, z: Array, weight: Array, ground_z_m: float) -> Array:
    """(3,) of the grid's planes the one that most points lie near, the level one where none is better."""
    slopes = np.array([(along, across) for along in STARTS_RAD for across in STARTS_RAD])
    planes = np.column_stack([slopes, np.full(len(slopes), ground_z_m)])
    near = np.clip(1.0 - ((z[:, None] - design @ planes.T) / STAGES[0][1]) ** 2, 0.0, None) ** 2
    score = weight @ near - 0.02 * weight.sum() * ((slopes / PRIOR_TILT_RAD) ** 2).sum(1)
    return np.asarray(planes[int(score.argmax())])


def observe_road(frames: Sequence[Frame], depth: DepthSource) -> RoadPlane | None:
    """The road's plane from the depth of all frames' views together; None when they show too little of it."""
    origins, offsets = [], []
    for frame in frames:
        source = depth if frame.depth_m is None else MeasuredDepth.of(frame)
        begin_frame(source, frame)
        for view in plan_views(frame.camera, frame.T_base_camera):
            wanted = view_for(source, view)
            image, seen = wanted.sample(frame.image, frame.camera)
            if frame.mask is not None:
                seen = seen & wanted.sample_mask(frame.mask, frame.camera)
            geometry, rays = ViewGeometry.of(frame, view), view.rays(4, 8)
            z_m = source(image, wanted, geometry, rays).z_m
            rows, columns = wanted.height // rays.shape[0], wanted.width // rays.shape[1]
            usable = (z_m > 0) & seen[rows // 2 :: rows, columns // 2 :: columns]
            at = (rays * z_m[..., None])[usable]
            offsets.append(at @ geometry.T_base_view[:3, :3].T)
            origins.append(np.broadcast_to(geometry.T_base_view[:3, 3], at.shape))
    return fit_plane(np.concatenate(origins), np.concatenate(offsets), frames[0].ground_z_m)


def level_by_road(frames: Sequence[Frame], depth: DepthSource) -> list[Frame]:
    """The frames with the body frame on the road that their depth shows; as they are where it shows none.

    A source that is told where the ground is sees only part of what is wrong about it, and is told again.
    """
    levelled = list(frames)
    for _ in range(MOST_ROUNDS):
        plane = observe_road(levelled, depth)
        if plane is None:
            break
        turn = transform(plane.R_level_base, [0.0, 0.0, 0.0])
        levelled = [
            replace(
                frame,
                T_base_camera=turn @ frame.T_base_camera,
                R_level_base=np.eye(3),
                ground_z_m=plane.ground_z_m,
            )
            for frame in levelled
        ]
        if math.hypot(plane.slope_x, plane.slope_y) < SETTLED_RAD:
            break
    return levelled
