"""Images of several cameras: what belongs to one moment, whom nobody waits for, and the geometry of moving on."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
from test_assembler import CAMERA, PROJECTION, SECOND, fix, header, image, info, tf

from cross_view_loc.depth.measured import MeasuredDepth
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rotation_z, transform
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.camera_input import CameraInput
from cross_view_loc.inputs.camera_sync import ImageGroup, ImageGroups
from cross_view_loc.inputs.depth_images import decode_depth
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

MS = 1_000_000


def groups(tolerance_ms: int = 20, stall_ms: int = 1000) -> ImageGroups:
    return ImageGroups(["front", "left", "rear"], tolerance_ms * MS, stall_ms * MS)


def at(milliseconds: float) -> SimpleNamespace:
    return image(SECOND + round(milliseconds * MS))


def stamps_of(made: ImageGroups, group: ImageGroup) -> dict[str, float]:
    return {
        name: (message.header.stamp.sec * SECOND + message.header.stamp.nanosec - SECOND) / MS
        for name, message in made.take(group)
    }


def test_images_of_one_moment_join_whoever_comes_first() -> None:
    made = groups()
    assert made.add("left", at(2)) is None
    group = made.add("front", at(0))
    assert group is not None and not made.is_complete(group)
    assert made.add("rear", at(-5)) is None and made.is_complete(group)
    assert list(stamps_of(made, group).items()) == [("front", 0.0), ("left", 2.0), ("rear", -5.0)]
    assert made.add("left", at(100)) is None
    group = made.add("front", at(100))
    made.add("rear", at(160))
    assert made.is_complete(group), "rear has passed that moment"
    assert list(stamps_of(made, group)) == ["front", "left"]


def test_taken_group_takes_no_more() -> None:
    made = groups()
    group = made.add("front", at(0))
    assert list(stamps_of(made, group)) == ["front"]
    made.add("left", at(1))
    assert "left" not in group.messages


def test_nobody_waits_for_a_stalled_camera_and_the_next_one_leads() -> None:
    made = groups()
    for time in range(0, 1100, 100):
        made.add("left", at(time))
        made.add("rear", at(time))
        group = made.add("front", at(time))
    assert made.is_complete(group) and made.stalled() == []
    for time in range(1100, 2100, 100):
        made.add("rear", at(time))
        group = made.add("front", at(time))
        assert not made.is_complete(group), "left may still come"
    made.add("rear", at(2200))
    group = made.add("front", at(2200))
    assert made.is_complete(group) and made.stalled() == ["left"]
    opened = [made.add("rear", at(time)) for time in range(2300, 3500, 100)]
    assert opened[0] is None and opened[-1] is not None and opened[-1].lead == "rear"
    assert made.stalled() == ["front", "left"]
    assert made.add("front", at(3500)).lead == "front", "back again"


@pytest.mark.parametrize("seed", range(5))
def test_groups_do_not_depend_on_the_order_of_arrival(seed: int) -> None:
    """Within the tolerance only one image of a camera is near a moment."""
    offsets = {"front": 0.0, "left": 7.0, "rear": -9.0}
    shuffle = random.Random(seed)
    made, found = groups(tolerance_ms=15), {}
    for time in range(0, 500, 50):
        names = list(offsets)
        shuffle.shuffle(names)
        opened = [made.add(name, at(time + offsets[name])) for name in names]
        group = next(each for each in opened if each is not None)
        assert made.is_complete(group)
        found[time] = stamps_of(made, group)
    assert found == {time: {name: time + offset for name, offset in offsets.items()} for time in range(0, 500, 50)}


def rig(**values) -> FrameAssembler:
    settings = Settings.from_mapping({"cameras": ["front", "left"], "odometry_topic": "odom"} | values)
    made = FrameAssembler(settings, PROJECTION)
    made.add("tf_static", tf("base_link", "front_optical", CAMERA))
    made.add("tf_static", tf("base_link", "left_optical", transform(rotation_z(np.pi / 2), (0, 0, 0)) @ CAMERA))
    for name in ("front", "left"):
        made.add("camera_info", info(), name)
    made.add("fix", fix())
    return made


def odometry(stamp: int, x: float, yaw: float = 0.0) -> SimpleNamespace:
    from test_assembler import point, quaternion

    pose = SimpleNamespace(position=point((x, 0.0, 0.0)), orientation=quaternion(rotation_z(yaw)))
    return SimpleNamespace(header=header(stamp, "odom"), child_frame_id="base_link", pose=SimpleNamespace(pose=pose))


def test_a_later_image_is_carried_to_the_first_ones_stamp() -> None:
    """The vehicle drives 10 m/s: 10 ms later its cameras are 0.1 m farther, seen from where it was."""
    made = rig()
    for step in range(-2, 4):
        made.add("odometry", odometry(SECOND + step * 10 * MS, 0.1 * step))
    first, second = made.frames(
        [("front", image(SECOND, "front_optical")), ("left", image(SECOND + 10 * MS, "left_optical"))]
    )
    assert (first.stamp_ns, second.stamp_ns) == (SECOND, SECOND) and (first.name, second.name) == ("front", "left")
    np.testing.assert_allclose(first.T_base_camera[:3, 3], (1.5, 0.0, 1.6))
    np.testing.assert_allclose(second.T_base_camera[:3, 3], (0.0 + 0.1, 1.5, 1.6), atol=1e-9)
    without = rig()
    _, second = without.frames(
        [("front", image(SECOND, "front_optical")), ("left", image(SECOND + 10 * MS, "left_optical"))]
    )
    np.testing.assert_allclose(second.T_base_camera[:3, 3], (0.0, 1.5, 1.6), atol=1e-9)


def test_one_bad_camera_does_not_stop_the_other() -> None:
    made, problems = rig(), []
    bad = image(SECOND, "front_optical")
    bad.encoding = "nonsense"
    (frame,) = made.frames(
        [("front", bad), ("left", image(SECOND, "left_optical"))],
        lambda name, error: problems.append((name, str(error))),
    )
    assert frame.name == "left" and problems[0][0] == "front"
    assert problems[0][1].startswith("front/image_raw: image encoding 'nonsense'")
    with pytest.raises(InputError, match="front/image_raw: image encoding"):
        made.frames([("front", bad)])
    with pytest.raises(MissingInputError, match="nowhere"):
        made.frames([("left", image(SECOND, "nowhere")), ("front", bad)])


def test_calibration_file_stands_in_for_camera_info(tmp_path) -> None:
    path = tmp_path / "left.yaml"
    path.write_text(
        "{image_width: 8, image_height: 6, distortion_model: plumb_bob, distortion_coefficients: {data: [0,0,0,0,0]},"
        " camera_matrix: {data: [12, 0, 3.5, 0, 12, 2.5, 0, 0, 1]}}"
    )
    settings = Settings(calibration_file=str(path), camera_frame="left_optical")
    made = FrameAssembler(settings, PROJECTION)
    made.add("tf_static", tf("base_link", "left_optical", CAMERA))
    frame = made.frame(image(frame_id="something_else"))
    assert isinstance(frame.camera, PinholeCamera) and frame.camera.fx == 12.0
    with pytest.raises(MissingInputError, match=r"there is no camera file at /nowhere\.yaml"):
        FrameAssembler(Settings(calibration_file="/nowhere.yaml"))


# --- depth ---


def depth_image(values, encoding: str, stamp: int = SECOND, big: bool = False, padding: int = 0) -> SimpleNamespace:
    kind = (">" if big else "<") + {"16UC1": "u2", "32FC1": "f4"}.get(encoding, "u1")
    rows = np.asarray(values).astype(kind).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    height, width = np.shape(values)
    return SimpleNamespace(
        header=header(stamp), encoding=encoding, width=width, height=height, step=rows.shape[1], is_bigendian=int(big),
        data=rows.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 4])
def test_depth_is_metres_and_zero_where_unknown(big: bool, padding: int) -> None:
    millimetres = [[0, 1500], [65535, 250]]
    np.testing.assert_allclose(
        decode_depth(depth_image(millimetres, "16UC1", big=big, padding=padding)), [[0, 1.5], [65.535, 0.25]], rtol=1e-6
    )
    metres = [[np.nan, 1.5, np.inf], [-1.0, 0.0, 1e6]]
    np.testing.assert_array_equal(
        decode_depth(depth_image(metres, "32FC1", big=big, padding=padding)), [[0, 1.5, 0], [0, 0, 0]]
    )
    with pytest.raises(InputError, match="encoding 'rgb8'; have the driver send 16UC1"):
        decode_depth(depth_image([[1, 2, 3]], "rgb8"))


def test_depth_goes_with_the_image_of_its_stamp() -> None:
    made = FrameAssembler(Settings(depth_topic="/depth"), PROJECTION)
    made.add("tf_static", tf("base_link", "camera_optical", CAMERA))
    made.add("camera_info", info())
    assert made.frame(image()).depth_m is None and "no depth image within camera_tolerance_s" in made.warnings["depth"]
    assert made.warnings["depth"].endswith("have depth stamped as the image it belongs to, or raise camera_tolerance_s")
    for step in range(3):
        made.add("depth", depth_image(np.full((3, 4), 1.0 + step), "32FC1", SECOND + step * 100 * MS))
    assert np.all(made.frame(image(SECOND + 105 * MS)).depth_m == 2.0) and not made.warnings
    assert made.frame(image(SECOND + 150 * MS)).depth_m is None
    made.add("depth", depth_image([[1]], "rgb8", SECOND + 300 * MS))
    assert made.frame(image(SECOND + 300 * MS)).depth_m is None, "a broken depth image does not cost the image"
    assert made.warnings["depth"].startswith("/depth: depth image has encoding 'rgb8'")


def test_the_first_images_wait_for_their_depth_too_but_not_for_ever() -> None:
    own = CameraInput(CameraSettings("camera", "/image", "/info", depth_topic="/depth"))
    tolerance = 20 * MS
    assert own.awaits_depth(SECOND, tolerance), "it may be on its way"
    own.add_depth(depth_image([[1.0]], "32FC1", SECOND))
    assert not own.awaits_depth(SECOND, tolerance) and own.awaits_depth(SECOND + 100 * MS, tolerance)
    own.forget()
    assert own.awaits_depth(SECOND * 9, tolerance), "a bag that starts over"
    assert own.awaits_depth(SECOND * 9 + 900 * MS, tolerance)
    assert not own.awaits_depth(SECOND * 10 + 100 * MS, tolerance), "nobody sends any"
    assert not CameraInput(CameraSettings("camera", "/image", "/info")).awaits_depth(SECOND, tolerance)


def test_measured_depth_of_a_plane_is_found_in_turned_views() -> None:
    """A wall 10 m ahead of the camera: its z in a turned view is that of the same points there."""
    camera = PinholeCamera(640, 480, 300.0, 300.0, 320.0, 240.0)
    wall = np.full((240, 320), 10.0, np.float32)
    wall[:, 160:] = 0.0
    source = MeasuredDepth(wall, camera)
    for view in (plan_views(camera)[0], View(250.0, 0.3)):
        rays = view.rays(16, 8)
        high_above = ViewGeometry(transform(R_BODY_OPTICAL @ view.R_camera_view, (0.0, 0.0, 90.0)), np.eye(3), 90.0)
        depth = source(np.zeros((1, 1, 3), np.uint8), view, high_above, rays)
        in_camera = rays @ view.R_camera_view.T
        points = in_camera * depth.z_m[..., None]
        left = in_camera[..., 0] / in_camera[..., 2] < -0.05
        seen = left & (camera.project(in_camera)[0][..., 0] >= 0)
        assert seen.any() and np.all(depth.z_m[in_camera[..., 0] / in_camera[..., 2] > 0.05] == 0.0)
        np.testing.assert_allclose(points[seen][:, 2], 10.0, rtol=1e-6 if view.yaw_rad == 0.0 else 6e-3)
