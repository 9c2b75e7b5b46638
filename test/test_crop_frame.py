"""The frame of a benchmark's crop: the same imagery, and estimates that come back to the map they were cut from."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.evaluation.crop_frame import CropFrame, CropMap
from cross_view_loc.types import Estimate, Match, Prior

PRIOR = Prior(7, 6.3, -4.1, 20.0, math.radians(37.3), math.radians(10.0), position_std_m=3.0)


@pytest.fixture(scope="module")
def imagery():
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    return ImageMap(cv2.GaussianBlur(noise, (0, 0), 2.0), 0.2)


def test_a_patch_shows_what_lies_at_its_place_in_the_map(imagery):
    frame = CropFrame.of(PRIOR)
    patch = CropMap(imagery, frame).patch(3.0, -2.0, 64, 0.25, 0.4)
    for pixel in ((0.5, 0.5), (40.5, 10.5), (63.5, 63.5)):
        x_m, y_m = patch.pixel_to_map(pixel)
        east_m, north_m = frame.to_map(x_m, y_m)
        direct = imagery.patch(east_m, north_m, 1, 0.25, 0.4 + PRIOR.yaw_rad).image[0, 0].astype(int)
        assert np.abs(patch.image[int(pixel[1]), int(pixel[0])] - direct).max() <= 2
    assert (patch.center_east_m, patch.center_north_m, patch.rotation_rad) == (3.0, -2.0, 0.4)


def test_right_in_the_crop_is_the_priors_heading(imagery):
    patch = CropMap(imagery, CropFrame.of(PRIOR)).patch(0.0, 0.0, 64, 0.25, math.pi / 2)
    x_m, y_m = patch.pixel_to_map((48.0, 24.0))  # 4 m to the right, 2 m up
    assert (x_m, y_m) == pytest.approx((4.0, 2.0))
    c, s = math.cos(PRIOR.yaw_rad), math.sin(PRIOR.yaw_rad)
    east_m, north_m = CropFrame.of(PRIOR).to_map(x_m, y_m)
    assert (east_m, north_m) == pytest.approx((6.3 + 4 * c - 2 * s, -4.1 + 4 * s + 2 * c))


def test_the_prior_is_the_origin_and_keeps_its_search():
    inside = CropFrame.of(PRIOR).prior(PRIOR)
    assert inside == replace(PRIOR, east_m=0.0, north_m=0.0, yaw_rad=0.0)


def test_an_estimate_comes_back_with_its_covariance_and_matches():
    estimate = Estimate(
        7, 2.0, 1.0, math.radians(170.0), np.diag([4.0, 1.0, 0.01]), accepted=True,
        matches=(Match((1.0, 2.0), (5.0, 0.0), (2.0, 1.0), 0.5),),
    )  # fmt: skip
    back = CropFrame(10.0, 20.0, math.pi / 2).estimate_in_map(estimate)
    assert (back.east_m, back.north_m) == pytest.approx((9.0, 22.0))
    assert back.yaw_rad == pytest.approx(math.radians(-100.0))
    np.testing.assert_allclose(back.covariance, np.diag([1.0, 4.0, 0.01]), atol=1e-12)
    assert back.matches[0].point_map == pytest.approx((9.0, 22.0)) and back.accepted and back.stamp_ns == 7
