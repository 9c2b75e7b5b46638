"""The method on one page: patch → features → depth → lift → match → align → gate.

Fine-grained cross-view localization as in Loc² (arXiv 2509.09792): local features of the ground image are matched with
local features of the aerial image, only ground cells are lifted, with a depth prior, to the bird's-eye plane, and an
alignment with scale turns the matches into a pose. By default the pose is the mode of the consensus of all cells; the
published estimator (drawn matches, scale-aware Procrustes) is `estimator="matches"`.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cross_view_loc.depth.learned import LearnedDepth
from cross_view_loc.depth.source import DepthSource, FlatGround
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.procrustes import procrustes_covariance
from cross_view_loc.geometry.robust import PoseLimits, RobustSettings, align_robustly
from cross_view_loc.matching.aerial_cache import AerialFeatureCache, AerialFeatures, PatchSource
from cross_view_loc.matching.consensus import (
    GroundCells,
    Lattice,
    Layer,
    Mode,
    body_to_patch,
    find_peaks,
    refine,
    score_lattice,
    score_poses,
)
from cross_view_loc.matching.encoders import AERIAL_METERS_PER_PIXEL, CELL_M, load_matcher
from cross_view_loc.matching.ground import GroundObservation, mean_direction, observe_ground
from cross_view_loc.matching.loc2.backbone import DINOV2_LARGE
from cross_view_loc.matching.loc2.pipeline import Loc2Matcher, Loc2Settings, locate_loc2
from cross_view_loc.matching.matches import DRAWN_SHARPNESS, CellMatches, draw_matches, guided_matches
from cross_view_loc.matching.posterior import Calibration, Posterior, heaviest, mass_near, reweigh, summarize
from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED
from cross_view_loc.types import Estimate, Frame, Match, Prior

FEWEST_CELLS = 50
PEAKS = 5
"""Modes of the coarse consensus that the fine cells are asked about."""
LARGEST_HEADING_OFFSET_RAD = math.radians(15.0)
"""The aerial encoder was trained on patches turned to the heading within this; wider ranges take several patches."""
HEADING_STEP_RAD = math.radians(2.0)
NARROWEST_HEADING_RAD = math.radians(1.0)
REACH_M = 40.0
HOPELESS = 10.0
"""A heading this far (in log-probability) below the best is not tried at other scales, a mode not refined."""
LEAST_IMAGERY = 0.5
"""Of a patch: with less, what looks like the best pose may only be the best of what is covered."""


@dataclass(frozen=True)
class LocalizerSettings:
    """What changes the result; names and meanings are those of the node's parameters."""

    depth: str = "learned"
    estimator: str = "consensus"
    search_radius_m: float = 20.0
    heading_range_deg: float = 10.0
    min_confidence: float = 0.8
    max_position_std_m: float = 3.0
    map_std_m: float = 0.3
    seed: int = 0
    device: str = "auto"
    weights_dir: str = ""
    loc2_weights: str = ""
    """Published weights, imported; empty: our own matcher."""
    loc2_backbone: str = ""
    threads: int = 0
    """CPU threads of the process's torch; 0 takes half of the cores."""


class Localizer:
    """Frames and a prior in, an estimate out; the same object serves node, runner, training and evaluation."""

    def __init__(
        self, aerial_map: PatchSource, settings: LocalizerSettings | None = None, depth: DepthSource | None = None
    ) -> None:
        """Load the networks; `depth` replaces the depth source of the settings.

        Raises ModelError when weights are missing or damaged, InputError for unknown choices.
        """
        self.settings = settings or LocalizerSettings()
        self.device = pick_device(self.settings.device)
        torch.set_num_threads(self.settings.threads or max(1, (os.cpu_count() or 2) // 2))
        folder = Path(self.settings.weights_dir) if self.settings.weights_dir else SHIPPED
        self.matcher, metadata = load_matcher(folder / MATCHER_FILE, self.device)
        self.depth = depth or make_depth(self.settings.depth, folder, self.device)
        self.calibration = read_calibration(metadata, self.depth.kind, self.settings.estimator)
        self.aerial = AerialFeatureCache(aerial_map, self.matcher, self.device)
        self.aerial_map = aerial_map
        self.published: Loc2Matcher | None = None
        if self.settings.loc2_weights:
            backbone = self.settings.loc2_backbone or DINOV2_LARGE
            self.published = Loc2Matcher.load(Path(self.settings.loc2_weights), backbone, self.device)
        self.stage_seconds: dict[str, float] = {}
        """Durations of the last call's stages."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        """Estimate the pose of `base_link` at the first frame's stamp; all frames share one body frame.

        Raises NoImageryError when the map has nothing at the prior, InputError when an image does not fit its camera.
        A match that cannot be trusted is no error: the estimate says `accepted=False` and why.
        """
        if self.published is not None:
            published = Loc2Settings(map_std_m=self.settings.map_std_m, seed=self.settings.seed)
            return locate_loc2(frames, prior, self.aerial_map, self.published, self.depth, published)
        clock = _Clock(self.stage_seconds)
        ground = observe_ground(frames, self.matcher, self.depth, self.device)  # features, depth, lifting
        clock.lap("ground")
        if len(ground.cells.weight) < FEWEST_CELLS:
            return _refused(prior, f"only {len(ground.cells.weight)} ground cells are in view; is the camera covered?")
        candidates = self._candidates(frames, ground, prior, clock)
        best = max(candidates, key=lambda candidate: candidate.mode.score)
        estimate = self._estimate(frames, ground, best, self._confidence(best, candidates))
        clock.lap("estimate")
        return estimate

    def score(self, frames: Sequence[Frame], prior: Prior) -> list[Candidate]:
        """The scored lattices and their modes, before gate and covariance: what calibration and pictures need."""
        ground = observe_ground(frames, self.matcher, self.depth, self.device)
        return self._candidates(frames, ground, prior, _Clock({}))

    def _candidates(
        self, frames: Sequence[Frame], ground: GroundObservation, prior: Prior, clock: _Clock
    ) -> list[Candidate]:
        candidates = []
        sectors = self.heading_sectors(prior)
        for rotation, yaws in sectors:
            aerial = self.aerial_features(frames, prior, rotation)
            clock.lap("aerial")
            candidates.append(self._align(ground, aerial, prior, yaws, is_only=len(sectors) == 1))
            clock.lap("align")
        return candidates

    def heading_sectors(self, prior: Prior) -> list[tuple[float, list[float]]]:
        """(patch-up yaw, yaws to score) of the patches that cover the prior's heading range.

        The yaws of all patches together are evenly spaced and none is scored twice, so that their probabilities add
        up. There is an odd number of both: the likeliest heading lies in the middle of a patch, not between two.
        """
        reach = min(max(prior.yaw_range_rad, NARROWEST_HEADING_RAD), math.pi)
        count = _odd(reach / LARGEST_HEADING_OFFSET_RAD)
        steps = _odd(2 * reach / count / HEADING_STEP_RAD)
        first, step = prior.yaw_rad - reach, 2 * reach / (count * steps)
        yaws = [[first + (sector * steps + k + 0.5) * step for k in range(steps)] for sector in range(count)]
        return [(sector[steps // 2], sector) for sector in yaws]

    def aerial_features(self, frames: Sequence[Frame], prior: Prior, rotation: float) -> AerialFeatures:
        forward, left = mean_direction(frames)
        if math.hypot(forward, left) > 0.7:  # one way of looking: leave out what lies behind
            ahead, side_m = (16.0 * forward, 16.0 * left), 40.0 + 2 * prior.radius_m
        else:
            ahead, side_m = (0.0, 0.0), 2 * (REACH_M * 0.8 + prior.radius_m)
        size_px = 16 * math.ceil(side_m / AERIAL_METERS_PER_PIXEL / 16)
        return self.aerial.features(prior.east_m, prior.north_m, rotation, ahead, size_px)

    def _align(
        self, ground: GroundObservation, aerial: AerialFeatures, prior: Prior, yaws: list[float], is_only: bool
    ) -> Candidate:
        """Score every pose of the lattice, then refine the best modes."""
        sharpness = float(self.matcher.score_sharpness)
        lattice = self.lattice(aerial, prior, yaws, is_disc=not is_only)
        hopeless = HOPELESS * max(1.0, self.calibration.temperature)
        volume = score_lattice(aerial.descriptors, ground.cells, lattice, sharpness, hopeless).cpu()
        matches, found = None, None
        if self.settings.estimator == "matches":
            mode, matches = self._align_matches(ground, aerial, lattice)
            lattice = lattice.cpu()
        else:
            lattice = lattice.cpu()
            peaks = find_peaks(volume, lattice, PEAKS, hopeless=hopeless)
            layers = self._layers(ground, aerial)
            modes = [refine(layers, peak, aerial.size_m, lattice.log_scale_std) for peak in peaks]
            poses = torch.stack([mode.pose for mode in modes]).to(self.device)
            gains = score_poses(layers[1:], poses, aerial.size_m, math.inf).cpu()
            found = FoundModes(volume, tuple(modes), gains)
            volume = reweigh(volume, lattice, modes, gains, self.calibration.fine_share)
            mode = heaviest(volume, lattice, modes, self.calibration.temperature)
        log_mass = float(torch.logsumexp((volume / self.calibration.temperature).flatten(), 0))
        posterior = summarize(volume, lattice, mode, self.calibration)
        return Candidate(aerial, lattice, volume, mode, posterior, log_mass, matches, found)

    def _layers(self, ground: GroundObservation, aerial: AerialFeatures) -> list[Layer]:
        """What refinement scores: the cells that carry most of the weight, at half the cost of all."""
        return [
            Layer(aerial.descriptors, _strongest(ground.cells), float(self.matcher.score_sharpness)),
            Layer(aerial.fine, _strongest(ground.fine), float(self.matcher.fine_sharpness)),
        ]

    def _confidence(self, best: Candidate, candidates: Sequence[Candidate]) -> float:
        """Probability near the best pose, over all patches: other headings compete, neighbouring ones contribute."""
        if len(candidates) == 1:
            return best.posterior.confidence
        total = float(torch.logsumexp(torch.tensor([candidate.log_mass for candidate in candidates]), 0))
        east, north, yaw = best.pose_map()
        confidence = 0.0
        for candidate in candidates:
            heading = yaw - candidate.aerial.patch.rotation_rad
            pose = torch.tensor([*candidate.aerial.to_patch(east, north), heading])
            near = mass_near(candidate.volume, candidate.lattice, pose, self.calibration.temperature)
            confidence += near * math.exp(candidate.log_mass - total)
        return confidence

    def lattice(self, aerial: AerialFeatures, prior: Prior, yaws: list[float], is_disc: bool = False) -> Lattice:
        """Shifts, headings and scales about the prior, in a patch's coordinates, on the localizer's device."""
        up_rad = aerial.patch.rotation_rad
        middle = math.remainder(yaws[len(yaws) // 2] - up_rad, 2 * math.pi)
        std = self.depth.log_scale_std
        scales = [-1.2 * std, 0.0, 1.2 * std] if std >= 0.03 else [0.0]
        return Lattice(
            torch.tensor(aerial.to_patch(prior.east_m, prior.north_m), dtype=torch.float32, device=self.device),
            math.ceil(prior.radius_m / CELL_M),
            torch.tensor([middle + yaw - yaws[len(yaws) // 2] for yaw in yaws], device=self.device),
            torch.tensor(scales, device=self.device),
            std,
            is_disc,
        )

    def _align_matches(
        self, ground: GroundObservation, aerial: AerialFeatures, lattice: Lattice
    ) -> tuple[Mode, CellMatches]:
        """The published estimator: drawn matches, robust hypotheses, weighted scale-aware Procrustes."""
        generator = torch.Generator(self.device).manual_seed(self.settings.seed)
        heading = float(lattice.headings_rad.mean())
        reach = float(lattice.headings_rad[-1]) - heading + HEADING_STEP_RAD
        limits = PoseLimits(lattice.prior, lattice.radius_cells * CELL_M, heading, reach)
        sharpness = float(self.matcher.match_sharpness) * DRAWN_SHARPNESS
        matches = draw_matches(aerial.descriptors, ground.cells, sharpness, generator, limits=limits)
        source = body_to_patch(matches.points_body)
        settings = RobustSettings(log_scale_std=self.depth.log_scale_std)
        aligned = align_robustly(source, matches.points_patch, matches.weight, settings, generator, limits)
        if aligned is None:
            nowhere = torch.cat([lattice.prior.cpu(), torch.tensor([heading, 0.0])])
            return Mode(nowhere, -math.inf, torch.eye(4) * 100), replace(matches, weight=matches.weight * 0)
        solution = aligned.solution
        pose = torch.cat([solution.translation, solution.yaw_rad[None], solution.scale.log()[None]]).cpu()
        covariance = torch.eye(4)
        covariance[:3, :3] = procrustes_covariance(source, matches.points_patch, aligned.inlier_weight, solution).cpu()
        return Mode(pose, aligned.score, covariance), replace(matches, weight=aligned.inlier_weight)

    def _estimate(
        self, frames: Sequence[Frame], ground: GroundObservation, best: Candidate, confidence: float
    ) -> Estimate:
        aerial, mode = best.aerial, best.mode
        matches, inliers = guided_matches(
            aerial.descriptors, ground.cells, mode.pose, float(self.matcher.match_sharpness)
        )
        east, north, yaw = best.pose_map()
        rotation = np.eye(3)
        rotation[:2, :2] = aerial.patch_axes()
        covariance = rotation @ best.posterior.covariance.double().numpy() @ rotation.T
        covariance[:2, :2] += np.eye(2) * self.settings.map_std_m**2
        worst_std_m = math.sqrt(float(np.linalg.eigvalsh(covariance[:2, :2])[-1]))
        reason = self._why_refused(best, confidence, worst_std_m)
        return Estimate(
            stamp_ns=frames[0].stamp_ns,
            east_m=east,
            north_m=north,
            yaw_rad=yaw,
            covariance=covariance,
            scale=math.exp(float(mode.pose[3])),
            confidence=confidence,
            inlier_ratio=inliers,
            accepted=not reason,
            reason=reason,
            matches=_explain(frames, ground, aerial, matches if best.matches is None else best.matches),
        )

    def _why_refused(self, best: Candidate, confidence: float, worst_std_m: float) -> str:
        """The gate; empty when the estimate may leave."""
        if not math.isfinite(best.mode.score):
            return "no alignment: the drawn matches agree on no pose within the search"
        if not best.lattice.holds(best.mode.pose):
            return "outside the searched area: the best pose left it; widen search_radius_m or heading_range_deg"
        imagery = float(best.aerial.patch.valid.mean())
        if imagery < LEAST_IMAGERY:
            return f"map: only {imagery:.0%} of the aerial patch has imagery; fetch the tiles around the vehicle"
        if confidence < self.settings.min_confidence:
            return f"ambiguous: confidence {confidence:.2f} is below min_confidence {self.settings.min_confidence:.2f}"
        if not worst_std_m <= self.settings.max_position_std_m:
            limit = self.settings.max_position_std_m
            return f"uncertain: standard deviation {worst_std_m:.1f} m is above max_position_std_m {limit:.1f} m"
        return ""


@dataclass(frozen=True)
class FoundModes:
    """The coarse consensus, its refined modes, and what the fine cells say of each (log-probability)."""

    volume: Tensor
    modes: tuple[Mode, ...]
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

    def pose_map(self) -> tuple[float, float, float]:
        """East, north (m) and yaw (rad, wrapped) of the mode."""
        patch, pose = self.aerial.patch, self.mode.pose.double().numpy()
        east, north = self.aerial.patch_axes() @ pose[:2] + [patch.center_east_m, patch.center_north_m]
        return float(east), float(north), math.remainder(float(pose[2]) + patch.rotation_rad, 2 * math.pi)


class _Clock:
    """Adds up the seconds of each stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()
        seconds.clear()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now


def read_calibration(metadata: dict[str, object], kind: str, estimator: str) -> Calibration:
    """The calibration fitted for a kind of depth and an estimator; says so when the weights have none."""
    fitted = metadata.get("calibration")
    numbers = fitted.get(f"{kind}/{estimator}") if isinstance(fitted, dict) else None
    if numbers is None:
        logging.getLogger(__name__).warning(
            "these weights are not calibrated for %s depth with %s: covariances are guesses; "
            "run `cross_view_loc train calibrate`",
            kind,
            estimator,
        )
        return Calibration()
    return Calibration(**numbers)


def _odd(number: float) -> int:
    """The smallest odd whole number that is not less, rounding errors aside."""
    return 2 * math.ceil((number - 1) / 2 - 1e-6) + 1 if number > 1 else 1


def pick_device(name: str) -> str:
    """ "auto" → "cuda" where there is one, else "cpu". Raises InputError for a device this machine lacks."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is '{name}' but torch finds no CUDA device; set device to 'auto' or 'cpu'")
    try:
        torch.empty(0, device=name)
    except RuntimeError as error:
        raise InputError(f"device '{name}' cannot be used; choose auto, cpu, cuda or cuda:N") from error
    return name


def make_depth(name: str, folder: Path, device: str) -> DepthSource:
    """The depth source of that name."""
    if name == "flat":
        return FlatGround()
    if name == "learned":
        return LearnedDepth(folder / DEPTH_FILE, device)
    raise InputError(f"there is no depth source '{name}'; choose learned or flat")


def _strongest(cells: GroundCells, count: int = 1000) -> GroundCells:
    if len(cells.weight) <= count:
        return cells
    top = cells.weight.topk(count)
    scale = cells.weight.sum() / top.values.sum()
    return replace(
        cells,
        descriptors=cells.descriptors[top.indices],
        weight=top.values * scale,
        points_body=cells.points_body[top.indices],
    )


def _refused(prior: Prior, reason: str) -> Estimate:
    spread = prior.radius_m**2 / 3
    covariance = np.diag([spread, spread, min(prior.yaw_range_rad, math.pi) ** 2 / 3])
    return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, reason=reason)


def _explain(
    frames: Sequence[Frame], ground: GroundObservation, aerial: AerialFeatures, matches: CellMatches
) -> tuple[Match, ...]:
    kept = (matches.weight > 0).nonzero()[:, 0]
    kept = kept[matches.weight[kept].argsort(descending=True)][:200]
    axes, patch = aerial.patch_axes(), aerial.patch
    points_map = matches.points_patch[kept].double().cpu().numpy() @ axes.T + [
        patch.center_east_m,
        patch.center_north_m,
    ]
    body = matches.points_body[kept].double().cpu().numpy()
    index = matches.ground_index[kept].cpu().numpy()
    weight = matches.weight[kept].cpu().numpy()
    return tuple(
        Match(
            (float(ground.pixels[i, 0]), float(ground.pixels[i, 1])),
            (float(b[0]), float(b[1])),
            (float(m[0]), float(m[1])),
            float(w),
            frames[int(ground.frame_index[i])].name,
        )
        for i, b, m, w in zip(index, body, points_map, weight, strict=True)
    )
