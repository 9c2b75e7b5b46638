"""A training manifest from a bag with ground truth: its images as files, and a row for each with camera and pose.

The images go through the live node's own assembler, so what is learned from is what will be localized.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.reader import FIX_TYPE, ODOMETRY_TYPE, Bag, BagTopics
from cross_view_loc.bags.runner import BagRunner, read_truth
from cross_view_loc.bags.truth import pose_of_exact_prior
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import Matrix, to_quaternion, yaw_of
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.camera_text import camera_text
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

JPEG_QUALITY = 95
T_map_base_of = Callable[[int, Prior], Matrix | None]


@dataclass
class ManifestMaker:
    """Takes each frame where an estimate would be made of it; keeps one every few metres."""

    map_path: Path
    origin: MapOrigin
    images: Path
    every_m: float
    pose_at: T_map_base_of
    rows: list[dict[str, Any]] = field(default_factory=list)
    without_truth: int = 0
    _last_m: NDArray[np.float64] | None = None

    def __call__(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        frame = frames[0]
        T_map_base = self.pose_at(frame.stamp_ns, prior)
        if T_map_base is None:
            self.without_truth += 1
        elif self._last_m is None or np.hypot(*(T_map_base[:2, 3] - self._last_m)) >= self.every_m:
            self._last_m = T_map_base[:2, 3]
            self.rows.append(self._row(frame, T_map_base))
        return Estimate(frame.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, np.eye(3))

    def _row(self, frame: Frame, T_map_base: Matrix) -> dict[str, Any]:
        path = self.images / f"{frame.stamp_ns}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        bgr = np.ascontiguousarray(frame.image[..., ::-1])
        if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(0, "the image cannot be written", str(path))
        T = np.array(frame.T_base_camera)
        T[2, 3] -= frame.ground_z_m  # a manifest's base_link lies on the ground
        R = frame.R_level_base
        return {
            "image": f"{self.images.name}/{path.name}",
            "camera": camera_text(frame.camera),
            "mount": " ".join(f"{value:.9g}" for value in (*T[:3, 3], *to_quaternion(T[:3, :3]))),
            "east_m": round(float(T_map_base[0, 3]), 4),
            "north_m": round(float(T_map_base[1, 3]), 4),
            "yaw_deg": round(math.degrees(yaw_of(T_map_base)), 5),
            "roll_deg": round(math.degrees(math.atan2(R[2, 1], R[2, 2])), 5),
            "pitch_deg": round(math.degrees(-math.asin(float(np.clip(R[2, 0], -1.0, 1.0)))), 5),
            "aerial": str(self.map_path.resolve()),
            "origin_latitude_deg": self.origin.latitude_deg,
            "origin_longitude_deg": self.origin.longitude_deg,
            "origin_height_m": self.origin.height_m,
        }


def manifest_rows(
    bag: Bag,
    topics: BagTopics,
    settings: Settings,
    origin: MapOrigin,
    map_path: Path,
    truth_topic: str,
    images: Path,
    every_m: float,
) -> tuple[list[dict[str, Any]], int]:
    """Manifest rows of a bag's images, written as JPEG to `images`, and how many images had no truth at their stamp.

    `truth_topic` holds Odometry in the map frame of `origin`, or NavSatFix (RTK); headings then come from the Imu or
    the course, as in the node. A manifest counts metres east and north, so Odometry in UTM is refused; a NavSatFix
    serves any projection. Raises MissingInputError when the topic is absent, InputError when it is of another type, in
    another frame than `map_frame`, in UTM, or no image has a pose.
    """
    topic = bag.topics.get(truth_topic)
    if topic is None or not topic.count:
        found = ", ".join(bag.of_type(ODOMETRY_TYPE, FIX_TYPE)) or "none"
        raise MissingInputError(f"{bag.path} has no messages on {truth_topic}; topics that could hold truth: {found}")
    if topic.type not in (ODOMETRY_TYPE, FIX_TYPE):
        raise InputError(f"{truth_topic} is {topic.type}; ground truth is Odometry in the map frame or a NavSatFix")
    if not every_m >= 0.0:
        raise InputError(f"--every-m is {every_m:g}; give metres between images, 0 for all of them")
    if topic.type == ODOMETRY_TYPE and settings.map_projection != "enu":
        raise InputError(
            f"{truth_topic} counts in map_projection {settings.map_projection}, but a manifest in metres east and "
            "north; give a NavSatFix as truth, or record with map_projection: enu"
        )
    projection = MapProjection(origin)
    settings = dataclasses.replace(settings, map_projection="enu")
    pose_at = pose_of_exact_prior
    if topic.type == FIX_TYPE:
        topics = dataclasses.replace(topics, fix=truth_topic)
        settings = dataclasses.replace(settings, fix_topic=truth_topic)
    else:
        truth, gap_ns = read_truth(bag, truth_topic, settings.map_frame), to_ns(settings.max_input_gap_s)

        def pose_at(stamp_ns: int, prior: Prior) -> Matrix | None:
            return truth.at(stamp_ns, gap_ns)

    maker = ManifestMaker(map_path, origin, images, every_m, pose_at)
    BagRunner(bag, topics, FrameAssembler(settings, projection), maker).run(bag.start_ns, bag.end_ns + 1)
    if not maker.rows:
        raise InputError(f"no image of {bag.path} has a pose on {truth_topic} at its stamp; check the stamps of both")
    return maker.rows, maker.without_truth
