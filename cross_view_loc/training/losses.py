"""What the networks learn from: the camera's pose for the matcher, rendered depth for the depth network."""

from __future__ import annotations

import math

import torch
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
MATCH_CELLS = 64
RADIUS_CELLS = math.ceil(PRIOR_RADIUS_M / CELL_M)


def matcher_losses(
    matcher: Matcher, batch: MatcherBatch, kind: str, generator: torch.Generator, bf16: bool
) -> tuple[Tensor, Tensor]:
    """(cross-entropy of the true pose over shifts × hypotheses, symmetric InfoNCE of single matches).

    The pose loss sees the true heading beside one wrong heading or one wrong scale; both losses need poses only.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        views = batch.views
        descriptors, log_confidence = matcher.ground(views.images, views.elevation, views.flat_inverse_depth)
        aerial = matcher.aerial(batch.patches)
    points, usable = batch.points[kind]
    chosen = (torch.rand(usable.shape, generator=generator) * usable).topk(POSE_CELLS, 1).indices
    kept = torch.gather(usable, 1, chosen).float()
    thinning = usable.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
    descriptors = torch.gather(descriptors, 1, chosen[..., None].expand(-1, -1, descriptors.shape[-1]))
    points = body_to_patch(torch.gather(points, 1, chosen[..., None].expand(-1, -1, 2)))
    confidence = torch.gather(log_confidence[..., DEPTH_KINDS.index(kind)], 1, chosen).exp() * kept
    weight = confidence * thinning / WEIGHT_NORM
    pose = _pose_loss(matcher, batch, aerial, descriptors, weight, points, generator)
    match = _match_loss(matcher, batch, aerial, descriptors, confidence, points)
    return pose, match


def _pose_loss(
    matcher: Matcher,
    batch: MatcherBatch,
    aerial: Tensor,
    descriptors: Tensor,
    weight: Tensor,
    points: Tensor,
    generator: torch.Generator,
) -> Tensor:
    size = fft_size(aerial.shape[-1], RADIUS_CELLS)
    spectrum = aerial_spectrum(aerial, size)
    turn, log_scale = _wrong_hypothesis(len(points), generator)
    volumes = []
    for heading, scale in ((batch.heading, 1.0), (batch.heading + turn, log_scale.exp()[:, None, None])):
        placed = rotate(points * scale, heading) + batch.prior[:, None]
        template = splat(descriptors, weight, placed, aerial.shape[-1], size)
        volumes.append(correlate(template, spectrum, size, RADIUS_CELLS) * matcher.score_sharpness)
    right, up = (batch.shift / CELL_M + RADIUS_CELLS).clamp(0, 2 * RADIUS_CELLS - 1e-3).unbind(-1)
    right0, up0 = right.floor(), up.floor()
    each = torch.arange(len(points))
    log_partition = torch.stack(volumes, 1).flatten(1).logsumexp(1)
    log_likelihood = torch.zeros(len(points))
    for d_up in (0, 1):
        for d_right in (0, 1):
            share = (1 - (right - right0 - d_right).abs()) * (1 - (up - up0 - d_up).abs())
            score = volumes[0][each, (up0 + d_up).long(), (right0 + d_right).long()]
            log_likelihood = log_likelihood + share * (score - log_partition)
    return -log_likelihood.mean()


def _wrong_hypothesis(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Per sample a heading error of 1.5–14° or a scale error of 5–18 %."""
    sign = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    spread = torch.where(torch.rand(batch, generator=generator) < 0.6, 5.0, 14.0)
    turn = torch.deg2rad(1.5 + torch.rand(batch, generator=generator) * (spread - 1.5)) * sign
    log_scale = (0.05 + 0.13 * torch.rand(batch, generator=generator)) * sign
    is_turn = torch.rand(batch, generator=generator) < 0.7
    return torch.where(is_turn, turn, torch.zeros(())), torch.where(is_turn, torch.zeros(()), log_scale)


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
    twins = (positive[:, None] == positive[:, :, None]) & ~torch.eye(count, dtype=torch.bool)
    columns = columns.masked_fill(twins | ~inside[:, :, None], -1e4)
    aerial_to_ground = columns.logsumexp(1) - at_positive
    weight = confidence[:, :count].detach() * inside
    return ((ground_to_aerial + aerial_to_ground) * weight).sum() / weight.sum().clamp(min=1e-3) / 2


def depth_loss(log_depth: Tensor, depth_m: Tensor) -> Tensor:
    """L1 of the log-depth, full weight where the matcher lifts (< 40 m), plus the same on its gradients.

    Sky must only come out farther than anything is used.
    """
    sky = depth_m <= 0
    target = depth_m.clamp(0.5, 200.0).log()
    error = log_depth - target
    weight = torch.where(depth_m < 40.0, 1.0, 0.2) * ~sky
    value = (error.abs() * weight).sum() / weight.sum().clamp(min=1.0)
    slopes = torch.zeros(())
    for dim in (1, 2):
        both = (weight.narrow(dim, 1, weight.shape[dim] - 1) * weight.narrow(dim, 0, weight.shape[dim] - 1)) > 0.9
        slope = error.diff(dim=dim).abs() * both
        slopes = slopes + slope.sum() / both.sum().clamp(min=1)
    beyond = (math.log(85.0) - log_depth).clamp(min=0) * sky
    return value + 0.5 * slopes + 0.2 * beyond.mean()
