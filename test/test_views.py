"""Views into wide and tilted cameras: where the road is, sharp but not aliased, masked where the camera is."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from cross_view_loc.depth.source import FlatGround
from cross_view_loc.geometry import views
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera, StripCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.matching.encoders import load_matcher
from cross_view_loc.matching.ground import observe_ground
from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED
from cross_view_loc.types import Frame

FISHEYE = FisheyeCamera(960, 600, 290.0, 290.0, 480.0, 300.0, (-0.02, 0.002, 0.0, 0.0))


def mounted(pitch_down_deg: float, roll_deg: float = 0.0, height_m: float = 1.4) -> np.ndarray:
    R = rpy(math.radians(roll_deg), math.radians(pitch_down_deg), 0.0) @ R_BODY_OPTICAL
    return transform(R, np.array([1.9, 0.0, height_m]))


def directions(planned: tuple[View, ...], T_base_camera: np.ndarray) -> np.ndarray:
    """(V, 2) azimuth to the left of ahead and elevation of the views' axes, degrees."""
    axes = np.array([(T_base_camera[:3, :3] @ view.R_camera_view)[:, 2] for view in planned])
    return np.degrees(np.stack([np.arctan2(axes[:, 1], axes[:, 0]), np.arcsin(axes[:, 2])], axis=1))


@pytest.mark.parametrize("pitch_deg", [10.0, 30.0, 50.0])
@pytest.mark.parametrize("roll_deg", [0.0, 8.0])
def test_views_of_a_tilted_fisheye_look_level_and_upright_from_left_to_right(pitch_deg: float, roll_deg: float) -> None:
    T = mounted(pitch_deg, roll_deg)
    planned = plan_views(FISHEYE, T)
    azimuth, elevation = directions(planned, T).T
    np.testing.assert_allclose(elevation, 0.0, atol=0.5)
    assert np.all(np.diff(azimuth) < 0) and azimuth[0] > 45 and azimuth[-1] < -45, azimuth
    for view in planned:
        R = T[:3, :3] @ view.R_camera_view
        np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1.0) and R[2, 1] < -0.9999, "its rows run down"


def test_a_tilted_fisheye_shows_more_of_the_road_within_reach_than_along_its_middle_row() -> None:
    T = mounted(30.0)
    frame = Frame(np.zeros((600, 960, 3), np.uint8), FISHEYE, 0, T)

    def sectors(planned: tuple[View, ...]) -> set[int]:
        """Directions, by 10°, in which cells see road 6 to 25 m away."""
        found: set[int] = set()
        for view in planned:
            rays = view.rays(4, 8)
            seen = FISHEYE.project(rays @ view.R_camera_view.T)[1]
            geometry = ViewGeometry.of(frame, view)
            inverse = geometry.flat_inverse_depth(rays)
            points = geometry.lift(rays, 1.0 / np.maximum(inverse, 1e-3)) - T[:3, 3]
            distance = np.hypot(points[..., 0], points[..., 1])
            used = seen & (inverse > 0.01) & (distance > 6.0) & (distance < 25.0)
            bearing = np.degrees(np.arctan2(points[..., 1], points[..., 0]))[used]
            found |= set(np.round(bearing / 10.0).astype(int).tolist())
        return found

    assert sectors(plan_views(FISHEYE, T)) > sectors(plan_views(FISHEYE))


def test_level_cameras_and_pinholes_keep_their_views() -> None:
    pinhole = PinholeCamera(640, 360, 400.0, 400.0, 320.0, 180.0)
    for camera, T in (
        (pinhole, mounted(25.0)),
        (FISHEYE, mounted(3.0)),
        (EquirectangularCamera(1024, 512), mounted(4.0)),
    ):
        assert plan_views(camera, T) == plan_views(camera)
    straight_down = mounted(90.0)
    assert plan_views(FISHEYE, straight_down) == plan_views(FISHEYE), "no way is ahead"


def test_views_stay_the_same_while_the_mount_trembles() -> None:
    rng = np.random.default_rng(0)
    T = mounted(30.0)
    kept = {plan_views(FISHEYE, transform(rpy(*rng.normal(0, 1e-4, 3)) @ T[:3, :3], T[:3, 3])) for _ in range(20)}
    assert len(kept) == 1


@pytest.mark.parametrize("camera", [EquirectangularCamera(1024, 512), StripCamera(1024, 300, 130.0)])
def test_a_tilted_panorama_is_seen_all_around(camera: EquirectangularCamera | StripCamera) -> None:
    T = mounted(12.0)
    azimuth, elevation = directions(plan_views(camera, T), T).T
    np.testing.assert_allclose(elevation, 0.0, atol=0.5)
    np.testing.assert_allclose(np.sort(azimuth), [-135, -45, 45, 135], atol=1.0)


def test_a_view_shows_the_direction_it_says_in_each_pixel() -> None:
    """An image coloured by direction, seen through every view of a tilted fisheye."""
    v, u = np.meshgrid(np.arange(600) + 0.5, np.arange(960) + 0.5, indexing="ij")
    rays, _ = FISHEYE.unproject(np.stack([u, v], -1))
    image = np.round(rays * 100 + 128).astype(np.uint8)
    for view in plan_views(FISHEYE, mounted(30.0)):
        sampled, seen = view.sample(image, FISHEYE)
        expected = view.rays() @ view.R_camera_view.T
        expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
        inner = cv2.erode(seen.astype(np.uint8), np.ones((9, 9))) > 0
        assert inner.mean() > 0.5
        assert np.abs((sampled.astype(float) - 128) / 100 - expected)[inner].max() < 0.03


def test_a_view_into_a_fine_fisheye_averages_what_it_cannot_show() -> None:
    """Against a view of four times the resolution, averaged: far nearer than bilinear taps into the full image."""
    camera = FisheyeCamera(1920, 1200, 660.0, 660.0, 960.0, 600.0)
    image = np.random.default_rng(0).integers(0, 256, (1200, 1920, 3), dtype=np.uint8)
    for view in plan_views(camera):
        sampled, seen = view.sample(image, camera)
        levels = views._sampling(view, camera)[0]
        assert len(levels) >= 2, "coarser in the middle than at the sides"
        fine = View(view.focal_px * 4, view.yaw_rad, view.down, view.width * 4, view.height * 4)
        truth = cv2.resize(fine.sample(image, camera)[0], (view.width, view.height), interpolation=cv2.INTER_AREA)
        taps = cv2.remap(image, *_taps(view, camera), cv2.INTER_LINEAR)
        inner = cv2.erode(seen.astype(np.uint8), np.ones((9, 9))) > 0

        def error(picture: np.ndarray, inner: np.ndarray = inner, truth: np.ndarray = truth) -> float:
            return float(np.sqrt(np.square(picture.astype(float) - truth)[inner].mean()))

        assert error(sampled) < 0.6 * error(taps), (error(sampled), error(taps))


def _taps(view: View, camera: FisheyeCamera) -> list[np.ndarray]:
    pixels = camera.project(view.rays() @ view.R_camera_view.T)[0].astype(np.float32) - 0.5
    return [pixels[..., 0], pixels[..., 1]]


def frame_of(camera: PinholeCamera | FisheyeCamera, mask: np.ndarray | None = None) -> Frame:
    image = np.random.default_rng(0).integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8)
    return Frame(image, camera, 0, mounted(2.0), mask=mask)


@pytest.mark.parametrize("shape", [(384, 640), (96, 160)])
def test_cells_under_a_mask_are_not_used_whatever_the_mask_s_size(shape: tuple[int, int]) -> None:
    camera = PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0, (-0.1, 0.01, 0.0, 0.0, 0.0))
    mask = np.ones(shape, bool)
    mask[: shape[0] * 3 // 4, : shape[1] // 2] = False
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    plain = frame_of(camera)
    everything = observe_ground([plain], matcher, FlatGround(), "cpu")
    kept = observe_ground([dataclasses.replace(plain, mask=mask)], matcher, FlatGround(), "cpu")
    assert 0 < len(kept.cells.weight) < len(everything.cells.weight)
    column, row = kept.pixels.T
    assert not np.any((column < 312) & (row < 282)), "half a cell of 16 by 8 pixels may reach in"
    hidden = (everything.pixels[:, 0] < 320) & (everything.pixels[:, 1] < 288)
    assert abs(hidden.sum() - (len(everything.pixels) - len(kept.pixels))) < 0.1 * hidden.sum() + 5
    # What stays is as it was.
    same = {tuple(pixel) for pixel in everything.pixels.round(6)}
    assert all(tuple(pixel) in same for pixel in kept.pixels.round(6))
