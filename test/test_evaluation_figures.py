"""Coverage, NEES, the gate's risk and the confidence's reliability: by hand, and on samples of a known Gaussian."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cross_view_loc.evaluation.metrics import (
    CHI2_50_3DOF,
    CHI2_95_3DOF,
    CHI2_99_3DOF,
    FrameError,
    Truth,
    chi2_3dof_cdf,
    frame_error,
    summarize,
)
from cross_view_loc.evaluation.risk import gate_figures, reliability, risk_coverage
from cross_view_loc.types import Estimate


def _error(position_m, confidence=math.nan, accepted=True, heading_deg=0.0):
    return FrameError(position_m, 0.0, 0.0, heading_deg, 0.0, accepted, confidence=confidence)


def _gaussian_errors(claimed_over_true, count=4000):
    """Estimates drawn about the truth from one covariance that claim another, `claimed_over_true` times as wide."""
    rng = np.random.default_rng(3)
    covariance = np.array([[0.5, 0.2, 0.01], [0.2, 0.3, 0.0], [0.01, 0.0, 0.0009]])
    truth = Truth(3.0, -2.0, 1.0)
    drawn = rng.multivariate_normal([truth.east_m, truth.north_m, truth.yaw_rad], covariance, count)
    claim = covariance * claimed_over_true**2
    return [frame_error(Estimate(0, *pose, claim, accepted=True), truth) for pose in drawn]


def test_an_honest_covariance_covers_what_it_says():
    row = summarize(_gaussian_errors(1.0))
    assert row["coverage_50"] == pytest.approx(0.50, abs=0.03)
    assert row["coverage_95"] == pytest.approx(0.95, abs=0.012)
    assert row["coverage_99"] == pytest.approx(0.99, abs=0.006)
    assert row["nees_per_dof"] == pytest.approx(1.0, abs=0.05)


def test_an_overconfident_covariance_is_seen():
    row = summarize(_gaussian_errors(0.5))
    assert row["nees_per_dof"] == pytest.approx(4.0, abs=0.2)
    # within a quarter of each quantile: what a chi-squared variable of three degrees does
    for name, quantile in (("coverage_50", CHI2_50_3DOF), ("coverage_95", CHI2_95_3DOF), ("coverage_99", CHI2_99_3DOF)):
        assert row[name] == pytest.approx(float(chi2_3dof_cdf(np.array([quantile / 4]))[0]), abs=0.03)


def test_quantiles_and_distribution_agree():
    quantiles = np.array([0.0, CHI2_50_3DOF, CHI2_95_3DOF, CHI2_99_3DOF])
    assert chi2_3dof_cdf(quantiles) == pytest.approx([0.0, 0.5, 0.95, 0.99], abs=1e-9)


def test_recall_of_both_limits_needs_both():
    errors = [_error(1.0, heading_deg=-4.0), _error(1.0, heading_deg=6.0), _error(3.0), _error(2.0, heading_deg=5.0)]
    row = summarize(errors)
    assert row["recall_2m"] == 0.75 and row["recall_5deg"] == 0.75 and row["recall_2m_5deg"] == 0.5
    assert row["right_mode"] == 0.5


def test_false_accepts_are_shares_of_the_accepted():
    errors = [_error(4.0), _error(6.0), _error(0.1), _error(0.1), _error(50.0, accepted=False)]
    row = summarize(errors)
    assert row["accepted_beyond_3m"] == 0.5 and row["accepted_beyond_5m"] == 0.25


def test_risk_coverage_by_hand():
    curve = risk_coverage([_error(9.0, 0.2), _error(0.1, 0.9), _error(5.0, 0.6), _error(0.1, 0.8)])
    assert curve.kept == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert curve.wrong == pytest.approx([0.0, 0.0, 1 / 3, 0.5])
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert curve.at(0.5) == 0.0 and curve.at(0.51) == pytest.approx(1 / 3) and curve.at(1.0) == 0.5


def test_equal_confidences_enter_together_whatever_their_order():
    errors = [_error(0.1, 0.7), _error(9.0, 0.7), _error(0.1, 0.9)]
    for order in (errors, errors[::-1]):
        curve = risk_coverage(order)
        assert curve.kept == pytest.approx([1 / 3, 1.0]) and curve.wrong == pytest.approx([0.0, 1 / 3])


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40))
def test_a_confidence_that_knows_the_error_gives_a_rising_curve(positions):
    """… the best of all areas; the opposite order a falling one; both end at the share of wrong frames."""
    knowing = risk_coverage([_error(p, 1.0 - p / 100) for p in positions])
    opposite = risk_coverage([_error(p, p / 100) for p in positions])
    assert np.all(np.diff(knowing.wrong) >= -1e-12) and np.all(np.diff(opposite.wrong) <= 1e-12)
    assert knowing.wrong[-1] == pytest.approx(np.mean([p > 2.0 for p in positions]))
    assert opposite.wrong[-1] == pytest.approx(knowing.wrong[-1]) and knowing.area <= opposite.area + 1e-12


def test_reliability_by_hand():
    errors = [_error(0.1, 0.95), _error(9.0, 0.93), _error(9.0, 0.05), _error(0.1, 0.07, heading_deg=9.0)]
    bins = reliability(errors)
    assert bins.claimed == pytest.approx([0.06, 0.94]) and bins.true == pytest.approx([0.0, 0.5])
    assert bins.frames.tolist() == [2, 2]
    assert bins.expected_error == pytest.approx((0.06 + 0.44) / 2)


def test_a_confidence_of_one_has_a_bin():
    assert reliability([_error(0.1, 1.0)]).expected_error == 0.0


def test_without_confidences_the_gate_has_no_figures():
    for errors in ([], [_error(1.0)]):
        figures = gate_figures(errors)
        assert figures["risk_coverage_area"] is None and figures["confidence_ece"] is None
        assert figures["reliability"] == [] and figures["risk_coverage"][0] == [0.1, None]
