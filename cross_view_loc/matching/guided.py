"""Matches guided by a mode of the consensus, and the scale-aware Procrustes alignment that they give.

Around where a mode puts a ground cell, the softmax of similarity over the aerial cells near by has an expectation: a
soft position, finer than a cell. Aligning all ground cells to theirs moves the pose; repeated, it settles where matches
and pose agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.geometry.procrustes import procrustes, rotate
from cross_view_loc.matching.consensus import Layer, body_to_patch, score_poses
from cross_view_loc.matching.modes import Mode, mode_covariance


@dataclass(frozen=True)
class GuidedSettings:
    """How far a cell looks for its match, and how often."""

    reach_cells: int = 2
    rounds: int = 6
    sharpening: float = 2.0
    """Over the sharpness that single matches were trained with."""


@torch.no_grad()
def soft_targets(
    layer: Layer, pose: Tensor, patch_m: float, sharpness: float, reach_cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a pose (4,) puts the cells (T, 2), the expected aerial position near by (T, 2), and how sure it is (T,).

    The neighbourhood is sampled bilinearly on a grid centred on the placed point, so that it has no side it prefers.
    Sureness is 1 − entropy / log(neighbours), 0 where any of the neighbourhood has no imagery.
    """
    cell_m = patch_m / layer.aerial.shape[-1]
    placed = rotate(body_to_patch(layer.ground.points_body) * pose[3].exp(), pose[2]) + pose[:2]
    axis = torch.arange(-reach_cells, reach_cells + 1, device=placed.device) * cell_m
    offsets = torch.cartesian_prod(axis, axis)
    grid = (placed[:, None] + offsets) * placed.new_tensor([2 / patch_m, -2 / patch_m])
    around = F.grid_sample(layer.aerial[None], grid[None], align_corners=False, padding_mode="zeros")[0]
    similarity = torch.einsum("td,dtn->tn", layer.ground.descriptors, around)
    probability = (similarity * sharpness).softmax(1)
    entropy = -(probability * probability.clamp(min=1e-12).log()).sum(1) / math.log(len(offsets))
    imaged = (around != 0).any(0).all(1) & (grid.abs() <= 1).all(-1).all(1)
    return placed, placed + probability @ offsets, (1 - entropy).clamp(min=0) * imaged


@torch.no_grad()
def refine_by_matches(
    layers: Sequence[Layer],
    start: Tensor,
    patch_m: float,
    sharpness: float,
    log_scale_std: float,
    settings: GuidedSettings | None = None,
) -> Mode:
    """Align by scale-aware Procrustes on matches of the last layer, guided by a pose (4,), until they settle.

    `sharpness` is the matcher's for single matches. Of all poses on the way the one with the best score on the layers'
    consensus is kept, the given one among them, so that the result never is a step back; its covariance is that of the
    consensus there. Residuals of matches, of which neighbours err together, make it several times too small.
    """
    chosen = settings or GuidedSettings()
    pose = start.to(layers[0].aerial.device)
    best, best_score = pose, float(score_poses(layers, pose[None], patch_m, log_scale_std)[0])
    source = body_to_patch(layers[-1].ground.points_body)
    for _ in range(chosen.rounds):
        _, target, sure = soft_targets(layers[-1], pose, patch_m, sharpness * chosen.sharpening, chosen.reach_cells)
        weight = layers[-1].ground.weight * sure
        if float(weight.sum()) <= 0:
            break
        solution = procrustes(source, target, weight, log_scale_std > 0, log_scale_std)
        pose = torch.cat([solution.translation, solution.yaw_rad[None], solution.scale.log()[None]])
        score = float(score_poses(layers, pose[None], patch_m, log_scale_std)[0])
        if score > best_score:
            best, best_score = pose, score
    return Mode(best.cpu(), best_score, mode_covariance(layers, best.cpu(), patch_m, log_scale_std))
