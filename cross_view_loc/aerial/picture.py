"""What an encoded picture says of itself before anybody decodes it: its format, its size, whether its end is there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG; C4, C8 and CC are other things.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class PictureHeader:
    """Format ("png", "jpeg" or "webp") and pixels of an encoded picture."""

    format: str
    width_px: int
    height_px: int
    is_whole: bool
    """Whether the end of the file is where the format says."""


def picture_header(data: bytes) -> PictureHeader | None:
    """The header of a PNG, JPEG or WebP; None for everything else and for headers cut short."""
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return PictureHeader("png", width, height, data[-8:-4] == b"IEND")
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(data: bytes) -> PictureHeader | None:
    position = 2
    while position < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            # Some encoders leave a few bytes behind the end marker.
            return PictureHeader("jpeg", width, height, b"\xff\xd9" in data[-64:])
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _webp(data: bytes) -> PictureHeader | None:
    """See the WebP container specification: the three kinds of first chunk keep the size in three ways."""
    is_whole = len(data) >= struct.unpack_from("<I", data, 4)[0] + 8
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return PictureHeader("webp", width, height, is_whole)
