"""Relative depth and its scale from the camera's height, with hills, walls and nothing to see."""

import math

import numpy as np
import pytest

from cross_view_loc.depth.relative import SCALE_UNKNOWN_STD, AnchoredDepth, RelativeDepth, anchor_scale
from cross_view_loc.depth.source import FlatGround
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import View

VIEW = View(200.0)
RAYS = VIEW.rays(4, 8)
GEOMETRY = ViewGeometry(transform(rpy(0, math.radians(4.0), 0) @ R_BODY_OPTICAL, [1.5, 0.0, 1.6]), np.eye(3), 1.6)
IMAGE = np.zeros((192, 320, 3), np.uint8)


def flat() -> np.ndarray:
    inverse = GEOMETRY.flat_inverse_depth(RAYS)
    return np.where(inverse > 1 / 80, 1 / np.maximum(inverse, 1e-9), 0.0)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_walls_do_not_change_the_anchor(scale):
    depth = np.minimum(np.where(flat() > 0, flat(), 80.0), 8.0)  # a wall across the whole view 8 m ahead
    depth[:, :12] = np.minimum(depth[:, :12], 4.0)  # and another nearer on the left
    found, std = anchor_scale(depth / scale, RAYS, GEOMETRY)
    assert abs(math.log(found / scale)) < 0.02
    assert std < 0.1


def test_hills_cost_little_and_show_in_the_deviation():
    even, _ = anchor_scale(flat() / 2.0, RAYS, GEOMETRY)
    rising = 1 / (1 / np.maximum(flat(), 1e-9) + math.tan(math.radians(1.5)) / 1.6) * (flat() > 0)  # 2.6 % uphill
    found, std = anchor_scale(rising / 2.0, RAYS, GEOMETRY)
    assert even == pytest.approx(2.0, rel=0.01)
    assert abs(math.log(found / 2.0)) < 0.15
    assert std > anchor_scale(flat() / 2.0, RAYS, GEOMETRY)[1]


def test_noise_of_single_cells_averages_out():
    noisy = flat() * np.exp(np.random.default_rng(0).normal(0, 0.08, flat().shape))
    assert abs(math.log(anchor_scale(noisy * 3.0, RAYS, GEOMETRY)[0] * 3.0)) < 0.02


@pytest.mark.parametrize("depth", [np.zeros((48, 40)), np.full((48, 40), np.nan)])
def test_without_ground_the_scale_stays_unknown(depth):
    assert anchor_scale(depth, RAYS, GEOMETRY) == (1.0, SCALE_UNKNOWN_STD)


def test_relative_depth_is_seeded_and_within_its_range():
    def factors(seed):
        source = RelativeDepth(FlatGround(), seed)
        return [
            float(np.median((source(IMAGE, VIEW, GEOMETRY, RAYS).z_m / np.maximum(flat(), 1e-9))[40:]))
            for _ in range(20)
        ]

    first = factors(3)
    assert first == factors(3) and first != factors(4)
    assert 0.2 <= min(first) < 0.6 and 1.5 < max(first) <= 5.0
    with pytest.raises(ValueError, match="positive"):
        RelativeDepth(FlatGround(), 0, (2.0, 1.0))


def test_anchored_depth_undoes_the_unknown_scale():
    source = AnchoredDepth(RelativeDepth(FlatGround(), 1))
    for _ in range(5):
        depth = source(IMAGE, VIEW, GEOMETRY, RAYS).z_m
        near = (flat() > 0) & (flat() < 20)
        assert np.allclose(depth[near], flat()[near], rtol=0.02)
        assert 0 < source.log_scale_std < 0.1
    assert source.kind == "flat"
