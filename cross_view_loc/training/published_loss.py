"""The loss the published method was trained with (Loc², arXiv 2509.09792), on this package's matcher.

Virtual points, a 10×10 grid in a 5 m square about the vehicle, are moved by the estimated and by the true pose; the
loss is their mean distance. The estimate is the weighted scale-aware Procrustes alignment of matches sampled from the
score, so gradients reach the descriptors through the matches' weights. Beside it stands an InfoNCE in both directions.

Two things differ because the network does: a learned confidence per ground cell takes the part of the dustbin, and
patches turn with the prior heading, so the pose is found in patch coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, procrustes, rotate
from cross_view_loc.matching.consensus import body_to_patch, grid_position
from cross_view_loc.matching.encoders import CELL_M, DEPTH_KINDS, Matcher
from cross_view_loc.matching.matches import cell_centres
from cross_view_loc.training.batches import MatcherBatch

GROUND_CELLS = 256
"""Of a view, drawn anew each step: the whole score matrix of a batch would not fit a small machine's memory."""
MATCHES = 1024
VIRTUAL_POINTS_A_SIDE = 10
VIRTUAL_SQUARE_M = 5.0
NEGATIVES_BEYOND_M = 1.0
LEAST_LOG_WEIGHT = -30.0


def published_losses(
    matcher: Matcher, batch: MatcherBatch, kind: str, generator: torch.Generator, bf16: bool
) -> dict[str, Tensor]:
    """`pose`: mean distance of virtual points in metres; `match`: two-way InfoNCE. From poses alone, coarse cells."""
    views = batch.views
    with torch.autocast(views.images.device.type, torch.bfloat16, enabled=bf16):
        coarse, _ = matcher.ground(views.images, views.elevation, views.flat_inverse_depth)
        aerial, _ = matcher.aerial(batch.patches)
    with torch.autocast(views.images.device.type, enabled=False):
        log_confidence = coarse.log_confidence.float()
        pose, match = match_losses(
            matcher, batch, kind, coarse.descriptors.float(), log_confidence, aerial.float(), generator
        )
    return {"pose": pose, "match": match}


def match_losses(
    matcher: Matcher,
    batch: MatcherBatch,
    kind: str,
    descriptors: Tensor,
    log_confidence: Tensor,
    aerial: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Both losses of ground descriptors (B, T, D) with log-confidences (B, T, 2) and aerial ones (B, D, N, N)."""
    points, usable = (values[:, : descriptors.shape[1]] for values in batch.points[kind])
    chosen = (torch.rand(usable.shape, generator=generator) * usable).topk(GROUND_CELLS, 1).indices
    usable = torch.gather(usable, 1, chosen)
    points = body_to_patch(torch.gather(points, 1, chosen[..., None].expand(-1, -1, 2)))
    descriptors = torch.gather(descriptors, 1, chosen[..., None].expand(-1, -1, descriptors.shape[-1]))
    log_confidence = torch.gather(log_confidence[..., DEPTH_KINDS.index(kind)], 1, chosen)
    logits = torch.bmm(descriptors, aerial.flatten(2)) * matcher.match_sharpness
    logits = logits.masked_fill(~usable[..., None], -1e4)
    # The product of the softmaxes over both axes, as published; its logarithm does not underflow.
    log_score = logits.log_softmax(2) + logits.log_softmax(1) + log_confidence[..., None]
    log_score = log_score.masked_fill(~usable[..., None], -1e4)
    truth = batch.prior + batch.shift
    solution = _align(log_score, points, aerial.shape[-1], generator)
    distance = virtual_point_distance(solution, batch.heading, truth)
    return distance.mean(), _info_nce(logits, usable, points, batch.heading, truth, aerial.shape[-1])


def virtual_point_distance(solution: Similarity, heading_rad: Tensor, position: Tensor) -> Tensor:
    """(B,) mean distance in metres between virtual points under an estimate and under the truth (B,), (B, 2).

    The estimate moves them as a rigid motion: its scale is that of the depth, not of the vehicle.
    """
    axis = torch.linspace(-0.5, 0.5, VIRTUAL_POINTS_A_SIDE, device=position.device) * VIRTUAL_SQUARE_M
    grid = torch.cartesian_prod(axis, axis).expand(len(position), -1, -1)
    true = rotate(grid, heading_rad) + position[:, None]
    found = rotate(grid, solution.yaw_rad) + solution.translation[:, None]
    return ((found - true).square().sum(-1) + 1e-9).sqrt().mean(1)


def _align(log_score: Tensor, points: Tensor, cells: int, generator: torch.Generator) -> Similarity:
    """Matches drawn without replacement in proportion to the score, weighted by it again, then Procrustes."""
    targets = log_score.shape[2]
    flat = log_score.flatten(1)
    # The largest of log-weight + Gumbel noise are a draw without replacement (Kool et al., 2019).
    uniform = torch.rand(flat.shape, generator=generator, device=flat.device).clamp(1e-10, 1 - 1e-7)
    drawn = (flat.detach() - (-uniform.log()).log()).topk(MATCHES, 1).indices
    log_weight = torch.gather(flat, 1, drawn)
    weight = (log_weight - log_weight.amax(1, keepdim=True).detach()).clamp(min=LEAST_LOG_WEIGHT).exp()
    weight = weight * (log_weight > -1e3)
    source = torch.gather(points, 1, (drawn // targets)[..., None].expand(-1, -1, 2))
    centres = cell_centres(cells, points.device)
    return procrustes(source, centres[drawn % targets], weight)


def _info_nce(
    logits: Tensor, usable: Tensor, points: Tensor, heading_rad: Tensor, position: Tensor, cells: int
) -> Tensor:
    """Mean of both directions; the positive is the nearest aerial cell, if the true point lies within one cell of it.

    From the aerial side, other ground points within a metre of the positive are no negatives.
    """
    true = rotate(points, heading_rad) + position[:, None]
    row, column = (place.round().long() for place in grid_position(true, cells))
    inside = (row >= 0) & (row < cells) & (column >= 0) & (column < cells) & usable
    positive = row.clamp(0, cells - 1) * cells + column.clamp(0, cells - 1)
    centre = cell_centres(cells, points.device)[positive]
    inside &= (true - centre).norm(dim=-1) <= CELL_M
    at_positive = torch.gather(logits, 2, positive[..., None])[..., 0]
    ground_to_aerial = logits.logsumexp(2) - at_positive
    # [b, i, j]: ground point i against the aerial cell that is j's positive
    columns = torch.gather(logits, 2, positive[:, None].expand(-1, positive.shape[1], -1))
    near = torch.cdist(true, centre) < NEGATIVES_BEYOND_M
    itself = torch.eye(positive.shape[1], dtype=torch.bool, device=points.device)
    columns = columns.masked_fill((near & ~itself) | ~usable[..., None], -1e4)
    aerial_to_ground = columns.logsumexp(1) - at_positive
    counted = inside.float()
    return ((ground_to_aerial + aerial_to_ground) * counted).sum() / counted.sum().clamp(min=1.0) / 2
