"""Where to look: the patches that cover a prior's headings, and the lattice of poses searched in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from cross_view_loc.matching.aerial_cache import AerialFeatureCache, AerialFeatures, snapped_heading
from cross_view_loc.matching.consensus import Lattice
from cross_view_loc.matching.encoders import AERIAL_METERS_PER_PIXEL, CELL_M
from cross_view_loc.matching.ground import mean_direction
from cross_view_loc.types import Frame, Prior

LARGEST_HEADING_OFFSET_RAD = math.radians(15.0)
"""The aerial encoder was trained on patches turned to the heading within this; wider ranges take several patches."""
HEADING_STEP_RAD = math.radians(2.0)
NARROWEST_HEADING_RAD = math.radians(1.0)
REACH_M = 40.0
LOG_SCALE_STEP = 0.08
WELL_KNOWN_SCALE_STD = 0.03
"""Below this, refinement alone finds the scale."""
BEHIND_STEP_M = 8.0
"""A window's reach is rounded up to these, so that a patch and its features serve the next frames too."""
WIDEST_PATCH_RADIUS_M = 40.0
"""A wider search takes several patches: memory for one grows with its area, and none is kept for the next frame."""


def heading_sectors(prior: Prior) -> list[tuple[float, list[float]]]:
    """(patch-up yaw, yaws to score) of the patches that cover the prior's heading range.

    The yaws of all patches together are evenly spaced and none is scored twice, so that their probabilities add
    up. There is an odd number of both: the likeliest heading lies in the middle of a patch, not between two.
    """
    reach = min(max(prior.yaw_range_rad, NARROWEST_HEADING_RAD), math.pi)
    count = _odd(reach / LARGEST_HEADING_OFFSET_RAD)
    steps = _odd(2 * reach / count / HEADING_STEP_RAD)
    first, step = prior.yaw_rad - reach, 2 * reach / (count * steps)
    yaws = [[first + (sector * steps + k + 0.5) * step for k in range(steps)] for sector in range(count)]
    return [(sector[steps // 2], sector) for sector in yaws]


def parts(prior: Prior, rotation_rad: float, is_disc: bool) -> list[Prior]:
    """The prior itself, or the squares of a grid that make up a wide one, turned as their patches are.

    Their lattices lie side by side, so that no pose is scored twice; squares wholly outside the disc are left out.
    """
    if prior.radius_m <= WIDEST_PATCH_RADIUS_M:
        return [prior]
    whole = 2 * math.ceil(prior.radius_m / CELL_M) + 1
    count = math.ceil(prior.radius_m / WIDEST_PATCH_RADIUS_M)
    radius_cells = math.ceil((whole / count - 1) / 2)
    step_m = (2 * radius_cells + 1) * CELL_M
    axis_rad = snapped_heading(rotation_rad)
    c, s = math.cos(axis_rad), math.sin(axis_rad)
    found = []
    for row in range(count):
        for column in range(count):
            forward, left = (row - (count - 1) / 2) * step_m, (column - (count - 1) / 2) * step_m
            nearest = math.hypot(max(abs(forward) - step_m / 2, 0.0), max(abs(left) - step_m / 2, 0.0))
            if is_disc and nearest > prior.radius_m:
                continue
            east, north = prior.east_m + c * forward - s * left, prior.north_m + s * forward + c * left
            found.append(replace(prior, east_m=east, north_m=north, radius_m=radius_cells * CELL_M))
    return found


def aerial_features(
    cache: AerialFeatureCache, frames: Sequence[Frame], prior: Prior, rotation_rad: float, behind_m: float = 0.0
) -> AerialFeatures:
    """Features of the patch, turned to `rotation_rad`, that holds all the cameras could see from within the prior.

    `behind_m`: how far back a window over time reaches, whose ground the patch then holds too.
    """
    behind_m = math.ceil(behind_m / BEHIND_STEP_M) * BEHIND_STEP_M
    forward, left = mean_direction(frames)
    if math.hypot(forward, left) > 0.7:  # one way of looking: leave out what lies behind
        middle_m = 16.0 - behind_m / 2
        ahead, side_m = (middle_m * forward, middle_m * left), 40.0 + behind_m + 2 * prior.radius_m
    else:
        ahead, side_m = (0.0, 0.0), 2 * (REACH_M * 0.8 + prior.radius_m) + behind_m
    size_px = 16 * math.ceil(side_m / AERIAL_METERS_PER_PIXEL / 16)
    return cache.features(prior.east_m, prior.north_m, rotation_rad, ahead, size_px)


def make_lattice(
    aerial: AerialFeatures,
    prior: Prior,
    yaws: Sequence[float],
    log_scale_std: float,
    is_disc: bool = False,
    whole: Prior | None = None,
) -> Lattice:
    """Shifts, headings and scales about the prior, in a patch's coordinates, where the patch's features are.

    `whole` is the search that the prior is one of the `parts` of.
    """
    disc = None
    if is_disc and whole is not None and whole is not prior:
        disc = [*aerial.to_patch(whole.east_m, whole.north_m), math.ceil(whole.radius_m / CELL_M) * CELL_M]
    device = aerial.descriptors.device
    middle = math.remainder(yaws[len(yaws) // 2] - aerial.patch.rotation_rad, 2 * math.pi)
    return Lattice(
        torch.tensor(aerial.to_patch(prior.east_m, prior.north_m), dtype=torch.float32, device=device),
        math.ceil(prior.radius_m / CELL_M - 1e-6),
        torch.tensor([middle + yaw - yaws[len(yaws) // 2] for yaw in yaws], device=device),
        log_scales(log_scale_std).to(device),
        log_scale_std,
        is_disc,
        None if disc is None else torch.tensor(disc, dtype=torch.float32, device=device),
    )


def log_scales(std: float) -> torch.Tensor:
    """Out to 1.2 deviations either way, at most about LOG_SCALE_STEP apart; refinement reaches what lies between."""
    if std < WELL_KNOWN_SCALE_STD:
        return torch.zeros(1)
    half = max(1, round(1.4 * std / LOG_SCALE_STEP))
    return torch.linspace(-1.2 * std, 1.2 * std, 2 * half + 1)


def _odd(number: float) -> int:
    """The smallest odd whole number that is not less, rounding errors aside."""
    return 2 * math.ceil((number - 1) / 2 - 1e-6) + 1 if number > 1 else 1
