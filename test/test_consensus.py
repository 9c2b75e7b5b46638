"""The consensus: exact on its lattice, right in its signs, honest in its covariance."""

import math

import pytest
import torch
import torch.nn.functional as F

from cross_view_loc.geometry.procrustes import rotate
from cross_view_loc.matching.consensus import (
    GroundCells,
    Lattice,
    Layer,
    body_to_patch,
    fft_size,
    grid_position,
    score_lattice,
    score_poses,
)
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.matching.matches import cell_centres, guided_matches
from cross_view_loc.matching.modes import Mode, find_peaks, refine
from cross_view_loc.matching.posterior import Calibration, heaviest, mass_near, reweigh, summarize
from cross_view_loc.matching.search import log_scales

CELLS, SHARPNESS = 60, 4.0


@pytest.fixture(scope="module")
def scene():
    """A smooth random aerial map and ground cells that saw it from a planted pose (right, up, heading, log-scale)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 8, CELLS, CELLS, generator=generator)
    aerial = F.normalize(F.avg_pool2d(noise, 5, 1, 2)[0], dim=0)
    points = torch.rand(400, 2, generator=generator) * torch.tensor([18.0, 20.0]) + torch.tensor([2.0, -10.0])
    truth = torch.tensor([2.3, -3.1, math.radians(4.3), 0.05])
    placed = rotate(body_to_patch(points) * truth[3].exp(), truth[2]) + truth[:2]
    row, column = grid_position(placed, CELLS)
    grid = torch.stack([column, row], -1) * 2 / (CELLS - 1) - 1
    seen = F.grid_sample(aerial[None], grid[None, None], align_corners=True)[0, :, 0].T
    ground = GroundCells(F.normalize(seen, dim=1), torch.full((400,), 0.05), points)
    lattice = Lattice(
        torch.tensor([1.0, -1.0]), 8, torch.deg2rad(torch.linspace(-10, 10, 11)), torch.tensor([-0.06, 0.0, 0.06]), 0.05
    )
    return aerial, ground, lattice, truth


def test_the_lattice_score_equals_the_score_of_its_poses(scene):
    aerial, ground, lattice, _ = scene
    volume = score_lattice(aerial, ground, lattice, SHARPNESS)
    shifts = lattice.shifts_m
    for s, k, j, i in ((0, 0, 0, 16), (1, 5, 8, 8), (2, 10, 3, 12), (1, 7, 16, 0)):
        pose = torch.tensor([1.0 + shifts[i], -1.0 + shifts[j], lattice.headings_rad[k], lattice.log_scales[s]])
        exact = score_poses([Layer(aerial, ground, SHARPNESS)], pose[None], CELLS * CELL_M, lattice.log_scale_std)
        if not torch.isfinite(volume[s, k]).any():  # hopeless headings are scored at the likeliest scale alone
            assert s != 1 and float(volume[1, k].max()) < float(volume[1].max()) - 9.9
            continue
        assert float(volume[s, k, j, i]) == pytest.approx(float(exact), abs=1e-3)


def test_refinement_finds_the_planted_pose(scene):
    aerial, ground, lattice, truth = scene
    peaks = find_peaks(score_lattice(aerial, ground, lattice, SHARPNESS), lattice, 3)
    modes = [refine([Layer(aerial, ground, SHARPNESS)], peak, CELLS * CELL_M, 0.5) for peak in peaks]
    best = max(modes, key=lambda mode: mode.score)
    assert (best.pose[:2] - truth[:2]).norm() < CELL_M / 4
    assert float(best.pose[2]) == pytest.approx(float(truth[2]), abs=math.radians(0.4))
    assert float(best.pose[3]) == pytest.approx(float(truth[3]), abs=0.02)


def test_a_finer_layer_lies_over_the_coarse_one(scene):
    """Descriptors of cells half the size, over the same ground, put the maximum at the same pose."""
    aerial, _, _, truth = scene
    fine = F.interpolate(aerial[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    points = torch.rand(600, 2, generator=torch.Generator().manual_seed(3)) * 18.0 + torch.tensor([1.0, -9.0])
    placed = rotate(body_to_patch(points) * truth[3].exp(), truth[2]) + truth[:2]
    grid = placed * torch.tensor([2.0, -2.0]) / (CELLS * CELL_M)
    seen = F.grid_sample(fine[None], grid[None, None], align_corners=False)[0, :, 0].T
    ground = GroundCells(F.normalize(seen, dim=1), torch.full((600,), 0.05), points)
    for features in (aerial, fine):
        start = truth + torch.tensor([0.7, -0.6, 0.02, 0.01])
        mode = refine([Layer(features, ground, SHARPNESS)], start, CELLS * CELL_M, 0.5)
        assert (mode.pose[:2] - truth[:2]).norm() < CELL_M / 5


def test_the_fine_layer_moves_mass_between_modes(scene):
    _, _, lattice, _ = scene
    volume = torch.full((3, 11, 17, 17), -10.0)
    volume[1, 5, 4, 4], volume[1, 5, 12, 12] = 6.0, 5.0
    poses = [torch.tensor([1.0 + lattice.shifts_m[i], -1.0 + lattice.shifts_m[i], 0.0, 0.0]) for i in (4, 12)]
    modes = [Mode(pose, 0.0, torch.eye(4)) for pose in poses]
    before = [mass_near(volume, lattice, pose, 1.0) for pose in poses]
    assert before[0] > 2 * before[1]
    changed = reweigh(volume, lattice, modes, torch.tensor([-40.0, -34.0]), share=0.5)
    after = [mass_near(changed, lattice, pose, 1.0) for pose in poses]
    assert after[1] / after[0] == pytest.approx(before[1] / before[0] * math.exp(3.0), rel=1e-3)


def test_body_axes_point_where_the_vehicle_looks():
    """Facing patch-up, forward is up and left is −right; a counter-clockwise heading turns forward to the left."""
    forward, left = body_to_patch(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert forward.tolist() == [0.0, 1.0] and left.tolist() == [-1.0, 0.0]
    turned = rotate(forward[None], torch.tensor(math.radians(90.0)))[0]
    assert turned.tolist() == pytest.approx([-1.0, 0.0], abs=1e-6)


def test_grid_positions_and_cell_centres_are_inverse():
    row, column = grid_position(cell_centres(CELLS), CELLS)
    index = torch.arange(CELLS * CELLS)
    assert torch.allclose(row, (index // CELLS).float(), atol=1e-4)
    assert torch.allclose(column, (index % CELLS).float(), atol=1e-4)
    assert cell_centres(CELLS)[0, 1] == pytest.approx((CELLS - 1) / 2 * CELL_M)  # first row is the top: up is positive


def test_fft_never_wraps():
    for cells, radius in ((100, 25), (60, 8), (130, 25)):
        assert fft_size(cells, radius) >= cells + radius


def test_guided_matches_agree_at_the_truth_and_not_elsewhere(scene):
    aerial, ground, _, truth = scene
    matches, ratio = guided_matches(aerial, ground, truth, 12.0)
    _, elsewhere = guided_matches(aerial, ground, truth + torch.tensor([6.0, 5.0, 0.0, 0.0]), 12.0)
    placed = rotate(body_to_patch(matches.points_body) * truth[3].exp(), truth[2]) + truth[:2]
    assert float((matches.points_patch - placed).norm(dim=1).median()) < CELL_M
    assert ratio > 0.9 > elsewhere + 0.2


def _gaussian_volume(lattice, centre, std_m):
    shifts = lattice.shifts_m
    right, up = lattice.prior[0] + shifts, lattice.prior[1] + shifts
    shape = -((right[None] - centre[0]) ** 2 + (up[:, None] - centre[1]) ** 2) / (2 * std_m**2)
    heading = -(lattice.headings_rad**2) / (2 * math.radians(1.5) ** 2)
    return (shape[None] + heading[:, None, None])[None]


def test_posterior_of_one_mode_is_confident_and_two_modes_share():
    lattice = Lattice(torch.zeros(2), 20, torch.deg2rad(torch.linspace(-10, 10, 11)), torch.zeros(1), 0.05)
    laplace = torch.diag(torch.tensor([0.36, 0.36, math.radians(1.5) ** 2, 1e-4]))
    single = _gaussian_volume(lattice, (1.0, -2.0), 0.6)
    mode = Mode(torch.tensor([1.0, -2.0, 0.0, 0.0]), 0.0, laplace)
    alone = summarize(single, lattice, mode, Calibration())
    assert alone.confidence > 0.95
    twin = torch.logaddexp(single, _gaussian_volume(lattice, (1.0, 9.0), 0.6))
    shared = summarize(twin, lattice, mode, Calibration())
    assert shared.confidence == pytest.approx(alone.confidence / 2, rel=0.05)
    # The twin lies 11 m up with half of the mass: the Gaussian that leaves the node must say so, in that direction.
    assert float(shared.covariance[1, 1]) == pytest.approx(0.5 * 11.0**2, rel=0.1)
    assert float(shared.covariance[0, 0]) < 1.0


def test_a_neighbouring_mode_widens_the_covariance_along_its_direction():
    lattice = Lattice(torch.zeros(2), 20, torch.deg2rad(torch.linspace(-10, 10, 11)), torch.zeros(1), 0.05)
    laplace = torch.diag(torch.tensor([0.09, 0.09, math.radians(1.5) ** 2, 1e-4]))
    volume = torch.logaddexp(_gaussian_volume(lattice, (0.0, 0.0), 0.3), _gaussian_volume(lattice, (0.0, 2.4), 0.3))
    posterior = summarize(volume, lattice, Mode(torch.zeros(4), 0.0, laplace), Calibration())
    assert float(posterior.covariance[1, 1]) > 5 * float(posterior.covariance[0, 0])
    tall_but_empty = Mode(torch.tensor([9.0, 9.0, 0.0, 0.0]), 5.0, laplace)
    chosen = heaviest(volume, lattice, [tall_but_empty, Mode(torch.zeros(4), 0.0, laplace)], 1.0)
    assert chosen.score == 0.0, "the mass decides, not the height of a peak"


@pytest.mark.parametrize("std", [0.03, 0.05, 0.1, 0.2, 0.9])
def test_scales_of_the_lattice_reach_far_enough_and_leave_no_gap(std):
    """Refinement bridges a few percent: wider steps would miss the true scale between two."""
    scales = log_scales(std)
    assert 0.0 in scales.tolist() and torch.allclose(scales, -scales.flip(0))
    assert float(scales[-1]) == pytest.approx(1.2 * std, rel=1e-5)
    assert float(scales.diff().max()) <= 0.1
