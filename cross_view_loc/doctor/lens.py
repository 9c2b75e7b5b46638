"""Whether the lens that CameraInfo describes is that of the images: undistorted ones, round ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.doctor.survey import ImageFacts
from cross_view_loc.geometry.cameras import Camera, PinholeCamera
from cross_view_loc.inputs.lens_check import straight_field_deg
from cross_view_loc.settings.cameras import is_rectified_name

CALIBRATION = Group("camera calibration")


def rectified_findings(info: Any, camera: Camera, image_topic: str, rectified: bool) -> list[Finding]:
    """An image that was undistorted must not be undistorted again, and follows P."""
    if rectified:
        P = np.asarray(getattr(info, "p", getattr(info, "P", ())), dtype=np.float64)
        if np.any(P) or not any(info.d if hasattr(info, "d") else info.D):
            return []
        return [
            CALIBRATION.warn(
                "camera_info.rectified",
                f"{image_topic} is taken as rectified, but its CameraInfo has no P, so K is used, which rectification "
                "often changes.",
                "Send a CameraInfo with P, or set rectified to false if the images are not undistorted.",
                parameter="rectified",
            )
        ]
    if not is_rectified_name(image_topic) or not isinstance(camera, PinholeCamera) or not any(camera.distortion):
        return []
    plain = PinholeCamera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    edges = edge_pixels(camera.width, camera.height)
    rays, seen = camera.unproject(edges)
    straight, _ = plain.project(rays)
    moved = np.linalg.norm(straight - edges, axis=1)[seen]
    shift_px = float(moved.max()) if moved.size else 0.0
    if shift_px < 2.0:
        return []
    return [
        CALIBRATION.fail(
            "camera_info.rectified",
            f"{image_topic} is rectified by its name, but rectified is false and its CameraInfo has distortion that "
            f"moves pixels at the rim by {shift_px:.0f}: it would be undistorted twice.",
            "Set rectified to auto or true, or use the raw image topic.",
            parameter="rectified",
            data={"shift_px": round(shift_px, 1)},
        )
    ]


def circle_findings(camera: Camera, images: list[ImageFacts], topic: str) -> list[Finding]:
    """A fisheye's picture is round; a pinhole's calibration says nothing true about it."""
    count = sum(facts.has_black_corners for facts in images)
    if not isinstance(camera, PinholeCamera) or count * 2 <= len(images):
        return []
    model = camera.model if any(camera.distortion) else "a pinhole without distortion"
    return [
        CALIBRATION.warn(
            "camera_info.fisheye",
            f"Images are round, with black corners as a fisheye's, but CameraInfo on {topic} says {model}.",
            "Calibrate with the fisheye model (distortion_model equidistant), or use rectified images.",
        )
    ]


def wide_findings(camera: Camera, topic: str, rectified: bool) -> list[Finding]:
    """A raw lens that wide bends its picture; a calibration that says it does not is a fisheye's by another name."""
    field_deg = 0.0 if rectified else straight_field_deg(camera)
    if not field_deg:
        return []
    return [
        CALIBRATION.warn(
            "camera_info.wide",
            f"CameraInfo on {topic} says that raw images are {field_deg:.0f} deg wide with hardly any distortion, as "
            "hardly any lens is.",
            "Calibrate a fisheye with distortion_model equidistant, or set rectified to true if the images are "
            "undistorted.",
            parameter="rectified",
            data={"field_deg": round(field_deg, 1)},
        )
    ]


def edge_pixels(width: int, height: int) -> np.ndarray:
    """(N, 2) pixels along the rim."""
    u, v = np.linspace(1.0, width - 1.0, 9), np.linspace(1.0, height - 1.0, 9)
    sides = [(u, np.full(9, 1.0)), (u, np.full(9, height - 1.0)), (np.full(9, 1.0), v), (np.full(9, width - 1.0), v)]
    return np.concatenate([np.stack(side, axis=1) for side in sides])
