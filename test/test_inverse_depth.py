"""Inverse depth of unknown scale and shift: found from the road and the sky, and honest where they say little."""

import math

import numpy as np
import pytest

from cross_view_loc.depth.inverse import MODEL_LOG_SPREAD, fit_inverse
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import View

RAYS = View(200.0).rays(4, 8)


def geometry(tilt_deg: float = 4.0) -> ViewGeometry:
    return ViewGeometry(transform(rpy(0, math.radians(tilt_deg), 0) @ R_BODY_OPTICAL, [1.5, 0.0, 1.6]), np.eye(3), 1.6)


FLAT = geometry().flat_inverse_depth(RAYS)
NEAR = FLAT > 1 / 20


def street(wall_m: float = 0.0) -> np.ndarray:
    """1 / z of a road with a wall along the left, one ahead if wanted, and sky above."""
    inverse = FLAT.copy()
    inverse[:, :10] = np.maximum(inverse[:, :10], 1 / 6.0)
    return np.maximum(inverse, 1 / wall_m) if wall_m else inverse


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (300.0, -40.0), (1e-3, 5.0)])
def test_a_and_b_are_found_beside_a_wall(a, b):
    fit = fit_inverse(a * street() + b, FLAT)
    assert fit is not None
    assert fit.a == pytest.approx(a, rel=0.02)
    assert (fit.b - b) / a == pytest.approx(0.0, abs=0.003)  # 20 m become 21 at most
    z_m, log_spread = fit.depth(a * street() + b)
    np.testing.assert_allclose(z_m[NEAR], 1 / street()[NEAR], rtol=0.06)
    assert (z_m[:4, 10:] == 0).all(), "the sky has no depth"
    assert (log_spread >= MODEL_LOG_SPREAD - 1e-9).all()


def test_a_wall_ahead_is_not_taken_for_the_sky():
    fit = fit_inverse(2.0 * street(wall_m=12.0) + 1.0, FLAT)
    assert fit is not None
    assert fit.a == pytest.approx(2.0, rel=0.05)
    assert (fit.b - 1.0) / 2.0 == pytest.approx(0.0, abs=0.012)
    assert abs(fit.b - 1.0) < 3 * math.sqrt(fit.covariance[1, 1])


def test_noise_averages_out_and_the_errors_are_within_their_deviations():
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        seen = geometry(4.0 + rng.normal(0, 0.4)).flat_inverse_depth(RAYS)  # tilted otherwise than believed
        inverse = np.where(FLAT > 0, seen, 0.0) * np.exp(rng.normal(0, 0.08, FLAT.shape))
        inverse[:, :10] = np.maximum(inverse[:, :10], 1 / 6.0)
        fit = fit_inverse(7.0 * inverse - 2.0, FLAT)
        assert fit is not None
        error = np.array([fit.a - 7.0, fit.b + 2.0])
        errors.append(error @ np.linalg.solve(fit.covariance, error))
        assert abs(math.log(fit.a / 7.0)) < 0.06
    assert np.mean(errors) < 6.0  # 2 is right, a third of the deviation too small is not


def test_what_is_uncertain_grows_with_the_distance():
    value = 2.0 * street() + 1.0
    fit = fit_inverse(value + np.random.default_rng(1).normal(0, 0.01, value.shape), FLAT)
    assert fit is not None
    near, far = fit.relative_std(np.array(5.0)), fit.relative_std(np.array(35.0))
    assert 0.0 < near < 0.06 and far > 3 * near
    z_m, log_spread = fit.depth(value)
    assert log_spread[z_m > 30].mean() > log_spread[(z_m > 0) & (z_m < 10)].mean() + 0.2


@pytest.mark.parametrize(
    "value", [np.zeros((48, 40)), np.full((48, 40), np.nan), -FLAT, np.random.default_rng(0).normal(size=(48, 40))]
)
def test_without_a_road_there_is_no_fit(value):
    assert fit_inverse(value, FLAT) is None
