"""Camera models against OpenCV (whose pixel centres are integers, ours + 0.5), round trips, CameraInfo."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import (
    EquirectangularCamera,
    FisheyeCamera,
    PinholeCamera,
    StripCamera,
    from_camera_info,
)

PLUMB_BOB = (-0.31, 0.11, 0.001, -0.002, -0.02)
RATIONAL = (0.5, -0.2, 0.001, 0.0005, 0.05, 0.9, -0.1, 0.01)
THIN_PRISM = (-0.31, 0.11, 0.001, -0.002, -0.02, 0.0, 0.0, 0.0, 0.001, 0.002, -0.001, 0.0003)
EQUIDISTANT = (0.03, -0.01, 0.002, -0.0005)
K = np.array([[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]])


def camera_info(model, d, k=K, **changes):
    """A CameraInfo as rosbags and rclpy give it, as far as it is read."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    info = SimpleNamespace(
        header=SimpleNamespace(frame_id="camera_front_optical"),
        width=640, height=480, distortion_model=model, d=np.array(d), k=np.ravel(k), binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def unit(points):
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def image_grid(camera, count=25):
    u, v = np.meshgrid(np.linspace(0.0, camera.width, count), np.linspace(0.0, camera.height, count))
    return np.stack([u, v], axis=-1)


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", ()),
        ("plumb_bob", PLUMB_BOB),
        ("rational_polynomial", RATIONAL),
        ("rational_polynomial", (*RATIONAL, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        ("rational_polynomial", THIN_PRISM),
        ("", (0.0,) * 5),
    ],
)
def test_pinhole_agrees_with_opencv(model, d):
    camera = from_camera_info(camera_info(model, d))
    points = np.random.default_rng(0).uniform([-1.0, -0.8, 1.0], [1.0, 0.8, 4.0], (2000, 3))
    pixels, valid = camera.project(points)
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, np.array(d))[0][:, 0] + 0.5
    assert valid.mean() > 0.7
    np.testing.assert_allclose(pixels[valid], expected[valid], atol=1e-9)
    rays, back = camera.unproject(pixels[valid])
    assert back.all()
    np.testing.assert_allclose(rays, unit(points[valid]), atol=1e-9)


def test_fisheye_agrees_with_opencv():
    camera = from_camera_info(camera_info("equidistant", EQUIDISTANT))
    points = np.random.default_rng(0).uniform([-1.0, -1.0, 0.3], [1.0, 1.0, 2.0], (2000, 3))
    pixels, valid = camera.project(points)
    expected = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, np.array(EQUIDISTANT))[0]
    assert valid.mean() > 0.5
    np.testing.assert_allclose(pixels[valid], expected[valid, 0] + 0.5, atol=1e-9)


def test_principal_point_of_camera_info_is_shifted_by_half_a_pixel():
    camera = from_camera_info(camera_info("plumb_bob", ()))
    assert (camera.cx, camera.cy) == (320.5, 240.5)
    pixels, _ = camera.project([0.0, 0.0, 3.0])
    np.testing.assert_allclose(pixels, (320.5, 240.5))


CAMERAS = [
    PinholeCamera(640, 480, 500.0, 510.0, 320.5, 240.5),
    PinholeCamera(640, 480, 500.0, 510.0, 320.5, 240.5, PLUMB_BOB),
    PinholeCamera(640, 480, 500.0, 510.0, 320.5, 240.5, RATIONAL, "rational_polynomial"),
    FisheyeCamera(640, 640, 210.0, 212.0, 321.0, 319.0),
    FisheyeCamera(640, 640, 210.0, 212.0, 321.0, 319.0, EQUIDISTANT),
    EquirectangularCamera(1024, 512),
    StripCamera(1024, 200, 70.5),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: type(camera).__name__)
@settings(deadline=None, max_examples=60)
@given(u=st.floats(0.01, 0.99), v=st.floats(0.01, 0.99), depth=st.floats(0.1, 300.0))
def test_pixel_to_ray_and_back(camera, u, v, depth):
    pixel = np.array([u * camera.width, v * camera.height])
    ray, valid = camera.unproject(pixel)
    if not valid:  # corners beyond the fisheye's circle
        assert isinstance(camera, FisheyeCamera)
        return
    assert np.linalg.norm(ray) == pytest.approx(1.0, abs=1e-12)
    back, seen = camera.project(ray * depth)
    assert seen
    np.testing.assert_allclose(back, pixel, atol=1e-6)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: type(camera).__name__)
def test_right_is_x_down_is_y_and_cameras_are_keys(camera):
    middle, _ = camera.project([0.0, 0.0, 5.0])
    right_below, valid = camera.project([0.3, 0.2, 5.0])
    assert valid and np.all(right_below > middle)
    assert hash(camera) == hash(camera)
    assert camera.project(np.zeros((2, 0, 3)))[0].shape == (2, 0, 2)


def test_points_behind_a_pinhole_are_invalid():
    camera = CAMERAS[0]
    _, valid = camera.project([[0.0, 0.0, -1.0], [0.1, 0.1, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [9.0, 0.0, 1.0]])
    np.testing.assert_array_equal(valid, [False, False, False, True, False])


def test_points_that_strong_distortion_folds_back_into_the_image_are_invalid():
    camera = PinholeCamera(640, 480, 300.0, 300.0, 320.0, 240.0, (-0.35, 0.0, 0.0, 0.0, 0.0))
    # r (1 - 0.35 r²) grows up to r = 0.976; at r = 1.6 the pixel is inside the image again, and wrong.
    pixels, valid = camera.project([[0.9, 0.0, 1.0], [1.6, 0.0, 1.0]])
    np.testing.assert_array_equal(valid, [True, False])
    assert 0 < pixels[1, 0] < 640
    # Nothing reaches the corners: 300 px times the largest distorted radius 0.65 ends 195 px off the centre.
    np.testing.assert_array_equal(camera.unproject([[0.0, 0.0], [320.0 + 194.0, 240.0]])[1], [False, True])


def test_undistortion_converges_over_the_whole_image():
    for camera in CAMERAS[:3]:
        pixels = image_grid(camera)
        rays, valid = camera.unproject(pixels)
        assert valid.all()
        np.testing.assert_allclose(camera.project(rays)[0], pixels, atol=1e-9)


def test_fisheye_sees_behind_itself():
    camera = FisheyeCamera(800, 800, 180.0, 180.0, 400.0, 400.0, EQUIDISTANT)
    direction = np.array([np.sin(np.radians(110.0)), 0.0, np.cos(np.radians(110.0))])
    pixels, valid = camera.project(direction * 7.0)
    assert valid and direction[2] < 0.0
    rays, back = camera.unproject(pixels)
    assert back
    np.testing.assert_allclose(rays, direction, atol=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.99, 0.9999])
def test_rays_are_exact_up_to_where_the_fisheye_folds(share):
    camera = FisheyeCamera(4000, 4000, 210.0, 212.0, 2000.0, 2000.0, EQUIDISTANT)
    # The slope 1 + 3 k1 t² + 5 k2 t⁴ + 7 k3 t⁶ + 9 k4 t⁸ of the polynomial vanishes at this angle.
    slope = np.polynomial.Polynomial([1, 0, 3 * 0.03, 0, 5 * -0.01, 0, 7 * 0.002, 0, 9 * -0.0005])
    fold = min(root.real for root in slope.roots() if abs(root.imag) < 1e-9 and root.real > 0)
    directions = [[np.sin(angle), 0.0, np.cos(angle)] for angle in (fold * share, min(fold * 1.01, np.pi))]
    pixels, valid = camera.project(directions)
    np.testing.assert_array_equal(valid, [True, False])
    np.testing.assert_allclose(camera.unproject(pixels[0])[0], directions[0], atol=1e-9)


def test_equirectangular_directions():
    camera = EquirectangularCamera(1024, 512)
    pixels, valid = camera.project([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert valid.all()
    np.testing.assert_allclose(pixels[:3], [[512, 256], [768, 256], [256, 256]])
    np.testing.assert_allclose(pixels[3:, 1], [512, 0])
    # Strip and full sphere agree on the rows that both have.
    strip, _ = StripCamera(1024, 200, 70.5).project([0.4, 0.1, -0.7])
    full, _ = camera.project([0.4, 0.1, -0.7])
    np.testing.assert_allclose(strip - full, [0.0, 70.5 - 256.0], atol=1e-9)
    with pytest.raises(InputError, match="2:1"):
        EquirectangularCamera(1024, 500)


def test_region_of_interest_and_binning():
    full = from_camera_info(camera_info("plumb_bob", PLUMB_BOB))
    roi = SimpleNamespace(x_offset=40, y_offset=60, width=480, height=320, do_rectify=False)
    part = from_camera_info(camera_info("plumb_bob", PLUMB_BOB, roi=roi, binning_x=2, binning_y=4))
    assert (part.width, part.height) == (240, 80)
    point = [0.05, -0.04, 1.0]
    expected = (full.project(point)[0] - (40, 60)) / (2, 4)
    np.testing.assert_allclose(part.project(point)[0], expected, atol=1e-9)


def test_camera_info_of_panoramas_fisheyes_and_ros_1():
    zero_k = np.zeros(9)
    panorama = from_camera_info(camera_info("equirectangular", [], zero_k, width=1024, height=512))
    assert panorama == EquirectangularCamera(1024, 512)
    assert isinstance(from_camera_info(camera_info("fisheye", EQUIDISTANT)), FisheyeCamera)
    ros_1 = camera_info("plumb_bob", PLUMB_BOB)
    ros_1.K, ros_1.D = ros_1.k, ros_1.d
    del ros_1.k, ros_1.d
    assert from_camera_info(ros_1) == from_camera_info(camera_info("plumb_bob", PLUMB_BOB))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": np.zeros(9)}, "zero camera matrix K; calibrate the camera or give a calibration file"),
        ({"k": np.ones(4)}, "camera matrix K"),
        ({"k": np.full(9, np.nan)}, "camera matrix K"),
        ({"width": 0}, "image size"),
        ({"distortion_model": "pear_shaped"}, "pear_shaped"),
        ({"distortion_model": "", "d": [0.1]}, "distortion model"),
        ({"d": [0.1] * 8}, "at most 5"),
        ({"d": [np.nan] * 5}, "finite"),
    ],
)
def test_unusable_camera_info_is_refused_with_its_frame(changes, words):
    with pytest.raises(InputError, match=words) as refusal:
        from_camera_info(camera_info(**{"model": "plumb_bob", "d": PLUMB_BOB, **changes}))
    assert "camera_front_optical" in str(refusal.value)
