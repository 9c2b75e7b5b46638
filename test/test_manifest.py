"""Manifests: what they say is what training sees, whatever camera, pose and map they name; mistakes are named."""

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from cross_view_loc.datasets.kitti import kitti_rows
from cross_view_loc.datasets.vigor import vigor_rows
from cross_view_loc.errors import CrossViewError, InputError, NoImageryError
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, to_quaternion, yaw_of
from cross_view_loc.inputs.camera_text import camera_text, parse_camera
from cross_view_loc.training.batches import collate_matcher, flat_depth, lifted, matcher_sample, view_arrays
from cross_view_loc.training.manifest import load_manifest
from cross_view_loc.training.manifest_rows import read_rows, write_rows

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))
    return path


@pytest.fixture
def folder(tmp_path):
    ground = np.zeros((120, 200, 3), np.uint8)
    ground[:, :100], ground[:, 100:] = RED, GREEN
    save(tmp_path / "front.png", ground)
    aerial = np.full((400, 400, 3), 60, np.uint8)
    aerial[180:200, 220:240] = BLUE  # 0–10 m north and 10–20 m east of the centre at 0.5 m per pixel
    save(tmp_path / "above.png", aerial)
    return tmp_path


ROW = {
    "image": "front.png",
    "camera": "pinhole:100,100,100,60",
    "mount": "1.5 2",
    "east_m": 3.0,
    "north_m": 4.0,
    "yaw_deg": 90.0,
    "aerial": "above.png",
    "meters_per_pixel": 0.5,
}


def load(folder, *changes, name="m.csv"):
    path = folder / name
    write_rows(path, [{**ROW, **change} for change in changes or ({},)])
    return load_manifest(path)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_row_becomes_the_arrays_of_a_town(folder, name):
    (data,) = load(folder, {}, {"yaw_deg": None, "heading_deg": 90.0, "pitch_deg": 3.0}, name=name)
    assert len(data.images) == 2 and data.images[0].shape == (192, 320, 3) and not data.has_depth
    assert data.T_map_base[0][:2, 3].tolist() == [3.0, 4.0]
    assert yaw_of(data.T_map_base[0]) == pytest.approx(math.pi / 2) and yaw_of(data.T_map_base[1]) == pytest.approx(0)
    assert np.allclose(data.R_level_base[1], rpy(0, math.radians(3), 0))
    assert np.allclose(data.T_base_camera[0][:3, :3], rpy(0, math.radians(2), 0) @ R_BODY_OPTICAL, atol=1e-6)
    image, elevation, _ = view_arrays(data, 0)
    assert image[96, 20].tolist() == list(RED) and image[96, 300].tolist() == list(GREEN)
    assert elevation[96, 160] == pytest.approx(-math.sin(math.radians(2)), abs=0.01)  # pitch looks down
    sample = matcher_sample(data, 0, {data.seed: data.cell_depth_m}, np.random.default_rng(0))
    assert collate_matcher([sample]).patches.shape == (1, 3, 400, 400)


def test_the_patch_of_a_sample_shows_what_lies_around_the_pose(folder):
    """The blue square lies north-east of the centre; seen from its middle it is under the vehicle."""
    (data,) = load(folder, {"east_m": 15.0, "north_m": 5.0, "yaw_deg": 30.0})
    sample = matcher_sample(data, 0, {}, np.random.default_rng(1))
    right, up = sample["prior"] + sample["shift"]
    column, row = 200 + right / 0.2, 200 - up / 0.2
    assert sample["patch"][round(row), round(column)].tolist() == list(BLUE)


def test_cells_outside_the_image_are_not_seen(folder):
    """A wide image fills only the middle rows of the taller view."""
    save(folder / "wide.png", np.full((60, 200, 3), 90, np.uint8))
    (data,) = load(folder, {"image": "wide.png", "camera": "pinhole:100,100,100,30"})
    seen = data.seen_cells[0]
    assert seen.shape == (48, 40) and seen[24].all() and not seen[0].any() and not seen[-1].any()
    assert (flat_depth(data, 0)[-1] > 0).all()  # flat ground alone would have used them


def test_depth_of_a_pinhole_is_along_the_axis_and_lifts_to_the_ground(folder):
    """Depth of flat ground as a camera 1.5 m up sees it, written to a file, lifts to z = 0 in front of it."""
    v = (np.arange(120) + 0.5 - 60) / 100
    depth = np.where(v > 0.03, 1.5 / np.maximum(v, 0.03), 0)[:, None].repeat(200, 1)
    np.save(folder / "d.npy", depth.astype(np.float32))
    cv2.imwrite(str(folder / "d.png"), np.round(depth * 256).astype(np.uint16))
    for change in ({"depth": "d.npy"}, {"depth": "d.png", "depth_m_per_unit": 1 / 256}):
        (data,) = load(folder, {"mount": "1.5", **change})
        assert data.has_depth and data.depth_m[0].shape == (48, 80)
        cells = data.cell_depth_m[0].astype(float)
        flat = flat_depth(data, 0)[:48]
        near = (flat > 2) & (flat < 8) & data.seen_cells[0]
        assert near.sum() > 100 and np.median(np.abs(cells - flat)[near] / flat[near]) < 0.03
        points, usable = lifted(data, 0, np.concatenate([cells] * 3))
        assert usable.any() and (points[usable][:, 0] > 1).all()


def test_a_panorama_gives_four_views_that_look_all_around(folder):
    """Quarters of the panorama have a colour each; each view sees its own and points its own way."""
    panorama = np.zeros((200, 400, 3), np.uint8)
    for index, colour in enumerate((RED, GREEN, BLUE, (255, 255, 0))):
        panorama[:, index * 100 : (index + 1) * 100] = colour
    save(folder / "pano.png", panorama)
    np.save(folder / "pano.npy", np.full((200, 400), 10.0, np.float32))
    row = {"image": "pano.png", "camera": "equirectangular", "depth": "pano.npy"}
    (data,) = load(folder, {**row, "mount": "1.5"})
    assert [data.images[index][96, 160].tolist() for index in range(4)] == [
        list(c) for c in (RED, GREEN, BLUE, (255, 255, 0))
    ]
    lefts = [math.degrees(math.atan2(T[1, 2], T[0, 2])) for T in data.T_base_camera]
    assert np.allclose(lefts, [135, 45, -45, -135], atol=0.01)  # left rim is behind, columns run clockwise
    assert data.cell_depth_m[0].max() == pytest.approx(10.0, abs=0.05)  # along the axis, less towards the corners
    assert data.cell_depth_m[0][24, 0] == pytest.approx(10.0 * math.cos(math.radians(44.3)), abs=0.1)


def test_degrees_and_an_aerial_image_by_its_centre(folder):
    change = {"east_m": None, "north_m": None, "latitude_deg": 48.0001, "longitude_deg": 11.0002}
    center = {"aerial_latitude_deg": 48.0, "aerial_longitude_deg": 11.0}
    (data,) = load(folder, {**change, **center})
    east_m, north_m = data.T_map_base[0][:2, 3]
    assert north_m == pytest.approx(11.12, abs=0.01) and east_m == pytest.approx(14.92, abs=0.02)
    with pytest.raises(InputError, match=r"line 2.*aerial_latitude_deg"):
        load(folder, change)


def test_yaw_with_degrees_is_from_true_east(tmp_path):
    """East of the origin the meridian leans west, to the pole: at 50° north by 0.77° for a degree of longitude."""
    from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
    from cross_view_loc.training.manifest import _in_degrees

    save(tmp_path / "front.png", np.zeros((120, 200, 3), np.uint8))
    save(tmp_path / "above.png", np.zeros((8, 8, 3), np.uint8))
    place = {"east_m": None, "north_m": None, "latitude_deg": 50.0, "longitude_deg": 12.0, "yaw_deg": 0.0}
    write_rows(tmp_path / "m.csv", [{**ROW, **place, "aerial_latitude_deg": 50.0, "aerial_longitude_deg": 11.0}])
    (row,) = read_rows(tmp_path / "m.csv")
    T = _in_degrees(row, MapProjection(MapOrigin(50.0, 11.0)))
    assert math.degrees(yaw_of(T)) == pytest.approx(0.766, abs=0.01)


def test_a_mount_of_seven_numbers_is_the_optical_frame(folder):
    quaternion = " ".join(map(str, to_quaternion(R_BODY_OPTICAL)))
    (data,) = load(folder, {"mount": f"1 0.5 1.2 {quaternion}"})
    assert np.allclose(data.T_base_camera[0][:3, 3], [1, 0.5, 1.2])
    assert np.allclose(data.T_base_camera[0][:3, :3], R_BODY_OPTICAL, atol=1e-6)


def test_each_aerial_source_is_data_of_its_own(folder):
    save(folder / "other.png", np.zeros((300, 300, 3), np.uint8))
    sets = load(folder, {}, {"aerial": "other.png"}, {})
    assert [len(data.images) for data in sets] == [2, 1] and [data.seed for data in sets] == [-1, -2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image": "none.png"}, r"m\.csv line 3: image .*none\.png does not exist"),
        ({"yaw_deg": "north"}, r"line 3: yaw_deg is 'north'"),
        ({"yaw_deg": ""}, r"line 3: give either yaw_deg"),
        ({"heading_deg": 3.0}, r"line 3: give either yaw_deg"),
        ({"latitude_deg": 3.0, "longitude_deg": 1.0}, r"line 3: give either latitude_deg"),
        ({"north_m": ""}, r"line 3 has no north_m"),
        ({"mount": "1 2 3 4 5"}, r"line 3: mount is '1 2 3 4 5'"),
        ({"mount": "-1.5"}, r"line 3: the camera is -1\.5 m above"),
        ({"camera": "pinhole:1,2"}, r"line 3: camera 'pinhole:1,2'"),
        ({"camera": "phone"}, r"line 3: camera 'phone' is not understood"),
        ({"camera": "equirectangular"}, r"line 3: .*not 2:1"),
        ({"meters_per_pixel": ""}, r"line 3 has no meters_per_pixel"),
        ({"meters_per_pixel": 0}, r"line 3: meters_per_pixel is 0"),
        ({"depth": "front.png"}, r"line 3 has no depth_m_per_unit"),
    ],
)
def test_mistakes_are_named_by_file_and_row(folder, change, sentence):
    with pytest.raises(CrossViewError, match=sentence):
        load(folder, {}, change)


def test_unknown_columns_and_broken_lines_are_named(folder):
    (folder / "m.csv").write_text("image,camra\nfront.png,strip\n")
    with pytest.raises(InputError, match=r"line 2 has the unknown column 'camra'"):
        load_manifest(folder / "m.csv")
    (folder / "m.csv").write_text("image,camera\nfront.png,pinhole:1,2,3,4\n")
    with pytest.raises(InputError, match="more cells than the header"):
        load_manifest(folder / "m.csv")
    (folder / "m.jsonl").write_text(json.dumps(ROW) + "\n[1]\n")
    with pytest.raises(InputError, match=r"m\.jsonl line 2 is not a JSON object"):
        load_manifest(folder / "m.jsonl")
    (folder / "m.csv").write_text("image,camera\n")
    with pytest.raises(InputError, match="has no rows"):
        load_manifest(folder / "m.csv")


def test_images_and_depth_of_another_size_are_named_when_read(folder):
    save(folder / "small.png", np.zeros((60, 100, 3), np.uint8))
    (data,) = load(folder, {}, {"image": "small.png"})
    with pytest.raises(InputError, match=r"line 3: .*small\.png is 100x60"):
        data.images[1]
    np.save(folder / "d.npy", np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"d\.npy is not a depth image of 200x120"):
        load(folder, {"depth": "d.npy"})[0].images[0]


def test_camera_texts_come_back_as_the_same_camera(tmp_path):
    for camera in (
        PinholeCamera(640, 480, 500.5, 501.25, 320.5, 240.1, (0.1, -0.02, 0.001)),
        PinholeCamera(640, 480, 500, 500, 320, 240, (0.1, 0, 0, 0, 0, 0.2, 0, 0.01), "rational_polynomial"),
        FisheyeCamera(640, 480, 200, 200, 320, 240, (0.01, 0.002)),
        EquirectangularCamera(640, 320),
    ):
        again = parse_camera(camera_text(camera), tmp_path, camera.width, camera.height)
        pixels = np.array([[10.0, 20.0], [600.0, 300.0]])
        assert type(again) is type(camera) and np.allclose(again.unproject(pixels)[0], camera.unproject(pixels)[0])


def test_a_calibration_file_counts_pixel_centres_as_integers(folder):
    (folder / "cam.yaml").write_text(
        "image_width: 200\nimage_height: 120\ncamera_name: front\ndistortion_model: plumb_bob\n"
        "camera_matrix: {rows: 3, cols: 3, data: [100, 0, 99.5, 0, 100, 59.5, 0, 0, 1]}\n"
        "distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n"
    )
    assert parse_camera("cam.yaml", folder, 200, 120).cx == 100.0
    with pytest.raises(InputError, match="200x120, not 100x60"):
        parse_camera("cam.yaml", folder, 100, 60)


# --- KITTI ---


@pytest.fixture
def kitti(tmp_path):
    raw = tmp_path / "raw_data" / "2011_09_26"
    drive = raw / "2011_09_26_drive_0002_sync"
    save(drive / "image_02" / "data" / "0000000042.png", np.full((37, 124, 3), 80, np.uint8))
    (drive / "oxts" / "data").mkdir(parents=True)
    yaw = math.radians(120.0)
    (drive / "oxts" / "data" / "0000000042.txt").write_text(f"49.0 8.4 116.0 0.02 -0.01 {yaw} 1 2 3\n")
    projection = "72.1 0 60.9 4.4 0 72.1 17.2 0.2 0 0 1 0.002"
    (raw / "calib_cam_to_cam.txt").write_text(f"calib_time: x\nP_rect_02: {projection}\n")
    save(tmp_path / "satmap/2011_09_26/2011_09_26_drive_0002_sync/0000000042.png", np.zeros((512, 512, 3), np.uint8))
    (tmp_path / "test1.txt").write_text("2011_09_26/2011_09_26_drive_0002_sync/0000000042.png 0.5 -0.25 0.8\n")
    return tmp_path


def test_kitti_rows_hold_the_vehicle_below_its_antenna_and_the_camera_on_it(kitti):
    write_rows(kitti / "kitti.csv", kitti_rows(kitti, kitti / "test1.txt"))
    (data,) = load_manifest(kitti / "kitti.csv")
    assert data.T_map_base[0][:2, 3].tolist() == [0.0, 0.0]  # the aerial image is centred on the antenna
    assert math.degrees(yaw_of(data.T_map_base[0])) == pytest.approx(120.0)
    T = data.T_base_camera[0]
    assert np.allclose(T[:3, 3], [1.08, -0.26, 1.65])  # ahead and to the right of the antenna
    assert np.allclose(T[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=0.02)
    assert np.allclose(data.R_level_base[0], rpy(0.02, -0.01, 0))
    (row,) = read_rows(kitti / "kitti.csv")
    assert row.camera == "pinhole:72.1,72.1,61.4,17.7" and row.meters_per_pixel == 0.195829


def test_kitti_priors_put_the_crop_middle_where_the_list_says(kitti):
    """Shift 0.5, −0.25 → negated, 10 m back and 5 m left of the camera; θ 0.8 → headed 8° left of the prior."""
    (row,) = kitti_rows(kitti, kitti / "test1.txt")
    assert row["prior_yaw_deg"] == pytest.approx(120.0 - 8.0)

    def turned(forward, left, degrees):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array([c * forward - s * left, s * forward + c * left])

    prior_camera = np.array([row["prior_east_m"], row["prior_north_m"]]) + turned(1.08, -0.26, 112.0)
    assert np.allclose(prior_camera, turned(1.08, -0.26, 120.0) + turned(-10.0, 5.0, 120.0))


def test_kitti_training_lists_have_no_prior_and_mistakes_are_named(kitti):
    (kitti / "train.txt").write_text("2011_09_26/2011_09_26_drive_0002_sync/0000000042.png\n")
    assert "prior_east_m" not in kitti_rows(kitti, kitti / "train.txt")[0]
    (kitti / "bad.txt").write_text("\n0000000042.png\n")
    with pytest.raises(InputError, match=r"bad\.txt line 2"):
        kitti_rows(kitti, kitti / "bad.txt")
    (kitti / "gone.txt").write_text("2011_09_26/2011_09_26_drive_0009_sync/0000000001.png\n")
    with pytest.raises(InputError, match=r"no pose at .*drive_0009.*oxts"):
        kitti_rows(kitti, kitti / "gone.txt")


# --- VIGOR ---


@pytest.fixture
def vigor(tmp_path):
    satellite = "satellite_47.6000000_-122.3000000.png"
    aerial = np.zeros((640, 640, 3), np.uint8)
    aerial[320 + 60 - 6 : 320 + 60 + 6, 320 - 100 - 6 : 320 - 100 + 6] = RED
    save(tmp_path / "Seattle" / "satellite" / satellite, aerial)
    # 60 px south and 100 px west of the middle, at 0.100817 m per pixel
    north_m, east_m = -60 * 0.100817, -100 * 0.100817
    latitude = 47.6 + north_m / 111_195
    longitude = -122.3 + east_m / 111_195 / math.cos(math.radians(47.6))
    name = f"AbC_1,{latitude:.7f},{longitude:.7f},.jpg"
    panorama = np.zeros((100, 200, 3), np.uint8)
    panorama[:, 80:120] = GREEN  # north
    save(tmp_path / "Seattle" / "panorama" / name, panorama)
    labels = tmp_path / "splits" / "Seattle" / "train.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(f"{name} {satellite} 60.0 100.0 {satellite} 1 2 {satellite} 1 2 {satellite} 1 2\n")
    return tmp_path, labels


def test_vigor_rows_place_the_camera_and_its_middle_column_looks_north(vigor):
    root, labels = vigor
    write_rows(root / "vigor.jsonl", vigor_rows(root, labels))
    (data,) = load_manifest(root / "vigor.jsonl")
    assert np.allclose(data.T_map_base[0][:2, 3], [-10.0817, -6.04902])
    assert len(data.images) == 4
    north = [index for index in range(4) if np.mean(data.images[index][..., 1] > 150) > 0.1]
    looks = [(data.T_map_base[0] @ data.T_base_camera[index])[:3, 2] for index in north]
    assert len(looks) == 2 and np.allclose(np.mean(looks, 0)[0], 0, atol=1e-6) and np.mean(looks, 0)[1] > 0.7
    sample = matcher_sample(data, 0, {}, np.random.default_rng(0))
    right, up = sample["prior"] + sample["shift"]
    assert sample["patch"][round(200 - up / 0.2), round(200 + right / 0.2)][0] > 200  # red is below the camera


def test_vigor_labels_of_another_convention_are_refused(vigor):
    root, labels = vigor
    labels.write_text(labels.read_text().replace(" 60.0 100.0 ", " -60.0 -100.0 "))
    with pytest.raises(InputError, match=r"train\.txt line 1 places the camera 10 m east.*names say -10 m"):
        vigor_rows(root, labels)
    with pytest.raises(InputError, match="no city of VIGOR"):
        vigor_rows(root, _copied(labels, root / "elsewhere" / "train.txt"))


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir()
    target.write_text(source.read_text())
    return target


# --- bags ---


def test_a_bag_with_truth_becomes_a_manifest_that_trains(tmp_path, capsys):
    """A car that drives east at 5 m/s: images every 2 m and more, with the truth of their stamps."""
    pytest.importorskip("warp", reason="the simulator's camera rig")
    from bag_helpers import CAMERA, ORIGIN, drive, write_bag2, write_map

    from cross_view_loc.cli import main

    bag, map_path = write_bag2(tmp_path / "bag", drive(3.0)), write_map(tmp_path / "map.mbtiles")
    out = tmp_path / "bag.csv"
    command = ["train", "manifest", str(bag), "--map", str(map_path), "--out", str(out)]
    assert main([*command, "--truth-topic", "/ground_truth/odometry"]) == 0, capsys.readouterr().err
    rows = list(csv.DictReader(out.open()))
    east = np.array([float(row["east_m"]) for row in rows])
    stamps = np.array([int(Path(row["image"]).stem) for row in rows])
    assert len(rows) >= 4 and (np.diff(east) >= 2.0 - 1e-6).all() and (np.diff(east) < 4.0).all()
    assert np.allclose(np.diff(east), np.diff(stamps) * 5e-9, atol=1e-3)
    assert float(rows[0]["origin_latitude_deg"]) == pytest.approx(ORIGIN.latitude_deg)
    (data,) = load_manifest(out)
    assert np.allclose(data.T_base_camera[0][:3, 3], CAMERA.T_base_camera[:3, 3], atol=1e-6)
    assert abs(yaw_of(data.T_map_base[0])) < 1e-6
    image = data.images[0]
    assert abs(int(image[96, 160, 0]) - 90) <= 3
    # the same from fixes: heading by Imu, position by the antenna
    assert main([*command[:-1], str(tmp_path / "fix.csv"), "--truth-topic", "/gps/fix"]) == 0, capsys.readouterr().err
    fixes = {row["image"].split("/")[1]: row for row in csv.DictReader((tmp_path / "fix.csv").open())}
    for row in rows:
        other = fixes.get(Path(row["image"]).name)
        if other is not None:
            assert abs(float(other["east_m"]) - float(row["east_m"])) < 0.3 and abs(float(other["north_m"])) < 0.3
    assert main([*command, "--truth-topic", "/truth"]) == 1
    assert "/truth" in capsys.readouterr().err


def test_a_pose_outside_the_map_is_named(folder):
    pytest.importorskip("warp")
    from bag_helpers import write_map

    map_path = write_map(folder / "map.mbtiles")
    change = {"aerial": str(map_path), "meters_per_pixel": None, "origin_latitude_deg": 48, "origin_longitude_deg": 11}
    (data,) = load(folder, change)
    assert data.maps[0].patch(0.0, 0.0, 64, 0.2, 1.0).valid.any()
    with pytest.raises(NoImageryError, match=r"m\.csv line 2: .*map\.mbtiles has no imagery at latitude 48\.4"):
        load(folder, {**change, "north_m": 50_000.0})
