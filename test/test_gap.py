"""Worlds with a mild or a hard gap: what the map gets wrong, what the camera spoils, and that both are as declared."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from scipy.ndimage import map_coordinates

pytest.importorskip("warp")

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.transforms import rpy
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.camera_effects import CameraEffects, CameraMotion, Imaging
from cross_view_loc.simulation.drive_renderer import DriveRenderer, Shot
from cross_view_loc.simulation.gap import World, make_world
from cross_view_loc.simulation.renderer import Renderer
from cross_view_loc.simulation.rig import make_rig
from cross_view_loc.simulation.staleness import stale_town
from cross_view_loc.simulation.town import Town
from cross_view_loc.simulation.traffic import Traffic

SIZE_M, SEED = 240.0, 9001
RIG = make_rig("front", 0.25).cameras[0]
STRONG = CameraEffects(seed=3, distortion=(-0.2, 0.03, 0.002, -0.001, 0.0))
PLAIN = replace(
    Appearance.ground(1), occupancy=0.0, shot_noise=0.0, read_noise=0.0, blur_taps=1, vignette=0.0, varied_cars=True
)


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SEED, size_m=SIZE_M)


@pytest.fixture(scope="module")
def hard() -> World:
    return make_world(SEED, "hard", size_m=SIZE_M)


@pytest.fixture(scope="module")
def plain(town: Town) -> Renderer:
    return Renderer(town, PLAIN)


@pytest.fixture(scope="module")
def shot(town: Town) -> Shot:
    return Shot.on_drive(town.drive(1, 30.0), 8.0, RIG)


def test_mild_is_the_plain_renderer_bit_for_bit(town: Town) -> None:
    world = make_world(SEED, size_m=SIZE_M)
    drive = town.drive(seed=SEED, duration_s=20.0)
    above = Renderer(town, Appearance.aerial(SEED))
    side = round((SIZE_M + 20.0) / 0.5)
    expected = above.render([above.ortho(0.0, 0.0, side, side, 0.5, lean=(0.03, 0.02))])[0][0]
    np.testing.assert_array_equal(world.orthophoto(0.5), expected)
    ground = Renderer(town, Appearance.ground(SEED), keep_clear=drive.corridor())
    pose = drive.T_map_base(4.0) @ RIG.T_base_camera
    view = ground.pinhole(pose, RIG.width, RIG.height, RIG.focal_px, drive.velocity_map(4.0))
    (image,), (depth,) = ground.render([view])
    (photo,) = world.drive_renderer(drive).shoot([Shot.on_drive(drive, 4.0, RIG)])
    np.testing.assert_array_equal(photo.image, image)
    np.testing.assert_array_equal(photo.depth_m, depth)
    assert photo.camera == PinholeCamera(160, 90, 100.0, 100.0, 80.0, 45.0)
    assert world.map_shift_m == (0.0, 0.0) and not world.map_changes


def test_hard_world_repeats_and_is_drawn_within_its_limits(hard: World) -> None:
    again = make_world(SEED, "hard", size_m=SIZE_M)
    drive = hard.town.drive(SEED, 20.0)
    first, second = (world.drive_renderer(drive).shoot([Shot.on_drive(drive, 5.0, RIG)])[0] for world in (hard, again))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)
    np.testing.assert_array_equal(hard.map_town.markings, again.map_town.markings)
    np.testing.assert_array_equal(hard.map_town.mesh.vertices, again.map_town.mesh.vertices)
    other = hard.redrawn(SEED + 1)
    assert other.town is hard.town and other.map_shift_m != hard.map_shift_m
    for world in (hard, other):
        assert 0.1 <= np.hypot(*world.map_shift_m) <= 0.5
        assert 0.04 <= np.hypot(*world.lean) <= 0.12
        assert world.drive_look.season != world.map_look.season


def test_hard_hours_all_come_up_and_night_is_dark() -> None:
    looks = [Appearance.hard_ground(seed) for seed in range(60)]
    nights = [look for look in looks if look.sky < 0.1]
    assert 6 <= len(nights) <= 24 and all(look.sun_strength < 0.05 and look.lamp_strength > 0 for look in nights)
    assert any(look.sun_elevation_deg < 14.0 and look.sun_strength > 2.0 for look in looks)
    assert any(look.fog_per_m > 0.007 for look in looks) and sum(look.wetness > 0.5 for look in looks) > 10


def test_unknown_gap_is_one_sentence() -> None:
    with pytest.raises(InputError, match="mild, hard"):
        make_world(1, "soft")


def test_about_a_tenth_of_everything_changed_since_the_map_was_made(town: Town) -> None:
    vertices, markings = town.mesh.vertices.copy(), town.markings.copy()
    shares: dict[str, list[float]] = {}
    for seed in range(4):
        then, changes = stale_town(town, seed)
        for kind, change in changes.items():
            shares.setdefault(kind, []).append(change.share)
        differs = (then.markings.astype(int) - markings) != 0
        assert 0.07 < (differs & (markings > 0)).sum() / (markings > 0).sum() < 0.13
        assert len(then.trees) < len(town.trees)
        assert len(then.mesh.triangles) != len(town.mesh.triangles)
    assert {kind: round(float(np.mean(values)), 1) for kind, values in shares.items()} == dict.fromkeys(
        ("trees", "buildings", "furniture", "borders", "markings"), 0.1
    )
    np.testing.assert_array_equal(town.mesh.vertices, vertices)  # the town itself stays
    np.testing.assert_array_equal(town.markings, markings)


def test_orthophoto_is_displaced_by_the_declared_shift(town: Town) -> None:
    look = Appearance.aerial(SEED)
    pictures = [
        World(SEED, "mild", town, look, look, (0.0, 0.0), shift, None).orthophoto(0.2).astype(np.float32).mean(axis=2)
        for shift in ((0.0, 0.0), (0.37, -0.24))
    ]
    middle = [picture[300:1000, 300:1000] for picture in pictures]
    window = cv2.createHanningWindow((700, 700), cv2.CV_32F)
    (columns, rows), response = cv2.phaseCorrelate(middle[0], middle[1], window)
    assert response > 0.3
    assert (columns * 0.2, -rows * 0.2) == pytest.approx((0.37, -0.24), abs=0.03)


def test_distorted_picture_agrees_with_its_camera(plain: Renderer, shot: Shot) -> None:
    """A scene point seen by the pinhole is found, with its colour and depth, where the distorted camera projects it."""
    perfect, distorted = (DriveRenderer(plain, effects).shoot([shot])[0] for effects in (None, STRONG))
    assert isinstance(distorted.camera, PinholeCamera) and distorted.camera.distortion == STRONG.distortion
    columns, rows = np.meshgrid(np.arange(10, 150) + 0.5, np.arange(10, 80) + 0.5)
    z = perfect.depth_m[10:80, 10:150]
    points = np.stack([(columns - 80) / 100 * z, (rows - 45) / 100 * z, z], axis=-1)
    pixels, seen = distorted.camera.project(points)
    smooth = cv2.dilate(z, np.ones((5, 5))) - cv2.erode(z, np.ones((5, 5))) < 0.3 * z
    good = seen & smooth & (z > 0)
    assert good.sum() > 2000
    assert np.abs(pixels - np.stack([columns, rows], axis=-1))[good].max() > 5.0  # it is not the identity

    def sampled(picture: np.ndarray, order: int) -> np.ndarray:
        return map_coordinates(picture.astype(np.float32), (pixels[..., ::-1] - 0.5)[good].T, order=order)

    depth_error = np.abs(sampled(distorted.depth_m, 1) - z[good]) / z[good]
    assert np.percentile(depth_error, 90) < 0.02
    colour = perfect.image[10:80, 10:150].mean(axis=2)[good]
    found = sampled(distorted.image.mean(axis=2), 1)
    assert np.corrcoef(colour, found)[0, 1] > 0.98


def test_lens_alone_leaves_the_middle_where_it_was() -> None:
    imaging = Imaging(STRONG, 160, 90, 100.0)
    assert imaging.render_width > 170 and imaging.render_height > 96
    depth = np.full((imaging.render_height, imaging.render_width), 5.0, dtype=np.float32)
    picture = np.zeros((*depth.shape, 3), dtype=np.uint8)
    picture[imaging.render_height // 2 :, imaging.render_width // 2 :] = 200
    taken, _ = imaging.develop(picture, depth, CameraMotion(np.zeros(3), np.zeros(3)))
    assert taken[46, 81, 0] > 150 and taken[43, 78, 0] < 50


def test_rolling_shutter_rows_are_seen_from_where_the_camera_then_was(plain: Renderer, shot: Shot) -> None:
    """Against pictures rendered at the pose of a row: that row, and no other, must be the same."""
    readout_s = 0.06
    moving = replace(shot, velocity_map=shot.velocity_map, turn_rate_rad_s=0.5)
    (rolling,) = DriveRenderer(plain, CameraEffects(readout_s=readout_s)).shoot([moving])
    still = DriveRenderer(plain, None)
    row_errors, frozen_errors = [], []
    for row in (4, 20, 70, 86):
        t = ((row + 0.5) / 90 - 0.5) * readout_s
        pose = shot.T_map_camera.copy()
        pose[:3, 3] += shot.velocity_map * t
        pose[:3, :3] = rpy(0.0, 0.0, 0.5 * t) @ pose[:3, :3]
        then, middle = still.shoot([replace(shot, T_map_camera=pose, velocity_map=None), shot])
        a, b = then.depth_m[row], rolling.depth_m[row]
        both = (a > 0) & (b > 0)
        row_errors.append(np.abs(then.image[row].astype(int) - rolling.image[row]).mean())
        frozen_errors.append(np.abs(then.image[row].astype(int) - middle.image[row]).mean())
        if both.sum() > 20:  # the upper rows may be all sky
            assert np.median(np.abs(a - b)[both] / a[both]) < 0.006
    assert np.mean(row_errors) < 0.5 * np.mean(frozen_errors)


def test_dirt_and_jpeg_change_the_picture_and_not_the_depth(plain: Renderer, shot: Shot) -> None:
    clean, dirty = (
        DriveRenderer(plain, effects).shoot([shot])[0]
        for effects in (CameraEffects(), CameraEffects(seed=2, jpeg_quality=30, smudges=5, drops=8, vignette=0.2))
    )
    np.testing.assert_array_equal(clean.depth_m, dirty.depth_m)
    assert 2.0 < np.abs(clean.image.astype(int) - dirty.image).mean() < 60.0


def test_traffic_moves_in_its_lanes_and_keeps_clear_of_the_camera_car(town: Town) -> None:
    closest, moving = np.inf, 0
    for seed in range(3):
        drive = town.drive(seed, 60.0)
        traffic = Traffic(town, drive, seed)
        assert len(traffic.models) > 5
        road = shapely.union_all(town.areas.carriageway).buffer(0.3)
        for time_s in np.arange(0.0, 60.0, 1.7):
            pose = drive.T_map_base(time_s)
            ring = (pose[:2, :2] @ np.array([[-1.0, 3.8, 3.8, -1.0], [-1.0, -1.0, 1.0, 1.0]])).T + pose[:2, 3]
            cars = traffic.footprints(time_s)
            closest = min(closest, float(shapely.distance(shapely.Polygon(ring), cars).min()))
            assert shapely.contains(road, shapely.centroid(cars)).all()
            overlaps = np.triu(shapely.intersects(cars[:, None], cars[None, :]), 1)
            assert not overlaps.any()
            moving += len(cars)
    assert closest > 0.3
    assert moving > 100


def test_moving_cars_are_drawn_where_traffic_says(town: Town) -> None:
    """Raster and ray casting see the same car, standing between the camera and what it hid a moment ago."""
    drive = town.drive(1, 30.0)
    traffic = Traffic(town, drive, 4)
    renderer = Renderer(town, PLAIN, traffic=traffic)
    empty = Renderer(town, PLAIN)
    time_s = 6.0
    place = traffic.places(time_s)[0]
    forward = np.array([np.cos(place[2]), np.sin(place[2])])
    eye = place[:2] - 9.0 * forward
    pose = np.eye(4)
    pose[:3, :3] = rpy(0.0, 0.1, place[2]) @ np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    pose[:3, 3] = *eye, float(town.height(*eye)) + 2.0
    views = [r.pinhole(pose, 160, 90, 100.0, time_s=time_s) for r in (renderer, empty)]
    with_car = renderer.render(views[:1])[1][0]
    cast = renderer.render(views[:1], method="raycast")[1][0]
    without = empty.render(views[1:])[1][0]
    hidden = (with_car < without - 0.3) & (with_car > 0)
    assert 400 < hidden.sum() < 6000
    assert 5.0 < np.median(with_car[hidden]) < 9.5
    assert np.mean(np.abs(cast - with_car)[hidden] < 0.05) > 0.95
    later = renderer.render([replace(views[0], time_s=time_s + 5.0)])[1][0]
    assert np.mean(np.abs(later - with_car)[hidden] > 0.3) > 0.5


def test_parked_cars_stay_out_of_the_corridor(town: Town) -> None:
    drive = town.drive(2, 60.0)
    corridor = drive.corridor()
    scene = Renderer(town, replace(PLAIN, occupancy=1.0), keep_clear=corridor)._scene
    cars = scene.data.materials.numpy() == 6
    corners = scene.data.vertices.numpy()[scene.data.triangles.numpy().reshape(-1, 3)[cars]].reshape(-1, 3)
    assert len(corners) > 3000
    shapely.prepare(corridor)
    assert not shapely.contains_xy(corridor, corners[:, 0], corners[:, 1]).any()
