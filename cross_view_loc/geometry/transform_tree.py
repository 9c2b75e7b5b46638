"""A transform tree without ROS: static and time-stamped edges, looked up at a stamp by interpolation."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transforms import inverse, slerp, transform

Matrix = NDArray[np.float64]

_SECOND_NS = 1_000_000_000


@dataclass
class _Edge:
    """A frame's pose in its parent: one matrix for ever, or a history sorted by stamp."""

    parent: str
    T_static: Matrix | None = None
    stamps_ns: list[int] = field(default_factory=list)
    T_history: list[Matrix] = field(default_factory=list)


class TransformTree:
    """Poses of frames in their parents, as /tf and /tf_static tell them; safe to share between threads.

    `history_ns` of every moving edge is kept. A stamp up to `tolerance_ns` outside what is buffered is answered by
    the nearest pose; further out, it is an error rather than a guess.
    """

    def __init__(self, history_ns: int = 10 * _SECOND_NS, tolerance_ns: int = _SECOND_NS // 10) -> None:
        self._history_ns = history_ns
        self._tolerance_ns = tolerance_ns
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.Lock()

    def add_static(self, parent: str, child: str, T_parent_child: ArrayLike) -> None:
        """Set a pose (4, 4) that holds at every stamp. Raises InputError for a broken matrix or frame name."""
        parent, child, T = _checked(parent, child, T_parent_child)
        with self._lock:
            self._edges[child] = _Edge(parent, T_static=T)

    def add(self, parent: str, child: str, stamp_ns: int, T_parent_child: ArrayLike) -> None:
        """Add a pose (4, 4) at a stamp, in any order. Raises InputError for a broken matrix or frame name."""
        parent, child, T = _checked(parent, child, T_parent_child)
        with self._lock:
            edge = self._edges.get(child)
            if edge is None or edge.T_static is not None or edge.parent != parent:
                edge = self._edges[child] = _Edge(parent)
            at = bisect_left(edge.stamps_ns, stamp_ns)
            if at < len(edge.stamps_ns) and edge.stamps_ns[at] == stamp_ns:
                edge.T_history[at] = T
            else:
                edge.stamps_ns.insert(at, stamp_ns)
                edge.T_history.insert(at, T)
            expired = bisect_left(edge.stamps_ns, edge.stamps_ns[-1] - self._history_ns)
            del edge.stamps_ns[:expired], edge.T_history[:expired]

    def clear_moving(self) -> None:
        """Forget every time-stamped pose, as after a jump back in time; static ones stay."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.T_static is not None}

    def frames(self) -> list[str]:
        """Names of all frames known, sorted."""
        with self._lock:
            return self._frames()

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> Matrix:
        """(4, 4) T_target_source at a stamp, or at the newest stamp that all moving edges between them know.

        Raises MissingInputError when the frames are unknown or not connected, or the stamp is not covered.
        """
        target, source = _name(target), _name(source)
        with self._lock:
            up_from_source, up_from_target = self._climb(source), self._climb(target)
            common = next((frame for frame in up_from_source if frame in up_from_target), None)
            known = self._frames()
            if common is None or (target == source and target not in known):
                missing = [frame for frame in (target, source) if frame not in known]
                why = f"{' and '.join(missing)} never arrived" if missing else "the two are not connected"
                raise MissingInputError(
                    f"No transform {target} -> {source}: {why}; frames known are {', '.join(known) or 'none'};"
                    " publish it on /tf or /tf_static"
                )
            children_source = up_from_source[: up_from_source.index(common)]
            children_target = up_from_target[: up_from_target.index(common)]
            if stamp_ns is None:
                stamp_ns = self._newest_common_stamp_ns(children_source + children_target)
            T_common_source = self._compose(children_source, stamp_ns)
            T_common_target = self._compose(children_target, stamp_ns)
        return inverse(T_common_target) @ T_common_source

    def _frames(self) -> list[str]:
        return sorted(set(self._edges) | {edge.parent for edge in self._edges.values()})

    def _climb(self, frame: str) -> list[str]:
        """The frame and its ancestors, nearest first; stops where a loop closes."""
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None and edge.parent not in chain:
            chain.append(edge.parent)
        return chain

    def _newest_common_stamp_ns(self, children: list[str]) -> int | None:
        newest = [edge.stamps_ns[-1] for child in children if (edge := self._edges[child]).T_static is None]
        return min(newest, default=None)

    def _compose(self, children: list[str], stamp_ns: int | None) -> Matrix:
        T = np.eye(4)
        for child in children:
            T = self._pose(child, stamp_ns) @ T
        return T

    def _pose(self, child: str, stamp_ns: int | None) -> Matrix:
        edge = self._edges[child]
        if edge.T_static is not None:
            return edge.T_static
        assert stamp_ns is not None  # a chain with a moving edge always has a newest common stamp
        first, last = edge.stamps_ns[0], edge.stamps_ns[-1]
        if not first - self._tolerance_ns <= stamp_ns <= last + self._tolerance_ns:
            raise MissingInputError(
                f"Transform {edge.parent} -> {child} is known from {_seconds(first)} to {_seconds(last)} s, not at"
                f" {_seconds(stamp_ns)} s; check that its publisher and the sensor share one clock."
            )
        after = bisect_left(edge.stamps_ns, stamp_ns)
        if after == 0:
            return edge.T_history[0]
        if after == len(edge.stamps_ns):
            return edge.T_history[-1]
        T_before, T_after = edge.T_history[after - 1], edge.T_history[after]
        before_ns, after_ns = edge.stamps_ns[after - 1], edge.stamps_ns[after]
        fraction = (stamp_ns - before_ns) / (after_ns - before_ns)
        translation = (1.0 - fraction) * T_before[:3, 3] + fraction * T_after[:3, 3]
        return transform(slerp(T_before[:3, :3], T_after[:3, :3], fraction), translation)


def _name(frame: str) -> str:
    """ROS 1 bags start frame names with a slash; tf2 knows them without."""
    return frame.lstrip("/")


def _checked(parent: str, child: str, T_parent_child: ArrayLike) -> tuple[str, str, Matrix]:
    parent, child = _name(parent), _name(child)
    if not parent or not child or parent == child:
        raise InputError(f'Transform "{parent}" -> "{child}" needs two different frame names; correct its publisher.')
    T = np.array(T_parent_child, dtype=np.float64)
    if T.shape != (4, 4) or not np.all(np.isfinite(T)):
        raise InputError(f"Transform {parent} -> {child} is not 4x4 finite numbers; correct its publisher.")
    return parent, child, T


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // _SECOND_NS}.{stamp_ns % _SECOND_NS // 1_000_000:03d}"
