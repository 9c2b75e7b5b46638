"""Fit what makes the posterior come true: a temperature by likelihood, then a factor on the covariance by coverage."""

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
from cross_view_loc.matching.consensus import Lattice, Mode
from cross_view_loc.matching.posterior import MODE_RADIUS_M, Calibration, summarize
from cross_view_loc.networks.weights import MATCHER_FILE, load_weights, save_weights

TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


@dataclass(frozen=True)
class ScoredFrame:
    """One frame's scores, its refined mode and the truth in patch coordinates."""

    volume: Tensor
    lattice: Lattice
    mode: Mode
    truth_patch: NDArray[np.float64]
    """(3,) right, up, heading offset."""


def calibrate(folder: Path, seeds: Sequence[int], frames: int, log: Callable[[str], None]) -> dict[str, object]:
    """Fit both depth kinds on held-out towns and write the numbers into the matcher's metadata."""
    results: dict[str, object] = {}
    benches = [make_bench(seed, frames) for seed in seeds]
    for depth, estimator in itertools.product(("learned", "flat"), ("consensus", "matches")):
        settings = LocalizerSettings(depth=depth, estimator=estimator, weights_dir=str(folder), map_std_m=0.0)
        scored = []
        kind = "metric"
        for bench in benches:
            localizer = Localizer(bench.orthophoto, settings)
            localizer.calibration = Calibration(temperature=max(TEMPERATURES))  # so that hardly a heading is left out
            kind = localizer.depth.kind
            scored += [score_frame(localizer, moment) for moment in bench.frames]
        calibration, report = fit(scored)
        results[f"{kind}/{estimator}"] = {
            "temperature": calibration.temperature,
            "covariance_factor": round(calibration.covariance_factor, 3),
        }
        log(f"{depth} depth, {estimator}: {report}")
    path = folder / MATCHER_FILE
    weights = load_weights(path)
    metadata = {**weights.metadata, "calibration": results, "calibration_towns": list(seeds)}
    save_weights(path, weights.tensors, metadata)
    return results


def score_frame(localizer: Localizer, moment: TownFrame) -> ScoredFrame:
    """The localizer's own scores and mode for one moment (its first heading sector)."""
    scored = localizer.score(moment.frames, moment.prior)[0]
    return ScoredFrame(scored.volume, scored.lattice, scored.mode, truth_in_patch(scored.aerial, moment.truth))


def truth_in_patch(aerial: AerialFeatures, truth: Truth) -> NDArray[np.float64]:
    """(3,) right, up, heading offset."""
    right, up = aerial.to_patch(truth.east_m, truth.north_m)
    return np.array([right, up, math.remainder(truth.yaw_rad - aerial.patch.rotation_rad, 2 * math.pi)])


def fit(scored: Sequence[ScoredFrame]) -> tuple[Calibration, str]:
    """Temperature of least negative log-likelihood of the truth; then the factor that brings 95 % coverage.

    Coverage is fitted on frames a user would see accepted: confident ones. A wrong mode is the confidence's business,
    not the ellipse's, so errors beyond the mode's radius are left out.
    """
    losses = [np.mean([_negative_log_likelihood(frame, t) for frame in scored]) for t in TEMPERATURES]
    temperature = TEMPERATURES[int(np.argmin(losses))]
    plain = Calibration(temperature)
    distances, confidences, hits = [], [], []
    for frame in scored:
        posterior = summarize(frame.volume, frame.lattice, frame.mode, plain)
        error = frame.truth_patch - frame.mode.pose[:3].double().numpy()
        error[2] = math.remainder(error[2], 2 * math.pi)
        hit = math.hypot(*error[:2]) < MODE_RADIUS_M
        confidences.append(posterior.confidence)
        hits.append(hit)
        if hit and posterior.confidence > 0.5:
            distances.append(float(error @ np.linalg.solve(posterior.covariance.double().numpy(), error)))
    factor = float(np.quantile(distances, 0.95)) / CHI2_95_3DOF if len(distances) >= 20 else 1.0
    report = (
        f"{len(scored)} frames, temperature {temperature}, covariance factor {factor:.2f}, "
        f"mean confidence {np.mean(confidences):.3f} against {np.mean(hits):.3f} in the right mode, "
        f"mean squared distance per degree of freedom before {np.mean(distances) / 3:.2f}"
    )
    return replace(plain, covariance_factor=factor), report


def _negative_log_likelihood(frame: ScoredFrame, temperature: float) -> float:
    """Of the lattice pose nearest to the truth, over headings and shifts."""
    logp = (frame.volume / temperature).flatten().log_softmax(0).view_as(frame.volume).logsumexp(0)
    shifts = frame.lattice.shifts_m
    right = int((frame.lattice.prior[0] + shifts - frame.truth_patch[0]).abs().argmin())
    up = int((frame.lattice.prior[1] + shifts - frame.truth_patch[1]).abs().argmin())
    turn = torch.remainder(frame.lattice.headings_rad - frame.truth_patch[2] + math.pi, 2 * math.pi) - math.pi
    return -float(logp[int(turn.abs().argmin()), up, right])
