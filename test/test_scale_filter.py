"""The filter of a depth model's scale: smooth, unmoved by outliers, quick to begin anew, the same every time."""

import math

import numpy as np
import pytest

from cross_view_loc.depth.scale_filter import LEAST_STD, ScaleFilter

SECOND = 10**9


def run(measured, std=0.05, start=0):
    scale, found = ScaleFilter(), []
    for index, each in enumerate(measured):
        scale.begin(start + index * SECOND // 10)
        scale.update(each, std)
        found.append((scale.log_scale, scale.std))
    return found


def test_noise_averages_out_down_to_a_floor():
    noise = np.random.default_rng(3).normal(0.2, 0.05, 200)
    log_scale, std = run(noise)[-1]
    assert abs(log_scale - 0.2) < 0.02
    assert LEAST_STD <= std < 0.03


def test_a_slow_drift_is_followed_and_a_single_outlier_is_not():
    drift = np.linspace(0.0, 0.1, 300)
    assert abs(run(drift)[-1][0] - 0.1) < 0.03
    with_outlier = [0.1] * 20 + [0.9] * 2 + [0.1] * 2
    assert all(abs(log_scale - 0.1) < 1e-9 for log_scale, _ in run(with_outlier))


def test_repeated_outliers_begin_anew():
    found = run([0.1] * 20 + [0.9] * 4)
    assert [round(log_scale, 6) for log_scale, _ in found[-4:]] == [0.1, 0.1, 0.9, 0.9]
    assert found[-2][1] == pytest.approx(0.05), "nothing of the old certainty is left"


def test_several_refused_views_of_one_moment_count_once():
    scale = ScaleFilter()
    scale.begin(0)
    scale.update(0.0, 0.02)
    scale.begin(SECOND)
    assert [scale.update(1.0, 0.02) for _ in range(4)] == [False] * 4
    assert scale.log_scale == 0.0


def test_the_same_moment_counts_once_and_time_that_jumps_back_begins_anew():
    once, twice = ScaleFilter(), ScaleFilter()
    for stamp, measured in ((0, 0.1), (SECOND, 0.15), (2 * SECOND, 0.12)):
        for scale, times in ((once, 1), (twice, 3)):
            for _ in range(times):
                scale.begin(stamp)
                scale.update(measured, 0.05)
    assert (once.log_scale, once.std) == (twice.log_scale, twice.std)
    once.begin(SECOND)
    assert not once.is_known and once.log_scale == 0.0 and math.isinf(once.std)


def test_without_measurements_it_grows_uncertain():
    scale = ScaleFilter()
    scale.begin(0)
    scale.update(0.3, 0.03)
    scale.begin(100 * SECOND)
    assert scale.log_scale == 0.3 and scale.std > 0.09
