"""Public benchmarks of image pairs: every frame through the same `Localizer` as everywhere, errors out.

Frames go through one by one, images being read ahead by another thread. Batches of frames would not be worth their
code: on one CPU core, the ground encoder takes 9.0 ms a view alone and 7.9 in a batch of 4 (8.8 in one of 8), the depth
network 6.7 and 4.7 (6.4), so 3 ms of the 180 to 240 of a pinhole frame (1.7 %), most of which goes to the search over
poses; that fills the device by itself, and every frame has an aerial image of its own, so no features are shared.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cross_view_loc.errors import InputError, MapError
from cross_view_loc.evaluation.crop_frame import CropFrame, CropMap
from cross_view_loc.evaluation.metrics import FrameError, frame_error, summarize
from cross_view_loc.evaluation.pair_journal import PairJournal
from cross_view_loc.evaluation.pairs import LoadedPair, Pair, load_ahead
from cross_view_loc.matching.aerial_cache import PatchSource
from cross_view_loc.matching.gate import refused
from cross_view_loc.types import Estimate, Frame, Prior

LIMITS_M = (1, 3, 5)


class PairLocalizer(Protocol):
    """What the bench needs of a `Localizer`."""

    def use_map(self, aerial_map: PatchSource) -> None: ...

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate: ...


@dataclass(frozen=True)
class PairError:
    """One frame's errors."""

    name: str
    error: FrameError
    failed: str = ""
    """Why there was no estimate at all and the prior stands in for it; empty otherwise."""


def measure_pairs(
    pairs: Sequence[Pair],
    localizer: PairLocalizer,
    journal: PairJournal | None = None,
    prepare: Callable[[LoadedPair], None] = lambda loaded: None,
    on_frame: Callable[[PairError], None] = lambda error: None,
) -> list[PairError]:
    """Errors of all pairs in their order. Frames the journal knows are not localized again.

    `prepare` sees a pair before its frame is localized (depth read from a file, another city's tile size).
    A frame that cannot be localized counts as failed, with its prior as the estimate; an image that cannot be read is
    damage to the data set and raises InputError or MapError, the finished frames staying in the journal.
    """
    answers = {}
    if journal is not None:
        answers = {pair.name: answer for pair in pairs if (answer := journal.get(pair.name)) is not None}
    fresh = _locate_all([pair for pair in pairs if pair.name not in answers], localizer, prepare)
    errors = []
    for pair in pairs:
        answer = answers.get(pair.name)
        if answer is None:
            answer = next(fresh)
            if journal is not None:
                journal.put(pair.name, *answer)
        estimate, seconds, failed = answer
        prior_m = math.hypot(pair.prior.east_m - pair.truth.east_m, pair.prior.north_m - pair.truth.north_m)
        errors.append(PairError(pair.name, frame_error(estimate, pair.truth, prior_m, seconds), failed))
        on_frame(errors[-1])
    return errors


def _locate_all(
    pairs: Sequence[Pair], localizer: PairLocalizer, prepare: Callable[[LoadedPair], None]
) -> Iterator[tuple[Estimate, float, str]]:
    for loaded in load_ahead(pairs):
        prepare(loaded)
        started = time.perf_counter()
        estimate, failed = locate_pair(loaded, localizer)
        yield estimate, time.perf_counter() - started, failed


def locate_pair(loaded: LoadedPair, localizer: PairLocalizer) -> tuple[Estimate, str]:
    """The estimate, or the prior and why there is none. What is looked at is exactly the benchmark's crop."""
    crop = CropFrame.of(loaded.pair.prior)
    prior = crop.prior(loaded.pair.prior)
    localizer.use_map(CropMap(loaded.aerial, crop))
    try:
        estimate = localizer.locate([loaded.frame], prior)
    except (InputError, MapError) as error:
        return refused(loaded.pair.prior, str(error)), str(error)
    is_prior = (estimate.east_m, estimate.north_m, estimate.yaw_rad) == (0.0, 0.0, 0.0)
    # What a localizer gives when it found no pose at all is the prior, to the last digit.
    return crop.estimate_in_map(estimate), estimate.reason if is_prior and not estimate.accepted else ""


def pairs_row(errors: Sequence[PairError], **setting: object) -> dict[str, object]:
    """`summarize` over all frames, failed ones as their prior, with the benchmarks' figures along both axes.

    `lateral_…` and `longitudinal_…` are to the side of and along the true heading. `published_lateral_…` and
    `published_longitudinal_…` are what the published evaluation prints under these names: the two swapped.
    """
    row = summarize([error.error for error in errors], **setting)
    for axis in ("lateral", "longitudinal"):
        values = np.abs([getattr(error.error, f"{axis}_m") for error in errors])
        row |= {f"{axis}_mean_m": _rounded(values.mean()) if len(values) else None}
        row |= {f"{axis}_recall_{m}m": _rounded((values <= m).mean()) if len(values) else None for m in LIMITS_M}
    figures = ("mean_m", "median_m", *(f"recall_{m}m" for m in LIMITS_M))
    for axis, other in (("lateral", "longitudinal"), ("longitudinal", "lateral")):
        row |= {f"published_{axis}_{figure}": row[f"{other}_{figure}"] for figure in figures}
    reasons = Counter(error.failed for error in errors if error.failed)
    return row | {"failed": sum(reasons.values()), "failed_reasons": dict(reasons.most_common())}


def digest(pairs: Sequence[Pair]) -> str:
    """Changes when a frame, its truth, its prior or what is searched changes."""
    lines = [
        f"{pair.name} {pair.camera} {pair.meters_per_pixel} {pair.turn:.9f} {_numbers(pair.truth)} "
        f"{_numbers(pair.prior)}"
        for pair in pairs
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _numbers(place: Any) -> str:
    return " ".join(f"{value:.6f}" for value in vars(place).values() if value is not None)


def _rounded(value: Any) -> float:
    return round(float(value), 4)
