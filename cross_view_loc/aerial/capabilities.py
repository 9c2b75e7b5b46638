"""The GetCapabilities document of a WMTS: fetched at start, kept beside the cache for starts without a network."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.urls import redacted
from cross_view_loc.aerial.wmts import resolved
from cross_view_loc.errors import MapError

_TIMEOUT_S = 20.0
_MAX_BYTES = 64 * 2**20


def with_capabilities(spec: SourceSpec, cache_path: Path, offline: bool) -> SourceSpec:
    """The spec filled in from its capabilities document, or from the one kept when the service cannot be reached.

    Raises MapError when there is neither, and as `wmts.resolved` does.
    """
    kept = cache_path.with_suffix(".capabilities.xml")
    if offline:
        if not kept.is_file():
            raise MapError(
                f"{spec.name}: {kept} is missing, and offline forbids fetching it; open the source online once."
            )
        return resolved(spec, kept.read_bytes())
    try:
        document = _fetched(spec)
    except MapError:
        if kept.is_file():
            return resolved(spec, kept.read_bytes())
        raise
    found = resolved(spec, document)
    with contextlib.suppress(OSError):  # a full disk must not end the start; the next one fetches again
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(document)
        part.replace(kept)
    return found


def _fetched(spec: SourceSpec) -> bytes:
    """The document. Raises MapError with address and HTTP status."""
    try:
        import httpx
    except ImportError:
        raise MapError(f"{spec.name} is on the network, which needs httpx; run pip install httpx.") from None
    shown = redacted(spec.capabilities_url)
    headers = {"User-Agent": spec.user_agent, **spec.request_headers()}
    document = bytearray()
    try:
        address = spec.capabilities_url.replace("{key}", spec.api_key())
        with httpx.stream("GET", address, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as answer:
            if answer.status_code != 200:
                raise MapError(f"{spec.name}: {shown} answered HTTP {answer.status_code}; check capabilities_url.")
            for part in answer.iter_bytes():
                document += part
                if len(document) > _MAX_BYTES:
                    raise MapError(
                        f"{spec.name}: {shown} is larger than {_MAX_BYTES >> 20} MB; check capabilities_url."
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MapError(
            f"{spec.name}: {shown} cannot be reached ({type(error).__name__}); check capabilities_url and the network."
        ) from None
    return bytes(document)
