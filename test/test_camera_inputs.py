"""What the parameters say about a camera: rectified topics, masks; region of interest and binning of every model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import (
    EquirectangularCamera,
    FisheyeCamera,
    PinholeCamera,
    StripCamera,
    from_camera_info,
)
from cross_view_loc.inputs.camera_input import CameraInput
from cross_view_loc.inputs.camera_text import read_calibration_file
from cross_view_loc.inputs.masks import read_mask
from cross_view_loc.settings import Settings
from cross_view_loc.settings.cameras import CameraSettings

K = np.array([[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]])
P = np.array([[420.0, 0.0, 310.0, -63.0], [0.0, 420.0, 250.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
BENT = {
    "plumb_bob": (-0.31, 0.11, 0.001, -0.002, -0.02),
    "rational_polynomial": (0.5, -0.2, 0.001, 0.0005, 0.05, 0.9, -0.1, 0.01),
    "equidistant": (0.03, -0.01, 0.002, -0.0005),
}


def camera_info(model: str = "plumb_bob", roi: tuple[int, int, int, int] = (0, 0, 0, 0), binning=(0, 0), **changes):
    """A CameraInfo as far as it is read; `roi`: x and y offset, width, height."""
    x, y, width, height = roi
    info = SimpleNamespace(
        header=SimpleNamespace(frame_id="front_optical"), width=640, height=480, distortion_model=model,
        d=np.array(BENT.get(model, ())), k=K.ravel(), p=P.ravel(), binning_x=binning[0], binning_y=binning[1],
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize("model", BENT)
@pytest.mark.parametrize(
    ("roi", "binning"), [((40, 60, 480, 320), (0, 0)), ((0, 0, 0, 0), (2, 4)), ((40, 60, 480, 320), (2, 4))]
)
@pytest.mark.parametrize("rectified", [False, True])
def test_region_and_binning_move_the_pixels_of_every_model(model, roi, binning, rectified) -> None:
    whole = from_camera_info(camera_info(model), rectified)
    part = from_camera_info(camera_info(model, roi, binning), rectified)
    x, y, width, height = roi if roi[2] else (0, 0, 640, 480)
    step = np.maximum(binning, 1)
    assert (part.width, part.height) == (width // step[0], height // step[1])
    points = np.random.default_rng(0).uniform([-0.2, -0.15, 1.0], [0.2, 0.15, 3.0], (50, 3))
    expected = (whole.project(points)[0] - (x, y)) / step
    np.testing.assert_allclose(part.project(points)[0], expected, atol=1e-9)


@pytest.mark.parametrize("model", BENT)
def test_a_rectified_image_follows_p_and_no_distortion(model: str) -> None:
    camera = from_camera_info(camera_info(model), rectified=True)
    assert camera == PinholeCamera(640, 480, 420.0, 420.0, 310.5, 250.5)
    unfilled = from_camera_info(camera_info(model, p=np.zeros(12)), rectified=True)
    assert unfilled == PinholeCamera(640, 480, 500.0, 510.0, 320.5, 240.5), "K where nobody filled in P"


@pytest.mark.parametrize(
    ("topic", "rectified", "is_pinhole"),
    [
        ("/cam/image_raw", "auto", False),
        ("/cam/image_rect", "auto", True),
        ("/cam/image_rect_color", "auto", True),
        ("/cam/image_rect/compressed", "auto", True),
        ("/image_rectifier/image_raw", "auto", False),
        ("/image_rect_left/camera/image_raw", "auto", False),
        ("/cam/image_rect", "false", False),
        ("/cam/image_raw", "true", True),
    ],
)
def test_whether_an_image_is_rectified_is_told_or_follows_from_its_topic(topic, rectified, is_pinhole) -> None:
    own = CameraInput(CameraSettings("camera", image_topic=topic, rectified=rectified))
    own.add_info(camera_info("equidistant"))
    assert isinstance(own.calibration(), PinholeCamera if is_pinhole else FisheyeCamera)


@pytest.mark.parametrize("written", ["true", '"true"', "True"])
def test_a_bare_true_in_yaml_is_meant_as_one(written: str, tmp_path: Path) -> None:
    path = tmp_path / "localizer.yaml"
    lines = ("cameras: [a, b]", f"a.rectified: {written}", "b.image_topic: /b/image_rect", "b.rectified: false")
    path.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {line}\n" for line in lines))
    first, second = Settings.from_yaml(path).rig
    assert (first.rectified, first.is_rectified, second.is_rectified) == ("true", True, False)
    with pytest.raises(InputError, match=r"image_transport is True; it must be of type string"):
        Settings(image_transport=True)  # type: ignore[arg-type]


def test_a_calibration_file_of_a_rectified_camera_gives_its_projection(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(
        "image_width: 640\nimage_height: 480\ndistortion_model: plumb_bob\n"
        f"camera_matrix: {{data: {K.ravel().tolist()}}}\n"
        "distortion_coefficients: {data: [-0.3, 0.1, 0, 0, 0]}\n"
        f"projection_matrix: {{data: {P.ravel().tolist()}}}\n"
    )
    assert read_calibration_file(path, rectified=True).fx == 420.0 and read_calibration_file(path).fx == 500.0


def test_rows_cut_out_of_a_panorama_are_a_strip_with_its_horizon() -> None:
    info = {"k": np.zeros(9), "width": 1024, "height": 512}
    strip = from_camera_info(camera_info("equirectangular", (0, 156, 1024, 200), **info))
    assert strip == StripCamera(1024, 200, 100.0)
    halved = from_camera_info(camera_info("equirectangular", (0, 156, 1024, 200), (2, 2), **info))
    assert halved == StripCamera(512, 100, 50.0)
    point = [0.4, 0.1, -0.7]
    whole = EquirectangularCamera(1024, 512).project(point)[0]
    np.testing.assert_allclose(halved.project(point)[0], (whole - (0, 156)) / 2)
    assert from_camera_info(camera_info("equirectangular", binning=(2, 2), **info)) == EquirectangularCamera(512, 256)
    for roi, binning in (((100, 0, 800, 512), (0, 0)), ((0, 0, 0, 0), (2, 1))):
        with pytest.raises(InputError, match="lacks columns or is binned unevenly; send all columns"):
            from_camera_info(camera_info("equirectangular", roi, binning, **info))


def saved(path: Path, picture: np.ndarray) -> str:
    cv2.imwrite(str(path), picture)
    return str(path)


def test_a_mask_is_black_where_the_image_is_ignored(tmp_path: Path) -> None:
    grey = np.full((48, 64), 255, np.uint8)
    grey[30:, 10:50] = 0
    colour = np.zeros((48, 64, 3), np.uint8)
    colour[grey > 0] = (0, 0, 200)  # any colour is not black
    clear = np.dstack([np.full((48, 64, 3), 255, np.uint8), grey])
    pictures = {"grey": grey, "deep": grey.astype(np.uint16) * 257, "colour": colour, "clear": clear}
    for name, picture in pictures.items():
        mask = read_mask(Path(saved(tmp_path / f"{name}.png", picture)), "mask")
        np.testing.assert_array_equal(mask, grey > 0, err_msg=name)


def test_a_mask_of_another_size_is_used_and_of_another_shape_is_not(tmp_path: Path) -> None:
    camera = PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0)
    half = np.full((240, 320), 255, np.uint8)
    half[200:] = 0
    own = CameraInput(CameraSettings("front", mask=saved(tmp_path / "half.png", half)))
    mask, why = own.mask(camera)
    assert why == "" and mask is not None and mask.mean() == pytest.approx(200 / 240)
    wide = CameraInput(CameraSettings("front", mask=saved(tmp_path / "wide.png", np.full((200, 320), 255, np.uint8))))
    mask, why = wide.mask(camera)
    assert mask is None
    assert "front.mask" in why and "is 320x200 but the camera's images are 640x480, of another shape; make it" in why


def test_a_mask_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"left\.mask: there is no mask at .*; correct the path"):
        CameraInput(CameraSettings("left", mask=str(tmp_path / "none.png")))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"mask: .* is not a picture; give a PNG"):
        CameraInput(CameraSettings("camera", mask=str(tmp_path / "text.png")))
    with pytest.raises(InputError, match="is all black, so nothing of the image is left"):
        CameraInput(CameraSettings("camera", mask=saved(tmp_path / "black.png", np.zeros((9, 9), np.uint8))))
