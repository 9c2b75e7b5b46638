"""Maxima of the consensus: peaks of the lattice, climbed to the top, and how sharp the top is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cross_view_loc.matching.consensus import Lattice, Layer, score_poses


@dataclass(frozen=True)
class Peak:
    """A pose at or near a local maximum of the posterior."""

    pose: Tensor
    """(4,) right, up, heading offset, log-scale; on the CPU, as is the covariance."""
    score: float


@dataclass(frozen=True)
class Mode(Peak):
    """A local maximum of the posterior."""

    covariance: Tensor
    """(4, 4) as wide as the score's fall from the pose says, at temperature 1."""


def find_peaks(
    volume: Tensor, lattice: Lattice, count: int, separation_cells: int = 3, hopeless: float = math.inf
) -> Tensor:
    """The `count` best lattice poses (M, 4), none within `separation_cells` of a better one, best first.

    Fewer where the others score more than `hopeless` below the best.
    """
    least = float(volume.max()) - hopeless
    left = volume.clone()
    scales, headings, side, _ = volume.shape
    shifts = lattice.shifts_m
    peaks = []
    for _ in range(count):
        flat = int(left.argmax())
        value = float(left.flatten()[flat])
        if not math.isfinite(value) or value < least:
            break
        s, k, j, i = torch.unravel_index(torch.tensor(flat), (scales, headings, side, side))
        peaks.append(
            torch.stack(
                [
                    lattice.prior[0] + shifts[i],
                    lattice.prior[1] + shifts[j],
                    lattice.headings_rad[k],
                    lattice.log_scales[s],
                ]
            )
        )
        low_j, low_i = max(0, int(j) - separation_cells), max(0, int(i) - separation_cells)
        left[:, :, low_j : int(j) + separation_cells + 1, low_i : int(i) + separation_cells + 1] = -math.inf
    return torch.stack(peaks)


_CENTRE_AND_CORNERS = torch.cat(
    [
        torch.zeros(1, 4),
        torch.eye(4),
        -torch.eye(4),
        torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4),
    ]
)


def _quadratic_terms(x: Tensor) -> Tensor:
    """(P, 4) → (P, 15): 1, x, x², cross products."""
    pairs = torch.combinations(torch.arange(x.shape[1]))
    return torch.cat([torch.ones_like(x[:, :1]), x, x**2, x[:, pairs[:, 0]] * x[:, pairs[:, 1]]], 1)


_FIT = torch.linalg.pinv(_quadratic_terms(_CENTRE_AND_CORNERS))
_FIRST_STEP = torch.tensor([0.4, 0.4, math.radians(1.0), 0.03])

_REACHES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How far along each axis, in first steps, the fall of the score is looked at."""
_FALL = 4.0
"""A mode is measured where the score has fallen by this (log-probability). Nearer to the top the kinks decide that
bilinear interpolation has at the borders of cells, and a fixed stencil is too wide for one mode and too narrow for
another. On towns 8900-8903 errors are about as likely with 2 to 8."""
_LEAST_EIGENVALUE = 0.1
"""Of the precision scaled to a unit diagonal: modes are not longer than √10 times what one axis alone lets them be."""
_PAIRS = torch.combinations(torch.arange(4))


def refine(layers: Sequence[Layer], start: Tensor, patch_m: float, log_scale_std: float) -> Mode:
    """Climb from a pose to the maximum and see how wide it is."""
    top = climb(layers, start, patch_m, log_scale_std)
    return Mode(top.pose, top.score, mode_covariance(layers, top.pose, patch_m, log_scale_std))


@torch.no_grad()
def climb(layers: Sequence[Layer], start: Tensor, patch_m: float, log_scale_std: float, rounds: int = 6) -> Peak:
    """From a pose (4,) towards the maximum by quadratic fits of the score on a shrinking stencil.

    A stencil wider than a cell smooths over the kinks that bilinear interpolation leaves at cell borders.
    """
    pose, step = start.cpu(), _FIRST_STEP.clone()
    best_pose, score = pose, -math.inf
    for round_index in range(rounds):
        scores = _scores(layers, pose + _CENTRE_AND_CORNERS * step, patch_m, log_scale_std)
        if float(scores[0]) > score:
            score, best_pose = float(scores[0]), pose.clone()
        fit = _FIT @ scores
        hessian = torch.diag(2 * fit[5:9])
        hessian[_PAIRS[:, 0], _PAIRS[:, 1]] = hessian[_PAIRS[:, 1], _PAIRS[:, 0]] = fit[9:]
        bends, axes = torch.linalg.eigh(hessian)
        concave = bool((bends < 0).all())
        move = axes @ ((axes.T @ -fit[1:5]) / bends) if concave else _CENTRE_AND_CORNERS[int(scores.argmax())]
        pose = pose + step * move.clamp(-1.5, 1.5)
        if round_index:
            step = step * 0.75
    final = float(_scores(layers, pose[None], patch_m, log_scale_std)[0])
    return Peak(best_pose, score) if final < score else Peak(pose, final)


@torch.no_grad()
def mode_covariance(layers: Sequence[Layer], pose: Tensor, patch_m: float, log_scale_std: float) -> Tensor:
    """(4, 4) of the Gaussian that falls from its top as the score does, along the axes and between every two."""
    sides = torch.tensor([1.0, -1.0])
    reaches = torch.tensor(_REACHES)
    along = torch.einsum("i,m,s,ij->imsj", _FIRST_STEP, reaches, sides, torch.eye(4)).reshape(-1, 4)
    scores = _scores(layers, pose + torch.cat([torch.zeros(1, 4), along]), patch_m, log_scale_std)
    falls = scores[0] - scores[1:].view(4, len(_REACHES), 2).mean(-1)
    step = _FIRST_STEP * torch.stack([_reach_of_fall(reaches, fall) for fall in falls])
    i, j = _PAIRS.unbind(1)
    axes = torch.eye(4) * step
    between = axes[i, None, None] * sides[:, None, None] + axes[j, None, None] * sides[:, None]
    stencil = torch.cat([axes, -axes, between.reshape(-1, 4)])
    beside = _scores(layers, pose + stencil, patch_m, log_scale_std) - scores[0]
    fall = -beside[:8].view(2, 4).mean(0).clamp(max=-1e-2)
    corners = beside[8:].view(-1, 2, 2)
    mixed = (corners[:, 0, 1] + corners[:, 1, 0] - corners[:, 0, 0] - corners[:, 1, 1]) / 4
    precision = torch.eye(4)
    precision[i, j] = precision[j, i] = mixed / (2 * (fall[i] * fall[j]).sqrt())
    values, vectors = torch.linalg.eigh(precision)
    std = step / (2 * fall).sqrt()
    root = std[:, None] * vectors / values.clamp(min=_LEAST_EIGENVALUE).sqrt()
    return root @ root.T


def _scores(layers: Sequence[Layer], poses: Tensor, patch_m: float, log_scale_std: float) -> Tensor:
    # The scores come from the descriptors' device; the 4-D algebra around them is too small for any but the CPU.
    return score_poses(layers, poses.to(layers[0].aerial.device), patch_m, log_scale_std).cpu()


def _reach_of_fall(reaches: Tensor, falls: Tensor) -> Tensor:
    """Where `_FALL` is first reached, between two reaches on a logarithmic scale; the last one where it never is."""
    k = next((k for k, fall in enumerate(falls.tolist()) if fall >= _FALL), len(reaches))
    if k in (0, len(reaches)):
        return reaches[min(k, len(reaches) - 1)]
    share = (_FALL - falls[k - 1]) / (falls[k] - falls[k - 1])
    return reaches[k - 1] * (reaches[k] / reaches[k - 1]) ** share
