"""A fisheye whose calibration is renamed a pinhole fills its frame: its angles give it away, in `run` and in doctor."""

from __future__ import annotations

import numpy as np
import pytest
from test_assembler import header

from cross_view_loc.doctor.cameras import calibration_findings
from cross_view_loc.doctor.findings import Level
from cross_view_loc.doctor.survey import Survey, image_facts
from cross_view_loc.geometry.cameras import FisheyeCamera, PinholeCamera
from cross_view_loc.inputs.camera_input import CameraInput
from cross_view_loc.inputs.lens_check import straight_field_deg
from cross_view_loc.settings.cameras import CameraSettings
from cross_view_loc.simulation import messages
from cross_view_loc.simulation.rig import FISHEYE_DISTORTION, make_rig

FISHEYE = make_rig("fisheye").cameras[0]
PICTURE = np.random.default_rng(0).integers(60, 200, (FISHEYE.height, FISHEYE.width, 3), dtype=np.uint8)


def info(model: str, distortion: tuple[float, ...] = FISHEYE_DISTORTION):
    made = messages.camera_info(0, FISHEYE, distortion)
    made.distortion_model = model
    return made


def findings(message, topic: str = "/cam/image_raw", rectified: bool | None = None):
    facts = image_facts(PICTURE, header(0), 0)
    found = Survey(images={topic: [facts]}, camera_infos={"/cam/camera_info": [message]})
    return {each.check: each for each in calibration_findings(found, "/cam/camera_info", topic, rectified)}


def said(message, topic: str = "/cam/image_raw", rectified: str = "auto") -> str:
    own = CameraInput(CameraSettings("camera", topic, "/cam/camera_info", rectified=rectified))
    own.add_info(message)
    return own.lens_complaint(PICTURE, own.calibration())


@pytest.mark.parametrize("distortion", [FISHEYE_DISTORTION, (0.0,) * 5])
def test_a_fisheye_called_pinhole_is_named_by_its_angles(distortion: tuple[float, ...]) -> None:
    renamed = info("plumb_bob", distortion)
    assert said(renamed).startswith("/cam/image_raw: raw images are by their calibration 1")
    assert "calibrate a fisheye with distortion_model equidistant, or set rectified" in said(renamed)
    wide = findings(renamed)["camera_info.wide"]
    assert wide.level == Level.WARN and 115 < wide.data["field_deg"] < 125 and wide.parameter == "rectified"
    assert "camera_info.usable" not in findings(renamed)


def test_true_calibrations_and_undistorted_images_are_not_complained_about() -> None:
    assert said(info("equidistant")) == "" and "camera_info.wide" not in findings(info("equidistant"))
    renamed = info("plumb_bob")
    for topic, rectified in (("/cam/image_rect", "auto"), ("/cam/image_raw", "true")):
        assert said(renamed, topic, rectified) == ""
        assert "camera_info.wide" not in findings(renamed, topic, None if rectified == "auto" else True)


def test_a_wide_pinhole_that_bends_its_picture_is_believed() -> None:
    # A rational model that bends 120 degrees as an equidistant lens does to a few percent, and one of 95 degrees.
    fisheye = FisheyeCamera(960, 600, 460.0, 460.0, 480.0, 300.0)
    r = np.tan(np.linspace(0.05, 1.04, 20))
    bend = np.arctan(r) / r
    powers = np.stack([r**2, r**4, r**6], axis=1)
    k = np.linalg.lstsq(np.hstack([powers, -bend[:, None] * powers]), bend - 1.0, rcond=None)[0]
    bent = PinholeCamera(
        960, 600, fisheye.fx, fisheye.fy, 480.0, 300.0, (k[0], k[1], 0.0, 0.0, k[2], k[3], k[4], k[5]),
        "rational_polynomial",
    )  # fmt: skip
    ends = bent.unproject(np.array([[1.0, 300.0], [959.0, 300.0]]))
    assert ends[1].all() and np.degrees(np.arctan2(ends[0][1, 0], ends[0][1, 2])) > 55.0, "it is that wide"
    assert straight_field_deg(bent) == 0.0
    assert straight_field_deg(PinholeCamera(960, 600, 440.0, 440.0, 480.0, 300.0)) == 0.0, "95 degrees"
    assert 110 < straight_field_deg(PinholeCamera(960, 600, 330.0, 330.0, 480.0, 300.0)) < 112
    assert straight_field_deg(fisheye) == 0.0
