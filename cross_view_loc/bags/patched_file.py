"""A file with bytes of its own instead of some of the file's: how a bag gets a new index without being written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

Piece = bytes | range
"""Bytes, or which bytes of the file."""


class PatchedPath:
    """A path that opens as the pieces one after the other: what `rosbags` asks of a path."""

    def __init__(self, path: Path, pieces: Sequence[Piece]) -> None:
        self.path, self._pieces = path, pieces

    @property
    def suffix(self) -> str:
        """The file's."""
        return self.path.suffix

    @property
    def stem(self) -> str:
        """The file's."""
        return self.path.stem

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file does."""
        return self.path.exists()

    def is_dir(self) -> bool:
        """Never."""
        return False

    def open(self, *arguments: Any, **options: Any) -> BinaryIO:
        """For reading bytes, whatever is asked."""
        return io.BufferedReader(_Joined(self.path, self._pieces), 2**16)


class _Joined(io.RawIOBase):
    def __init__(self, path: Path, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces, self._at = path.open("rb"), pieces, 0
        self._size = sum(len(piece) for piece in pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, wanted: int) -> bytes:
        """What follows, up to the end of the piece at the most; a buffered reader asks again."""
        start = self._at
        for piece in self._pieces:
            if start < len(piece):
                found = piece[start : start + wanted]
                if isinstance(found, bytes):
                    return found
                self._file.seek(found.start)
                return self._file.read(len(found))
            start -= len(piece)
        return b""

    def close(self) -> None:
        self._file.close()
        super().close()
