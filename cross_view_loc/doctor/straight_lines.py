"""Plumb lines: long straight edges of the images tell whether they were undistorted, whatever CameraInfo says.

A straight edge of the world is straight in an ideal pinhole's picture. Under a calibration that leaves radial
distortion in, a line d off the centre bows by about k·d·t² (t along it): every edge so votes for the k that would
straighten it.
(Brown, "Close-range camera calibration", 1971; one coefficient is enough to see whether there is any.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, FisheyeCamera, PinholeCamera, from_camera_info

Array = NDArray[np.float64]

CALIBRATION = Group("camera calibration")
WORKING_WIDTH = 960
SHORTEST = 0.08
"""Of the image's width, for a segment from which an edge is followed."""
STEP_PX, REACH_PX = 4.0, 2
"""Along an edge between its points, and across it to look for the next one."""
MOST_EDGES = 60
FEWEST_EDGES = 12
WORTH_A_WORD = 0.03
"""Of the image's width, by which a corner is displaced: an uncalibrated lens has more; less is hard to see here."""
TELLING_PX, AGREEING_PX = 0.1, 0.25
"""An edge says something when so much distortion would bend it by the first (root mean square), and agrees with a
distortion that leaves it straight to the second."""
ONE_TERM = 0.4
"""Edges at different radii differ by this share: a lens has more than one coefficient."""
FEWEST_AGREEING = 0.55
"""Of the edges: kerbs of a bend and branches vote for anything."""
MOST_BOW = 0.06
"""Of its length: no lens bends an edge more."""
WIDEST_TAN = 1.5
"""Rays farther off the axis are left out: a picture without distortion could hardly hold them."""


@dataclass(frozen=True)
class Bend:
    """The radial distortion that is left under a camera model."""

    corner_px: float
    """By how much it would displace a corner of the image, were it k·r³ alone; negative bows lines outwards."""
    error_px: float
    """Its standard error."""
    bow_px: float
    """By how much the most telling edges leave their chords."""
    edges: int

    def is_seen(self, width: int) -> bool:
        """Whether edges are visibly bent, rather than by noise or a few curved things."""
        return abs(self.corner_px) > max(WORTH_A_WORD * width, 5.0 * self.error_px)


def long_edges(grey: NDArray[Any]) -> list[Array]:
    """Edges (N, 2) of a grey (H, W) image in its pixels (centres at + 0.5), followed from its longest segments."""
    scale = min(1.0, WORKING_WIDTH / grey.shape[1])
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1.0 else grey
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(small)[0]
    if found is None:
        return []
    segments = found.reshape(-1, 4).astype(np.float64)
    lengths = np.hypot(*(segments[:, 2:] - segments[:, :2]).T)
    order = np.argsort(-lengths, kind="stable")[:MOST_EDGES]
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32)
    gradient = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], axis=-1)
    edges = []
    for index in order[lengths[order] > SHORTEST * small.shape[1]]:
        points = _followed(gradient, segments[index])
        if len(points) >= 8 and _is_smooth(points):
            edges.append((points + 0.5) / scale)
    return edges


def _is_smooth(points: Array) -> bool:
    """Not around a corner, nor along leaves."""
    middle = points - points.mean(axis=0)
    direction = np.linalg.svd(middle, full_matrices=False)[2]
    place, off = middle @ direction[0], middle @ direction[1]
    bow = np.polyfit(place, off, 2)
    length = float(np.ptp(place))
    rough = float(np.sqrt(np.mean((off - np.polyval(bow, place)) ** 2)))
    return rough < 0.5 and abs(float(bow[0])) * length**2 / 4.0 < MOST_BOW * length


def _followed(gradient: NDArray[Any], segment: Array) -> Array:
    """Points (N, 2) on the ridge of the gradient from the middle of a segment both ways, while it goes on smoothly."""
    start, end = segment[:2], segment[2:]
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    middle = _on_ridge(gradient, (start + end) / 2.0, across)
    if middle is None:
        return np.zeros((0, 2))
    sign = np.sign(middle[1])
    half = [_walk(gradient, middle[0], turn * along, across, sign) for turn in (-1.0, 1.0)]
    return np.array([*half[0][::-1], middle[0], *half[1]])


def _walk(gradient: NDArray[Any], point: Array, along: Array, across: Array, sign: float) -> list[Array]:
    points: list[Array] = []
    slope = 0.0
    while True:
        found = _on_ridge(gradient, point + STEP_PX * (along + slope * across), across)
        if found is None or np.sign(found[1]) != sign:
            return points
        moved = float((found[0] - point) @ across) / STEP_PX
        if abs(moved) > 0.6:  # it has become another direction's edge
            return points
        slope += 0.3 * (moved - slope)
        point = found[0]
        points.append(point)


def _on_ridge(gradient: NDArray[Any], point: Array, across: Array) -> tuple[Array, float] | None:
    """The strongest step of brightness across at a point, to parts of a pixel, and its strength with sign."""
    offsets = np.arange(-REACH_PX - 1, REACH_PX + 2)
    places = point + offsets[:, None] * across
    low, high = places.min(axis=0), places.max(axis=0)
    if low.min() < 1.0 or high[0] > gradient.shape[1] - 2 or high[1] > gradient.shape[0] - 2:
        return None
    columns, rows = np.rint(places).astype(int).T
    strength = gradient[rows, columns] @ across
    best = 1 + int(np.argmax(np.abs(strength[1:-1])))
    before, peak, after = (abs(float(strength[best + k])) for k in (-1, 0, 1))
    if peak < 20.0 or peak < before or peak < after:
        return None
    exact = places[best] + across * (0.5 * (before - after) / min(before - 2.0 * peak + after, -1e-6))
    return exact, float(strength[best])


def remaining_bend(edges: Sequence[Array], camera: PinholeCamera | FisheyeCamera) -> Bend | None:
    """What radial distortion the edges still show when the camera's model is taken off; None when they do not agree."""
    corner = min(math.hypot(camera.width / 2 / camera.fx, camera.height / 2 / camera.fy), WIDEST_TAN)
    to_px = corner**3 * camera.fx
    telling = TELLING_PX / (WORTH_A_WORD * camera.width / to_px)
    rows = [row for pixels in edges if (row := _vote(pixels, camera)) is not None and row[1] > telling]
    if len(rows) < FEWEST_EDGES:
        return None
    votes, leverages = np.array(rows).T

    def agreeing(k: float) -> NDArray[np.bool_]:
        return np.abs(votes - k) < AGREEING_PX / leverages + ONE_TERM * abs(k)

    best = max((agreeing(float(k)) for k in votes), key=lambda each: int(each.sum()))
    for _ in range(5):
        k = float(np.average(votes[best], weights=leverages[best] ** 2))
        best = agreeing(k)
    if best.sum() < FEWEST_AGREEING * len(rows):
        return None
    weight = leverages[best] ** 2
    spread = float(np.sqrt((weight**2 * (votes[best] - k) ** 2).sum()) / weight.sum())
    error = max(spread, 0.5 * AGREEING_PX / math.sqrt(float(weight.sum())))
    bow_px = 3.35 * abs(k) * float(np.quantile(leverages[best], 0.9))  # of a parabola of this root mean square
    return Bend(k * to_px, error * to_px, bow_px, len(rows))


def _vote(pixels: Array, camera: PinholeCamera | FisheyeCamera) -> tuple[float, float] | None:
    """The k of r' = r·(1 + k·r²) that an edge (N, 2) has, and by how many pixels (rms) a k of 1 would bend it."""
    rays, seen = camera.unproject(pixels)
    flat = rays[seen & (rays[:, 2] > 0.2)]
    flat = flat[:, :2] / flat[:, 2:]
    flat = flat[np.hypot(*flat.T) < WIDEST_TAN]
    if len(flat) < 8:
        return None
    middle = flat - flat.mean(axis=0)
    direction = np.linalg.svd(middle, full_matrices=False)[2]
    place, normal = middle @ direction[0], direction[1]
    # Off the line through it; a straight part of the displacement cannot be told from a turned line.
    off, push = (
        values - np.polyval(np.polyfit(place, values, 1), place)
        for values in (flat @ normal, (flat @ normal) * (flat**2).sum(axis=1))
    )
    strength = float(np.mean(push**2))
    return (float(np.mean(off * push)) / strength, math.sqrt(strength) * camera.fx) if strength > 1e-18 else None


def straightness_findings(
    info: Any, camera: Camera, edges: Sequence[Array], image_topic: str, rectified: bool
) -> list[Finding]:
    """Whether the images are as distorted as CameraInfo says; `camera` is that of `info` taken as `rectified`."""
    if not isinstance(camera, PinholeCamera | FisheyeCamera):
        return []
    bend = remaining_bend(edges, camera)
    if bend is None:
        return [
            CALIBRATION.ok(
                "camera_info.straight",
                f"Whether images on {image_topic} are undistorted cannot be told by their looks: too few of their "
                f"{len(edges)} edges are long, straight and far enough from the middle.",
            )
        ]
    data = {"corner_px": round(bend.corner_px, 1), "error_px": round(bend.error_px, 1),
            "bow_px": round(bend.bow_px, 2), "edges": bend.edges}  # fmt: skip
    size = f"{bend.bow_px:.1f} pixels ({bend.edges} edges)"
    if not bend.is_seen(camera.width):
        return [
            CALIBRATION.ok(
                "camera_info.straight",
                f"Long edges in images on {image_topic} are straight under its CameraInfo, to {size}.",
                data=data,
            )
        ]
    said, remedy, value = _explained(info, camera, edges, rectified)
    return [
        CALIBRATION.warn(
            "camera_info.straight",
            f"Long edges in images on {image_topic} are bent {'outwards' if bend.corner_px < 0 else 'inwards'} by "
            f"up to {size} {said}.",
            remedy,
            parameter="" if value is None else "rectified",
            value=value,
            data=data,
        )
    ]


def _explained(
    info: Any, camera: PinholeCamera | FisheyeCamera, edges: Sequence[Array], rectified: bool
) -> tuple[str, str, str | None]:
    """In what way CameraInfo is wrong, the remedy, and what `rectified` should be, if that is it."""
    again = "Calibrate with `ros2 run camera_calibration cameracalibrator`, with the target also in the corners."
    if rectified:
        try:
            raw = from_camera_info(info)
        except InputError:
            raw = None
        if isinstance(raw, PinholeCamera | FisheyeCamera) and _is_straight(edges, raw):
            return (
                "although they are taken as rectified, and straight with the distortion of their CameraInfo",
                "Set rectified to false, or send images that are undistorted.",
                "false",
            )
        return "although they are taken as rectified", "Rectify them, or use the raw images and their CameraInfo.", None
    if isinstance(camera, PinholeCamera) and not any(camera.distortion):
        return "although CameraInfo has no distortion", again, None
    if isinstance(camera, PinholeCamera) and _is_straight(edges, dataclasses.replace(camera, distortion=())):
        return (
            "once the distortion of CameraInfo is taken off, and straight as they are",
            "Set rectified to true: they are undistorted already.",
            "true",
        )
    return "by what the distortion of CameraInfo leaves", again, None


def _is_straight(edges: Sequence[Array], camera: PinholeCamera | FisheyeCamera) -> bool:
    bend = remaining_bend(edges, camera)
    return bend is not None and not bend.is_seen(camera.width)
