"""Voting for poses with single matches: with a heading (and a scale) supposed, one match fixes the position.

A coarse Hough transform over heading × x × y. Where 95 of 100 matches are wrong, minimal sets of two right ones are
rare (1 in 400), but every right match still votes for the true cell.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, rotate


def vote(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    centre: Tensor,
    radius_m: float,
    headings_rad: Tensor,
    log_scales: Tensor,
    count: int,
    cell_m: float = 0.8,
) -> Similarity:
    """The `count` best cells (heading, scale, x, y) by weight (N,) of matches source → target (N, 2) in their favour.

    Positions are searched in the square of `radius_m` about `centre` (2,). Votes are shared bilinearly between cells
    and smoothed over three cells, so that a maximum does not hang on where cell borders fall.
    """
    heading, log_scale = (axis.flatten() for axis in torch.meshgrid(headings_rad, log_scales, indexing="ij"))
    side = 2 * math.ceil(radius_m / cell_m) + 3
    placed = rotate(source.expand(len(heading), -1, -1), heading) * log_scale.exp()[:, None, None]
    position = (target - placed - centre) / cell_m + (side - 1) / 2
    base = position.floor()
    inside = ((base >= 0) & (base < side - 1)).all(-1)
    fraction = position - base
    layer = torch.arange(len(heading), device=source.device)[:, None] * side**2
    corner = layer + (base[..., 1].clamp(0, side - 2) * side + base[..., 0].clamp(0, side - 2)).long()
    votes = source.new_zeros(len(heading) * side**2)
    kept = weight * inside
    for up in (0, 1):
        for right in (0, 1):
            share = (fraction[..., 0] if right else 1 - fraction[..., 0]) * (
                fraction[..., 1] if up else 1 - fraction[..., 1]
            )
            votes.index_add_(0, (corner + up * side + right).flatten(), (share * kept).flatten())
    bell = source.new_tensor([0.25, 0.5, 0.25])
    smooth = F.conv2d(votes.view(-1, 1, side, side), (bell[:, None] * bell)[None, None], padding=1)
    peak = F.max_pool2d(smooth, 3, stride=1, padding=1) == smooth
    best = (smooth * peak).flatten().topk(min(count, smooth.numel())).indices
    which, cell = best // side**2, best % side**2
    offset = torch.stack([cell % side, cell // side], -1) - (side - 1) / 2
    return Similarity(heading[which], log_scale[which].exp(), centre + offset * cell_m)
