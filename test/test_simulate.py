"""A simulated drive as it lies on disk: bag, tiles, truth and parameters, read back as a user would read them."""

import hashlib
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from cross_view_loc import cli
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_pixel
from cross_view_loc.geometry.transforms import from_quaternion, inverse, rpy, transform, yaw_of
from cross_view_loc.settings import Settings
from cross_view_loc.simulation import recording, sensors, tiles
from cross_view_loc.simulation.drive_renderer import DriveRenderer
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.messages import TYPESTORE
from cross_view_loc.simulation.rig import make_rig
from cross_view_loc.simulation.town import Town

PROJECTION = MapProjection(MapOrigin(48.0, 11.0, 500.0))
SEED = 9106
WAVE_M = 8.0


class CircleDrive:
    """Left turns on a circle of 30 m about (40, -20), tilted a little."""

    def T_map_base(self, t_s: float) -> np.ndarray:
        angle = 0.25 * t_s
        position = [40 + 30 * np.sin(angle), -20 - 30 * np.cos(angle), 3.0 + 0.1 * t_s]
        return transform(rpy(0.02, -0.03, angle), position)

    def velocity_map(self, t_s: float) -> np.ndarray:
        angle = 0.25 * t_s
        return np.array([7.5 * np.cos(angle), 7.5 * np.sin(angle), 0.1])

    def turn_rate_rad_s(self, t_s: float) -> float:
        return 0.25


class PaintedPlane:
    """Stands in for the renderer: a plane with grey waves of WAVE_M, whose phase says where one is along an axis."""

    def __init__(self, axis: str = "east"):
        self.axis = axis

    def ortho(self, center_east, center_north, width, height, meters_per_pixel, lean=(0.0, 0.0), supersample=2):
        east = center_east + (np.arange(width) + 0.5 - width / 2) * meters_per_pixel
        north = center_north - (np.arange(height) + 0.5 - height / 2) * meters_per_pixel
        return np.broadcast_to(east if self.axis == "east" else north[:, None], (height, width))

    def pinhole(self, T_map_camera, width, height, focal_px, velocity=None, time_s=0.0):
        return np.zeros((height, width))

    def panorama(self, T_map_camera, width, height, time_s=0.0):
        return np.zeros((height, width))

    def render(self, cameras):
        images = [np.repeat(128 + 100 * np.sin(2 * np.pi / WAVE_M * m)[..., None], 3, axis=-1) for m in cameras]
        return np.clip(np.round(images), 0, 255).astype(np.uint8), np.zeros(len(cameras))


def recorder(rig_name: str = "front", gnss: str = "honest") -> recording.Recorder:
    rig = make_rig(rig_name, 0.2)
    return recording.Recorder(CircleDrive(), DriveRenderer(PaintedPlane(), None), rig, PROJECTION, 4, 2.0, 5.0, gnss)


def read_bag(path: Path) -> dict[str, list[tuple[int, object]]]:
    found: dict[str, list] = {}
    with Reader(path) as reader:
        for connection, stamp_ns, data in reader.messages():
            message = TYPESTORE.deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((stamp_ns, message))
    return found


def stamp_of(message) -> int:
    stamp = (message.transforms[0] if hasattr(message, "transforms") else message).header.stamp
    return stamp.sec * 10**9 + stamp.nanosec


def pose_of(pose) -> np.ndarray:
    q, p = pose.orientation, pose.position
    return transform(from_quaternion(q.x, q.y, q.z, q.w), [p.x, p.y, p.z])


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> dict[str, list]:
    path = tmp_path_factory.mktemp("circle") / "bag"
    recording.write_bag(path, make_rig("front", 0.2), recorder().stream())
    return read_bag(path)


def test_bag_has_the_topics_and_rates_of_the_interface(bag):
    assert {topic: len(items) for topic, items in bag.items()} == {
        "/camera/front/image/compressed": 10,
        "/camera/front/camera_info": 10,
        "/gnss/fix": 11,
        "/odometry": 102,
        "/imu/data": 102,
        "/tf": 102,
        "/ground_truth/odometry": 102,
        "/tf_static": 1,
    }


def test_stamps_are_in_order_and_those_of_the_headers(tmp_path):
    recording.write_bag(tmp_path / "bag", make_rig("surround", 0.2), recorder("surround").stream())
    stamps, roles = [], {}
    with Reader(tmp_path / "bag") as reader:
        for connection, stamp_ns, data in reader.messages():
            stamps.append(stamp_ns)
            roles.setdefault(stamp_ns, []).append(connection.topic)
            assert stamp_of(TYPESTORE.deserialize_cdr(data, connection.msgtype)) == stamp_ns
    assert stamps == sorted(stamps)
    assert stamps[0] == recording.START_STAMP_NS
    moment = roles[recording.START_STAMP_NS + 200_000_000]
    images = [topic for topic in moment if topic.endswith("compressed")]
    assert len(images) == 4
    # An image comes after everything that is needed to use it.
    assert max(map(moment.index, ["/gnss/fix", "/odometry", "/imu/data", "/camera/front/camera_info"])) < min(
        map(moment.index, images[:1])
    )


def test_static_transforms_chain_to_the_optical_frame_and_are_latched(tmp_path, bag):
    ((_, message),) = bag["/tf_static"]
    edges = {}
    for item in message.transforms:
        t = item.transform.translation
        q = item.transform.rotation
        edges[item.child_frame_id] = (
            item.header.frame_id,
            transform(from_quaternion(q.x, q.y, q.z, q.w), [t.x, t.y, t.z]),
        )
    frame, T = "camera_front_optical", np.eye(4)
    while frame != "base_link":
        frame, step = edges[frame]
        T = step @ T
    assert np.allclose(T, make_rig("front").cameras[0].T_base_camera)
    assert np.allclose(T[:3, 3], [1.2, 0.0, 1.6])
    assert edges["gnss_antenna"][0] == edges["imu_link"][0] == "base_link"

    recording.write_bag(tmp_path / "bag", make_rig("front", 0.2), iter(()))
    with Reader(tmp_path / "bag") as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    assert durability["/tf_static"] == QosDurability.TRANSIENT_LOCAL
    assert durability["/tf"] == QosDurability.VOLATILE


def test_camera_info_follows_opencv_and_fits_the_image(bag):
    info, image = bag["/camera/front/camera_info"][0][1], bag["/camera/front/image/compressed"][0][1]
    decoded = cv2.imdecode(image.data, cv2.IMREAD_COLOR)
    assert decoded.shape[:2] == (info.height, info.width) == (72, 128)
    assert np.allclose(info.k.reshape(3, 3), [[80, 0, 63.5], [0, 80, 35.5], [0, 0, 1]])
    assert np.allclose(info.p.reshape(3, 4)[:, :3], info.k.reshape(3, 3))
    assert info.header.frame_id == image.header.frame_id == "camera_front_optical"
    assert image.format == "jpeg" and decoded.mean() == pytest.approx(128, abs=2)


def test_panorama_says_that_it_is_one():
    topics = {item.topic: item.message for item in recorder("panorama").stream()}
    assert topics["/camera/panorama/camera_info"].distortion_model == "equirectangular"


def test_ground_truth_is_the_drive_and_its_twist_is_the_body_s(bag):
    stamp_ns, message = bag["/ground_truth/odometry"][50]
    assert message.header.frame_id == "map" and message.child_frame_id == "base_link"
    assert np.allclose(
        pose_of(message.pose.pose), CircleDrive().T_map_base((stamp_ns - recording.START_STAMP_NS) / 1e9)
    )
    assert message.twist.twist.linear.x == pytest.approx(7.5, abs=0.05)
    assert message.twist.twist.linear.y == pytest.approx(0.0, abs=0.05)
    assert message.twist.twist.angular.z == pytest.approx(0.25, abs=0.01)


def test_odometry_starts_at_the_origin_and_moves_as_the_vehicle_does(bag):
    first, last = bag["/odometry"][0][1], bag["/odometry"][-1][1]
    assert first.header.frame_id == "odom" and first.child_frame_id == "base_link"
    assert np.allclose(pose_of(first.pose.pose), np.eye(4))
    truth = [pose_of(bag["/ground_truth/odometry"][i][1].pose.pose) for i in (0, -1)]
    motion, expected = pose_of(last.pose.pose), inverse(truth[0]) @ truth[1]
    assert np.allclose(motion[:2, 3], expected[:2, 3], atol=0.6)
    assert yaw_of(motion) == pytest.approx(yaw_of(expected), abs=0.02)
    # Covariance: row-major over x y z rotX rotY rotZ.
    covariance = last.pose.covariance.reshape(6, 6)
    assert covariance[0, 0] == pytest.approx(covariance[1, 1]) and covariance[5, 5] < covariance[3, 3]
    transform_message = bag["/tf"][-1][1].transforms[0]
    assert transform_message.child_frame_id == "base_link" and transform_message.header.frame_id == "odom"
    assert transform_message.transform.translation.x == last.pose.pose.position.x


def test_imu_yaw_grows_to_the_left_and_counts_from_east(bag):
    yaws = [
        yaw_of(pose_of(SimpleNamespace(orientation=m.orientation, position=m.angular_velocity)))
        for _, m in bag["/imu/data"]
    ]
    assert yaws[0] == pytest.approx(0.0, abs=np.deg2rad(5))
    assert yaws[-1] - yaws[0] == pytest.approx(0.25 * 2.02, abs=np.deg2rad(2))
    assert bag["/imu/data"][0][1].header.frame_id == "imu_link"
    assert np.sqrt(bag["/imu/data"][0][1].orientation_covariance[8]) == pytest.approx(np.deg2rad(1.02), rel=0.01)


@pytest.mark.parametrize("gnss", ["honest", "dishonest"])
def test_fixes_are_the_antenna_s(gnss, monkeypatch):
    monkeypatch.setattr(sensors, "gnss_error", lambda rng, count, interval_s: np.zeros((count, 3)))
    fixes = [item for item in recorder(gnss=gnss).stream() if item.topic == "/gnss/fix"]
    lever_arm = make_rig("front").lever_arm_base
    for item in fixes:
        fix = item.message
        east, north, up = PROJECTION.to_map(fix.latitude, fix.longitude, fix.altitude)
        T = CircleDrive().T_map_base((item.stamp_ns - recording.START_STAMP_NS) / 1e9)
        assert np.allclose([east, north, up], T[:3, 3] + T[:3, :3] @ lever_arm, atol=1e-4)
    std = np.sqrt(np.diag(fixes[0].message.position_covariance.reshape(3, 3)))[:2]
    assert fixes[0].message.header.frame_id == "gnss_antenna" and fixes[0].message.position_covariance_type == 2
    assert np.allclose(std, sensors.HORIZONTAL_STD_M if gnss == "honest" else [0.47, 0.37])


@pytest.fixture(scope="module")
def painted_maps(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiles")
    for axis in ("east", "north"):
        tiles.write_mbtiles(folder / f"{axis}.mbtiles", PaintedPlane(axis), PROJECTION, 110.0, "Painted")
    return {axis: folder / f"{axis}.mbtiles" for axis in ("east", "north")}


def read_pixel(path: Path, zoom: int, x: float, y: float) -> np.ndarray:
    """RGB at a global mercator pixel position, bilinear between pixel centres of one tile."""
    column, row = int(x // 256), int(y // 256)
    with sqlite3.connect(path) as connection:
        (data,) = connection.execute(
            "SELECT tile_data FROM tiles WHERE zoom_level=? AND tile_column=? AND tile_row=?",
            (zoom, column, 2**zoom - 1 - row),
        ).fetchone()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    at = np.float32([[x - 256 * column - 0.5]]), np.float32([[y - 256 * row - 0.5]])
    return cv2.remap(image, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0, 0]


@pytest.mark.parametrize("zoom", [17, 18, 19, 20])
@pytest.mark.parametrize("axis", ["east", "north"])
def test_every_zoom_shows_the_ground_its_pixels_name(painted_maps, axis, zoom):
    points = np.random.default_rng(zoom).uniform(-48, 48, (400, 2))
    latitude, longitude, _ = PROJECTION.to_geodetic(points[:, 0], points[:, 1], 0.0)
    x, y = mercator_pixel(latitude, longitude, zoom)
    inside = (np.minimum(x % 256, y % 256) > 2) & (np.maximum(x % 256, y % 256) < 254)
    colours = np.array([read_pixel(painted_maps[axis], zoom, *at) for at in zip(x[inside], y[inside], strict=True)])
    phase = 2 * np.pi / WAVE_M * points[inside, 0 if axis == "east" else 1]
    design = np.stack([np.sin(phase), np.cos(phase), np.ones_like(phase)], axis=1)
    (sine, cosine, _), *_ = np.linalg.lstsq(design, colours.mean(axis=1), rcond=None)
    shift_m = -np.arctan2(cosine, sine) * WAVE_M / (2 * np.pi)
    assert np.hypot(sine, cosine) > 85.0, "some tiles lie elsewhere"
    assert abs(shift_m) < 0.01, "a tenth of the finest pixel"


def test_block_maps_are_affine_below_a_millimetre():
    area = tiles.tile_range(PROJECTION, 200.0, 20)
    column, row = np.meshgrid(np.arange(0, 1025, 64.0), np.arange(0, 1025, 64.0))
    for x0, y0 in ((area.x0 * 256, area.y0 * 256), ((area.x1 - 4) * 256, (area.y1 - 4) * 256)):
        exact = np.stack(tiles.map_of_pixels(PROJECTION, x0 + column, y0 + row))
        fitted = np.einsum("ij,jhw->ihw", tiles.block_affine(PROJECTION, x0, y0), np.stack([column, row, row * 0 + 1]))
        assert np.abs(fitted - exact).max() < 0.001


def test_mbtiles_metadata(painted_maps):
    with sqlite3.connect(painted_maps["east"]) as connection:
        rows = dict(connection.execute("SELECT name, value FROM metadata"))
        zooms = [z for (z,) in connection.execute("SELECT DISTINCT zoom_level FROM tiles ORDER BY 1")]
    assert rows["format"] == "jpg" and zooms == [17, 18, 19, 20] == list(range(int(rows["minzoom"]), 21))
    west, south, east, north = map(float, rows["bounds"].split(","))
    assert west < 11.0 < east and south < 48.0 < north
    assert [float(value) for value in rows["map_origin"].split(",")] == [48.0, 11.0, 500.0]
    assert rows["name"] and rows["attribution"]


def test_beyond_the_town_the_map_is_black(painted_maps):
    latitude, longitude, _ = PROJECTION.to_geodetic(-56.5, 0.0, 0.0)
    assert read_pixel(painted_maps["north"], 20, *mercator_pixel(latitude, longitude, 20)).max() < 25


@pytest.fixture(scope="module")
def drive_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("drive") / "out"
    options = ["--duration", "2", "--town-size", "240", "--image-scale", "0.25"]
    assert cli.main(["simulate", "--seed", str(SEED), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SEED, size_m=240.0)


def best_shift(picture_at, paint_at, points: np.ndarray, shifts_m: np.ndarray) -> np.ndarray:
    """The (east, north) shift of the points that makes the picture's brightness agree best with the town's paint."""
    paint = paint_at(points) - paint_at(points).mean()
    score = np.full((len(shifts_m), len(shifts_m)), -1.0)
    for i, east in enumerate(shifts_m):
        for j, north in enumerate(shifts_m):
            light = picture_at(points + np.array([east, north]))
            score[i, j] = np.corrcoef(paint, light)[0, 1]
    i, j = np.unravel_index(np.argmax(score), score.shape)
    assert score[i, j] > 0.3, "the picture shows no paint"
    return np.array([shifts_m[i], shifts_m[j]])


def paint_of(town: Town, points: np.ndarray) -> np.ndarray:
    column, row = np.floor(town.ground_pixel(points)).astype(int).T
    return town.markings[row, column].astype(float)


def on_asphalt(town: Town, points: np.ndarray) -> np.ndarray:
    column, row = np.floor(town.ground_pixel(points)).astype(int).T
    return points[town.ground_material[row, column] == GroundMaterial.ASPHALT]


def test_road_paint_lies_where_the_town_has_it(drive_folder, town):
    zoom = 20
    with sqlite3.connect(drive_folder / "map.mbtiles") as connection:
        rows = connection.execute("SELECT tile_column, tile_row, tile_data FROM tiles WHERE zoom_level=20").fetchall()
    x0, y0 = min(x for x, _, _ in rows), min(2**zoom - 1 - y for _, y, _ in rows)
    side = 256 * (1 + max(x for x, _, _ in rows) - x0)
    mosaic = np.zeros((side + 256, side + 256), np.float32)
    for x, y, data in rows:
        u, v = 256 * (x - x0), 256 * (2**zoom - 1 - y - y0)
        mosaic[v : v + 256, u : u + 256] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)

    def light(points: np.ndarray) -> np.ndarray:
        latitude, longitude, _ = PROJECTION.to_geodetic(points[:, 0], points[:, 1], 0.0)
        x, y = mercator_pixel(latitude, longitude, zoom)
        at = (x - 256 * x0 - 0.5).astype(np.float32), (y - 256 * y0 - 0.5).astype(np.float32)
        return cv2.remap(mosaic, at[0][:, None], at[1][:, None], cv2.INTER_LINEAR)[:, 0]

    points = on_asphalt(town, np.random.default_rng(0).uniform(-100, 100, (30000, 2)))
    shift = best_shift(light, lambda p: paint_of(town, p), points, np.arange(-0.3, 0.31, 0.05))
    assert np.abs(shift).max() <= 0.051


def test_images_show_road_paint_where_truth_transforms_and_calibration_put_it(drive_folder, town):
    bag = read_bag(drive_folder / "bag")
    K = bag["/camera/front/camera_info"][0][1].k.reshape(3, 3)
    T_base_camera = make_rig("front").cameras[0].T_base_camera
    truth = np.loadtxt(drive_folder / "truth.tum")
    gathered = []
    for row, (_, message) in zip(truth, bag["/camera/front/image/compressed"], strict=True):
        T_map_camera = transform(from_quaternion(*row[4:]), row[1:4]) @ T_base_camera
        image = cv2.imdecode(message.data, cv2.IMREAD_GRAYSCALE).astype(np.float32)
        ahead = T_map_camera[:2, 3] + 9.0 * T_map_camera[:2, 2]
        points = on_asphalt(town, ahead + np.random.default_rng(1).uniform(-5, 5, (3000, 2)))
        gathered.append((inverse(T_map_camera), image, points))

    def light(points: np.ndarray) -> np.ndarray:
        shift = points[0] - gathered[0][2][0]
        values = []
        for T_camera_map, image, own in gathered:
            ground = own + shift
            spot = np.c_[ground, town.height(ground[:, 0], ground[:, 1])] @ T_camera_map[:3, :3].T + T_camera_map[:3, 3]
            pixel = (spot @ K.T)[:, :2] / spot[:, 2:]  # OpenCV: the first pixel's centre is 0, as in cv2.remap
            at = pixel.astype(np.float32)
            value = cv2.remap(image, at[:, :1], at[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
            values.append(value - value.mean())
        return np.concatenate(values)

    points = np.concatenate([own for _, _, own in gathered])
    shift = best_shift(light, lambda p: paint_of(town, p), points, np.arange(-0.6, 0.61, 0.1))
    assert np.abs(shift).max() <= 0.11


def test_truth_lies_on_ground_truth_odometry(drive_folder):
    truth = np.loadtxt(drive_folder / "truth.tum")
    bag = read_bag(drive_folder / "bag")
    by_stamp = {stamp_ns: pose_of(message.pose.pose) for stamp_ns, message in bag["/ground_truth/odometry"]}
    images = [stamp_ns for stamp_ns, _ in bag["/camera/front/image/compressed"]]
    stamps = [line.split()[0] for line in (drive_folder / "truth.tum").read_text().splitlines()]
    assert [int(s.replace(".", "")) for s in stamps] == images
    for row, stamp_ns in zip(truth, images, strict=True):
        T = transform(from_quaternion(*row[4:]), row[1:4])
        assert np.allclose(T, by_stamp[stamp_ns], atol=1e-6)


def test_parameters_are_the_node_s_and_name_topics_of_the_bag(drive_folder):
    settings = Settings.from_yaml(drive_folder / "localizer.yaml")
    topics = read_bag(drive_folder / "bag")
    assert {settings.image_topic, settings.camera_info_topic, settings.fix_topic} < set(topics)
    assert {settings.odometry_topic, settings.imu_topic} < set(topics)
    assert settings.image_transport == "compressed" and Path(settings.map_path).is_file()
    assert settings.map_origin == (48.0, 11.0, 500.0)
    assert (settings.map_frame, settings.odom_frame, settings.base_frame) == ("map", "odom", "base_link")


def test_a_folder_with_something_in_it_is_left_alone(drive_folder, capsys):
    before = sorted(p.name for p in drive_folder.iterdir())
    assert cli.main(["simulate", "--seed", "1", "--out", str(drive_folder)]) == 1
    error = capsys.readouterr().err
    assert "not empty" in error and "--force" in error and len(error.strip().splitlines()) == 1
    assert sorted(p.name for p in drive_folder.iterdir()) == before


@pytest.mark.parametrize("option", [["--duration", "0"], ["--rate", "0"], ["--town-size", "50"], ["--seed", "-1"]])
def test_impossible_options_are_one_sentence(tmp_path, capsys, option):
    assert cli.main(["simulate", "--seed", "1", "--out", str(tmp_path / "x"), *option]) == 1
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_same_seed_same_bytes(drive_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tiles, "write_mbtiles", lambda path, *rest, **named: path.write_bytes(b"") or 0)
    options = ["--duration", "2", "--town-size", "240", "--image-scale", "0.25", "--json"]
    (tmp_path / "again" / "bag").mkdir(parents=True)
    (tmp_path / "again" / "bag" / "old").touch()
    (tmp_path / "again" / "notes.txt").write_text("mine")
    assert cli.main(["simulate", "--seed", str(SEED), "--out", str(tmp_path / "again"), "--force", *options]) == 0
    assert (tmp_path / "again" / "notes.txt").read_text() == "mine" and not (
        tmp_path / "again" / "bag" / "old"
    ).exists()
    summary = json.loads(capsys.readouterr().out)
    assert summary["seed"] == SEED and summary["messages"]["/camera/front/image/compressed"] == 10
    assert bag_digest(drive_folder / "bag") == bag_digest(tmp_path / "again" / "bag")
    assert (drive_folder / "truth.tum").read_bytes() == (tmp_path / "again" / "truth.tum").read_bytes()


def bag_digest(path: Path) -> str:
    checksum = hashlib.sha256()
    with Reader(path) as reader:
        for connection, stamp_ns, data in reader.messages():
            checksum.update(f"{connection.topic} {stamp_ns} ".encode() + data)
    return checksum.hexdigest()
