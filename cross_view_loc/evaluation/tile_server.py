"""A tile server on this machine that serves a painted scene: for benchmarks and tests, without the network."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.geometry.geodesy import WGS84_A_M, mercator_pixel

Image = NDArray[np.uint8]
Place = tuple[float, float]

_TILE_PATH = re.compile(r"^/(\d+)/(\d+)/(\d+)\.(png|jpg)$")
_WAVES_M = ((11.0, 0.0), (0.0, 17.0), (53.0, 31.0))
"""Lengths east and north of the stripes in red, green and blue."""


def paint_tile(key: TileKey, size_px: int = 256, dot: Place | None = None, dot_m: float = 1.5) -> Image:
    """RGB picture of smooth stripes that every zoom shows alike, with a white dot at a latitude and longitude."""
    world_m = 2.0 * np.pi * WGS84_A_M
    scale_m = world_m / (size_px * 2.0**key.zoom)
    east_m = (key.column * size_px + np.arange(size_px) + 0.5)[None, :] * scale_m
    south_m = (key.row * size_px + np.arange(size_px) + 0.5)[:, None] * scale_m
    phases = [
        2.0 * np.pi * (east_m / a if a else 0.0 * east_m) + 2.0 * np.pi * (south_m / b if b else 0.0 * south_m)
        for a, b in _WAVES_M
    ]
    picture = np.stack([100.0 + 50.0 * np.sin(phase) for phase in phases], axis=-1)
    if dot is not None:
        x, y = mercator_pixel(*dot, key.zoom, size_px)
        dx_m, dy_m = east_m - float(x) * scale_m, south_m - float(y) * scale_m
        weight = np.exp(-(dx_m**2 + dy_m**2) / (2.0 * dot_m**2))[..., None]
        picture = picture * (1.0 - weight) + 255.0 * weight
    return np.asarray(np.round(picture), dtype=np.uint8)


def encode(picture: Image, kind: str = "png") -> bytes:
    """An encoded RGB picture."""
    return bytes(cv2.imencode(f".{kind}", np.ascontiguousarray(picture[..., ::-1]))[1])


class PaintedTileServer:
    """Serves `/{z}/{x}/{y}.png` and `.jpg` on the loopback; use it in a `with` statement.

    `answer`, when given, may answer a request itself with (status, headers, body); None leaves it to the painter.
    """

    def __init__(
        self,
        dot: Place | None = None,
        answer: Callable[[TileKey], tuple[int, dict[str, str], bytes] | None] = lambda key: None,
        counts: bool = True,
    ) -> None:
        self.dot = dot
        self.answer = answer
        self.requests: Counter[TileKey] = Counter()
        """How often each tile was asked for; empty without `counts`."""
        self._counts = counts
        self._pictures: dict[tuple[TileKey, str], bytes] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, headers, body = outer._respond(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nobody wants a line for each tile."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Template of the tiles' addresses."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{{z}}/{{x}}/{{y}}.png"

    def __enter__(self) -> PaintedTileServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paint(self, keys: Iterable[TileKey], kind: str = "png") -> None:
        """Have the pictures ready, so that painting is not what a measurement measures."""
        for key in keys:
            self._picture(key, kind)

    def _respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        match = _TILE_PATH.match(path.partition("?")[0])
        if match is None:
            return 404, {"Content-Type": "text/plain"}, b"no such tile"
        zoom, column, row = (int(match[group]) for group in (1, 2, 3))
        key = TileKey(zoom, column, row)
        if self._counts:
            with self._lock:
                self.requests[key] += 1
        answer = self.answer(key)
        if answer is not None:
            return answer
        kind = match[4]
        return 200, {"Content-Type": f"image/{'jpeg' if kind == 'jpg' else kind}"}, self._picture(key, kind)

    def _picture(self, key: TileKey, kind: str) -> bytes:
        found = self._pictures.get((key, kind))
        if found is None:
            found = self._pictures[key, kind] = encode(paint_tile(key, dot=self.dot), kind)
        return found
