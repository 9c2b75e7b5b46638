"""The comparison of estimators: every baseline solves what it should, and the rows say what was measured."""

import math

import pytest
import torch

from cross_view_loc.evaluation.estimators import ESTIMATORS, compare, planted_problems


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "Procrustes alone"])
def test_every_robust_estimator_solves_a_mild_case(name):
    for problem in planted_problems(0.3, 2):
        found = ESTIMATORS[name](problem, torch.Generator().manual_seed(0))
        assert found is not None
        x, y = found.translation.tolist()
        assert math.hypot(x - problem.truth[0], y - problem.truth[1]) < 0.6
        assert float(found.yaw_rad) == pytest.approx(problem.truth[2], abs=0.03)


def test_rows_tell_estimators_apart():
    rows = {row["estimator"]: row for row in compare(planted_problems(0.6, 3))}
    assert rows["ours"]["recall_1m"] == 1.0 and rows["ours"]["frames"] == 3
    assert rows["Procrustes alone"]["position_median_m"] > 5 * rows["ours"]["position_median_m"]
    assert "ours, judged by consensus" not in rows  # planted matches have no dense score


def test_planted_problems_are_reproducible_and_hold_their_outliers():
    first, again = planted_problems(0.9, 1)[0], planted_problems(0.9, 1)[0]
    assert torch.equal(first.target, again.target)
    assert max(abs(first.truth[0]), abs(first.truth[1])) <= 18.0
