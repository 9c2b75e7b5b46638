"""Simulated rigs beyond one pinhole: the fisheye's picture and calibration belong together, a surround's cameras
are all localized with."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("warp")

from test_bags import at_prior
from test_simulate import PROJECTION, CircleDrive, PaintedPlane

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import BagRunner, choose_topics, with_topics
from cross_view_loc.evaluation import renders
from cross_view_loc.evaluation.oracle import TrueDepth
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, from_camera_info
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, inverse, transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.settings import Settings
from cross_view_loc.simulation import messages, recording
from cross_view_loc.simulation.drive_renderer import DriveRenderer, Shot
from cross_view_loc.simulation.fisheye import FisheyeLens
from cross_view_loc.simulation.rig import FISHEYE_DISTORTION, RIG_NAMES, make_rig
from cross_view_loc.simulation.simulate import SimulationSettings, localizer_parameters
from cross_view_loc.types import Frame

LENS = FisheyeCamera(480, 300, 145.0, 145.0, 240.0, 150.0, FISHEYE_DISTORTION)


class Directions:
    """Stands in for the renderer: a panorama whose colours are the directions, whose range is 7 m."""

    def panorama(self, T_map_camera, width, height, time_s=0.0):
        return EquirectangularCamera(width, height)

    def render(self, views):
        images = []
        for camera in views:
            v, u = np.meshgrid(np.arange(camera.height) + 0.5, np.arange(camera.width) + 0.5, indexing="ij")
            images.append(np.round(camera.unproject(np.stack([u, v], -1))[0] * 100 + 128).astype(np.uint8))
        return images, [np.full(image.shape[:2], 7.0, np.float32) for image in images]


def test_each_pixel_of_a_fisheye_shows_the_direction_that_its_calibration_says() -> None:
    mounted = make_rig("fisheye", 0.5).cameras[0]
    shot = Shot(np.eye(4), mounted.width, mounted.height, mounted.focal_px, is_fisheye=True)
    (photo,) = DriveRenderer(Directions(), None).shoot([shot])
    camera = from_camera_info(messages.camera_info(0, mounted, photo.distortion))
    assert camera == photo.camera == LENS and photo.image.shape == (300, 480, 3)
    v, u = np.meshgrid(np.arange(300) + 0.5, np.arange(480) + 0.5, indexing="ij")
    rays, seen = camera.unproject(np.stack([u, v], -1))
    assert 0.9 < seen.mean() <= 1.0 and rays[150, 1, 2] < -0.1, "the rim of the middle row looks behind"
    np.testing.assert_allclose(((photo.image.astype(float) - 128) / 100)[seen], rays[seen], atol=0.02)
    assert not photo.image[~seen].any() and np.array_equal(photo.depth_m > 0, seen)


def test_a_fisheye_survives_storing() -> None:
    assert renders._camera(480, 300, renders._numbers(LENS)) == LENS


def test_true_range_of_a_fisheye_becomes_depth_along_each_view() -> None:
    frame = Frame(np.zeros((300, 480, 3), np.uint8), LENS, 0, transform(R_BODY_OPTICAL, np.array([0.0, 0.0, 1.4])))
    v, u = np.meshgrid(np.arange(300) + 0.5, np.arange(480) + 0.5, indexing="ij")
    rays, seen = LENS.unproject(np.stack([u, v], -1))
    below = seen & (rays[..., 1] > 0.03)
    range_m = np.where(below, 1.4 / np.maximum(rays[..., 1], 0.03), 0.0).astype(np.float32)
    oracle = TrueDepth()
    oracle.set([frame], [range_m])
    for view in plan_views(LENS):
        geometry, cells = ViewGeometry.of(frame, view), view.rays(8, 8)
        inverse = geometry.flat_inverse_depth(cells)
        pixels, visible = LENS.project(cells @ view.R_camera_view.T)
        inner = visible & (np.hypot(*(np.moveaxis(pixels, -1, 0) - [[[240.0]], [[150.0]]])) < 230.0)
        inner &= (pixels[..., 1] < 298.0) & (inverse > 1 / 15.0)
        assert inner.sum() > 100
        assert np.abs(oracle(frame.image, view, geometry, cells).z_m * inverse - 1.0)[inner].max() < 0.01


@pytest.mark.parametrize("name", RIG_NAMES)
def test_parameters_of_a_drive_name_every_camera_of_its_rig(name: str, tmp_path: Path) -> None:
    rig = make_rig(name)
    path = tmp_path / "localizer.yaml"
    path.write_text(localizer_parameters(SimulationSettings(seed=1, cameras=name), rig, tmp_path), encoding="utf-8")
    settings = Settings.from_yaml(path)
    topics = [f"/camera/{camera.name}/image/compressed" for camera in rig.cameras]
    assert [camera.image_topic for camera in settings.rig] == topics
    assert list(settings.cameras) == ([camera.name for camera in rig.cameras] if len(topics) > 1 else [])


def test_a_fisheye_s_panorama_is_no_coarser_than_the_fisheye() -> None:
    width, height = FisheyeLens(LENS).panorama_size
    assert width == 2 * height and width / (2 * np.pi) >= LENS.fx


LATE_NS = {"front": 0, "left": 4_000_000, "right": -3_000_000, "rear": 6_000_000}
"""Cameras of a vehicle are not triggered together."""


def test_every_estimate_of_a_surround_drive_is_made_of_four_cameras_at_their_own_moments(tmp_path: Path) -> None:
    rig = make_rig("surround", 0.2)
    recorder = recording.Recorder(
        CircleDrive(), DriveRenderer(PaintedPlane(), None), rig, PROJECTION, seed=4, duration_s=2.0, image_rate_hz=5.0
    )

    def delayed(item: recording.Stamped) -> recording.Stamped:
        late_ns = LATE_NS.get(item.topic.split("/")[2], 0) if item.topic.endswith("/compressed") else 0
        if late_ns:
            item.message.header.stamp.sec, item.message.header.stamp.nanosec = divmod(item.stamp_ns + late_ns, 10**9)
        return item._replace(stamp_ns=item.stamp_ns + late_ns)

    stream = sorted(map(delayed, recorder.stream()), key=operator.attrgetter("stamp_ns", "order"))
    recording.write_bag(tmp_path / "bag", rig, iter(stream))
    parameters = tmp_path / "localizer.yaml"
    parameters.write_text(
        localizer_parameters(SimulationSettings(seed=4, cameras="surround"), rig, tmp_path), encoding="utf-8"
    )
    seen: list = []

    def locate(frames, prior):
        seen.append(frames)
        return at_prior(frames, prior)

    with Bag(tmp_path / "bag") as bag:
        topics = choose_topics(bag, Settings.from_yaml(parameters))
        settings = with_topics(Settings.from_yaml(parameters), topics)
        BagRunner(bag, topics, FrameAssembler(settings, PROJECTION), locate).run(bag.start_ns, bag.end_ns + 1)
    assert len(seen) >= 8
    for frames in seen:
        assert [frame.name for frame in frames] == ["front", "left", "right", "rear"]
        assert len({frame.stamp_ns for frame in frames}) == 1
        start_s = (frames[0].stamp_ns - recording.START_STAMP_NS) / 1e9
        for frame, mounted in zip(frames, rig.cameras, strict=True):
            moved = CircleDrive().T_map_base(start_s + LATE_NS[frame.name] / 1e9)
            expected = inverse(CircleDrive().T_map_base(start_s)) @ moved @ mounted.T_base_camera
            np.testing.assert_allclose(frame.T_base_camera, expected, atol=0.004)
    assert not np.allclose(seen[0][3].T_base_camera, rig.cameras[3].T_base_camera, atol=0.02), "4.5 cm in 6 ms"
