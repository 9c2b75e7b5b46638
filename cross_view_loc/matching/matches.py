"""Single matches between ground and aerial cells: drawn from the score as published, or guided by a pose.

Drawn matches feed the weighted scale-aware Procrustes alignment (with robust hypotheses); guided matches explain a pose
that the consensus found, and say how many of the cells agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, rotate
from cross_view_loc.geometry.robust import PoseLimits
from cross_view_loc.matching.consensus import GroundCells, Layer, body_to_patch, grid_position, score_poses
from cross_view_loc.matching.encoders import CELL_M

AGREES_WITHIN_M = 2.0
DRAWN = 8192
"""Single matches of one town frame are right one time in twenty: many have to vote."""
REPEATED = 3
"""Draws with replacement for each distinct pair that is wanted."""
DRAWN_SHARPNESS = 2.0
"""Drawn matches sharpen the similarity by this factor over what the encoders were trained with."""


@dataclass(frozen=True)
class CellMatches:
    """Pairs of a ground cell and an aerial point with their weights."""

    ground_index: Tensor
    """(M,) into the ground cells."""
    points_body: Tensor
    """(M, 2)"""
    points_patch: Tensor
    """(M, 2) right, up."""
    weight: Tensor
    """(M,) how much the match counts; for weighted draws its probability times the confidence of its ground cell."""


def cell_centres(cells: int, device: torch.device | str = "cpu") -> Tensor:
    """(cells², 2) patch coordinates (right, up) of the aerial cells, row by row from the top."""
    axis = (torch.arange(cells, device=device) - (cells - 1) / 2) * CELL_M
    up, right = torch.meshgrid(-axis, axis, indexing="ij")
    return torch.stack([right, up], -1).reshape(-1, 2)


def covered(aerial: Tensor) -> Tensor:
    """(N, N) which cells of descriptors (D, N, N) have imagery; the others are zero."""
    return (aerial != 0).any(0)


@torch.no_grad()
def match_scores(
    aerial: Tensor, ground: GroundCells, sharpness: float, limits: PoseLimits | None = None, both_ways: bool = False
) -> Tensor:
    """(T, N²) score of every pair: softmax over aerial cells (and over ground cells too, `both_ways`) × confidence.

    With `limits` (patch coordinates), aerial cells that no pose within the prior brings a ground cell to score 0: a
    quarter of a patch remains, and so does a quarter of the wrong matches.
    """
    cells, count = aerial.shape[-1], len(ground.weight)
    logits = ground.descriptors @ aerial.flatten(1) * sharpness
    allowed = covered(aerial)[None]
    if limits is not None:
        points = body_to_patch(ground.points_body)
        heading = torch.tensor(limits.yaw_rad, device=aerial.device)
        placed = rotate(points, heading) + limits.centre.to(aerial)
        turn = 2 * math.sin(min(limits.yaw_range_rad, math.pi) / 2)
        reach = limits.radius_m + CELL_M / 2 + turn * points.norm(dim=1, keepdim=True)
        axis = (torch.arange(cells, device=aerial.device) - (cells - 1) / 2) * CELL_M
        right = (axis - placed[:, :1]).abs() <= reach
        up = (-axis - placed[:, 1:]).abs() <= reach
        allowed = allowed & up[:, :, None] & right[:, None]
    allowed = allowed.expand(count, -1, -1).reshape(count, -1)
    # A similarity is at most 1, so that no exponential overflows and the row's maximum need not be sought.
    odds = (logits - sharpness).exp_() * allowed
    score = odds * (ground.weight / odds.sum(1).clamp(min=1e-30))[:, None]
    return score * (odds / odds.sum(0).clamp(min=1e-30)) if both_ways else score


@torch.no_grad()
def draw_matches(
    aerial: Tensor,
    ground: GroundCells,
    sharpness: float,
    generator: torch.Generator,
    count: int = DRAWN,
    limits: PoseLimits | None = None,
    both_ways: bool = False,
    weigh_again: bool = False,
) -> CellMatches:
    """Draw `count` pairs without replacement in proportion to their score.

    As published: `count=1024, both_ways=True, weigh_again=True`. Drawn in proportion to the score, a pair has had its
    due: weighing it by the score again leaves a few pairs to decide, so by default all drawn pairs count the same.
    """
    score = match_scores(aerial, ground, sharpness, limits, both_ways).flatten()
    won = draw_distinct(score, count, generator)
    cells = aerial.shape[-1]
    index, target = won // cells**2, won % cells**2
    weight = score[won] if weigh_again else torch.ones_like(score[won])
    return CellMatches(index, ground.points_body[index], cell_centres(cells, aerial.device)[target], weight)


def draw_distinct(score: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most `count` distinct indices into score (N,) ≥ 0, each next one drawn in proportion to what is left.

    Drawing with replacement and passing over repetitions is such a draw, and needs one cumulative sum, where a race of
    all N entries needs N random numbers. Fewer come back when so few carry nearly all of the score.
    """
    cumulative = score.cumsum(0, dtype=torch.float64)
    total = cumulative[-1]
    if float(total) <= 0.0:
        return score.new_zeros(0, dtype=torch.long)
    at = torch.rand(REPEATED * count, generator=generator, device=score.device, dtype=torch.float64) * total
    drawn = torch.searchsorted(cumulative, at, right=True).clamp(max=len(score) - 1)
    distinct, which = drawn.unique(return_inverse=True)
    first = torch.full_like(distinct, len(drawn))
    first.scatter_reduce_(0, which, torch.arange(len(drawn), device=score.device), "amin")
    won = drawn[first.sort().values[:count]]
    return won[score[won] > 0]


def consensus_judge(layers: Sequence[Layer], patch_m: float, log_scale_std: float) -> Callable[[Similarity], Tensor]:
    """Score alignments of patch-frame matches by the consensus: all cells have a say, not just the drawn ones."""

    def judge(batch: Similarity) -> Tensor:
        poses = torch.cat([batch.translation, batch.yaw_rad[:, None], batch.scale.log()[:, None]], 1)
        return score_poses(layers, poses, patch_m, log_scale_std)

    return judge


@torch.no_grad()
def guided_matches(
    aerial: Tensor, ground: GroundCells, pose: Tensor, sharpness: float, count: int = 150, reach_cells: int = 3
) -> tuple[CellMatches, float]:
    """Matches of the most confident ground cells within a few cells of where a pose (4,) puts them; the inlier ratio.

    The inlier ratio is the weighted share of cells whose best aerial cell in this neighbourhood (7×7 cells) lies within
    2 m of the predicted point and is more similar than the neighbourhood's average.
    """
    top = ground.weight.topk(min(count, len(ground.weight))).indices
    chosen = ground.take(top)
    points = chosen.points_body
    pose = pose.to(aerial.device)
    placed = rotate(body_to_patch(chosen.scaled(pose[3].exp())), pose[2]) + pose[:2]
    cells = aerial.shape[-1]
    row, column = grid_position(placed, cells)
    offsets = torch.arange(-reach_cells, reach_cells + 1, device=aerial.device)
    d_row, d_column = torch.meshgrid(offsets, offsets, indexing="ij")
    rows = row.round().long()[:, None] + d_row.reshape(-1)
    columns = column.round().long()[:, None] + d_column.reshape(-1)
    flat = rows.clamp(0, cells - 1) * cells + columns.clamp(0, cells - 1)
    inside = (rows >= 0) & (rows < cells) & (columns >= 0) & (columns < cells) & covered(aerial).flatten()[flat]
    around = aerial.flatten(1)[:, flat]  # (D, M, neighbours)
    similarity = torch.einsum("md,dmn->mn", ground.descriptors[top], around).masked_fill(~inside, -1.0)
    probability = (similarity * sharpness).softmax(1)
    best = probability.argmax(1)
    target = cell_centres(cells, aerial.device)[torch.gather(flat, 1, best[:, None])[:, 0]]
    agrees = ((target - placed).norm(dim=1) < AGREES_WITHIN_M) & inside.any(1)
    weight = ground.weight[top]
    ratio = float((weight * agrees).sum() / weight.sum().clamp(min=1e-9))
    chance = torch.gather(probability, 1, best[:, None])[:, 0]
    return CellMatches(top, points, target, chance * inside.any(1)), ratio
