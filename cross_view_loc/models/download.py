"""One file from a server of models: resumed where it broke off, verified, and there only when it is whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cross_view_loc.errors import ModelError
from cross_view_loc.models.hub import Again, Hub, HubFile, HubRepository
from cross_view_loc.models.lock import LockedFile, sha256_of

if TYPE_CHECKING:
    import httpx

WRONG_TWICE = 2
"""So often whole files of the wrong content may come; then the server is not believed."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Download:
    """Fetches `file` of `repository` into `folder`; `on_bytes` hears how many more there are (negative: lost again)."""

    def __init__(
        self,
        hub: Hub,
        repository: HubRepository,
        file: HubFile,
        folder: Path,
        expected_sha256: str = "",
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`expected_sha256` is what the file was before (lock, registry): the server must not say otherwise."""
        self._hub, self._file, self._on_bytes = hub, file, on_bytes
        self._what = f"{file.name} of {repository.name}"
        self._address = f"{hub.endpoint}/{quote(repository.name)}/resolve/{repository.commit}/{quote(file.name)}"
        self._expected = expected_sha256
        self._final = folder / file.name
        # Named after the content: what was begun of another version is never gone on with.
        mark = (file.tag or repository.commit or "new")[:16]
        self._part = folder / f".{file.name}.{re.sub(r'[^0-9A-Za-z]', '', mark)}.part"
        self._wrong = self._farthest = 0

    def run(self) -> LockedFile:
        """The file in its place, with what it is known by from now on. Raises ModelError; what came so far stays."""
        if self._expected and self._file.sha256 and self._expected != self._file.sha256:
            raise ModelError(
                f"{self._what} has another SHA-256 on {self._hub.endpoint} ({self._file.sha256[:16]}…) than when it "
                f"was first fetched ({self._expected[:16]}…); if that is meant, fetch another --revision"
            )
        self._final.parent.mkdir(parents=True, exist_ok=True)
        if self._part.exists():
            self._on_bytes(self._part.stat().st_size)
        found: LockedFile = self._hub.persist(self._once, self._farthest_so_far)
        return found

    def _farthest_so_far(self) -> int:
        """A part that is thrown away and comes again is no progress."""
        self._farthest = max(self._farthest, self._size_so_far())
        return self._farthest

    def _size_so_far(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _once(self) -> LockedFile:
        so_far = self._size_so_far()
        if self._file.size is None or so_far < self._file.size or so_far == 0:
            self._receive(so_far)
        return self._accept()

    def _receive(self, so_far: int) -> None:
        headers = {"Range": f"bytes={so_far}-"} if so_far else {}
        with self._hub.get(self._address, self._what, headers) as response:
            self._check_promises(response)
            if response.status_code == 416:
                self._discard()
                raise Again(f"{self._what} could not be gone on with")
            begins = _RANGE.match(response.headers.get("content-range", ""))
            goes_on = response.status_code == 206 and begins is not None and int(begins[1]) == so_far
            if so_far and not goes_on:  # the server cannot resume, or resumes elsewhere
                self._on_bytes(-so_far)
                if response.status_code == 206:
                    self._part.unlink()
                    raise Again(f"{self._what} is gone on with at another place than asked")
            with self._part.open("ab" if goes_on else "wb") as part:
                received = so_far if goes_on else 0
                for chunk in response.iter_raw():
                    received += len(chunk)
                    if self._file.size is not None and received > self._file.size:
                        break
                    part.write(chunk)
                    self._on_bytes(len(chunk))
            if self._file.size is not None and received > self._file.size:
                self._refuse(f"is longer than the {self._file.size} bytes that were announced")
            if self._file.size is not None and received < self._file.size:
                raise Again(f"{self._what} ended after {received} of {self._file.size} bytes")

    def _check_promises(self, response: httpx.Response) -> None:
        """The headers say what they are about to send: refuse it before 1 GB of it has come."""
        etag = response.extensions["linked"].get("x-linked-etag", "").removeprefix("W/").strip('"').lower()
        known = self._expected or self._file.sha256
        if known and _SHA256.fullmatch(etag) and etag != known:
            raise ModelError(
                f"{self._hub.endpoint} offers {self._what} with SHA-256 {etag[:16]}… where {known[:16]}… was meant; "
                "check the endpoint, or fetch another --revision"
            )

    def _accept(self) -> LockedFile:
        size, sha256 = self._part.stat().st_size, sha256_of(self._part)
        known = self._expected or self._file.sha256
        if self._file.size not in (None, size):
            self._refuse(f"has {size} bytes where {self._file.size} were announced")
        if known and sha256 != known:
            self._refuse(f"has SHA-256 {sha256[:16]}… and not {known[:16]}…")
        if self._file.git_sha1 and git_sha1_of(self._part) != self._file.git_sha1:
            self._refuse(f"is not what the repository holds (git hash {self._file.git_sha1[:16]}…)")
        os.replace(self._part, self._final)
        return LockedFile(size, sha256, self._final.stat().st_mtime_ns)

    def _refuse(self, how: str) -> None:
        """A whole file of the wrong content: once it may be a damaged part, twice it is the server."""
        self._discard()
        self._wrong += 1
        if self._wrong >= WRONG_TWICE:
            raise ModelError(
                f"what {self._hub.endpoint} sends as {self._what} {how}; nothing of it is kept, check the endpoint"
            )
        raise Again(f"{self._what} {how}")

    def _discard(self) -> None:
        self._on_bytes(-self._size_so_far())
        self._part.unlink(missing_ok=True)


def git_sha1_of(path: Path) -> str:
    """Git's hash of a file as a blob."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
