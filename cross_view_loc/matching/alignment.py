"""Alignment within one patch, by one of three estimators.

`consensus`: modes of the consensus of all cells, the heaviest refined on it. `guided`: the same mode, then scale-aware
Procrustes on the matches that it guides. `matches`: the published one, matches drawn from the score, robust hypotheses,
scale-aware Procrustes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cross_view_loc.geometry.robust import PoseLimits, RobustSettings, align_robustly
from cross_view_loc.matching.aerial_cache import AerialFeatures
from cross_view_loc.matching.consensus import (
    Lattice,
    Layer,
    body_to_patch,
    score_lattice,
    score_poses,
)
from cross_view_loc.matching.encoders import CELL_M, Matcher
from cross_view_loc.matching.ground import GroundObservation
from cross_view_loc.matching.guided import refine_by_matches
from cross_view_loc.matching.matches import DRAWN_SHARPNESS, CellMatches, consensus_judge, draw_matches
from cross_view_loc.matching.modes import Mode, Peak, climb, find_peaks, mode_covariance, refine
from cross_view_loc.matching.posterior import Calibration, Posterior, heaviest, mass_near, reweigh, summarize
from cross_view_loc.matching.search import HEADING_STEP_RAD

ESTIMATORS = ("consensus", "guided", "matches")
PEAKS = 5
"""Modes of the coarse consensus that the fine cells are asked about."""
HOPELESS = 10.0
"""A heading this far (in log-probability) below the best is not tried at other scales, a mode not refined."""
STRONGEST, FEW = 1000, 400
"""Cells that carry most of the weight: refinement scores so many of the chosen mode, and so few to choose."""
GLANCE_ROUNDS = 3


@dataclass(frozen=True)
class FoundModes:
    """The coarse consensus, its refined modes, and what the fine cells say of each (log-probability)."""

    volume: Tensor
    modes: tuple[Peak, ...]
    gains: Tensor


@dataclass(frozen=True)
class Candidate:
    """The best pose within one patch."""

    aerial: AerialFeatures
    lattice: Lattice
    volume: Tensor
    """(S, K, 2R+1, 2R+1) log-scores over the lattice, after the fine cells had their say."""
    mode: Mode
    posterior: Posterior
    log_mass: float
    """Log of the summed posterior, to weigh this patch against the others."""
    matches: CellMatches | None
    found: FoundModes | None
    """What the volume and the mode were made of; None for the published estimator."""
    temperature: float = 1.0
    """Of the posterior, for as many views as there were."""

    def pose_map(self) -> tuple[float, float, float]:
        """East, north (m) and yaw (rad, wrapped) of the mode."""
        patch, pose = self.aerial.patch, self.mode.pose.double().numpy()
        east, north = self.aerial.patch_axes() @ pose[:2] + [patch.center_east_m, patch.center_north_m]
        return float(east), float(north), math.remainder(float(pose[2]) + patch.rotation_rad, 2 * math.pi)

    def log_weight(self) -> float:
        """What to compare patches by: the log of the unnormalised probability of the mode."""
        if self.found is None:
            return self.mode.score
        return self.log_mass + math.log(max(self.posterior.confidence, 1e-30))


def align(
    ground: GroundObservation,
    aerial: AerialFeatures,
    lattice: Lattice,
    matcher: Matcher,
    calibration: Calibration,
    generator: torch.Generator,
    estimator: str = "consensus",
) -> Candidate:
    """Score every pose of the lattice, whose posterior says how sure a pose is, and find the pose by an estimator.

    `generator` draws the matches of the published one; the others draw nothing.
    """
    calibration = calibration.for_views(ground.views)
    hopeless = HOPELESS * max(1.0, calibration.temperature)
    volume = score_lattice(aerial.descriptors, ground.cells, lattice, float(matcher.score_sharpness), hopeless).cpu()
    strongest = _layers(ground, aerial, matcher, STRONGEST)
    matches, found = None, None
    if estimator == "matches":
        mode, matches = _align_matches(ground, aerial, lattice, matcher, strongest, generator)
        lattice = lattice.cpu()
    else:
        lattice = lattice.cpu()
        glances = _layers(ground, aerial, matcher, FEW)
        found = _find_modes(volume, lattice, glances, strongest, aerial.size_m, hopeless)
        volume = reweigh(volume, lattice, found.modes, found.gains, calibration.fine_share)
        start = heaviest(volume, lattice, found.modes, calibration.temperature).pose
        if estimator == "guided":
            sharpness = float(matcher.match_sharpness)
            mode = refine_by_matches(strongest, start, aerial.size_m, sharpness, lattice.log_scale_std)
        else:
            mode = refine(strongest, start, aerial.size_m, lattice.log_scale_std)
    log_mass = float(torch.logsumexp((volume / calibration.temperature).flatten(), 0))
    posterior = summarize(volume, lattice, mode, calibration)
    return Candidate(aerial, lattice, volume, mode, posterior, log_mass, matches, found, calibration.temperature)


def confidence(best: Candidate, candidates: Sequence[Candidate]) -> float:
    """Probability near the best pose, over all patches: other headings compete, neighbouring ones contribute."""
    if len(candidates) == 1:
        return best.posterior.confidence
    total = float(torch.logsumexp(torch.tensor([candidate.log_mass for candidate in candidates]), 0))
    east, north, yaw = best.pose_map()
    probability = 0.0
    for candidate in candidates:
        heading = yaw - candidate.aerial.patch.rotation_rad
        pose = torch.tensor([*candidate.aerial.to_patch(east, north), heading])
        near = mass_near(candidate.volume, candidate.lattice, pose, candidate.temperature)
        probability += near * math.exp(candidate.log_mass - total)
    return probability


def scale_std(best: Candidate) -> float:
    """Standard deviation of the scale of a pose, given what the depth source knew of it and what the map says.

    The map's word is as much weaker than the score's curvature as the posterior's temperature says; the depth source's
    own is no part of the score and stays.
    """
    known = 1.0 / max(best.lattice.log_scale_std, 1e-6) ** 2
    curvature = 1.0 / max(float(best.mode.covariance[3, 3]), 1e-12)
    variance = 1.0 / (known + max(curvature - known, 0.0) / best.temperature)
    return math.exp(float(best.mode.pose[3])) * math.sqrt(variance)


def _find_modes(
    volume: Tensor,
    lattice: Lattice,
    glances: Sequence[Layer],
    strongest: Sequence[Layer],
    patch_m: float,
    hopeless: float,
) -> FoundModes:
    """Peaks refined on a few cells, and what the strongest fine cells say of each; layers are coarse, then fine."""
    peaks = find_peaks(volume, lattice, PEAKS, hopeless=hopeless)
    modes = [climb(glances, peak, patch_m, lattice.log_scale_std, GLANCE_ROUNDS) for peak in peaks]
    poses = torch.stack([mode.pose for mode in modes]).to(strongest[1].aerial.device)
    return FoundModes(volume, tuple(modes), score_poses(strongest[1:], poses, patch_m, math.inf).cpu())


def _layers(ground: GroundObservation, aerial: AerialFeatures, matcher: Matcher, count: int) -> list[Layer]:
    return [
        Layer(aerial.descriptors, ground.cells.strongest(count), float(matcher.score_sharpness)),
        Layer(aerial.fine, ground.fine.strongest(count), float(matcher.fine_sharpness)),
    ]


def _align_matches(
    ground: GroundObservation,
    aerial: AerialFeatures,
    lattice: Lattice,
    matcher: Matcher,
    strongest: Sequence[Layer],
    generator: torch.Generator,
) -> tuple[Mode, CellMatches]:
    """The published estimator; of its refined hypotheses the one is kept that the consensus of all cells likes best."""
    heading = float(lattice.headings_rad.mean())
    reach = float(lattice.headings_rad[-1]) - heading + HEADING_STEP_RAD
    limits = PoseLimits(lattice.prior, lattice.radius_cells * CELL_M, heading, reach)
    sharpness = float(matcher.match_sharpness) * DRAWN_SHARPNESS
    matches = draw_matches(aerial.descriptors, ground.cells, sharpness, generator, limits=limits)
    source = body_to_patch(matches.points_body)
    settings = RobustSettings(log_scale_std=lattice.log_scale_std)
    judge = consensus_judge(strongest, aerial.size_m, lattice.log_scale_std)
    aligned = align_robustly(source, matches.points_patch, matches.weight, settings, generator, limits, judge)
    if aligned is None:
        nowhere = torch.cat([lattice.prior.cpu(), torch.tensor([heading, 0.0])])
        return Mode(nowhere, -math.inf, torch.eye(4) * 100), replace(matches, weight=matches.weight * 0)
    solution = aligned.solution
    pose = torch.cat([solution.translation, solution.yaw_rad[None], solution.scale.log()[None]]).cpu()
    covariance = mode_covariance(strongest, pose, aerial.size_m, lattice.log_scale_std)
    return Mode(pose, aligned.score, covariance), replace(matches, weight=aligned.inlier_weight)
