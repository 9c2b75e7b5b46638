"""A server of models on the loopback, like Hugging Face's, that fails as told."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Request:
    path: str
    headers: dict[str, str]


@dataclass
class HubServer:
    """Serves `files` of any repository; large ones (`lfs`) by a redirect to `storage`, another host."""

    files: dict[str, bytes]
    lfs: tuple[str, ...] = ("model.safetensors",)
    licence: str = "apache-2.0"
    commit: str = COMMIT
    token: str = ""
    """Needed, when given."""
    faults: list[Callable[[Handler, bytes], bool]] = field(default_factory=list)
    """Each takes one answer of bytes: it has answered when it returns True."""
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answered first, one by one, whatever is asked."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """Sent in place of a file that is still announced as it is."""
    requests: list[Request] = field(default_factory=list)
    resumes: bool = True

    def __post_init__(self) -> None:
        self._servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) for _ in range(2)]
        self.url, self.storage = (f"http://127.0.0.1:{each.server_address[1]}" for each in self._servers)

    def __enter__(self) -> HubServer:
        for each in self._servers:
            each.daemon_threads = True
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._servers:
            each.shutdown()
            each.server_close()

    def description(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
            if name in self.lfs:
                row["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            siblings.append(row)
        return {"sha": self.commit, "cardData": {"license": self.licence}, "siblings": siblings}

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    hub: HubServer

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_storage = self.headers["Host"] == urlsplit(hub.storage).netloc
        hub.requests.append(Request(("storage" if is_storage else "") + self.path, headers))
        if hub.statuses:
            status, more = hub.statuses.pop(0)
            return self.answer(status, b"sorry", more)
        if not is_storage and hub.token and headers.get("authorization") != f"Bearer {hub.token}":
            return self.answer(401, b"who are you")
        if path.startswith("/api/models/"):
            if "/revision/" not in path or path.rsplit("/", 1)[1] not in ("main", hub.commit, hub.commit[:7]):
                return self.answer(404, b"no such revision")
            return self.answer(200, json.dumps(hub.description()).encode())
        name = path.rsplit("/", 1)[1]
        if name not in hub.files:
            return self.answer(404, b"no such file")
        if name in hub.lfs and not is_storage:
            digest = hashlib.sha256(hub.files[name]).hexdigest()
            return self.answer(
                302, b"", {"Location": f"{hub.storage}/blob/{name}", "X-Linked-Etag": f'"{digest}"',
                           "X-Linked-Size": str(len(hub.files[name]))},
            )  # fmt: skip
        self.send_file(hub.lies.get(name, hub.files[name]), headers.get("range", ""))

    def send_file(self, data: bytes, asked_range: str) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", asked_range)
        start = int(found[1]) if found and self.hub.resumes else 0
        if found and start >= len(data):
            return self.answer(416, b"")
        if self.hub.faults and self.hub.faults.pop(0)(self, data[start:]):
            return None
        if not found or not self.hub.resumes:
            return self.answer(200, data)
        self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()


def breaks_after(count: int) -> Callable[[Handler, bytes], bool]:
    """The connection ends after so many bytes of the announced ones."""

    def fault(handler: Handler, data: bytes) -> bool:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        handler.send_response(206 if asked else 200)
        if asked:
            total = start + len(data)
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:count])
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return fault


def _handler(hub: HubServer) -> type[Handler]:
    return type("Bound", (Handler,), {"hub": hub})
