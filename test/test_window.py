"""The window over time: which moments count, how much, and where their cells are seen from here."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.matching.consensus import GroundCells, Layer, body_to_patch, score_poses
from cross_view_loc.matching.ground import GroundObservation
from cross_view_loc.matching.window import GroundWindow, WindowSettings
from cross_view_loc.types import Frame

CAMERA = PinholeCamera(64, 48, 50.0, 50.0, 32.0, 24.0)
EXACT = WindowSettings(frames=5, length_m=100.0, spacing_m=0.0, drift_share=0.0, yaw_drift_rad_per_m=0.0)


def frame_at(stamp_s, x_m, y_m=0.0, yaw_rad=0.0, odometry=True):
    T_odom_base = transform(rotation_z(yaw_rad), [x_m, y_m, 0.0]) if odometry else None
    image = np.zeros((48, 64, 3), np.uint8)
    return Frame(image, CAMERA, round(stamp_s * 1e9), np.eye(4), T_odom_base=T_odom_base)


def seen(points, weight=1.0):
    points = torch.tensor(points, dtype=torch.float32)
    cells = GroundCells(torch.eye(4)[: len(points)], torch.full((len(points),), weight), points)
    count = len(points)
    return GroundObservation(cells, cells, np.zeros(count, np.int64), np.ones((count, 2)))


def through(window, frame, points):
    """The joined cells at one moment, in the order Localizer goes."""
    is_kept = window.advance([frame])
    now = seen(points)
    joined = window.join(now)
    if is_kept:
        window.keep(now)
    return joined


@given(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 3), st.floats(-20, 20), st.floats(-20, 20), st.floats(-3, 3)
)
def test_a_landmark_seen_twice_is_at_one_place(x, y, yaw, d_x, d_y, turn):
    """A point of the world, seen from two places by exact odometry, has the same body coordinates now."""
    landmark = np.array([x + 7.0, y - 3.0])
    poses = [(x, y, yaw), (x + d_x, y + d_y, yaw + turn)]

    def in_body(pose):
        c, s = math.cos(pose[2]), math.sin(pose[2])
        offset = landmark - pose[:2]
        return [c * offset[0] + s * offset[1], -s * offset[0] + c * offset[1]]

    window = GroundWindow(EXACT)
    through(window, frame_at(0.0, *poses[0]), [in_body(poses[0])])
    joined = through(window, frame_at(0.5, *poses[1]), [in_body(poses[1])])
    assert joined.cells.points_body.numpy() == pytest.approx(np.array([in_body(poses[1])] * 2), abs=1e-4)
    assert joined.frame_index.tolist() == [0, -1]
    assert joined.views == 2


def test_a_car_that_drives_ahead_leaves_its_past_behind():
    window = GroundWindow(EXACT)
    through(window, frame_at(0.0, 0.0), [[10.0, 2.0]])
    joined = through(window, frame_at(1.0, 4.0), [[10.0, 2.0]])
    assert joined.cells.points_body[1].tolist() == pytest.approx([6.0, 2.0])
    assert window.reach_m == pytest.approx(4.0)


def test_scale_acts_about_where_a_cell_was_seen_from():
    """Depth 10 % too short stretches each sighting about its own place; the way between is odometry's."""
    window = GroundWindow(EXACT)
    through(window, frame_at(0.0, 0.0), [[10.0, 2.0]])
    joined = through(window, frame_at(1.0, 4.0), [[10.0, 2.0]])
    stretched = joined.cells.scaled(1.1)
    assert stretched.numpy() == pytest.approx(np.array([[11.0, 2.2], [7.0, 2.2]]), abs=1e-5)


def test_poses_score_the_cells_where_scale_puts_them():
    """`score_poses` uses the same rule: the peak of a planted landmark is found at the planted scale only."""
    window = GroundWindow(EXACT)
    through(window, frame_at(0.0, 0.0), [[10.0, 0.0]])
    cells = through(window, frame_at(1.0, 8.0), [[10.0, 0.0]]).cells
    past = replace(cells, weight=torch.tensor([0.0, 1.0]))
    aerial = torch.zeros(4, 40, 40)
    right, up = body_to_patch(torch.tensor([[2.0 + 0.2 * 10.0, 0.0]]))[0].tolist()  # 12 m ahead of 8 m back
    aerial[0, round(19.5 - up / 0.8), round(19.5 + right / 0.8)] = 1.0
    poses = torch.tensor([[0.0, 0.0, 0.0, math.log(scale)] for scale in (1.0, 1.2)])
    scores = score_poses([Layer(aerial, past, 1.0)], poses, 32.0, 1e6)
    assert scores[1] > scores[0] + 0.2


def test_without_odometry_there_is_no_past():
    window = GroundWindow(EXACT)
    through(window, frame_at(0.0, 0.0, odometry=False), [[10.0, 0.0]])
    assert len(through(window, frame_at(1.0, 1.0, odometry=False), [[9.0, 0.0]]).cells.weight) == 1
    through(window, frame_at(2.0, 0.0), [[10.0, 0.0]])
    assert len(through(window, frame_at(3.0, 1.0, odometry=False), [[9.0, 0.0]]).cells.weight) == 1


def test_a_window_of_one_is_the_present_alone():
    window = GroundWindow(replace(EXACT, frames=1))
    for stamp in range(3):
        now = seen([[10.0, 0.0]])
        assert not window.advance([frame_at(stamp, stamp)])
        assert window.join(now) is now


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (EXACT, [12.0, 13.0, 14.0, 15.0]),
        (replace(EXACT, frames=3), [14.0, 15.0]),
        (replace(EXACT, length_m=3.5), [13.0, 14.0, 15.0]),
        (replace(EXACT, spacing_m=2.0), [10.0, 12.0, 14.0]),
    ],
    ids=["frames", "fewer frames", "length", "spacing"],
)
def test_what_counts(settings, expected):
    """Driving a metre a second; a sighting 20 m ahead is known by how much of that is left."""
    window = GroundWindow(settings)
    joined = None
    for metre in range(11, 17) if settings.spacing_m == 0.0 else range(10, 17):
        joined = through(window, frame_at(metre, metre), [[20.0, 0.0]])
    ways = sorted(20.0 + 16.0 - 20.0 + point - 20.0 for point in joined.cells.points_body[1:, 0].tolist())
    assert ways == pytest.approx(expected)


def test_the_same_moment_again_is_joined_with_the_same_past():
    window = GroundWindow(replace(EXACT, frames=3))
    for metre in range(6):
        first = through(window, frame_at(metre, metre), [[20.0, 0.0]])
        again = through(window, frame_at(metre, metre), [[20.0, 0.0]])
        assert again.cells.points_body.tolist() == first.cells.points_body.tolist()


def test_stamps_that_go_back_begin_anew():
    window = GroundWindow(EXACT)
    through(window, frame_at(5.0, 0.0), [[10.0, 0.0]])
    assert len(through(window, frame_at(1.0, 1.0), [[9.0, 0.0]]).cells.weight) == 1


def test_what_odometry_has_carried_far_counts_less():
    settings = replace(EXACT, drift_share=0.05)
    near, far = (GroundWindow(settings) for _ in range(2))
    through(near, frame_at(0.0, 0.0), [[10.0, 0.0]])
    through(far, frame_at(0.0, 0.0), [[10.0, 0.0]])
    little = through(near, frame_at(1.0, 2.0), [[8.0, 0.0]]).cells.weight[1]
    less = through(far, frame_at(1.0, 16.0), [[-6.0, 0.0]]).cells.weight[1]
    assert 0.45 < float(less) < 0.55  # drift of a cell's width: half
    assert 0.95 < float(little) < 1.0


def test_a_jump_of_odometry_ends_the_past():
    window = GroundWindow(replace(EXACT, length_m=20.0))
    through(window, frame_at(0.0, 0.0), [[10.0, 0.0]])
    assert len(through(window, frame_at(0.1, 500.0), [[10.0, 0.0]]).cells.weight) == 1


@pytest.fixture(scope="module")
def town():
    pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")
    from cross_view_loc.evaluation.town import make_bench

    return make_bench(9004, 4, town_size_m=260.0, between=4)


def test_a_window_helps_in_the_town(town):
    """Measured frames of a drive, with and without the metres before them; odometry that is half as long must hurt."""
    from cross_view_loc.evaluation.town import evaluate_bench
    from cross_view_loc.localizer import Localizer, LocalizerSettings

    def error_m(frames, lengths=1.0):
        moments = tuple(
            replace(
                moment,
                frames=tuple(
                    replace(f, T_odom_base=transform(f.T_odom_base[:3, :3], lengths * f.T_odom_base[:3, 3]))
                    for f in moment.frames
                ),
            )
            for moment in town.frames
        )
        localizer = Localizer(town.orthophoto, LocalizerSettings(window_frames=frames, window_length_m=60.0))
        return np.mean([error.position_m for error in evaluate_bench(replace(town, frames=moments), localizer)])

    with_window = error_m(5)
    assert with_window < error_m(1)
    assert with_window < error_m(5, lengths=0.5)


def test_the_past_does_not_speak_for_a_camera_that_is_covered_now(town):
    from cross_view_loc.localizer import Localizer, LocalizerSettings

    localizer = Localizer(town.orthophoto, LocalizerSettings(window_length_m=60.0))
    *before, moment = town.frames[:6]
    for earlier in before:
        localizer.follow(earlier.frames)
    covered = replace(moment.frames[0], image=np.zeros_like(moment.frames[0].image))
    assert not localizer.locate([covered], moment.prior).accepted
    for earlier in before:
        localizer.follow(earlier.frames)
    assert localizer.locate(moment.frames, moment.prior).accepted
