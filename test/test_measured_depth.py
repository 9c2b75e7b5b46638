"""A depth image in place of estimated depth: the same ground, lifted to the same points, camera by camera."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from cross_view_loc.depth.filled import depth_of
from cross_view_loc.depth.measured import MeasuredDepth
from cross_view_loc.depth.source import Depth, FlatGround
from cross_view_loc.geometry.cameras import EquirectangularCamera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.matching.encoders import load_matcher
from cross_view_loc.matching.ground import cell_rays, observe_ground
from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED
from cross_view_loc.types import Frame

HEIGHT_M = 1.5
CAMERA = PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0)
EMPTY = np.zeros((1, 1, 3), np.uint8)
HIGH = ViewGeometry(transform(R_BODY_OPTICAL, (0.0, 0.0, 90.0)), np.eye(3), 90.0)
"""So high that nothing measured is on the road."""


def frame() -> Frame:
    image = np.random.default_rng(0).integers(0, 255, (CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
    return Frame(image, CAMERA, 0, transform(R_BODY_OPTICAL, (1.0, 0.0, HEIGHT_M)))


def depth_of_a_flat_road() -> np.ndarray:
    """(H, W) of the plane under a level camera, unknown above the horizon and in the left half."""
    rows = np.arange(CAMERA.height) + 0.5 - 192.0
    depth = np.where(rows > 4.0, 400.0 * HEIGHT_M / np.maximum(rows, 1e-6), 0.0)
    image = np.repeat(depth[:, None], CAMERA.width, axis=1).astype(np.float32)
    image[:, : CAMERA.width // 2] = 0.0
    return image


def test_measured_ground_lies_where_the_flat_one_does_and_the_rest_is_estimated() -> None:
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    plain, measured = frame(), dataclasses.replace(frame(), depth_m=depth_of_a_flat_road())
    flat = observe_ground([plain], matcher, FlatGround(), "cpu").cells
    seen = observe_ground([measured], matcher, FlatGround(), "cpu").cells
    np.testing.assert_allclose(seen.points_body, flat.points_body, atol=0.01)
    left = seen.points_body[:, 1] > 0.0
    assert 20 < int(left.sum()) < len(left) - 20 and torch.isfinite(seen.weight).all()
    np.testing.assert_allclose(seen.weight[left], flat.weight[left], rtol=1e-3, err_msg="as far as flat is trusted")
    assert not np.allclose(seen.weight[~left], flat.weight[~left], rtol=1e-2), "measured ground is trusted as metric"
    both = observe_ground([plain, measured], matcher, FlatGround(), "cpu").cells
    np.testing.assert_allclose(both.weight, torch.cat([flat.weight, seen.weight]), rtol=1e-3)


def sparse(pattern: str) -> np.ndarray:
    """(H, W) which pixels are measured."""
    rows, columns = np.indices((CAMERA.height, CAMERA.width))
    if pattern.endswith("%"):
        return np.random.default_rng(1).random(rows.shape) < float(pattern[:-1]) / 100
    every_row, every_column = map(int, pattern.split("x"))
    return (rows % every_row == 5) & (columns % every_column == 1)


@pytest.mark.parametrize(("pattern", "least"), [("12x3", 0.6), ("6x4", 0.95), ("10%", 1.0), ("5%", 0.98), ("1%", 0.65)])
def test_sparse_depth_gives_cells_at_the_distance_of_their_own_middle(pattern: str, least: float) -> None:
    rows = np.arange(CAMERA.height) + 0.5 - 192.0
    road = np.where(rows > 4.0, 400.0 * HEIGHT_M / np.maximum(rows, 1e-6), 0.0)[:, None] * np.ones(CAMERA.width)
    measured = np.where(sparse(pattern), road, 0.0).astype(np.float32)
    (view,) = plan_views(CAMERA)
    geometry, rays = ViewGeometry.of(frame(), view), cell_rays(view)
    z_m = MeasuredDepth(measured, CAMERA)(EMPTY, view, geometry, rays).z_m
    true_m = FlatGround()(EMPTY, view, geometry, rays).z_m
    near = (true_m > 0.0) & (true_m < 30.0)
    assert (z_m[near] > 0.0).mean() >= least
    found = near & (z_m > 0.0)
    np.testing.assert_allclose(z_m[found], true_m[found], rtol=1e-4)


def test_a_cell_on_an_edge_takes_one_surface_not_their_mean() -> None:
    """A pole of 40 columns, 5 m away, before a wall 20 m away, both measured in every fiftieth pixel."""
    depth = np.full((CAMERA.height, CAMERA.width), 20.0, np.float32)
    depth[:, 300:340] = 5.0
    depth[np.random.default_rng(0).random(depth.shape) > 0.02] = 0.0
    (view,) = plan_views(CAMERA)
    rays = cell_rays(view)
    z_m = MeasuredDepth(depth, CAMERA)(EMPTY, view, HIGH, rays).z_m
    np.testing.assert_allclose(np.unique(z_m), [0.0, 5.0, 20.0], rtol=1e-6)
    columns = CAMERA.project(rays)[0][..., 0]
    on_pole, known = (columns > 302.0) & (columns < 338.0), z_m > 0.0
    assert (z_m[on_pole & known] == 5.0).mean() > 0.9 and (z_m[~on_pole & known] == 20.0).mean() > 0.9


def test_a_panorama_s_depth_is_along_its_rays() -> None:
    panorama = EquirectangularCamera(800, 400)
    ball = np.full((100, 200), 10.0, np.float32)
    image, mount = np.zeros((400, 800, 3), np.uint8), transform(R_BODY_OPTICAL, (0.0, 0.0, 90.0))
    around = Frame(image, panorama, 0, mount, depth_m=ball)
    for view in plan_views(panorama):
        rays = view.rays(4, 8)
        z_m = depth_of(around, FlatGround())(EMPTY, view, ViewGeometry.of(around, view), rays).z_m
        np.testing.assert_allclose(z_m * np.linalg.norm(rays, axis=-1), 10.0, rtol=0.03)


class Estimate:
    """An estimated wall 13 m away."""

    kind, log_scale_std, calls = "metric", 0.1, 0

    def __call__(self, image, view, geometry, rays) -> Depth:
        self.calls += 1
        return Depth(np.full(rays.shape[:-1], 13.0), np.full(rays.shape[:-1], -2.0))


def test_what_was_measured_sets_the_estimate_s_scale() -> None:
    (view,) = plan_views(CAMERA)
    rays, estimate = view.rays(4, 8), Estimate()
    wall = np.full((CAMERA.height, CAMERA.width), 10.0, np.float32)
    all_of_it = depth_of(dataclasses.replace(frame(), depth_m=wall), estimate)(EMPTY, view, HIGH, rays)
    assert estimate.calls == 0 and all_of_it.is_measured is not None and all_of_it.is_measured.all()
    wall[:, 100:] = 0.0
    source = depth_of(dataclasses.replace(frame(), depth_m=wall), estimate)
    found = source(EMPTY, view, HIGH, rays)
    np.testing.assert_allclose(found.z_m, 10.0)
    assert found.is_measured is not None and found.log_spread is not None and source.log_scale_std == 0.01
    assert np.all(found.log_spread[~found.is_measured] == -2.0) and 0.1 < found.is_measured.mean() < 0.2
    nothing = depth_of(dataclasses.replace(frame(), depth_m=np.zeros_like(wall)), estimate)
    assert np.all(nothing(EMPTY, view, HIGH, rays).z_m == 13.0) and nothing.log_scale_std == 0.1
    assert depth_of(frame(), estimate) is estimate
