"""A tile server on the loopback that fails as told, for the tests of the map."""

from __future__ import annotations

import contextlib
import http.server
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey


def picture(seed: int = 0, size_px: int = 256, kind: str = ".png") -> bytes:
    """An encoded tile, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, cv2.resize(coarse, (size_px, size_px)))[1])


@dataclass(frozen=True)
class Answer:
    """What the server does with a request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    """"reset" sends nothing and resets the connection; "truncated" announces more bytes than it sends; "drop" ends
    the body early without having announced a length."""
    delay_s: float = 0.0


@dataclass
class Request:
    """What was asked, with lower-case header names."""

    path: str
    headers: dict[str, str]
    time_s: float


class FaultServer:
    """Serves `/z/x/y` by `answers` (the tile's, else `default`, else a picture of the tile's own)."""

    def __init__(self, default: Answer | None = None) -> None:
        self.default = default
        self.answers: dict[TileKey, Answer | list[Answer]] = {}
        """A list is worked off, its last answer repeats."""
        self.requests: list[Request] = []
        self.counts: Counter[TileKey] = Counter()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spec(self, query: str = "", **changes: Any) -> SourceSpec:
        """A source on this server, quick by default."""
        values = {"kind": "xyz", "name": "Ortho", "url": f"{self.url}/{{z}}/{{x}}/{{y}}{query}", "rate_per_s": 1000.0}
        return SourceSpec.from_mapping(values | {"zoom_min": 10, "user_agent_contact": "me@example.org"} | changes)

    def answer(self, key: TileKey) -> Answer:
        with self._lock:
            self.counts[key] += 1
            planned = self.answers.get(key, self.default)
            if isinstance(planned, list):
                planned = planned.pop(0) if len(planned) > 1 else planned[0]
        return planned or Answer(body=picture(hash(key) % 2**32), headers={"Content-Type": "image/png"})

    def _handler(self) -> type:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet: no waiting for acknowledgements

            def do_GET(self) -> None:
                parts = self.path.split("?")[0].strip("/").split("/")
                key = TileKey(*(int(part) for part in parts[-3:]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with outer._lock:
                    outer.requests.append(Request(self.path, headers, time.monotonic()))
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    self._answer(outer.answer(key))
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def _answer(self, answer: Answer) -> None:
                time.sleep(answer.delay_s)
                if answer.fault == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value.replace("{self}", self.path))
                if answer.fault == "drop":
                    self.close_connection = True
                    self.send_header("Connection", "close")
                elif answer.status not in (204, 304):
                    more = 1000 if answer.fault == "truncated" else 0
                    self.send_header("Content-Length", str(len(answer.body) + more))
                self.end_headers()
                self.wfile.write(answer.body)
                self.wfile.flush()
                if answer.fault == "truncated":
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

        return Handler
