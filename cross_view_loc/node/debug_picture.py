"""A small picture of what was matched, for `~/debug/compressed`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.types import Estimate, Frame

WIDTH_PX = 640


def draw(frame: Frame, estimate: Estimate) -> NDArray[np.uint8]:
    """(H, 640, 3) RGB: the camera image, its matched pixels from red (unlikely) to green, and the verdict."""
    factor = WIDTH_PX / frame.image.shape[1]
    size = (WIDTH_PX, max(1, round(frame.image.shape[0] * factor)))
    picture = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    matches = [match for match in estimate.matches if match.camera == frame.name]
    strongest = max((match.probability for match in matches), default=1.0)
    for match in matches:
        share = match.probability / strongest
        # Pixel centres lie at + 0.5 here, at whole numbers in OpenCV.
        centre = (round(match.pixel[0] * factor - 0.5), round(match.pixel[1] * factor - 0.5))
        cv2.circle(picture, centre, 3, (round(255 * (1 - share)), round(255 * share), 0), -1, cv2.LINE_AA)
    verdict = "accepted" if estimate.accepted else estimate.reason
    text = f"{estimate.east_m:.1f} E {estimate.north_m:.1f} N {np.degrees(estimate.yaw_rad):.1f} deg: {verdict}"
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, thickness, cv2.LINE_AA)
    return np.asarray(picture, dtype=np.uint8)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """The picture as JPEG."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return bytes(data.tobytes())
