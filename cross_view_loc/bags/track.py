"""Where a recording went, by the receivers in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.areas import unwrapped
from cross_view_loc.bags.reader import FIX_TYPE, Bag
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import geodetic_to_ecef
from cross_view_loc.inputs.fixes import Fix, read_fix

FASTEST_MPS = 150.0
"""Fixes that lie further apart than this speed goes are no drive between them: a cold start, a pause, a pulled plug."""

APART_M = 1.0
"""Fixes nearer to the one before are left out; a receiver at rest writes thousands of them."""


def fix_lines(bag: Bag) -> tuple[NDArray[np.float64], ...]:
    """Lines (N, 2) of latitude, longitude in degrees, one or more for each NavSatFix topic.

    Raises MissingInputError when the bag has no such topic or none of its fixes is valid.
    """
    topics = bag.of_type(FIX_TYPE)
    if not topics:
        raise MissingInputError(
            f"the bag {bag.path} has no GNSS fixes: no topic of type sensor_msgs/NavSatFix with messages; "
            "give --track, --bbox or --polygon instead"
        )
    lines = [line for topic in topics for line in lines_of(_valid_fixes(bag, topic))]
    if not lines:
        raise MissingInputError(
            f"no fix on {', '.join(topics)} in {bag.path} is valid; give --track, --bbox or --polygon instead"
        )
    return tuple(lines)


def lines_of(fixes: Iterable[Fix]) -> list[NDArray[np.float64]]:
    """Lines (N, 2) of latitude, longitude in degrees through fixes of one receiver in their order."""
    lines: list[list[tuple[float, float]]] = []
    last: Fix | None = None
    for fix in fixes:
        apart_m = np.inf if last is None else _distance_m(last, fix)
        if apart_m < APART_M:
            continue
        if last is None or apart_m > FASTEST_MPS * max(abs(fix.stamp_ns - last.stamp_ns) * 1e-9, 1.0):
            lines.append([])
        lines[-1].append((fix.latitude_deg, fix.longitude_deg))
        last = fix
    return [unwrapped(line) for line in lines]


def _valid_fixes(bag: Bag, topic: str) -> Iterator[Fix]:
    for item in bag.messages([topic]):
        with contextlib.suppress(InputError):
            yield read_fix(item.message)


def _distance_m(one: Fix, other: Fix) -> float:
    ends = [geodetic_to_ecef(fix.latitude_deg, fix.longitude_deg, 0.0) for fix in (one, other)]
    return float(np.linalg.norm(ends[1] - ends[0]))
