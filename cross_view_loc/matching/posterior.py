"""From the lattice of scores to what a user needs: how sure the chosen mode is, and a Gaussian that contains it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cross_view_loc.matching.consensus import Lattice, Mode

MODE_RADIUS_M = 2.5
MODE_HEADING_RAD = math.radians(5.0)
CHI2_99_3DOF = 11.345


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on held-out towns so that probabilities and covariances come true."""

    temperature: float = 1.0
    """The score is divided by this before the softmax."""
    covariance_factor: float = 1.0
    """Multiplies the covariance, after the floors have been added."""


@dataclass(frozen=True)
class Posterior:
    """A summary of the pose posterior around one mode."""

    confidence: float
    """Mass within MODE_RADIUS_M and MODE_HEADING_RAD of the mode."""
    covariance: Tensor
    """(3, 3) right, up, heading; the scale is marginalised out."""


def summarize(volume: Tensor, lattice: Lattice, mode: Mode, calibration: Calibration) -> Posterior:
    """Moments of the posterior about a refined mode.

    The mode's Laplace covariance stands for the mass around it (what it explains at 99 %, and the cell it lies in:
    a sharp mode is narrower than the lattice). All other mass near by enters by its squared distance, so that a second
    mode widens the Gaussian in its own direction.
    """
    temperature = calibration.temperature
    probability = (volume / temperature).flatten().softmax(0).view_as(volume).sum(0)
    shifts = lattice.shifts_m
    right = lattice.prior[0] + shifts - mode.pose[0]
    up = lattice.prior[1] + shifts - mode.pose[1]
    turn = torch.remainder(lattice.headings_rad - mode.pose[2] + math.pi, 2 * math.pi) - math.pi
    step_rad = float((lattice.headings_rad[1:] - lattice.headings_rad[:-1]).mean()) if len(turn) > 1 else math.pi
    distance = torch.hypot(up[:, None], right[None, :])
    near = (distance < MODE_RADIUS_M)[None] & (turn.abs() < MODE_HEADING_RAD + step_rad / 2)[:, None, None]
    confidence = float((probability * near).sum())
    laplace = mode.covariance[:3, :3] * temperature
    shape = probability.shape
    offsets = torch.stack([right.expand(shape), up[:, None].expand(shape), turn[:, None, None].expand(shape)], -1)
    cell = float(shifts[1] - shifts[0])
    own = (offsets.abs() <= torch.tensor([cell, cell, step_rad * 1.01], device=offsets.device)).all(-1)
    information = torch.linalg.inv(laplace.double()).float()
    own |= torch.einsum("khwi,ij,khwj->khw", offsets, information, offsets) < CHI2_99_3DOF
    local = probability * near
    others = (local * ~own).reshape(-1)
    total = local.sum().clamp(min=1e-9)
    spread = torch.einsum("n,ni,nj->ij", others / total, offsets.reshape(-1, 3), offsets.reshape(-1, 3))
    covariance = laplace + spread
    return Posterior(confidence, covariance * calibration.covariance_factor)
