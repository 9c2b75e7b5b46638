"""The truth of a whole drive in memory: small, and the same to the last bit as kept one by one."""

import tracemalloc

import numpy as np
import pytest

from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.inputs.stamps import PackedPoses, Timeline, blend_transforms

GAP_NS = 10**9


def pose(number: int) -> np.ndarray:
    return transform(rotation_z(0.1 * number), (number / 3.0, -number / 7.0, 0.3))


def filled(values, order) -> Timeline:
    timeline = Timeline(blend_transforms, 1e9, values)
    for number in order:
        timeline.add(number * 10**7, pose(number))
    return timeline


def test_packed_poses_are_the_same_to_the_last_bit():
    order = [5, 1, 3, 2, 9, 3, 7, 0]  # late ones and one twice
    packed, loose = filled(PackedPoses(), order), filled(None, order)
    for stamp in range(-(10**7), 11 * 10**7, 3_333_333):
        assert np.array_equal(packed.at(stamp, GAP_NS), loose.at(stamp, GAP_NS))
    assert packed.newest_stamp == loose.newest_stamp
    for (stamp, one), (other_stamp, other) in zip(packed.until(6 * 10**7), loose.until(6 * 10**7), strict=True):
        assert stamp == other_stamp
        assert np.array_equal(one, other)


def test_packed_poses_forget_what_is_outdated():
    timeline = Timeline(blend_transforms, 1.0, PackedPoses())
    for number in range(1000):
        timeline.add(number * 10**7, pose(number))
    first = timeline.until(10**10)[0]
    assert 6 * 10**9 < first[0] <= 9 * 10**9
    assert np.array_equal(first[1], pose(first[0] // 10**7))


def test_a_place_that_is_not_there_is_an_index_error():
    poses = PackedPoses()
    poses.append(pose(1))
    assert np.array_equal(poses[-1], pose(1))
    with pytest.raises(IndexError):
        poses[1]


def test_an_hour_of_truth_at_50_hz_takes_little_memory():
    timeline, one = Timeline(blend_transforms, 1e9, PackedPoses()), pose(1)
    tracemalloc.start()
    for number in range(180_000):
        timeline.add(number * 20_000_000, one.copy())
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 25e6
