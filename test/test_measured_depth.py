"""A depth image in place of estimated depth: the same ground, lifted to the same points, camera by camera."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from cross_view_loc.depth.source import FlatGround
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.matching.encoders import load_matcher
from cross_view_loc.matching.ground import observe_ground
from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED
from cross_view_loc.types import Frame

HEIGHT_M = 1.5
CAMERA = PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0)


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


def test_measured_ground_lies_where_the_flat_one_does_and_only_where_it_was_measured() -> None:
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    plain, measured = frame(), dataclasses.replace(frame(), depth_m=depth_of_a_flat_road())
    flat = observe_ground([plain], matcher, FlatGround(), "cpu").cells.points_body.numpy()
    seen = observe_ground([measured], matcher, FlatGround(), "cpu").cells
    points = seen.points_body.numpy()
    assert 20 < len(points) < len(flat) and np.all(points[:, 1] < 0.1), "nothing of the left half"
    right = flat[flat[:, 1] < 0.0]
    near = points[np.hypot(*points.T) < 15.0]
    distance = np.min(np.linalg.norm(near[:, None] - right[None], axis=-1), axis=1)
    assert np.median(distance) < 0.3 and torch.isfinite(seen.weight).all() and bool((seen.weight > 0).all())
    both = observe_ground([plain, measured], matcher, FlatGround(), "cpu")
    assert len(both.cells.points_body) == len(flat) + len(points)
    np.testing.assert_allclose(both.cells.points_body[: len(flat)], flat, atol=1e-5)
    alone = observe_ground([plain], matcher, FlatGround(), "cpu").cells.weight
    np.testing.assert_allclose(both.cells.weight[: len(flat)], alone, rtol=1e-3, err_msg="each view by its own kind")
    np.testing.assert_allclose(both.cells.weight[len(flat) :], seen.weight, rtol=1e-3)
