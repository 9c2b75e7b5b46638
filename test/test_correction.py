"""How map → odom moves: at once or within its limits, about the vehicle and not about odom's origin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.geometry.transforms import rotation_z, transform, yaw_of
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.tracking.correction import Correction, CorrectionLimits


def planar(x: float, y: float, yaw_rad: float):
    return transform(rotation_z(yaw_rad), (x, y, 0.0))


def test_jump_shows_what_the_estimate_asks_for() -> None:
    correction = Correction()
    assert correction.at(NS_PER_S, np.eye(4)) is None
    correction.aim(planar(1.0, 2.0, 0.1))
    correction.at(NS_PER_S, np.eye(4))
    correction.aim(planar(4.0, 2.0, 0.3))
    np.testing.assert_allclose(correction.at(NS_PER_S, np.eye(4)), planar(4.0, 2.0, 0.3))


def test_a_turn_does_not_swing_a_vehicle_far_from_odoms_origin() -> None:
    """Target: the same place, turned by 2 degrees; the vehicle, 500 m from odom's origin, must stay where it is."""
    correction = Correction(CorrectionLimits(1.0, math.radians(1.0)))
    T_odom_base = planar(500.0, 0.0, 0.3)
    correction.aim(np.eye(4))
    correction.at(NS_PER_S, T_odom_base)
    wanted = T_odom_base.copy()
    wanted[:3, :3] = rotation_z(0.3 + math.radians(2.0))
    correction.aim(wanted @ np.linalg.inv(T_odom_base))
    shown = correction.at(2 * NS_PER_S, T_odom_base) @ T_odom_base
    np.testing.assert_allclose(shown[:3, 3], T_odom_base[:3, 3], atol=1e-6)
    assert math.degrees(yaw_of(shown)) == pytest.approx(math.degrees(0.3) + 1.0, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(-4.0, 4.0), st.floats(-2.9, 2.9), st.floats(-3.0, 3.0), st.floats(-8.0, 8.0), st.floats(0.1, 1.0))
def test_never_faster_than_its_limits_and_there_in_the_end(x, y, yaw, place, step_s) -> None:
    limits = CorrectionLimits(1.5, math.radians(20.0), jump_m=1e9)
    correction = Correction(limits)
    T_odom_base = planar(place, -place, yaw / 2)
    correction.aim(planar(3.0, 4.0, 0.5))
    last = correction.at(NS_PER_S, T_odom_base) @ T_odom_base
    correction.aim(planar(3.0 + x, 4.0 + y, 0.5 + yaw / 4))
    stamp = NS_PER_S
    for _ in range(150):
        stamp += round(step_s * NS_PER_S)
        shown = correction.at(stamp, T_odom_base) @ T_odom_base
        assert np.linalg.norm((shown - last)[:3, 3]) <= 1.5 * step_s * 1.001 + 1e-9
        turn_rad = abs(math.remainder(yaw_of(shown) - yaw_of(last), 2 * math.pi))
        assert turn_rad <= math.radians(20.0) * step_s * 1.001 + 1e-9
        last = shown
        if np.allclose(shown, planar(3.0 + x, 4.0 + y, 0.5 + yaw / 4) @ T_odom_base, atol=1e-9):
            return
    pytest.fail("never arrived")


def test_far_corrections_are_made_at_once() -> None:
    correction = Correction(CorrectionLimits(1.0, 0.1, jump_m=5.0))
    correction.aim(np.eye(4))
    correction.at(NS_PER_S, np.eye(4))
    correction.aim(planar(6.0, 0.0, 0.0))
    np.testing.assert_allclose(correction.at(NS_PER_S + 1, np.eye(4)), planar(6.0, 0.0, 0.0))
