"""One image through tracker and localizer: what the live node and the offline runner both do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cross_view_loc.errors import MissingInputError
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.tracking.tracker import Tracker
from cross_view_loc.types import Estimate, Frame, Prior

Locate = Callable[[Sequence[Frame], Prior], Estimate]


@dataclass(frozen=True)
class Located:
    """An estimate after the tracker's word, and the search it was found in."""

    estimate: Estimate
    search: Prior


def locate_tracked(
    tracker: Tracker | None,
    locate: Locate,
    frames: Sequence[Frame],
    prior: Prior | None,
    T_odom_base: Matrix | None = None,
    no_prior: str = "no fix yet",
) -> Located:
    """Search where the tracker says, locate, and let it judge; without a tracker, the prior is searched as it is.

    `prior` is what fix and heading say at the first frame's stamp, None without a usable fix, for the reason
    `no_prior`. Raises MissingInputError with that reason when without it nobody knows where to look, and whatever
    `locate` raises; the caller then tells the tracker by `missing`.
    """
    if tracker is None:
        if prior is None:
            raise MissingInputError(no_prior)
        return Located(locate(frames, prior), prior)
    search = tracker.search(prior, frames[0].stamp_ns, T_odom_base, no_prior)
    if search is None:
        raise MissingInputError(no_prior)
    return Located(tracker.judge(locate(frames, search), prior, T_odom_base), search)
