"""What every monocular depth model is to this package: images in, a map of one number per pixel out, and what it means.

A model knows nothing of vehicles. What turns its numbers into metres along the rays of a view is `modelled.py`.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Measure = Literal["metric", "relative", "inverse"]
"""metric: metres. relative: metres up to a factor. inverse: a / depth + b with unknown a > 0 and b, as MiDaS, DPT and
Depth Anything give it."""
Along = Literal["z", "range"]
"""Depth along the optical axis, or distance along the pixel's own ray."""
MEASURES: tuple[str, ...] = get_args(Measure)
ALONGS: tuple[str, ...] = get_args(Along)


class DepthModel(Protocol):
    """A depth network as it was released; `huggingface.py`, `onnx.py` and `unik3d.py` load such."""

    name: str
    """As the registry or the path calls it."""
    licence: str
    """SPDX identifier where there is one; empty when nobody says."""
    measure: Measure
    along: Along

    def __call__(self, images: NDArray[np.uint8], focal_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """Images (N, H, W, 3) RGB of pinhole cameras without distortion, focal lengths (N,) in pixels of these images.

        Principal point in the middle. Returns (N, H, W) of the model's measure, NaN where it says nothing. The same
        images give the same numbers.
        """
        ...
