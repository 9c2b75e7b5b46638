"""Where the node looks: signs of headings, the lever arm, dead reckoning, and the rule's independence of arrival."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.inputs.fixes import Fix, read_fix
from cross_view_loc.inputs.priors import PriorTracker
from cross_view_loc.settings import Settings

PROJECTION = MapProjection(MapOrigin(49.0, 8.4, 110.0))
SECOND = 1_000_000_000


def fix_at(time_s: float, east: float, north: float, std_m: float = 1.0) -> Fix:
    latitude, longitude, _ = PROJECTION.to_geodetic(east, north, 0.0)
    covariance = np.eye(2) * std_m**2
    return Fix(round(time_s * SECOND), float(latitude), float(longitude), 110.0, covariance, "antenna")


def odometry(x: float, y: float, yaw: float) -> np.ndarray:
    return transform(rotation_z(yaw), (x, y, 0.0))


def tracker(**values) -> PriorTracker:
    return PriorTracker(PROJECTION, Settings(**values))


def test_fix_alone_gives_its_place_and_all_headings() -> None:
    priors = tracker(heading_source="none")
    priors.add_fix(fix_at(1.0, 12.0, -7.0))
    prior = priors.prior(SECOND + SECOND // 2)
    assert (prior.east_m, prior.north_m) == pytest.approx((12.0, -7.0), abs=1e-3)
    assert prior.yaw_range_rad == math.pi and prior.radius_m == 20.0
    assert prior.stamp_ns == SECOND + SECOND // 2


def test_heading_is_interpolated_across_the_wrap() -> None:
    priors = tracker(imu_topic="imu", heading_range_deg=8.0)
    priors.add_fix(fix_at(1.0, 0.0, 0.0))
    priors.add_heading(round(1.0 * SECOND), math.radians(178.0))
    priors.add_heading(round(1.1 * SECOND), math.radians(-178.0))
    prior = priors.prior(round(1.075 * SECOND))
    assert math.degrees(prior.yaw_rad) == pytest.approx(-179.0, abs=1e-6)
    assert math.degrees(prior.yaw_range_rad) == pytest.approx(8.0)


def test_lever_arm_is_turned_by_the_heading() -> None:
    priors = tracker(imu_topic="imu")
    priors.add_heading(SECOND, math.pi / 2)  # facing north
    priors.add_fix(fix_at(1.0, 10.0, 20.0), antenna_in_base_m=(-1.0, 0.5, 1.6))
    prior = priors.prior(SECOND)
    # The antenna is 1 m behind (south) and 0.5 m to the left (west) of base_link.
    assert (prior.east_m, prior.north_m) == pytest.approx((10.5, 21.0), abs=1e-3)


def test_odometry_carries_the_fix_to_the_image_in_map_axes() -> None:
    priors = tracker(imu_topic="imu", odometry_topic="odom")
    priors.add_fix(fix_at(1.0, 100.0, 50.0), antenna_in_base_m=(1.0, 0.0, 0.0))
    # Odometry counts from its own start: it faces along its x axis while the vehicle faces north.
    for time_s in (0.9, 1.0, 1.1, 1.2, 1.3):
        priors.add_odometry(round(time_s * SECOND), odometry(10.0 * (time_s - 0.9), 0.0, 0.0))
        priors.add_heading(round(time_s * SECOND), math.pi / 2)
    prior = priors.prior(round(1.25 * SECOND))
    assert (prior.east_m, prior.north_m) == pytest.approx((100.0, 50.0 - 1.0 + 2.5), abs=1e-3)


@pytest.mark.parametrize("yaw_deg", [0.0, 90.0, 200.0, -30.0])
def test_course_over_ground_is_the_heading(yaw_deg: float) -> None:
    priors = tracker(fix_min_std_m=0.5, heading_range_deg=5.0)
    yaw = math.radians(yaw_deg)
    for step in range(8):
        priors.add_fix(fix_at(1.0 + step, 3.0 * step * math.cos(yaw), 3.0 * step * math.sin(yaw), std_m=0.2))
    prior = priors.prior(8 * SECOND)
    assert math.remainder(prior.yaw_rad - yaw, 2 * math.pi) == pytest.approx(0.0, abs=1e-4)
    assert prior.yaw_range_rad == pytest.approx(max(math.radians(5.0), math.atan2(2.5 * math.hypot(0.5, 0.5), 12.0)))


def test_auto_is_the_course_as_long_as_no_imu_gives_a_heading() -> None:
    priors = tracker(imu_topic="imu")
    for step in range(8):
        priors.add_fix(fix_at(1.0 + step, 3.0 * step, 0.0))
    assert priors.prior(8 * SECOND).yaw_range_rad < math.pi
    priors.add_heading(3 * SECOND, 1.0)
    assert priors.prior(8 * SECOND).yaw_range_rad == math.pi, "a gap of the Imu is not filled with something worse"


@pytest.mark.parametrize("values", [{"heading_source": "none"}, {}, {"odometry_topic": "odom"}])
def test_without_odometry_the_fix_is_carried_by_its_velocity(values: dict) -> None:
    priors = tracker(max_fix_age_s=3.0, **values)
    for step in range(9):
        priors.add_fix(fix_at(1.0 + 0.25 * step, 20.0 * 0.25 * step, -4.0 * 0.25 * step))
    prior = priors.prior(round(5.5 * SECOND))
    assert (prior.east_m, prior.north_m) == pytest.approx((20.0 * 4.5, -4.0 * 4.5), abs=0.01)


def test_fixes_too_near_or_too_old_tell_no_velocity() -> None:
    for before_s in (0.1, 8.0):
        priors = tracker(heading_source="none")
        priors.add_fix(fix_at(10.0 - before_s, 0.0, 0.0))
        priors.add_fix(fix_at(10.0, 5.0, 0.0))
        assert priors.prior(12 * SECOND).east_m == pytest.approx(5.0, abs=0.01)


def test_course_needs_distance() -> None:
    priors = tracker(course_min_distance_m=10.0)
    for step in range(8):
        priors.add_fix(fix_at(1.0 + step, 1.0 * step, 0.0))
    assert priors.prior(8 * SECOND).yaw_range_rad == math.pi


def test_course_with_odometry_holds_when_reversing() -> None:
    priors = tracker(odometry_topic="odom")
    # The vehicle faces west (pi) and rolls back to the east; its odometry started with yaw 0.
    for step in range(60):
        time_s = 1.0 + 0.1 * step
        priors.add_odometry(round(time_s * SECOND), odometry(-0.4 * step, 0.0, 0.0))
        if step % 10 == 0:
            priors.add_fix(fix_at(time_s, 0.4 * step, 5.0))
    prior = priors.prior(round(6.5 * SECOND))
    assert abs(math.remainder(prior.yaw_rad - math.pi, 2 * math.pi)) < 1e-3
    assert prior.east_m == pytest.approx(0.4 * 55, abs=0.01)


def test_ready_when_heading_and_odometry_have_reached_the_image() -> None:
    priors = tracker(imu_topic="imu", odometry_topic="odom")
    priors.add_fix(fix_at(1.0, 0.0, 0.0))
    assert not priors.ready(SECOND)
    priors.add_heading(SECOND, 0.0)
    assert not priors.ready(SECOND)
    priors.add_odometry(SECOND, np.eye(4))
    assert priors.ready(SECOND) and not priors.ready(SECOND + 1)
    assert tracker().ready(SECOND), "without heading or odometry there is nothing to wait for"


def test_a_later_fix_does_not_count() -> None:
    priors = tracker(heading_source="none")
    priors.add_fix(fix_at(1.0, 1.0, 0.0))
    priors.add_fix(fix_at(2.0, 2.0, 0.0))
    assert priors.prior(2 * SECOND - 1).east_m == pytest.approx(1.0, abs=1e-3)
    assert priors.prior(2 * SECOND).east_m == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ("time_s", "std_m", "error", "text"),
    [
        (0.5, 1.0, MissingInputError, "no valid fix on gnss/fix before the image"),
        (9.0, 1.0, MissingInputError, "8.0 s older than the image"),
        (1.0, 50.0, InputError, "standard deviation of 50.0 m"),
    ],
)
def test_no_usable_fix_is_one_sentence(time_s: float, std_m: float, error: type, text: str) -> None:
    priors = tracker()
    priors.add_fix(fix_at(1.0, 0.0, 0.0, std_m))
    with pytest.raises(error, match=text):
        priors.prior(round(time_s * SECOND))


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["imu", "odometry", "course"]))
def test_order_of_arrival_does_not_matter(seed: int, source: str) -> None:
    def filled(shuffled: bool) -> PriorTracker:
        priors = tracker(imu_topic="imu", odometry_topic="odom", heading_source=source)
        calls = []
        for step in range(100):
            stamp, x = 5 * SECOND + step * SECOND // 50, 0.3 * step
            calls.append((priors.add_heading, (stamp, 0.01 * step)))
            calls.append((priors.add_odometry, (stamp + 3_000_000, odometry(x, 0.002 * step**2, 0.012 * step))))
            if step % 10 == 0:
                calls.append((priors.add_fix, (fix_at(stamp / SECOND, x, 0.5 * x), (0.4, 0.1, 1.0))))
        if shuffled:
            random.Random(seed).shuffle(calls)
        for add, values in calls:
            add(*values)
        return priors

    stamp = 5 * SECOND + 1_234_567_890 + seed
    assert filled(shuffled=False).prior(stamp) == filled(shuffled=True).prior(stamp)


def nav_sat_fix(**changes) -> SimpleNamespace:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=5), frame_id="antenna")
    values = dict(latitude=49.0, longitude=8.4, altitude=110.0, position_covariance=[4.0, 0, 0, 0, 9.0, 0, 0, 0, 16.0])
    values |= dict(header=header, status=SimpleNamespace(status=0), position_covariance_type=2) | changes
    return SimpleNamespace(**values)


def test_fix_message_is_read() -> None:
    fix = read_fix(nav_sat_fix())
    assert fix.stamp_ns == 7 * SECOND + 5 and fix.frame_id == "antenna"
    assert fix.std_m(0.5) == pytest.approx(3.0) and fix.std_m(5.0) == 5.0


@pytest.mark.parametrize(
    "changes",
    [
        {"position_covariance_type": 0},
        {"position_covariance": [0.0] * 9},
        {"position_covariance": [math.nan] * 9},
        {"position_covariance": [-1.0] + [0.0] * 8},
    ],
)
def test_useless_covariance_counts_as_unknown(changes: dict) -> None:
    fix = read_fix(nav_sat_fix(**changes))
    assert fix.covariance is None and fix.std_m(1.5) == 1.5


def test_unset_status_is_not_no_fix() -> None:
    assert read_fix(nav_sat_fix(status=SimpleNamespace(status=-2))).latitude_deg == 49.0


def test_nan_altitude_is_no_obstacle() -> None:
    priors = tracker(heading_source="none")
    priors.add_fix(read_fix(nav_sat_fix(altitude=math.nan)))
    prior = priors.prior(8 * SECOND)
    assert (prior.east_m, prior.north_m) == pytest.approx((0.0, 0.0), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": SimpleNamespace(status=-1)}, "NO_FIX"),
        ({"latitude": math.nan}, "latitude nan"),
        ({"longitude": math.inf}, "longitude inf"),
        ({"latitude": 91.0}, "latitude 91"),
        ({"latitude": 0.0, "longitude": 0.0}, "no position yet"),
    ],
)
def test_fix_without_position_is_refused(changes: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_fix(nav_sat_fix(**changes))
