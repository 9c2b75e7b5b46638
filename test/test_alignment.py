"""Procrustes, robust alignment, lifting and views: closed forms against planted answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.procrustes import procrustes, procrustes_covariance, rotate
from cross_view_loc.geometry.robust import RobustSettings, align_robustly
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import horizontal_field_rad, plan_views


@settings(max_examples=50, deadline=None)
@given(
    yaw=st.floats(-3.1, 3.1),
    scale=st.floats(0.01, 100.0),
    east=st.floats(-50, 50),
    north=st.floats(-50, 50),
    seed=st.integers(0, 10_000),
)
def test_procrustes_recovers_a_similarity(yaw, scale, east, north, seed):
    rng = np.random.default_rng(seed)
    source = torch.from_numpy(rng.uniform(-20, 20, (12, 2)))
    weight = torch.from_numpy(rng.uniform(0.1, 1.0, 12))
    t = torch.tensor([east, north], dtype=torch.float64)
    target = scale * rotate(source, torch.tensor(yaw, dtype=torch.float64)) + t
    found = procrustes(source, target, weight)
    assert math.remainder(float(found.yaw_rad) - yaw, 2 * math.pi) == pytest.approx(0.0, abs=1e-7)
    assert float(found.scale) == pytest.approx(scale, rel=1e-7)
    assert torch.allclose(found.translation, t, atol=1e-6 * max(1.0, scale))


def test_procrustes_without_scale_keeps_metres_and_ignores_weightless_outliers():
    source = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [3.0, 3.0]])
    target = 1.5 * rotate(source, torch.tensor(0.3))
    target[3] = torch.tensor([500.0, -500.0])
    found = procrustes(source, target, torch.tensor([1.0, 1.0, 1.0, 0.0]), with_scale=False)
    assert float(found.scale) == 1.0
    assert float(found.yaw_rad) == pytest.approx(0.3, abs=1e-5)


def test_procrustes_batch_survives_degenerate_members():
    source = torch.zeros(2, 5, 2)
    source[1] = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    found = procrustes(source, source + 1.0, torch.ones(2, 5))
    assert torch.isfinite(found.translation).all() and torch.isfinite(found.yaw_rad).all()
    assert torch.allclose(found.translation[1], torch.ones(2), atol=1e-5)


def test_procrustes_covariance_matches_repeated_noise():
    rng = np.random.default_rng(4)
    source = torch.from_numpy(rng.uniform([5, -15], [35, 15], (60, 2)))
    weight = torch.ones(60, dtype=torch.float64)
    poses, predicted = [], []
    for _ in range(400):
        target = source + torch.from_numpy(rng.normal(0, 0.8, (60, 2)))
        found = procrustes(source, target, weight)
        poses.append([*found.translation.tolist(), float(found.yaw_rad)])
        predicted.append(procrustes_covariance(source, target, weight, found).numpy())
    ratio = np.diag(np.cov(np.array(poses).T)) / np.diag(np.mean(predicted, axis=0))
    assert np.all(ratio > 0.75) and np.all(ratio < 1.3)


def test_robust_alignment_finds_the_pose_among_outliers_and_is_deterministic():
    generator = torch.Generator().manual_seed(1)
    source = torch.rand(300, 2, generator=generator) * 40 - 20
    yaw, shift = 0.12, torch.tensor([6.0, -9.0])
    target = rotate(source, torch.tensor(yaw)) + shift + 0.2 * torch.randn(300, 2, generator=generator)
    target[:200] = torch.rand(200, 2, generator=generator) * 80 - 40  # two thirds are wrong
    weight = torch.ones(300)
    limits = (torch.zeros(2), 20.0, 0.0, 0.3)
    first, again = (
        align_robustly(source, target, weight, RobustSettings(), torch.Generator().manual_seed(7), limits)
        for _ in range(2)
    )
    assert first is not None and again is not None
    assert torch.allclose(first.solution.translation, shift, atol=0.2)
    assert float(first.solution.yaw_rad) == pytest.approx(yaw, abs=0.02)
    assert torch.equal(first.solution.translation, again.solution.translation)
    assert float(first.inlier_weight[200:].mean()) > 10 * float(first.inlier_weight[:200].mean())


def test_robust_alignment_refuses_poses_outside_the_prior():
    source = torch.rand(50, 2, generator=torch.Generator().manual_seed(2)) * 30
    target = source + torch.tensor([60.0, 0.0])
    limits = (torch.zeros(2), 20.0, 0.0, 0.3)
    assert (
        align_robustly(source, target, torch.ones(50), RobustSettings(), torch.Generator().manual_seed(0), limits)
        is None
    )


@pytest.mark.parametrize("depth_scale", [1e-3, 1e3])
def test_alignment_absorbs_any_depth_scale(depth_scale):
    """The published finding: relative depth is as good as metric depth."""
    source = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 30
    target = rotate(source, torch.tensor(0.2, dtype=torch.float64)) + 4.0
    metric = procrustes(source, target, torch.ones(40, dtype=torch.float64))
    scaled = procrustes(source * depth_scale, target, torch.ones(40, dtype=torch.float64))
    assert torch.allclose(metric.translation, scaled.translation, atol=0.01)


def test_flat_depth_meets_the_ground_plane_ahead_and_left():
    """A pixel below and left of the centre of a forward camera lies ahead and to the left (+y) on z = 0."""
    T = transform(rpy(0.0, math.radians(5.0), 0.0) @ R_BODY_OPTICAL, [1.5, 0.2, 1.6])
    geometry = ViewGeometry(T, np.eye(3), 1.6)
    ray = np.array([[(100.0 - 160.0) / 200.0, (150.0 - 96.0) / 200.0, 1.0]])
    point = geometry.lift(ray, 1.0 / geometry.flat_inverse_depth(ray))[0]
    assert point[2] == pytest.approx(0.0, abs=1e-9)
    assert point[0] > 1.5 and point[1] > 0.2


def test_lifting_uses_roll_and_pitch():
    """A nose-up body sees the horizon lower; after levelling, a level ray's point keeps the camera's height."""
    pitch = math.radians(-4.0)  # nose up in REP-103
    R_level_base = rpy(0.0, pitch, 0.0)
    T = transform(R_BODY_OPTICAL, [0.0, 0.0, 1.5])
    geometry = ViewGeometry(T, R_level_base, 1.5)
    ray_level_forward = R_BODY_OPTICAL.T @ R_level_base.T @ np.array([1.0, 0.0, 0.0])
    point = geometry.lift((ray_level_forward / ray_level_forward[2])[None], np.array([20.0]))[0]
    assert point[2] == pytest.approx((R_level_base @ [0, 0, 1.5])[2], abs=1e-6)


def test_view_of_a_pinhole_camera_lands_on_the_same_pixels():
    """Sampling a 640×360 image into the 320×192 view halves coordinates about the centre, centres at + 0.5."""
    camera = PinholeCamera(640, 360, 400.0, 400.0, 320.0, 180.0)
    (view,) = plan_views(camera)
    assert view.focal_px == pytest.approx(200.0, rel=1e-4)
    ramp = np.zeros((360, 640, 3), np.uint8)
    ramp[..., 0] = (np.arange(640) // 4)[None]
    ramp[..., 1] = (np.arange(360) // 2)[:, None]
    image, seen = view.sample(ramp, camera)
    columns, rows = np.arange(20, 300), np.arange(10, 180)
    expected = (columns + 0.5) * 2 / 4 - 0.5  # value at a source coordinate u is (u/4 − 0.5) on average
    assert np.abs(image[96, columns, 0] - expected).max() <= 1.0
    source_v = (rows + 0.5 - 96) * 2 + 180
    assert np.abs(image[rows, 160, 1] - (source_v / 2 - 0.5)).max() <= 1.0
    assert seen[96, 160] and not seen[0, 160]  # the view is taller than the camera's field


def test_an_off_centre_camera_is_seen_whole():
    """With its principal point at a third of the width, the view turns towards the larger side and no pixel is lost."""
    camera = PinholeCamera(640, 360, 400.0, 400.0, 200.0, 180.0)
    (view,) = plan_views(camera)
    left, right = math.atan2(-200.0, 400.0), math.atan2(440.0, 400.0)
    assert view.yaw_rad == pytest.approx((left + right) / 2, abs=1e-4)
    _, seen = view.sample(np.zeros((360, 640, 3), np.uint8), camera)
    assert seen[96, 2:-2].all()


def test_views_cover_wide_cameras():
    panorama = EquirectangularCamera(1024, 512)
    assert np.allclose(horizontal_field_rad(panorama), [-math.pi, math.pi], atol=1e-3)
    yaws = [view.yaw_rad for view in plan_views(panorama)]
    assert np.allclose(np.degrees(yaws), [-135, -45, 45, 135], atol=0.5)
    fisheye = FisheyeCamera(800, 800, 250.0, 250.0, 400.0, 400.0, (0.0, 0.0, 0.0, 0.0))
    assert len(plan_views(fisheye)) == 3


def test_a_view_that_looks_right_sees_the_right_of_a_panorama():
    camera = EquirectangularCamera(1024, 512)
    image = np.zeros((512, 1024, 3), np.uint8)
    image[:, 700:836] = 255  # azimuth +66° … +114°: to the right of the centre column
    right = max(plan_views(camera), key=lambda view: view.sample(image, camera)[0].mean())
    assert math.degrees(right.yaw_rad) in (pytest.approx(45, abs=1), pytest.approx(135, abs=1))
