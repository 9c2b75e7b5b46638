"""The pose error on held-out views while a network trains: cheap, by the best pose of the consensus's lattice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cross_view_loc.matching.consensus import GroundCells, Lattice, score_lattice
from cross_view_loc.matching.encoders import CELL_M, DEPTH_KINDS, Matcher
from cross_view_loc.matching.ground import WEIGHT_NORM
from cross_view_loc.training.batches import HEADING_RANGE_RAD, PRIOR_RADIUS_M, PredictedDepth, collate_matcher
from cross_view_loc.training.town_data import TownData

HEADING_STEP_RAD = math.radians(3.0)
"""Coarser than the localizer's: this is a curve to watch, not a result."""
Sample = dict[str, NDArray[Any]]
MakeSample = Callable[[TownData, int, PredictedDepth, np.random.Generator], Sample]


def fixed_samples(
    towns: Sequence[TownData], predicted: PredictedDepth, count: int, make_sample: MakeSample
) -> list[Sample]:
    """`count` views with their priors, the same in every run: spread evenly over all views of all towns."""
    views = [(town, index) for town in towns for index in range(len(town.images))]
    chosen = np.unique(np.linspace(0, len(views) - 1, count).round().astype(int))
    samples = []
    for index in chosen:
        town, view = views[index]
        samples.append(make_sample(town, view, predicted, np.random.default_rng([3, int(index)])))
    return samples


@torch.inference_mode()
def validate(matcher: Matcher, samples: Sequence[Sample], device: str = "cpu") -> dict[str, float]:
    """Median errors of position (m) and heading (degrees) and the share within 1 m, lifted by metric depth."""
    errors = np.array([_pose_error(matcher, sample, device) for sample in samples])
    return {
        "held_out_position_median_m": round(float(np.median(errors[:, 0])), 4),
        "held_out_heading_median_deg": round(float(np.degrees(np.median(errors[:, 1]))), 4),
        "held_out_recall_1m": round(float(np.mean(errors[:, 0] <= 1.0)), 4),
    }


def _pose_error(matcher: Matcher, sample: Mapping[str, NDArray[Any]], device: str) -> tuple[float, float]:
    batch = collate_matcher([dict(sample)])
    views = batch.views
    coarse, _ = matcher.ground(views.images.to(device), views.elevation.to(device), views.flat_inverse_depth.to(device))
    aerial = matcher.aerial(batch.patches.to(device))[0][0]
    count = coarse.descriptors.shape[1]
    points, usable = (value[0, :count].to(device) for value in batch.points["metric"])
    trust = matcher.trust_in_depth(batch.depth_m[0, :count].to(device), batch.log_spread[0, :count].to(device))[:, 0]
    weight = (coarse.log_confidence[0, :, DEPTH_KINDS.index("metric")] + trust).exp() / WEIGHT_NORM
    cells = GroundCells(coarse.descriptors[0, usable], weight[usable], points[usable])
    steps = math.ceil(HEADING_RANGE_RAD / HEADING_STEP_RAD)
    headings = torch.arange(-steps, steps + 1, device=device) * HEADING_STEP_RAD
    radius_cells = math.ceil(PRIOR_RADIUS_M / CELL_M)
    lattice = Lattice(batch.prior[0].to(device), radius_cells, headings, torch.zeros(1, device=device), 1.0)
    volume = score_lattice(aerial, cells, lattice, float(matcher.score_sharpness))[0]
    heading, up, right = np.unravel_index(int(volume.argmax()), volume.shape)
    shifts = lattice.shifts_m.cpu()
    shift = torch.stack([shifts[int(right)], shifts[int(up)]])
    turn = float(headings[int(heading)]) - float(batch.heading[0])
    return float((shift - batch.shift[0]).norm()), abs(math.remainder(turn, 2 * math.pi))
