"""MCAP files without a usable end: what is whole is indexed anew, in memory, and read as if the file ended there.

A recorder writes the index (the summary section) when it is stopped. After a power cut, or in a copy that broke off,
it is missing, but all before the cut can be read. The layout of records is that of the MCAP specification
(https://mcap.dev/spec): a byte for the kind, eight for the length, the content; numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cross_view_loc.bags.patched_file import PatchedPath
from cross_view_loc.errors import InputError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA_ENCODINGS = ("ros2msg", "ros2idl", "omgidl", "")
"""How messages may be described so that `rosbags` understands it."""
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _CHUNK_INDEX = 1, 2, 3, 4, 5, 6, 7, 8
_STATISTICS, _DATA_END, _LAST = 0x0B, 0x0F, 0x0F
_HEAD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
"""First and last time (ns), uncompressed size, checksum."""


@dataclass
class _Chunk:
    """A chunk that could be unpacked."""

    offset: int
    length: int
    start_ns: int
    end_ns: int
    compression: bytes
    compressed_size: int
    uncompressed_size: int
    messages: Counter[int]
    """By channel."""


@dataclass
class Whole:
    """What of a file can be read."""

    data_end: int
    """Byte at which the last whole record of data ends."""
    cut: str
    """In words why reading ends there; empty where the file's own data end."""
    schemas: dict[int, bytes] = field(default_factory=dict)
    channels: dict[int, bytes] = field(default_factory=dict)
    chunks: list[_Chunk] = field(default_factory=list)
    loose: Counter[int] = field(default_factory=Counter)
    """Messages outside of chunks, by channel."""
    skipped: list[str] = field(default_factory=list)
    """Topics whose schema is written in a language that cannot be read."""


def indexed_mcap(path: Path) -> tuple[PatchedPath, Whole]:
    """The file's whole part with a new index, and what that is.

    Reads the file once. Raises InputError when it is no MCAP file or holds no whole message that can be read.
    """
    whole = _scan(path)
    if not whole.chunks and not whole.loose:
        raise InputError(f"{path} is cut off before its first whole message; record it again")
    if whole.skipped and not whole.channels:
        raise InputError(
            f"{path} describes its messages in a language that cannot be read (not ros2msg or ros2idl); "
            "record or convert it with ROS 2's own tools"
        )
    return PatchedPath(path, [range(whole.data_end), _tail(whole)]), whole


def _scan(path: Path) -> Whole:
    size = path.stat().st_size
    encodings: dict[int, str] = {}
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{path} does not begin as an MCAP file; give the file that was recorded")
        whole = Whole(file.tell(), f"it ends after {size} bytes without an index")
        while True:
            at = file.tell()
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return whole
            kind, length = _HEAD.unpack(head)
            if not _HEADER <= kind <= _LAST:
                whole.cut = f"from byte {at} of {size} it holds no records"
                return whole
            if kind in (_DATA_END, _FOOTER):
                whole.cut = ""
                return whole
            if at + _HEAD.size + length > size:
                return whole
            try:
                if kind == _MESSAGE:
                    whole.loose[struct.unpack("<H", file.read(2))[0]] += 1
                elif kind in (_SCHEMA, _CHANNEL, _CHUNK):
                    _take(whole, encodings, kind, file.read(length), at)
            except Exception as error:  # a decompressor fails in its own ways
                whole.cut = f"from byte {at} of {size} it is damaged ({type(error).__name__})"
                return whole
            file.seek(at + _HEAD.size + length)
            whole.data_end = file.tell()


def _take(whole: Whole, encodings: dict[int, str], kind: int, content: bytes, at: int) -> None:
    """Note a record; schemas that cannot be read are left out, and with them their channels."""
    if kind == _SCHEMA:
        number = struct.unpack_from("<H", content)[0]
        rest = _string(content, 2)[1]
        encoding = _string(content, rest)[0].decode()
        encodings[number] = encoding
        if encoding in SCHEMA_ENCODINGS:
            whole.schemas[number] = content
    elif kind == _CHANNEL:
        number, schema = struct.unpack_from("<HH", content)
        if encodings.get(schema, "") in SCHEMA_ENCODINGS:
            whole.channels[number] = content
        elif (topic := _string(content, 4)[0].decode()) not in whole.skipped:
            whole.skipped.append(topic)
    else:
        whole.chunks.append(_unpacked(whole, encodings, content, at))


def _unpacked(whole: Whole, encodings: dict[int, str], content: bytes, at: int) -> _Chunk:
    from rosbags.rosbag2.storage_mcap import decompress  # the very one that will read the chunk

    start_ns, end_ns, size, checksum = _CHUNK_HEAD.unpack_from(content)
    compression, rest = _string(content, _CHUNK_HEAD.size)
    compressed_size = struct.unpack_from("<Q", content, rest)[0]
    packed = content[rest + 8 : rest + 8 + compressed_size]
    if len(packed) != compressed_size:
        raise ValueError("longer than its record")
    data = decompress(packed, compression.decode(), size, checksum)
    messages: Counter[int] = Counter()
    place = 0
    while place < len(data):
        kind, length = _HEAD.unpack_from(data, place)
        body = place + _HEAD.size
        if kind not in (_SCHEMA, _CHANNEL, _MESSAGE) or body + length > len(data):
            raise ValueError("no records within")
        if kind == _MESSAGE:
            messages[struct.unpack_from("<H", data, body)[0]] += 1
        else:
            _take(whole, encodings, kind, data[body : body + length], at)
        place = body + length
    return _Chunk(at, _HEAD.size + len(content), start_ns, end_ns, compression, compressed_size, size, messages)


def _string(content: bytes, at: int) -> tuple[bytes, int]:
    """A string with its length before it, and where it ends."""
    length = struct.unpack_from("<I", content, at)[0]
    end = at + 4 + length
    if end > len(content):
        raise ValueError("a string longer than its record")
    return content[at + 4 : end], end


def _tail(whole: Whole) -> bytes:
    """DataEnd, the summary section and the end of the file. Without chunks the reader scans, and needs no summary."""
    data_end = _record(_DATA_END, bytes(4))
    if not whole.chunks or whole.loose:
        return data_end + _record(_FOOTER, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    summary = b"".join(_record(_SCHEMA, each) for each in whole.schemas.values())
    summary += b"".join(_record(_CHANNEL, each) for each in whole.channels.values())
    summary += b"".join(_record(_CHUNK_INDEX, _chunk_index(chunk)) for chunk in whole.chunks)
    counts = sum((chunk.messages for chunk in whole.chunks), Counter[int]())
    known = {number: counts[number] for number in sorted(whole.channels)}
    filled = [chunk for chunk in whole.chunks if chunk.messages]
    start_ns = min((chunk.start_ns for chunk in filled), default=0)
    end_ns = max((chunk.end_ns for chunk in filled), default=0)
    statistics = struct.pack(
        "<QHIIIIQQ", sum(known.values()), len(whole.schemas), len(whole.channels), 0, 0, len(whole.chunks), start_ns,
        end_ns,
    )  # fmt: skip
    statistics += struct.pack("<I", 10 * len(known)) + b"".join(struct.pack("<HQ", *each) for each in known.items())
    summary += _record(_STATISTICS, statistics)
    footer = _record(_FOOTER, struct.pack("<QQI", whole.data_end + len(data_end), 0, 0))
    return data_end + summary + footer + MAGIC


def _chunk_index(chunk: _Chunk) -> bytes:
    """Where a chunk lies. The offsets of its message indexes are as if these followed it, whether or not they do.

    Readers that take counts from the distances of these offsets need them so; the messages themselves are found in the
    chunk.
    """
    offsets, at = b"", chunk.offset + chunk.length
    for number, count in sorted(chunk.messages.items()):
        offsets += struct.pack("<HQ", number, at)
        at += _HEAD.size + 2 + 4 + 16 * count
    place = struct.pack("<QQQQ", chunk.start_ns, chunk.end_ns, chunk.offset, chunk.length)
    index = struct.pack("<I", len(offsets)) + offsets + struct.pack("<Q", at - chunk.offset - chunk.length)
    compression = struct.pack("<I", len(chunk.compression)) + chunk.compression
    return place + index + compression + struct.pack("<QQ", chunk.compressed_size, chunk.uncompressed_size)


def _record(kind: int, content: bytes) -> bytes:
    return _HEAD.pack(kind, len(content)) + content
