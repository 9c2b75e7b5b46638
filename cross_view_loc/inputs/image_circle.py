"""Round pictures: a fisheye's circle on black, by which it is known even where its calibration says pinhole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CORNER_SHARE = 0.06
"""Of width and height. An undistorted picture's black rims do not reach into its corners, nor does vignetting."""
BLACK, NOISE, LIT = 16, 6, 40


def has_black_corners(image: NDArray[np.uint8]) -> bool:
    """Whether all four corners of an image (H, W, 3) are black while its middle is lit."""
    height, width = image.shape[:2]
    rows, columns = max(1, int(height * CORNER_SHARE)), max(1, int(width * CORNER_SHARE))
    for vertical in (slice(0, rows), slice(height - rows, height)):
        for horizontal in (slice(0, columns), slice(width - columns, width)):
            corner = image[vertical, horizontal]
            if float(np.percentile(corner, 95)) > BLACK or float(corner.std()) > NOISE:
                return False
    middle = image[height // 3 : 2 * height // 3 : 4, width // 3 : 2 * width // 3 : 4]
    return float(np.median(middle)) > LIT
