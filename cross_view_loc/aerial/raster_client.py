"""A GeoTIFF behind an http address, given out as web-mercator tiles: so it is cached and never waited for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cross_view_loc.aerial.http_answer import TileAnswer
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.aerial.urls import redacted
from cross_view_loc.errors import CrossViewError
from cross_view_loc.geometry.geodesy import mercator_geodetic, mercator_meters_per_pixel

if TYPE_CHECKING:
    from cross_view_loc.aerial.geotiff import GeotiffSource

_RETRY_S = 30.0
_DAY_S = 86400.0


class RasterClient:
    """Renders tiles from the blocks of a remote raster; the counterpart of TileClient. Safe between threads.

    `fetch` blocks for as long as GDAL's timeouts and never raises; nothing is opened before the first.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self.refusal = ""
        self._raster: GeotiffSource | None = None
        self._lock = threading.Lock()

    def fetch(self, key: TileKey, etag: str = "", last_modified: str = "") -> TileAnswer:
        """The tile as lossless PNG, transparent where the raster has nothing."""
        try:
            raster = self._opened()
        except CrossViewError as error:
            return TileAnswer("failed", reason=str(error), retry_after_s=_RETRY_S)
        size = self.spec.tile_size_px
        centers = np.arange(size) + 0.5
        columns, rows = np.meshgrid(key.column * size + centers, key.row * size + centers)
        latitude_deg, longitude_deg = mercator_geodetic(columns, rows, key.zoom, size)
        problems = raster.problem_count
        middle_deg = float(latitude_deg[size // 2, size // 2])
        taken = raster.sample_detailed(
            latitude_deg, longitude_deg, mercator_meters_per_pixel(middle_deg, key.zoom, size)
        )
        if raster.problem_count > problems:
            return TileAnswer(
                "failed", reason=f"{self.spec.name}, tile {key}: {raster.problems[-1]}", retry_after_s=_RETRY_S
            )
        expires_s = time.time() + max(7.0, self.spec.cache_days) * _DAY_S
        if not taken.valid.any():
            reason = f"{self.spec.name}, tile {key}: the raster has nothing there."
            return TileAnswer("missing", reason=reason, expires_s=expires_s)
        pixels = np.dstack([taken.image[..., ::-1], np.where(taken.valid, 255, 0).astype(np.uint8)])
        return TileAnswer("ok", data=cv2.imencode(".png", pixels)[1].tobytes(), expires_s=expires_s)

    def close(self) -> None:
        """Let go of the raster."""
        with self._lock:
            self._raster = None

    def _opened(self) -> GeotiffSource:
        from cross_view_loc.aerial.geotiff import GeotiffSource

        with self._lock:
            if self._raster is None:
                spec = self.spec
                address = spec.url.replace("{key}", spec.api_key())
                self._raster = GeotiffSource(address, spec.crs, redacted(spec.url), spec.request_headers())
            return self._raster
