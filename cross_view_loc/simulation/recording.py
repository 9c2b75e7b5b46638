"""A drive as a stream of stamped ROS messages in stamp order, and the rosbag2 (mcap) they are written to.

Images are rendered a few at a time while the stream is read, so memory does not grow with the drive's length.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.simulation import messages, sensors
from cross_view_loc.simulation.drive_renderer import DriveRenderer, Shot
from cross_view_loc.simulation.rig import T_MOUNT_OPTICAL, Rig, RigCamera

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive

Array = NDArray[np.float64]

START_STAMP_NS = 1_700_000_000_000_000_000
"""Stamp of the drive's first moment; fixed, so that the same seed gives the same bytes."""

MAP_FRAME, ODOM_FRAME, BASE_FRAME = "map", "odom", "base_link"
ANTENNA_FRAME, IMU_FRAME = "gnss_antenna", "imu_link"
FIX_TOPIC, ODOMETRY_TOPIC, IMU_TOPIC = "/gnss/fix", "/odometry", "/imu/data"
TRUTH_TOPIC, TF_TOPIC, TF_STATIC_TOPIC = "/ground_truth/odometry", "/tf", "/tf_static"

MOTION_RATE_HZ = 50
GNSS_RATE_HZ = 5
FIRST_IMAGE_S = 0.2
"""The first image waits for the first fix and for odometry on both sides of it."""
RENDER_BATCH = 8

MESSAGE_TYPES = {
    FIX_TOPIC: "sensor_msgs/msg/NavSatFix",
    ODOMETRY_TOPIC: "nav_msgs/msg/Odometry",
    IMU_TOPIC: "sensor_msgs/msg/Imu",
    TRUTH_TOPIC: "nav_msgs/msg/Odometry",
    TF_TOPIC: "tf2_msgs/msg/TFMessage",
    TF_STATIC_TOPIC: "tf2_msgs/msg/TFMessage",
}


def image_topic(camera: RigCamera) -> str:
    """Topic of a camera's JPEG images."""
    return f"/camera/{camera.name}/image/compressed"


def camera_info_topic(camera: RigCamera) -> str:
    """Topic of a camera's calibration."""
    return f"/camera/{camera.name}/camera_info"


class Stamped(NamedTuple):
    """One message of the stream; `order` ranks messages of one stamp, so that an image comes after what it needs."""

    stamp_ns: int
    order: int
    topic: str
    message: Any


@dataclass(frozen=True)
class Recorder:
    """Turns a drive into messages. Poses are exact at every stamp; only what sensors measure carries errors."""

    drive: Drive
    renderer: DriveRenderer
    rig: Rig
    projection: MapProjection
    seed: int
    duration_s: float
    image_rate_hz: float = 5.0
    gnss_covariance: sensors.GnssCovariance = "honest"

    def image_stamps_ns(self) -> list[int]:
        """Stamps of the images, the same for every camera."""
        count = int(np.floor((self.duration_s - FIRST_IMAGE_S) * self.image_rate_hz + 1e-6)) + 1
        return [_stamp_ns(FIRST_IMAGE_S + i / self.image_rate_hz) for i in range(max(count, 0))]

    def truth(self) -> list[tuple[int, Array]]:
        """(stamp_ns, T_map_base) at every image."""
        return [(stamp_ns, self._T_map_base(stamp_ns)) for stamp_ns in self.image_stamps_ns()]

    def stream(self, on_image: Callable[[], None] = lambda: None) -> Iterator[Stamped]:
        """Every message of the drive in stamp order; `on_image` is called for each rendered image."""
        generators = sensors.sensor_generators(self.seed)
        yield from heapq.merge(
            self._static(),
            self._motion(generators["odometry"], generators["imu"]),
            self._fixes(generators["gnss"]),
            self._images(on_image),
            key=lambda item: (item.stamp_ns, item.order),
        )

    def _T_map_base(self, stamp_ns: int) -> Array:
        return np.asarray(self.drive.T_map_base((stamp_ns - START_STAMP_NS) / 1e9), dtype=np.float64)

    def _static(self) -> Iterator[Stamped]:
        edges = [
            (BASE_FRAME, ANTENNA_FRAME, self.rig.T_base_antenna),
            (BASE_FRAME, IMU_FRAME, self.rig.T_base_imu),
        ]
        for camera in self.rig.cameras:
            edges.append((BASE_FRAME, camera.mount_frame, camera.T_base_mount))
            edges.append((camera.mount_frame, camera.optical_frame, T_MOUNT_OPTICAL))
        yield Stamped(START_STAMP_NS, 0, TF_STATIC_TOPIC, messages.tf_message(START_STAMP_NS, edges))

    def _motion(self, odometry_rng: np.random.Generator, imu_rng: np.random.Generator) -> Iterator[Stamped]:
        interval_s = 1.0 / MOTION_RATE_HZ
        # One sample longer than the drive: the last image too lies between two poses.
        stamps_ns = _stamps_ns(self.duration_s + interval_s, MOTION_RATE_HZ)
        T_map_base = np.stack([self._T_map_base(stamp_ns) for stamp_ns in stamps_ns])
        T_odom_base = sensors.drifting_odometry(odometry_rng, T_map_base, interval_s)
        errors = sensors.ImuErrors()
        imu = sensors.imu_series(imu_rng, T_map_base @ self.rig.T_base_imu, interval_s, errors)
        truth_twist = np.hstack(
            [sensors.body_velocities(T_map_base, interval_s), sensors.body_rates(T_map_base, interval_s)]
        )
        odom_twist = np.hstack(
            [sensors.body_velocities(T_odom_base, interval_s), sensors.body_rates(T_odom_base, interval_s)]
        )
        travelled_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(T_odom_base[:, :3, 3], axis=0), axis=1))])
        tilt_std = errors.tilt_noise_rad
        yaw_std = float(np.hypot(errors.yaw_bias_rad, errors.yaw_noise_rad))
        for i, stamp_ns in enumerate(stamps_ns):
            drift_m = 0.05 + 0.01 * travelled_m[i]
            pose_std = (drift_m, drift_m, 0.5, 0.05, 0.05, 0.005 + 0.0005 * travelled_m[i])
            twist_std = (0.1, 0.05, 0.1, 0.05, 0.05, 0.01)
            odometry = messages.odometry(
                stamp_ns,
                ODOM_FRAME,
                BASE_FRAME,
                T_odom_base[i],
                odom_twist[i, :3],
                odom_twist[i, 3:],
                pose_std,
                twist_std,
            )
            truth = messages.odometry(
                stamp_ns,
                MAP_FRAME,
                BASE_FRAME,
                T_map_base[i],
                truth_twist[i, :3],
                truth_twist[i, 3:],
                (0.0,) * 6,
                (0.0,) * 6,
            )
            measured = messages.imu(
                stamp_ns,
                IMU_FRAME,
                imu.R_map_imu[i],
                imu.angular_velocity[i],
                imu.linear_acceleration[i],
                (tilt_std, tilt_std, yaw_std),
                errors.gyro_noise_rad_s,
                errors.accelerometer_noise_m_s2,
            )
            yield Stamped(stamp_ns, 1, ODOMETRY_TOPIC, odometry)
            yield Stamped(
                stamp_ns, 1, TF_TOPIC, messages.tf_message(stamp_ns, [(ODOM_FRAME, BASE_FRAME, T_odom_base[i])])
            )
            yield Stamped(stamp_ns, 1, IMU_TOPIC, measured)
            yield Stamped(stamp_ns, 1, TRUTH_TOPIC, truth)

    def _fixes(self, rng: np.random.Generator) -> Iterator[Stamped]:
        stamps_ns = _stamps_ns(self.duration_s, GNSS_RATE_HZ)
        error = sensors.gnss_error(rng, len(stamps_ns), 1.0 / GNSS_RATE_HZ)
        poses = np.stack([self._T_map_base(stamp_ns) for stamp_ns in stamps_ns])
        measured = sensors.antenna_positions(poses, self.rig.lever_arm_base) + error
        latitude_deg, longitude_deg, height_m = self.projection.to_geodetic(*measured.T)
        covariance = sensors.gnss_covariance(self.gnss_covariance)
        for i, stamp_ns in enumerate(stamps_ns):
            fix = messages.nav_sat_fix(
                stamp_ns, ANTENNA_FRAME, latitude_deg[i], longitude_deg[i], height_m[i], covariance
            )
            yield Stamped(stamp_ns, 2, FIX_TOPIC, fix)

    def _images(self, on_image: Callable[[], None]) -> Iterator[Stamped]:
        stamps_ns = self.image_stamps_ns()
        moments = max(1, RENDER_BATCH // len(self.rig.cameras))
        for start in range(0, len(stamps_ns), moments):
            views = [
                (stamp_ns, camera) for stamp_ns in stamps_ns[start : start + moments] for camera in self.rig.cameras
            ]
            shots = [Shot.on_drive(self.drive, (stamp_ns - START_STAMP_NS) / 1e9, camera) for stamp_ns, camera in views]
            for (stamp_ns, camera), photo in zip(views, self.renderer.shoot(shots), strict=True):
                calibration = messages.camera_info(stamp_ns, camera, photo.distortion)
                yield Stamped(stamp_ns, 3, camera_info_topic(camera), calibration)
                compressed = messages.compressed_image(stamp_ns, camera.optical_frame, photo.image)
                yield Stamped(stamp_ns, 4, image_topic(camera), compressed)
                on_image()


def _stamp_ns(time_s: float) -> int:
    return START_STAMP_NS + round(time_s * 1e9)


def _stamps_ns(duration_s: float, rate_hz: float) -> list[int]:
    return [_stamp_ns(i / rate_hz) for i in range(int(np.floor(duration_s * rate_hz + 1e-6)) + 1)]


def _qos(durability: QosDurability, depth: int) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=QosTime(9223372036, 854775807),
        lifespan=QosTime(9223372036, 854775807),
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=QosTime(9223372036, 854775807),
        avoid_ros_namespace_conventions=False,
    )


def write_bag(path: Path, rig: Rig, stream: Iterator[Stamped]) -> dict[str, int]:
    """Write the stream as rosbag2 (mcap) folder `path`, which must not exist; returns messages per topic."""
    types = dict(MESSAGE_TYPES)
    for camera in rig.cameras:
        types[camera_info_topic(camera)] = "sensor_msgs/msg/CameraInfo"
        types[image_topic(camera)] = "sensor_msgs/msg/CompressedImage"
    counts = dict.fromkeys(types, 0)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(
                topic,
                message_type,
                typestore=messages.TYPESTORE,
                # A player offers the static transforms again to whoever joins late only if the bag says so.
                offered_qos_profiles=[
                    _qos(QosDurability.TRANSIENT_LOCAL, 1)
                    if topic == TF_STATIC_TOPIC
                    else _qos(QosDurability.VOLATILE, 10)
                ],
            )
            for topic, message_type in types.items()
        }
        for item in stream:
            data = messages.TYPESTORE.serialize_cdr(item.message, types[item.topic])
            writer.write(connections[item.topic], item.stamp_ns, data)
            counts[item.topic] += 1
    return counts
