"""Depth images that cannot be true, and round pictures: named in one sentence, and the image is used all the same."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from test_assembler import CAMERA, PROJECTION, SECOND, header, tf
from test_camera_inputs import camera_info
from test_camera_sync import depth_image

from cross_view_loc.doctor.lens import circle_findings, rectified_findings
from cross_view_loc.geometry.cameras import (
    Camera,
    EquirectangularCamera,
    FisheyeCamera,
    PinholeCamera,
    from_camera_info,
)
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.depth_check import depth_complaint
from cross_view_loc.inputs.image_circle import has_black_corners
from cross_view_loc.settings import Settings

PINHOLE = PinholeCamera(640, 480, 500.0, 500.0, 320.5, 240.5)
FISHEYE = FisheyeCamera(640, 480, 200.0, 200.0, 320.0, 240.0)
HEIGHT_M = 1.6


def street(camera: Camera = PINHOLE, width: int = 160, height: int = 120) -> np.ndarray:
    """(h, w) z-depth of a flat road, with a wall 12 m ahead, of a level camera HEIGHT_M above; noise of 2 %."""
    v, u = np.meshgrid(
        (np.arange(height) + 0.5) * camera.height / height,
        (np.arange(width) + 0.5) * camera.width / width,
        indexing="ij",
    )
    rays, seen = camera.unproject(np.stack([u, v], -1))
    slope = rays[..., 1] / np.maximum(rays[..., 2], 0.05)
    z_m = np.minimum(np.where(slope > 0.01, HEIGHT_M / np.maximum(slope, 0.01), 12.0), 12.0)
    noise = np.random.default_rng(0).normal(1.0, 0.02, z_m.shape)
    return np.where(seen & (rays[..., 2] > 0.1), z_m * noise, 0.0).astype(np.float32)


def complaint(read_m: np.ndarray, encoding: str = "32FC1", camera: Camera = PINHOLE) -> str:
    return depth_complaint(read_m.astype(np.float32), encoding, camera, CAMERA, 0.0)


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE])
def test_depth_of_a_street_is_not_complained_about(camera: Camera) -> None:
    good = street(camera)
    assert complaint(good, camera=camera) == ""
    sparse = np.where(np.random.default_rng(1).random(good.shape) < 0.03, good, 0.0)
    assert complaint(sparse, camera=camera) == "" and complaint(good * 1.4, camera=camera) == ""
    with_nan = np.where(np.random.default_rng(1).random(good.shape) < 0.5, np.nan, good)
    assert complaint(np.nan_to_num(with_nan), camera=camera) == ""


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE])
@pytest.mark.parametrize(
    ("factor", "encoding", "unit"),
    [
        (1000.0, "32FC1", "32FC1 seems to hold millimetres"),
        (100.0, "32FC1", "32FC1 seems to hold centimetres"),
        (0.1, "16UC1", "16UC1 seems to hold centimetres"),
        (0.001, "mono16", "mono16 seems to hold metres"),
        (10.0, "16UC1", "tenths of a millimetre"),
        (0.001, "32FC1", "another unit"),
    ],
)
@pytest.mark.parametrize("tilt", [0.8, 1.25])
def test_a_wrong_unit_is_named_by_the_road_s_distance(factor, encoding, unit, camera, tilt) -> None:
    said = complaint(street(camera) * factor * tilt, encoding, camera)
    assert unit in said and f"{factor:g} times as far" in said and "have the driver send 32FC1 in metres" in said


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_distances_along_the_rays_are_told_from_depth(camera: Camera, share: float) -> None:
    row, column = np.indices((120, 160)) + 0.5
    rays, _ = camera.unproject(np.stack([column * 4.0, row * 4.0], axis=-1))
    kept = np.random.default_rng(3).random((120, 160)) < share
    along_rays = np.where(kept, street(camera) / np.maximum(rays[..., 2], 0.1), 0.0)
    assert complaint(along_rays, camera=camera).startswith("seems to hold distances along the rays")
    assert complaint(np.where(kept, street(camera), 0.0), camera=camera) == ""
    walls = np.minimum(street(camera), 3.0 / np.maximum(np.abs(rays[..., 0] / rays[..., 2]), 1e-3))
    assert complaint(np.where(kept, walls, 0.0), camera=camera) == "", "a street with a wall on either side"


def test_a_panorama_s_unit_is_told_by_its_ranges() -> None:
    panorama = EquirectangularCamera(640, 320)
    row, column = np.indices((80, 160)) + 0.5
    rays, _ = panorama.unproject(np.stack([column * 4.0, row * 4.0], axis=-1))
    ranges = np.where(rays[..., 1] > 0.05, HEIGHT_M / np.maximum(rays[..., 1], 0.05), 25.0)
    assert complaint(ranges, camera=panorama) == ""
    assert "32FC1 seems to hold millimetres" in complaint(ranges * 1000.0, camera=panorama)


def test_a_near_wall_or_hand_is_no_wrong_unit() -> None:
    assert complaint(np.full((120, 160), 0.25)) == ""
    assert complaint(np.full((120, 160), 1.0)) == ""


def test_another_shape_and_nothing_measured_are_named() -> None:
    assert "is 160x90 but the camera's images are 640x480, of another shape" in complaint(street()[:90])
    for nothing in (np.zeros((120, 160)), np.full((120, 160), 5000.0)):
        assert complaint(nothing).startswith("holds no distance up to 200 m; check that the sensor is running")


def picture(stamp: int, round_one: bool = False) -> SimpleNamespace:
    grey = np.random.default_rng(0).integers(60, 200, (480, 640), dtype=np.uint8)
    if round_one:
        grey *= cv2.circle(np.zeros((480, 640), np.uint8), (320, 240), 300, 1, -1)
    return SimpleNamespace(
        header=header(stamp, "camera_optical"), encoding="mono8", width=640, height=480, step=640, is_bigendian=0,
        data=grey.tobytes(),
    )  # fmt: skip


def assembler() -> FrameAssembler:
    made = FrameAssembler(Settings(depth_topic="/depth"), PROJECTION)
    made.add("tf_static", tf("base_link", "camera_optical", CAMERA))
    info = camera_info()
    info.d, info.k, info.header = [0.0] * 5, [500.0, 0, 320, 0, 500.0, 240, 0, 0, 1], header(frame_id="camera_optical")
    made.add("camera_info", info)
    return made


def test_the_image_goes_on_with_estimated_depth_while_depth_is_wrong() -> None:
    made = assembler()
    sent = [street() * 1000.0, street()[:90], np.full((120, 160), np.nan), street()]
    words = ["millimetres; have the driver", "of another shape", "holds no distance", ""]
    for index, (values, word) in enumerate(zip(sent, words, strict=True)):
        stamp = SECOND * (1 + index)
        made.add("depth", depth_image(values, "32FC1", stamp))
        frame = made.frame(picture(stamp))
        if word:
            assert frame.depth_m is None and word in made.warnings["depth"]
            assert made.warnings["depth"].startswith("/depth: depth image ")
            assert made.warnings["depth"].endswith("until then the camera's depth is estimated")
        else:
            assert frame.depth_m is not None and not made.warnings
            np.testing.assert_array_equal(frame.depth_m, street())
    far = np.where(street() > 11.0, 900.0, street())
    made.add("depth", depth_image(far, "32FC1", SECOND * 9))
    np.testing.assert_array_equal(made.frame(picture(SECOND * 9)).depth_m == 0.0, far > 200.0)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_who_estimates_what_sparse_depth_leaves_out_is_said(encoding: str) -> None:
    made = assembler()
    unit, nothing = (1.0, np.nan) if encoding == "32FC1" else (1000.0, 0)
    for index, share in enumerate((0.3, 0.02)):  # of 10 pixels a cell
        stamp = SECOND * (1 + index)
        values = np.where(np.random.default_rng(2).random((120, 160)) < share, street() * unit, nothing)
        made.add("depth", depth_image(values, encoding, stamp))
        depth_m = made.frame(picture(stamp)).depth_m
        assert depth_m is not None and 0.5 * share < (depth_m > 0.0).mean() <= 1.1 * share
        np.testing.assert_allclose(depth_m[depth_m > 0.0], street()[depth_m > 0.0], atol=0.001)
        said = made.warnings.get("depth", "")
        assert said == (
            "" if share > 0.1 else "/depth: depth image leaves part of the road unmeasured; there depth 'learned' "
            "estimates it"
        )  # fmt: skip


def test_a_round_picture_of_a_pinhole_is_warned_of_until_it_is_calibrated() -> None:
    made = assembler()
    made.frame(picture(SECOND))
    assert "lens" not in made.warnings
    made.frame(picture(2 * SECOND, round_one=True))
    assert "black corners as a fisheye's, but their calibration is a pinhole's; calibrate" in made.warnings["lens"]
    made.add("camera_info", camera_info("equidistant", header=header(SECOND, "camera_optical")))
    made.frame(picture(3 * SECOND, round_one=True))
    assert "lens" not in made.warnings


def test_only_round_pictures_have_black_corners() -> None:
    lit = np.full((480, 640, 3), 120, np.uint8)
    circle = cv2.circle(np.zeros((480, 640), np.uint8), (320, 240), 300, 1, -1)[..., None]
    assert has_black_corners(lit * circle) and not has_black_corners(lit)
    assert not has_black_corners(np.zeros((480, 640, 3), np.uint8)), "covered, or night"
    rims = lit.copy()  # what undistortion leaves black: middles of the sides
    rims[:, :20], rims[:30] = 0, 0
    rims[:60, :80] = rims[:60, -80:] = 120
    assert not has_black_corners(rims)
    vignette = (lit * np.linspace(1.0, 0.3, 640)[None, :, None]).astype(np.uint8)
    assert not has_black_corners(vignette)


def facts(*round_ones: bool) -> list[SimpleNamespace]:
    return [SimpleNamespace(has_black_corners=each) for each in round_ones]


def test_doctor_names_a_fisheye_with_a_pinhole_s_calibration() -> None:
    (finding,) = circle_findings(PINHOLE, facts(True, True, False), "/info")
    assert finding.check == "camera_info.fisheye" and "CameraInfo on /info says a pinhole without" in finding.sentence
    assert not circle_findings(PINHOLE, facts(True, False, False), "/info") and not circle_findings(
        PINHOLE, [], "/info"
    )
    assert not circle_findings(FISHEYE, facts(True, True), "/info")


def test_doctor_warns_of_a_wrong_guess_about_rectified_images() -> None:
    bent, unfilled = camera_info(), camera_info(p=np.zeros(12))
    topic = "/cam/image_rect"
    assert not rectified_findings(bent, from_camera_info(bent, True), topic, True)
    (finding,) = rectified_findings(unfilled, from_camera_info(unfilled, True), topic, True)
    assert "has no P, so K is used" in finding.sentence and "set rectified to false" in finding.remedy
    (finding,) = rectified_findings(bent, from_camera_info(bent), topic, False)
    assert "undistorted twice" in finding.sentence and finding.parameter == "rectified"
    assert not rectified_findings(bent, from_camera_info(bent), "/cam/image_raw", False)
