"""Does the confidence know? Risk against coverage of the acceptance gate, and the confidence against what came true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.evaluation.metrics import FrameError

WRONG_BEYOND_M = 2.0
BINS = 10
CURVE_POINTS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """What a gate on the confidence gives, for every threshold; both arrays ascend in `kept`."""

    kept: Array
    """(N,) share of all frames that a threshold keeps."""
    wrong: Array
    """(N,) share of the kept frames that lie beyond the limit."""

    @property
    def area(self) -> float:
        """Mean risk over all coverages (AURC: Geifman, Uziel, El-Yaniv, ICLR 2019): 0 is best; NaN without frames."""
        if not len(self.kept):
            return float("nan")
        return float(np.sum(self.wrong * np.diff(self.kept, prepend=0.0)))

    def at(self, kept: float) -> float:
        """Risk of the tightest threshold that keeps at least the share `kept`; NaN without frames."""
        if not len(self.kept):
            return float("nan")
        return float(self.wrong[min(int(np.searchsorted(self.kept, kept - 1e-9)), len(self.kept) - 1)])


def risk_coverage(errors: Sequence[FrameError], limit_m: float = WRONG_BEYOND_M) -> RiskCoverage:
    """Frames in order of falling confidence: the share kept against the share of those that is more than `limit_m` off.

    Frames of equal confidence enter together, since no threshold can tell them apart.
    """
    rated = [error for error in errors if np.isfinite(error.confidence)]
    if not rated:
        return RiskCoverage(np.zeros(0), np.zeros(0))
    confidence = np.array([error.confidence for error in rated])
    order = np.argsort(-confidence, kind="stable")
    wrong = np.array([error.position_m > limit_m for error in rated], dtype=np.float64)[order]
    last_of_equals = np.append(np.diff(confidence[order]) != 0, True)
    count = np.arange(1, len(rated) + 1)
    return RiskCoverage((count / len(rated))[last_of_equals], (np.cumsum(wrong) / count)[last_of_equals])


@dataclass(frozen=True)
class Reliability:
    """Claimed against true frequency of the right mode, in bins of equal width that hold at least one frame."""

    claimed: Array
    """(B,) mean confidence."""
    true: Array
    """(B,) share in the right mode."""
    frames: NDArray[np.int64]
    """(B,)"""

    @property
    def expected_error(self) -> float:
        """Expected calibration error: Σ frames/N · |claimed − true| (Guo et al., ICML 2017); NaN without frames."""
        if not len(self.frames):
            return float("nan")
        return float(np.average(np.abs(self.claimed - self.true), weights=self.frames))


def reliability(errors: Sequence[FrameError], bins: int = BINS) -> Reliability:
    """How often frames of a confidence really are in the right mode."""
    rated = [error for error in errors if np.isfinite(error.confidence)]
    confidence = np.array([error.confidence for error in rated])
    right = np.array([error.is_right_mode for error in rated], dtype=np.float64)
    index = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    used = np.unique(index)
    return Reliability(
        np.array([confidence[index == b].mean() for b in used]),
        np.array([right[index == b].mean() for b in used]),
        np.array([int((index == b).sum()) for b in used], dtype=np.int64),
    )


def gate_figures(errors: Sequence[FrameError]) -> dict[str, object]:
    """The figures of a row that describe the confidence; None where there are no frames.

    `risk_coverage` lists [share kept, share of it more than 2 m off]; `reliability` lists [mean confidence, share in
    the right mode, frames] of each bin.
    """
    curve, bins = risk_coverage(errors), reliability(errors)
    return {
        "risk_coverage_area": _figure(curve.area),
        "risk_coverage": [[share, _figure(curve.at(share))] for share in CURVE_POINTS],
        "confidence_ece": _figure(bins.expected_error),
        "reliability": [
            [_figure(claimed), _figure(true), int(frames)]
            for claimed, true, frames in zip(bins.claimed, bins.true, bins.frames, strict=True)
        ],
    }


def _figure(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
