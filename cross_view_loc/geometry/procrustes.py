"""Closed-form weighted 2-D Procrustes alignment, with and without scale, batched.

Minimises Σ w ‖s·R(yaw)·p + t − q‖². In the plane the optimal rotation needs no SVD: with centred points, yaw is the
angle of Σ w (p·q, p×q) (Umeyama 1991, specialised to two dimensions; the reflection case cannot occur because R is
parametrised by its angle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """A batch of planar similarity transforms q = s · R(yaw) · p + t."""

    yaw_rad: Tensor
    """(...)"""
    scale: Tensor
    """(...)"""
    translation: Tensor
    """(..., 2)"""

    def apply(self, points: Tensor) -> Tensor:
        """Points (..., N, 2) → transformed points (..., N, 2)."""
        return self.scale[..., None, None] * rotate(points, self.yaw_rad) + self.translation[..., None, :]


def rotate(points: Tensor, yaw_rad: Tensor) -> Tensor:
    """Rotate points (..., N, 2) counter-clockwise by yaw (...)."""
    c, s = torch.cos(yaw_rad)[..., None], torch.sin(yaw_rad)[..., None]
    x, y = points[..., 0], points[..., 1]
    return torch.stack([c * x - s * y, s * x + c * y], -1)


def procrustes(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    with_scale: bool = True,
    log_scale_std: float = math.inf,
    noise_m: float = 1.0,
) -> Similarity:
    """Best similarity (or rigid motion) taking source (..., N, 2) to target (..., N, 2) under weights (..., N) ≥ 0.

    A finite `log_scale_std` is a Gaussian prior about 0 on the log of the scale: the measured log-scale, whose variance
    follows from matches off by `noise_m` along each axis, is drawn towards 0 by inverse variances; 0 fixes the scale.
    Degenerate input (all weight on one point, or none) gives yaw 0 and scale 1 about the weighted centroids rather than
    NaN, so that a batch of hypotheses survives its bad members.
    """
    total = weight.sum(-1, keepdim=True).clamp(min=1e-12)
    share = (weight / total)[..., None]
    mean_source = (share * source).sum(-2)
    mean_target = (share * target).sum(-2)
    p = source - mean_source[..., None, :]
    q = target - mean_target[..., None, :]
    dot = (share[..., 0] * (p * q).sum(-1)).sum(-1)
    cross = (share[..., 0] * (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0])).sum(-1)
    spread = (share[..., 0] * (p * p).sum(-1)).sum(-1)
    degenerate = (spread < 1e-9) | (torch.hypot(dot, cross) < 1e-12)
    yaw = torch.where(degenerate, torch.zeros_like(dot), torch.atan2(cross, dot))
    scale = torch.ones_like(dot)
    if with_scale and log_scale_std > 0:
        scale = torch.where(degenerate, scale, torch.hypot(dot, cross) / spread.clamp(min=1e-12))
        if math.isfinite(log_scale_std):
            effective = total[..., 0].square() / weight.square().sum(-1).clamp(min=1e-12)
            precision = effective * spread * scale.square() / noise_m**2
            scale = scale.pow(precision / (precision + 1 / log_scale_std**2))
    turned = scale[..., None] * rotate(mean_source[..., None, :], yaw)[..., 0, :]
    return Similarity(yaw, scale, mean_target - turned)


def procrustes_covariance(
    source: Tensor, target: Tensor, weight: Tensor, solution: Similarity, origin: Tensor | None = None
) -> Tensor:
    """Gauss–Newton covariance (3, 3) of (x, y, yaw) of `origin` (a source point; default 0, 0) from the residuals.

    Each match counts as much as its weight; the scale is estimated beside the pose and marginalised out.
    """
    at = source.new_zeros(2) if origin is None else origin
    turned = solution.scale * rotate(source - at, solution.yaw_rad)
    residual = solution.apply(source) - target
    rows_x = torch.stack(
        [torch.ones_like(turned[:, 0]), torch.zeros_like(turned[:, 0]), -turned[:, 1], turned[:, 0]], -1
    )
    rows_y = torch.stack(
        [torch.zeros_like(turned[:, 0]), torch.ones_like(turned[:, 0]), turned[:, 0], turned[:, 1]], -1
    )
    information = torch.einsum("n,ni,nj->ij", weight, rows_x, rows_x) + torch.einsum(
        "n,ni,nj->ij", weight, rows_y, rows_y
    )
    effective = weight.sum() ** 2 / (weight**2).sum().clamp(min=1e-12)
    variance = (weight * (residual**2).sum(-1)).sum() / weight.sum().clamp(min=1e-12) / 2
    degrees = (effective - 2).clamp(min=1.0)
    normal = information / weight.sum().clamp(min=1e-12) + 1e-9 * torch.eye(4, dtype=source.dtype, device=source.device)
    return (torch.linalg.inv(normal) * variance / degrees)[:3, :3]
