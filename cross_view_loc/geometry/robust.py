"""Robust alignment of weighted matches: every hypothesis is solved in closed form and scored in one batch.

Hypotheses come from minimal sets drawn by weight, of which only those that keep the prior's limits are scored, and from
single matches voting for a pose (geometry.voting). The soft inlier score of all hypotheses is one matrix product; the
best few are refined by iteratively reweighted Procrustes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, procrustes
from cross_view_loc.geometry.voting import vote

VOTING_STEP_RAD = math.radians(2.0)
VOTING_LOG_SCALE_STEP = 0.08
SCORED_AT_ONCE = 512
"""Hypotheses of one matrix product: its result then stays in the processor's cache."""


class PoseLimits(NamedTuple):
    """What the prior allows: the image of the source origin lies in a square, the yaw in a range."""

    centre: Tensor
    """(2,)"""
    radius_m: float
    yaw_rad: float
    yaw_range_rad: float


@dataclass(frozen=True)
class RobustSettings:
    """How hypotheses are drawn and judged."""

    hypotheses: int = 2000
    """Minimal sets that are scored."""
    tries: int = 8
    """Minimal sets drawn for each that is scored: most of them break the prior's limits, which costs little to see."""
    points: int = 2
    """Matches per hypothesis: two fix a similarity."""
    inlier_m: float = 1.6
    shortest_base_m: float = 4.0
    """Points of a hypothesis closer than this say too little about the heading."""
    scale_range: float = 1.25
    """A hypothesis may scale by at most this factor either way; 1 fixes the scale."""
    log_scale_std: float = math.inf
    """Gaussian prior on the log of the scale; 0 fixes the scale."""
    refinements: int = 4
    kept: int = 16
    """Minimal sets that are refined."""
    voted: int = 16
    """Further refined hypotheses, which single matches vote for; needs limits. 0 for minimal sets alone."""

    @property
    def fixes_scale(self) -> bool:
        """Whether every alignment keeps metres as they are."""
        return self.scale_range <= 1.0 or self.log_scale_std <= 0.0


@dataclass(frozen=True)
class RobustAlignment:
    """The best alignment and the matches that agree with it."""

    solution: Similarity
    inlier_weight: Tensor
    """(N,) each match's weight, faded to 0 at the inlier radius."""
    score: float
    """Inlier weight as a share of all weight."""


def align_robustly(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    settings: RobustSettings,
    generator: torch.Generator,
    limits: PoseLimits | tuple[Tensor, float, float, float] | None = None,
    judge: Callable[[Similarity], Tensor] | None = None,
) -> RobustAlignment | None:
    """Align source (N, 2) to target (N, 2) under weights (N,) with outliers; None when no hypothesis is admissible.

    `judge` scores the refined candidates (a batch → (B,)) in place of their inlier weight, where something better than
    the matches is at hand. Deterministic for a generator's seed.
    """
    usable = torch.isfinite(source).all(-1) & torch.isfinite(target).all(-1) & torch.isfinite(weight) & (weight > 0)
    if int(usable.sum()) < settings.points:
        return None
    bounds = None if limits is None else PoseLimits(*limits)
    source = torch.where(usable[:, None], source, 0.0)
    target = torch.where(usable[:, None], target, 0.0)
    weight = torch.where(usable, weight, 0.0)
    candidates = minimal_sets(source, target, weight, settings, generator, bounds)
    scores = soft_inliers(candidates, source, target, weight, settings.inlier_m)
    candidates = _select(candidates, scores.topk(min(settings.kept, len(scores))).indices)
    if bounds is not None and settings.voted:
        # Local maxima of the votes lie apart, where the best minimal sets may all be one pose: each has its chance.
        candidates = _join([candidates, _voted(source, target, weight, settings, bounds)])
    if len(candidates.scale) == 0:
        return None
    candidates = _refine(candidates, source, target, weight, settings)
    agreement = _agreement(candidates, source, target, weight, settings.inlier_m)
    inlying = agreement.sum(-1)
    admissible = _within(candidates, bounds) & _scale_allowed(candidates, settings) & (inlying > 0)
    if not bool(admissible.any()):
        return None
    scores = inlying if judge is None else judge(candidates)
    best = int(scores.masked_fill(~admissible, -math.inf).argmax())
    solution = Similarity(candidates.yaw_rad[best], candidates.scale[best], candidates.translation[best])
    return RobustAlignment(solution, agreement[best], float(inlying[best] / weight.sum()))


def minimal_sets(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    settings: RobustSettings,
    generator: torch.Generator,
    limits: PoseLimits | None = None,
) -> Similarity:
    """At most `hypotheses` admissible alignments of `points` matches each, drawn in proportion to the weight."""
    total = settings.hypotheses * settings.tries
    cumulative = weight.double().cumsum(0)
    at = torch.rand(total, settings.points, generator=generator, device=source.device, dtype=torch.float64)
    drawn = torch.searchsorted(cumulative, at * cumulative[-1]).clamp(max=len(weight) - 1)
    base = source[drawn[:, 1]] - source[drawn[:, 0]]
    far = base.square().sum(-1) > settings.shortest_base_m**2
    if not settings.fixes_scale:  # the scale is known before the solution: most wrong sets end here
        ratio = (target[drawn[:, 1]] - target[drawn[:, 0]]).norm(dim=-1) / base.norm(dim=-1).clamp(min=1e-6)
        if settings.points == 2:
            far &= ratio.clamp(min=1e-9).log().abs() <= math.log(settings.scale_range)
    drawn = drawn[far]
    solved = procrustes(source[drawn], target[drawn], weight.new_ones(drawn.shape), not settings.fixes_scale)
    admissible = (_within(solved, limits) & _scale_allowed(solved, settings)).nonzero()[:, 0]
    return _select(solved, admissible[: settings.hypotheses])


def soft_inliers(batch: Similarity, source: Tensor, target: Tensor, weight: Tensor, inlier_m: float) -> Tensor:
    """(B,) sum of weights, each faded by 1 − (residual / inlier_m)², of B alignments over N matches.

    The squared residual is a product of nine numbers of the alignment with nine of the match, so that all of them
    are one matrix product: s²|p|² + |t|² + |q|² + 2 t·sRp − 2 q·sRp − 2 t·q.
    """
    middle = target.mean(0)  # near the origin, squares keep their digits
    target, translation = target - middle, batch.translation - middle
    a, b = batch.scale * torch.cos(batch.yaw_rad), batch.scale * torch.sin(batch.yaw_rad)
    tx, ty = translation.unbind(-1)
    one = torch.ones_like(a)
    of_pose = torch.stack([a * a + b * b, tx * tx + ty * ty, one, a * tx + b * ty, a * ty - b * tx, a, b, tx, ty], 1)
    (px, py), (qx, qy) = source.unbind(-1), target.unbind(-1)
    of_match = torch.stack(
        [
            px * px + py * py,
            torch.ones_like(px),
            qx * qx + qy * qy,
            2 * px,
            2 * py,
            -2 * (px * qx + py * qy),
            -2 * (px * qy - py * qx),
            -2 * qx,
            -2 * qy,
        ]
    )
    of_match = of_match * (-1 / inlier_m**2)
    of_match[2] += 1.0
    return torch.cat([(chunk @ of_match).clamp_(min=0) @ weight for chunk in of_pose.split(SCORED_AT_ONCE)])


def _voted(source: Tensor, target: Tensor, weight: Tensor, settings: RobustSettings, limits: PoseLimits) -> Similarity:
    steps = 2 * max(1, math.ceil(min(limits.yaw_range_rad, math.pi) / VOTING_STEP_RAD)) + 1
    reach = min(limits.yaw_range_rad, math.pi)
    headings = limits.yaw_rad + torch.linspace(-reach, reach, steps, device=source.device, dtype=source.dtype)
    log_reach = 0.0 if settings.fixes_scale else min(math.log(settings.scale_range), 2 * settings.log_scale_std)
    scales = 2 * round(log_reach / VOTING_LOG_SCALE_STEP) + 1 if log_reach > VOTING_LOG_SCALE_STEP else 1
    log_scales = torch.linspace(-log_reach, log_reach, scales, device=source.device, dtype=source.dtype)
    if scales == 1:
        log_scales = torch.zeros_like(log_scales)
    centre = limits.centre.to(source)
    return vote(source, target, weight, centre, limits.radius_m, headings, log_scales, settings.voted)


def _refine(
    candidates: Similarity, source: Tensor, target: Tensor, weight: Tensor, settings: RobustSettings
) -> Similarity:
    for _ in range(settings.refinements):
        agreement = _agreement(candidates, source, target, weight, settings.inlier_m)
        solved = procrustes(
            source.expand(len(agreement), -1, -1),
            target,
            agreement,
            not settings.fixes_scale,
            settings.log_scale_std,
            settings.inlier_m / 2,
        )
        kept = agreement.sum(-1) > 0
        candidates = Similarity(
            torch.where(kept, solved.yaw_rad, candidates.yaw_rad),
            torch.where(kept, solved.scale, candidates.scale),
            torch.where(kept[:, None], solved.translation, candidates.translation),
        )
    return candidates


def _select(batch: Similarity, index: Tensor) -> Similarity:
    return Similarity(batch.yaw_rad[index], batch.scale[index], batch.translation[index])


def _join(batches: list[Similarity]) -> Similarity:
    return Similarity(
        torch.cat([batch.yaw_rad for batch in batches]),
        torch.cat([batch.scale for batch in batches]),
        torch.cat([batch.translation for batch in batches]),
    )


def _agreement(batch: Similarity, source: Tensor, target: Tensor, weight: Tensor, inlier_m: float) -> Tensor:
    """(hypotheses, matches) weight that fades quadratically to 0 at the inlier radius."""
    residual = (batch.apply(source.expand(len(batch.scale), -1, -1)) - target).square().sum(-1)
    return (1 - residual / inlier_m**2).clamp(min=0) * weight


def _scale_allowed(batch: Similarity, settings: RobustSettings) -> Tensor:
    return batch.scale.log().abs() <= math.log(max(settings.scale_range, 1.0)) + 1e-6


def _within(batch: Similarity, limits: PoseLimits | None) -> Tensor:
    if limits is None:
        return torch.ones_like(batch.scale, dtype=torch.bool)
    turn = torch.remainder(batch.yaw_rad - limits.yaw_rad + math.pi, 2 * math.pi) - math.pi
    near = (batch.translation - limits.centre).abs().amax(-1) <= limits.radius_m
    return near & (turn.abs() <= limits.yaw_range_rad)
