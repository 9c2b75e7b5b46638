"""Images and their calibration: can they be decoded, do they show something, does CameraInfo belong to them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np

from cross_view_loc.doctor.findings import Finding, Group, Level, worst
from cross_view_loc.doctor.lens import CALIBRATION, circle_findings, edge_pixels, rectified_findings, wide_findings
from cross_view_loc.doctor.straight_lines import straightness_findings
from cross_view_loc.doctor.survey import ImageFacts, Survey
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera, from_camera_info
from cross_view_loc.geometry.views import horizontal_field_rad
from cross_view_loc.settings.cameras import is_rectified_name

IMAGES = Group("images")

BLACK, WHITE = 0.9, 0.4
BLURRED = 15.0
"""Of the Laplacian's variance at 640 columns: sharp streets have hundreds, a defocused lens or fog a handful."""
TANGENTIAL = 0.02
"""Tangential coefficients of real lenses are far smaller; a fisheye's third and fourth are not."""


def image_findings(found: Survey, topic: str) -> list[Finding]:
    """Whether the images of the sampled moments can be used."""
    images, refusals = found.images.get(topic, []), found.image_refusals.get(topic, Counter())
    refused = refusals.total()
    total = refused + len(images)
    findings: list[Finding] = []
    if not total:
        return [
            IMAGES.fail(
                "images.decodable", f"No image on {topic} could be read from the bag.", "Check the bag and the topic."
            )
        ]
    if refused:
        reason, count = refusals.most_common(1)[0]
        make = IMAGES.fail if refused * 2 > total else IMAGES.warn
        findings.append(
            make(
                "images.decodable",
                f"{refused} of {total} images on {topic} that were tried cannot be decoded ({count} times: {reason}).",
                "Have the driver send rgb8, bgr8, mono8, bayer_* or yuv422, or whole JPEG or PNG pictures.",
            )
        )
    if not images:
        return findings
    sizes = {(facts.width, facts.height) for facts in images}
    if len(sizes) > 1:
        text = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        findings.append(
            IMAGES.fail(
                "images.size", f"Images on {topic} change their size: {text}.", "Give each camera its own topic."
            )
        )
    findings += _content(images, topic)
    if not findings:
        facts = images[len(images) // 2]
        sharpness = float(np.median([each.sharpness for each in images]))
        findings.append(
            IMAGES.ok(
                "images.content",
                f"{len(images)} images of evenly spread moments: {facts.width}x{facts.height} "
                f"{facts.encoding}, all "
                f"decodable, neither black nor overexposed, sharpness {sharpness:.0f}.",
                data={"width": facts.width, "height": facts.height, "sharpness": round(sharpness, 1)},
            )
        )
    return findings


def _content(images: list[ImageFacts], topic: str) -> list[Finding]:
    findings: list[Finding] = []
    count = len(images)
    black = sum(facts.black_share > BLACK for facts in images)
    if black:
        findings.append(
            IMAGES.warn(
                "images.black",
                f"{black} of {count} sampled images on {topic} are black (over {BLACK:.0%} of their pixels).",
                "Uncover the lens, or let the exposure settle before recording.",
            )
        )
    white = sum(facts.white_share > WHITE for facts in images)
    if white:
        findings.append(
            IMAGES.warn(
                "images.overexposed",
                f"{white} of {count} sampled images on {topic} are overexposed (over {WHITE:.0%} of pixels white).",
                "Lower the exposure or meter on the road instead of the sky.",
            )
        )
    blurred = sum(facts.sharpness < BLURRED for facts in images)
    if blurred * 2 > count and not (black or white):
        findings.append(
            IMAGES.warn(
                "images.blurred",
                f"{blurred} of {count} sampled images on {topic} have hardly any edges (Laplacian variance below "
                f"{BLURRED:g}).",
                "Focus and clean the lens; check for fog, heavy compression or a grey test picture.",
            )
        )
    steps = [float(np.abs(b.thumbnail - a.thumbnail).mean()) for a, b in itertools.pairwise(images)]
    if count >= 3 and max(steps) < 0.2 and not (black or white):
        findings.append(
            IMAGES.warn(
                "images.frozen",
                f"{count} images on {topic} from the whole bag show the same picture.",
                "Restart the camera's driver, unless the vehicle did not move.",
            )
        )
    return findings


def calibration_findings(found: Survey, topic: str, image_topic: str, rectified: bool | None = None) -> list[Finding]:
    """Whether CameraInfo can be used and looks right; `rectified` as configured, None by the images' topic."""
    rectified = is_rectified_name(image_topic) if rectified is None else rectified
    infos = found.camera_infos.get(topic, [])
    if not infos:
        return [
            CALIBRATION.fail(
                "camera_info.usable",
                f"No CameraInfo on {topic} could be read.",
                "Record the camera's CameraInfo; calibrate with `ros2 run camera_calibration cameracalibrator`.",
                parameter="camera_info_topic",
            )
        ]
    try:
        camera = from_camera_info(infos[-1], rectified)
        left_rad, right_rad = horizontal_field_rad(camera)
        field_rad = right_rad - left_rad
    except (InputError, AttributeError) as error:
        return [
            CALIBRATION.fail(
                "camera_info.usable",
                f"CameraInfo on {topic} cannot be used: {error}",
                "Calibrate with `ros2 run camera_calibration cameracalibrator`, and give the driver the file.",
            )
        ]
    findings = _against_images(camera, found.images.get(image_topic, []), topic) + _looks(
        infos[-1], camera, math.degrees(field_rad), topic
    )
    findings += rectified_findings(infos[-1], camera, image_topic, rectified)
    findings += circle_findings(camera, found.images.get(image_topic, []), topic)
    if not any(each.check in ("camera_info.field", "camera_info.fisheye") for each in findings):
        findings += wide_findings(camera, topic, rectified)
    if not findings:
        edges = [edge for facts in found.images.get(image_topic, []) for edge in facts.edges]
        findings += straightness_findings(infos[-1], camera, edges, image_topic, rectified)
    if len(infos) > 1:
        findings.append(
            CALIBRATION.warn(
                "camera_info.constant",
                f"CameraInfo on {topic} changes during the bag ({len(infos)} different ones).",
                "Give every camera its own topic and keep its zoom and region of interest; the newest is used.",
            )
        )
    if worst(findings) == Level.OK:
        findings.append(
            CALIBRATION.ok(
                "camera_info.usable",
                f"{_describe(infos[-1], camera, rectified)}, {math.degrees(field_rad):.0f} deg wide, same size as the "
                "images.",
                data={"width": camera.width, "height": camera.height, "field_deg": round(math.degrees(field_rad), 1)},
            )
        )
    return findings


def _against_images(camera: Camera, images: list[ImageFacts], topic: str) -> list[Finding]:
    if not images:
        return []
    width, height = images[-1].width, images[-1].height
    if (width, height) == (camera.width, camera.height):
        return []
    ratio = width / camera.width
    is_scaled = abs(ratio - height / camera.height) < 0.01
    hint = (
        f"Scale K by {ratio:.4g} and send that size"
        if is_scaled
        else "The parts of the picture differ too, so scaling K is not enough: calibrate at this size"
    )
    return [
        CALIBRATION.fail(
            "camera_info.size",
            f"Images are {width}x{height} but CameraInfo on {topic} says {camera.width}x{camera.height}.",
            f"{hint}, or use the images that this calibration belongs to.",
            data={"image": [width, height], "camera_info": [camera.width, camera.height]},
        )
    ]


def _looks(info: Any, camera: Camera, field_deg: float, topic: str) -> list[Finding]:
    findings: list[Finding] = []
    if not isinstance(camera, PinholeCamera):
        return findings
    off_x, off_y = camera.cx / camera.width - 0.5, camera.cy / camera.height - 0.5
    if max(abs(off_x), abs(off_y)) > 0.15:
        findings.append(
            CALIBRATION.warn(
                "camera_info.principal_point",
                f"The principal point of CameraInfo on {topic} lies {off_x:+.0%} of the width and {off_y:+.0%} of the "
                "height off the middle.",
                "Check that K belongs to this size of image and is not cropped without its region of interest (roi).",
            )
        )
    if abs(camera.fx / camera.fy - 1.0) > 0.1:
        findings.append(
            CALIBRATION.warn(
                "camera_info.focal_lengths",
                f"Focal lengths of CameraInfo on {topic} differ: fx {camera.fx:.0f}, fy {camera.fy:.0f} pixels.",
                "Check that K belongs to this size of image: pixels of cameras are square.",
            )
        )
    if not 20.0 <= field_deg <= 130.0:
        findings.append(
            CALIBRATION.warn(
                "camera_info.field",
                f"By CameraInfo on {topic} the camera sees {field_deg:.0f} deg across (focal length {camera.fx:.0f} "
                "pixels), unusual for a pinhole.",
                "Calibrate again; for a fisheye lens with distortion_model equidistant.",
            )
        )
    tangential = camera.distortion[2:4]
    if len(tangential) == 2 and max(abs(value) for value in tangential) > TANGENTIAL:
        findings.append(
            CALIBRATION.warn(
                "camera_info.model",
                f"CameraInfo on {topic} says {camera.model} with p1 {tangential[0]:.3g} and p2 "
                f"{tangential[1]:.3g}, far "
                "more than a lens has: these look like a fisheye's k3 and k4.",
                "Set distortion_model to equidistant where the calibration was made with the fisheye model.",
            )
        )
    edges = edge_pixels(camera.width, camera.height)
    seen = camera.unproject(edges)[1]
    if not seen.all():
        findings.append(
            CALIBRATION.warn(
                "camera_info.folds",
                f"The distortion of CameraInfo on {topic} folds back inside the image: {1 - seen.mean():.0%} "
                "of the rim "
                "has no ray.",
                "Calibrate again with the target also in the corners, or with another distortion model.",
            )
        )
    return findings


def _describe(info: Any, camera: Camera, rectified: bool) -> str:
    model = "rectified" if rectified else str(info.distortion_model) or "plumb_bob"
    if isinstance(camera, PinholeCamera):
        bent = "with distortion" if any(camera.distortion) else "without distortion"
        return f"{model} {bent}, {camera.width}x{camera.height}, focal length {camera.fx:.0f} pixels"
    return f"{model}, {camera.width}x{camera.height}"
