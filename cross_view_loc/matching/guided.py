"""Matches guided by a mode of the consensus, and the scale-aware Procrustes alignment that they give.

Around where a mode puts a ground cell, the softmax of similarity over the aerial cells near by has an expectation: a
soft position, finer than a cell. Aligning all ground cells to theirs moves the pose; repeated, it settles where matches
and pose agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.geometry.procrustes import procrustes, procrustes_covariance, rotate
from cross_view_loc.matching.consensus import GroundCells, Layer, Mode, body_to_patch, grid_position, score_poses
from cross_view_loc.matching.encoders import CELL_M


@dataclass(frozen=True)
class GuidedSettings:
    """How far a cell looks for its match, and how often."""

    reach_cells: int = 2
    rounds: int = 6
    sharpening: float = 2.0
    """Over the sharpness that single matches were trained with."""
    step: float = 1.0
    """Expected positions are drawn towards where the pose puts a cell; steps longer than 1 make up for it."""


@torch.no_grad()
def soft_targets(
    aerial: Tensor, ground: GroundCells, pose: Tensor, sharpness: float, reach_cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a pose (4,) puts the cells (T, 2), the expected aerial position near by (T, 2), and how sure it is (T,).

    The neighbourhood is sampled bilinearly on a grid centred on the placed point, so that it has no side it prefers.
    Sureness is 1 − entropy / log(neighbours), 0 where any of the neighbourhood has no imagery.
    """
    cells = aerial.shape[-1]
    placed = rotate(body_to_patch(ground.points_body) * pose[3].exp(), pose[2]) + pose[:2]
    axis = torch.arange(-reach_cells, reach_cells + 1, device=aerial.device) * CELL_M
    offsets = torch.cartesian_prod(axis, axis)
    row, column = grid_position(placed[:, None] + offsets, cells)
    grid = torch.stack([column, row], -1) * (2 / (cells - 1)) - 1
    around = F.grid_sample(aerial[None], grid[None], align_corners=True, padding_mode="zeros")[0]
    similarity = torch.einsum("td,dtn->tn", ground.descriptors, around)
    probability = (similarity * sharpness).softmax(1)
    entropy = -(probability * probability.clamp(min=1e-12).log()).sum(1) / math.log(len(offsets))
    inside = ((row >= 0) & (row <= cells - 1) & (column >= 0) & (column <= cells - 1)).all(1)
    imaged = (around != 0).any(0).all(1)
    return placed, placed + probability @ offsets, (1 - entropy).clamp(min=0) * (inside & imaged)


@torch.no_grad()
def refine_by_matches(
    aerial: Tensor,
    ground: GroundCells,
    mode: Mode,
    sharpness: float,
    score_sharpness: float,
    log_scale_std: float,
    settings: GuidedSettings | None = None,
) -> Mode:
    """Align by scale-aware Procrustes on matches guided by a mode, until they settle; the mode itself if it was better.

    `sharpness` is the matcher's for single matches, `score_sharpness` its factor from agreement to log-probability. The
    result keeps the better score on the consensus, so it never is a step back.
    """
    chosen = settings or GuidedSettings()
    pose = mode.pose.to(aerial.device)
    layers, patch_m = [Layer(aerial, ground, score_sharpness)], aerial.shape[-1] * CELL_M
    best, best_score = pose, float(score_poses(layers, pose[None], patch_m, log_scale_std)[0])
    covariance = mode.covariance
    source = body_to_patch(ground.points_body)
    for _ in range(chosen.rounds):
        placed, expected, sure = soft_targets(aerial, ground, pose, sharpness * chosen.sharpening, chosen.reach_cells)
        weight = ground.weight * sure
        if float(weight.sum()) <= 0:
            break
        target = placed + chosen.step * (expected - placed)
        solution = procrustes(source, target, weight, log_scale_std > 0, log_scale_std)
        pose = torch.cat([solution.translation, solution.yaw_rad[None], solution.scale.log()[None]])
        score = float(score_poses(layers, pose[None], patch_m, log_scale_std)[0])
        if score > best_score:
            best, best_score = pose, score
            covariance = mode.covariance.clone()
            covariance[:3, :3] = procrustes_covariance(source, target, weight, solution).cpu()
    return Mode(best.cpu(), best_score, covariance)
