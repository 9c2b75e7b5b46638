"""Lifting: a pixel and its depth become a point of the bird's-eye plane of the gravity-aligned body frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame

NEAREST_M = 1.0
LOWEST_CAMERA_M = 0.2
FARTHEST_M = 40.0
"""Beyond this, a cell of a small image spans many metres of ground, and depth says little."""


@dataclass(frozen=True)
class ViewGeometry:
    """Where a view's rays point on the vehicle."""

    T_base_view: NDArray[np.float64]
    R_level_base: NDArray[np.float64]
    height_m: float
    """Of the camera above the ground plane of `base_link`."""

    @classmethod
    def of(cls, frame: Frame, view: View) -> ViewGeometry:
        """Compose the frame's extrinsics with the view's turn inside the camera.

        Raises InputError for a camera at or under the ground: its extrinsics or the ground's height must be wrong.
        """
        T_base_view = np.array(frame.T_base_camera, dtype=np.float64)
        T_base_view[:3, :3] = T_base_view[:3, :3] @ view.R_camera_view
        height_m = float(T_base_view[2, 3] - frame.ground_z_m)
        if height_m < LOWEST_CAMERA_M:
            raise InputError(
                f"{frame.name} is {height_m:.2f} m above the ground by its transform; set ground_height_in_base_m to "
                "where the ground is in the base frame (negative when that frame is above the ground)"
            )
        return cls(T_base_view, frame.R_level_base, height_m)

    def lift(self, rays: NDArray[np.float64], depth_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rays (..., 3) with z = 1 in the view and z-depths (...) → points (..., 3) in the level body frame."""
        points_base = (rays * depth_m[..., None]) @ self.T_base_view[:3, :3].T + self.T_base_view[:3, 3]
        return points_base @ self.R_level_base.T

    def elevation(self, rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sine of each ray's elevation above the ground plane of `base_link`, (...)."""
        directions = rays @ self.T_base_view[:3, :3].T
        return directions[..., 2] / np.linalg.norm(directions, axis=-1)

    def flat_inverse_depth(self, rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 / z-depth (1/m) at which each ray meets the ground plane of `base_link`; 0 on and above the horizon.

        The plane is that of the vehicle, not of gravity: on a slope the road tilts with the vehicle.
        """
        descent = -(rays @ self.T_base_view[:3, :3].T)[..., 2]
        return np.clip(descent, 0.0, None) / self.height_m


def lifted_inside(points_level: NDArray[np.float64], origin_level: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which lifted points (..., 3) are near enough to the camera to be used."""
    distance = np.linalg.norm(points_level[..., :2] - origin_level[:2], axis=-1)
    return (distance > NEAREST_M) & (distance < FARTHEST_M)
