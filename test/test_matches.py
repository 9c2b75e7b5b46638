"""Drawn and guided matches on descriptors whose true pose is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from cross_view_loc.geometry.procrustes import rotate
from cross_view_loc.geometry.robust import PoseLimits, RobustSettings, align_robustly
from cross_view_loc.matching.consensus import GroundCells, Layer, body_to_patch, grid_position
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.matching.guided import refine_by_matches
from cross_view_loc.matching.matches import consensus_judge, draw_distinct, draw_matches, match_scores

CELLS, TRUTH = 40, torch.tensor([2.3, -3.1, 0.06, 0.0])
PATCH_M = CELLS * CELL_M
LIMITS = PoseLimits(torch.zeros(2), 6.0, 0.0, math.radians(10.0))


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, GroundCells]:
    """Smooth random descriptors; ground cells see, with noise, what lies at their true place."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 32, CELLS // 2, CELLS // 2, generator=generator)
    aerial = F.normalize(F.interpolate(coarse, size=(CELLS, CELLS), mode="bilinear"), dim=1)[0]
    points = torch.rand(500, 2, generator=generator) * torch.tensor([12.0, 16.0]) - torch.tensor([0.0, 8.0])
    placed = rotate(body_to_patch(points), TRUTH[2]) + TRUTH[:2]
    row, column = grid_position(placed, CELLS)
    grid = torch.stack([column, row], -1)[None, None] * (2 / (CELLS - 1)) - 1
    seen = F.grid_sample(aerial[None], grid, align_corners=True)[0, :, 0].T
    seen = F.normalize(seen + 0.1 * torch.randn(seen.shape, generator=generator), dim=1)
    return aerial, GroundCells(seen, torch.full((500,), 0.02), points)


def draw(scene, **options):
    return draw_matches(*scene, 12.0, torch.Generator().manual_seed(3), **options)


def test_no_pair_is_drawn_twice_and_a_seed_fixes_the_draw(scene):
    first, again = draw(scene, count=1000), draw(scene, count=1000)
    pairs = torch.cat([first.ground_index[:, None].float(), first.points_patch], 1)
    assert len(torch.unique(pairs, dim=0)) == 1000
    assert torch.equal(first.points_patch, again.points_patch)
    assert bool((first.weight == 1).all()) and not bool((draw(scene, weigh_again=True).weight == 1).all())


def test_draws_are_in_proportion_to_what_is_left():
    score = torch.tensor([0.0, 8.0, 4.0, 2.0, 1.0, 1.0])
    generator = torch.Generator().manual_seed(5)
    firsts, seconds_after_1 = torch.zeros(6), torch.zeros(6)
    for _ in range(4000):
        first, *later = draw_distinct(score, 2, generator).tolist()
        firsts[first] += 1
        if first == 1 and later:
            seconds_after_1[later[0]] += 1
    assert torch.allclose(firsts / firsts.sum(), score / 16, atol=0.03)
    left = torch.tensor([0.0, 0.0, 4.0, 2.0, 1.0, 1.0]) / 8
    assert torch.allclose(seconds_after_1 / seconds_after_1.sum(), left, atol=0.04)


def test_nothing_is_drawn_from_nothing():
    assert len(draw_distinct(torch.zeros(4), 3, torch.Generator().manual_seed(0))) == 0


def test_limits_leave_only_reachable_pairs(scene):
    near = draw(scene, count=3000, limits=LIMITS)
    away = (near.points_patch - body_to_patch(near.points_body)).abs().amax(1)
    reach = 6.0 + 0.4 + 2 * math.sin(math.radians(5.0)) * near.points_body.norm(dim=1)
    assert bool((away <= reach + 1e-4).all())


def test_cells_without_imagery_are_never_matched(scene):
    aerial, ground = scene
    half = aerial.clone()
    half[:, :, : CELLS // 2] = 0
    scores = match_scores(half, ground, 12.0, both_ways=True).view(500, CELLS, CELLS)
    assert float(scores[:, :, : CELLS // 2].max()) == 0.0
    assert torch.isfinite(scores).all() and float(scores.sum()) > 0


def test_drawn_matches_align_to_the_truth(scene):
    drawn = draw(scene, count=2000, limits=LIMITS)
    judge = consensus_judge([Layer(*scene, 10.0)], PATCH_M, 0.02)
    source = body_to_patch(drawn.points_body)
    for chosen in (None, judge):
        generator = torch.Generator().manual_seed(0)
        found = align_robustly(
            source, drawn.points_patch, drawn.weight, RobustSettings(shortest_base_m=3.0), generator, LIMITS, chosen
        )
        assert float((found.solution.translation - TRUTH[:2]).norm()) < 0.4
        assert float(found.solution.yaw_rad) == pytest.approx(0.06, abs=0.04)


def test_guided_matches_pull_a_mode_to_the_truth(scene):
    start = TRUTH + torch.tensor([0.5, -0.4, 0.03, 0.01])
    found = refine_by_matches([Layer(*scene, 10.0)], start, PATCH_M, 12.0, 0.02)
    assert float((found.pose[:2] - TRUTH[:2]).norm()) < 0.25
    assert abs(float(found.pose[2]) - 0.06) < 0.02
    assert torch.isfinite(found.covariance).all()
    held = refine_by_matches([Layer(*scene, 10.0)], start, PATCH_M, 12.0, 0.0001)
    assert abs(float(held.pose[3])) <= 0.01 + 1e-6


def test_a_mode_off_the_imagery_is_returned_as_it_is(scene):
    start = torch.tensor([500.0, 0.0, 0.0, 0.0])
    found = refine_by_matches([Layer(*scene, 10.0)], start, PATCH_M, 12.0, 0.02)
    assert torch.equal(found.pose, start)
