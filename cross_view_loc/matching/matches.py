"""Single matches between ground and aerial cells: drawn from the score as published, or guided by a pose.

Drawn matches feed the weighted scale-aware Procrustes alignment (with robust hypotheses); guided matches explain a pose
that the consensus found, and say how many of the cells agree with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import rotate
from cross_view_loc.matching.consensus import GroundCells, body_to_patch, grid_position
from cross_view_loc.matching.encoders import CELL_M

AGREES_WITHIN_M = 2.0


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
    """(M,) probability of the match times the confidence of its ground cell."""


def cell_centres(cells: int, device: torch.device | str = "cpu") -> Tensor:
    """(cells², 2) patch coordinates (right, up) of the aerial cells, row by row from the top."""
    axis = (torch.arange(cells, device=device) - (cells - 1) / 2) * CELL_M
    up, right = torch.meshgrid(-axis, axis, indexing="ij")
    return torch.stack([right, up], -1).reshape(-1, 2)


def covered(aerial: Tensor) -> Tensor:
    """(N, N) which cells of descriptors (D, N, N) have imagery; the others are zero."""
    return (aerial != 0).any(0)


@torch.no_grad()
def draw_matches(
    aerial: Tensor, ground: GroundCells, sharpness: float, generator: torch.Generator, cells: int = 400, each: int = 3
) -> CellMatches:
    """Draw matches in proportion to the score: confident ground cells, and for each its likely aerial cells.

    Weights are the match probability times the cell's confidence; sampling and weighting both use the score, as
    published.
    """
    chosen = torch.multinomial(ground.weight, min(cells, len(ground.weight)), replacement=False, generator=generator)
    similarity = ground.descriptors[chosen] @ aerial.flatten(1)
    similarity = similarity.masked_fill(~covered(aerial).flatten(), -math.inf)
    probability = (similarity * sharpness).softmax(1)
    targets = torch.multinomial(probability, each, replacement=True, generator=generator)
    index = chosen.repeat_interleave(each)
    weight = ground.weight[index] * torch.gather(probability, 1, targets).flatten()
    return CellMatches(
        index, ground.points_body[index], cell_centres(aerial.shape[-1], aerial.device)[targets.flatten()], weight
    )


@torch.no_grad()
def guided_matches(
    aerial: Tensor, ground: GroundCells, pose: Tensor, sharpness: float, count: int = 150, reach_cells: int = 3
) -> tuple[CellMatches, float]:
    """Matches of the most confident ground cells within a few cells of where a pose (4,) puts them; the inlier ratio.

    The inlier ratio is the weighted share of cells whose best aerial cell in this neighbourhood (7×7 cells) lies within
    2 m of the predicted point and is more similar than the neighbourhood's average.
    """
    top = ground.weight.topk(min(count, len(ground.weight))).indices
    points = ground.points_body[top]
    pose = pose.to(aerial.device)
    placed = rotate(body_to_patch(points) * pose[3].exp(), pose[2]) + pose[:2]
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
