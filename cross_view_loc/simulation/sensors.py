"""What a simulated vehicle's sensors get wrong: GNSS, odometry and IMU errors, each from its own random generator.

GNSS follows a measured drive with a multi-band receiver: horizontal error 1.5 m median and 2.5 m at 95 %, with
autocorrelation 0.95 after 5 s, 0.66 after 30 s and 0.26 after 120 s. A minute's drive therefore sees little more than
one independent error: averaging does not help, and some drives are simply 2.5 m off all the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.geometry.transforms import rotation_z, rpy, yaw_of

Array = NDArray[np.float64]
GnssCovariance = Literal["honest", "dishonest"]

SENSOR_NAMES = ("gnss", "odometry", "imu")

# Shares of variance and time constants of the processes whose sum has the measured autocorrelation. A first-order
# process bends down at once, a critically damped second-order one stays flat at first: it takes both.
_SLOW_SHARE, _SLOW_TIME_S = 0.5906, 148.7
_MEDIUM_SHARE, _MEDIUM_RATE_HZ = 0.3894, 0.05969
_FAST_SHARE, _FAST_TIME_S = 0.02, 3.0

# A two-dimensional Gaussian has p95 / median = 2.08, the receiver 1.67 (it rejects outliers). Pulling long vectors in,
# e = gain * g / sqrt(1 + |g|^2 / knee^2) for unit-variance g, meets both quantiles and keeps the correlations.
_LIMIT_GAIN_M, _LIMIT_KNEE = 1.3967, 2.624
HORIZONTAL_STD_M = 1.143
"""Standard deviation of the GNSS error along east, and along north."""
VERTICAL_STD_M = 1.8
DISHONEST_STD_M = (0.47, 0.37)
"""What the measured receiver claimed along east and north while it was 1.5 m off."""


def sensor_generators(seed: int) -> Mapping[str, np.random.Generator]:
    """One independent generator per name in SENSOR_NAMES: changing one sensor leaves the others' noise as it was."""
    children = np.random.SeedSequence(seed).spawn(len(SENSOR_NAMES))
    return {name: np.random.default_rng(child) for name, child in zip(SENSOR_NAMES, children, strict=True)}


def gauss_markov(
    rng: np.random.Generator, count: int, interval_s: float, time_constant_s: float, width: int = 1
) -> Array:
    """(count, width) stationary first-order Gauss-Markov series of unit variance, autocorrelation exp(-t / time)."""
    keep = np.exp(-interval_s / time_constant_s)
    noise = rng.standard_normal((count, width))
    noise[1:] *= np.sqrt(1.0 - keep * keep)
    for i in range(1, count):
        noise[i] += keep * noise[i - 1]
    return noise


def gauss_markov_second_order(
    rng: np.random.Generator, count: int, interval_s: float, rate_hz: float, width: int = 1
) -> Array:
    """(count, width) stationary critically damped series of unit variance, autocorrelation (1 + b t) exp(-b t)."""
    b, dt = rate_hz, interval_s
    step = np.exp(-b * dt) * np.array([[1.0 + b * dt, dt], [-b * b * dt, 1.0 - b * dt]])
    stationary = np.diag([1.0, b * b])
    innovation = stationary - step @ stationary @ step.T
    # Over a very short interval the innovation is singular to rounding: a square root by eigenvalues survives that.
    values, vectors = np.linalg.eigh(innovation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    state = np.sqrt(stationary) @ rng.standard_normal((2, width))
    noise = rng.standard_normal((count, 2, width))
    series = np.empty((count, width))
    for i in range(count):
        series[i] = state[0]
        state = step @ state + root @ noise[i]
    return series


def correlated_error(rng: np.random.Generator, count: int, interval_s: float, width: int) -> Array:
    """(count, width) unit-variance series with the measured autocorrelation of a GNSS position error."""
    slow = gauss_markov(rng, count, interval_s, _SLOW_TIME_S, width)
    medium = gauss_markov_second_order(rng, count, interval_s, _MEDIUM_RATE_HZ, width)
    fast = gauss_markov(rng, count, interval_s, _FAST_TIME_S, width)
    return np.sqrt(_SLOW_SHARE) * slow + np.sqrt(_MEDIUM_SHARE) * medium + np.sqrt(_FAST_SHARE) * fast


def gnss_error(rng: np.random.Generator, count: int, interval_s: float) -> Array:
    """(count, 3) position error of the antenna in metres east, north, up."""
    raw = correlated_error(rng, count, interval_s, 3)
    length_squared = np.sum(raw[:, :2] ** 2, axis=1, keepdims=True)
    horizontal = _LIMIT_GAIN_M * raw[:, :2] / np.sqrt(1.0 + length_squared / _LIMIT_KNEE**2)
    return np.hstack([horizontal, VERTICAL_STD_M * raw[:, 2:]])


def gnss_covariance(kind: GnssCovariance) -> Array:
    """(3, 3) covariance in m^2 (east, north, up) that the receiver reports."""
    if kind == "honest":
        return np.diag([HORIZONTAL_STD_M**2, HORIZONTAL_STD_M**2, VERTICAL_STD_M**2])
    return np.diag([DISHONEST_STD_M[0] ** 2, DISHONEST_STD_M[1] ** 2, 0.8**2])


def antenna_positions(T_map_base: Array, lever_arm_base: Array) -> Array:
    """(n, 3) antenna positions in the map from (n, 4, 4) vehicle poses and the antenna's position in `base_link`."""
    return T_map_base[:, :3, 3] + T_map_base[:, :3, :3] @ lever_arm_base


@dataclass(frozen=True)
class OdometryErrors:
    """What wheel odometry gets wrong, as standard deviations over vehicles (bias, scale) or over time (noise)."""

    scale_std: float = 0.01
    """Relative error of distance (tyre pressure, calibration)."""
    yaw_bias_std_rad_s: float = np.deg2rad(0.03)
    """Constant error of the yaw rate."""
    position_noise_m: float = 0.01
    """Random walk of each horizontal axis per square root of a metre driven."""
    yaw_noise_rad: float = np.deg2rad(0.03)
    """Random walk of the heading per square root of a metre driven."""


def drifting_odometry(
    rng: np.random.Generator, T_map_base: Array, interval_s: float, errors: OdometryErrors | None = None
) -> Array:
    """Planar dead reckoning of (n, 4, 4) true poses, `interval_s` apart: (n, 4, 4) T_odom_base, identity at the start.

    Without errors it repeats the true horizontal motion exactly.
    """
    errors = errors or OdometryErrors()
    count = len(T_map_base)
    yaw_rad = np.unwrap([yaw_of(T) for T in T_map_base])
    steps_map = np.diff(T_map_base[:, :2, 3], axis=0)
    cosine, sine = np.cos(yaw_rad[:-1]), np.sin(yaw_rad[:-1])
    steps_body = np.stack(
        [cosine * steps_map[:, 0] + sine * steps_map[:, 1], cosine * steps_map[:, 1] - sine * steps_map[:, 0]], axis=1
    )
    root_metres = np.sqrt(np.linalg.norm(steps_body, axis=1))
    scale = 1.0 + errors.scale_std * rng.standard_normal()
    yaw_bias_rad_s = errors.yaw_bias_std_rad_s * rng.standard_normal()
    steps_body = scale * steps_body + errors.position_noise_m * root_metres[:, None] * rng.standard_normal(
        (count - 1, 2)
    )
    turns_rad = np.diff(yaw_rad) + yaw_bias_rad_s * interval_s
    turns_rad += errors.yaw_noise_rad * root_metres * rng.standard_normal(count - 1)

    odometry = np.tile(np.eye(4), (count, 1, 1))
    heading_rad = np.concatenate([[0.0], np.cumsum(turns_rad)])
    cosine, sine = np.cos(heading_rad[:-1]), np.sin(heading_rad[:-1])
    steps_odom = np.stack(
        [cosine * steps_body[:, 0] - sine * steps_body[:, 1], sine * steps_body[:, 0] + cosine * steps_body[:, 1]],
        axis=1,
    )
    odometry[1:, :2, 3] = np.cumsum(steps_odom, axis=0)
    odometry[:, :3, :3] = np.stack([rotation_z(yaw) for yaw in heading_rad])
    return odometry


@dataclass(frozen=True)
class ImuErrors:
    """Standard deviations of the orientation an attitude filter in an IMU puts out."""

    yaw_bias_rad: float = np.deg2rad(1.0)
    """Slowly varying (magnetic surroundings, gyro drift)."""
    yaw_bias_time_s: float = 120.0
    yaw_noise_rad: float = np.deg2rad(0.2)
    tilt_noise_rad: float = np.deg2rad(0.2)
    gyro_noise_rad_s: float = 0.002
    accelerometer_noise_m_s2: float = 0.02


@dataclass(frozen=True)
class ImuSeries:
    """One drive of IMU output, n samples."""

    R_map_imu: Array
    """(n, 3, 3) measured orientation in ENU: yaw is zero facing east and grows counter-clockwise."""
    angular_velocity: Array
    """(n, 3) rad/s in the IMU frame."""
    linear_acceleration: Array
    """(n, 3) m/s^2 in the IMU frame, gravity included: +9.81 on z when level and still."""


def imu_series(
    rng: np.random.Generator, T_map_imu: Array, interval_s: float, errors: ImuErrors | None = None
) -> ImuSeries:
    """IMU output along (n, 4, 4) true poses of the IMU in the map, `interval_s` apart."""
    errors = errors or ImuErrors()
    count = len(T_map_imu)
    yaw_rad = errors.yaw_bias_rad * gauss_markov(rng, count, interval_s, errors.yaw_bias_time_s)[:, 0]
    yaw_rad += errors.yaw_noise_rad * rng.standard_normal(count)
    tilt_rad = errors.tilt_noise_rad * rng.standard_normal((count, 2))
    R_true = T_map_imu[:, :3, :3]
    # The yaw error turns about the map's vertical, tilt noise about the body's own axes.
    measured = np.stack(
        [
            rotation_z(yaw) @ R @ rpy(tilt[0], tilt[1], 0.0)
            for yaw, R, tilt in zip(yaw_rad, R_true, tilt_rad, strict=True)
        ]
    )
    return ImuSeries(
        measured,
        body_rates(T_map_imu, interval_s) + errors.gyro_noise_rad_s * rng.standard_normal((count, 3)),
        _specific_force(T_map_imu, interval_s) + errors.accelerometer_noise_m_s2 * rng.standard_normal((count, 3)),
    )


def attitude_error(rng: np.random.Generator, errors: ImuErrors | None = None) -> Array:
    """(3, 3) one draw of the roll and pitch error of that IMU, to the right of a true orientation."""
    roll_rad, pitch_rad = (errors or ImuErrors()).tilt_noise_rad * rng.standard_normal(2)
    return rpy(float(roll_rad), float(pitch_rad), 0.0)


def body_rates(T_map_body: Array, interval_s: float) -> Array:
    """(n, 3) angular velocity in rad/s in the body frame, from (n, 4, 4) poses `interval_s` apart."""
    R = T_map_body[:, :3, :3]
    turn = np.swapaxes(R[:-1], 1, 2) @ R[1:]
    # For the small turn of one interval the skew part of the rotation is the rotation vector.
    rates = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], 1)
    return np.vstack([rates, rates[-1:]]) / (2.0 * interval_s)


def body_velocities(T_map_body: Array, interval_s: float) -> Array:
    """(n, 3) linear velocity in m/s in the body frame, from (n, 4, 4) poses `interval_s` apart."""
    velocity_map = np.gradient(T_map_body[:, :3, 3], interval_s, axis=0)
    return np.einsum("nji,nj->ni", T_map_body[:, :3, :3], velocity_map)


def _specific_force(T_map_imu: Array, interval_s: float) -> Array:
    velocity_map = np.gradient(T_map_imu[:, :3, 3], interval_s, axis=0)
    force_map = np.gradient(velocity_map, interval_s, axis=0) + np.array([0.0, 0.0, 9.80665])
    return np.einsum("nji,nj->ni", T_map_imu[:, :3, :3], force_map)
