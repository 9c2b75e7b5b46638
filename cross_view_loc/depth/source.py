"""How far a pixel is: the interface every depth source keeps, and the flat-ground source that needs no network."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.lifting import FARTHEST_M, ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.types import Frame


class Depth(NamedTuple):
    """Depth along rays, and how far to trust it."""

    z_m: NDArray[np.float64]
    """(...) z-depth in metres, 0 where unknown."""
    log_spread: NDArray[np.float64] | None = None
    """(...) log of the relative deviation expected; None for a kind whose errors have nothing to do with the image."""
    is_measured: NDArray[np.bool_] | None = None
    """(...) what is trusted as "metric" whatever the source's kind; None for nothing in particular."""


class DepthSource(Protocol):
    """Depth of a view's cells.

    A source may have more. `begin(frame)` is called before the views of a frame are asked for: what it keeps over time,
    or for a camera, it tells apart by the frame's stamp and name. One that `remembers` answers by what it was asked
    before, and has a `forget()`. `view_scale`, a whole number: the image is then that of the same view at so many times
    the size.
    """

    kind: str
    """ "metric" or "flat": which confidence of the matcher goes with it."""
    log_scale_std: float
    """Deviation of the log of its scale error; what the alignment may correct."""

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """Depth (...) along `rays` (..., 3, with z = 1 in the view)."""
        ...


def begin_frame(source: DepthSource, frame: Frame) -> None:
    """Tell a source that wants to know which frame the next calls are for."""
    begin = getattr(source, "begin", None)
    if begin is not None:
        begin(frame)


def forget_frames(source: DepthSource) -> None:
    """Let a source that remembers earlier frames begin anew."""
    forget = getattr(source, "forget", None)
    if forget is not None:
        forget()


def view_for(source: DepthSource, view: View) -> View:
    """The view as the source wants its image: the same rays at the size it asks for."""
    scale = int(getattr(source, "view_scale", 1))
    if scale == 1:
        return view
    return replace(view, focal_px=view.focal_px * scale, width=view.width * scale, height=view.height * scale)


class FlatGround:
    """Depth of the plane under the vehicle; exact on a flat road, unknown above the horizon."""

    kind = "flat"
    log_scale_std = 0.02

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        inverse = geometry.flat_inverse_depth(rays)
        return Depth(np.where(inverse > 1.0 / FARTHEST_M, 1.0 / np.maximum(inverse, 1e-6), 0.0))
