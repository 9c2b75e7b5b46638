"""Tiny bags for tests: a car that drives east at 5 m/s with a camera, GNSS, odometry, IMU and ground truth."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.geometry.cameras import from_camera_info
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_pixel
from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.simulation import messages
from cross_view_loc.simulation.rig import RigCamera, make_rig

START_NS = 1_600_000_000_000_000_000
ORIGIN = MapOrigin(48.0, 11.0, 500.0)
SPEED_MPS = 5.0
CAMERA: RigCamera = make_rig("front", 0.1).cameras[0]
TYPES = {
    "/cam/image": "sensor_msgs/msg/CompressedImage",
    "/cam/camera_info": "sensor_msgs/msg/CameraInfo",
    "/gps/fix": "sensor_msgs/msg/NavSatFix",
    "/odom": "nav_msgs/msg/Odometry",
    "/imu/data": "sensor_msgs/msg/Imu",
    "/ground_truth/odometry": "nav_msgs/msg/Odometry",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}
REAR_TYPES = {
    "/rear/image": TYPES["/cam/image"],
    "/rear/camera_info": TYPES["/cam/camera_info"],
    "/cam/depth": "sensor_msgs/msg/Image",
}

Item = tuple[str, int, Any]
"""Topic, bag time, message."""


def pose_at(time_s: float) -> np.ndarray:
    """True T_map_base."""
    return transform(np.eye(3), (SPEED_MPS * time_s, 0.0, 0.0))


def drive(duration_s: float = 1.0, image_rate_hz: int = 5) -> list[Item]:
    """All messages, in order of time."""
    projection = MapProjection(ORIGIN)
    image = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    mount = [("base_link", CAMERA.optical_frame, CAMERA.T_base_camera), ("base_link", "antenna", np.eye(4)),
             ("base_link", "imu_link", np.eye(4))]  # fmt: skip
    items: list[Item] = [("/tf_static", START_NS, messages.tf_message(START_NS, mount))]
    for step in range(round(duration_s * 50) + 1):
        time_s = step / 50
        stamp = START_NS + round(time_s * 1e9)
        T = pose_at(time_s)
        # The odometry's own frame is turned and shifted: only its differences may be used.
        T_odom_base = transform(rotation_z(0.7), (100.0, -50.0, 0.0)) @ T
        twist, std = (np.array([SPEED_MPS, 0.0, 0.0]), np.zeros(3)), ((0.1,) * 6, (0.1,) * 6)
        items.append(("/odom", stamp, messages.odometry(stamp, "odom", "base_link", T_odom_base, *twist, *std)))
        items.append(("/ground_truth/odometry", stamp, messages.odometry(stamp, "map", "base_link", T, *twist, *std)))
        imu = messages.imu(stamp, "imu_link", T[:3, :3], np.zeros(3), np.zeros(3), (0.01, 0.01, 0.02), 0.01, 0.1)
        items.append(("/imu/data", stamp, imu))
        if step % 10 == 0:
            latitude, longitude, height = projection.to_geodetic(T[0, 3], T[1, 3], 0.0)
            fix = messages.nav_sat_fix(stamp, "antenna", latitude, longitude, height, np.eye(3))
            items.append(("/gps/fix", stamp, fix))
        if step % (50 // image_rate_hz) == 5:
            items.append(("/cam/camera_info", stamp, messages.camera_info(stamp, CAMERA)))
            items.append(("/cam/image", stamp, messages.compressed_image(stamp, CAMERA.optical_frame, image)))
    return items


def with_rear_camera(items: Iterable[Item], late_ns: int = 10_000_000, stalls_after_s: float = 1e9) -> list[Item]:
    """The drive with a second camera whose images have stamps that much later."""
    result: list[Item] = []
    for topic, time_ns, message in items:
        result.append((topic, time_ns, message))
        if topic == "/cam/camera_info":
            result.append(("/rear/camera_info", time_ns, message))
        if topic == "/cam/image" and time_ns - START_NS < stalls_after_s * 1e9:
            stamp = time_ns + late_ns
            rear = messages.compressed_image(
                stamp, CAMERA.optical_frame, np.full((CAMERA.height, CAMERA.width, 3), 40, np.uint8)
            )
            result.append(("/rear/image", stamp, rear))
    return sorted(result, key=lambda item: item[1])


def road_depth_m() -> np.ndarray:
    """(H, W) z-depth of the flat road in the drive's images, 0 above the horizon."""
    camera = from_camera_info(messages.camera_info(0, CAMERA))
    row, column = np.indices((CAMERA.height, CAMERA.width)) + 0.5
    rays, _ = camera.unproject(np.stack([column, row], axis=-1))
    descent = -(rays @ CAMERA.T_base_camera[2, :3]) / rays[..., 2]
    return np.where(descent > 0.03, CAMERA.T_base_camera[2, 3] / np.maximum(descent, 0.03), 0.0)


def with_depth(
    items: Iterable[Item], values: np.ndarray, encoding: str = "32FC1", late_ns: int = 0, recorded_ns: int = 30_000_000
) -> list[Item]:
    """The drive with a depth image (h, w) for every image, stamped and recorded so much after it."""
    result = list(items)
    data = values.astype("<f4" if encoding == "32FC1" else "<u2")
    for _, time_ns, _ in [item for item in result if item[0] == "/cam/image"]:
        header = messages.header(time_ns + late_ns, CAMERA.optical_frame)
        height, width = data.shape
        buffer = np.frombuffer(data.tobytes(), np.uint8)
        kind = messages.TYPESTORE.types[REAR_TYPES["/cam/depth"]]
        image = kind(header, height, width, encoding, 0, width * data.itemsize, buffer)
        result.append(("/cam/depth", time_ns + recorded_ns, image))
    return sorted(result, key=lambda item: item[1])


def write_bag2(path: Path, items: Iterable[Item], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A rosbag2 folder with every topic of `TYPES` declared."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        items = list(items)
        types = TYPES | {topic: kind for topic, kind in REAR_TYPES.items() if any(item[0] == topic for item in items)}
        connections = {t: writer.add_connection(t, kind, typestore=messages.TYPESTORE) for t, kind in types.items()}
        for topic, time_ns, message in items:
            writer.write(connections[topic], time_ns, messages.TYPESTORE.serialize_cdr(message, types[topic]))
    return path


def write_bag1(path: Path, items: Iterable[Item]) -> Path:
    """The odometry and fixes of a drive as a ROS 1 bag: the types whose fields both ROS generations share."""
    store = get_typestore(Stores.ROS1_NOETIC)
    topics = ("/odom", "/gps/fix")
    with Writer1(path) as writer:
        connections = {topic: writer.add_connection(topic, TYPES[topic], typestore=store) for topic in topics}
        for topic, time_ns, message in items:
            if topic in topics:
                header = store.types["std_msgs/msg/Header"](0, message.header.stamp, message.header.frame_id)
                message.header = header
                writer.write(connections[topic], time_ns, store.serialize_ros1(message, TYPES[topic]))
    return path


def write_map(path: Path, zoom: int = 18, with_origin: bool = True) -> Path:
    """An MBTiles file of grey tiles around the origin."""
    column, row = (int(value // 256) for value in mercator_pixel(ORIGIN.latitude_deg, ORIGIN.longitude_deg, zoom))
    tile = bytes(cv2.imencode(".png", np.full((256, 256, 3), 120, np.uint8))[1])
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
        database.execute("INSERT INTO metadata VALUES ('format', 'png')")
        if with_origin:
            database.execute("INSERT INTO metadata VALUES ('map_origin', '48.0,11.0,500.0')")
        for x in range(column - 1, column + 2):
            for y in range(row - 1, row + 2):
                database.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (zoom, x, 2**zoom - 1 - y, tile))
    database.close()
    return path
