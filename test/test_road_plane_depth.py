"""The road's plane from depth: roll and pitch with their signs, beside walls and cars, and level by it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cross_view_loc.depth.road import PRIOR_TILT_RAD, fit_plane, level_by_road, observe_road
from cross_view_loc.depth.source import Depth
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.types import Frame

CAMERA = PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0)
MOUNT = transform(R_BODY_OPTICAL, [1.5, 0.0, 1.6])
IMAGE = np.zeros((384, 640, 3), np.uint8)


class Street:
    """True depth of a flat road with a wall 5 m to the left, a car ahead and noise, whatever is believed of tilt."""

    kind, log_scale_std = "metric", 0.02

    def __init__(self, noise=0.0):
        self.noise = noise

    def __call__(self, image, view, geometry, rays):
        assert image.shape == (view.height, view.width, 3)
        directions = rays @ (MOUNT[:3, :3] @ view.R_camera_view).T  # in a vehicle that stands level
        down, left, ahead = -directions[..., 2], directions[..., 1], directions[..., 0]
        z_m = np.where(down > 0, 1.6 / np.maximum(down, 1e-9), 60.0)
        z_m = np.where(left > 0, np.minimum(z_m, 5.0 / np.maximum(left, 1e-9)), z_m)
        in_car = (np.abs(7.0 * left / ahead + 0.5) < 0.9) & (7.0 * down / ahead > 0.4)
        z_m = np.where(in_car, np.minimum(z_m, 7.0 / ahead), z_m)
        rng = np.random.default_rng(0)
        return Depth(np.minimum(z_m, 60.0) * np.exp(rng.normal(0, 1, z_m.shape) * self.noise))


def tilted(pitch_deg: float, roll_deg: float, height_m: float = 0.0) -> Frame:
    """A frame of a vehicle of that pitch and roll, whose TF does not know of the road's height either."""
    R_level_base = rpy(math.radians(roll_deg), math.radians(pitch_deg), 0.0)
    T_base_camera = transform(R_level_base.T, [0.0, 0.0, 0.0]) @ MOUNT
    T_base_camera[2, 3] += height_m
    return Frame(IMAGE, CAMERA, 0, T_base_camera, R_level_base)


@pytest.mark.parametrize(
    ("pitch_deg", "roll_deg"), [(0.0, 0.0), (2.0, 0.0), (6.0, 0.0), (-6.0, 0.0), (0.0, 3.0), (0.0, -6.0), (4.0, 4.0)]
)
@pytest.mark.parametrize("noise", [0.0, 0.08])
def test_roll_and_pitch_are_found_with_their_signs(pitch_deg, roll_deg, noise):
    plane = observe_road([tilted(pitch_deg, roll_deg)], Street(noise))
    assert plane is not None
    assert math.degrees(plane.pitch_rad) == pytest.approx(pitch_deg, abs=0.35)
    assert math.degrees(plane.roll_rad) == pytest.approx(roll_deg, abs=0.35)
    assert plane.ground_z_m == pytest.approx(0.0, abs=0.05)
    stds_deg = np.degrees(np.sqrt(np.diag(plane.covariance)[:2]))
    assert (stds_deg > 0.05).all() and (stds_deg < 1.0).all()
    expected = tilted(pitch_deg, roll_deg).R_level_base
    assert np.degrees(np.abs(plane.R_level_base @ expected.T - np.eye(3))).max() < 0.6


def test_a_camera_higher_than_its_transform_says_is_seen():
    plane = observe_road([tilted(0.0, 0.0, height_m=-0.2)], Street())
    assert plane is not None and plane.height_m == pytest.approx(-0.2, abs=0.04)


def test_two_cameras_give_one_plane():
    frame = tilted(3.0, 0.0)
    plane = observe_road([frame, replace(frame, name="other")], Street())
    assert plane is not None and math.degrees(plane.pitch_rad) == pytest.approx(3.0, abs=0.3)


def test_levelled_frames_lift_the_road_to_the_ground():
    frame = tilted(5.0, -3.0)
    (level,) = level_by_road([frame], Street())
    (view,) = plan_views(level.camera)
    geometry, rays = ViewGeometry.of(level, view), view.rays(4, 8)
    z_m = Street()(IMAGE[::2, ::2], view, geometry, rays).z_m
    road = (rays @ (MOUNT[:3, :3] @ view.R_camera_view).T)[..., 2] * z_m < -1.59
    points = geometry.lift(rays, z_m)[road]
    near = np.linalg.norm(points[:, :2], axis=1) < 12.0
    assert np.abs(points[near, 2] - level.ground_z_m).max() < 0.12
    assert geometry.height_m == pytest.approx(1.6, abs=0.05)
    np.testing.assert_allclose(1 / geometry.flat_inverse_depth(rays)[road][near], z_m[road][near], rtol=0.08)
    truth = (rays * z_m[..., None]) @ (MOUNT[:3, :3] @ view.R_camera_view).T + MOUNT[:3, 3]
    np.testing.assert_allclose(points[near], truth[road][near], atol=0.15)  # the yaw is kept


def test_a_source_that_half_believes_what_it_is_told_is_told_again():
    class Told(Street):
        """Half way, in inverse depth, from the truth to the flat ground that it is told of."""

        def __call__(self, image, view, geometry, rays):
            true, flat = super().__call__(image, view, geometry, rays).z_m, geometry.flat_inverse_depth(rays)
            return Depth(np.where(flat > 1 / 40, 2 / (1 / true + flat), true))

    (level,) = level_by_road([tilted(6.0, -4.0)], Told())
    tilt_deg = np.degrees((level.T_base_camera[:3, :3] @ MOUNT[:3, :3].T)[2, :2])
    assert np.abs(tilt_deg).max() < 0.7


def test_without_a_road_frames_stay_as_they_are():
    class Blind(Street):
        def __call__(self, image, view, geometry, rays):
            return Depth(np.zeros(rays.shape[:-1]))

    frame = tilted(3.0, 0.0)
    assert observe_road([frame], Blind()) is None
    assert level_by_road([frame], Blind()) == [frame]


def test_few_far_points_leave_much_to_the_prior():
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(16, 19, 80), rng.uniform(-0.3, 0.3, 80), rng.normal(0, 0.02, 80)])
    origin = np.array([0.0, 0.0, 1.6])
    plane = fit_plane(np.broadcast_to(origin, points.shape), points - origin)
    assert plane is not None
    assert math.sqrt(plane.covariance[1, 1]) > 0.8 * PRIOR_TILT_RAD, "a strip straight ahead says nothing of roll"
