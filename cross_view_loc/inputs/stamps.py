"""Stamps of messages, and values kept in their order so that they can be asked for at any time."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Callable, MutableSequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

from cross_view_loc.geometry.transforms import Matrix, slerp, transform

T = TypeVar("T")

NS_PER_S = 1_000_000_000


def stamp_ns(message: Any) -> int:
    """The header's stamp in integer nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def to_ns(seconds: float) -> int:
    """Seconds as integer nanoseconds."""
    return round(seconds * NS_PER_S)


class Timeline(Generic[T]):
    """Stamped values of one source, kept for `history_s` before the newest; late ones are sorted in."""

    def __init__(
        self,
        blend: Callable[[T, T, float], T],
        history_s: float = 30.0,
        values: MutableSequence[T] | None = None,
    ) -> None:
        """`values` is where they are kept (`PackedPoses` where there are very many); empty at first."""
        self._blend = blend
        self._history_ns = to_ns(history_s)
        self._stamps = array("q")
        self._values: MutableSequence[T] = [] if values is None else values

    def add(self, stamp: int, value: T) -> None:
        """Keep `value`; one with the same stamp is replaced."""
        index = bisect.bisect_left(self._stamps, stamp)
        if index < len(self._stamps) and self._stamps[index] == stamp:
            self._values[index] = value
            return
        self._stamps.insert(index, stamp)
        self._values.insert(index, value)
        outdated = bisect.bisect_left(self._stamps, self._stamps[-1] - self._history_ns)
        # Cut in blocks: a cut per message would copy the lists each time.
        if outdated > 256:
            del self._stamps[:outdated], self._values[:outdated]

    @property
    def newest_stamp(self) -> int | None:
        return self._stamps[-1] if self._stamps else None

    def until(self, stamp: int) -> list[tuple[int, T]]:
        """Stamps and values not after `stamp`, oldest first."""
        end = bisect.bisect_right(self._stamps, stamp)
        return list(zip(self._stamps[:end], self._values[:end], strict=True))

    def at(self, stamp: int, max_gap_ns: int) -> T | None:
        """The value at `stamp`: interpolated over at most `max_gap_ns`, else the nearest one within it, else None."""
        after = bisect.bisect_left(self._stamps, stamp)
        before = after - 1
        if after < len(self._stamps) and self._stamps[after] == stamp:
            return self._values[after]
        if before >= 0 and after < len(self._stamps) and self._stamps[after] - self._stamps[before] <= max_gap_ns:
            fraction = (stamp - self._stamps[before]) / (self._stamps[after] - self._stamps[before])
            return self._blend(self._values[before], self._values[after], fraction)
        near = [index for index in (before, after) if 0 <= index < len(self._stamps)]
        nearest = min(near, key=lambda index: abs(self._stamps[index] - stamp), default=None)
        if nearest is None or abs(self._stamps[nearest] - stamp) > max_gap_ns:
            return None
        return self._values[nearest]


class PackedPoses(MutableSequence[Matrix]):
    """(4, 4) rigid transforms to the last bit in 96 bytes each: an array of its own takes three times as much."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def __len__(self) -> int:
        return len(self._numbers) // _ROWS

    @overload
    def __getitem__(self, index: int) -> Matrix: ...
    @overload
    def __getitem__(self, index: slice) -> MutableSequence[Matrix]: ...
    def __getitem__(self, index: int | slice) -> Matrix | MutableSequence[Matrix]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        start = range(len(self))[index] * _ROWS  # IndexError beyond the end, and negative ones from there
        pose = np.eye(4)
        pose[:3] = np.reshape(self._numbers[start : start + _ROWS], (3, 4))
        return pose

    def __setitem__(self, index: Any, value: Any) -> None:
        """Replace one pose."""
        start = range(len(self))[index] * _ROWS
        self._numbers[start : start + _ROWS] = _packed(value)

    def __delitem__(self, index: int | slice) -> None:
        """Leave out one pose, or a stretch without steps."""
        first, last, _ = (index if isinstance(index, slice) else slice(index, index + 1)).indices(len(self))
        del self._numbers[first * _ROWS : last * _ROWS]

    def insert(self, index: int, value: Matrix) -> None:
        """Keep `value` before the pose at `index`."""
        self._numbers[index * _ROWS : index * _ROWS] = _packed(value)


_ROWS = 12
"""The numbers of the upper three rows; the fourth is always the same."""


def _packed(pose: Matrix) -> array[float]:
    return array("d", np.asarray(pose[:3], dtype=np.float64).tobytes())


def blend_transforms(start: Matrix, end: Matrix, fraction: float) -> Matrix:
    """(4, 4) pose between two: positions linearly, rotations along the shorter arc."""
    position = (1.0 - fraction) * start[:3, 3] + fraction * end[:3, 3]
    return transform(slerp(start[:3, :3], end[:3, :3], fraction), position)


def whole_drive() -> Timeline[Matrix]:
    """Poses of a whole recording, however long: nothing is outdated, and an hour at 50 Hz takes 20 MB."""
    return Timeline(blend_transforms, float("1e9"), PackedPoses())
