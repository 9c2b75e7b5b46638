"""Messages to frames: signs of the Imu's conventions, extrinsics from TF, and a sentence for whatever lacks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import rotation_z, rpy, to_quaternion, transform, yaw_of
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.roles import sources_of
from cross_view_loc.settings import Settings

PROJECTION = MapProjection(MapOrigin(49.0, 8.4, 110.0))
SECOND = 1_000_000_000
CAMERA = transform([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (1.5, 0.0, 1.6))


def header(stamp: int = SECOND, frame_id: str = "") -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id=frame_id)


def quaternion(rotation) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip("xyzw", to_quaternion(rotation), strict=True)))


def point(values) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip("xyz", values, strict=True)))


def tf(parent: str, child: str, T, stamp: int = 0) -> SimpleNamespace:
    body = SimpleNamespace(rotation=quaternion(T[:3, :3]), translation=point(T[:3, 3]))
    return SimpleNamespace(
        transforms=[SimpleNamespace(header=header(stamp, parent), child_frame_id=child, transform=body)]
    )


def imu(rotation, stamp: int = SECOND, frame_id: str = "imu_link") -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp, frame_id), orientation=quaternion(rotation), orientation_covariance=[0.0] * 9
    )


def fix(stamp: int = SECOND) -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp, "antenna"), status=SimpleNamespace(status=0), latitude=49.0, longitude=8.4, altitude=110.0,
        position_covariance=[1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0], position_covariance_type=2,
    )  # fmt: skip


def info(width: int = 8, height: int = 6, focal: float = 10.0) -> SimpleNamespace:
    return SimpleNamespace(
        header=header(frame_id="camera_optical"), width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5,
        k=[focal, 0, 3.5, 0, focal, 2.5, 0, 0, 1.0] if focal else [0.0] * 9, binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    )  # fmt: skip


def image(stamp: int = SECOND, frame_id: str = "camera_optical") -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp, frame_id), encoding="mono8", width=8, height=6, step=8, is_bigendian=0, data=bytes(48)
    )


def assembler(**values) -> FrameAssembler:
    """One that has everything, unless the settings ask for more."""
    made = FrameAssembler(Settings(**values), PROJECTION)
    made.add("tf_static", tf("base_link", "camera_optical", CAMERA))
    made.add("camera_info", info())
    made.add("fix", fix())
    return made


def test_frame_has_extrinsics_stamp_and_name() -> None:
    frame, prior = assembler(ground_height_in_base_m=-0.3).assemble(image())
    np.testing.assert_allclose(frame.T_base_camera, CAMERA, atol=1e-12)
    assert (frame.stamp_ns, prior.stamp_ns, frame.name, frame.ground_z_m) == (SECOND, SECOND, "camera", -0.3)
    assert (prior.east_m, prior.north_m) == pytest.approx((0.0, 0.0), abs=1e-6)
    np.testing.assert_array_equal(frame.R_level_base, np.eye(3))


def test_moving_camera_is_looked_up_at_the_images_stamp() -> None:
    made = assembler()
    for stamp, x in ((SECOND, 0.0), (SECOND + SECOND // 10, 1.0)):
        made.add("tf", tf("base_link", "turret", transform(np.eye(3), (x, 0, 0)), stamp))
    frame, _ = made.assemble(image(SECOND + SECOND // 40, "turret"))
    assert frame.T_base_camera[0, 3] == pytest.approx(0.25)


@pytest.mark.parametrize("heading_deg", [0.0, 30.0, 135.0, 300.0])
def test_ned_and_enu_say_the_same(heading_deg: float) -> None:
    """`heading_deg` is a compass heading: clockwise from north; the vehicle rolls 5° and pitches 3° nose down."""
    roll, pitch_down = math.radians(5.0), math.radians(3.0)
    yaw = math.radians(90.0 - heading_deg)
    enu = rpy(roll, pitch_down, yaw)  # positive pitch about y (left) lowers the nose
    ned = rpy(roll, -pitch_down, math.radians(heading_deg))  # about y (right) it raises it
    for convention, rotation in (("enu", enu), ("ned", ned)):
        made = assembler(imu_topic="imu", imu_convention=convention)
        made.add("tf_static", tf("base_link", "imu_link", np.eye(4)))
        made.add("imu", imu(rotation))
        frame, prior = made.assemble(image())
        assert math.remainder(prior.yaw_rad - yaw, 2 * math.pi) == pytest.approx(0.0, abs=1e-9), convention
        np.testing.assert_allclose(frame.R_level_base, rpy(roll, pitch_down, 0.0), atol=1e-9)


def test_attitude_is_of_the_sensors_or_level_or_insisted_on() -> None:
    tilt = rpy(0.05, -0.02, 0.0)
    for attitude, expected in (("auto", tilt), ("sensors", tilt), ("level", np.eye(3)), ("estimated", np.eye(3))):
        made = assembler(imu_topic="imu", attitude=attitude)
        made.add("tf_static", tf("base_link", "imu_link", np.eye(4)))
        made.add("imu", imu(tilt))
        np.testing.assert_allclose(made.assemble(image())[0].R_level_base, expected, atol=1e-9, err_msg=attitude)
    with pytest.raises(MissingInputError, match=r"attitude is 'sensors' but .* set imu_topic"):
        assembler(attitude="sensors").assemble(image())
    level, _ = assembler(attitude="level").assemble(image())
    np.testing.assert_array_equal(level.R_level_base, np.eye(3))


def test_east_declination_turns_the_heading_clockwise() -> None:
    made = assembler(imu_topic="imu", magnetic_declination_deg=4.0)
    made.add("tf_static", tf("base_link", "imu_link", np.eye(4)))
    made.add("imu", imu(rotation_z(math.radians(90.0))))  # magnetic north
    _, prior = made.assemble(image())
    # Magnetic north lies 4° east of true north, so the vehicle faces 86° counter-clockwise from east.
    assert math.degrees(prior.yaw_rad) == pytest.approx(86.0)


def test_imu_mount_is_taken_out() -> None:
    mount = transform(rpy(math.pi, 0.0, math.radians(-90.0)), (0.1, 0.2, 0.3))
    R_map_base = rpy(0.05, -0.02, 1.2)
    made = assembler(imu_topic="imu")
    made.add("tf_static", tf("base_link", "imu_link", mount))
    made.add("imu", imu(R_map_base @ mount[:3, :3]))
    frame, prior = made.assemble(image())
    assert prior.yaw_rad == pytest.approx(yaw_of(R_map_base))
    np.testing.assert_allclose(frame.R_level_base, rpy(0.05, -0.02, 0.0), atol=1e-9)


def test_odometry_of_another_frame_is_moved_to_base_link() -> None:
    made = assembler(odometry_topic="odom")
    made.add("tf_static", tf("base_link", "wheels", transform(np.eye(3), (-1.0, 0.0, 0.0))))
    pose = SimpleNamespace(position=point((5.0, 0.0, 0.0)), orientation=quaternion(rotation_z(math.pi / 2)))
    message = SimpleNamespace(header=header(), child_frame_id="wheels", pose=SimpleNamespace(pose=pose))
    made.add("odometry", message)
    np.testing.assert_allclose(made.T_odom_base(SECOND)[:3, 3], (5.0, 1.0, 0.0), atol=1e-9)


def test_tf_says_where_base_link_is_in_odom() -> None:
    made = assembler(tf_mode="map_to_odom")
    assert not made.ready(image())
    made.add("tf", tf("odom", "base_link", transform(np.eye(3), (1.0, 0, 0)), SECOND - SECOND // 20))
    assert not made.ready(image()), "near is not enough while more may come"
    made.add("tf", tf("odom", "base_link", transform(np.eye(3), (2.0, 0, 0)), SECOND))
    assert made.ready(image())
    assert made.T_odom_base(SECOND)[0, 3] == pytest.approx(2.0)
    with pytest.raises(MissingInputError, match="set odometry_topic"):
        made.T_odom_base(9 * SECOND)


def test_image_waits_for_its_moving_camera() -> None:
    made = assembler()
    assert made.ready(image()), "a fixed camera is known at every stamp"
    made.add("tf", tf("base_link", "turret", np.eye(4), SECOND - SECOND // 20))
    assert not made.ready(image(frame_id="turret"))
    made.add("tf", tf("base_link", "turret", np.eye(4), SECOND))
    assert made.ready(image(frame_id="turret"))
    assert assembler(camera_frame="base_link").ready(image())


def test_odometry_on_its_topic_alone_is_enough_for_map_to_odom() -> None:
    made = assembler(tf_mode="map_to_odom", odometry_topic="odom")
    assert not made.ready(image())
    pose = SimpleNamespace(position=point((5.0, 0.0, 0.0)), orientation=quaternion(np.eye(3)))
    made.add("odometry", SimpleNamespace(header=header(), child_frame_id="base_link", pose=SimpleNamespace(pose=pose)))
    assert made.ready(image()), "no odom -> base_link will come"
    made.add("tf", tf("odom", "base_link", np.eye(4), SECOND // 2))
    assert not made.ready(image()), "it does come, and is on its way"


def test_leading_slashes_of_frames_mean_nothing() -> None:
    made = assembler(base_frame="/base_link", camera_frame="/camera_optical", odometry_topic="odom")
    assert made.settings.base_frame == "base_link"
    pose = SimpleNamespace(position=point((5.0, 0.0, 0.0)), orientation=quaternion(np.eye(3)))
    odometry = SimpleNamespace(header=header(), child_frame_id="/base_link", pose=SimpleNamespace(pose=pose))
    made.add("odometry", odometry)
    FrameAssembler(Settings(), PROJECTION).add("odometry", odometry)  # needs no transform to know its own frame
    assert made.assemble(image())[0].T_base_camera == pytest.approx(CAMERA)
    assert made.T_odom_base(SECOND)[0, 3] == 5.0


def test_antenna_without_transform_is_assumed_and_said() -> None:
    made = assembler()
    assert "antenna" in made.warnings["antenna"] and "base_link" in made.warnings["antenna"]
    made.add("tf_static", tf("base_link", "antenna", transform(np.eye(3), (0, 0, 1.5))))
    made.add("fix", fix())
    assert not made.warnings


@pytest.mark.parametrize(
    ("change", "sent", "error", "text"),
    [
        (lambda made: None, image(frame_id="lost"), MissingInputError, "base_link -> lost.*camera_optical.*tf_static"),
        (lambda made: made.add("camera_info", info(16, 12)), image(), InputError, "image is 8x6 but .* says 16x12"),
        (lambda made: made.observe_stamp("image", 99 * SECOND), image(50 * SECOND), MissingInputError, "49.0 s older"),
    ],
)
def test_what_lacks_is_said(change, sent, error: type, text: str) -> None:
    made = assembler()
    change(made)
    with pytest.raises(error, match=text):
        made.assemble(sent)


def test_camera_info_missing_and_zero_are_said() -> None:
    made = FrameAssembler(Settings(), PROJECTION)
    with pytest.raises(MissingInputError, match="no CameraInfo on camera/camera_info yet"):
        made.assemble(image())
    with pytest.raises(InputError, match=r"camera/camera_info: .*zero camera matrix"):
        made.add("camera_info", info(focal=0.0))
    with pytest.raises(MissingInputError, match=r"no usable CameraInfo.*zero camera matrix"):
        made.assemble(image())


def test_bad_camera_info_does_not_replace_a_good_one() -> None:
    made = assembler()
    with pytest.raises(InputError):
        made.add("camera_info", info(focal=0.0))
    assert made.assemble(image())[0].camera.width == 8


@pytest.mark.parametrize(
    ("role", "message", "text"),
    [
        ("imu", imu(rotation_z(0.1), frame_id="nowhere"), "imu: No transform base_link -> nowhere"),
        ("imu", imu(rotation_z(0.1), frame_id=""), "no frame_id"),
        (
            "tf",
            tf("odom", "base_link", transform(np.eye(3), (math.nan, 0, 0))),
            "/tf: odom -> base_link: pose holds NaN",
        ),
    ],
)
def test_bad_message_names_its_topic(role, message, text: str) -> None:
    with pytest.raises(InputError, match=text):
        assembler(imu_topic="imu").add(role, message)


@pytest.mark.parametrize("role", ["tf", "tf_static"])
def test_bad_transform_does_not_take_the_others_with_it(role) -> None:
    made = assembler(camera_frame="turret")
    bad, worse = tf("base_link", "wheel", transform(np.eye(3), (math.inf, 0, 0)), SECOND), tf("", "", np.eye(4), SECOND)
    good = tf("base_link", "turret", transform(np.eye(3), (0.0, 0.0, 3.0)), SECOND)
    message = SimpleNamespace(transforms=bad.transforms + worse.transforms + good.transforms)
    with pytest.raises(InputError, match=rf"/{role}: base_link -> wheel: .*\(and 1 more transforms"):
        made.add(role, message)
    assert made.assemble(image())[0].T_base_camera[2, 3] == 3.0
    assert made.parents_of("turret") == {"base_link"} and not made.parents_of("wheel")


def test_imu_without_orientation_is_refused() -> None:
    without = imu(np.eye(3))
    without.orientation_covariance = [-1.0] + [0.0] * 8
    with pytest.raises(InputError, match="has no orientation"):
        assembler(imu_topic="imu").add("imu", without)
    zero = imu(np.eye(3))
    zero.orientation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    for untouched in (zero, imu(np.eye(3))):
        with pytest.raises(InputError, match=r"imu: Imu has no orientation .*leave imu_topic empty"):
            assembler(imu_topic="imu").add("imu", untouched)
    zero.orientation_covariance = [0.01] + [0.0] * 8
    made = assembler(imu_topic="imu")
    made.add("tf_static", tf("base_link", "imu_link", np.eye(4)))
    with pytest.raises(InputError, match=r"imu: Quaternion \(0.0, 0.0, 0.0, 0.0\)"):
        made.add("imu", zero)


def driven_east(imu_yaw_deg: float, turn_deg_per_s: float = 0.0, **values) -> FrameAssembler:
    """10 s at 5 m/s with a fix and an Imu message each half a second."""
    made = FrameAssembler(Settings(imu_topic="imu", **values), PROJECTION)
    made.add("tf_static", tf("base_link", "imu_link", np.eye(4)))
    for step in range(20):
        drive_on(made, step, imu_yaw_deg + turn_deg_per_s * step / 2)
    return made


def drive_on(made: FrameAssembler, step: int, imu_yaw_deg: float) -> None:
    stamp = SECOND + step * SECOND // 2
    made.add("imu", imu(rotation_z(math.radians(imu_yaw_deg + 1e-6)), stamp))
    sent = fix(stamp)
    sent.latitude, sent.longitude, _ = PROJECTION.to_geodetic(2.5 * step, 0.0)
    made.add("fix", sent)


def test_imu_that_does_not_face_where_the_vehicle_drives_is_named() -> None:
    warning = driven_east(90.0).warnings["heading"]
    assert warning.startswith("imu: yaw differs by 90 deg from the course over ground")
    assert "heading_source" in warning and "magnetic_declination_deg or imu_convention" in warning
    for yaw_deg in (0.0, 20.0, -20.0):  # within heading_range_deg + 15
        assert "heading" not in driven_east(yaw_deg).warnings
    assert "heading" not in driven_east(90.0, turn_deg_per_s=30.0).warnings, "a bend proves nothing"
    assert "heading" not in driven_east(90.0, heading_source="course").warnings


def test_warning_about_the_imu_ends_when_it_is_right_again() -> None:
    made = driven_east(90.0)
    for step in range(20, 60):
        drive_on(made, step, 0.0)
    assert "heading" not in made.warnings


def test_time_set_back_forgets_all_but_calibration() -> None:
    made = FrameAssembler(Settings(), PROJECTION)
    made.add("tf_static", tf("base_link", "camera_optical", CAMERA))
    made.add("camera_info", info())
    made.add("fix", fix(100 * SECOND))
    made.add("fix", fix(10 * SECOND))
    assert made.time_jumps == 1 and made.newest_stamp_ns == 10 * SECOND
    frame, _ = made.assemble(image(10 * SECOND))
    assert frame.stamp_ns == 10 * SECOND
    with pytest.raises(MissingInputError):
        made.assemble(image(9 * SECOND))


def test_an_unusable_fix_does_not_set_time_back() -> None:
    """Receivers without a fix stamp with zero or their start: that must not make the vehicle forget everything."""
    made = FrameAssembler(Settings(), PROJECTION)
    made.add("fix", fix(100 * SECOND))
    lost = fix(10 * SECOND)
    lost.status.status = -1
    with pytest.raises(InputError):
        made.add("fix", lost)
    assert made.time_jumps == 0 and made.newest_stamp_ns == 100 * SECOND


def test_topics_left_empty_have_no_role() -> None:
    roles = {source.topic: source.role for source in sources_of(Settings())}
    assert "" not in roles and roles["gnss/fix"] == "fix"
