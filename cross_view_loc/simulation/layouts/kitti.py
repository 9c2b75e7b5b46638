"""Two drives in the layout of KITTI raw with the aerial images and lists of the cross-view benchmark.

    raw_data/DATE/calib_cam_to_cam.txt, calib_imu_to_velo.txt, calib_velo_to_cam.txt
    raw_data/DATE/DRIVE/image_02/data/NUMBER.png, image_02/timestamps.txt
    raw_data/DATE/DRIVE/oxts/data/NUMBER.txt, oxts/timestamps.txt
    satmap/DATE/DRIVE/NUMBER.png                         1280 px, north up, centred on the antenna
    train_files.txt, test1_files.txt, test2_files.txt    test lists with shift x, shift y and θ, each −1 to 1

The first drive gives the training and the same-area list, the second, in another town, the cross-area list. The antenna
is plumb above the simulated vehicle's `base_link`, so latitude and longitude are those of the point on the road.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import transform
from cross_view_loc.simulation.drive_renderer import Shot
from cross_view_loc.simulation.layouts import kitti_text
from cross_view_loc.simulation.layouts.scene import LayoutSettings, OffCentrePinhole, Scene, write_image
from cross_view_loc.simulation.rig import RigCamera
from cross_view_loc.simulation.simulate import Progress

DATE = "2001_01_01"
SATMAP_PX, METERS_PER_PIXEL = 1280, 0.195829
TOWN_SIZE_M = 640.0
REACH_M = 125.5
"""Half a satmap."""
LISTS = ("train_files.txt", "test1_files.txt", "test2_files.txt")
ORIGIN = MapOrigin(49.0, 8.4, 116.0)
"""Of the first town; the second is a tenth of a degree further north."""
CAMERA = OffCentrePinhole(  # its pixel centres are at + 0.5, those of the calibration file at 0
    kitti_text.IMAGE_WIDTH,
    kitti_text.IMAGE_HEIGHT,
    kitti_text.FOCAL_PX,
    kitti_text.CX_PX + 0.5,
    kitti_text.CY_PX + 0.5,
)
_DIFFERENCE_S = 0.02
_NOISE_STREAM = 21


def mounted_camera() -> RigCamera:
    """The left colour camera on the vehicle, for its pose; its principal point is `CAMERA`'s."""
    x_m, y_m, z_m = kitti_text.CAMERA_IN_ANTENNA_M
    mount = transform(np.eye(3), np.array([x_m, y_m, z_m + kitti_text.ANTENNA_HEIGHT_M]))
    return RigCamera("left", *CAMERA.rendered_size, CAMERA.focal_px, mount)


def write_kitti(settings: LayoutSettings, out: Path, progress: Progress) -> dict[str, Any]:
    """Write both drives and the lists into `out`, replacing what a former run wrote; says what was written.

    Raises InputError when the towns have not as many moments.
    """
    places: list[tuple[Scene, list[float]]] = []
    step = progress.start("towns", 2)
    for index, count in enumerate((2 * settings.frames, settings.frames)):
        origin = MapOrigin(ORIGIN.latitude_deg + 0.1 * index, ORIGIN.longitude_deg, ORIGIN.height_m)
        scene = Scene.make(settings, settings.seed + index, TOWN_SIZE_M, MapProjection(origin))
        places.append((scene, scene.moments_s(count, REACH_M)))
        step(1)
    for folder in ("raw_data", "satmap"):  # only now: a town that cannot be built costs nobody the last one
        shutil.rmtree(out / folder, ignore_errors=True)
    day = out / "raw_data" / DATE
    day.mkdir(parents=True)
    (day / "calib_cam_to_cam.txt").write_text(kitti_text.camera_calibration(), encoding="ascii")
    (day / "calib_imu_to_velo.txt").write_text(kitti_text.imu_to_velodyne_calibration(), encoding="ascii")
    (day / "calib_velo_to_cam.txt").write_text(kitti_text.velodyne_to_camera_calibration(), encoding="ascii")
    step = progress.start("images", 3 * settings.frames)
    names = []
    for index, (scene, times_s) in enumerate(places):
        drive = f"{DATE}/{DATE}_drive_{(settings.seed + index) % 10000:04d}_sync"
        names.append(_write_drive(scene, times_s, out, drive, step))
    lists = (names[0][::2], names[0][1::2], names[1])
    for index, (file, images) in enumerate(zip(LISTS, lists, strict=True)):
        (out / file).write_text(_list_text(images, settings.seed, index), encoding="ascii")
    return {
        "out": str(out),
        "layout": "kitti",
        "seed": settings.seed,
        "gap": settings.gap,
        "region": settings.region,
        "images": sum(map(len, names)),
        "aerial_images": sum(map(len, names)),
        "lists": {file: len(images) for file, images in zip(LISTS, lists, strict=True)},
    }


def _write_drive(scene: Scene, times_s: list[float], out: Path, drive: str, step: Any) -> list[str]:
    """Write a drive's images, poses and satmaps; returns their names as lists have them."""
    folder, rig_camera, names = out / "raw_data" / drive, mounted_camera(), []
    (folder / "oxts" / "data").mkdir(parents=True)
    for number, time_s in enumerate(times_s):
        stem = f"{number:010d}"
        photo = CAMERA.shoot(scene.cameras, Shot.on_drive(scene.drive, time_s, rig_camera))
        write_image(folder / "image_02" / "data" / f"{stem}.png", photo.image)
        (folder / "oxts" / "data" / f"{stem}.txt").write_text(oxts_at(scene, time_s), encoding="ascii")
        east_m, north_m = np.asarray(scene.drive.T_map_base(time_s))[:2, 3]
        satmap = scene.aerial(float(east_m), float(north_m), SATMAP_PX, METERS_PER_PIXEL)
        names.append(f"{drive}/{stem}.png")
        write_image(out / "satmap" / names[-1], satmap)
        step(1)
    stamps = kitti_text.stamps_text(times_s)
    for sensor in ("image_02", "oxts"):
        (folder / sensor / "timestamps.txt").write_text(stamps, encoding="ascii")
    return names


def oxts_at(scene: Scene, time_s: float) -> str:
    """The oxts line of a moment; map axes count as east and north, which they are to 0.003° in a town."""
    T = np.asarray(scene.drive.T_map_base(time_s))
    east_m, north_m, up_m = T[:3, 3]
    antenna_m = up_m + kitti_text.ANTENNA_HEIGHT_M
    latitude_deg, longitude_deg, height_m = scene.projection.to_geodetic(east_m, north_m, antenna_m)
    before, after = time_s - _DIFFERENCE_S, time_s + _DIFFERENCE_S
    turn = np.asarray(scene.drive.T_map_base(before))[:3, :3].T @ np.asarray(scene.drive.T_map_base(after))[:3, :3]
    speed_up = scene.drive.velocity_map(after) - scene.drive.velocity_map(before)
    motion = kitti_text.Motion(
        T[:3, :3],
        np.asarray(scene.drive.velocity_map(time_s)),
        np.asarray(speed_up) / (2 * _DIFFERENCE_S),
        # of a small rotation, half the antisymmetric part is the rotation vector
        np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (4 * _DIFFERENCE_S),
    )
    return kitti_text.oxts_line(float(latitude_deg), float(longitude_deg), float(height_m), motion)


def _list_text(names: list[str], seed: int, index: int) -> str:
    """A list; all but the training list with noise that follows from the seed."""
    if index == 0:
        return "".join(f"{name}\n" for name in names)
    noise = np.random.default_rng([seed, _NOISE_STREAM, index]).uniform(-1.0, 1.0, (len(names), 3))
    return "".join(f"{name} {x:.6f} {y:.6f} {theta:.6f}\n" for name, (x, y, theta) in zip(names, noise, strict=True))
