"""What tests over real DDS share: a vehicle that publishes its sensors, a listener, and the node as its own process.

Run as a script, this is the localizer node with a stand-in for the real localizer: the class that CVL_STAND_IN names.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import cv2
import domain_coordinator
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_pixel
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, Matrix, rotation_z, to_quaternion, transform, yaw_of
from cross_view_loc.inputs.stamps import stamp_ns
from cross_view_loc.node.conversions import to_time
from cross_view_loc.settings import Settings, parameter_file_text
from cross_view_loc.types import Estimate, Frame, Prior

ROOT = Path(__file__).parents[1]
ORIGIN = (49.0, 8.4, 110.0)
OFFSET_EAST_M, OFFSET_NORTH_M = 1.5, -0.5
COVARIANCE = np.array([[0.04, 0.01, 0.001], [0.01, 0.09, 0.002], [0.001, 0.002, 0.0004]])
WIDTH, HEIGHT = 64, 36
SECOND = 1_000_000_000


class ConstantOffset:
    """Finds every vehicle a constant way off its prior; refuses dark images. Stands in where torch is not the point."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        bright = bool(frames[0].image.mean() > 20)
        return Estimate(
            frames[0].stamp_ns,
            prior.east_m + OFFSET_EAST_M,
            prior.north_m + OFFSET_NORTH_M,
            prior.yaw_rad,
            COVARIANCE,
            confidence=float(bright),
            accepted=bright,
            reason="" if bright else "too dark",
        )


class Truthful:
    """Finds `Vehicle` where it is when that is searched, else somewhere wrong and says so; refuses dark images.

    Images brighter than 130 show it as many metres farther east: how a test moves it.
    """

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        brightness = float(frames[0].image.mean())
        T = true_pose(frames[0].stamp_ns)
        east, north, yaw = T[0, 3] + (brightness - 128.0 if brightness > 130.0 else 0.0), T[1, 3], yaw_of(T)
        c, s = math.cos(prior.yaw_rad), math.sin(prior.yaw_rad)
        d_east, d_north = east - prior.east_m, north - prior.north_m
        off_m = max(abs(c * d_east + s * d_north), abs(-s * d_east + c * d_north))
        is_searched = off_m <= prior.radius_m and (
            abs(math.remainder(yaw - prior.yaw_rad, 2 * math.pi)) <= prior.yaw_range_rad + 1e-6
        )
        reason = "too dark" if brightness < 20 else "" if is_searched else "nothing like it there"
        if reason:
            east, north, yaw = prior.east_m, prior.north_m, prior.yaw_rad
        return Estimate(
            frames[0].stamp_ns, east, north, yaw, COVARIANCE, confidence=float(not reason), accepted=not reason,
            reason=reason,
        )  # fmt: skip


class OnMap(Truthful):
    """Needs imagery where it looks, as the real one does."""

    def use_map(self, aerial_map: Any) -> None:
        self.map = aerial_map

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        if hasattr(self, "map"):
            self.map.patch(prior.east_m, prior.north_m, 64, 0.5, 0.0)
        return super().locate(frames, prior)


class Slow(Truthful):
    """Takes its time, as a network on a small machine."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        if frames[0].name != "warm-up":
            print("inference begins", flush=True)
            time.sleep(3.0)
        return super().locate(frames, prior)


class SlowToLoad(Truthful):
    """Takes its time to load, as weights on a small machine."""

    def __init__(self) -> None:
        print("loading begins", flush=True)
        time.sleep(3.0)


def true_pose(stamp: int) -> Matrix:
    """(4, 4) of base_link in the map: a bend of 50 m radius at 5 m/s."""
    angle = 0.1 * (stamp - 1_700_000_000 * SECOND) / SECOND
    return transform(rotation_z(angle + math.pi / 2), (50.0 * math.cos(angle), 50.0 * math.sin(angle), 0.0))


_domains = itertools.cycle(range(1, 101))


def private_domain() -> contextlib.AbstractContextManager[int]:
    """A ROS domain nobody uses and none of this run's tests has used: participants linger after they leave."""
    return domain_coordinator.domain_id(_domains.__next__)


@contextlib.contextmanager
def node_process(
    folder: Path,
    settings: Settings,
    domain: int,
    *,
    real: bool = False,
    program: Path = Path(__file__),
    stand_in: type = ConstantOffset,
    arguments: Sequence[str] = (),
) -> Iterator[subprocess.Popen]:
    """The node in a process of its own, with `settings` from a parameter file; its output goes to `folder`/log.

    `program` is a script that starts it, with another stand-in for the localizer; this one takes `stand_in`.
    """
    parameters = folder / "parameters.yaml"
    parameters.write_text(parameter_file_text(settings), encoding="utf-8")
    started = ["-m", "cross_view_loc.node.main"] if real else [str(program)]
    command = [sys.executable, *started, "--ros-args", "--params-file", str(parameters), *arguments]
    own = environment(domain) | {"CVL_STAND_IN": stand_in.__name__}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=own, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def environment(domain: int) -> dict[str, str]:
    """Environment of a node that only this test's domain hears."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"ROS_DOMAIN_ID": str(domain), "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


class Station:
    """A ROS node on the test's side: publishes a moving vehicle's sensors, keeps what the localizer sends."""

    def __init__(
        self, domain: int, *, compressed: bool = False, make_vehicle: Callable[[Any, bool], Vehicle] | None = None
    ) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("vehicle", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.poses: list[PoseWithCovarianceStamped] = []
        self.unchecked: list[PoseWithCovarianceStamped] = []
        self.transforms: list[TransformStamped] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        listen = self.node.create_subscription
        listen(PoseWithCovarianceStamped, "/localizer/pose", self.poses.append, 50)
        listen(PoseWithCovarianceStamped, "/localizer/pose_unchecked", self.unchecked.append, 50)
        listen(TFMessage, "/tf", self._on_tf, 100)
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.vehicle: Any = (make_vehicle or Vehicle)(self.node, compressed)

    def spin(self, seconds: float) -> None:
        """Let messages arrive for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(max(0.0, min(0.02, end - time.monotonic())))

    def drive_until(self, condition: Callable[[], Any], at_most_s: float = 30.0) -> bool:
        """Publish the vehicle's sensors until the condition holds; False when it never did."""
        end = time.monotonic() + at_most_s
        while time.monotonic() < end:
            self.vehicle.step()
            self.spin(0.05)
            if condition():
                return True
        return False

    def spin_until(self, condition: Callable[[], Any], at_most_s: float = 30.0) -> bool:
        """Only listen until the condition holds; False when it never did."""
        end = time.monotonic() + at_most_s
        while time.monotonic() < end and not condition():
            self.spin(0.05)
        return bool(condition())

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _on_tf(self, message: TFMessage) -> None:
        self.transforms += [each for each in message.transforms if each.header.frame_id == "map"]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics |= {status.name: status for status in message.status}


class Vehicle:
    """Drives a bend at 5 m/s in the map; its odometry counts from a start of its own. One `step` is 0.1 s."""

    T_map_odom = transform(rotation_z(2.0), (30.0, -40.0, 0.0))
    T_base_camera = transform(R_BODY_OPTICAL, (1.5, 0.0, 1.6))
    T_base_imu = transform(rotation_z(math.pi / 2), (0.0, 0.0, 0.5))
    antenna_in_base = np.array([-0.5, 0.2, 1.8])

    def __init__(self, node: Any, compressed: bool) -> None:
        self.stamp_ns = 1_700_000_000 * SECOND
        self.brightness = 128
        self.compressed = compressed
        self.projection = MapProjection(MapOrigin(*ORIGIN))
        static = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", static)
        self._tf = node.create_publisher(TFMessage, "/tf", 100)
        self.image = node.create_publisher(CompressedImage if compressed else Image, "/image", 5)
        self.info = node.create_publisher(CameraInfo, "/camera_info", 5)
        self.fix = node.create_publisher(NavSatFix, "/fix", 5)
        self._imu = node.create_publisher(Imu, "/imu", 50)
        self._odometry = node.create_publisher(Odometry, "/odometry", 50)
        self.publish_static()

    def publish_static(self) -> None:
        """Where camera and Imu sit."""
        mounts = [("camera_optical", self.T_base_camera), ("imu_link", self.T_base_imu)]
        mounts.append(("antenna", transform(np.eye(3), self.antenna_in_base)))
        self._static.publish(TFMessage(transforms=[self._stamped("base_link", child, T, 0) for child, T in mounts]))

    def T_map_base(self, stamp: int) -> Matrix:
        """(4, 4) truth."""
        return true_pose(stamp)

    def T_odom_base(self, stamp: int) -> Matrix:
        """(4, 4) what odometry says, without errors."""
        return np.linalg.inv(self.T_map_odom) @ self.T_map_base(stamp)

    def step(self, *, image: bool = True) -> int:
        """Publish a fix, an image and motion up to just after it; returns the image's stamp."""
        self.stamp_ns += SECOND // 10
        stamp = self.stamp_ns
        for sensor_stamp in (stamp - SECOND // 20, stamp):
            self.publish_motion(sensor_stamp)
        self.fix.publish(self.fix_message(stamp - SECOND // 25))
        self.info.publish(self.info_message(stamp))
        if image:
            self.image.publish(self.image_message(stamp))
        self.publish_motion(stamp + SECOND // 100)
        return stamp

    def publish_motion(self, stamp: int) -> None:
        """Imu, odometry and odom → base_link."""
        imu, odometry = Imu(), Odometry()
        imu.header.stamp = odometry.header.stamp = to_time(stamp)
        imu.header.frame_id, odometry.header.frame_id, odometry.child_frame_id = "imu_link", "odom", "base_link"
        R_map_imu = self.T_map_base(stamp)[:3, :3] @ self.T_base_imu[:3, :3]
        _set_quaternion(imu.orientation, R_map_imu)
        T = self.T_odom_base(stamp)
        position = odometry.pose.pose.position
        position.x, position.y, position.z = (float(value) for value in T[:3, 3])
        _set_quaternion(odometry.pose.pose.orientation, T)
        self._imu.publish(imu)
        self._odometry.publish(odometry)
        self._tf.publish(TFMessage(transforms=[self._stamped("odom", "base_link", T, stamp)]))

    def fix_message(self, stamp: int) -> NavSatFix:
        """The antenna's exact place."""
        T = self.T_map_base(stamp)
        latitude, longitude, height = self.projection.to_geodetic(*(T[:3, :3] @ self.antenna_in_base + T[:3, 3]))
        message = NavSatFix(latitude=float(latitude), longitude=float(longitude), altitude=float(height))
        message.header.stamp, message.header.frame_id = to_time(stamp), "antenna"
        message.position_covariance = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 4.0]
        message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN
        return message

    def info_message(self, stamp: int) -> CameraInfo:
        """A pinhole camera of WIDTH x HEIGHT."""
        message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
        message.k = [40.0, 0.0, WIDTH / 2 - 0.5, 0.0, 40.0, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0]
        message.header.stamp, message.header.frame_id = to_time(stamp), "camera_optical"
        return message

    def image_message(self, stamp: int) -> Image | CompressedImage:
        """A grey picture."""
        pixels = np.full((HEIGHT, WIDTH, 3), self.brightness, np.uint8)
        if self.compressed:
            message = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", pixels)[1].tobytes())
        else:
            message = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=WIDTH * 3, data=pixels.tobytes())
        message.header.stamp, message.header.frame_id = to_time(stamp), "camera_optical"
        return message

    @staticmethod
    def _stamped(parent: str, child: str, T: Matrix, stamp: int) -> TransformStamped:
        message = TransformStamped(child_frame_id=child)
        message.header.stamp, message.header.frame_id = to_time(stamp), parent
        translation = message.transform.translation
        translation.x, translation.y, translation.z = (float(value) for value in T[:3, 3])
        _set_quaternion(message.transform.rotation, T)
        return message


def vehicle_settings(**changes: Any) -> Settings:
    """Settings that fit `Vehicle`; without tracking, for `ConstantOffset` follows the prior and would walk away.

    Transforms come with estimates only, so that each can be told from its stamp.
    """
    values = dict(image_topic="/image", camera_info_topic="/camera_info", fix_topic="/fix", odometry_topic="/odometry")
    values |= dict(
        imu_topic="/imu",
        map_origin=ORIGIN,
        tf_mode="map_to_odom",
        input_timeout_s=1.0,
        prior_wait_s=1.0,
        tracking=False,
        tf_rate_hz=0.0,
    )
    return Settings.from_mapping(values | changes)


def stamps(messages: Sequence[Any]) -> list[int]:
    """Header stamps in nanoseconds."""
    return [stamp_ns(message) for message in messages]


def matrix_of(stamped: TransformStamped) -> Matrix:
    """(4, 4) of a stamped transform."""
    from cross_view_loc.geometry.transforms import from_quaternion

    t, q = stamped.transform.translation, stamped.transform.rotation
    return transform(from_quaternion(q.x, q.y, q.z, q.w), (t.x, t.y, t.z))


def write_tiny_map(path: Path, data: bytes = b"") -> None:
    """One tile around the vehicle, grey unless `data` is given, without a map_origin in the metadata."""
    zoom = 16
    x, y = (int(value // 256) for value in mercator_pixel(ORIGIN[0], ORIGIN[1], zoom))
    tile = data or cv2.imencode(".png", np.full((256, 256, 3), 128, np.uint8))[1].tobytes()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
        database.executemany("INSERT INTO metadata VALUES (?, ?)", [("name", "grey"), ("format", "png")])
        database.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (zoom, x, 2**zoom - 1 - y, tile))
    database.close()


def _set_quaternion(message: Any, rotation: Matrix) -> None:
    message.x, message.y, message.z, message.w = (float(value) for value in to_quaternion(rotation[:3, :3]))


if __name__ == "__main__":
    from cross_view_loc.node.main import main

    sys.exit(main(make_localizer=lambda *arguments: globals()[os.environ["CVL_STAND_IN"]]()))
