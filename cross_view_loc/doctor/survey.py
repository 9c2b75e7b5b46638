"""One pass over a bag: what the checks need of every input, in bounded memory, whatever the bag's length."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.reader import (
    CAMERA_INFO_TYPE,
    FIX_TYPE,
    IMAGE_TYPES,
    IMU_TYPE,
    ODOMETRY_TYPE,
    TF_TYPES,
    Bag,
    BagMessage,
    BagTopics,
)
from cross_view_loc.doctor.depths import DepthSurvey
from cross_view_loc.doctor.headers import Header, read_header
from cross_view_loc.doctor.stamps import StampRecord
from cross_view_loc.doctor.straight_lines import long_edges
from cross_view_loc.errors import InputError
from cross_view_loc.inputs.fixes import Fix, read_fix
from cross_view_loc.inputs.image_circle import has_black_corners
from cross_view_loc.inputs.images import decode
from cross_view_loc.inputs.imus import has_orientation
from cross_view_loc.inputs.poses import bare_frame
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.inputs.vehicle_transforms import VehicleTransforms

STAMPED_TYPES = (*IMAGE_TYPES, CAMERA_INFO_TYPE, FIX_TYPE, ODOMETRY_TYPE, IMU_TYPE)
IMAGES_DECODED, DEPTHS_EVERY = 8, 2
THINNED_S = 0.1
"""Fixes, odometry, attitudes and transforms are unpacked this often; their stamps are read from every message."""
ALL_TRANSFORMS = 2000
"""Messages of transforms at the beginning that are all unpacked: publishers take turns on /tf."""
_CAMERA_INFOS = 200


@dataclass(frozen=True)
class ImageFacts:
    """What one decoded image is like."""

    time_ns: int
    encoding: str
    width: int
    height: int
    black_share: float
    """Pixels darker than 12 of 255."""
    white_share: float
    """Pixels brighter than 250."""
    has_black_corners: bool
    """As a fisheye's round picture has."""
    sharpness: float
    """Variance of the Laplacian of the grey image at 640 columns."""
    thumbnail: NDArray[np.float32]
    """(16, 32) grey, to see whether images change."""
    edges: tuple[NDArray[np.float64], ...] = ()
    """Long edges, (N, 2) pixels each."""


@dataclass(frozen=True)
class FixStatus:
    """What a NavSatFix says about itself, valid or not."""

    status: int
    covariance_type: int
    is_covariance_zero: bool
    is_covariance_finite: bool


@dataclass
class Survey:
    """Everything kept of a bag."""

    stamps: dict[str, StampRecord] = field(default_factory=dict)
    """By topic, of the types used here."""
    images: dict[str, list[ImageFacts]] = field(default_factory=dict)
    """By topic, of evenly spread moments."""
    image_refusals: dict[str, Counter[str]] = field(default_factory=dict)
    """By topic, why images could not be decoded."""
    depth: DepthSurvey = field(default_factory=DepthSurvey)
    camera_infos: dict[str, list[Any]] = field(default_factory=dict)
    """By topic, the different ones; usually one."""
    fixes: list[Fix] = field(default_factory=list)
    fix_statuses: Counter[FixStatus] = field(default_factory=Counter)
    fix_refusals: Counter[str] = field(default_factory=Counter)
    odometry: list[Any] = field(default_factory=list)
    imu: list[Any] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)
    imu_without_orientation: int = 0
    transforms: VehicleTransforms = field(default_factory=VehicleTransforms)
    parents: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each frame was given each parent."""
    static_frames: set[str] = field(default_factory=set)
    """Frames whose pose came by /tf_static."""
    transform_refusals: Counter[str] = field(default_factory=Counter)
    undecodable: Counter[str] = field(default_factory=Counter)
    """Messages whose bytes do not follow their type, by topic."""
    broke_off: str = ""
    """Why the bag could not be read to its end."""

    def frames(self) -> set[str]:
        """All frames of TF."""
        return set(self.parents) | {parent for row in self.parents.values() for parent in row}


def survey(bag: Bag, topics: BagTopics, on_message: Callable[[int], object] = lambda time_ns: None) -> Survey:
    """Read the bag once; `on_message` hears of the progress."""
    return _Surveyor(bag, topics).run(on_message)


class _Surveyor:
    def __init__(self, bag: Bag, topics: BagTopics) -> None:
        self.bag, self.topics, self.found = bag, topics, Survey()
        self._last_kept: dict[str, int] = {}
        span_ns = max(bag.end_ns - bag.start_ns, 1)
        moments = [bag.start_ns + round(span_ns * (index + 0.5) / IMAGES_DECODED) for index in range(IMAGES_DECODED)]
        self._image_times = {camera.image_topic: list(moments) for camera in topics.cameras}
        self._image_times |= {each.depth_topic: moments[::DEPTHS_EVERY] for each in topics.cameras}
        with_depth = [camera for camera in topics.cameras if camera.depth_topic]
        self._paired = {name for each in with_depth for name in (each.image_topic, each.depth_topic)}
        self._takers: dict[str, Callable[[BagMessage, Header | None], None]] = {
            **{camera.image_topic: self._take_image for camera in topics.cameras},
            **{camera.camera_info_topic: self._take_camera_info for camera in topics.cameras},
            **{camera.depth_topic: self._take_depth for camera in topics.cameras},
            topics.fix: self._take_fix,
            topics.odometry: self._take_odometry,
            topics.imu: self._take_imu,
            topics.truth: self._take_truth,
            **dict.fromkeys((*topics.tf, *topics.tf_static), self._take_transforms),
        }
        self._takers.pop("", None)

    def run(self, on_message: Callable[[int], object]) -> Survey:
        wanted = self.bag.of_type(*STAMPED_TYPES, *TF_TYPES)
        try:
            for item in self.bag.serialized(wanted):
                on_message(item.time_ns)
                header = None
                if item.type in STAMPED_TYPES:
                    header = read_header(item.message, self.bag.is_ros1)
                    self.found.stamps.setdefault(item.topic, StampRecord()).add(header, item.time_ns)
                    if header is not None and item.topic in self._paired:
                        self.found.depth.note(item.topic, header.stamp_ns)
                taker = self._takers.get(item.topic)
                if taker is not None:
                    self._take(taker, item, header)
        except InputError as error:
            self.found.broke_off = str(error)
        self.found.broke_off = self.found.broke_off or self.bag.cut
        return self.found

    def _take(
        self, taker: Callable[[BagMessage, Header | None], None], item: BagMessage, header: Header | None
    ) -> None:
        try:
            taker(item, header)
        except (InputError, AttributeError, TypeError, ValueError, IndexError):
            # of a type's name but not of its fields: some recorders write such
            self.found.undecodable[item.topic] += 1

    def _is_due(self, item: BagMessage) -> bool:
        """Whether it is time to unpack another message of this topic."""
        last = self._last_kept.get(item.topic)
        if last is not None and 0 <= item.time_ns - last < to_ns(THINNED_S * 0.95):
            return False
        self._last_kept[item.topic] = item.time_ns
        return True

    def _is_wanted(self, item: BagMessage) -> bool:
        """Whether the message is the first at or after one of the topic's moments."""
        times = self._image_times[item.topic]
        if not times or item.time_ns < times[0]:
            return False
        while times and item.time_ns >= times[0]:
            times.pop(0)
        return True

    def _take_depth(self, item: BagMessage, header: Header | None) -> None:
        if self._is_wanted(item):
            self.found.depth.take(item.topic, self.bag.decoded(item))

    def _take_image(self, item: BagMessage, header: Header | None) -> None:
        if not self._is_wanted(item):
            return
        message = self.bag.decoded(item)
        try:
            facts = image_facts(decode(message), message, item.time_ns)
        except InputError as error:
            self.found.image_refusals.setdefault(item.topic, Counter())[str(error)] += 1
        else:
            self.found.images.setdefault(item.topic, []).append(facts)

    def _take_camera_info(self, item: BagMessage, header: Header | None) -> None:
        known = self.found.camera_infos.setdefault(item.topic, [])
        if len(known) >= _CAMERA_INFOS or (known and not self._is_due(item)):
            return
        info = self.bag.decoded(item)
        if not any(_calibration(info) == _calibration(other) for other in known):
            known.append(info)

    def _take_fix(self, item: BagMessage, header: Header | None) -> None:
        if not self._is_due(item):
            return
        message = self.bag.decoded(item)
        covariance = np.asarray(message.position_covariance, dtype=float)
        is_finite = bool(np.isfinite(covariance).all())
        self.found.fix_statuses[
            FixStatus(
                int(message.status.status),
                int(message.position_covariance_type),
                is_finite and not np.any(covariance),
                is_finite,
            )
        ] += 1
        try:
            self.found.fixes.append(read_fix(message))
        except InputError as error:
            self.found.fix_refusals[str(error)] += 1

    def _take_odometry(self, item: BagMessage, header: Header | None) -> None:
        if self._is_due(item):
            self.found.odometry.append(self.bag.decoded(item))

    def _take_truth(self, item: BagMessage, header: Header | None) -> None:
        if self._is_due(item):
            self.found.truth.append(self.bag.decoded(item))

    def _take_imu(self, item: BagMessage, header: Header | None) -> None:
        if self._is_due(item):
            message = self.bag.decoded(item)
            if has_orientation(message):
                self.found.imu.append(message)
            else:
                self.found.imu_without_orientation += 1

    def _take_transforms(self, item: BagMessage, header: Header | None) -> None:
        is_static = item.topic in self.topics.tf_static
        found = self.found
        if not is_static and found.parents and not self._is_early(item) and not self._is_due(item):
            return
        message = self.bag.decoded(item)
        for stamped in message.transforms:
            parent, child = bare_frame(stamped.header.frame_id), bare_frame(stamped.child_frame_id)
            found.parents.setdefault(child, Counter())[parent] += 1
            if is_static:
                found.static_frames.add(child)
        try:
            found.transforms.add(message, is_static)
        except InputError as error:
            found.transform_refusals[str(error)] += 1

    def _is_early(self, item: BagMessage) -> bool:
        key = f"{item.topic} early"
        self._last_kept[key] = self._last_kept.get(key, 0) + 1
        return self._last_kept[key] <= ALL_TRANSFORMS


def image_facts(image: NDArray[np.uint8], message: Any, time_ns: int) -> ImageFacts:
    """Measures of an (H, W, 3) RGB image of a message."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, 640.0 / grey.shape[1])
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1.0 else grey
    thumbnail = cv2.resize(grey, (32, 16), interpolation=cv2.INTER_AREA)
    return ImageFacts(
        time_ns=time_ns,
        encoding=str(getattr(message, "encoding", "") or getattr(message, "format", "")),
        width=image.shape[1],
        height=image.shape[0],
        black_share=float((grey < 12).mean()),
        white_share=float((grey > 250).mean()),
        has_black_corners=has_black_corners(image),
        sharpness=float(cv2.Laplacian(small, cv2.CV_64F).var()),
        thumbnail=np.asarray(thumbnail, dtype=np.float32),
        edges=tuple(long_edges(grey)),
    )


def _calibration(info: Any) -> tuple[Any, ...]:
    """What makes two CameraInfo the same, or not; ROS 1 spells the names in capitals."""
    values: list[Any] = [info.width, info.height, info.distortion_model, info.binning_x, info.binning_y]
    for name in ("k", "d"):
        values.append(tuple(float(v) for v in getattr(info, name if hasattr(info, name) else name.upper())))
    roi = info.roi
    with contextlib.suppress(AttributeError):
        values.append((roi.x_offset, roi.y_offset, roi.width, roi.height))
    return tuple(values)
