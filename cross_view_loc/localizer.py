"""The method on one page: patch → features → depth → lift → match → align → gate.

Fine-grained cross-view localization as in Loc² (arXiv 2509.09792): local features of the ground image are matched with
local features of the aerial image, only ground cells are lifted, with a depth prior, to the bird's-eye plane, and an
alignment with scale turns the matches into a pose. By default the pose is the heaviest mode of the consensus of all
cells, refined on it; `estimator` selects Procrustes on matches guided by that mode ("guided") or the published way of
drawn matches ("matches").
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.aerial.resolution import imagery_variance_m2
from cross_view_loc.depth.choose import NO_TILT, ChosenDepth, choose_depth
from cross_view_loc.depth.road import level_by_road
from cross_view_loc.depth.source import DepthSource, forget_frames
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.matching.aerial_cache import AerialFeatureCache, PatchSource
from cross_view_loc.matching.alignment import ESTIMATORS, Candidate, align, confidence, scale_std
from cross_view_loc.matching.encoders import load_matcher
from cross_view_loc.matching.explain import explain
from cross_view_loc.matching.gate import FEWEST_CELLS, Gate, refused
from cross_view_loc.matching.ground import GroundObservation, observe_ground
from cross_view_loc.matching.loc2.backbone import DINOV2_LARGE
from cross_view_loc.matching.loc2.pipeline import Loc2Matcher, Loc2Settings, locate_loc2
from cross_view_loc.matching.matches import guided_matches
from cross_view_loc.matching.posterior import read_calibration
from cross_view_loc.matching.search import aerial_features, heading_sectors, make_lattice, parts
from cross_view_loc.matching.segmenter import make_segmenter
from cross_view_loc.matching.window import GroundWindow, WindowSettings
from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED
from cross_view_loc.types import Estimate, Frame, Prior


@dataclass(frozen=True)
class LocalizerSettings:
    """What changes the result; names and meanings are those of the node's parameters."""

    depth: str = "learned"
    depth_fallback: tuple[str, ...] = ()
    """Tried in this order when `depth` cannot be loaded."""
    depth_scale: str = "corrected"
    attitude: str = "auto"
    """Only "estimated" is the localizer's: all else is in the frames that it is given."""
    estimator: str = "consensus"
    segmenter: str = "none"
    search_radius_m: float = 20.0
    heading_range_deg: float = 10.0
    min_confidence: float = 0.9
    max_position_std_m: float = 2.0
    min_inlier_ratio: float = 0.35
    window_frames: int = 5
    window_length_m: float = 20.0
    window_spacing_m: float = 2.0
    odometry_drift_share: float = 0.03
    odometry_yaw_drift_deg_per_m: float = 0.1
    map_std_m: float = 0.3
    mount_yaw_std_deg: float = 0.3
    covariance_scale: float = 1.0
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
        if self.settings.estimator not in ESTIMATORS:
            raise InputError(f"there is no estimator '{self.settings.estimator}'; choose {', '.join(ESTIMATORS)}")
        self.device = pick_device(self.settings.device)
        torch.set_num_threads(self.settings.threads or max(1, (os.cpu_count() or 2) // 2))
        folder = Path(self.settings.weights_dir) if self.settings.weights_dir else SHIPPED
        self.matcher, metadata = load_matcher(folder / MATCHER_FILE, self.device)
        names = (self.settings.depth, *self.settings.depth_fallback)
        chosen = (
            ChosenDepth(depth, "given")
            if depth
            else choose_depth(names, folder, self.device, self.settings.depth_scale)
        )
        if self.settings.attitude == "estimated" and chosen.notice and chosen.source.kind == "flat":
            chosen = replace(chosen, notice=f"{chosen.notice}; {NO_TILT}")
        self.depth, self.depth_name, self.depth_notice = chosen.source, chosen.name, chosen.notice
        """The name is that of the source which serves; the notice says what it stands in for, and why, if it does."""
        self.calibration = read_calibration(metadata, self.depth.kind, self.settings.estimator)
        self.aerial = AerialFeatureCache(aerial_map, self.matcher, self.device)
        self.published = load_published(self.settings, self.device)
        self.segmenter = make_segmenter(self.settings.segmenter, self.device)
        self.window = GroundWindow()
        """Ground cells of the last moments."""
        self.stage_seconds: dict[str, float] = {}
        """Durations of the last call's stages."""

    def use_map(self, aerial_map: PatchSource) -> None:
        """Look at another map, or at the same one counted from another origin, from the next call on."""
        self.aerial = AerialFeatureCache(aerial_map, self.matcher, self.device)

    @property
    def latest_patch(self) -> Patch | None:
        """The aerial patch that the last call looked at last; None before the first."""
        return self.aerial.latest_patch

    @property
    def gate(self) -> Gate:
        """The operating point of the settings as they are now: a node may change them while it runs."""
        settings = self.settings
        return Gate(settings.min_confidence, settings.max_position_std_m, settings.min_inlier_ratio)

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        """Estimate the pose of `base_link` at the first frame's stamp; all frames share one body frame.

        With `window_frames` above 1, ground of earlier moments counts too, as far as the frames tell the motion since.
        Raises NoImageryError when the map has nothing at the prior, InputError when an image does not fit its camera.
        A match that cannot be trusted is no error: the estimate says `accepted=False` and why.
        """
        if self.published is not None:
            published = Loc2Settings(map_std_m=self.settings.map_std_m, seed=self.settings.seed)
            found = locate_loc2(frames, prior, self.aerial.source, self.published, self.depth, published)
            covariance = found.covariance + np.diag([0.0, 0.0, math.radians(self.settings.mount_yaw_std_deg) ** 2])
            return replace(found, covariance=covariance * self.settings.covariance_scale)
        clock = _Clock(self.stage_seconds)
        ground = self.look(frames)
        clock.lap("ground")
        if len(ground.present.weight) < FEWEST_CELLS:
            return refused(prior, f"only {len(ground.present.weight)} ground cells are in view; is the camera covered?")
        candidates = self._candidates(frames, ground, prior, clock)
        best = max(candidates, key=Candidate.log_weight)
        estimate = self._estimate(frames, ground, best, confidence(best, candidates))
        clock.lap("estimate")
        return estimate

    def look(self, frames: Sequence[Frame]) -> GroundObservation:
        """Features, depth and lifting of the frames, joined with those of the window."""
        is_kept = self._advance(frames)
        frames = self._levelled(frames)
        seen = observe_ground(frames, self.matcher, self.depth, self.device, self.segmenter)
        joined = self.window.join(seen)
        if is_kept:
            self.window.keep(seen)
        return joined

    def follow(self, frames: Sequence[Frame]) -> None:
        """Remember of the frames what `locate` would, without an estimate. Raises InputError as it does."""
        is_kept = self._advance(frames)
        if is_kept or getattr(self.depth, "remembers", False):
            seen = observe_ground(self._levelled(frames), self.matcher, self.depth, self.device, self.segmenter)
            if is_kept:
                self.window.keep(seen)

    def forget(self) -> None:
        """Let nothing of earlier moments count any more."""
        self.window.clear()
        forget_frames(self.depth)

    def _levelled(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        return level_by_road(frames, self.depth) if self.settings.attitude == "estimated" else frames

    def _advance(self, frames: Sequence[Frame]) -> bool:
        self.window.settings = window_settings(self.settings)
        return self.window.advance(frames)

    def score(self, frames: Sequence[Frame], prior: Prior) -> list[Candidate]:
        """The scored lattices and their modes, before gate and covariance: what calibration and pictures need."""
        ground = self.look(frames)
        return self._candidates(frames, ground, prior, _Clock({}))

    def _candidates(
        self, frames: Sequence[Frame], ground: GroundObservation, prior: Prior, clock: _Clock
    ) -> list[Candidate]:
        """The best pose of each patch; one patch unless the heading is quite uncertain or the search wide.

        Raises NoImageryError when no patch has any imagery.
        """
        generator = torch.Generator(self.device).manual_seed(self.settings.seed)
        candidates = []
        sectors = heading_sectors(prior)
        is_disc, nothing_there = len(sectors) > 1, None
        for rotation_rad, yaws, part in (
            (rotation, yaws, part) for rotation, yaws in sectors for part in parts(prior, rotation, is_disc)
        ):
            try:
                aerial = aerial_features(self.aerial, frames, part, rotation_rad, self.window.reach_m)
            except NoImageryError as error:  # beyond the map's edge, where the rest of a wide search need not lie
                nothing_there = error
                continue
            clock.lap("aerial")
            lattice = make_lattice(aerial, part, yaws, ground.log_scale_std, is_disc, prior)
            candidates.append(
                align(ground, aerial, lattice, self.matcher, self.calibration, generator, self.settings.estimator)
            )
            clock.lap("align")
        if nothing_there is not None and not candidates:
            raise nothing_there
        return candidates

    def _estimate(
        self, frames: Sequence[Frame], ground: GroundObservation, best: Candidate, probability: float
    ) -> Estimate:
        """The mode in the map, its covariance with the map's own error, and the gate's word."""
        aerial, mode = best.aerial, best.mode
        sharpness = float(self.matcher.match_sharpness)
        # What is seen now has to agree by itself: the past would speak for a camera that has been covered since.
        matches, inliers = guided_matches(aerial.descriptors, ground.present, mode.pose, sharpness)
        east, north, yaw = best.pose_map()
        rotation = np.eye(3)
        rotation[:2, :2] = aerial.patch_axes()
        covariance = rotation @ best.posterior.covariance.double().numpy() @ rotation.T
        covariance[:2, :2] += np.eye(2) * (self.settings.map_std_m**2 + imagery_variance_m2(aerial.patch))
        covariance[2, 2] += math.radians(self.settings.mount_yaw_std_deg) ** 2
        covariance *= self.settings.covariance_scale
        worst_std_m = math.sqrt(float(np.linalg.eigvalsh(covariance[:2, :2])[-1]))
        reason = self.gate.why_refused(best, probability, worst_std_m, inliers)
        return Estimate(
            stamp_ns=frames[0].stamp_ns,
            east_m=east,
            north_m=north,
            yaw_rad=yaw,
            covariance=covariance,
            scale=math.exp(float(mode.pose[3])),
            scale_std=scale_std(best),
            confidence=probability,
            inlier_ratio=inliers,
            accepted=not reason,
            reason=reason,
            matches=explain(frames, ground, aerial, matches if best.matches is None else best.matches),
        )


class _Clock:
    """Adds up the seconds of each stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()
        seconds.clear()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now


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


def window_settings(settings: LocalizerSettings) -> WindowSettings:
    """The window of the settings; the estimators that align single matches look at the present alone."""
    return WindowSettings(
        settings.window_frames if settings.estimator == "consensus" else 1,
        settings.window_length_m,
        settings.window_spacing_m,
        settings.odometry_drift_share,
        math.radians(settings.odometry_yaw_drift_deg_per_m),
    )


def load_published(settings: LocalizerSettings, device: str) -> Loc2Matcher | None:
    """Imported weights and their backbone, when the settings name some. Raises ModelError."""
    if not settings.loc2_weights:
        return None
    return Loc2Matcher.load(Path(settings.loc2_weights), settings.loc2_backbone or DINOV2_LARGE, device)
