"""Whether a calibration can be that of a raw wide lens: a pinhole that wide, hardly distorted, is a fisheye's renamed.

A raw picture of more than 100 degrees is bent inwards (barrel distortion) by nearly every lens there is: a calibration
that does not say so has its angles wrong at the rim, whether or not the picture has a fisheye's black corners.
"""

from __future__ import annotations

import math

import numpy as np

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera
from cross_view_loc.geometry.views import horizontal_field_rad

WIDEST_STRAIGHT_DEG = 100.0
LEAST_BARREL = 0.1
"""Share by which a raw lens that wide brings the ends of the middle row inwards; an equidistant one by a quarter."""


def straight_field_deg(camera: Camera) -> float:
    """Horizontal field of view of a pinhole too wide for how little distortion it has; 0 for any other camera."""
    if not isinstance(camera, PinholeCamera):
        return 0.0
    try:
        left_rad, right_rad = horizontal_field_rad(camera)
    except InputError:
        return 0.0
    field_deg = math.degrees(right_rad - left_rad)
    if field_deg <= WIDEST_STRAIGHT_DEG:
        return 0.0
    ends = np.array([[0.0, camera.height / 2], [camera.width, camera.height / 2]])
    bent = np.abs(ends[:, 0] - camera.cx) / camera.fx
    straight = np.abs(np.tan([left_rad, right_rad]))
    return field_deg if float(np.median(bent / np.maximum(straight, 1e-6))) > 1.0 - LEAST_BARREL else 0.0
