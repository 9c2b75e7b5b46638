"""What a wrong attitude costs at 0 to 6°, and that the road's plane in the depth finds the right one."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.depth.road import observe_road
from cross_view_loc.evaluation.metrics import frame_error
from cross_view_loc.evaluation.town import TrueDepth, announce, make_bench
from cross_view_loc.geometry.transforms import rpy, transform
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.matching.ground import observe_ground


@pytest.fixture(scope="module")
def bench():
    return make_bench(9004, 4, town_size_m=260.0)


def tilted(frames, pitch_deg, roll_deg, knows):
    """The frames of a vehicle that stands so against its road; whether its sensors say it."""
    R = rpy(math.radians(roll_deg), math.radians(pitch_deg), 0.0)
    turn = transform(R.T, [0.0, 0.0, 0.0])
    return [
        replace(
            frame,
            T_base_camera=turn @ frame.T_base_camera,
            R_level_base=frame.R_level_base @ R if knows else np.eye(3),
        )
        for frame in frames
    ]


def test_pitch_and_roll_are_found_in_true_depth(bench):
    depth = TrueDepth()
    errors = []
    for moment in bench.frames:
        depth.set(moment.frames, moment.depth_m)
        for pitch_deg, roll_deg in ((0.0, 0.0), (3.0, 0.0), (6.0, 0.0), (0.0, 6.0), (-6.0, -3.0)):
            plane = observe_road(tilted(moment.frames, pitch_deg, roll_deg, False), depth)
            assert plane is not None
            errors.append([math.degrees(plane.pitch_rad) - pitch_deg, math.degrees(plane.roll_rad) - roll_deg])
    assert np.median(np.abs(errors), axis=0).max() < 0.6
    assert np.abs(errors).max() < 1.5


def test_estimated_attitude_is_as_good_as_the_sensors_at_any_tilt(bench):
    def errors(pitch_deg, roll_deg, attitude, knows):
        localizer = Localizer(bench.orthophoto, LocalizerSettings(threads=1, attitude=attitude), TrueDepth())
        found = []
        for moment in bench.frames[1:]:
            announce(localizer, moment)
            estimate = localizer.locate(tilted(moment.frames, pitch_deg, roll_deg, knows), moment.prior)
            found.append(frame_error(estimate, moment.truth).position_m)
        return np.array(found)

    level = errors(0.0, 0.0, "auto", True)
    estimated = errors(6.0, 3.0, "estimated", False)
    assert np.median(estimated) < np.median(level) + 0.15
    assert np.median(errors(6.0, 3.0, "auto", True)) < np.median(level) + 0.25


def test_what_an_attitude_that_is_left_out_costs_in_lifted_points(bench):
    """Right to a millimetre with it; without it, further off the more the vehicle is tilted."""
    moment, depth = bench.frames[1], TrueDepth()
    depth.set(moment.frames, moment.depth_m)
    matcher = Localizer(bench.orthophoto, LocalizerSettings(threads=1), depth).matcher

    def lifted(pitch_deg, roll_deg, knows):
        seen = observe_ground(tilted(moment.frames, pitch_deg, roll_deg, knows), matcher, depth, "cpu")
        places = [tuple(pixel) for pixel in np.round(seen.pixels, 2)]
        return dict(zip(places, seen.cells.points_body.numpy(), strict=True))

    def far_off(pitch_deg, roll_deg, knows):
        found = lifted(pitch_deg, roll_deg, knows)
        off = [np.linalg.norm(found[place] - truth[place]) for place in truth.keys() & found.keys()]
        assert len(off) > 0.8 * len(truth)
        return np.quantile(off, 0.95)

    truth = lifted(0.0, 0.0, True)
    for direction in ((1.0, 0.0), (0.0, 1.0)):
        without = []
        for angle_deg in (0.0, 2.0, 4.0, 6.0):
            pitch_deg, roll_deg = angle_deg * direction[0], angle_deg * direction[1]
            assert far_off(pitch_deg, roll_deg, True) < 1e-3
            without.append(far_off(pitch_deg, roll_deg, False))
        assert (np.diff(without) > 0.05).all() and without[-1] > 0.3


def test_estimated_attitude_helps_learned_depth_of_a_tilted_vehicle(bench):
    """The network is told the ground: it sees a tilt only in part, and is levelled in rounds."""
    found = {}
    for attitude in ("auto", "estimated"):
        localizer = Localizer(bench.orthophoto, LocalizerSettings(threads=1, window_frames=1, attitude=attitude))
        found[attitude] = []
        for moment in bench.frames[1:]:
            estimate = localizer.locate(tilted(moment.frames, 4.0, 0.0, False), moment.prior)
            found[attitude].append(frame_error(estimate, moment.truth).position_m)
    assert np.median(found["estimated"]) < 0.8 * np.median(found["auto"])
