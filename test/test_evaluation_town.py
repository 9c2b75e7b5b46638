"""The town bench: rendered once, kept on disk, measured under many settings, its worst frames drawn."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

import cross_view_loc.evaluation.renders as renders
from cross_view_loc.cli import main
from cross_view_loc.commands.depth_option import town_depth_name
from cross_view_loc.commands.evaluate import GAP_CHOICES, PROTOCOL_CHOICES, REGION_CHOICES, table
from cross_view_loc.depth.sampling import sample_depth_image
from cross_view_loc.depth.source import FlatGround
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.gallery import SIDE_M, FailureCase, WorstFrames, draw_gallery, posterior_heat
from cross_view_loc.evaluation.metrics import FrameError
from cross_view_loc.evaluation.oracle import TrueDepth, UnknownScaleDepth
from cross_view_loc.evaluation.renders import DriveSetting, rendered_drive
from cross_view_loc.evaluation.town import PROTOCOLS, announce, evaluate_bench, with_priors
from cross_view_loc.evaluation.town_rows import RowSetting, combine
from cross_view_loc.geometry.cameras import EquirectangularCamera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.simulation.gap import GAPS
from cross_view_loc.simulation.regions import REGIONS
from cross_view_loc.types import Frame

SETTING = DriveSetting(9004, 2, town_size_m=240.0)
ROW_KEYS = {
    "protocol", "gap", "region", "place", "depth", "estimator", "cameras", "window", "model", "seeds", "frames",
    "accepted", "position_median_m", "position_mean_m", "lateral_median_m", "longitudinal_median_m",
    "heading_median_deg", "recall_1m", "recall_2m", "recall_5m", "recall_1deg", "recall_5deg", "recall_2m_5deg",
    "prior_position_median_m", "coverage_50", "coverage_95", "coverage_99", "nees_per_dof", "accepted_beyond_5m",
    "risk_coverage", "risk_coverage_area", "confidence_ece", "reliability", "right_mode", "frame_seconds_p50",
    "frame_seconds_p95",
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("renders")


@pytest.fixture(scope="module")
def drive(cache):
    return rendered_drive(SETTING, cache=cache)


@pytest.fixture(scope="module")
def bench(drive):
    return with_priors(drive)


@pytest.fixture(scope="module")
def localizer(bench):
    return Localizer(bench.orthophoto, LocalizerSettings(depth="flat"))


def test_choices_of_the_command_are_those_of_the_parts():
    assert set(PROTOCOL_CHOICES) == set(PROTOCOLS) and GAP_CHOICES == GAPS and REGION_CHOICES == REGIONS
    names = ("learned", "flat", "true", "relative", "depth-pro", "hf:a/b")
    assert all(town_depth_name(name) == name for name in names)


def test_a_kept_drive_is_the_drive_itself(drive, cache, monkeypatch):
    monkeypatch.setattr(renders, "render_drive", lambda *_: pytest.fail("rendered again"))
    again = rendered_drive(SETTING, cache=cache)
    assert np.array_equal(again.orthophoto, drive.orthophoto) and np.array_equal(again.T_map_base, drive.T_map_base)
    assert again.places == drive.places and set(drive.places) <= {"junction", "street", "bend"}
    assert again.map_shift_m == drive.map_shift_m and np.array_equal(again.stamps_ns, drive.stamps_ns)
    for kept, new in zip(again.shots, drive.shots, strict=True):
        assert kept.camera == new.camera and np.array_equal(kept.images, new.images)
        assert np.array_equal(kept.depth_m, new.depth_m)


def test_other_arguments_and_other_sources_are_other_files(monkeypatch):
    settings = [SETTING, replace(SETTING, gap="hard"), replace(SETTING, region="rural"), replace(SETTING, frames=3)]
    keys = {renders.cache_key(setting, "cpu") for setting in settings}
    monkeypatch.setattr(renders, "_sources_digest", lambda: "changed")
    assert len(keys | {renders.cache_key(SETTING, "cpu")}) == 5


def test_a_damaged_file_is_rendered_anew(drive, tmp_path, monkeypatch):
    path = tmp_path / f"{renders.cache_key(SETTING, 'cpu')}.npz"
    path.write_bytes(b"PK\x03\x04 half a file")
    monkeypatch.setattr(renders, "render_drive", lambda *_: drive)
    assert rendered_drive(SETTING, cache=tmp_path) is drive
    monkeypatch.setattr(renders, "render_drive", lambda *_: pytest.fail("was not kept"))
    assert np.array_equal(rendered_drive(SETTING, cache=tmp_path).T_map_base, drive.T_map_base)


def test_a_lens_survives_storing():
    camera = PinholeCamera(64, 48, 50.0, 51.0, 31.0, 25.0, (-0.1, 0.01, 1e-4, -1e-4, 0.0))
    assert renders._camera(64, 48, renders._numbers(camera)) == camera
    panorama = EquirectangularCamera(64, 32)
    assert renders._camera(64, 32, renders._numbers(panorama)) == panorama


def test_priors_hold_the_truth_and_protocols_share_the_pictures(drive):
    for protocol in PROTOCOLS:
        for moment, plain in zip(with_priors(drive, protocol).frames, with_priors(drive).frames, strict=True):
            assert moment.frames[0].image.base is plain.frames[0].image.base  # nothing was copied
            prior, truth = moment.prior, moment.truth
            assert math.hypot(prior.east_m - truth.east_m, prior.north_m - truth.north_m) <= prior.radius_m * 1.4143
            assert abs(math.remainder(prior.yaw_rad - truth.yaw_rad, 2 * math.pi)) <= prior.yaw_range_rad
    with pytest.raises(InputError, match="no protocol 'nowhere'"):
        with_priors(drive, "nowhere")


@pytest.mark.parametrize("camera", [EquirectangularCamera(1024, 512), PinholeCamera(640, 360, 400, 400, 320, 180)])
def test_true_depth_of_a_plane_is_exact(camera):
    """Depth images worked out for flat ground; the oracle must return flat-ground depth in every view of the camera."""
    frame = Frame(np.zeros((camera.height, camera.width, 3), np.uint8), camera, 0, _mounted(1.9))
    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays, _ = camera.unproject(np.stack([u, v], -1))
    rays = (
        rays / (np.linalg.norm(rays, axis=-1) if isinstance(camera, EquirectangularCamera) else rays[..., 2])[..., None]
    )
    descent = -(rays @ frame.T_base_camera[:3, :3].T)[..., 2]
    image = np.where(descent > 1e-3, 1.9 / np.maximum(descent, 1e-3), 0.0).astype(np.float32)
    oracle = TrueDepth()
    oracle.set([frame], [image])
    views = plan_views(camera)
    assert len(views) == (1 if isinstance(camera, PinholeCamera) else 4)
    for view in views:
        geometry, cells = ViewGeometry.of(frame, view), view.rays(8, 4)
        inverse = geometry.flat_inverse_depth(cells)
        pixels = view.camera_pixels(cells[..., :2] * view.focal_px + [view.width / 2, view.height / 2], camera)
        seen = (pixels[..., 1] > 0.5) & (pixels[..., 1] < camera.height - 0.5)
        near = seen & (inverse > 1 / 25.0)
        found = oracle(frame.image, view, geometry, cells).z_m
        assert near.sum() > 300
        assert np.abs(found * inverse - 1.0)[near].max() < 1e-3


def _mounted(height_m):
    return transform(R_BODY_OPTICAL, np.array([0.2, 0.0, height_m]))


def test_true_depth_does_not_blend_across_edges_or_with_the_sky():
    depth = np.array([[5.0, 5.0, 20.0, 0.0]] * 2, np.float32)
    at = [[1.9, 1.0], [2.1, 1.0], [3.1, 1.0], [0.9, 1.0]]
    assert sample_depth_image(depth, np.array(at)) == pytest.approx([5.0, 20.0, 0.0, 5.0])


def test_a_panorama_goes_on_behind_its_edge():
    depth = np.array([[4.0, 9.0, 9.0, 4.8]] * 2, np.float32)
    assert sample_depth_image(depth, np.array([[0.0, 1.0]]), wraps=True) == pytest.approx([2 / (1 / 4 + 1 / 4.8)])
    assert sample_depth_image(depth, np.array([[0.0, 1.0]])) == pytest.approx([4.0])


def test_lost_scale_follows_from_the_frame_alone(bench):
    depth = UnknownScaleDepth(FlatGround(), seed=7)
    frames = [moment.frames[0] for moment in bench.frames]
    (view,) = plan_views(frames[0].camera)
    geometry, rays = ViewGeometry.of(frames[0], view), view.rays(8, 4)

    def lost(frame):
        depth.begin(frame)
        return depth._depth.inner(frame.image, view, geometry, rays).z_m

    first, second, again = lost(frames[0]), lost(frames[1]), lost(frames[0])
    assert np.array_equal(first, again) and not np.allclose(first, second)
    depth.begin(frames[0])
    anchored = depth(frames[0].image, view, geometry, rays).z_m
    flat = FlatGround()(frames[0].image, view, geometry, rays).z_m
    assert anchored[flat > 0] == pytest.approx(flat[flat > 0], rel=0.02)


def test_combinations_are_unique_and_the_protocol_may_choose_the_cameras():
    settings = combine(
        ["offset", "panorama"], ["mild"], ["town"], ["flat", "flat", "true"], ["consensus"], ["front"], [""]
    )
    assert [(s.protocol, s.cameras, s.depth) for s in settings] == [
        ("offset", "front", "flat"),
        ("offset", "front", "true"),
        ("panorama", "panorama", "flat"),
        ("panorama", "panorama", "true"),
    ]
    assert len({setting.slug for setting in settings}) == 4
    assert "/" not in RowSetting(model="/some/weights").slug


def test_the_gallery_keeps_accepted_but_wrong_before_worse_but_refused(bench, localizer):
    worst = WorstFrames(2)
    moment = bench.frames[0]
    announce(localizer, moment)
    estimate = localizer.locate(moment.frames, moment.prior)
    for position_m, accepted in ((0.5, True), (9.0, False), (3.0, True), (4.0, False)):
        worst.offer(
            bench, localizer, moment, estimate, FrameError(position_m, 0, 0, 0, 1.0, accepted, 8.0, confidence=0.5)
        )
    assert [case.error.position_m for case in worst.cases] == [3.0, 9.0]


def test_the_posterior_is_drawn_where_the_estimate_is(bench, localizer, tmp_path):
    cases = []
    for moment in bench.frames:
        estimate = localizer.locate(moment.frames, moment.prior)
        candidates = localizer.score(moment.frames, moment.prior)
        heat = posterior_heat(candidates, moment.prior.east_m, moment.prior.north_m, localizer.calibration.temperature)
        assert 0.9 < heat.sum() < 1.1  # the whole square of the prior lies in the picture
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        step_m = SIDE_M / len(heat)
        east = moment.prior.east_m - SIDE_M / 2 + (column + 0.5) * step_m
        north = moment.prior.north_m + SIDE_M / 2 - (row + 0.5) * step_m
        assert math.hypot(east - estimate.east_m, north - estimate.north_m) < 1.5
        patch = bench.orthophoto.patch(moment.prior.east_m, moment.prior.north_m, 480, 0.15, math.pi / 2)
        error = FrameError(1.0, 0, 0, 0, 1.0, True)
        cases.append(FailureCase(moment, estimate, error, patch, heat, "town 9004"))
    paths = draw_gallery(tmp_path / "gallery", cases)
    assert [path.name for path in paths] == ["01.jpg", "02.jpg"]
    assert all(path.stat().st_size > 20_000 for path in paths)


def test_evaluation_does_not_depend_on_what_looks_on(bench, localizer):
    """Offering frames to the gallery scores them again: the figures must stay."""
    worst = WorstFrames(2)
    alone = list(evaluate_bench(bench, localizer))
    watched = list(evaluate_bench(bench, localizer, lambda *args: worst.offer(bench, localizer, *args)))
    assert [e.position_m for e in alone] == [e.position_m for e in watched] and len(worst.cases) == 2


@pytest.fixture(scope="module")
def command(drive, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "out"
    words = ["evaluate", "town", "--seeds", "9004", "--frames", "2", "--town-size", "240", "--depth", "flat"]
    return out, [*words, "--cache", str(cache), "--by-scene", "--worst", "1", "--out", str(out)]


def test_the_command_prints_rows_and_writes_its_folder(command, capsys):
    out, words = command
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert all(row.keys() >= ROW_KEYS for row in rows)
    assert [row["frames"] for row in rows if row["place"] == "all"] == [2]
    assert sum(row["frames"] for row in rows if row["place"] != "all") == 2
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    gallery = "gallery/offset_mild_town_flat_consensus_front_town/01.jpg"
    assert files == {"results.json", "table.txt", "risk_coverage.png", "calibration.png", gallery}
    assert json.loads((out / "results.json").read_text())["results"] == rows
    lines = table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1 and "place" in lines[0] and "protocol" not in lines[0]

    assert main(words) == 1  # once more into the same folder
    assert "is not empty" in capsys.readouterr().err


def test_impossible_options_fail_before_rendering(capsys, tmp_path):
    assert main(["evaluate", "town", "--frames", "0"]) == 1
    assert "--frames is 0" in capsys.readouterr().err
    assert main(["evaluate", "town", "--worst", "-1"]) == 1
    assert "--worst is -1" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["evaluate", "town", "--cache", str(tmp_path / "file")]) == 1
    assert "choose a folder for --cache" in capsys.readouterr().err
