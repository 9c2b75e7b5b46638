"""Talks with a server of models (Hugging Face, or one that answers like it): what a repository holds, and its bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from cross_view_loc import __version__
from cross_view_loc.aerial.http_policy import BackOff, Secrets, retry_after_s
from cross_view_loc.errors import ModelError

if TYPE_CHECKING:
    import httpx

ENDPOINT = "https://huggingface.co"
ATTEMPTS = 6
"""In a row without a byte of progress; then the server is given up on."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
_MOST_REDIRECTS = 5
_LONGEST_ANSWER = 8 << 20
_YES = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository."""

    name: str
    size: int | None
    sha256: str = ""
    """Of large files (LFS), as the server says."""
    git_sha1: str = ""
    """Of small ones: SHA-1 of git's header and the bytes."""

    @property
    def tag(self) -> str:
        """What names this content; empty when the server does not say."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True)
class HubRepository:
    """A repository at one commit."""

    name: str
    commit: str
    licence: str
    files: tuple[HubFile, ...]


class Again(Exception):
    """The server may do better in a moment."""

    def __init__(self, sentence: str, wait_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class Hub:
    """One server. Opens no connection before the first question; the token in HF_TOKEN goes to it alone."""

    def __init__(
        self,
        endpoint: str = "",
        sleep: Callable[[float], None] = time.sleep,
        environment: Mapping[str, str] = os.environ,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """`endpoint` by default that of HF_ENDPOINT. Raises ModelError for one that is no address."""
        self.endpoint = (endpoint or environment.get("HF_ENDPOINT", "") or ENDPOINT).rstrip("/")
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ModelError(f"the endpoint '{self.endpoint}' is no address; it begins https://")
        self.is_offline = environment.get("HF_HUB_OFFLINE", "").upper() in _YES
        self.sleep, self._timeout_s = sleep, timeout_s
        self._token = environment.get("HF_TOKEN", "").strip()
        self._secrets = Secrets([self._token])
        self._http: httpx.Client | None = None

    def repository(self, name: str, revision: str) -> HubRepository:
        """What a repository `owner/name` holds at a branch, tag or commit. Raises ModelError."""
        address = f"{self.endpoint}/api/models/{quote(name)}/revision/{quote(revision, safe='')}?blobs=true"
        values = self.persist(lambda: self._json(address, f"{name} at '{revision}'"))
        try:
            files = tuple(_file(each) for each in values["siblings"])
            return HubRepository(name, str(values["sha"]), _licence(values), files)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(
                f"{self.endpoint} answers, but not as a server of models does ({type(error).__name__}: {error}); check "
                "the endpoint"
            ) from error

    def persist(self, attempt: Callable[[], Any], progress: Callable[[], int] = lambda: 0) -> Any:
        """Call until it does not raise `Again`; `progress` is a number that grows while something is achieved."""
        back_off, failures = BackOff(first_s=1.0, longest_s=60.0), 0
        while True:
            before = progress()
            try:
                return attempt()
            except Again as again:
                failures = 1 if progress() > before else failures + 1
                if failures >= ATTEMPTS:
                    raise ModelError(f"{again}, {failures} times in a row; the same command goes on later") from again
                if progress() > before:
                    back_off.succeed()
                self.sleep(back_off.fail(str(again), again.wait_s))

    @contextmanager
    def get(self, address: str, what: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """A streamed answer with status 200, 206 or 416, after redirects; their linked headers go into `extensions`.

        Raises Again for what may pass, ModelError for what will not.
        """
        import httpx

        if self.is_offline:
            raise ModelError(f"HF_HUB_OFFLINE is set and {what} is not on this machine; unset it to fetch")
        linked: dict[str, str] = {}
        own = urlsplit(self.endpoint).netloc
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                token = {"Authorization": f"Bearer {self._token}"} if self._token else {}
                sent = {**(headers or {}), **(token if urlsplit(address).netloc == own else {})}
                with self._client(httpx).stream("GET", address, headers=sent) as response:
                    linked |= {key: value for key, value in response.headers.items() if key.startswith("x-linked-")}
                    if response.has_redirect_location:
                        address = urljoin(address, response.headers["location"])
                        continue
                    self._judge(response, what)
                    response.extensions["linked"] = linked
                    yield response
                    return
        except httpx.HTTPError as error:
            text = self._secrets.hide((str(error) or type(error).__name__).rstrip("."))
            raise Again(f"no whole answer from {urlsplit(address).netloc} for {what} ({text})") from error
        raise ModelError(f"{self.endpoint} redirects without end for {what}; check the endpoint")

    def close(self) -> None:
        """Drop the connections."""
        if self._http is not None:
            self._http.close()
        self._secrets.guard(False)

    def _client(self, httpx: Any) -> httpx.Client:
        if self._http is None:
            self._secrets.guard()
            self._http = httpx.Client(
                # Bytes are counted and hashed as they are stored: packed on the way they would not be resumable.
                headers={"User-Agent": f"cross_view_loc/{__version__}", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            )
        return self._http

    def _judge(self, response: httpx.Response, what: str) -> None:
        status, host = response.status_code, urlsplit(self.endpoint).netloc
        if status in (200, 206, 416):
            return
        if status == 429 or status >= 500 or status == 408:
            wait_s = retry_after_s(response.headers, time.time())
            raise Again(f"{host} answers {status} for {what}", wait_s)
        if status in (401, 403):
            remedy = (
                "check that the token in HF_TOKEN may read it, and accept its terms on its page"
                if self._token
                else "check the name; if its page asks to log in, accept its terms there and put a token into HF_TOKEN"
            )
            raise ModelError(f"{host} refuses {what} ({status}); {remedy}")
        if status == 404:
            raise ModelError(f"{host} has no {what} (404); check the name and the revision")
        raise ModelError(f"{host} answers {status} for {what}; check the endpoint")

    def _json(self, address: str, what: str) -> Any:
        with self.get(address, what) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > _LONGEST_ANSWER:
                    raise ModelError(f"{self.endpoint} sends too much for {what}; check the endpoint")
        import json

        try:
            return json.loads(bytes(body))
        except ValueError as error:
            raise ModelError(f"{self.endpoint} sends no JSON for {what}; check the endpoint") from error


def _file(values: dict[str, Any]) -> HubFile:
    lfs = values.get("lfs") or {}
    size = lfs.get("size", values.get("size"))
    sha256 = str(lfs.get("sha256") or lfs.get("oid") or "")
    return HubFile(
        str(values["rfilename"]),
        None if size is None else int(size),
        sha256.removeprefix("sha256:").lower(),
        "" if lfs else str(values.get("blobId") or "").lower(),
    )


def _licence(values: dict[str, Any]) -> str:
    card = values.get("cardData") or {}
    tagged = [tag.removeprefix("license:") for tag in values.get("tags") or () if str(tag).startswith("license:")]
    found = card.get("license_name") or card.get("license") or (tagged[0] if tagged else "")
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)
