"""What happens before the node subscribes: the map is opened, its origin decided, the networks loaded and warmed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cross_view_loc.errors import CrossViewError, InputError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import transform
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

R_BASE_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


class Locates(Protocol):
    """What the node needs of a localizer."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate: ...


def build_localizer(settings: Settings, projection: MapProjection) -> Locates:
    """The real localizer on the map of `map_path`; MapError, ModelError or InputError when it cannot be made."""
    from cross_view_loc.aerial.map import AerialMap
    from cross_view_loc.aerial.sources import open_source
    from cross_view_loc.localizer import Localizer

    return Localizer(AerialMap(open_source(settings.map_path), projection), settings.localizer_settings())


def configured_origin(settings: Settings) -> MapOrigin | None:
    """The origin by `map_origin`, else by the map file's metadata; None when only the first fix can tell."""
    if settings.map_origin:
        return MapOrigin(*settings.map_origin)
    if not settings.map_path:
        raise InputError("parameter map_path is empty; give the aerial imagery (.mbtiles, .tif) with -p map_path:=FILE")
    from cross_view_loc.aerial.sources import open_source

    return open_source(settings.map_path).map_origin


def warm_up(localizer: Locates) -> float:
    """Seconds of a first estimate on a grey picture, which pays for lazy initialisation before a real image would."""
    camera = PinholeCamera(640, 360, 400.0, 400.0, 320.0, 180.0)
    frame = Frame(
        np.full((360, 640, 3), 128, np.uint8), camera, 0, transform(R_BASE_OPTICAL, (1.0, 0.0, 1.5)), name="warm-up"
    )
    started = time.perf_counter()
    # There may be no imagery at the origin, for example; real images will say so.
    with contextlib.suppress(CrossViewError):
        localizer.locate([frame], Prior(0, 0.0, 0.0, 20.0, 0.0, 0.1))
    return time.perf_counter() - started
