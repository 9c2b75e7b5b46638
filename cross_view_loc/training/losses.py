"""What the networks learn from: the camera's pose for the matcher, rendered depth for the depth network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.geometry.procrustes import rotate
from cross_view_loc.matching.consensus import (
    aerial_spectrum,
    body_to_patch,
    correlate,
    fft_size,
    grid_position,
    splat,
)
from cross_view_loc.matching.encoders import CELL_M, DEPTH_KINDS, Matcher
from cross_view_loc.matching.ground import WEIGHT_NORM
from cross_view_loc.training.batches import PRIOR_RADIUS_M, MatcherBatch

POSE_CELLS = 640
FINE_CELLS = 640
MATCH_CELLS = 64
RADIUS_CELLS = math.ceil(PRIOR_RADIUS_M / CELL_M)
NEAR_POSES, FAR_POSES = 28, 12
TRUE_LOG_SCALES = (-0.04, -0.02, 0.0, 0.02, 0.04)
"""The true pose counts at any of these scales: learned depth has a scale error of its own."""


@dataclass(frozen=True)
class PlacedCells:
    """Some of a batch's ground cells, weighted; points are (right, up) for a vehicle that faces patch-up."""

    descriptors: Tensor
    """(B, T, D)"""
    weight: Tensor
    points: Tensor


def matcher_losses(
    matcher: Matcher, batch: MatcherBatch, kind: str, generator: torch.Generator, bf16: bool
) -> dict[str, Tensor]:
    """The terms of the objective; all need poses only.

    `pose`: cross-entropy of the true pose over shifts × {true, wrong heading or scale} of the coarse consensus.
    `fine`: cross-entropy of the true pose among continuous poses near it and at the coarse consensus's own mistakes,
    scored on both layers. `match`: symmetric InfoNCE of single matches.
    """
    views = batch.views
    with torch.autocast(views.images.device.type, torch.bfloat16, enabled=bf16):
        layers = matcher.ground(views.images, views.elevation, views.flat_inverse_depth)
        aerial = matcher.aerial(batch.patches)
    trust = matcher.trust_in_depth(batch.depth_m, batch.log_spread)
    count = layers[0].descriptors.shape[1]
    chosen = []
    for index, (layer, part, cells) in enumerate(
        zip(layers, (slice(0, count), slice(count, None)), (POSE_CELLS, FINE_CELLS), strict=True)
    ):
        points, usable = (values[:, part] for values in batch.points[kind])
        log_confidence = layer.log_confidence[..., DEPTH_KINDS.index(kind)]
        if kind == "metric":
            log_confidence = log_confidence + trust[:, part, index]
        chosen.append(_some_cells(layer.descriptors, log_confidence, points, usable, cells, generator))
    coarse = chosen[0]
    pose, volume = _pose_loss(matcher, batch, aerial[0], coarse, generator)
    fine = _fine_loss(matcher, batch, aerial, chosen, volume, kind, generator)
    match = _match_loss(matcher, batch, aerial[0], coarse.descriptors, coarse.weight, coarse.points)
    return {"pose": pose, "fine": fine, "match": match}


def _some_cells(
    descriptors: Tensor, log_confidence: Tensor, points: Tensor, usable: Tensor, count: int, generator: torch.Generator
) -> PlacedCells:
    """A random `count` of the usable cells, weighted so that they stand for all."""
    index = (torch.rand(usable.shape, generator=generator, device=usable.device) * usable).topk(count, 1).indices
    kept = torch.gather(usable, 1, index).float()
    thinning = usable.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
    picked = torch.gather(descriptors, 1, index[..., None].expand(-1, -1, descriptors.shape[-1]))
    placed = body_to_patch(torch.gather(points, 1, index[..., None].expand(-1, -1, 2)))
    weight = torch.gather(log_confidence, 1, index).exp() * kept * thinning / WEIGHT_NORM
    return PlacedCells(picked, weight, placed)


def _pose_loss(
    matcher: Matcher, batch: MatcherBatch, aerial: Tensor, cells: PlacedCells, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The loss, and the scores at the true heading (B, 2R+1 up, 2R+1 right)."""
    size = fft_size(aerial.shape[-1], RADIUS_CELLS)
    spectrum = aerial_spectrum(aerial, size)
    turn, log_scale = _wrong_hypothesis(len(cells.points), generator)
    volumes = []
    for heading, scale in ((batch.heading, 1.0), (batch.heading + turn, log_scale.exp()[:, None, None])):
        placed = rotate(cells.points * scale, heading) + batch.prior[:, None]
        template = splat(cells.descriptors, cells.weight, placed, aerial.shape[-1], size)
        volumes.append(correlate(template, spectrum, size, RADIUS_CELLS) * matcher.score_sharpness)
    right, up = (batch.shift / CELL_M + RADIUS_CELLS).clamp(0, 2 * RADIUS_CELLS - 1e-3).unbind(-1)
    right0, up0 = right.floor(), up.floor()
    each = torch.arange(len(cells.points), device=aerial.device)
    log_partition = torch.stack(volumes, 1).flatten(1).logsumexp(1)
    log_likelihood = torch.zeros_like(log_partition)
    for d_up in (0, 1):
        for d_right in (0, 1):
            share = (1 - (right - right0 - d_right).abs()) * (1 - (up - up0 - d_up).abs())
            score = volumes[0][each, (up0 + d_up).long(), (right0 + d_right).long()]
            log_likelihood = log_likelihood + share * (score - log_partition)
    return -log_likelihood.mean(), volumes[0].detach()


def _fine_loss(
    matcher: Matcher,
    batch: MatcherBatch,
    aerial: tuple[Tensor, Tensor],
    layers: list[PlacedCells],
    volume: Tensor,
    kind: str,
    generator: torch.Generator,
) -> Tensor:
    shift, turn, log_scale, truths = _candidate_poses(batch, volume, kind, generator)
    patch_m = aerial[0].shape[-1] * CELL_M
    scores = torch.zeros_like(turn)
    for features, cells, sharpness in zip(
        aerial, layers, (matcher.score_sharpness, matcher.fine_sharpness), strict=True
    ):
        scaled = cells.points[:, None] * log_scale.exp()[..., None, None]
        placed = rotate(scaled, batch.heading[:, None] + turn) + (batch.prior[:, None] + shift)[:, :, None]
        grid = placed * placed.new_tensor([2 / patch_m, -2 / patch_m])
        under = F.grid_sample(features, grid, align_corners=False, padding_mode="zeros")
        weighted = (cells.descriptors * cells.weight[..., None]).transpose(1, 2)
        scores = scores + (under * weighted[:, :, None]).sum((1, 3)) * sharpness
    return (scores.logsumexp(1) - scores[:, :truths].logsumexp(1)).mean()


def _candidate_poses(
    batch: MatcherBatch, volume: Tensor, kind: str, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Shifts from the prior (B, P, 2), turns and log-scales (B, P); the first few are the truth."""
    count, device = len(batch.shift), batch.shift.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, device=device)

    true_scales = torch.tensor(TRUE_LOG_SCALES if kind == "metric" else (-0.015, 0.0, 0.015), device=device)
    truths = len(true_scales)
    wide = torch.where(torch.rand(count, NEAR_POSES, generator=generator, device=device) < 0.5, 1.0, 0.3)
    near_shift = batch.shift[:, None] + normal(NEAR_POSES, 2) * wide[..., None]
    near_turn = torch.deg2rad(normal(NEAR_POSES) * wide * 2.0)
    # Hard negatives: what the coarse consensus itself takes for likely, away from the truth.
    side = (torch.arange(2 * RADIUS_CELLS + 1, device=device) - RADIUS_CELLS) * CELL_M
    away = torch.hypot(side - batch.shift[:, None, None, 0], side[:, None] - batch.shift[:, None, None, 1]) > 1.5
    chance = (volume / 2).masked_fill(~away, -math.inf).flatten(1).softmax(1)
    drawn = torch.multinomial(chance, FAR_POSES, replacement=True, generator=generator)
    far = torch.stack([side[drawn % len(side)], side[drawn // len(side)]], -1)
    far_shift = far + normal(FAR_POSES, 2) * 0.25
    far_turn = torch.deg2rad(normal(FAR_POSES) * 1.0)
    wrong_scales = normal(NEAR_POSES + FAR_POSES) * (0.03 if kind == "metric" else 0.015)
    return (
        torch.cat([batch.shift[:, None].expand(-1, truths, -1), near_shift, far_shift], 1),
        torch.cat([near_turn.new_zeros(count, truths), near_turn, far_turn], 1),
        torch.cat([true_scales.expand(count, -1), wrong_scales], 1),
        truths,
    )


def _wrong_hypothesis(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Per sample a heading error of 1.5–14° or a scale error of 5–18 %."""
    device = generator.device

    def uniform() -> Tensor:
        return torch.rand(batch, generator=generator, device=device)

    sign = torch.where(uniform() < 0.5, -1.0, 1.0)
    spread = torch.where(uniform() < 0.6, 5.0, 14.0)
    turn = torch.deg2rad(1.5 + uniform() * (spread - 1.5)) * sign
    log_scale = (0.05 + 0.13 * uniform()) * sign
    is_turn = uniform() < 0.7
    return torch.where(is_turn, turn, turn.new_zeros(())), torch.where(is_turn, turn.new_zeros(()), log_scale)


def _match_loss(
    matcher: Matcher, batch: MatcherBatch, aerial: Tensor, descriptors: Tensor, confidence: Tensor, points: Tensor
) -> Tensor:
    """InfoNCE in both directions; the positive is the aerial cell nearest to the truly placed ground cell."""
    cells, count = aerial.shape[-1], MATCH_CELLS
    truth = rotate(points[:, :count], batch.heading) + (batch.prior + batch.shift)[:, None]
    row, column = (position.round().long() for position in grid_position(truth, cells))
    inside = (row >= 0) & (row < cells) & (column >= 0) & (column < cells) & (confidence[:, :count] > 0)
    positive = row.clamp(0, cells - 1) * cells + column.clamp(0, cells - 1)
    logits = torch.bmm(descriptors[:, :count], aerial.flatten(2)) * matcher.match_sharpness
    at_positive = torch.gather(logits, 2, positive[..., None])[..., 0]
    ground_to_aerial = logits.logsumexp(2) - at_positive
    columns = torch.gather(logits, 2, positive[:, None].expand(-1, count, -1))
    twins = (positive[:, None] == positive[:, :, None]) & ~torch.eye(count, dtype=torch.bool, device=points.device)
    columns = columns.masked_fill(twins | ~inside[:, :, None], -1e4)
    aerial_to_ground = columns.logsumexp(1) - at_positive
    weight = confidence[:, :count].detach() * inside
    return ((ground_to_aerial + aerial_to_ground) * weight).sum() / weight.sum().clamp(min=1e-3) / 2


def depth_loss(log_depth: Tensor, log_spread: Tensor, depth_m: Tensor) -> tuple[Tensor, Tensor]:
    """(objective, negative log-likelihood of the depth's own spread).

    L1 of the log-depth, full weight where the matcher lifts (< 40 m), plus the same on its gradients; sky must only
    come out farther than anything is used. The spread is that of a Laplace distribution about a depth it cannot move.
    """
    sky = depth_m <= 0
    target = depth_m.clamp(0.5, 200.0).log()
    error = log_depth - target
    weight = torch.where(depth_m < 40.0, 1.0, 0.2) * ~sky
    value = (error.abs() * weight).sum() / weight.sum().clamp(min=1.0)
    likelihood = (error.abs().clamp(max=2.0).detach() * (-log_spread).exp() + log_spread) * weight
    likelihood = likelihood.sum() / weight.sum().clamp(min=1.0)
    slopes = value.new_zeros(())
    for dim in (1, 2):
        both = (weight.narrow(dim, 1, weight.shape[dim] - 1) * weight.narrow(dim, 0, weight.shape[dim] - 1)) > 0.9
        slope = error.diff(dim=dim).abs() * both
        slopes = slopes + slope.sum() / both.sum().clamp(min=1)
    beyond = (math.log(85.0) - log_depth).clamp(min=0) * sky
    return value + 0.5 * slopes + 0.2 * beyond.mean() + 0.03 * likelihood, likelihood
