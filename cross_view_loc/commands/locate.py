"""`cross_view_loc locate`: one ground image in one aerial image, without ROS, bag or map file."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.commands.depth_option import HELP as DEPTH_HELP
from cross_view_loc.commands.depth_option import depth_name
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, PinholeCamera, StripCamera
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.settings import parameter_named
from cross_view_loc.types import Estimate, Frame, Prior

if TYPE_CHECKING:
    from cross_view_loc.aerial.patch import Patch
    from cross_view_loc.localizer import LocalizerSettings

TOO_LITTLE_IMAGERY = "map: only "
"""How the gate begins when it refuses for want of imagery."""
EXAMPLES = """examples:
  a panorama, nothing known but the place:
    cross_view_loc locate --ground street.jpg --aerial above.png --gsd 0.2 --camera equirectangular
  a car's camera 1.6 m above the road, tilted down by 3 degrees, heading about north-east, as JSON:
    cross_view_loc locate --ground front.jpg --aerial above.png --gsd 0.15 --camera pinhole:610,610,320,180 \\
      --camera-height 1.6 --camera-pitch-deg 3 --heading-prior-deg 45 --heading-range-deg 10 --json

The aerial image's top is north. Headings count clockwise from there and belong to the ground image's centre column
(for a pinhole: its optical axis). The search is a square about the aerial image's centre. The image has to hold
what can be seen from all of that: some 2 x (search radius + 55 m), by default 150 m wide and high; with less than half
of the place on it, the estimate is refused. The result is the camera's place: dx_px, dy_px to the right of and below
the centre, the same as east_m and north_m. An estimate that is not to be trusted is printed with "accepted": false and
the reason; the exit status is 0 for it too.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--ground", type=Path, required=True, metavar="IMG", help="the camera's image")
    parser.add_argument("--aerial", type=Path, required=True, metavar="IMG", help="aerial image, north up")
    parser.add_argument("--gsd", type=float, required=True, metavar="M", help="metres per pixel of the aerial image")
    parser.add_argument(
        "--camera",
        metavar="MODEL",
        help="pinhole:fx,fy,cx,cy in pixels | equirectangular (2:1) | strip (360 degrees wide, cut above and below,"
        " horizon in the middle row); default: by the image's shape",
    )
    parser.add_argument("--camera-height", type=float, default=1.65, metavar="M", help="above the ground (%(default)s)")
    parser.add_argument(
        "--camera-height-std",
        type=float,
        metavar="M",
        help="how well that is known: all distances scale with it, so the scale is searched as widely (20 %% of it)",
    )
    parser.add_argument(
        "--camera-pitch-deg", type=float, default=0.0, metavar="DEG", help="how far it looks down (%(default)s)"
    )
    parser.add_argument(
        "--heading-prior-deg", type=float, metavar="H", help="clockwise from image-up; default: unknown"
    )
    parser.add_argument(
        "--heading-range-deg", type=float, metavar="R", help="searched on both sides of the heading (10 if it is given)"
    )
    parser.add_argument(
        "--search-radius-m", type=float, metavar="M", help="half the searched square (20, or what the image allows)"
    )
    parser.add_argument("--depth", type=depth_name, default="learned", metavar="NAME", help=DEPTH_HELP)
    parser.add_argument(
        "--estimator",
        choices=parameter_named("estimator").choices,
        default="consensus",
        help="how the pose is found (%(default)s)",
    )
    parser.add_argument("--weights-dir", default="", metavar="DIR", help="other weights than those of the package")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Localize and print."""
    aerial = ImageMap.from_file(options.aerial, options.gsd)
    frame = ground_frame(options)
    settings_prior = search_prior(options, aerial)
    height_std = relative_height_std(options)

    from cross_view_loc.localizer import Localizer  # torch takes seconds to import: not before the options are checked

    localizer = Localizer(aerial, localizer_settings(options, settings_prior))
    localizer.depth.log_scale_std = math.hypot(localizer.depth.log_scale_std, height_std)
    estimate = localizer.locate([frame], settings_prior)
    row = result_row(estimate, aerial)
    row["reason"] = picture_reason(estimate.reason, localizer.latest_patch, aerial, settings_prior)
    print(json.dumps(row) if options.json else _sentence(row))
    return 0


def picture_reason(reason: str, patch: Patch | None, aerial: ImageMap, prior: Prior) -> str:
    """The reason of a refusal, that of too little imagery in terms of a picture that should be larger.

    `patch` is what was looked at last; with the heading unknown, that is turned all round.
    """
    if patch is None or not reason.startswith(TOO_LITTLE_IMAGERY):
        return reason
    half_m = patch.image.shape[0] * patch.meters_per_pixel / 2
    away_m = np.array([patch.center_east_m - prior.east_m, patch.center_north_m - prior.north_m])
    if prior.yaw_range_rad > math.radians(45.0):
        reach_m = float(np.hypot(*away_m)) + half_m * math.sqrt(2.0)
    else:
        turned = half_m * (abs(math.cos(patch.rotation_rad)) + abs(math.sin(patch.rotation_rad)))
        reach_m = float(np.abs(away_m).max()) + turned
    height, width = aerial.image.shape[:2]
    return (
        f"aerial image: less than half of what could be seen from within the search lies on it; give one that is "
        f"{math.ceil(2 * reach_m)} m wide and high (this one: {width * aerial.meters_per_pixel:.0f} m by "
        f"{height * aerial.meters_per_pixel:.0f} m at --gsd {aerial.meters_per_pixel:g}), or check --gsd"
    )


def relative_height_std(options: argparse.Namespace) -> float:
    """Relative deviation of the camera's height: of the scale of everything lifted with it."""
    std_m = 0.2 * options.camera_height if options.camera_height_std is None else options.camera_height_std
    if not 0.0 <= std_m <= options.camera_height:
        raise InputError(
            f"--camera-height-std is {std_m:g} m; give 0 to the camera's height, {options.camera_height:g} m"
        )
    return float(std_m / options.camera_height)


def ground_frame(options: argparse.Namespace) -> Frame:
    """The ground image as a frame whose `base_link` lies on the ground below the camera and looks where it looks."""
    image = read_image(options.ground)
    camera = parse_camera(options.camera, image.shape[1], image.shape[0])
    if not 0.1 <= options.camera_height <= 100.0:
        raise InputError(
            f"--camera-height is {options.camera_height:g} m; give the height above the ground, 0.1 to 100"
        )
    if not abs(options.camera_pitch_deg) < 90.0:
        raise InputError(
            f"--camera-pitch-deg is {options.camera_pitch_deg:g}; give degrees below the horizon, under 90"
        )
    # A positive rotation about y (left) turns x (forward) towards -z: down.
    R_base_camera = rpy(0.0, math.radians(options.camera_pitch_deg), 0.0) @ R_BODY_OPTICAL
    T_base_camera = transform(R_base_camera, (0.0, 0.0, options.camera_height))
    return Frame(image, camera, 0, T_base_camera, name="ground")


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB; one sentence when the file is missing or is no picture."""
    if not path.is_file():
        raise MissingInputError(f"there is no ground image at {path}; give an image file with --ground")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"cannot read the ground image {path}; give a PNG or JPEG picture with --ground")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def parse_camera(text: str | None, width: int, height: int) -> Camera:
    """The camera of `--camera` for images of that size; without it, a panorama or a 70° pinhole by their shape."""
    if text is None:
        text = "equirectangular" if width == 2 * height else "strip" if width > 2.5 * height else "pinhole"
        if text == "pinhole":
            focal_px = width / 2 / math.tan(math.radians(35.0))
            text = f"pinhole:{focal_px:.1f},{focal_px:.1f},{width / 2},{height / 2}"
        print(f"no --camera given: taken as {text}", file=sys.stderr)
    kind, _, numbers = text.partition(":")
    if kind == "equirectangular" and not numbers:
        return EquirectangularCamera(width, height)
    if kind == "strip" and not numbers:
        return StripCamera(width, height, height / 2)
    try:
        fx, fy, cx, cy = (float(number) for number in numbers.split(","))
    except ValueError:
        kind = ""
    if kind != "pinhole":
        raise InputError(
            f"--camera '{text}' is not understood; give pinhole:fx,fy,cx,cy (pixels), equirectangular or strip"
        )
    return PinholeCamera(width, height, fx, fy, cx, cy)


def search_prior(options: argparse.Namespace, aerial: ImageMap) -> Prior:
    """Where and which way to search: about the aerial image's centre."""
    height, width = aerial.image.shape[:2]
    half_side_m = min(height, width) * options.gsd / 2
    radius_m = min(20.0, half_side_m) if options.search_radius_m is None else options.search_radius_m
    if not 0.0 < radius_m <= half_side_m:
        raise InputError(
            f"--search-radius-m is {radius_m:g}, but the aerial image reaches {half_side_m:.1f} m from its centre;"
            " give a positive radius within it or a larger image"
        )
    range_deg = options.heading_range_deg
    if options.heading_prior_deg is None:
        if range_deg is not None and range_deg < 180.0:
            raise InputError("--heading-range-deg needs --heading-prior-deg: the heading it is a range about")
        return Prior(0, 0.0, 0.0, radius_m)
    range_deg = 10.0 if range_deg is None else range_deg
    if not 0.0 < range_deg <= 180.0:
        raise InputError(f"--heading-range-deg is {range_deg:g}; give degrees on both sides, above 0 up to 180")
    yaw_rad = math.radians(90.0 - options.heading_prior_deg)
    return Prior(0, 0.0, 0.0, radius_m, math.remainder(yaw_rad, 2 * math.pi), math.radians(range_deg))


def localizer_settings(options: argparse.Namespace, prior: Prior) -> LocalizerSettings:
    """The localizer's settings of the options."""
    from cross_view_loc.localizer import LocalizerSettings

    return LocalizerSettings(
        depth=options.depth,
        estimator=options.estimator,
        search_radius_m=prior.radius_m,
        weights_dir=options.weights_dir,
        device=options.device,
        threads=os.cpu_count() or 1,
    )


def result_row(estimate: Estimate, aerial: ImageMap) -> dict[str, Any]:
    """What `--json` prints."""
    u, v = aerial.pixel(estimate.east_m, estimate.north_m)
    height, width = aerial.image.shape[:2]
    return {
        "dx_px": round(float(u) - width / 2, 3),
        "dy_px": round(float(v) - height / 2, 3),
        "east_m": round(estimate.east_m, 4),
        "north_m": round(estimate.north_m, 4),
        "heading_deg": round((90.0 - math.degrees(estimate.yaw_rad)) % 360.0, 3),
        "covariance": [[float(f"{value:.6g}") for value in row] for row in estimate.covariance],
        "scale": round(estimate.scale, 4),
        "confidence": round(estimate.confidence, 4),
        "accepted": estimate.accepted,
        "reason": estimate.reason,
    }


def _sentence(row: dict[str, Any]) -> str:
    std_m = math.sqrt(max(row["covariance"][0][0], row["covariance"][1][1]))
    std_deg = math.degrees(math.sqrt(row["covariance"][2][2]))
    verdict = "accepted" if row["accepted"] else f"refused: {row['reason']}"
    return (
        f"{row['east_m']:+.2f} m east, {row['north_m']:+.2f} m north of the aerial image's centre "
        f"({row['dx_px']:+.1f} px right, {row['dy_px']:+.1f} px down), standard deviation {std_m:.2f} m\n"
        f"heading {row['heading_deg']:.1f}° clockwise from image-up, standard deviation {std_deg:.1f}°\n"
        f"confidence {row['confidence']:.2f}, {verdict}"
    )
