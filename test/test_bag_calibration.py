"""Fitting a vehicle's camera and covariance on a drive with truth: signs, what is told apart, what is left alone."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.bag_calibration import (
    MOST_FRAMES,
    CameraCorrection,
    FrameSample,
    fit_camera,
    fit_covariance_scale,
    static_transform_command,
)
from cross_view_loc.evaluation.metrics import FrameError, Truth
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, from_quaternion, transform
from cross_view_loc.types import Estimate, Frame, Prior

CAMERA = PinholeCamera(64, 36, 40.0, 40.0, 32.0, 18.0)
HEIGHT_M, REACH_M = 1.6, 12.0
RIGHT = transform(R_BODY_OPTICAL, (1.5, 0.0, HEIGHT_M))
SECOND = 1_000_000_000


def places(count: int, turning: bool = True) -> dict[int, Truth]:
    return {i * SECOND: Truth(8.0 * i, 3.0 * i, 0.25 * i if turning else 0.4) for i in range(count)}


class FlatWorld:
    """A localizer on a flat map that believes the mounting it is given, and errs as geometry says, with some noise."""

    def __init__(self, truth: dict[int, Truth], offset_m=(0.0, 0.0), noise_m: float = 0.05) -> None:
        self.truth, self.offset_m, self.noise_m = truth, offset_m, noise_m
        self.calls = 0

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate:
        self.calls += 1
        (frame,) = frames
        place = self.truth[frame.stamp_ns]
        rng = np.random.default_rng(frame.stamp_ns % 2**32)  # the same frame errs the same way each time
        R_error = frame.T_base_camera[:3, :3] @ RIGHT[:3, :3].T  # how the mounting that is believed is turned
        pitch, roll, yaw = -R_error[2, 0], R_error[2, 1], R_error[1, 0]
        height = frame.T_base_camera[2, 3] / HEIGHT_M
        # Believed too far down, the ground seems nearer than it is, and the vehicle too far ahead.
        forward = REACH_M**2 / HEIGHT_M * pitch * 0.6 + rng.normal(0, self.noise_m)
        left = REACH_M * yaw + 2.0 * roll + rng.normal(0, self.noise_m)
        c, s = math.cos(place.yaw_rad), math.sin(place.yaw_rad)
        return Estimate(
            frame.stamp_ns,
            place.east_m + c * forward - s * left + self.offset_m[0],
            place.north_m + s * forward + c * left + self.offset_m[1],
            place.yaw_rad - yaw + rng.normal(0, 0.002),
            np.eye(3),
            scale=1.0 / height * math.exp(rng.normal(0, 0.01) + 0.5 * pitch),
            accepted=True,
        )


def frames_of(truth: dict[int, Truth], wrong: CameraCorrection) -> list[Frame]:
    """Frames whose mounting is off by `wrong`."""
    image = np.zeros((36, 64, 3), np.uint8)
    return [wrong.applied(Frame(image, CAMERA, stamp, RIGHT)) for stamp in truth]


@pytest.mark.parametrize(
    "wrong",
    [
        CameraCorrection(pitch_rad=math.radians(1.0)),
        CameraCorrection(yaw_rad=math.radians(-1.5), height_m=0.12),
        CameraCorrection(pitch_rad=math.radians(-0.8), yaw_rad=math.radians(0.7), height_m=-0.1),
    ],
)
def test_a_wrong_mounting_is_undone(wrong):
    truth = places(20)
    fit = fit_camera(frames_of(truth, wrong), truth.get, FlatWorld(truth).locate)
    found = fit.correction
    assert found.pitch_rad == pytest.approx(-wrong.pitch_rad, abs=math.radians(0.1))
    assert found.yaw_rad == pytest.approx(-wrong.yaw_rad, abs=math.radians(0.15))
    assert found.height_m == pytest.approx(-wrong.height_m, abs=0.02)
    # What comes out is where the camera really sits.
    right = found.applied(frames_of(truth, wrong)[0]).T_base_camera
    assert right == pytest.approx(RIGHT, abs=0.02)


def test_shifted_imagery_is_not_taken_for_a_tilted_camera():
    truth = places(20)
    fit = fit_camera(frames_of(truth, CameraCorrection()), truth.get, FlatWorld(truth, (1.5, -0.8)).locate, (1.5, -0.8))
    assert abs(fit.correction.pitch_rad) < math.radians(0.15)
    assert fit.significant().pitch_rad == 0.0
    # In one direction nobody can tell a shift forward from a tilt, and the standard deviation says so.
    straight = places(20, turning=False)
    alone = fit_camera(frames_of(straight, CameraCorrection()), straight.get, FlatWorld(straight, (1.5, 0.6)).locate)
    assert alone.std[0] > 3.0 * fit.std[0]


def test_a_right_mounting_is_left_alone():
    truth = places(20)
    fit = fit_camera(frames_of(truth, CameraCorrection()), truth.get, FlatWorld(truth).locate)
    assert fit.significant() == CameraCorrection()
    assert fit.frames == 20


def test_outliers_do_not_tilt_the_camera():
    truth = places(24)
    world = FlatWorld(truth)

    def locate(frames, prior):
        found = world.locate(frames, prior)
        wrong = 5.0 if frames[0].stamp_ns % (5 * SECOND) == 0 else 0.0
        return Estimate(
            found.stamp_ns, found.east_m + wrong, found.north_m, found.yaw_rad, found.covariance, found.scale
        )

    wrong = CameraCorrection(pitch_rad=math.radians(1.0))
    fit = fit_camera(frames_of(truth, wrong), truth.get, locate)
    assert fit.correction.pitch_rad == pytest.approx(-wrong.pitch_rad, abs=math.radians(0.15))


def test_too_few_frames_are_refused():
    truth = places(7)
    with pytest.raises(InputError, match="7 accepted frames with truth are too few"):
        fit_camera(frames_of(truth, CameraCorrection()), truth.get, FlatWorld(truth).locate)


def test_the_sample_spreads_over_the_drive_and_stays_small():
    sample = FrameSample()
    for frame in frames_of(places(1000), CameraCorrection()):
        sample.offer(frame)
        assert len(sample.frames) < 2 * MOST_FRAMES
    stamps = np.array([frame.stamp_ns for frame in sample.frames]) / SECOND
    assert len(stamps) >= MOST_FRAMES - 1
    assert len(set(np.diff(stamps))) == 1 and stamps[-1] > 900.0


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_covariance_scale_brings_its_own_coverage(factor):
    """Errors that are `factor` times as large in variance as claimed."""
    rng = np.random.default_rng(0)
    nees = factor * rng.chisquare(3, 4000)
    errors = [FrameError(0.5, 0.0, 0.5, 0.1, float(value), True) for value in nees]
    errors += [FrameError(9.0, 0.0, 9.0, 0.1, 1e4, True)] * 200 + [FrameError(0.5, 0.0, 0.5, 0.1, 1e4, False)] * 400
    assert fit_covariance_scale(errors) == pytest.approx(factor, rel=0.08)
    with pytest.raises(InputError, match="too few"):
        fit_covariance_scale(errors[:30])


def test_the_command_publishes_the_corrected_pose():
    frame = CameraCorrection(height_m=0.1).applied(frames_of(places(1), CameraCorrection())[0])
    words = static_transform_command(frame, "base_link", "camera_optical").split()
    value = {words[i][2:]: words[i + 1] for i in range(4, len(words), 2)}
    assert (value["x"], value["z"]) == ("1.5000", "1.7000")
    R = from_quaternion(*(float(value[f"q{axis}"]) for axis in "xyzw"))
    assert np.abs(R - R_BODY_OPTICAL).max() < 1e-5
    assert (value["frame-id"], value["child-frame-id"]) == ("base_link", "camera_optical")
