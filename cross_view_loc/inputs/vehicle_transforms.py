"""What /tf and /tf_static say about the vehicle, message by message."""

from __future__ import annotations

from typing import Any

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transform_tree import TransformTree
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.poses import bare_frame, transform_of
from cross_view_loc.inputs.stamps import stamp_ns, to_ns

TOLERANCE_NS = to_ns(0.1)
"""How far outside its history a transform is answered by the nearest pose."""


def static_transform(parent: str, child: str) -> str:
    """How to publish where a sensor sits on the vehicle, for a replayed recording too, as the end of a sentence.

    A camera's optical frame (REP-103: z ahead, x right, y down) comes with its rotation when it looks ahead.
    """
    looks_ahead = " --roll -1.5708 --yaw -1.5708" if any(word in child for word in ("optical", "cam")) else ""
    return (
        f"`ros2 run tf2_ros static_transform_publisher --x X --y Y --z Z{looks_ahead} --frame-id {parent} "
        f"--child-frame-id {child}` with its place in metres (for a recording: beside `ros2 bag play`, while `ros2 bag "
        "record -a` makes a new one)"
    )


class VehicleTransforms:
    """A transform tree fed with TFMessages, which remembers every parent a frame was given."""

    def __init__(self) -> None:
        self._tree = TransformTree(tolerance_ns=TOLERANCE_NS)
        self._parents: dict[str, set[str]] = {}

    def add(self, message: Any, is_static: bool) -> None:
        """Keep the good transforms of a TFMessage; InputError, afterwards, about those that are not.

        One broken joint often travels in one message with many good ones.
        """
        refusals: list[str] = []
        for stamped in message.transforms:
            parent, child = bare_frame(stamped.header.frame_id), bare_frame(stamped.child_frame_id)
            try:
                T_parent_child = transform_of(stamped.transform)
                if is_static:
                    self._tree.add_static(parent, child, T_parent_child)
                else:
                    self._tree.add(parent, child, stamp_ns(stamped), T_parent_child)
            except InputError as error:
                refusals.append(f"{parent} -> {child}: {error}")
            else:
                self._parents.setdefault(child, set()).add(parent)
        if refusals:
            more = f" (and {len(refusals) - 1} more transforms of the same message)" if len(refusals) > 1 else ""
            raise InputError(f"{refusals[0]}{more}")

    def lookup(self, target: str, source: str, stamp: int | None = None) -> Matrix:
        """(4, 4) T_target_source at a stamp, or at the newest one; MissingInputError naming both when unknown."""
        return self._tree.lookup(target, source, stamp)

    def has_reached(self, target: str, source: str, stamp: int) -> bool:
        """Whether the transform is known at the stamp itself, not only near it."""
        try:
            self._tree.lookup(target, source, stamp + TOLERANCE_NS)
        except MissingInputError:
            return target == source
        return True

    def are_connected(self, target: str, source: str) -> bool:
        """Whether the transform is known at any stamp."""
        try:
            self._tree.lookup(target, source)
        except MissingInputError:
            return False
        return True

    def parents_of(self, child_frame: str) -> set[str]:
        """Every frame given as parent of `child_frame` so far; more than one is a conflict."""
        return set(self._parents.get(child_frame, ()))

    def clear_moving(self) -> None:
        """Forget time-stamped poses, as after a jump back in time."""
        self._tree.clear_moving()
