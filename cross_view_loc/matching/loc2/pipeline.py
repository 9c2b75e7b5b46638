"""A frame, its depth, the aerial map and a prior → matches of the released network → the published estimate.

image → tokens ┐
               ├ projectors → dual softmax → drawn matches → weighted scale-aware Procrustes (after RANSAC) → pose
tile  → tokens ┘                             ↑ lifted cells
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.aerial.resolution import imagery_variance_m2
from cross_view_loc.depth.source import DepthSource
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.procrustes import Similarity, procrustes, procrustes_covariance, rotate
from cross_view_loc.geometry.robust import RobustSettings, align_robustly
from cross_view_loc.matching.aerial_cache import SNAP_HEADING_RAD, SNAP_M, AerialFeatures, PatchSource
from cross_view_loc.matching.consensus import body_to_patch
from cross_view_loc.matching.loc2.backbone import DINOV2_LARGE, Backbone, load_backbone, to_unit_image
from cross_view_loc.matching.loc2.convert import load_network
from cross_view_loc.matching.loc2.coordinates import Array, aerial_points
from cross_view_loc.matching.loc2.ground_image import LiftedGround, lift_ground
from cross_view_loc.matching.loc2.network import Loc2Network
from cross_view_loc.matching.loc2.specification import Loc2Specification, specification
from cross_view_loc.matching.matches import CellMatches
from cross_view_loc.types import Estimate, Frame, Match, Prior

AGREES_WITHIN_M = 2.5
EXPLAINED = 200


@dataclass(frozen=True)
class Loc2Matches:
    """Drawn matches of one frame in our coordinates, and the patch they lie in."""

    cells: CellMatches
    """Ground points in the level body frame, aerial points in the patch (right, up), weights; best first."""
    ground: LiftedGround
    aerial: AerialFeatures
    """The patch's geometry; its descriptors are the backbone's tokens."""


class Loc2Matcher:
    """The released network with its backbone; keeps the tokens of the last tile."""

    def __init__(self, network: Loc2Network, spec: Loc2Specification, backbone: Backbone, device: str = "cpu") -> None:
        self.network, self.spec, self.backbone, self.device = network.to(device).eval(), spec, backbone, device
        self._aerial_points = aerial_points(spec).to(device)
        self._last: tuple[PatchSource, tuple[float, ...], AerialFeatures] | None = None

    @classmethod
    def load(cls, weights: Path, backbone: str = DINOV2_LARGE, device: str = "cpu", city: str = "") -> Loc2Matcher:
        """Imported weights with DINOv2 by name or folder; `city` sets the tile's size to that VIGOR city's.

        Raises ModelError when either is missing or does not fit, InputError for an unknown city.
        """
        network, spec = load_network(weights, device)
        if city:
            spec = specification(spec.variant, city)
        return cls(network, spec, load_backbone(backbone, device), device)

    def match(
        self,
        frames: Sequence[Frame],
        depth: DepthSource | Array,
        aerial_map: PatchSource,
        prior: Prior,
        generator: torch.Generator,
    ) -> Loc2Matches:
        """Matches between one frame and the tile about the prior.

        `depth` as in `lift_ground`. Deterministic for the generator's seed.

        Raises InputError for several frames or a camera that does not fit the variant, NoImageryError.
        """
        if len(frames) != 1:
            raise InputError(f"the Loc2 matcher takes one camera image, not {len(frames)}; choose one camera")
        ground = lift_ground(frames[0], self.spec, depth)
        aerial = self.aerial_features(aerial_map, prior, camera_azimuth(frames[0]))
        return Loc2Matches(self.draw(self.score(ground, aerial), ground, generator), ground, aerial)

    def aerial_features(self, aerial_map: PatchSource, prior: Prior, camera_azimuth_rad: float) -> AerialFeatures:
        """Tokens of the tile about the prior, turned as the training's tiles were; kept while the vehicle stays near.

        Of an unknown heading the tile is north up.
        """
        rotation = math.pi / 2
        if prior.yaw_range_rad < math.pi:
            rotation = prior.yaw_rad + camera_azimuth_rad - self.spec.heading_in_tile_rad
            rotation = math.remainder(round(rotation / SNAP_HEADING_RAD) * SNAP_HEADING_RAD, 2 * math.pi)
        east, north = round(prior.east_m / SNAP_M) * SNAP_M, round(prior.north_m / SNAP_M) * SNAP_M
        arrived = (float(getattr(aerial_map, name, 0)) for name in ("revision", "changes"))  # another picture by now?
        key = (east, north, round(rotation, 6), *arrived)
        if self._last is None or self._last[0] is not aerial_map or self._last[1] != key:
            patch = aerial_map.patch(east, north, self.spec.aerial_px, self.spec.meters_per_pixel, rotation)
            tokens = self.backbone(to_unit_image(patch.image, self.spec.aerial_px, self.spec.aerial_px))
            self._last = aerial_map, key, AerialFeatures(patch, tokens[0], fine=tokens[0][:0])
        return self._last[2]

    @torch.inference_mode()
    def score(self, ground: LiftedGround, aerial: AerialFeatures) -> Tensor:
        """(aerial cells, ground cells) probability of every match; 0 where there is no depth or no imagery."""
        mask = torch.from_numpy(ground.usable).to(self.device)[None]
        tokens = self.backbone(ground.image).to(self.device)
        score = self.network(tokens, aerial.descriptors[None].to(self.device), mask, self.spec.aerial_cells)[0]
        if not aerial.patch.valid.all():
            cells = self.spec.aerial_cells
            valid = torch.from_numpy(aerial.patch.valid).to(self.device).float()
            covered = F.interpolate(valid[None, None], size=(cells, cells), mode="area").flatten() > 0.99
            score = score * covered[:, None]
        return score

    def draw(self, score: Tensor, ground: LiftedGround, generator: torch.Generator) -> CellMatches:
        """Matches drawn without replacement in proportion to the score (aerial, ground), weighted by it again.

        The keys of an exponential race (Efraimidis and Spirakis 2006): the largest of score / Exp(1) are such a draw,
        in one pass over millions of scores.
        """
        flat = score.flatten()
        race = flat / torch.empty_like(flat).exponential_(generator=generator).clamp(min=1e-30)
        drawn = race.topk(min(self.spec.matches, len(flat))).indices
        drawn = drawn[flat[drawn] > 0]
        ground_index = drawn % score.shape[1]
        points = torch.from_numpy(ground.points_body).to(score)
        aerial_index = torch.div(drawn, score.shape[1], rounding_mode="floor")
        return CellMatches(ground_index, points[ground_index], self._aerial_points[aerial_index], flat[drawn])


@dataclass(frozen=True)
class Loc2Settings:
    """The alignment and its gate."""

    with_scale: bool = True
    scale_range: float = 2.0
    """Of robust hypotheses, either way; a plain Procrustes takes any scale."""
    least_inlier_ratio: float = 0.3
    """The published errors rise steeply below half of the matches in agreement."""
    map_std_m: float = 0.3
    seed: int = 0


def locate_loc2(
    frames: Sequence[Frame],
    prior: Prior,
    aerial_map: PatchSource,
    matcher: Loc2Matcher,
    depth: DepthSource | Array,
    settings: Loc2Settings | None = None,
) -> Estimate:
    """Pose of `base_link` by the released network and the published estimator, gated by the share of agreement.

    The covariance is that of the alignment's residuals: it knows nothing of ambiguity and is not calibrated.
    Raises what `Loc2Matcher.match` raises; matches that agree on nothing are no error but a refusal.
    """
    settings = settings or Loc2Settings()
    generator = torch.Generator(matcher.device).manual_seed(settings.seed)
    found = matcher.match(frames, depth, aerial_map, prior, generator)
    aligned = align(found, prior, matcher.spec, settings, generator)
    if aligned is None:
        spread = np.diag([prior.radius_m**2 / 3, prior.radius_m**2 / 3, min(prior.yaw_range_rad, math.pi) ** 2 / 3])
        reason = "no alignment: the drawn matches agree on no pose within the search"
        return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, spread, reason=reason)
    solution, weight = aligned
    aerial, patch = found.aerial, found.aerial.patch
    at_base = -body_to_patch(_camera(found)[None])[0]
    turned = rotate(at_base[None], solution.yaw_rad)[0]
    axes = aerial.patch_axes()
    position = (solution.translation + turned).double().cpu().numpy()
    east, north = axes @ position + [patch.center_east_m, patch.center_north_m]
    yaw = math.remainder(float(solution.yaw_rad) + patch.rotation_rad, 2 * math.pi)
    rotation = np.eye(3)
    rotation[:2, :2] = axes
    local = procrustes_covariance(_source(found), found.cells.points_patch, weight, solution, at_base)
    covariance = rotation @ local.double().cpu().numpy() @ rotation.T
    covariance[:2, :2] += np.eye(2) * (settings.map_std_m**2 + imagery_variance_m2(patch))
    ratio = _agreement(found, solution)
    reason = _why_refused(prior, float(east), float(north), yaw, ratio, settings.least_inlier_ratio)
    return Estimate(
        stamp_ns=frames[0].stamp_ns,
        east_m=float(east),
        north_m=float(north),
        yaw_rad=yaw,
        covariance=covariance,
        scale=float(solution.scale),
        confidence=ratio,
        inlier_ratio=ratio,
        accepted=not reason,
        reason=reason,
        matches=_explain(frames[0], found, weight),
    )


def align(
    found: Loc2Matches, prior: Prior, spec: Loc2Specification, settings: Loc2Settings, generator: torch.Generator
) -> tuple[Similarity, Tensor] | None:
    """The camera's similarity (its translation is the camera's place in the patch) and each match's final weight."""
    cells = found.cells
    source, target = _source(found), cells.points_patch
    if len(source) < 2 or float(cells.weight.sum()) <= 0:
        return None
    if spec.robust is None:
        return procrustes(source, target, cells.weight, settings.with_scale), cells.weight
    robust = RobustSettings(
        hypotheses=spec.robust.hypotheses,
        points=spec.robust.points,
        inlier_m=spec.robust.inlier_m,
        refinements=spec.robust.refinements,
        scale_range=settings.scale_range if settings.with_scale else 1.0,
    )
    centre = torch.tensor(found.aerial.to_patch(prior.east_m, prior.north_m)).to(source)
    reach_m = prior.radius_m + float(_camera(found).norm())
    heading = prior.yaw_rad - found.aerial.patch.rotation_rad
    limits = (centre, reach_m, heading, prior.yaw_range_rad)
    best = align_robustly(source, target, cells.weight, robust, generator, limits=limits)
    return None if best is None else (best.solution, best.inlier_weight)


def camera_azimuth(frame: Frame) -> float:
    """Of the optical axis in the level body frame, counter-clockwise from forward."""
    axis = frame.R_level_base @ frame.T_base_camera[:3, 2]
    return math.atan2(axis[1], axis[0])


def _camera(found: Loc2Matches) -> Tensor:
    return torch.from_numpy(found.ground.camera_body).to(found.cells.points_body)


def _source(found: Loc2Matches) -> Tensor:
    """Ground points about the camera: a scale error of the depth scales these, not where the camera is mounted."""
    return body_to_patch(found.cells.points_body - _camera(found))


def _agreement(found: Loc2Matches, solution: Similarity) -> float:
    residual = (solution.apply(_source(found)) - found.cells.points_patch).norm(dim=-1)
    weight = found.cells.weight
    return float((weight * (residual < AGREES_WITHIN_M)).sum() / weight.sum())


def _why_refused(prior: Prior, east: float, north: float, yaw: float, ratio: float, least_ratio: float) -> str:
    if math.hypot(east - prior.east_m, north - prior.north_m) > math.sqrt(2) * prior.radius_m or (
        abs(math.remainder(yaw - prior.yaw_rad, 2 * math.pi)) > prior.yaw_range_rad + math.radians(2.0)
    ):
        return "outside the searched area: the best pose left it; widen search_radius_m or heading_range_deg"
    if ratio < least_ratio:
        return f"weak: {ratio:.0%} of the matches agree with the pose, below {least_ratio:.0%}"
    return ""


def _explain(frame: Frame, found: Loc2Matches, weight: Tensor) -> tuple[Match, ...]:
    cells = replace(found.cells, weight=weight)
    kept = cells.weight.argsort(descending=True)[:EXPLAINED]
    kept = kept[cells.weight[kept] > 0]
    patch = found.aerial.patch
    centre = np.array([patch.center_east_m, patch.center_north_m])
    points_map = cells.points_patch[kept].double().cpu().numpy() @ found.aerial.patch_axes().T + centre
    pixels = found.ground.pixels[cells.ground_index[kept].cpu().numpy()]
    body = cells.points_body[kept].double().cpu().numpy()
    probability = cells.weight[kept].cpu().numpy()
    return tuple(
        Match((float(p[0]), float(p[1])), (float(b[0]), float(b[1])), (float(m[0]), float(m[1])), float(w), frame.name)
        for p, b, m, w in zip(pixels, body, points_map, probability, strict=True)
    )
