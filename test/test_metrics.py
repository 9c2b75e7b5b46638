"""Metrics on cases worked out by hand."""

import math

import numpy as np
import pytest

from cross_view_loc.evaluation.metrics import Truth, frame_error, summarize
from cross_view_loc.types import Estimate


def _estimate(east, north, yaw_deg, accepted=True, covariance=None):
    covariance = np.diag([0.25, 0.25, math.radians(1.0) ** 2]) if covariance is None else covariance
    return Estimate(0, east, north, math.radians(yaw_deg), covariance, accepted=accepted)


def test_lateral_is_left_and_longitudinal_is_forward():
    facing_north = Truth(10.0, 20.0, math.pi / 2)
    error = frame_error(_estimate(9.0, 23.0, 95.0), facing_north)  # one metre west = left, three north = ahead
    assert error.lateral_m == pytest.approx(1.0) and error.longitudinal_m == pytest.approx(3.0)
    assert error.position_m == pytest.approx(math.sqrt(10.0)) and error.heading_deg == pytest.approx(5.0)


def test_heading_error_wraps():
    assert frame_error(_estimate(0, 0, 179.0), Truth(0, 0, math.radians(-179.0))).heading_deg == pytest.approx(-2.0)


def test_nees_uses_the_whole_covariance():
    correlated = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    error = frame_error(_estimate(1.0, -1.0, 0.0, covariance=correlated), Truth(0, 0, 0))
    assert error.nees == pytest.approx(2.0)  # (1, −1) is an eigenvector of eigenvalue 1


def test_summary_counts_all_frames_but_covers_accepted_ones():
    errors = [frame_error(_estimate(e, 0, 0, accepted=e < 3), Truth(0, 0, 0), 8.0) for e in (0.0, 0.5, 1.5, 4.0)]
    row = summarize(errors, protocol="by hand")
    assert row["frames"] == 4 and row["accepted"] == 0.75
    assert row["position_median_m"] == pytest.approx(1.0) and row["recall_1m"] == 0.5 and row["recall_5m"] == 1.0
    assert row["coverage_95"] == pytest.approx(2 / 3, abs=1e-4)  # 1.5 m is 3 σ: outside; 4 m was refused
    assert row["nees_per_dof"] == pytest.approx((0 + 1 + 9) / 9, abs=1e-3)
    assert row["accepted_beyond_3m"] == 0.0 and row["accepted_recall_2m"] == 1.0
    assert row["prior_position_median_m"] == 8.0 and row["frame_seconds_p50"] is None


def test_summary_of_nothing_has_no_figures():
    assert summarize([])["position_median_m"] is None
