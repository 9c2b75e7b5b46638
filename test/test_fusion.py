"""The reference filter: increments in the body, lever arms, late measurements, wrapping yaw, honest covariance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.evaluation.fusion_filter import (
    HISTORY_NS,
    Measurement,
    OdometryNoise,
    PoseFilter,
    State,
    information_share,
    measured,
    moved,
)

SECOND = 1_000_000_000
STEP_NS = SECOND // 10
TIGHT = OdometryNoise(0.0, 0.0, 0.0)


def start(mean=(0.0, 0.0, 0.0), std=(0.01, 0.01, 0.001)) -> State:
    return State(0, np.array(mean, dtype=float), np.diag(np.square(std)))


def circle(seconds: float, speed_mps: float = 8.0, turn_rad_s: float = 0.2, yaw: float = 2.0) -> list[np.ndarray]:
    """True poses (3,) every 0.1 s; the heading runs over ±π on the way."""
    poses = [np.array([100.0, -50.0, yaw])]
    for _ in range(round(seconds * 10)):
        x, y, heading = poses[-1]
        step = speed_mps / 10
        poses.append(
            np.array(
                [
                    x + step * math.cos(heading),
                    y + step * math.sin(heading),
                    math.remainder(heading + turn_rad_s / 10, math.tau),
                ]
            )
        )
    return poses


def seen_from(poses: list[np.ndarray], frame: tuple[float, float, float]) -> list[np.ndarray]:
    """The same poses in an odometry frame that lies at `frame` in the map."""
    x, y, turn = frame
    c, s = math.cos(turn), math.sin(turn)
    return [
        np.array(
            [c * (p[0] - x) + s * (p[1] - y), -s * (p[0] - x) + c * (p[1] - y), math.remainder(p[2] - turn, math.tau)]
        )
        for p in poses
    ]


@pytest.mark.parametrize("frame", [(0.0, 0.0, 0.0), (300.0, -20.0, 2.5), (-4.0, 7.0, -3.0)])
def test_perfect_odometry_carries_the_pose_whatever_its_frame(frame):
    poses = circle(40.0)
    odometry = seen_from(poses, frame)
    state = start(poses[0])
    for i in range(1, len(poses)):
        state = moved(state, odometry[i - 1], odometry[i], i * STEP_NS, TIGHT)
    assert state.mean[:2] == pytest.approx(poses[-1][:2], abs=1e-6)
    assert abs(math.remainder(state.mean[2] - poses[-1][2], math.tau)) < 1e-9


def test_a_wrong_heading_becomes_a_sideways_error():
    """East, heading uncertain by 0.1 rad: after 100 m the doubt lies across the way, and goes with the heading's."""
    state = moved(start(std=(0.0, 0.0, 0.1)), np.zeros(3), np.array([100.0, 0.0, 0.0]), SECOND, TIGHT)
    assert math.sqrt(state.covariance[1, 1]) == pytest.approx(10.0)
    assert state.covariance[0, 0] == pytest.approx(0.0)
    assert state.covariance[1, 2] == pytest.approx(1.0)


@given(st.floats(-math.pi, math.pi), st.floats(-0.2, 0.2))
def test_yaw_is_corrected_the_short_way_round(yaw, error):
    """A measurement as good as the belief halves the difference, also across ±π."""
    measurement = Measurement(np.array([0.0, 0.0, math.remainder(yaw + error, math.tau)]), np.eye(3))
    state = measured(State(0, np.array([0.0, 0.0, yaw]), np.eye(3)), measurement, 10.0)
    assert abs(math.remainder(state.mean[2] - yaw - error / 2, math.tau)) < 1e-9
    assert -math.pi <= state.mean[2] <= math.pi


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2, -2.0])
def test_an_antenna_is_not_the_vehicle(yaw):
    """A fix of an antenna 2 m ahead and 1 m to the left puts base_link behind it, and tells of the heading."""
    c, s = math.cos(yaw), math.sin(yaw)
    antenna = np.array([2 * c - s, 2 * s + c])
    belief = State(0, np.array([0.3, 0.0, yaw]), np.diag([1.0, 1.0, 1e-12]))
    state = measured(belief, Measurement(antenna, np.eye(2) * 1e-6, (2.0, 1.0)), 10.0)
    assert state.mean[:2] == pytest.approx([0.0, 0.0], abs=1e-5)
    # The place known and the heading not: the antenna's displacement turns the vehicle.
    known = State(0, np.array([0.0, 0.0, yaw]), np.diag([1e-12, 1e-12, 1.0]))
    turned = measured(known, Measurement(antenna + 0.1 * np.array([-s, c]), np.eye(2) * 1e-9, (2.0, 0.0)), 1e9)
    assert turned.mean[2] > yaw


def run(order: list[tuple[int, int]], poses, odometry, rng_seed=0) -> PoseFilter:
    """A filter that gets odometry 0…N and, each after its own delay, noisy poses; `order` is (step, delay in steps)."""
    rng = np.random.default_rng(rng_seed)
    noise = {step: rng.normal(0.0, 0.3, 3) * [1, 1, 0.05] for step, _ in sorted(order)}
    pose_filter = PoseFilter(start(poses[0]), odometry[0])
    due = sorted((step + delay, step) for step, delay in order)
    for i in range(1, len(poses)):
        pose_filter.add(i * STEP_NS, odometry[i])
        while due and due[0][0] <= i:
            step = due.pop(0)[1]
            pose_filter.add(
                step * STEP_NS, odometry[step], Measurement(poses[step] + noise[step], np.diag([0.09, 0.09, 0.015**2]))
            )
    return pose_filter


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=8, max_size=8))
def test_late_measurements_end_where_punctual_ones_do(delays):
    poses = circle(20.0)
    odometry = seen_from(poses, (10.0, 20.0, 1.0))
    steps = [20 * (i + 1) for i in range(8)]
    punctual = run([(step, 0) for step in steps], poses, odometry)
    late = run(list(zip(steps, delays, strict=True)), poses, odometry)
    assert late.state.mean == pytest.approx(punctual.state.mean, abs=1e-9)
    assert late.state.covariance == pytest.approx(punctual.state.covariance, abs=1e-12)


def test_a_late_pose_belongs_to_where_the_vehicle_was():
    """Half a second late at 14 m/s: taken as of now it would pull the vehicle 7 m back."""
    odometry = [np.array([1.4 * i, 0.0, 0.0]) for i in range(100)]
    pose_filter = PoseFilter(start(), odometry[0])
    for i in range(1, 100):
        pose_filter.add(i * STEP_NS, odometry[i])
        if i > 5:
            pose_filter.add((i - 5) * STEP_NS, odometry[i - 5], Measurement(odometry[i - 5], np.eye(3) * 1e-4))
    assert pose_filter.state.mean == pytest.approx(odometry[-1], abs=1e-6)
    assert not pose_filter.add(99 * STEP_NS - HISTORY_NS - 1, odometry[60], Measurement(odometry[60], np.eye(3)))
    assert pose_filter.dropped == 1


def test_a_pose_far_off_is_rejected_and_counted():
    odometry = [np.array([float(i), 0.0, 0.0]) for i in range(20)]
    pose_filter = PoseFilter(start(), odometry[0])
    for i in range(1, 20):
        wrong = 5.0 if i == 10 else 0.0
        pose_filter.add(i * STEP_NS, odometry[i], Measurement(odometry[i] + [wrong, 0, 0], np.eye(3) * 0.04))
    assert pose_filter.counts == (19, 1)
    assert pose_filter.state.mean == pytest.approx(odometry[-1], abs=1e-6)


def test_the_covariance_comes_true():
    """NEES of many drives with exactly the noise the filter assumes: 1 per degree of freedom, sampling error 4 %."""
    noise, values = OdometryNoise(), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = circle(30.0, yaw=rng.uniform(-3, 3))
        std = np.array([0.5, 0.5, math.radians(3.0)])
        pose_filter = PoseFilter(start(truth[0] + rng.normal(0, std), std), np.zeros(3), noise)
        odometry = np.zeros(3)
        for i in range(1, len(truth)):
            odometry = noisy_step(odometry, truth[i - 1], truth[i], noise, rng)
            measurement = None
            if i % 10 == 0:
                sigma = np.array([0.3, 0.3, math.radians(1.0)])
                measurement = Measurement(truth[i] + rng.normal(0, sigma), np.diag(sigma**2))
            pose_filter.add(i * STEP_NS, odometry, measurement)
        error = pose_filter.state.mean - truth[-1]
        error[2] = math.remainder(error[2], math.tau)
        values.append(error @ np.linalg.solve(pose_filter.state.covariance, error) / 3)
    # The mean of 60 chi-squared values of three degrees over three has a deviation of sqrt(2 / 180) = 0.105.
    assert np.mean(values) == pytest.approx(1.0, abs=0.32)


def noisy_step(odometry, before, after, noise: OdometryNoise, rng) -> np.ndarray:
    """The next odometry pose: the true step in the body, with the random walk that `noise` says."""
    c, s = math.cos(before[2]), math.sin(before[2])
    d = after - before
    body = np.array([c * d[0] + s * d[1], -s * d[0] + c * d[1]])
    way = float(np.hypot(*body))
    body += rng.normal(0, noise.position_m * math.sqrt(way), 2)
    yaw_std = math.sqrt(noise.yaw_rad**2 * way + noise.yaw_rad_s**2 * 0.1)
    turn = math.remainder(d[2], math.tau) + rng.normal(0, yaw_std)
    c, s = math.cos(odometry[2]), math.sin(odometry[2])
    return odometry + np.array([c * body[0] - s * body[1], s * body[0] + c * body[1], turn])


def test_correlated_errors_are_worth_less_but_gated_as_they_are():
    """The mean of a first-order Gauss–Markov series varies as the share says; the gate looks at one measurement."""
    tau, dt, count = 5.0, 0.2, 2000
    keep = math.exp(-dt / tau)
    rng = np.random.default_rng(1)
    series = np.empty((count, 400))
    series[0] = rng.normal(size=400)
    for i in range(1, count):
        series[i] = keep * series[i - 1] + math.sqrt(1 - keep**2) * rng.normal(size=400)
    share = information_share(tau, dt)
    assert series.mean(0).var() == pytest.approx(1.0 / (count * share), rel=0.2)
    assert information_share(0.0, 0.2) == information_share(0.1, 5.0) == 1.0
    far = Measurement(np.array([1.0, 0.0, 0.0]), np.eye(3) * 0.01, information_share=1e-3)
    assert measured(start(), far, 4.0) is None
