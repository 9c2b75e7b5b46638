"""Rigid transforms and the transform tree: directions, composition, interpolation, what is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transform_tree import TransformTree
from cross_view_loc.geometry.transforms import (
    apply,
    from_quaternion,
    inverse,
    level_rotation,
    rotation_z,
    rpy,
    slerp,
    to_quaternion,
    transform,
    yaw_of,
)

SECOND = 1_000_000_000
angles = st.floats(-3.1, 3.1)


def pose(x, y, yaw):
    return transform(rotation_z(yaw), (x, y, 0.0))


@given(angles, angles, angles)
def test_rotations_agree_with_scipy(roll, pitch, yaw):
    R = rpy(roll, pitch, yaw)
    np.testing.assert_allclose(R, Rotation.from_euler("xyz", (roll, pitch, yaw)).as_matrix(), atol=1e-12)
    quaternion = to_quaternion(R)
    expected = Rotation.from_matrix(R).as_quat()
    assert abs(quaternion @ expected) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(from_quaternion(*quaternion), R, atol=1e-12)


def test_yaw_is_counter_clockwise():
    np.testing.assert_allclose(rotation_z(np.pi / 2) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
    assert yaw_of(rotation_z(0.7)) == pytest.approx(0.7)
    assert yaw_of(pose(3.0, 4.0, -2.0)) == pytest.approx(-2.0)


def test_pose_maps_child_coordinates_to_the_parent_and_back():
    T_map_base = pose(10.0, 20.0, np.pi / 2)
    np.testing.assert_allclose(apply(T_map_base, [[1.0, 0.0, 0.0]]), [[10.0, 21.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(inverse(T_map_base) @ T_map_base, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(inverse(np.stack([T_map_base] * 2))[1], inverse(T_map_base))


@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), angles)
def test_level_rotation_keeps_roll_and_pitch_and_drops_yaw(roll, pitch, yaw):
    np.testing.assert_allclose(level_rotation(rpy(roll, pitch, yaw)), rpy(roll, pitch, 0.0), atol=1e-12)


def test_slerp_takes_the_shorter_way():
    assert yaw_of(slerp(rotation_z(3.0), rotation_z(-3.0), 0.5)) % (2 * np.pi) == pytest.approx(np.pi)
    assert yaw_of(slerp(rotation_z(0.2), rotation_z(0.6), 0.25)) == pytest.approx(0.3)
    np.testing.assert_allclose(slerp(np.eye(3), np.eye(3), 0.3), np.eye(3), atol=1e-15)


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0)])
def test_an_unset_quaternion_is_refused(values):
    with pytest.raises(InputError, match="Quaternion"):
        from_quaternion(*values)


@pytest.fixture
def tree():
    """map -> odom -> base_link moving, with a mast carrying a camera and an antenna on base_link."""
    tree = TransformTree()
    tree.add_static("map", "odom", pose(100.0, 0.0, 0.0))
    for second in range(5):
        tree.add("odom", "base_link", second * SECOND, pose(float(second), 0.0, 0.1 * second))
    tree.add_static("base_link", "mast", pose(1.0, 0.0, 0.0))
    tree.add_static("/mast", "/camera", pose(0.0, 0.5, np.pi / 2))
    tree.add_static("base_link", "antenna", pose(-1.0, 0.0, 0.0))
    return tree


def test_static_chain_goes_down_up_and_across(tree):
    np.testing.assert_allclose(tree.lookup("base_link", "camera"), pose(1.0, 0.5, np.pi / 2), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("camera", "base_link"), inverse(pose(1.0, 0.5, np.pi / 2)), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("antenna", "camera"), pose(2.0, 0.5, np.pi / 2), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("camera", "camera"), np.eye(4))


def test_moving_edge_is_interpolated(tree):
    T_map_base = tree.lookup("map", "base_link", int(2.5 * SECOND))
    np.testing.assert_allclose(T_map_base, pose(102.5, 0.0, 0.25), atol=1e-12)
    T_map_camera = tree.lookup("map", "camera", 3 * SECOND)
    np.testing.assert_allclose(T_map_camera, pose(103.0, 0.0, 0.3) @ pose(1.0, 0.5, np.pi / 2), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("map", "base_link"), pose(104.0, 0.0, 0.4), atol=1e-12)


def test_order_of_arrival_does_not_matter(tree):
    late = TransformTree()
    for second in (3, 0, 4, 1, 2, 2):
        late.add("odom", "base_link", second * SECOND, pose(float(second), 0.0, 0.1 * second))
    stamp = int(1.7 * SECOND)
    np.testing.assert_allclose(late.lookup("odom", "base_link", stamp), tree.lookup("odom", "base_link", stamp))


def test_stamps_just_outside_take_the_nearest_pose_and_further_ones_are_refused(tree):
    np.testing.assert_allclose(
        tree.lookup("odom", "base_link", 4 * SECOND + SECOND // 20), pose(4.0, 0.0, 0.4), atol=1e-12
    )
    with pytest.raises(MissingInputError, match=r"odom -> base_link is known from 0.000 to 4.000 s, not at 6.500 s"):
        tree.lookup("map", "camera", int(6.5 * SECOND))


def test_history_is_bounded(tree):
    for second in range(5, 30):
        tree.add("odom", "base_link", second * SECOND, pose(float(second), 0.0, 0.0))
    with pytest.raises(MissingInputError, match=r"from 19.000 to 29.000 s"):
        tree.lookup("odom", "base_link", 10 * SECOND)
    tree.clear_moving()
    with pytest.raises(MissingInputError, match="not connected"):
        tree.lookup("odom", "base_link")


def test_missing_frames_are_named_with_those_that_are_known(tree):
    with pytest.raises(MissingInputError, match=r"base_link -> lidar: lidar never arrived; .*antenna.*camera.*odom"):
        tree.lookup("base_link", "lidar")
    tree.add_static("trailer", "hitch", np.eye(4))
    with pytest.raises(MissingInputError, match="not connected"):
        tree.lookup("base_link", "hitch")
    with pytest.raises(MissingInputError, match="frames known are none"):
        TransformTree().lookup("a", "a")


def test_loops_and_broken_transforms_do_no_harm():
    tree = TransformTree()
    tree.add_static("a", "b", np.eye(4))
    tree.add_static("b", "a", np.eye(4))
    with pytest.raises(MissingInputError):
        tree.lookup("a", "c")
    with pytest.raises(InputError, match="two different"):
        tree.add_static("a", "a", np.eye(4))
    with pytest.raises(InputError, match="a -> b"):
        tree.add("a", "b", 0, np.full((4, 4), np.nan))
