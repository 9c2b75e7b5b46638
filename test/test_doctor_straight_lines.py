"""Straight edges in pictures tell a distorted image from an undistorted one, whatever CameraInfo says."""

import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cross_view_loc.doctor.findings import Level
from cross_view_loc.doctor.straight_lines import long_edges, remaining_bend, straightness_findings
from cross_view_loc.geometry.cameras import PinholeCamera

PLAIN = PinholeCamera(720, 450, 360.0, 360.0, 368.0, 218.0)
BARREL = dataclasses.replace(PLAIN, distortion=(-0.25, 0.05, 0.0, 0.0))


def facade(camera: PinholeCamera, seed: int = 0, arches: int = 0) -> np.ndarray:
    """A wall of bands and pillars, and round windows, as the camera sees it; grey (H, W)."""
    generator = np.random.default_rng(seed)
    wall = np.full((2400, 3600), 190.0, np.float32)  # 6 by 4 units at a distance of 1
    for _ in range(14):
        x, y = generator.integers(0, 3500), generator.integers(0, 2300)
        wall[:, x : x + 60] = generator.uniform(60, 230)
        wall[y : y + 60] = generator.uniform(60, 230)
    for _ in range(arches):
        center = (int(generator.integers(600, 3000)), int(generator.integers(400, 2000)))
        cv2.circle(wall, center, int(generator.integers(200, 500)), float(generator.uniform(20, 255)), -1)
    v, u = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    rays, _ = camera.unproject(np.stack([u, v], axis=-1))
    turned = rays @ cv2.Rodrigues(np.array([0.05, 0.1, 0.08]))[0].T
    x, y = ((turned[..., axis] / turned[..., 2] * 600 + half) for axis, half in ((0, 1800), (1, 1200)))
    seen = cv2.remap(wall, x.astype(np.float32), y.astype(np.float32), cv2.INTER_AREA)
    return np.clip(seen + generator.normal(0.0, 2.0, seen.shape), 0, 255).astype(np.uint8)


def edges_of(camera: PinholeCamera, arches: int = 0) -> list[np.ndarray]:
    return [edge for seed in range(2) for edge in long_edges(facade(camera, seed, arches))]


@pytest.fixture(scope="module")
def pictures() -> dict[PinholeCamera, list[np.ndarray]]:
    return {camera: edges_of(camera) for camera in (PLAIN, BARREL)}


def test_the_bend_is_that_of_the_lens_and_none_under_its_own_model(pictures):
    assert remaining_bend(pictures[PLAIN], PLAIN).corner_px == pytest.approx(0.0, abs=3.0)
    assert remaining_bend(pictures[BARREL], BARREL).corner_px == pytest.approx(0.0, abs=3.0)
    seen = remaining_bend(pictures[BARREL], PLAIN)
    assert seen.corner_px < -75.0
    assert 3.0 < seen.bow_px < 60.0
    assert remaining_bend(pictures[PLAIN], BARREL).corner_px > 50.0  # taken off twice: a cushion


def info(camera: PinholeCamera) -> SimpleNamespace:
    K = np.array([camera.fx, 0, camera.cx - 0.5, 0, camera.fy, camera.cy - 0.5, 0, 0, 1.0])
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="camera"), width=camera.width, height=camera.height, k=K,
        d=np.array(camera.distortion), p=np.zeros(12), distortion_model="plumb_bob", binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    )  # fmt: skip


@pytest.mark.parametrize(
    "taken, said, rectified, value",
    [(BARREL, BARREL, False, "ok"), (PLAIN, PLAIN, False, "ok"), (PLAIN, PLAIN, True, "ok"),
     (BARREL, PLAIN, False, None), (BARREL, BARREL, True, "false"), (PLAIN, BARREL, False, "true"),
     (PLAIN, BARREL, True, "ok")],
)  # fmt: skip
def test_what_is_wrong_with_camera_info_is_said_with_the_parameter(pictures, taken, said, rectified, value):
    camera = PLAIN if rectified else said
    (finding,) = straightness_findings(info(said), camera, pictures[taken], "/cam/image", rectified)
    assert finding.check == "camera_info.straight"
    assert (finding.level == Level.OK) == (value == "ok"), finding.sentence
    if value != "ok":
        assert finding.value == value
        assert finding.parameter == ("rectified" if value else "")
        assert finding.remedy


def test_round_things_do_not_bend_the_verdict():
    bend = remaining_bend(edges_of(PLAIN, arches=4), PLAIN)
    assert bend is None or not bend.is_seen(PLAIN.width)


def test_without_edges_nothing_is_claimed(pictures):
    (finding,) = straightness_findings(info(PLAIN), PLAIN, pictures[PLAIN][:3], "/cam/image", False)
    assert finding.level == Level.OK
    assert "cannot be told" in finding.sentence
    assert long_edges(np.full((300, 400), 128, np.uint8)) == []
