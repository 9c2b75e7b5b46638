"""The header at the beginning of a serialized message, read without unpacking the rest: an image is megabytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from cross_view_loc.inputs.stamps import NS_PER_S


class Header(NamedTuple):
    """std_msgs/Header."""

    stamp_ns: int
    frame_id: str


def read_header(data: bytes | memoryview, is_ros1: bool) -> Header | None:
    """The header that these bytes begin with; None when they are too short to.

    ROS 2 writes CDR: 4 bytes that say how, then int32 s, uint32 ns, and a string with its length and a closing zero.
    ROS 1 writes uint32 seq, s, ns and a string with its length, little-endian.
    """
    try:
        if is_ros1:
            seconds, nanoseconds, length = struct.unpack_from("<4xIII", data)
            name = bytes(data[16 : 16 + length])
        else:
            order = "<" if data[1] & 1 else ">"
            seconds, nanoseconds, length = struct.unpack_from(f"{order}4xiII", data)
            name = bytes(data[16 : 16 + max(length - 1, 0)])
    except (struct.error, IndexError):
        return None
    return Header(seconds * NS_PER_S + nanoseconds, name.decode("utf-8", errors="replace"))
