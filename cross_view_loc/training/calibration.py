"""Fit what makes the posterior come true: a temperature by likelihood, then a factor on the covariance by errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.evaluation.metrics import CHI2_95_3DOF, Truth
from cross_view_loc.evaluation.town import TownFrame, make_bench
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.matching.aerial_cache import AerialFeatures
from cross_view_loc.matching.alignment import ESTIMATORS
from cross_view_loc.matching.consensus import Lattice
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.matching.modes import Mode, Peak
from cross_view_loc.matching.posterior import (
    MODE_RADIUS_M,
    Calibration,
    Posterior,
    heaviest,
    reweigh,
    summarize,
)
from cross_view_loc.networks.weights import MATCHER_FILE, load_weights, save_weights
from cross_view_loc.simulation.gap import GAPS

TEMPERATURES = tuple(round(0.5 * 1.2**k, 3) for k in range(12))
FINE_SHARES = (0.0, 0.15, 0.25, 0.4, 0.6, 1.0)
LEAST_PROBABILITY = 1e-5
"""One frame that is hopelessly wrong must not decide over all others."""
SURE = 0.9
"""The factor is fitted on frames at least this confident: those that a user sees."""
FARTHEST_NEES = 10.0
"""A frame counts at most this (per degree of freedom), for one lost frame must not make all ellipses wide."""


@dataclass(frozen=True)
class ScoredFrame:
    """One frame's coarse scores, their refined modes with what the fine cells say of each, and the truth."""

    volume: Tensor
    lattice: Lattice
    modes: tuple[Peak, ...]
    gains: Tensor
    """(M,)"""
    chosen: Mode
    """As refined to the end under the calibration it was scored with."""
    truth_patch: NDArray[np.float64]
    """(3,) right, up, heading offset."""

    def under(self, calibration: Calibration) -> tuple[Tensor, Mode]:
        """The scores after the fine cells had their say, and the mode chosen by them."""
        volume = reweigh(self.volume, self.lattice, self.modes, self.gains, calibration.fine_share)
        peak = heaviest(volume, self.lattice, self.modes, calibration.temperature)
        if float((peak.pose[:2] - self.chosen.pose[:2]).norm()) < CELL_M:
            return volume, self.chosen
        # It was never climbed to its top, nor measured; hardly a frame has one.
        return volume, Mode(peak.pose, peak.score, self.chosen.covariance)


def calibrate(
    folder: Path,
    seeds: Sequence[int],
    frames: int,
    log: Callable[[str], None],
    cache: Path | None = None,
    only: Sequence[str] = ESTIMATORS,
    keeps_temperature: bool = False,
) -> dict[str, object]:
    """Fit both depth kinds on held-out towns, under every gap, and write the numbers into the matcher's metadata.

    The displacement of a map is no business of the matcher's and taken out. `cache` keeps rendered towns. Numbers of
    estimators that are not in `only` stay; with `keeps_temperature` only the factor on the covariance is fitted.
    """
    path = folder / MATCHER_FILE
    weights = load_weights(path)
    before = weights.metadata.get("calibration")
    results: dict[str, object] = dict(before) if isinstance(before, dict) else {}
    benches = [make_bench(seed, frames, gap=gap, cache=cache) for seed in seeds for gap in GAPS]
    for depth, estimator in itertools.product(("learned", "flat"), only):
        settings = LocalizerSettings(depth=depth, estimator=estimator, weights_dir=str(folder), map_std_m=0.0)
        scored = []
        kind = "metric"
        for bench in benches:
            localizer = Localizer(bench.orthophoto, settings)
            shipped = localizer.calibration
            if not keeps_temperature:  # so hot that hardly a heading is left out
                localizer.calibration = Calibration(temperature=max(TEMPERATURES))
            kind = localizer.depth.kind
            scored += [score_frame(localizer, moment, bench.map_shift_m) for moment in bench.frames]
        calibration, report = fit(scored, shipped if keeps_temperature else None)
        results[f"{kind}/{estimator}"] = {
            "temperature": calibration.temperature,
            "covariance_factor": round(calibration.covariance_factor, 3),
            "fine_share": calibration.fine_share,
        }
        log(f"{depth} depth, {estimator}: {report}")
    metadata = {**weights.metadata, "calibration": results, "calibration_towns": list(seeds)}
    save_weights(path, weights.tensors, metadata)
    return results


def score_frame(localizer: Localizer, moment: TownFrame, map_shift_m: tuple[float, float] = (0.0, 0.0)) -> ScoredFrame:
    """The localizer's own scores and modes for one moment (its first heading sector), the truth as the map shows it."""
    scored = localizer.score(moment.frames, moment.prior)[0]
    east_m, north_m = moment.truth.east_m + map_shift_m[0], moment.truth.north_m + map_shift_m[1]
    truth = truth_in_patch(scored.aerial, Truth(east_m, north_m, moment.truth.yaw_rad))
    if scored.found is None:
        return ScoredFrame(scored.volume, scored.lattice, (scored.mode,), torch.zeros(1), scored.mode, truth)
    found = scored.found
    return ScoredFrame(found.volume, scored.lattice, found.modes, found.gains, scored.mode, truth)


def truth_in_patch(aerial: AerialFeatures, truth: Truth) -> NDArray[np.float64]:
    """(3,) right, up, heading offset."""
    right, up = aerial.to_patch(truth.east_m, truth.north_m)
    return np.array([right, up, math.remainder(truth.yaw_rad - aerial.patch.rotation_rad, 2 * math.pi)])


def fit(scored: Sequence[ScoredFrame], given: Calibration | None = None) -> tuple[Calibration, str]:
    """Temperature and share of the fine cells by likelihood of the truth; then the factor on the covariance.

    Errors of confident frames have heavier tails than a Gaussian: the factor with which their mean NEES is 1 per degree
    of freedom (Bar-Shalom, Li, Kirubarajan 2001, 5.4) leaves too many outside the 95 % region, the one with which 95 %
    are inside is too wide for most. It is the geometric mean of the two. With a `given` calibration, that the frames
    were scored with, only the factor is fitted.
    """
    options = [
        Calibration(temperature, fine_share=share)
        for temperature, share in itertools.product(TEMPERATURES, FINE_SHARES if _has_choice(scored) else (0.0,))
    ]
    if given is not None:
        options = [replace(given, covariance_factor=1.0)]
    losses = [np.mean([_negative_log_likelihood(frame, option) for frame in scored]) for option in options]
    plain = options[int(np.argmin(losses))]
    summaries = [_summary(frame, plain) for frame in scored]
    hits = [math.hypot(error[0], error[1]) < MODE_RADIUS_M for _, error in summaries]
    sure = [(frame, *found) for frame, found in zip(scored, summaries, strict=True) if found[0].confidence > SURE]
    # A covariance is what other modes add plus the factor times the mode's own, which the summaries have at 1.
    of_others = [_summary(frame, replace(plain, covariance_factor=0.0))[0].covariance for frame, _, _ in sure]

    def distances(factor: float) -> NDArray[np.float64]:
        return np.array(
            [
                _distance(others + factor * (posterior.covariance - others), error)
                for others, (_, posterior, error) in zip(of_others, sure, strict=True)
            ]
        )

    def sharpness(factor: float) -> float:
        """1 / mean NEES: rises with the factor."""
        return 1.0 / max(float(np.minimum(distances(factor) / 3.0, FARTHEST_NEES).mean()), 1e-6)

    def coverage(factor: float) -> float:
        return float((distances(factor) <= CHI2_95_3DOF).mean())

    factor = math.sqrt(_bisect(sharpness, 1.0) * _bisect(coverage, 0.95)) if len(sure) >= 20 else 1.0
    best = replace(plain, covariance_factor=factor)
    mean_confidence = float(np.mean([posterior.confidence for posterior, _ in summaries]))
    report = (
        f"{len(scored)} frames, temperature {plain.temperature}, share of the fine cells {plain.fine_share}, "
        f"covariance factor {factor:.2f} ({coverage(factor):.1%} of the confident frames in the "
        f"95 % region, NEES {1.0 / sharpness(factor):.2f} per degree of freedom), "
        f"mean confidence {mean_confidence:.3f} against {np.mean(hits):.3f} in the right mode"
    )
    return best, report


def _has_choice(scored: Sequence[ScoredFrame]) -> bool:
    return any(len(frame.modes) > 1 for frame in scored)


def _summary(frame: ScoredFrame, calibration: Calibration) -> tuple[Posterior, NDArray[np.float64]]:
    """Posterior of the chosen mode and the truth minus that mode."""
    volume, mode = frame.under(calibration)
    error = frame.truth_patch - mode.pose[:3].double().numpy()
    error[2] = math.remainder(error[2], 2 * math.pi)
    return summarize(volume, frame.lattice, mode, calibration), error


def _distance(covariance: Tensor, error: NDArray[np.float64]) -> float:
    """Squared Mahalanobis distance."""
    return float(error @ np.linalg.solve(covariance.double().numpy(), error))


def _bisect(rising: Callable[[float], float], wanted: float, low: float = 0.02, high: float = 50.0) -> float:
    """Where a rising function reaches a value, to 1 %."""
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return math.sqrt(low * high)


def _negative_log_likelihood(frame: ScoredFrame, calibration: Calibration) -> float:
    """Of the lattice pose nearest to the truth, over headings and shifts."""
    volume, _ = frame.under(calibration)
    probability = (volume / calibration.temperature).flatten().softmax(0).view_as(volume).sum(0)
    shifts = frame.lattice.shifts_m
    right = int((frame.lattice.prior[0] + shifts - frame.truth_patch[0]).abs().argmin())
    up = int((frame.lattice.prior[1] + shifts - frame.truth_patch[1]).abs().argmin())
    turn = torch.remainder(frame.lattice.headings_rad - frame.truth_patch[2] + math.pi, 2 * math.pi) - math.pi
    return -math.log(max(float(probability[int(turn.abs().argmin()), up, right]), LEAST_PROBABILITY))
