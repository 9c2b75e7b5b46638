"""Robust alignment: planted poses, the prior's limits, fixed and prior-bound scale, degenerate input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.geometry.procrustes import Similarity, procrustes, rotate
from cross_view_loc.geometry.robust import PoseLimits, RobustSettings, align_robustly, minimal_sets, soft_inliers
from cross_view_loc.geometry.voting import vote

LIMITS = PoseLimits(torch.zeros(2), 20.0, 0.0, math.radians(12.0))


def planted(outliers: float, scale: float = 1.0, seed: int = 0, count: int = 1500):
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(count, 2, generator=generator) * 40 - torch.tensor([20.0, 0.0])
    yaw, shift = torch.tensor(0.12), torch.tensor([6.0, -9.0])
    target = scale * rotate(source, yaw) + shift + 0.3 * torch.randn(count, 2, generator=generator)
    wrong = torch.rand(count, generator=generator) < outliers
    target[wrong] = torch.rand(int(wrong.sum()), 2, generator=generator) * 80 - torch.tensor([40.0, 20.0])
    return source, target, torch.ones(count), shift


def solve(source, target, weight, settings_=None, seed=0, limits=LIMITS, judge=None):
    generator = torch.Generator().manual_seed(seed)
    return align_robustly(source, target, weight, settings_ or RobustSettings(), generator, limits, judge)


@pytest.mark.parametrize("outliers", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("points", [2, 3])
def test_planted_pose_is_found_among_outliers(outliers, points):
    source, target, weight, shift = planted(outliers)
    found = solve(source, target, weight, RobustSettings(points=points))
    assert float((found.solution.translation - shift).norm()) < 0.35
    assert float(found.solution.yaw_rad) == pytest.approx(0.12, abs=0.02)


def test_votes_find_what_minimal_sets_miss():
    """With 96 % outliers, a pair of right matches is drawn once in 600."""
    source, target, weight, shift = planted(0.96, count=6000)
    voting = solve(source, target, weight, RobustSettings(hypotheses=100, tries=1))
    assert float((voting.solution.translation - shift).norm()) < 0.5
    drawn = solve(source, target, weight, RobustSettings(hypotheses=100, tries=1, voted=0))
    assert drawn is None or drawn.score <= voting.score


def test_votes_peak_at_the_pose():
    source, target, weight, shift = planted(0.5)
    headings = torch.linspace(-0.2, 0.2, 11)
    best = vote(source, target, weight, torch.zeros(2), 20.0, headings, torch.zeros(1), 3)
    assert float((best.translation[0] - shift).norm()) < 0.8
    assert abs(float(best.yaw_rad[0]) - 0.12) <= 0.04
    assert len(best.scale) == 3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_one_product_scores_as_residuals_do(seed):
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.rand(70, 2, generator=generator) * 60 + offset for offset in (-30.0, 200.0))
    weight = torch.rand(70, generator=generator)
    draw = torch.rand(9, 4, generator=generator)
    batch = Similarity(draw[:, 0] * 6, draw[:, 1] + 0.5, draw[:, 2:] * 40 + 200)
    residual = (batch.apply(source.expand(9, -1, -1)) - target).norm(dim=-1)
    expected = (1 - (residual / 15.0) ** 2).clamp(min=0) @ weight
    assert torch.allclose(soft_inliers(batch, source, target, weight, 15.0), expected, atol=1e-3)


def test_nothing_outside_the_prior_is_returned_or_drawn():
    source, target, weight, _ = planted(0.0)
    for limits in (LIMITS._replace(centre=torch.tensor([40.0, 0.0])), LIMITS._replace(yaw_rad=1.0)):
        assert solve(source, target, weight, limits=limits) is None
    sets = minimal_sets(*planted(0.9)[:3], RobustSettings(), torch.Generator().manual_seed(0), LIMITS)
    assert 0 < len(sets.scale) <= 2000
    assert float(sets.translation.abs().max()) <= 20.0 and float(sets.yaw_rad.abs().max()) <= math.radians(12.0)
    assert float(sets.scale.log().abs().max()) <= math.log(1.25) + 1e-5


def test_scale_is_free_fixed_or_drawn_to_its_prior():
    source, target, weight, _ = planted(0.3, scale=1.1)
    free = float(solve(source, target, weight).solution.scale)
    fixed = float(solve(source, target, weight, RobustSettings(scale_range=1.0)).solution.scale)
    never = float(solve(source, target, weight, RobustSettings(log_scale_std=0.0)).solution.scale)
    held = float(solve(source, target, weight, RobustSettings(log_scale_std=5e-4)).solution.scale)
    assert free == pytest.approx(1.1, abs=0.02)
    assert fixed == never == 1.0
    assert 1.0 < held < free - 0.02


def test_unknown_scale_is_recovered():
    source, target, weight, shift = planted(0.6, scale=3.0)
    found = solve(source / 3.0 * 2.0, target, weight, RobustSettings(scale_range=8.0))
    assert float(found.solution.scale) == pytest.approx(4.5, rel=0.03)
    assert float((found.solution.translation - shift).norm()) < 0.5


def test_same_seed_same_answer():
    source, target, weight, _ = planted(0.9)
    first, again = solve(source, target, weight, seed=5), solve(source, target, weight, seed=5)
    assert torch.equal(first.solution.translation, again.solution.translation)
    assert torch.equal(first.inlier_weight, again.inlier_weight)


def test_a_judge_overrules_the_matches():
    """Two planted poses; the weaker one wins when the judge prefers it."""
    source, target, weight, shift = planted(0.0)
    target[1000:] += torch.tensor([-12.0, 8.0])
    assert float((solve(source, target, weight).solution.translation - shift).norm()) < 0.3
    other = shift + torch.tensor([-12.0, 8.0])
    judged = solve(source, target, weight, judge=lambda batch: -(batch.translation - other).norm(dim=-1))
    assert float((judged.solution.translation - other).norm()) < 0.3


@pytest.mark.parametrize("case", ["none", "one", "same point", "weightless", "not finite"])
def test_degenerate_matches_give_no_pose_and_no_nan(case):
    source, target, weight, _ = planted(0.0, count=50)
    if case in ("none", "one"):
        source, target, weight = (each[: int(case == "one")] for each in (source, target, weight))
    elif case == "same point":
        source, target = source[:1].expand(50, -1), target[:1].expand(50, -1)
    elif case == "weightless":
        weight = weight * 0
    else:
        target = target * math.nan
    found = solve(source, target, weight)
    assert found is None or bool(torch.isfinite(found.solution.translation).all())


def test_single_bad_matches_do_not_spoil_the_rest():
    source, target, weight, shift = planted(0.2)
    source[0], target[1], weight[2] = math.nan, math.inf, math.nan
    found = solve(source, target, weight)
    assert float((found.solution.translation - shift).norm()) < 0.3
    assert torch.isfinite(found.inlier_weight).all()


def test_the_scale_prior_weighs_as_bayes_would():
    """Equal variances of measurement and prior meet half-way in the log."""
    source = torch.tensor([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, -10.0]], dtype=torch.float64)
    std = 1.0 / math.sqrt(4 * 100 * 1.1**2)  # 4 matches at 10 m, 1 m of noise
    found = procrustes(source, 1.1 * source, torch.ones(4, dtype=torch.float64), True, std, 1.0)
    assert math.log(float(found.scale)) == pytest.approx(math.log(1.1) / 2, rel=1e-6)
