"""The town in the layouts of KITTI and VIGOR: what their public descriptions say, and what our own readers find."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from layout_helpers import CircleDrive, scene

from cross_view_loc import cli
from cross_view_loc.datasets import kitti as kitti_reader
from cross_view_loc.datasets import vigor as vigor_reader
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import EquirectangularCamera, PinholeCamera
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, inverse, rpy, transform
from cross_view_loc.simulation.drive_renderer import Shot
from cross_view_loc.simulation.layouts import kitti, kitti_text, vigor, vigor_labels
from cross_view_loc.simulation.layouts.scene import LayoutSettings, Scene

FRAMES = 3


class NoProgress:
    def start(self, title, total):
        return lambda count: None


def fake_scene(settings, seed, size_m, projection):
    return scene(seed, projection, size_m)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    out = tmp_path_factory.mktemp("layouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scene, "make", fake_scene)
        kitti.write_kitti(LayoutSettings(9301, FRAMES), out / "kitti", NoProgress())
        vigor.write_vigor(LayoutSettings(9301, FRAMES), out / "vigor", NoProgress(), ("Seattle", "Chicago"))
    return out


def calibration(text):
    pairs = (line.split(": ") for line in text.splitlines())
    return {key: value.split() for key, value in pairs}


def rigid(text):
    values = calibration(text)
    return transform(np.array(values["R"], float).reshape(3, 3), np.array(values["T"], float))


def test_calibration_files_lead_from_the_antenna_to_the_pixel_of_the_left_colour_camera():
    values = calibration(kitti_text.camera_calibration())
    lengths = {"S": 2, "K": 9, "D": 5, "R": 9, "T": 3, "S_rect": 2, "R_rect": 9, "P_rect": 12}
    for camera in range(4):
        for name, length in lengths.items():
            assert len(values[f"{name}_{camera:02d}"]) == length
    assert values["P_rect_02"][:3] == ["7.215377e+02", "0.000000e+00", "6.095593e+02"]
    assert values["S_rect_02"] == ["1.242000e+03", "3.750000e+02"]
    T_velo_imu, T_cam_velo = (
        rigid(text) for text in (kitti_text.imu_to_velodyne_calibration(), kitti_text.velodyne_to_camera_calibration())
    )
    point_antenna = np.array([14.0, 2.5, -0.4, 1.0])
    u, v, w = np.array(values["P_rect_02"], float).reshape(3, 4) @ T_cam_velo @ T_velo_imu @ point_antenna
    T_antenna_camera = transform(R_BODY_OPTICAL, np.array([1.08, -0.26, 0.72]))
    camera = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854)
    expected, _ = camera.project((inverse(T_antenna_camera) @ point_antenna)[:3])
    np.testing.assert_allclose([u / w, v / w], expected, atol=1e-3)


def test_oxts_has_thirty_numbers_with_the_signs_of_the_standard():
    R = rpy(0.05, -0.1, math.radians(120.0))  # left side up, nose up, heading 30° west of north
    motion = kitti_text.Motion(R, np.array([-5.0, 8.66, 1.0]), np.array([0.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.2]))
    line = kitti_text.oxts_line(49.0, 8.4, 116.5, motion)
    values = [float(word) for word in line.split()]
    assert len(values) == 30 and line.endswith("\n") and line.count("\n") == 1
    np.testing.assert_allclose(values[:3], [49.0, 8.4, 116.5])
    np.testing.assert_allclose(values[3:6], [0.05, -0.1, math.radians(120.0)], atol=1e-12)
    np.testing.assert_allclose(values[6:8], [8.66, -5.0])  # north, east
    np.testing.assert_allclose(values[8:11], [10.0, 0.0, 1.0], atol=1e-3)  # ahead, left, up
    np.testing.assert_allclose(np.linalg.norm(values[11:14]), 9.81)
    assert values[11] > 0.9 and values[12] > 0.4  # nose up: gravity pushes from the front; left side up: from the left
    np.testing.assert_allclose(values[14:17], [0.0, 0.0, 9.81], atol=1e-9)
    assert values[19] == 0.2 and values[22] == pytest.approx(0.2, rel=0.01)
    assert all(float(word).is_integer() for word in line.split()[25:])


def test_kitti_reader_finds_the_pose_of_base_link_to_a_millimetre(trees):
    root = trees / "kitti"
    rows = kitti_reader.kitti_rows(root, root / "train_files.txt")
    times = scene(9301, MapProjection(kitti.ORIGIN), kitti.TOWN_SIZE_M).moments_s(2 * FRAMES, kitti.REACH_M)[::2]
    assert len(rows) == FRAMES
    for row, time_s in zip(rows, times, strict=True):
        T_map_base = CircleDrive().T_map_base(time_s)
        words = Path(row["image"].replace("image_02", "oxts").replace(".png", ".txt")).read_text().split()
        latitude, longitude, height = (float(word) for word in words[:3])
        found = np.array(MapProjection(kitti.ORIGIN).to_map(latitude, longitude, height))
        np.testing.assert_allclose(found - [0, 0, kitti_text.ANTENNA_HEIGHT_M], T_map_base[:3, 3], atol=1e-3)
        R = rpy(*(math.radians(row[f"{angle}_deg"]) for angle in ("roll", "pitch", "yaw")))
        np.testing.assert_allclose(R, T_map_base[:3, :3], atol=1e-10)
        assert row["camera"] == "pinhole:721.5377,721.5377,610.0593,173.354"
        mount = [float(word) for word in row["mount"].split()]
        np.testing.assert_allclose(mount[:3], kitti.mounted_camera().T_base_camera[:3, 3])
        picture, satmap = cv2.imread(row["image"]), cv2.imread(row["aerial"])
        assert picture.shape == (375, 1242, 3) and satmap.shape == (1280, 1280, 3)
        middle = satmap[640, 640, ::-1][:2].astype(float)  # half a pixel right of and below the antenna
        expected = 10 * (T_map_base[:2, 3] + np.array([0.5, -0.5]) * kitti_reader.METERS_PER_PIXEL) % 256
        assert np.all(np.abs((middle - expected + 128) % 256 - 128) <= 1.0)


def test_kitti_lists_are_cut_at_the_columns_that_public_code_cuts_at_and_carry_noise(trees):
    root = trees / "kitti"
    names = {}
    for list_name, columns in (("train_files.txt", 1), ("test1_files.txt", 4), ("test2_files.txt", 4)):
        text = (root / list_name).read_text()
        assert text.endswith("\n")
        lines = text.splitlines()
        assert len(lines) == FRAMES
        names[list_name] = [line.split(" ")[0] for line in lines]
        for line in lines:
            assert len(line.split(" ")) == columns
            assert all(-1 <= float(word) <= 1 for word in line.split(" ")[1:])
            file = line.split(" ")[0]
            assert (root / "raw_data" / file[:10] / "calib_cam_to_cam.txt").is_file()
            assert (root / "raw_data" / file[:38] / "image_02/data" / file[38:]).is_file()
            assert (root / "raw_data" / file[:38] / "oxts/data" / file[38:].replace(".png", ".txt")).is_file()
            assert (root / "satmap" / file).is_file()
    assert {name[:37] for name in names["train_files.txt"]} == {name[:37] for name in names["test1_files.txt"]}
    assert {name[:37] for name in names["test1_files.txt"]}.isdisjoint(name[:37] for name in names["test2_files.txt"])
    noise = [line.split()[1:] for name in list(names)[1:] for line in (root / name).read_text().splitlines()]
    assert len({word for row in noise for word in row}) == 6 * FRAMES
    stamps = (root / "raw_data" / names["train_files.txt"][0][:38] / "image_02/timestamps.txt").read_text().splitlines()
    assert len(stamps) == 2 * FRAMES and stamps[0][:11] == "2001-01-01 " and len(stamps[0].split(".")[1]) == 9


def test_an_off_centre_pinhole_sees_what_its_calibration_says():
    drive = scene(1, None)
    shot = Shot.on_drive(drive.drive, 3.0, kitti.mounted_camera())
    picture = kitti.CAMERA.shoot(drive.cameras, shot).image.astype(float)
    camera = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593 + 0.5, 172.854 + 0.5)
    for row, column in ((0, 0), (374, 1241), (100, 700)):
        ray, _ = camera.unproject(np.array([column + 0.5, row + 0.5]))
        np.testing.assert_allclose(picture[row, column, :2], 128 + 100 * ray[:2] / ray[2], atol=0.6)


def test_vigor_readers_find_the_camera_to_a_millimetre_and_the_originals_a_scale_off(trees):
    root = trees / "vigor"
    for city in ("Seattle", "Chicago"):
        projection = MapProjection(vigor.CITIES[city])
        label = root / "splits__corrected" / city / "pano_label_balanced__corrected.txt"
        rows = vigor_reader.vigor_rows(root, label)
        gsd = vigor_reader.METERS_PER_PIXEL[city]
        times = scene(9301, projection, vigor.TOWN_SIZE_M).moments_s(FRAMES, 640 * gsd)
        satellites = (root / "splits__corrected" / city / "satellite_list.txt").read_text().splitlines()
        assert sorted(path.name for path in (root / city / "satellite").iterdir()) == sorted(satellites)
        originals = (root / "splits" / city / "pano_label_balanced.txt").read_text().splitlines()
        for row, time_s, line, original in zip(rows, times, label.read_text().splitlines(), originals, strict=True):
            latitude, longitude = (float(word) for word in row["aerial"][:-4].split("_")[-2:])
            east_m, north_m, _ = projection.to_map(latitude, longitude, vigor.CITIES[city].height_m)
            place = np.array([row["east_m"] + east_m, row["north_m"] + north_m])
            np.testing.assert_allclose(place, CircleDrive().T_map_base(time_s)[:2, 3], atol=1e-3)
            words, uncorrected = line.split(" "), original.split(" ")
            assert len(words) == 13 and len(set(words[1::3])) == 4
            offsets = np.array([words[2::3], words[3::3]], float)
            assert np.all(np.abs(offsets[:, 0]) <= 160.0) and np.all(np.abs(offsets) <= 320.0)
            assert np.all(np.abs(offsets[:, 1:]).max(axis=0) >= 160.0)
            wrong = np.array([uncorrected[2::3], uncorrected[3::3]], float)
            np.testing.assert_allclose(wrong, offsets * gsd / 0.114, atol=1e-4)
            assert cv2.imread(row["aerial"]).shape == (640, 640, 3)
            assert cv2.imread(row["image"]).shape == (1024, 2048, 3)
        train = (root / "splits" / city / "same_area_balanced_train.txt").read_text().splitlines()
        test = (root / "splits" / city / "same_area_balanced_test.txt").read_text().splitlines()
        assert sorted(train + test) == sorted(originals) and not set(train) & set(test)


def test_vigor_panorama_looks_north_in_its_middle_and_east_to_the_right():
    R = vigor.north_shot(1.0, 2.0, 3.0, 0.0).T_map_camera[:3, :3]
    camera = EquirectangularCamera(2048, 1024)
    rays, _ = camera.unproject(np.array([[1024.0, 512.0], [1536.0, 512.0], [1024.0, 256.0]]))
    np.testing.assert_allclose(rays @ R.T, [[0, 1, 0], [1, 0, 0], [0, 0.5**0.5, 0.5**0.5]], atol=1e-12)
    assert vigor.north_shot(1.0, 2.0, 3.0, 0.0).T_map_camera[2, 3] == 3.0 + vigor_reader.CAMERA_HEIGHT_M


def test_the_resolutions_are_those_that_the_readers_assume():
    assert vigor_labels.METERS_PER_PIXEL == vigor_reader.METERS_PER_PIXEL
    assert kitti.METERS_PER_PIXEL == kitti_reader.METERS_PER_PIXEL


def test_a_displaced_map_shows_the_place_beside_its_middle():
    projection = MapProjection(kitti.ORIGIN)
    true, displaced = (scene(1, projection, map_shift_m=shift).aerial(3.0, 4.0, 64, 0.1) for shift in ((0, 0), (2, 1)))
    # what stands at p is drawn at p + shift: 20 px to the right, 10 up
    np.testing.assert_array_equal(displaced[:-10, 20:], true[10:, :-20])


def test_settings_that_cannot_be_written_are_named(tmp_path, capsys):
    with pytest.raises(InputError, match="moments with 300 m of town"):
        scene(1, None).moments_s(2, 300.0)
    for words, named in (
        (["--layout", "kitti", "--cameras", "surround"], "--cameras"),
        (["--layout", "vigor", "--image-scale", "0.5"], "--image-scale"),
        (["--frames", "3"], "--frames"),
        (["--layout", "kitti", "--frames", "0"], "--frames 0"),
    ):
        assert cli.main(["simulate", "--seed", "1", "--out", str(tmp_path / "x"), *words]) == 1
        assert named in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
