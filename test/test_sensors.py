"""Sensor errors of the simulated vehicle: the statistics they promise, their signs, and that they are seeded."""

import numpy as np
import pytest

from cross_view_loc.geometry.transforms import rotation_z, rpy, transform, yaw_of
from cross_view_loc.simulation import sensors
from cross_view_loc.simulation.rig import RIG_NAMES, make_rig


@pytest.fixture(scope="module")
def long_gnss_error() -> np.ndarray:
    # 1 Hz for many times the longest time constant; several series, because one alone scatters by 5 %.
    rng = np.random.default_rng(7)
    return np.stack([sensors.gnss_error(rng, 15000, 1.0) for _ in range(6)])


@pytest.mark.parametrize(("lag_s", "expected"), [(5, 0.95), (30, 0.66), (120, 0.26)])
def test_gnss_error_has_the_measured_autocorrelation(long_gnss_error, lag_s, expected):
    horizontal = long_gnss_error[..., :2]
    correlation = np.mean(horizontal[:, lag_s:] * horizontal[:, :-lag_s]) / np.mean(horizontal**2)
    assert correlation == pytest.approx(expected, abs=0.04)


def test_gnss_error_has_the_measured_quantiles_and_an_honest_covariance(long_gnss_error):
    distance_m = np.hypot(long_gnss_error[..., 0], long_gnss_error[..., 1])
    assert np.median(distance_m) == pytest.approx(1.5, abs=0.1)
    assert np.quantile(distance_m, 0.95) == pytest.approx(2.5, abs=0.15)
    claimed = np.diag(sensors.gnss_covariance("honest"))
    assert np.mean(long_gnss_error**2, axis=(0, 1)) == pytest.approx(claimed, rel=0.12)
    assert np.sqrt(np.diag(sensors.gnss_covariance("dishonest"))[:2]) == pytest.approx([0.47, 0.37])


def test_correlations_do_not_depend_on_the_sampling_rate():
    rng = np.random.default_rng(3)
    series = np.stack([sensors.correlated_error(rng, 400, 0.2, 1)[:, 0] for _ in range(400)])
    correlation = np.mean(series[:, 150:] * series[:, :-150]) / np.mean(series**2)
    assert correlation == pytest.approx(0.66, abs=0.06)
    assert np.mean(series[:, 0] ** 2) == pytest.approx(1.0, abs=0.25), "the series must start stationary"


def test_lever_arm_is_turned_with_the_vehicle():
    facing_north = transform(rotation_z(np.pi / 2), [100.0, 50.0, 2.0])[None]
    antenna = sensors.antenna_positions(facing_north, np.array([1.0, 0.2, 1.5]))[0]
    # 1 m ahead is 1 m further north; 0.2 m to the left is 0.2 m further west.
    assert antenna == pytest.approx([99.8, 51.0, 3.5])


def _circle(count: int, interval_s: float) -> np.ndarray:
    yaw = 0.3 * interval_s * np.arange(count)
    return np.stack(
        [transform(rpy(0.02, -0.03, a + 1.0), [20 * np.sin(a + 1.0), -20 * np.cos(a + 1.0), 5.0]) for a in yaw]
    )


def test_odometry_without_errors_repeats_the_motion():
    poses = _circle(200, 0.02)
    none = sensors.OdometryErrors(0.0, 0.0, 0.0, 0.0)
    odometry = sensors.drifting_odometry(np.random.default_rng(0), poses, 0.02, none)
    assert odometry[0] == pytest.approx(np.eye(4))
    first = transform(rotation_z(yaw_of(poses[0])), [*poses[0, :2, 3], 0.0])
    assert (first @ odometry)[:, :2, 3] == pytest.approx(poses[:, :2, 3], abs=1e-9)
    assert yaw_of(first @ odometry[-1]) == pytest.approx(yaw_of(poses[-1]))


def test_odometry_drifts_by_about_a_percent():
    poses = _circle(3000, 0.02)
    first = transform(rotation_z(yaw_of(poses[0])), [*poses[0, :2, 3], 0.0])
    drifts = []
    for seed in range(8):
        odometry = sensors.drifting_odometry(np.random.default_rng(seed), poses, 0.02)
        drifts.append(np.linalg.norm((first @ odometry[-1])[:2, 3] - poses[-1, :2, 3]))
    travelled_m = 20 * 0.3 * 60
    assert 0.0005 * travelled_m < np.median(drifts) < 0.03 * travelled_m


def test_imu_orientation_is_enu_with_a_degree_of_bias():
    poses = _circle(3000, 0.02)
    biases_deg = []
    for seed in range(20):
        imu = sensors.imu_series(np.random.default_rng(seed), poses, 0.02)
        error = np.array([yaw_of(R) - yaw_of(T) for R, T in zip(imu.R_map_imu, poses, strict=True)])
        error_deg = np.degrees((error + np.pi) % (2 * np.pi) - np.pi)
        biases_deg.append(error_deg.mean())
        assert np.abs(np.diff(error_deg)).max() < 2.0, "bias is slow, noise is small"
    assert 0.4 < np.std(biases_deg) < 1.6
    # Turning left (counter-clockwise from above) is a positive rate about z; at rest and level, z feels +g.
    assert imu.angular_velocity[:, 2].mean() == pytest.approx(0.3, abs=0.01)
    assert imu.linear_acceleration[:, 2].mean() == pytest.approx(9.8, abs=0.1)
    # Circling left at 6 m/s on 20 m: 1.8 m/s² towards the left (plus what little gravity the roll lets in).
    assert imu.linear_acceleration[100:-100, 1].mean() == pytest.approx(1.8, abs=0.3)


def test_body_velocity_is_forward():
    velocity = sensors.body_velocities(_circle(100, 0.02), 0.02)
    assert velocity[50] == pytest.approx([6.0, 0.0, 0.0], abs=0.3)


def test_sensors_draw_from_their_own_generators():
    first, again = sensors.sensor_generators(5), sensors.sensor_generators(5)
    first["gnss"].standard_normal(1000)
    assert first["imu"].standard_normal(3) == pytest.approx(again["imu"].standard_normal(3))
    assert first["odometry"].standard_normal() != sensors.sensor_generators(6)["odometry"].standard_normal()


@pytest.mark.parametrize("name", RIG_NAMES)
def test_rig_cameras_are_rotations_with_upright_images(name):
    for camera in make_rig(name).cameras:
        R = camera.T_base_camera[:3, :3]
        assert np.allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1.0)
        assert R[2, 1] < -0.8, "the image's y axis points down, of one that looks 30° down too"


def test_front_camera_looks_ahead_and_two_degrees_down():
    (camera,) = make_rig("front").cameras
    axis = camera.T_base_camera[:3, 2]
    assert axis == pytest.approx([np.cos(np.deg2rad(2)), 0.0, -np.sin(np.deg2rad(2))])
    assert camera.T_base_camera[:3, 3] == pytest.approx([1.2, 0.0, 1.6])
    assert camera.T_base_camera[:3, 0] == pytest.approx([0.0, -1.0, 0.0]), "image right is the vehicle's right"


def test_surround_cameras_look_where_their_names_say():
    axes = {camera.name: camera.T_base_camera[:3, 2] for camera in make_rig("surround").cameras}
    assert axes["left"][1] > 0.9 and axes["right"][1] < -0.9 and axes["rear"][0] < -0.9
