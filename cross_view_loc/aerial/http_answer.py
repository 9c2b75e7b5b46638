"""What a tile server answered: for the store as TileAnswer, and inside the client as it came."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cross_view_loc.aerial.http_policy import BackOff
from cross_view_loc.aerial.tiles import TileKey

Status = Literal["ok", "not_modified", "missing", "refused", "failed"]


@dataclass(frozen=True)
class TileAnswer:
    """What came of asking for a tile. Times are Unix seconds."""

    status: Status
    """ok (`data`), not_modified, missing (the source has no such tile), refused (do not ask this server any more),
    or failed (ask again after `retry_after_s`)."""
    data: bytes | None = None
    etag: str = ""
    last_modified: str = ""
    expires_s: float = 0.0
    reason: str = ""
    """One sentence with source, tile, HTTP status and remedy; empty when all is well."""
    retry_after_s: float = 0.0
    http_status: int | None = None
    """None when the server did not answer or was not asked."""
    was_asked: bool = True
    """False when the server is left in peace after earlier failures."""
    same_as: tuple[TileKey, ...] = ()
    """Tiles given out before as imagery that a placeholder has now been recognized in."""


def unasked(refusal: str, back_off: BackOff) -> TileAnswer | None:
    """The answer when a server is not to be asked now: refused for good, or failed lately; None when it may be."""
    if refusal:
        return TileAnswer("refused", reason=refusal, was_asked=False)
    remaining_s = back_off.remaining_s
    if remaining_s > 0.0:
        return TileAnswer("failed", reason=back_off.reason, retry_after_s=remaining_s, was_asked=False)
    return None


@dataclass(frozen=True)
class Reply:
    """Status, headers (lower-case names) and unpacked body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: str = ""
    """Why the body is not whole."""


def quoted_text(body: bytes) -> str:
    """The gist of an error page or message, at most 100 characters; empty when it is no text."""
    text = body[:20000].decode("utf-8", "replace")
    if not text.strip() or text.count("\N{REPLACEMENT CHARACTER}") + text.count("\0") > len(text) // 20:
        return ""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    code = re.search(r'exceptionCode="(\w+)"|<ServiceException code="(\w+)"', text)
    text = title[1] if title else re.sub(r"<[^>]*>", " ", text)
    text = html.unescape(" ".join(([code[1] or code[2]] if code else []) + text.split()))
    text = "".join(character for character in text if character.isprintable()).replace('"', "'")
    return text if len(text) <= 100 else text[:99] + "…"
