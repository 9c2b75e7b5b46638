"""Consensus: how well every lifted ground cell agrees with the aerial cell under it, for a whole lattice of poses.

The score of a pose is Σ c_i ⟨g_i, A(s·R·p_i + t)⟩. Ground descriptors are splatted bilinearly onto the aerial grid, so
one FFT correlation gives that score exactly at every shift of a heading and scale. Its softmax is a posterior over
poses; training maximises that posterior at the true pose, so it means what it says.

Patch coordinates: (right, up) metres from the patch centre; a body point (x forward, y left) lies at (−y, x) when the
vehicle faces patch-up, and is turned counter-clockwise by the heading's offset from patch-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.geometry.procrustes import rotate
from cross_view_loc.matching.encoders import CELL_M


@dataclass(frozen=True)
class GroundCells:
    """Lifted ground cells of one or more views."""

    descriptors: Tensor
    """(T, D) unit."""
    weight: Tensor
    """(T,) confidence, scaled so that a view of ordinary content sums to a few units."""
    points_body: Tensor
    """(T, 2) x forward, y left, metres."""
    origins_body: Tensor | None = None
    """(T, 2) where the vehicle was when it saw each cell, about which an error of the depth's scale acts: odometry in
    between has no part in it. None: all were seen from here."""

    def scaled(self, scale: Tensor | float) -> Tensor:
        """The points with the depth's scale corrected, (T, 2), or (…, T, 2) for scales (…, 1, 1)."""
        if self.origins_body is None:
            return self.points_body * scale
        return self.origins_body + (self.points_body - self.origins_body) * scale

    def take(self, index: Tensor) -> GroundCells:
        """The cells of an index or a mask."""
        origins = None if self.origins_body is None else self.origins_body[index]
        return GroundCells(self.descriptors[index], self.weight[index], self.points_body[index], origins)

    def strongest(self, count: int) -> GroundCells:
        """The `count` cells of the largest weight, which then weigh as much as all did."""
        if len(self.weight) <= count:
            return self
        top = self.weight.topk(count)
        kept = self.take(top.indices)
        return replace(kept, weight=top.values * (self.weight.sum() / top.values.sum()))


@dataclass(frozen=True)
class Lattice:
    """The poses that the FFT scores: shifts × headings × scales about a prior."""

    prior: Tensor
    """(2,) right, up of the prior position in patch coordinates."""
    radius_cells: int
    headings_rad: Tensor
    """(K,) offsets from patch-up, counter-clockwise."""
    log_scales: Tensor
    """(S,)"""
    log_scale_std: float
    """Deviation of a Gaussian prior on the log of the scale."""
    is_disc: bool = False
    """Search the inscribed disc: patches of different rotation then search the same positions."""
    disc: Tensor | None = None
    """(3,) right, up and radius of another disc than the inscribed one: that of the search this is a part of."""

    @property
    def shifts_m(self) -> Tensor:
        """(2R+1,) shifts along one axis, ascending."""
        side = torch.arange(2 * self.radius_cells + 1, device=self.prior.device)
        return (side - self.radius_cells) * CELL_M

    def outside_disc(self) -> Tensor:
        """(2R+1, 2R+1) of up-shift, right-shift: what the disc leaves out."""
        shifts = self.shifts_m
        if self.disc is None:
            return torch.hypot(shifts[:, None], shifts[None]) > self.radius_cells * CELL_M
        right, up = self.prior[0] + shifts - self.disc[0], self.prior[1] + shifts - self.disc[1]
        return torch.hypot(up[:, None], right[None]) > self.disc[2]

    def cpu(self) -> Lattice:
        """The same lattice with its tensors on the CPU."""
        return replace(
            self,
            prior=self.prior.cpu(),
            headings_rad=self.headings_rad.cpu(),
            log_scales=self.log_scales.cpu(),
            disc=None if self.disc is None else self.disc.cpu(),
        )

    def holds(self, pose: Tensor) -> bool:
        """Whether a refined pose (4,) is still within the lattice, give or take one step."""
        steps = self.headings_rad.diff()
        step_rad = float(steps.mean()) if len(steps) else math.pi
        turn = torch.remainder(pose[2] - self.headings_rad.mean() + math.pi, 2 * math.pi) - math.pi
        reach_rad = float(self.headings_rad[-1] - self.headings_rad[0]) / 2 + step_rad
        reach_m = (self.radius_cells + 1) * CELL_M
        return bool((pose[:2] - self.prior).abs().max() <= reach_m) and abs(float(turn)) <= reach_rad


def body_to_patch(points_body: Tensor) -> Tensor:
    """(x forward, y left) → (right, up) for a vehicle facing patch-up."""
    return torch.stack([-points_body[..., 1], points_body[..., 0]], -1)


def splat(descriptors: Tensor, weight: Tensor, points_patch: Tensor, cells: int, size: int) -> Tensor:
    """Bilinear splat of weighted descriptors (B, T, D) at patch points (B, T, 2) → (B, D, size, size).

    The first `cells` rows and columns are the aerial grid; the rest is the zero padding the FFT needs.
    """
    batch, _, depth = descriptors.shape
    row, column = grid_position(points_patch, cells)
    row0, column0 = row.floor(), column.floor()
    base = torch.arange(batch, device=row.device)[:, None] * size * size
    values = descriptors * weight[..., None]
    indices, contributions = [], []
    for d_row in (0, 1):
        for d_column in (0, 1):
            r, c = (row0 + d_row).long(), (column0 + d_column).long()
            inside = (r >= 0) & (r < cells) & (c >= 0) & (c < cells)
            share = (1 - (row - r).abs()) * (1 - (column - c).abs()) * inside
            indices.append((base + r.clamp(0, cells - 1) * size + c.clamp(0, cells - 1)).reshape(-1))
            contributions.append((values * share[..., None]).reshape(-1, depth))
    grid = descriptors.new_zeros(batch * size * size, depth)
    grid = grid.index_add_(0, torch.cat(indices), torch.cat(contributions))  # in place: five times faster
    return grid.view(batch, size, size, depth).permute(0, 3, 1, 2)


def grid_position(points_patch: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Patch points (..., 2) → fractional (row, column) where integers are cell centres."""
    half = (cells - 1) / 2
    return half - points_patch[..., 1] / CELL_M, half + points_patch[..., 0] / CELL_M


def fft_size(cells: int, radius_cells: int) -> int:
    """Smallest size of form 2^a·3^b·5^c that keeps shifts of ± radius free of wrap-around."""
    size = cells + radius_cells
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and size % 2 == 0:
            return size
        size += 1


def aerial_spectrum(aerial: Tensor, size: int) -> Tensor:
    """(B, D, N, N) → its zero-padded real FFT, computed once a patch."""
    pad = size - aerial.shape[-1]
    return torch.fft.rfft2(F.pad(aerial, (0, pad, 0, pad)))


def correlate(template: Tensor, spectrum: Tensor, size: int, radius_cells: int) -> Tensor:
    """Templates (B, D, size, size) against spectra (B or 1, D, …) → scores (B, 2R+1 up, 2R+1 right), shifts ascending.

    Index [j, i] is the score with every point shifted by (right, up) = ((i − R), (j − R)) cells.
    """
    product = (torch.fft.rfft2(template).conj() * spectrum).sum(1)
    scores = torch.fft.irfft2(product, s=(size, size))
    scores = torch.roll(scores, (radius_cells, radius_cells), (-2, -1))
    window = 2 * radius_cells + 1
    return scores[:, :window, :window].flip(-2)  # rows count down, `up` counts up


@torch.no_grad()
def score_lattice(
    aerial: Tensor, ground: GroundCells, lattice: Lattice, sharpness: float, hopeless: float = math.inf
) -> Tensor:
    """Log-scores (S, K, 2R+1, 2R+1) over scale, heading, up-shift, right-shift; exact for bilinear interpolation.

    A heading whose best score at the likeliest scale is `hopeless` below the best is −inf at the other scales, which
    saves half the correlations where a frame is unambiguous.
    """
    cells = aerial.shape[-1]
    size = fft_size(cells, lattice.radius_cells)
    spectrum = aerial_spectrum(aerial[None], size)
    side = 2 * lattice.radius_cells + 1
    log_scales = lattice.log_scales.tolist()
    shape = (len(log_scales), len(lattice.headings_rad), side, side)
    volume = torch.full(shape, -math.inf, device=aerial.device)
    central = min(range(len(log_scales)), key=lambda index: abs(log_scales[index]))
    headings = list(range(len(lattice.headings_rad)))
    for index in sorted(range(len(log_scales)), key=lambda index: index != central):
        penalty = 0.5 * (log_scales[index] / lattice.log_scale_std) ** 2
        points = body_to_patch(ground.scaled(math.exp(log_scales[index])))
        for k in headings:
            placed = rotate(points, lattice.headings_rad[k]) + lattice.prior
            template = splat(ground.descriptors[None], ground.weight[None], placed[None], cells, size)
            volume[index, k] = correlate(template, spectrum, size, lattice.radius_cells)[0] * sharpness - penalty
        if index == central:  # other scales only where a heading has a chance at all
            best = volume[central].amax((1, 2))
            headings = (best > best.max() - hopeless).nonzero()[:, 0].tolist()
    if lattice.is_disc:
        volume = volume.masked_fill(lattice.outside_disc(), -math.inf)
    return volume


@dataclass(frozen=True)
class Layer:
    """Aerial descriptors and ground cells of one resolution; the score of a pose sums over layers."""

    aerial: Tensor
    """(D, n, n) over the whole patch; n differs between layers, the ground they cover does not."""
    ground: GroundCells
    sharpness: Tensor | float


def score_poses(
    layers: Sequence[Layer], poses: Tensor, patch_m: float, log_scale_std: float, at_most: int = 4000
) -> Tensor:
    """Log-scores (P,) of continuous poses (P, 4): right, up, heading offset, log-scale, in patch coordinates."""
    scores = -0.5 * (poses[:, 3] / log_scale_std) ** 2
    for layer in layers:
        weighted = layer.ground.descriptors * layer.ground.weight[:, None]
        step = max(1, at_most * 32 // max(len(weighted), 1))
        found = []
        for chunk in poses.split(step):
            points = body_to_patch(layer.ground.scaled(chunk[:, None, 3:].exp()))
            placed = rotate(points, chunk[:, 2]) + chunk[:, None, :2]
            grid = placed * placed.new_tensor([2 / patch_m, -2 / patch_m])
            under = F.grid_sample(layer.aerial[None], grid[None], align_corners=False, padding_mode="zeros")[0]
            found.append((under * weighted.T[:, None, :]).sum((0, 2)))
        scores = scores + torch.cat(found) * layer.sharpness
    return scores
