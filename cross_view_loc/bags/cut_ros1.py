"""ROS 1 bags without a usable end: what is whole is indexed anew, in memory, and read as if the file ended there.

A recorder writes the list of topics and chunks when it is stopped. After a power cut (an .active file renamed), or in a
copy that broke off, it is missing; but every chunk holds its topics, and behind it lies its own index. The layout is
that of the ROS 1 bag format 2.0 (http://wiki.ros.org/Bags/Format/2.0): a header with its length, then data with theirs.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cross_view_loc.bags.patched_file import PatchedPath, Piece
from cross_view_loc.errors import InputError

MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _BAG, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 4, 5, 6, 7
_U32 = struct.Struct("<I")
_LONGEST_HEADER = 2**16
"""More is no header."""


@dataclass
class _Chunk:
    offset: int
    expected: Counter[int]
    """Messages by connection, as counted in the chunk."""
    indexed: Counter[int] = field(default_factory=Counter)
    """The same by the index records behind it."""
    times: list[tuple[int, int]] = field(default_factory=list)
    """Seconds and nanoseconds of its messages, the first and the last so far."""


def indexed_ros1(path: Path) -> tuple[PatchedPath, str]:
    """The bag with a new index, and why it ends where it does.

    Reads the file once. Raises InputError when it is no ROS 1 bag or holds no whole chunk.
    """
    size = path.stat().st_size
    connections: dict[int, bytes] = {}
    chunks: list[_Chunk] = []
    cut = f"it ends after {size} bytes without an index"
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{path} does not begin as a ROS 1 bag (version 2.0); give the file that was recorded")
        try:
            _take_record(file, size, {}, [])  # the bag's header
            body = end = file.tell()
            while _take_record(file, size, connections, chunks):
                if chunks and chunks[-1].indexed == chunks[-1].expected:
                    end = file.tell()
        except Exception as error:  # a decompressor fails in its own ways
            cut = f"from byte {file.tell()} of {size} it is damaged ({type(error).__name__})"
    chunks = [chunk for chunk in chunks if chunk.indexed == chunk.expected]
    if not chunks:
        raise InputError(f"{path} is cut off before its first whole chunk of messages; record it again")
    tail = b"".join(connections.values()) + b"".join(_chunk_info(chunk) for chunk in chunks)
    head = _record({"op": bytes([_BAG]), "index_pos": struct.pack("<Q", end),
                    "conn_count": _U32.pack(len(connections)), "chunk_count": _U32.pack(len(chunks))},
                   b"", body - len(MAGIC))  # fmt: skip
    pieces: list[Piece] = [MAGIC + head, range(body, end), tail]
    return PatchedPath(path, pieces), cut


def _take_record(file: BinaryIO, size: int, connections: dict[int, bytes], chunks: list[_Chunk]) -> bool:
    """Note the next record; False when it is not there as a whole, or is of the index at the end."""
    at = file.tell()
    header = _header(file.read(min(_length(file), _LONGEST_HEADER)))
    length = _length(file)
    body = file.tell()
    kind = header.get("op", b"\0")[0] if header else 0
    if body + length > size or kind not in (_BAG, _CHUNK, _INDEX):
        return False
    if kind == _CHUNK:
        chunks.append(_Chunk(at, _unpacked(file.read(length), header["compression"].decode(), connections)))
    elif kind == _INDEX:
        number, count = _U32.unpack(header["conn"])[0], _U32.unpack(header["count"])[0]
        entries = list(struct.iter_unpack("<III", file.read(length)))
        if len(entries) != count:
            raise ValueError("an index of another length")
        chunk = chunks[-1]
        chunk.indexed[number] += count
        times = [*chunk.times, *(entry[:2] for entry in entries)]
        chunk.times = [min(times), max(times)]
    file.seek(body + length)
    return True


def _length(file: BinaryIO) -> int:
    data = file.read(_U32.size)
    return int(_U32.unpack(data)[0]) if len(data) == _U32.size else 2**32  # more than follows


def _header(content: bytes) -> dict[str, bytes]:
    """Names and values; empty when the bytes are none."""
    fields, at = {}, 0
    while at < len(content):
        length = _U32.unpack_from(content, at)[0]
        name, equals, value = content[at + 4 : at + 4 + length].partition(b"=")
        if not equals or at + 4 + length > len(content):
            return {}
        fields[name.decode()] = value
        at += 4 + length
    return fields


def _unpacked(packed: bytes, compression: str, connections: dict[int, bytes]) -> Counter[int]:
    """How many messages of each connection a chunk holds; its connections are noted."""
    from rosbags.rosbag1.reader import decompressors  # the very ones that will read the chunk

    data = decompressors[compression](packed)
    messages: Counter[int] = Counter()
    at = 0
    while at < len(data):
        head_end = at + 4 + _U32.unpack_from(data, at)[0]
        header = _header(data[at + 4 : head_end])
        end = head_end + 4 + _U32.unpack_from(data, head_end)[0]
        if end > len(data):
            raise ValueError("a record longer than its chunk")
        number = _U32.unpack(header["conn"])[0]
        if header["op"][0] == _CONNECTION:
            connections[number] = data[at:end]
        else:
            messages[number] += 1
        at = end
    return messages


def _chunk_info(chunk: _Chunk) -> bytes:
    first, last = (struct.pack("<II", *time) for time in (chunk.times[0], chunk.times[-1]))
    header = {"op": bytes([_CHUNK_INFO]), "ver": _U32.pack(1), "chunk_pos": struct.pack("<Q", chunk.offset),
              "start_time": first, "end_time": last, "count": _U32.pack(len(chunk.expected))}  # fmt: skip
    return _record(header, b"".join(struct.pack("<II", *each) for each in sorted(chunk.expected.items())))


def _record(header: dict[str, bytes], data: bytes, size: int = 0) -> bytes:
    """A record, its data filled with spaces to a size in all where one is given."""
    fields = b"".join(
        _U32.pack(len(name) + 1 + len(value)) + name.encode() + b"=" + value for name, value in header.items()
    )
    head = _U32.pack(len(fields)) + fields
    data = data.ljust(size - len(head) - 4)
    return head + _U32.pack(len(data)) + data
