"""From the lattice of scores to what a user needs: how sure the chosen mode is, and a Gaussian that contains it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cross_view_loc.matching.consensus import Lattice
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.matching.modes import Mode, Peak

MODE_RADIUS_M = 2.5
MODE_HEADING_RAD = math.radians(5.0)
CHI2_99_3DOF = 11.345
BESIDE_SHARE = 0.1
"""Of what the lattice has near a mode, but out of the reach of its own covariance. Most of it is the foot of the mode,
which falls slower than a Gaussian, and only sometimes another mode: on towns 8900-8903 errors are likeliest with 0 to
0.1 of it for one view, with half for twenty."""
SHARED_STD_M, SHARED_STD_RAD = 0.07, math.radians(0.1)
"""What all cells are wrong by together (attitude, the grid of the aerial image), so that no number of views averages it
away: with it, 90-98 % of the estimates of 1 to 20 views lie in their 95 % regions."""


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on held-out towns so that probabilities and covariances come true."""

    temperature: float = 1.0
    """The score is divided by this before the softmax."""
    covariance_factor: float = 1.0
    """Multiplies the mode's own covariance; what is beside it, and other modes, add what they add."""
    fine_share: float = 0.25
    """Of what the fine cells say for or against a mode; they see the same image, so it is no independent word."""

    def for_views(self, views: int) -> Calibration:
        """The calibration of one view for the joint evidence of several, of one moment or of many.

        They are not independent: they see the same ground under the same light. Temperatures fitted on towns 8900-8903
        were 2.1, 2.5, 1.7 and 6.2 times that of one view for 3 and 5 moments, for 4 cameras, and for 5 moments of 4
        cameras: about √views. It widens the mode's covariance likewise.
        """
        return replace(self, temperature=self.temperature * math.sqrt(views))


def read_calibration(metadata: dict[str, object], kind: str, estimator: str) -> Calibration:
    """The calibration fitted for a kind of depth and an estimator; says so when the weights have none."""
    fitted = metadata.get("calibration")
    numbers = fitted.get(f"{kind}/{estimator}") if isinstance(fitted, dict) else None
    if numbers is None:
        logging.getLogger(__name__).warning(
            "these weights are not calibrated for %s depth with %s: covariances are guesses; "
            "run `cross_view_loc train calibrate`",
            kind,
            estimator,
        )
        return Calibration()
    return Calibration(**numbers)


@dataclass(frozen=True)
class Posterior:
    """A summary of the pose posterior around one mode."""

    confidence: float
    """Mass within MODE_RADIUS_M and MODE_HEADING_RAD of the mode."""
    covariance: Tensor
    """(3, 3) right, up, heading; the scale is marginalised out."""


def summarize(volume: Tensor, lattice: Lattice, mode: Mode, calibration: Calibration) -> Posterior:
    """Moments of the posterior about a refined mode; everything on the CPU.

    The mode's Laplace covariance stands for the mass around it (what it explains at 99 %, and the cell it lies in:
    a sharp mode is narrower than the lattice). Other modes enter by their squared distance: they widen the Gaussian in
    their own direction by as much as they are likely. Of what is near but explained by neither, little does.
    """
    temperature = calibration.temperature
    probability = _probability(volume, temperature)
    offsets, step_rad = _offsets(lattice, mode.pose)
    near = _near(offsets, step_rad)
    laplace = mode.covariance[:3, :3] * temperature
    own = (offsets.abs() <= torch.tensor([CELL_M, CELL_M, step_rad * 1.01])).all(-1)
    information = torch.linalg.inv(laplace.double()).float()
    own |= torch.einsum("khwi,ij,khwj->khw", offsets, information, offsets) < CHI2_99_3DOF
    confidence = float((probability * near).sum())
    beside = _second_moment(probability * near * ~own, offsets) / max(confidence, 1e-9)
    shared = torch.diag(torch.tensor([SHARED_STD_M, SHARED_STD_M, SHARED_STD_RAD]) ** 2)
    covariance = laplace * calibration.covariance_factor + beside * BESIDE_SHARE + shared
    return Posterior(confidence, covariance + _second_moment(probability * ~near, offsets))


def _second_moment(probability: Tensor, offsets: Tensor) -> Tensor:
    """(3, 3) Σ p · offset · offsetᵀ over a lattice."""
    flat = offsets.reshape(-1, 3)
    return torch.einsum("n,ni,nj->ij", probability.reshape(-1), flat, flat)


def reweigh(volume: Tensor, lattice: Lattice, modes: Sequence[Peak], gains: Tensor, share: float) -> Tensor:
    """The volume with what the fine layer says of its best modes: each gain (M,), times `share`, around its mode.

    Everything that is near no mode, and was never looked at finely, gets the mean gain of all modes but the best: a
    look-alike's. Gains are log-probabilities.
    """
    gains = gains * share
    rest = float(gains.sort().values[:-1].mean() if len(gains) > 1 else gains[0])
    added = torch.full(volume.shape[1:], rest)
    nearest = torch.full(volume.shape[1:], math.inf)
    for mode, gain in zip(modes, gains.tolist(), strict=True):
        offsets, step_rad = _offsets(lattice, mode.pose)
        distance = torch.hypot(offsets[..., 0], offsets[..., 1])
        taken = _near(offsets, step_rad) & (distance < nearest)
        added[taken], nearest[taken] = gain, distance[taken]
    return volume + added


def heaviest(volume: Tensor, lattice: Lattice, modes: Sequence[Peak], temperature: float) -> Peak:
    """The mode with the most probability around it, of those still within the lattice if there are any."""
    inside = [mode for mode in modes if lattice.holds(mode.pose)] or modes
    return max(inside, key=lambda mode: mass_near(volume, lattice, mode.pose, temperature))


def mass_near(volume: Tensor, lattice: Lattice, pose: Tensor, temperature: float) -> float:
    """Share of a lattice's own probability that lies in the mode of a pose (3,) or (4,), which may be elsewhere."""
    offsets, step_rad = _offsets(lattice, pose)
    return float((_probability(volume, temperature) * _near(offsets, step_rad)).sum())


def _probability(volume: Tensor, temperature: float) -> Tensor:
    """(K, 2R+1, 2R+1): the scale is summed out."""
    return (volume / temperature).flatten().softmax(0).view_as(volume).sum(0)


def _offsets(lattice: Lattice, pose: Tensor) -> tuple[Tensor, float]:
    """(K, 2R+1, 2R+1, 3) right, up, heading of every lattice pose minus a pose; the lattice's step in heading."""
    shifts, headings = lattice.shifts_m, lattice.headings_rad
    right = lattice.prior[0] + shifts - pose[0]
    up = lattice.prior[1] + shifts - pose[1]
    turn = torch.remainder(headings - pose[2] + math.pi, 2 * math.pi) - math.pi
    shape = (len(headings), len(shifts), len(shifts))
    offsets = torch.stack([right.expand(shape), up[:, None].expand(shape), turn[:, None, None].expand(shape)], -1)
    return offsets, float(headings.diff().mean()) if len(headings) > 1 else math.pi


def _near(offsets: Tensor, step_rad: float) -> Tensor:
    distance = torch.hypot(offsets[..., 0], offsets[..., 1])
    return (distance < MODE_RADIUS_M) & (offsets[..., 2].abs() < MODE_HEADING_RAD + step_rad / 2)
