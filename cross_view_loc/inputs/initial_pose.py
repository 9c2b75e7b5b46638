"""A pose that somebody gives: where a vehicle is in the map, and how far that can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.transforms import yaw_of
from cross_view_loc.inputs.poses import bare_frame, pose_of


@dataclass(frozen=True)
class GivenPose:
    """East, north in metres, yaw in radians from east, and standard deviations; 0 where the message tells none."""

    east_m: float
    north_m: float
    yaw_rad: float
    std_m: float
    std_rad: float


def read_initial_pose(message: Any, map_frame: str) -> GivenPose:
    """The pose of a geometry_msgs/PoseWithCovarianceStamped; InputError for another frame or numbers that are none."""
    frame = bare_frame(message.header.frame_id)
    if frame != map_frame:
        raise InputError(
            f"pose is given in frame '{frame}', but must be in map_frame ('{map_frame}'); set the fixed frame of RViz "
            "to that"
        )
    T_map_base = pose_of(message.pose.pose)
    covariance = np.asarray(message.pose.covariance, dtype=np.float64).reshape(6, 6)
    variances = np.where(np.isfinite(covariance.diagonal()), covariance.diagonal(), 0.0).clip(0.0)
    return GivenPose(
        float(T_map_base[0, 3]),
        float(T_map_base[1, 3]),
        yaw_of(T_map_base),
        math.sqrt(float(max(variances[0], variances[1]))),
        math.sqrt(float(variances[5])),
    )
