"""Depth images to metres (REP 118): 16UC1 in millimetres with 0 unknown, 32FC1 in metres with NaN unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.images import pixel_rows

_KINDS = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
FARTHEST_M = 200.0
"""Beyond this a sensor's number is noise or a code for "nothing"."""


def decode_depth(message: Any, farthest_m: float = FARTHEST_M) -> NDArray[np.float32]:
    """(H, W) z-depth in metres of a sensor_msgs Image, 0 where unknown or beyond `farthest_m`.

    Raises InputError for another encoding or a size that does not fit the data.
    """
    kind = _KINDS.get(message.encoding)
    if kind is None:
        raise InputError(
            f"depth image has encoding '{message.encoding}'; have the driver send 16UC1 (millimetres) or 32FC1 (metres)"
        )
    name, metres = kind
    rows = pixel_rows(message, np.dtype(name).itemsize)
    values = rows.view((">" if message.is_bigendian else "<") + name).astype(np.float32) * np.float32(metres)
    known = np.isfinite(values) & (values > 0.0) & (values <= farthest_m)
    return np.where(known, values, np.float32(0.0))
