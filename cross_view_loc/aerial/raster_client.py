"""A GeoTIFF behind an http address, given out as web-mercator tiles: so it is cached and never waited for."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cross_view_loc.aerial.http_answer import TileAnswer, unasked
from cross_view_loc.aerial.http_policy import REFUSALS, BackOff, RateLimit
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.aerial.urls import redacted
from cross_view_loc.errors import CrossViewError
from cross_view_loc.geometry.geodesy import mercator_geodetic, mercator_meters_per_pixel

if TYPE_CHECKING:
    from cross_view_loc.aerial.geotiff import GeotiffSource

_DAY_S = 86400.0
_HTTP_STATUS = re.compile(r"HTTP (?:response|error) code\D{0,5}([45]\d\d)", re.IGNORECASE)
# What GDAL says when the network, and not the file, is at fault; an error page in place of the file passes too.
_NETWORK = re.compile(r"HTTP (?:response|error) code|CURL error|timed? ?out|not recognized as", re.IGNORECASE)
_GONE = (404, 410)


class RasterClient:
    """Renders tiles from the blocks of a remote raster; the counterpart of TileClient. Safe between threads.

    `fetch` blocks for as long as GDAL's timeouts and never raises; nothing is opened before the first. After a failure
    the server is left in peace for a growing while, after 401, 403 or 404 (there is but one file) for good.
    """

    def __init__(self, spec: SourceSpec, back_off: BackOff | None = None) -> None:
        self.spec = spec
        self.back_off = back_off or BackOff()
        self.refusal = ""
        """Why the server is not asked any more; empty while it is."""
        self._rate, self._closed = RateLimit(spec.rate_per_s), threading.Event()
        self._raster: GeotiffSource | None = None
        self._lock = threading.Lock()

    def fetch(self, key: TileKey, etag: str = "", last_modified: str = "") -> TileAnswer:
        """The tile as lossless PNG, transparent where the raster has nothing."""
        if unasked(self.refusal, self.back_off) is None and not self._rate.wait(self._closed):
            return TileAnswer("failed", reason=f"{self.spec.name}: the program is ending.", was_asked=False)
        idle = unasked(self.refusal, self.back_off)
        if idle is not None:
            return idle
        try:
            raster = self._opened()
        except CrossViewError as error:
            is_lasting = not _NETWORK.search(str(error))
            return self._failed(key, str(error), is_lasting)
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
            problem = raster.problems[-1]
            with self._lock:
                self._raster = None  # opened anew, it says more: reading tells no HTTP status
            return self._failed(key, problem, is_lasting=False)
        self.back_off.succeed()
        expires_s = time.time() + max(7.0, self.spec.cache_days) * _DAY_S
        if not taken.valid.any():
            reason = f"{self.spec.name}, tile {key}: the raster has nothing there."
            return TileAnswer("missing", reason=reason, expires_s=expires_s)
        pixels = np.dstack([taken.image[..., ::-1], np.where(taken.valid, 255, 0).astype(np.uint8)])
        return TileAnswer("ok", data=cv2.imencode(".png", pixels)[1].tobytes(), expires_s=expires_s)

    def close(self) -> None:
        """End waiting calls and let go of the raster."""
        self._closed.set()
        with self._lock:
            self._raster = None

    def _failed(self, key: TileKey, problem: str, is_lasting: bool) -> TileAnswer:
        """Ask again later, or never where the problem lasts: a refusal, a wrong address, a file that is no map."""
        reason = f"{self.spec.name}, tile {key}: {problem.rstrip('.')}"
        found = _HTTP_STATUS.search(problem)
        status = int(found[1]) if found else None
        if is_lasting or status in (*REFUSALS, *_GONE):
            self.refusal = f"{reason}; it is not asked any more, start again once that is mended."
            return TileAnswer("refused", reason=self.refusal, http_status=status)
        return TileAnswer(
            "failed", reason=f"{reason}.", retry_after_s=self.back_off.fail(f"{reason}."), http_status=status
        )

    def _opened(self) -> GeotiffSource:
        from cross_view_loc.aerial.geotiff import GeotiffSource

        with self._lock:
            if self._raster is None:
                spec = self.spec
                address = spec.url.replace("{key}", spec.api_key())
                headers = {"User-Agent": spec.user_agent, **spec.request_headers()}
                self._raster = GeotiffSource(address, spec.crs, redacted(spec.url), headers)
            return self._raster
