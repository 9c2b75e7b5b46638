"""Measured depth: can it be read, can it be true, how much of the road does it tell, does it come with the images."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, from_camera_info
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.camera_input import SPARSE
from cross_view_loc.inputs.camera_text import read_calibration_file
from cross_view_loc.inputs.depth_check import depth_complaint, road_share
from cross_view_loc.inputs.depth_images import FARTHEST_M, decode_depth
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

DEPTH = Group("depth")
STAMPS_KEPT = 20_000
FEWEST_PAIRED = 0.9
"""Share of the images that should have a depth image of their own."""


@dataclass
class DepthSurvey:
    """What is kept of depth topics, and of the images they belong to."""

    samples: dict[str, list[tuple[str, NDArray[np.float32]]]] = field(default_factory=dict)
    """By topic, encoding and metres (h, w) without a limit, of evenly spread moments."""
    refusals: dict[str, Counter[str]] = field(default_factory=dict)
    stamps_ns: dict[str, array[int]] = field(default_factory=dict)
    """By topic, those of its first messages."""

    def take(self, topic: str, message: Any) -> None:
        """A depth image worth a look."""
        try:
            self.samples.setdefault(topic, []).append((str(message.encoding), decode_depth(message, math.inf)))
        except InputError as error:
            self.refusals.setdefault(topic, Counter())[str(error)] += 1

    def note(self, topic: str, stamp_ns: int) -> None:
        """The stamp of an image or a depth image."""
        known = self.stamps_ns.setdefault(topic, array("q"))
        if len(known) < STAMPS_KEPT:
            known.append(stamp_ns)


def depth_findings(
    found: DepthSurvey, camera: CameraSettings, infos: list[Any], T_base_camera: Matrix | None, settings: Settings
) -> list[Finding]:
    """All about one camera's depth topic; nothing when it has none. `infos`: the camera's CameraInfo messages."""
    topic = camera.depth_topic
    if not topic:
        return []
    findings = _paired(found, topic, camera.image_topic, settings)
    samples, refusals = found.samples.get(topic, []), found.refusals.get(topic, Counter())
    instead = f"Until then depth '{settings.depth}' estimates what it should measure."
    if refusals:
        reason, count = refusals.most_common(1)[0]
        findings.append(
            DEPTH.warn(
                "depth.decodable",
                f"{refusals.total()} of {refusals.total() + len(samples)} depth images on {topic} that were tried "
                f"cannot be read ({count} times: {reason}).",
                instead,
                parameter="depth_topic",
            )
        )
    if not samples:
        return findings
    model, share = _calibration(camera, infos), None
    if model is not None and T_base_camera is not None:
        ground_z_m = settings.ground_height_in_base_m
        whys = Counter(
            depth_complaint(read_m, encoding, model, T_base_camera, ground_z_m) for encoding, read_m in samples
        )
        good, bad = whys.pop("", 0), whys.most_common(1)
        if bad and good <= sum(whys.values()):
            why, _ = bad[0]
            findings.append(
                DEPTH.warn(
                    "depth.plausible",
                    f"{len(samples) - good} of {len(samples)} sampled depth images on {topic} cannot be true: the "
                    f"depth image {why}.",
                    instead,
                    parameter="depth_topic",
                )
            )
            return findings
        shares = [road_share(_within(read_m), model, T_base_camera, ground_z_m) for _, read_m in samples]
        share = float(np.median(shares))
    return [*findings, _content(topic, samples, share, settings)]


def _content(
    topic: str, samples: list[tuple[str, NDArray[np.float32]]], share: float | None, settings: Settings
) -> Finding:
    encoding, middle_m = samples[len(samples) // 2]
    height, width = middle_m.shape
    known = np.concatenate([_within(read_m)[_within(read_m) > 0.0] for _, read_m in samples])
    low_m, high_m = np.quantile(known, (0.05, 0.95)) if known.size else (0.0, 0.0)
    filled = known.size / sum(read_m.size for _, read_m in samples)
    road = "" if share is None else f", and something in {share:.0%} of the road's cells"
    rest = f"; depth '{settings.depth}' estimates the rest" if share is not None and share < SPARSE else ""
    return DEPTH.ok(
        "depth.content",
        f"{len(samples)} depth images of evenly spread moments on {topic}: {width}x{height} {encoding}, {low_m:.1f} to "
        f"{high_m:.1f} m, measured in {filled:.0%} of the pixels{road}{rest}.",
        data={
            "width": width,
            "height": height,
            "encoding": encoding,
            "measured_share": round(filled, 4),
            "road_share": None if share is None else round(share, 3),
        },
    )


def _within(read_m: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(read_m <= FARTHEST_M, read_m, np.float32(0.0))


def _calibration(camera: CameraSettings, infos: list[Any]) -> Camera | None:
    """None where there is none that can be used, which is found elsewhere."""
    try:
        if camera.calibration_file:
            return read_calibration_file(Path(camera.calibration_file), camera.is_rectified)
        return from_camera_info(infos[-1], camera.is_rectified) if infos else None
    except (InputError, AttributeError):
        return None


def _paired(found: DepthSurvey, topic: str, image_topic: str, settings: Settings) -> list[Finding]:
    """How many images have a depth image of their time."""
    depths = np.sort(np.asarray(found.stamps_ns.get(topic, ()), dtype=np.int64))
    images = np.asarray(found.stamps_ns.get(image_topic, ()), dtype=np.int64)
    if not len(depths) or not len(images):
        return []
    last = min(depths[-1], images.max()) if max(len(depths), len(images)) >= STAMPS_KEPT else images.max()
    images = images[images <= last]
    after = np.clip(np.searchsorted(depths, images), 0, len(depths) - 1)
    offsets = np.stack([depths[after] - images, depths[np.maximum(after - 1, 0)] - images])
    nearest_s = np.take_along_axis(offsets, np.abs(offsets).argmin(axis=0)[None], axis=0)[0] / NS_PER_S
    paired = float((np.abs(nearest_s) <= settings.camera_tolerance_s).mean()) if len(images) else 1.0
    if paired >= FEWEST_PAIRED:
        return []
    usual_s = float(np.median(nearest_s))
    return [
        DEPTH.warn(
            "depth.stamps",
            f"Only {paired:.0%} of the images on {image_topic} have a depth image on {topic} within camera_tolerance_s "
            f"({settings.camera_tolerance_s:g} s); the nearest is usually {abs(usual_s):.3f} s "
            f"{'later' if usual_s > 0 else 'earlier'}.",
            "Have depth stamped as the image it belongs to and sent for every image, or raise camera_tolerance_s.",
            parameter="camera_tolerance_s",
            data={"paired": round(paired, 3), "offset_s": round(usual_s, 4)},
        )
    ]
