"""The picture that explains an estimate: the camera image beside the map, matched pixels and points in one colour.

A match has the hue of its column in the image, left red to right violet, so that the eye finds it again in the map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.types import Estimate, Frame, Match, Prior

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

WIDTH_PX, HEAD_PX, MARGIN_PX = 1280, 46, 10
MAP_PX = 520
"""Side of the map's square; the image takes the rest of the width."""
METERS_PER_PIXEL, AHEAD_M = 0.14, 14.0
BACKGROUND: Color = (18, 22, 29)
TEXT: Color = (232, 236, 242)
FAINT: Color = (150, 160, 176)
GOOD: Color = (64, 220, 132)
BAD: Color = (255, 92, 92)
SEARCH: Color = (255, 176, 64)
POSE: Color = (45, 226, 230)
AGREES_M = 2.0
"""A match whose two ends are nearer than this agrees with the pose."""
CHI2_95_2D = 5.991
FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True)
class Panel:
    """What one panel shows."""

    frame: Frame
    estimate: Estimate
    search: Prior
    patch: Patch | None
    """Aerial imagery, its up direction the heading; None where there is none."""
    state: str = ""
    latency_s: float | None = None
    time_name: str = "latency"
    """What `latency_s` is: from the image's stamp to its pose, or else "computing time"."""


def draw(panel: Panel) -> Picture:
    """(H, 1280, 3) RGB."""
    image_px = WIDTH_PX - MAP_PX - 3 * MARGIN_PX
    matches = [match for match in panel.estimate.matches if match.camera == panel.frame.name]
    image = _image_side(panel, matches, image_px)
    canvas = np.full((HEAD_PX + MAP_PX + MARGIN_PX, WIDTH_PX, 3), BACKGROUND, np.uint8)
    top = HEAD_PX
    height = min(image.shape[0], MAP_PX)
    canvas[top : top + height, MARGIN_PX : MARGIN_PX + image_px] = image[:height]
    left = 2 * MARGIN_PX + image_px
    canvas[top : top + MAP_PX, left : left + MAP_PX] = _map_side(panel, matches)
    _head(canvas, panel)
    _figures(canvas, panel, matches, top + height)
    return canvas


def panel_square(estimate: Estimate, search: Prior) -> tuple[float, float, int, float, float]:
    """What of the map a panel shows, as `AerialMap.patch` takes it: wide enough for what was searched.

    Turned so that the vehicle looks up, as the camera does, and reaching ahead of it where that leaves the search in.
    """
    size_m = max(MAP_PX * METERS_PER_PIXEL, 2.4 * search.radius_m)
    ahead_m = AHEAD_M if size_m < 100.0 else 0.0
    east = estimate.east_m + ahead_m * math.cos(estimate.yaw_rad)
    north = estimate.north_m + ahead_m * math.sin(estimate.yaw_rad)
    return east, north, MAP_PX, size_m / MAP_PX, estimate.yaw_rad


def jpeg(picture: Picture, quality: int = 85) -> bytes:
    """The picture as JPEG."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data.tobytes())


def agrees(match: Match, estimate: Estimate) -> bool:
    """Whether a match's map point lies where the pose puts its ground point."""
    placed = placed_point(match, estimate)
    return math.hypot(placed[0] - match.point_map[0], placed[1] - match.point_map[1]) <= AGREES_M


def placed_point(match: Match, estimate: Estimate) -> tuple[float, float]:
    """East and north (m) where the pose puts a match's ground point."""
    c, s = math.cos(estimate.yaw_rad) * estimate.scale, math.sin(estimate.yaw_rad) * estimate.scale
    x, y = match.point_body
    return estimate.east_m + c * x - s * y, estimate.north_m + s * x + c * y


def search_outline(search: Prior) -> NDArray[np.float64]:
    """(N, 2) east, north of the searched square's corners, or of the disc's rim when all headings are searched."""
    if search.yaw_range_rad >= math.pi:
        angles = np.linspace(0.0, 2.0 * math.pi, 48, endpoint=False)
        corners = search.radius_m * np.stack([np.cos(angles), np.sin(angles)], -1)
    else:
        c, s = math.cos(search.yaw_rad), math.sin(search.yaw_rad)
        corners = search.radius_m * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) @ np.array([[c, s], [-s, c]])
    return np.asarray(corners + np.array([search.east_m, search.north_m]))


def ellipse(estimate: Estimate, count: int = 48) -> NDArray[np.float64]:
    """(count, 2) east, north of the position's 95 % ellipse."""
    values, vectors = np.linalg.eigh(estimate.covariance[:2, :2])
    angles = np.linspace(0.0, 2.0 * math.pi, count, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    rim = circle * np.sqrt(CHI2_95_2D * np.maximum(values, 0.0)) @ vectors.T
    return np.asarray(rim + np.array([estimate.east_m, estimate.north_m]))


# --- the two halves ---


def _image_side(panel: Panel, matches: Sequence[Match], width_px: int) -> Picture:
    image = panel.frame.image
    factor = width_px / image.shape[1]
    size = (width_px, max(1, round(image.shape[0] * factor)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR)
    picture: Picture = np.asarray(resized * 0.82).astype(np.uint8)  # the dots must stand out
    for match in reversed(matches):  # the strongest on top
        centre = (match.pixel[0] * factor, match.pixel[1] * factor)
        is_good = agrees(match, panel.estimate)
        _dot(picture, centre, 5 if is_good else 3, _hue(match, image.shape[1], is_good))
    return picture


def _map_side(panel: Panel, matches: Sequence[Match]) -> Picture:
    patch, estimate = panel.patch, panel.estimate
    if patch is None:
        nothing: Picture = np.full((MAP_PX, MAP_PX, 3), 40, np.uint8)
        _text(nothing, "no imagery here", (MAP_PX // 2 - 80, MAP_PX // 2), 0.6, FAINT)
        return nothing
    factor = MAP_PX / patch.size_px
    resized = cv2.resize(patch.image, (MAP_PX, MAP_PX), interpolation=cv2.INTER_AREA)
    picture: Picture = np.asarray(resized * 0.85).astype(np.uint8)

    def pixels(points_map: NDArray[np.float64]) -> NDArray[np.float64]:
        return patch.map_to_pixel(np.atleast_2d(points_map)) * factor

    for match in reversed(matches):
        is_good = agrees(match, estimate)
        ends = pixels(np.array([placed_point(match, estimate), match.point_map]))
        color = _hue(match, panel.frame.camera.width, is_good)
        _line(picture, ends, color if is_good else FAINT, 1)
        _dot(picture, ends[1], 5 if is_good else 3, color)
    _outline(picture, pixels(search_outline(panel.search)), SEARCH, 2)
    _outline(picture, pixels(ellipse(estimate)), POSE, 2)
    _arrow(picture, pixels, estimate)
    _compass(picture, patch)
    _scale_bar(picture, patch.size_m)
    return picture


def _head(canvas: Picture, panel: Panel) -> None:
    estimate = panel.estimate
    color = GOOD if estimate.accepted else BAD
    verdict = "ACCEPTED" if estimate.accepted else "REFUSED"
    cv2.rectangle(canvas, (MARGIN_PX, 9), (MARGIN_PX + 128, HEAD_PX - 9), color, -1, cv2.LINE_AA)
    _text(canvas, verdict, (MARGIN_PX + 12, HEAD_PX - 17), 0.58, BACKGROUND, outlined=False)
    sentence = estimate.reason or (f"state: {panel.state}" if panel.state else "")
    if panel.state and estimate.reason:
        sentence = f"{panel.state}: {sentence}"
    _text(canvas, sentence[:118], (MARGIN_PX + 142, HEAD_PX - 17), 0.52, TEXT, outlined=False)


def _figures(canvas: Picture, panel: Panel, matches: Sequence[Match], top: int) -> None:
    """Numbers below the image, where it leaves room."""
    estimate = panel.estimate
    std_m = math.sqrt(max(float(np.linalg.eigvalsh(estimate.covariance[:2, :2])[-1]), 0.0))
    std_deg = math.degrees(math.sqrt(max(float(estimate.covariance[2, 2]), 0.0)))
    good = sum(agrees(match, estimate) for match in matches)
    heading_deg = math.degrees(estimate.yaw_rad)
    lines = [
        f"E {estimate.east_m:.2f} m   N {estimate.north_m:.2f} m   yaw {heading_deg:.1f} deg   "
        f"std {std_m:.2f} m, {std_deg:.2f} deg   scale {estimate.scale:.3f}",
        f"confidence {estimate.confidence:.2f}   inliers {estimate.inlier_ratio:.0%}   "
        f"{good} of {len(matches)} shown matches agree",
    ]
    if panel.latency_s is not None:
        lines[1] += f"   {panel.time_name} {panel.latency_s * 1e3:.0f} ms"
    bottom, width = canvas.shape[0] - MARGIN_PX, WIDTH_PX - MAP_PX - 3 * MARGIN_PX
    if bottom - top < 100:  # a tall image: write over its lower edge
        top = bottom - 104
        canvas[top:bottom, MARGIN_PX : MARGIN_PX + width] //= 3
    for row, line in enumerate(lines):
        _text(canvas, line, (MARGIN_PX + 4, top + 24 + 23 * row), 0.46, TEXT, outlined=False)
    left, row_px = MARGIN_PX + 4, top + 74
    for label, color in (("pose and its 95 % ellipse", POSE), ("searched", SEARCH)):
        cv2.line(canvas, (left, row_px - 5), (left + 22, row_px - 5), color, 3, cv2.LINE_AA)
        _text(canvas, label, (left + 30, row_px), 0.44, FAINT, outlined=False)
        left += 260
    for place, share in enumerate((0.0, 0.33, 0.66, 1.0)):
        hue = cv2.cvtColor(np.array([[[round(share * 150), 210, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
        color = (int(hue[0]), int(hue[1]), int(hue[2]))
        _dot(canvas, (MARGIN_PX + 9.5 + 13.0 * place, row_px + 18.5), 5, color)
    label = "matches that agree, hued by image column; grey: those that do not"
    _text(canvas, label, (MARGIN_PX + 64, row_px + 23), 0.44, FAINT, outlined=False)


# --- strokes ---


def _hue(match: Match, width_px: int, is_good: bool) -> Color:
    share = min(max(match.pixel[0] / max(width_px, 1), 0.0), 1.0)
    if not is_good:
        return (112, 112, 118)
    hsv = np.array([[[round(share * 150), 210, 255]]], np.uint8)
    red, green, blue = (int(value) for value in cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue


def _at(point: NDArray[np.float64] | tuple[float, float]) -> tuple[int, int]:
    """Pixel centres lie at + 0.5 here, at whole numbers in OpenCV."""
    u, v = (float(np.clip(value - 0.5, -30000.0, 30000.0)) for value in point)
    return round(u), round(v)


def _dot(picture: Picture, centre: NDArray[np.float64] | tuple[float, float], radius: int, color: Color) -> None:
    cv2.circle(picture, _at(centre), radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
    cv2.circle(picture, _at(centre), radius, color, -1, cv2.LINE_AA)


def _line(picture: Picture, ends: NDArray[np.float64], color: Color, thickness: int) -> None:
    cv2.line(picture, _at(ends[0]), _at(ends[1]), color, thickness, cv2.LINE_AA)


def _outline(picture: Picture, points: NDArray[np.float64], color: Color, thickness: int) -> None:
    corners = np.array([_at(point) for point in points], np.int32)[None]
    for each, width in (((0, 0, 0), thickness + 2), (color, thickness)):
        cv2.polylines(picture, list(corners), True, each, width, cv2.LINE_AA)


def _arrow(picture: Picture, pixels: object, estimate: Estimate) -> None:
    assert callable(pixels)
    tip = (estimate.east_m + 5.0 * math.cos(estimate.yaw_rad), estimate.north_m + 5.0 * math.sin(estimate.yaw_rad))
    start, end = pixels(np.array([(estimate.east_m, estimate.north_m), tip]))
    for color, width in (((0, 0, 0), 6), (POSE, 3)):
        cv2.arrowedLine(picture, _at(start), _at(end), color, width, cv2.LINE_AA, tipLength=0.35)
    _dot(picture, start, 5, POSE)


def _compass(picture: Picture, patch: Patch) -> None:
    """An arrow to the north in the upper right corner."""
    centre = np.array([MAP_PX - 34.0, 36.0])
    turn = math.pi / 2 - patch.rotation_rad  # counter-clockwise from the picture's up
    way = np.array([-math.sin(turn), -math.cos(turn)]) * 20.0
    for color, width in (((0, 0, 0), 5), (TEXT, 2)):
        cv2.arrowedLine(picture, _at(centre - way), _at(centre + way), color, width, cv2.LINE_AA, tipLength=0.35)
    at = _at(centre + way * 1.35)
    _text(picture, "N", (at[0] - 6, at[1] + 6), 0.5, TEXT)


def _scale_bar(picture: Picture, size_m: float) -> None:
    length_px = round(10.0 / size_m * MAP_PX)
    left, low = 14, MAP_PX - 16
    for color, width in (((0, 0, 0), 6), (TEXT, 3)):
        cv2.line(picture, (left, low), (left + length_px, low), color, width, cv2.LINE_AA)
    _text(picture, "10 m", (left, low - 9), 0.45, TEXT)


def _text(
    picture: Picture, text: str, at: tuple[int, int], size: float, color: Color, *, outlined: bool = True
) -> None:
    if outlined:
        cv2.putText(picture, text, at, FONT, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, FONT, size, color, 1, cv2.LINE_AA)
