"""What travels between the rooms: a frame, a prior, an estimate. Frozen, plain, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cross_view_loc.geometry.cameras import Camera


@dataclass(frozen=True)
class Frame:
    """One camera image with its camera model, its stamp and where the camera sits on the vehicle."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    camera: Camera
    stamp_ns: int
    T_base_camera: NDArray[np.float64]
    """(4, 4) pose of the camera's optical frame (x right, y down, z forward) in `base_link`."""
    R_level_base: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    """(3, 3) rotation from `base_link` to the gravity-aligned body frame (roll and pitch removed, yaw kept)."""
    ground_z_m: float = 0.0
    """Height of the ground under the vehicle in the level body frame; 0 when `base_link` lies on the ground."""
    name: str = "camera"
    T_odom_base: NDArray[np.float64] | None = None
    """(4, 4) pose of `base_link` at the stamp in a frame that moves smoothly (odometry), which joins frames of several
    moments. None: nobody measures motion."""
    depth_m: NDArray[np.float32] | None = None
    """(h, w) measured z-depth along the optical axis (of a panorama: along the rays), registered to the image at any
    size; 0 where unknown, which may be most of it."""
    mask: NDArray[np.bool_] | None = None
    """(h, w) which parts of the whole image may be used, at any size; None: all of it."""


@dataclass(frozen=True)
class Prior:
    """Where to look for `base_link` in the map: a square about a position, and a range about a heading."""

    stamp_ns: int
    east_m: float
    north_m: float
    radius_m: float
    """Half the side of the searched square, which turns with `yaw_rad`; of many headings, its disc is searched."""
    yaw_rad: float = 0.0
    """Counter-clockwise from east."""
    yaw_range_rad: float = np.pi
    """Searched on both sides of `yaw_rad`; pi when the heading is unknown."""
    position_std_m: float | None = None
    """Standard deviation of the position along the worst direction; None when nobody says."""


@dataclass(frozen=True)
class Match:
    """One ground point and the aerial point it was matched with, for pictures and inspection."""

    pixel: tuple[float, float]
    """Column and row in the camera image (pixel centres at + 0.5)."""
    point_body: tuple[float, float]
    """x forward, y left, metres, in the level body frame."""
    point_map: tuple[float, float]
    """East, north, metres."""
    probability: float
    camera: str = "camera"


@dataclass(frozen=True)
class Estimate:
    """The pose of `base_link` in the map at the image's stamp, and how far it can be trusted."""

    stamp_ns: int
    east_m: float
    north_m: float
    yaw_rad: float
    covariance: NDArray[np.float64]
    """(3, 3) of east (m), north (m), yaw (rad)."""
    scale: float = 1.0
    """Factor from lifted to true metres (`p_map = scale · R(yaw) · p_body + t`)."""
    scale_std: float = 0.0
    """Its standard deviation: of all that is uncertain between the depth source's numbers and metres; 0 if unsaid."""
    confidence: float = 0.0
    """Posterior probability that the pose lies in the chosen mode, 0 to 1."""
    inlier_ratio: float = 0.0
    """Share of the matches' weight that agrees with the pose."""
    accepted: bool = False
    reason: str = ""
    """Why the estimate was refused; empty when accepted."""
    matches: tuple[Match, ...] = ()
