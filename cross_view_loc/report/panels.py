"""The best, the median and the worst image as match panels, each looked at once more in the bag."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.patch import Patch
from cross_view_loc.bags.offline import OfflineRun
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.errors import InputError, MapError
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline, to_ns
from cross_view_loc.matching.match_panel import Panel, draw, jpeg, panel_square
from cross_view_loc.report.series import residual
from cross_view_loc.tracking.tracked import Locate
from cross_view_loc.types import Estimate, Frame, Prior

AROUND_NS = to_ns(1.0)
"""How long before its image a group of images may have begun to be recorded."""


@dataclass(frozen=True)
class Choice:
    """An image worth looking at, and why."""

    title: str
    note: str
    record: FrameRecord


@dataclass(frozen=True)
class Picture:
    """A match panel."""

    title: str
    note: str
    jpeg: bytes


def choose(records: Sequence[FrameRecord], truth: Timeline[Matrix] | None) -> list[Choice]:
    """Best, median and worst by position error; without truth by confidence. Of the accepted ones where there are."""
    known = []
    for record in records:
        place = None if truth is None else truth_at(truth, record.stamp_ns)
        if record.estimate is None or (truth is not None and place is None):
            continue
        against = residual(record, place) if place is not None else None
        # Smaller is better, both ways.
        known.append((-record.estimate.confidence if against is None else against.position_m, record))
    accepted = [pair for pair in known if pair[1].status == "accepted"]
    ranked = sorted(accepted or known, key=lambda pair: (pair[0], pair[1].stamp_ns))
    if not ranked:
        return []
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    kind = "accepted image" if accepted else "refused image"
    chosen, seen = [], set()
    for word, index in places.items():
        value, record = ranked[index]
        if record.stamp_ns in seen:
            continue
        seen.add(record.stamp_ns)
        figure = f"confidence {-value:.2f}" if truth is None else f"error {value:.2f} m"
        time_s = (record.stamp_ns - records[0].stamp_ns) / 1e9
        chosen.append(Choice(f"{word.capitalize()} {kind}", f"{figure}, {time_s:.1f} s into the drive", record))
    return chosen


def draw_panels(offline: OfflineRun, locate: Locate, choices: Sequence[Choice]) -> list[Picture]:
    """The choices' panels; one whose image cannot be read again is left out."""
    aerial = AerialMap(offline.source, offline.projection)
    pictures = []
    for choice in choices:
        found = _again(offline, locate, choice.record)
        if found is not None:
            frame, estimate, search = found
            panel = Panel(
                frame, estimate, search, _patch(aerial, estimate, search), "", choice.record.seconds, "computing time"
            )
            pictures.append(Picture(choice.title, choice.note, jpeg(draw(panel), 80)))
    return pictures


def _again(offline: OfflineRun, locate: Locate, record: FrameRecord) -> tuple[Frame, Estimate, Prior] | None:
    """The record's frame and its estimate, now with the matches, which records do not keep."""
    found: list[tuple[Frame, Estimate, Prior]] = []

    def take(frames: Sequence[Frame], prior: Prior) -> Estimate:
        if frames[0].stamp_ns == record.stamp_ns and record.estimate is not None and not found:
            search = record.search or record.prior or prior
            matches = locate(frames, search).matches
            found.append((frames[0], dataclasses.replace(record.estimate, matches=matches), search))
        return record.estimate or locate(frames, prior)

    settings = dataclasses.replace(offline.settings, tracking=False)
    with contextlib.suppress(InputError, MapError):
        offline.runner(take, settings=settings).run(record.recorded_ns - AROUND_NS, record.recorded_ns + 1)
    return found[0] if found else None


def _patch(aerial: AerialMap, estimate: Estimate, search: Prior) -> Patch | None:
    try:
        return aerial.patch(*panel_square(estimate, search))
    except MapError:
        return None
