"""KITTI's benchmark against the published recipe itself, redone with Pillow on an aerial image with two painted spots.

The recipe turns, moves, moves and turns the picture; what must come out is the pose that the evaluation takes as truth,
seen from the prior it hands out.
"""

import math

import numpy as np
import pytest

from cross_view_loc.datasets.kitti import METERS_PER_PIXEL
from cross_view_loc.evaluation.crop_frame import CropFrame
from cross_view_loc.evaluation.kitti import kitti_pairs

Image = pytest.importorskip("PIL.Image")

AHEAD_M = 8.0
"""The second spot lies this far ahead of the camera: it shows the heading."""
SIDE_PX, SPOT_PX = 512, 3.0
"""Of the painted aerial image: as large as the crop, for only its middle matters."""
NAME = "2011_09_26/2011_09_26_drive_0001_sync/0000000005.png"
CASES = [
    # yaw °, listed shift x, shift y, θ
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 0.5, 0.0, 0.0),
    (0.0, 0.0, 0.5, 0.0),
    (0.0, 0.0, 0.0, 0.7),
    (123.0, -0.83, 0.41, -0.96),
    (-70.0, 0.9, -0.9, 0.33),
]


@pytest.fixture
def tree(tmp_path):
    """Writes a data set of one frame without images; returns its root."""

    def write(yaw_deg, shift_x, shift_y, theta):
        date, drive, file = NAME.split("/")
        poses = tmp_path / "raw_data" / date / drive / "oxts" / "data"
        poses.mkdir(parents=True)
        (tmp_path / "satmap").mkdir()
        (poses / file.replace(".png", ".txt")).write_text(f"49.0 8.4 116.0 0.0 0.0 {math.radians(yaw_deg):.12f}\n")
        (tmp_path / "raw_data" / date / "calib_cam_to_cam.txt").write_text(
            "S_rect_02: 1242 375\nP_rect_02: 721.5 0 609.5 44.8 0 721.5 172.8 0.2 0 0 1 0.003\n"
        )
        (tmp_path / "test1_files.txt").write_text(f"{NAME} {shift_x} {shift_y} {theta}\n")
        return tmp_path

    return write


def published_crop(yaw_deg, shift_x, shift_y, theta, range_deg):
    """Metres (right, up) of camera and second spot from the middle of the published recipe's crop."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    at = np.arange(SIDE_PX) + 0.5
    spots = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    for band, ahead_m in enumerate((1.08, 1.08 + AHEAD_M)):  # the camera is 0.26 m to the right of the antenna
        east_m, north_m = c * ahead_m + s * 0.26, s * ahead_m - c * 0.26
        column, row = SIDE_PX / 2 + east_m / METERS_PER_PIXEL, SIDE_PX / 2 - north_m / METERS_PER_PIXEL
        profiles = [np.exp(-((at - middle) ** 2) / (2 * SPOT_PX**2)) for middle in (row, column)]
        spots[..., band] = 255 * np.outer(*profiles)
    bilinear = Image.Resampling.BILINEAR
    picture = Image.fromarray(spots).rotate(-yaw_deg, bilinear)
    for right_m, down_m in ((1.08, 0.26), (-shift_x * 20.0, shift_y * 20.0)):
        moved = (1, 0, right_m / METERS_PER_PIXEL, 0, 1, down_m / METERS_PER_PIXEL)
        picture = picture.transform(picture.size, Image.Transform.AFFINE, moved, bilinear)
    seen = np.asarray(picture.rotate(theta * range_deg, bilinear), dtype=np.float64)
    found = []
    for band in range(2):
        across, down = seen[..., band].sum(0), seen[..., band].sum(1)
        from_middle = (np.average(at, weights=across) - SIDE_PX / 2, SIDE_PX / 2 - np.average(at, weights=down))
        found.append(tuple(value * METERS_PER_PIXEL for value in from_middle))
    return found


@pytest.mark.parametrize("range_deg", [10.0, 180.0])
@pytest.mark.parametrize("case", CASES)
def test_truth_seen_from_the_prior_is_the_published_crop(tree, case, range_deg):
    (right_m, up_m), (ahead_right_m, ahead_up_m) = published_crop(*case, range_deg)
    (pair,) = kitti_pairs(tree(*case), "same", f"{range_deg:.0f}")
    frame, truth = CropFrame.of(pair.prior), pair.truth
    assert frame.to_map(right_m, up_m) == pytest.approx((truth.east_m, truth.north_m), abs=0.03)
    heading = math.atan2(ahead_up_m - up_m, ahead_right_m - right_m)
    assert math.remainder(truth.yaw_rad - frame.yaw_rad - heading, 2 * math.pi) == pytest.approx(0.0, abs=0.004)


@pytest.mark.parametrize("shifts", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
@pytest.mark.parametrize("theta", [-1.0, 1.0])
@pytest.mark.parametrize("variant", ["10", "180"])
def test_what_is_searched_holds_the_largest_noise(tree, shifts, theta, variant):
    (pair,) = kitti_pairs(tree(50.0, *shifts, theta), "same", variant)
    frame, prior = CropFrame.of(pair.prior), pair.prior
    c, s = math.cos(frame.yaw_rad), math.sin(frame.yaw_rad)
    d_east, d_north = pair.truth.east_m - prior.east_m, pair.truth.north_m - prior.north_m
    x_m, y_m = c * d_east + s * d_north, -s * d_east + c * d_north
    assert math.hypot(x_m, y_m) == pytest.approx(20.0 * math.sqrt(2.0))
    if variant == "180":
        assert prior.yaw_range_rad == math.pi and prior.radius_m >= 20.0 * math.sqrt(2.0) - 1e-9
    else:
        assert max(abs(x_m), abs(y_m)) <= prior.radius_m + 1e-9
        turn = math.remainder(pair.truth.yaw_rad - prior.yaw_rad, 2 * math.pi)
        assert turn == pytest.approx(theta * math.radians(10.0)) and abs(turn) <= prior.yaw_range_rad + 1e-9
