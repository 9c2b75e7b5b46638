"""The node under load: a car in circles with one or more 1280x720 cameras, over DDS, each stage of the node timed.

Pictures and map are blurred noise: their estimates are refused, but every stage does all of its work.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.demo.node_process import NodeProcess, private_ros_network, wait_until
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import rotation_z, rpy, transform
from cross_view_loc.simulation import messages
from cross_view_loc.simulation.rig import RigCamera

if TYPE_CHECKING:
    from cross_view_loc.node.load import LoadMessage

ORIGIN = MapOrigin(48.0, 11.0, 500.0)
WIDTH, HEIGHT = 1280, 720
SPEED_MPS, RADIUS_M = 10.0, 60.0
MAP_ZOOM, MAP_REACH_TILES = 19, 4
MOTION_HZ, FIX_HZ = 50, 5
PICTURES = 4
START_UP_S, SETTLE_S = 180.0, 3.0
STAGE_FIGURES = ("transport", "waiting", "decode", "patch", "inference", "publish", "other", "total")


@dataclass(frozen=True)
class Load:
    """What is put on the node."""

    cameras: int = 1
    transport: str = "compressed"
    """compressed or raw."""
    rate_hz: float = 10.0
    duration_s: float = 60.0
    is_stand_in: bool = False
    """A localizer that answers with its prior at once: what remains is the node's own overhead."""
    depth: str = "learned"

    def __str__(self) -> str:
        what = "stand-in" if self.is_stand_in else f"localizer ({self.depth})"
        return f"{self.cameras} camera{'s' if self.cameras > 1 else ''}, {self.transport}, {what}"


def measure(load: Load, folder: Path, say: Callable[[str], object] = lambda text: None) -> dict[str, object]:
    """Run the node as its own process under the load; a row of figures. `folder` gets its map, parameters and log.

    Raises NodeError with the node's last words when it ends by itself or keeps silent.
    """
    with private_ros_network():
        from cross_view_loc.node.load import LoadPublisher, ProcessWatch  # rclpy reads the network's settings

        parameters, stages = folder / "parameters.yaml", folder / "stages.json"
        parameters.write_text(yaml.safe_dump(_parameters(load, folder)), encoding="utf-8")
        words = [str(stages), *(["--stand-in"] if load.is_stand_in else [])]
        cameras = rig(load.cameras)
        types = _types(cameras, load.transport)
        images = [topic for topic, kind in types.items() if kind in IMAGE_TYPES.values()]
        with (
            NodeProcess(parameters, {}, folder / "node.log", "cross_view_loc.node.timed", words) as node,
            LoadPublisher(types, images) as publisher,
        ):
            say("starting the node")
            for topic in images:
                wait_until(
                    lambda topic=topic: publisher.node.count_subscribers(topic) > 0,  # type: ignore[misc]
                    node,
                    START_UP_S,
                    "the node did not subscribe to images",
                )
            time.sleep(1.0)
            say(f"{load}: {load.duration_s:g} s")
            with ProcessWatch(node.pid) as watch:
                publisher.play(drive(load, cameras))
                time.sleep(SETTLE_S)
            node.check_alive()
            status = node.stop(patience_s=30.0)
        timed = json.loads(stages.read_text(encoding="utf-8"))
        return _row(load, publisher.sent, timed, watch, status)


def _row(load: Load, sent: int, timed: dict[str, Any], watch: Any, status: int) -> dict[str, object]:
    rows, moments, slope = timed["rows"], round(sent / load.cameras), watch.rss_slope_mb_per_min
    figures: dict[str, object] = {
        "setting": str(load),
        "rate_hz": load.rate_hz,
        "duration_s": load.duration_s,
        "images_sent": sent,
        "images_received": timed["received"],
        "images_lost": sent - timed["received"],
        "moments_processed": len(rows),
        "moments_dropped": moments - len(rows),
    }
    for stage in STAGE_FIGURES:
        series = [row[stage] for row in rows]
        for percent in (50, 95):
            figures[f"{stage}_ms_p{percent}"] = round(float(np.percentile(series, percent)), 2) if series else None
    return figures | {
        "cpu_percent": round(watch.cpu_percent, 1),
        "cores": os.cpu_count(),
        "rss_mb": round(watch.rss_mb, 1),
        # Only runs of a minute and more can tell.
        "rss_slope_mb_per_min": round(slope, 3) if math.isfinite(slope) else None,
        "node_exit_status": status,
    }


IMAGE_TYPES = {"compressed": "sensor_msgs/msg/CompressedImage", "raw": "sensor_msgs/msg/Image"}


def rig(count: int) -> list[RigCamera]:
    """Cameras looking forward, left, backward and right, at most four, 1280x720."""
    views = (
        ("front", 1.5, 0.0, 0.0),
        ("left", 0.5, 0.8, 90.0),
        ("rear", -1.0, 0.0, 180.0),
        ("right", 0.5, -0.8, -90.0),
    )
    return [
        # a positive pitch lowers the nose
        RigCamera(
            name, WIDTH, HEIGHT, 800.0, transform(rpy(0.0, math.radians(5.0), math.radians(yaw_deg)), (x, y, 1.6))
        )
        for name, x, y, yaw_deg in views[:count]
    ]


def _types(cameras: list[RigCamera], transport: str) -> dict[str, str]:
    types = {
        "/tf_static": "tf2_msgs/msg/TFMessage",
        "/gnss/fix": "sensor_msgs/msg/NavSatFix",
        "/odometry": "nav_msgs/msg/Odometry",
        "/imu": "sensor_msgs/msg/Imu",
    }
    for camera in cameras:
        types[f"/{camera.name}/camera_info"] = "sensor_msgs/msg/CameraInfo"
        types[f"/{camera.name}/image"] = IMAGE_TYPES[transport]
    return types


def _parameters(load: Load, folder: Path) -> dict[str, Any]:
    map_path = folder / "map.mbtiles"
    if not map_path.exists():
        write_noise_map(map_path)
    origin = [ORIGIN.latitude_deg, ORIGIN.longitude_deg, ORIGIN.height_m]
    values: dict[str, Any] = {
        "map_path": str(map_path), "map_origin": origin, "fix_topic": "/gnss/fix", "odometry_topic": "/odometry",
        "imu_topic": "/imu", "tf_mode": "none", "depth": load.depth,
    }  # fmt: skip
    cameras = rig(load.cameras)
    if load.cameras > 1:
        values["cameras"] = [camera.name for camera in cameras]
    for camera in cameras:
        start = f"{camera.name}." if load.cameras > 1 else ""
        values[f"{start}image_topic"] = f"/{camera.name}/image"
        values[f"{start}image_transport"] = load.transport
        values[f"{start}camera_info_topic"] = f"/{camera.name}/camera_info"
    return {"/**": {"ros__parameters": values}}


def write_noise_map(path: Path) -> None:
    """An MBTiles file of blurred noise around the origin."""
    cache = TileCache(path)
    middle = TileKey.at(ORIGIN.latitude_deg, ORIGIN.longitude_deg, MAP_ZOOM)
    reach = range(-MAP_REACH_TILES, MAP_REACH_TILES + 1)
    for seed, (i, j) in enumerate((i, j) for i in reach for j in reach):
        tile = messages.encode_jpeg(noise(256, 256, seed))
        cache.put(TileKey(MAP_ZOOM, middle.column + i, middle.row + j), tile, expires_s=1e9)
    cache.close()


def noise(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """(height, width, 3) picture about as busy as a street: coarse blotches under fine grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(30, 220, (height // 32 + 2, width // 32 + 2, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.normal(0, 40, (height, width, 1)).astype(np.float32), (0, 0), 1.5)
    return np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)


def drive(load: Load, cameras: list[RigCamera]) -> Iterator[LoadMessage]:
    """Messages of the whole load in order of time; images share their moment's time, and come after what they need."""
    from cross_view_loc.node.load import LoadMessage

    def message(at_s: float, topic: str, kind: str, content: Any) -> LoadMessage:
        return LoadMessage(at_s, topic, bytes(messages.TYPESTORE.serialize_cdr(content, kind)))

    types = _types(cameras, load.transport)
    projection = MapProjection(ORIGIN)
    mounts = [("base_link", camera.optical_frame, camera.T_base_camera) for camera in cameras]
    mounts += [("base_link", "antenna", np.eye(4)), ("base_link", "imu_link", np.eye(4))]
    yield message(0.0, "/tf_static", types["/tf_static"], messages.tf_message(0, mounts))
    pictures = [
        [_picture(camera, load.transport, PICTURES * index + i) for i in range(PICTURES)]
        for index, camera in enumerate(cameras)
    ]
    infos = [messages.camera_info(0, camera) for camera in cameras]
    steps_per_image = max(1, round(MOTION_HZ / load.rate_hz))
    image_count = 0
    for step in range(round(load.duration_s * MOTION_HZ)):
        at_s = step / MOTION_HZ
        turn = SPEED_MPS / RADIUS_M * at_s
        place = (RADIUS_M * math.sin(turn), RADIUS_M * (1.0 - math.cos(turn)), 0.0)
        T_map_base = transform(rotation_z(turn), place)
        velocity, rate = np.array([SPEED_MPS, 0.0, 0.0]), np.array([0.0, 0.0, SPEED_MPS / RADIUS_M])
        stds = ((0.1,) * 6, (0.1,) * 6)
        odometry = messages.odometry(0, "odom", "base_link", T_map_base, velocity, rate, *stds)
        yield message(at_s, "/odometry", types["/odometry"], odometry)
        imu = messages.imu(0, "imu_link", T_map_base[:3, :3], rate, np.zeros(3), (0.01, 0.01, 0.02), 0.01, 0.1)
        yield message(at_s, "/imu", types["/imu"], imu)
        if step % (MOTION_HZ // FIX_HZ) == 0:
            latitude, longitude, height = (float(v) for v in projection.to_geodetic(place[0], place[1], 0.0))
            fix = messages.nav_sat_fix(0, "antenna", latitude, longitude, height, np.eye(3))
            yield message(at_s, "/gnss/fix", types["/gnss/fix"], fix)
        if step % steps_per_image == 0:
            for camera, info, choice in zip(cameras, infos, pictures, strict=True):
                topic = f"/{camera.name}/camera_info"
                yield message(at_s, topic, types[topic], info)
                topic = f"/{camera.name}/image"
                yield LoadMessage(at_s, topic, choice[image_count % PICTURES])
            image_count += 1


def _picture(camera: RigCamera, transport: str, seed: int) -> bytes:
    """Serialized once: the stamp is written into the bytes as they are sent."""
    picture = noise(WIDTH, HEIGHT, seed)
    if transport == "compressed":
        content = messages.compressed_image(0, camera.optical_frame, picture)
    else:
        content = messages.TYPESTORE.types[IMAGE_TYPES["raw"]](
            header=messages.header(0, camera.optical_frame), height=HEIGHT, width=WIDTH, encoding="rgb8",
            is_bigendian=0, step=3 * WIDTH, data=picture.reshape(-1),
        )  # fmt: skip
    return bytes(messages.TYPESTORE.serialize_cdr(content, IMAGE_TYPES[transport]))
