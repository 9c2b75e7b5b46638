"""Asks a tile server for one tile at a time, politely, and says in one sentence whatever comes instead of a picture."""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cross_view_loc.aerial.http_answer import Reply, TileAnswer, quoted_text, unasked
from cross_view_loc.aerial.http_policy import (
    REFUSALS,
    BackOff,
    PlaceholderDetector,
    RateLimit,
    Secrets,
    lifetime_s,
    retry_after_s,
)
from cross_view_loc.aerial.picture import picture_header
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey, decode_tile
from cross_view_loc.aerial.urls import shown_url, tile_url
from cross_view_loc.errors import MissingInputError

if TYPE_CHECKING:
    import httpx

__all__ = ["TileAnswer", "TileClient"]

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
WHOLE_ANSWER_S = 60.0
MISSING_HOLDS_S = 86400.0
BROKEN_TILE_AGAIN_S = 600.0
_DAY_S = 86400.0
_MOST_REDIRECTS = 3
_SECRET_HEADER = re.compile(r"key|token|auth|secret|cookie|password", re.IGNORECASE)


@dataclass
class _Limits:
    bytes: int
    side_px: int


@dataclass
class TileClient:
    """One source's server. Safe between threads; `fetch` blocks for as long as its timeouts, and never raises.

    At most `spec.connections` requests at a time and `spec.rate_per_s` a second. After 429, 5xx or no answer the
    server is left in peace for a growing while, after 401 or 403 for good. Opens no connection before the first fetch.
    """

    spec: SourceSpec
    back_off: BackOff = field(default_factory=BackOff)
    now: Callable[[], float] = time.time
    timeout_s: float = READ_TIMEOUT_S
    refusal: str = ""
    """Why the server is not asked any more; empty while it is."""

    def __post_init__(self) -> None:
        self._limits = _Limits(max(4 << 20, 6 * self.spec.tile_size_px**2), max(1024, 2 * self.spec.tile_size_px))
        self._turns = threading.BoundedSemaphore(self.spec.connections)
        self._rate, self._placeholders = RateLimit(self.spec.rate_per_s), PlaceholderDetector()
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._http: httpx.Client | None = None
        self._secrets = Secrets(())
        self._own_headers: dict[str, str] = {}

    def fetch(self, key: TileKey, etag: str = "", last_modified: str = "") -> TileAnswer:
        """Ask for a tile; with `etag` or `last_modified` of the one at hand, only whether there is a newer one."""
        try:
            address, http = tile_url(self.spec, key), self._client()
        except MissingInputError as error:
            return self._refuse(str(error), None)
        with self._turns:
            if unasked(self.refusal, self.back_off) is None and not self._rate.wait(self._closed):
                return TileAnswer("failed", reason=self._says(key, "the program is ending"), was_asked=False)
            idle = unasked(self.refusal, self.back_off)
            if idle is not None:
                return idle
            headers = {"If-None-Match": etag} if etag else {}
            if last_modified:
                headers["If-Modified-Since"] = last_modified
            try:
                reply = self._ask(http, address, headers)
            except Exception as error:  # httpx has many, and a closed client raises RuntimeError
                return self._no_answer(key, error)
        return self._judge(key, reply, bool(headers))

    def close(self) -> None:
        """End waiting calls and drop connections; a request under way ends with its timeout."""
        self._closed.set()
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._secrets.guard(False)

    # --- asking ---

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._http is not None:
                return self._http
            try:
                import httpx
            except ImportError:
                raise MissingInputError(
                    f"{self.spec.name} is on the network, which needs httpx; run pip install httpx."
                ) from None
            self._own_headers = self.spec.request_headers()
            hidden = [value for name, value in self._own_headers.items() if _SECRET_HEADER.search(name)]
            # An "Authorization: Bearer X" is told as X by some servers.
            hidden += [word for value in hidden for word in value.split() if len(word) >= 8]
            self._secrets = Secrets([self.spec.api_key(), *hidden])
            self._secrets.guard()
            self._http = httpx.Client(
                # Compressed pictures do not shrink; asking for none keeps decompression bombs away.
                headers={
                    "User-Agent": self.spec.user_agent,
                    "Accept": "image/webp,image/png,image/jpeg,*/*;q=0.1",
                    "Accept-Encoding": "identity",
                },
                timeout=httpx.Timeout(self.timeout_s, connect=min(CONNECT_TIMEOUT_S, self.timeout_s)),
                limits=httpx.Limits(max_connections=self.spec.connections),
            )
            return self._http

    def _ask(self, http: httpx.Client, address: str, headers: dict[str, str]) -> Reply:
        own = self._own_headers
        for _ in range(_MOST_REDIRECTS + 1):
            request = http.build_request("GET", address, headers={**own, **headers})
            with http.stream(request.method, request.url, headers=request.headers) as response:
                onward = response.next_request
                if onward is None:
                    return self._read(response)
            if onward.url.host != request.url.host or onward.url.scheme != request.url.scheme:
                own = {}  # another server has no business with our key
            address = str(onward.url)
        return Reply(response.status_code, response.headers, b"", "redirects without end")

    def _read(self, response: httpx.Response) -> Reply:
        """The body, unpacked, with its size watched at every step."""
        status, headers = response.status_code, response.headers
        limit, started_s = self._limits.bytes, time.monotonic()
        packing = headers.get("content-encoding", "identity").lower()
        unpack: Any = zlib.decompressobj(47) if packing in ("gzip", "deflate") else None
        if unpack is None and packing != "identity":
            return Reply(status, headers, b"", f"a body packed as {packing}")
        body = bytearray()
        for chunk in response.iter_raw():
            body += unpack.decompress(chunk, limit + 1 - len(body)) if unpack else chunk
            if len(body) > limit:
                return Reply(status, headers, b"", f"more than {limit >> 20} MiB, too much for a tile")
            if time.monotonic() - started_s > WHOLE_ANSWER_S:
                return Reply(status, headers, b"", f"a body that takes more than {WHOLE_ANSWER_S:.0f} s")
        return Reply(status, headers, bytes(body))

    # --- judging ---

    def _judge(self, key: TileKey, reply: Reply, was_conditional: bool) -> TileAnswer:
        status, body = reply.status, reply.body
        quoted = self._secrets.hide(quoted_text(body)) if picture_header(body) is None else ""
        said = f' and says "{quoted}"' if quoted else ""
        if status in REFUSALS:
            what = f"HTTP {status} ({REFUSALS[status]}){said}, so the server is not asked any more"
            remedy = "check the API key and the service's terms, then start again"
            return self._refuse(self._says(key, f"{what}; {remedy}"), status)
        if status == 429 or status >= 500 or status in (408, 425):
            wait_s = retry_after_s(reply.headers, self.now())
            what = "too many requests" if status == 429 else "the server fails"
            remedy = "lower rate_per_s" if status == 429 else "if it goes on, ask the service's operator"
            asked = f", it asks for {wait_s:.0f} s of peace" if wait_s else ""
            return self._later(
                key, f"HTTP {status} ({what}){said}{asked}; it is asked again later; {remedy}", status, wait_s
            )
        if status == 304 and was_conditional:
            self.back_off.succeed()
            return TileAnswer("not_modified", expires_s=self._expires_s(reply), http_status=status)
        if (
            status in (204, 404, 410)
            or (status == 400 and "TileOutOfRange" in quoted)
            or (status == 200 and not body and not reply.fault)
        ):
            self.back_off.succeed()
            what = f"HTTP {status}, the source has no imagery there{said}"
            return self._missing(
                key, f"{what}; if it should, check url, zoom_max and bounds in the source's YAML", reply
            )
        if status != 200:
            fault = f" and {reply.fault}" if reply.fault else ""
            what = f"HTTP {status}{said}{fault} at {shown_url(self.spec, key)}"
            return self._broken(key, f"{what}; check url and layer in the source's YAML", status)
        return self._picture(key, reply, quoted)

    def _picture(self, key: TileKey, reply: Reply, quoted: str) -> TileAnswer:
        """HTTP 200: imagery, or something that only claims to be."""
        kind, body = reply.headers.get("content-type", "no content type").split(";")[0], reply.body
        header = picture_header(body)
        if reply.fault:
            return self._broken(
                key, f"HTTP 200 with {reply.fault}; check url and tile_size_px in the source's YAML", 200
            )
        if header is None:
            if "protobuf" in kind or "mvt" in kind or "vector-tile" in kind:
                sentence = "HTTP 200 with a vector tile; give a source of pictures (jpeg, png or webp)"
                return self._refuse(self._says(key, sentence), 200)
            said = f' that says "{quoted}"' if quoted else ""
            sentence = f"HTTP 200 with {kind}{said} instead of a picture; open {shown_url(self.spec, key)} in a browser"
            return self._later(key, f"{sentence} to see whether this network or the service blocks it", 200, 0.0)
        if max(header.width_px, header.height_px) > self._limits.side_px:
            size = f"{header.width_px} × {header.height_px}"
            return self._broken(
                key, f"HTTP 200 with a picture of {size} pixels, too many for a tile; check tile_size_px and url", 200
            )
        if not header.is_whole or decode_tile(body) is None:
            what = "cut short" if not header.is_whole else "that cannot be decoded"
            return self._broken(key, f"HTTP 200 with a {header.format} {what}; it is asked for again later", 200)
        self.back_off.succeed()
        others = self._placeholders.others(key, body)
        if others:
            what = (
                f"HTTP 200 with the same {len(body)} bytes as {len(others)} other tiles, a placeholder and no imagery"
            )
            answer = self._missing(
                key, f"{what}; look at {shown_url(self.spec, key)} in a browser, and at zoom_max", reply
            )
            return TileAnswer(
                "missing", expires_s=answer.expires_s, reason=answer.reason, http_status=200, same_as=others
            )
        etag, last_modified = (self._secrets.hide(reply.headers.get(name, "")) for name in ("etag", "last-modified"))
        return TileAnswer("ok", body, etag, last_modified, self._expires_s(reply), http_status=200)

    def _expires_s(self, reply: Reply) -> float:
        now_s = self.now()
        return now_s + max(lifetime_s(reply.headers, now_s), self.spec.cache_days * _DAY_S)

    def _missing(self, key: TileKey, what: str, reply: Reply) -> TileAnswer:
        now_s = self.now()
        holds_s = min(max(lifetime_s(reply.headers, now_s), MISSING_HOLDS_S), 7 * MISSING_HOLDS_S)
        return TileAnswer("missing", expires_s=now_s + holds_s, reason=self._says(key, what), http_status=reply.status)

    def _broken(self, key: TileKey, what: str, status: int) -> TileAnswer:
        """This tile is no good; others may be."""
        self.back_off.succeed()
        return TileAnswer("failed", reason=self._says(key, what), retry_after_s=BROKEN_TILE_AGAIN_S, http_status=status)

    def _later(self, key: TileKey, what: str, status: int | None, wait_s: float) -> TileAnswer:
        """The server is not well: no tile is asked of it for a while."""
        reason = self._says(key, what)
        return TileAnswer("failed", reason=reason, retry_after_s=self.back_off.fail(reason, wait_s), http_status=status)

    def _refuse(self, reason: str, status: int | None) -> TileAnswer:
        self.refusal = self.refusal or reason
        return TileAnswer("refused", reason=reason, http_status=status)

    def _no_answer(self, key: TileKey, error: Exception) -> TileAnswer:
        host = urlsplit(shown_url(self.spec, key)).hostname
        text = self._secrets.hide(str(error) or type(error).__name__).rstrip(".")
        kind = type(error).__name__
        if self._closed.is_set():
            return TileAnswer("failed", reason=self._says(key, "the program is ending"), was_asked=False)
        if re.search("name|address associated|getaddrinfo|resolution", text, re.IGNORECASE) and kind == "ConnectError":
            what = f'host "{host}" cannot be found ({text}); check the spelling of url and the name service'
        elif "Timeout" in kind:
            what = f"no answer from {host} within {self.timeout_s:g} s; check the network"
        elif kind == "ConnectError":
            what = f"no connection to {host} ({text}); check the network, and url in the source's YAML"
        elif kind == "RemoteProtocolError" and "complete message body" in text:
            what = f"HTTP 200 cut short by {host} ({text}); it is asked for again later"
        else:
            what = f"the connection to {host} broke ({kind}: {text}); it is asked for again later"
        return self._later(key, what, None, 0.0)

    def _says(self, key: TileKey, what: str) -> str:
        return f"{self.spec.name}, tile {key}: {what}."
