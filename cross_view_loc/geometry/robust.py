"""Robust alignment of weighted matches: every hypothesis is solved in closed form and scored in one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, procrustes


@dataclass(frozen=True)
class RobustSettings:
    """How hypotheses are drawn and judged."""

    hypotheses: int = 2000
    points: int = 2
    """Matches per hypothesis: two fix a similarity."""
    inlier_m: float = 1.6
    shortest_base_m: float = 4.0
    """Points of a hypothesis closer than this say too little about the heading."""
    scale_range: float = 1.25
    """A hypothesis may scale by at most this factor either way; 1 fixes the scale."""
    refinements: int = 4
    kept: int = 16


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
    limits: tuple[Tensor, float, float, float] | None = None,
) -> RobustAlignment | None:
    """Align source (N, 2) to target (N, 2) under weights (N,) with outliers; None when no hypothesis is admissible.

    `limits` = (centre (2,), radius_m, yaw_rad, yaw_range_rad): the image of the source origin must lie in that square,
    and the yaw in that range. Deterministic for a generator's seed.
    """
    if len(source) < settings.points or float(weight.sum()) <= 0:
        return None
    drawn = torch.multinomial(
        weight.expand(settings.points, -1), settings.hypotheses, replacement=True, generator=generator
    ).T
    hypotheses = procrustes(source[drawn], target[drawn], torch.ones_like(weight[drawn]))
    base = (source[drawn[:, 0]] - source[drawn[:, 1]]).norm(dim=-1)
    admissible = (base > settings.shortest_base_m) & _within(hypotheses, limits)
    admissible &= hypotheses.scale.log().abs() <= math.log(max(settings.scale_range, 1.1))
    if not bool(admissible.any()):
        return None
    with_scale = settings.scale_range > 1.0
    candidates = _select(hypotheses, admissible.nonzero()[:, 0])
    scores = _agreement(candidates, source, target, weight, settings.inlier_m).sum(-1)
    candidates = _select(candidates, scores.topk(min(settings.kept, len(scores))).indices)
    for _ in range(settings.refinements):
        agreement = _agreement(candidates, source, target, weight, settings.inlier_m)
        candidates = procrustes(source.expand(len(agreement), -1, -1), target, agreement, with_scale)
    agreement = _agreement(candidates, source, target, weight, settings.inlier_m)
    scores = agreement.sum(-1).masked_fill(~_within(candidates, limits), -1.0)
    best = int(scores.argmax())
    if float(scores[best]) <= 0:
        return None
    only = torch.tensor([best], device=source.device)
    solution = _select(candidates, only)
    return RobustAlignment(
        Similarity(solution.yaw_rad[0], solution.scale[0], solution.translation[0]),
        agreement[best],
        float(scores[best] / weight.sum()),
    )


def _select(batch: Similarity, index: Tensor) -> Similarity:
    return Similarity(batch.yaw_rad[index], batch.scale[index], batch.translation[index])


def _agreement(batch: Similarity, source: Tensor, target: Tensor, weight: Tensor, inlier_m: float) -> Tensor:
    """(hypotheses, matches) weight that fades quadratically to 0 at the inlier radius."""
    residual = (batch.apply(source.expand(len(batch.scale), -1, -1)) - target).norm(dim=-1)
    return (1 - (residual / inlier_m) ** 2).clamp(min=0) * weight


def _within(batch: Similarity, limits: tuple[Tensor, float, float, float] | None) -> Tensor:
    if limits is None:
        return torch.ones_like(batch.scale, dtype=torch.bool)
    centre, radius_m, yaw_rad, yaw_range_rad = limits
    turn = torch.remainder(batch.yaw_rad - yaw_rad + math.pi, 2 * math.pi) - math.pi
    return ((batch.translation - centre).abs().amax(-1) <= radius_m) & (turn.abs() <= yaw_range_rad)
