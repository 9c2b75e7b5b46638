"""The localizer on the town: right place, right signs, honest refusals."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.errors import InputError, ModelError, NoImageryError
from cross_view_loc.evaluation.metrics import frame_error
from cross_view_loc.evaluation.town import TrueDepth, evaluate_bench, make_bench
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.localizer import Localizer, LocalizerSettings, pick_device
from cross_view_loc.matching.search import aerial_features, heading_sectors
from cross_view_loc.types import Prior

SEED = 9004
"""A test town that no figure in the README comes from."""


@pytest.fixture(scope="module")
def bench():
    return make_bench(SEED, 12, town_size_m=260.0)


@pytest.fixture(scope="module")
def localizer(bench):
    return Localizer(bench.orthophoto, LocalizerSettings())


@pytest.fixture(scope="module")
def located(bench, localizer):
    """(estimate, error) of every frame of the bench."""
    found = []
    for _ in evaluate_bench(bench, localizer, lambda moment, estimate, error: found.append((estimate, error))):
        pass
    return found


@pytest.fixture(scope="module")
def errors(located):
    return [error for _, error in located]


def test_an_unseen_town_is_localized(errors):
    """Loose enough for other processors' rounding, far tighter than the prior (11 m median) or a wrong sign."""
    assert np.median([error.prior_position_m for error in errors]) > 6.0
    assert np.median([error.position_m for error in errors]) < 1.5
    assert np.median([abs(error.heading_deg) for error in errors]) < 2.0


def test_accepted_estimates_are_inside_their_ellipses(errors):
    accepted = [error for error in errors if error.accepted]
    assert len(accepted) >= len(errors) // 2
    assert np.mean([error.nees < 11.3 for error in accepted]) >= 0.8  # the 99 % ellipsoid


@pytest.mark.parametrize("estimator", ["consensus", "matches"])
def test_the_same_input_gives_the_same_estimate(bench, estimator):
    moment = bench.frames[3]
    first, second = (
        Localizer(bench.orthophoto, LocalizerSettings(estimator=estimator)).locate(moment.frames, moment.prior)
        for _ in range(2)
    )
    assert (first.east_m, first.north_m, first.yaw_rad) == (second.east_m, second.north_m, second.yaw_rad)
    assert np.array_equal(first.covariance, second.covariance)


def test_lifted_pixels_lie_where_the_orthophoto_shows_them(bench):
    """Lifted road pixels, placed with the true pose, are white exactly where the orthophoto is: ≤ 1 aerial pixel."""
    offsets = np.arange(-5, 6)
    totals = np.zeros((11, 11))
    for moment in bench.frames:
        frame, depth = moment.frames[0], moment.depth_m[0]
        (view,) = plan_views(frame.camera)
        rows = np.arange(frame.camera.height * 6 // 10, frame.camera.height - 4, 2)
        v, u = np.meshgrid(rows + 0.5, np.arange(0, frame.camera.width, 2) + 0.5, indexing="ij")
        f = frame.camera.fx
        rays = np.stack([(u - frame.camera.cx) / f, (v - frame.camera.cy) / f, np.ones_like(u)], -1)
        points = ViewGeometry.of(frame, view).lift(rays, depth[rows][:, ::2].astype(np.float64))
        c, s = math.cos(moment.truth.yaw_rad), math.sin(moment.truth.yaw_rad)
        east = moment.truth.east_m + c * points[..., 0] - s * points[..., 1]
        north = moment.truth.north_m + s * points[..., 0] + c * points[..., 1]
        near = np.hypot(points[..., 0], points[..., 1]) < 15.0
        ground = frame.image[rows][:, ::2].mean(-1)[near]
        ground = (ground - ground.mean()) / (ground.std() + 1e-6)
        pixels = np.floor(bench.orthophoto.pixel(east[near], north[near])).astype(int)
        photo = bench.orthophoto.image.mean(-1)
        for i, d_row in enumerate(offsets):
            for j, d_column in enumerate(offsets):
                under = photo[pixels[1] + d_row, pixels[0] + d_column]
                totals[i, j] += np.mean(ground * (under - under.mean()) / (under.std() + 1e-6))
    row, column = np.unravel_index(totals.argmax(), totals.shape)
    assert abs(offsets[row]) <= 1 and abs(offsets[column]) <= 1


def test_true_depth_and_flat_ground_are_sources_like_any_other(bench):
    few = replace(bench, frames=bench.frames[::2])
    flat_ground = Localizer(bench.orthophoto, LocalizerSettings(depth="flat"))
    flat = [error.position_m for error in evaluate_bench(few, flat_ground)]
    oracle = Localizer(bench.orthophoto, depth=TrueDepth())
    true = [error.position_m for error in evaluate_bench(few, oracle)]
    assert np.median(true) < 1.0 and np.median(flat) < 3.0


def test_an_unknown_heading_is_found(bench, localizer):
    """Every heading searched: at least half of a few frames come out right, and refused ones say why."""
    found = []
    for moment in bench.frames[::6]:
        estimate = localizer.locate(moment.frames, replace(moment.prior, yaw_rad=0.0, yaw_range_rad=math.pi))
        assert estimate.accepted or estimate.reason
        found.append(abs(frame_error(estimate, moment.truth).heading_deg) < 5.0)
    assert np.mean(found) >= 0.5


@pytest.mark.parametrize("range_deg", [0.0, 9.0, 16.0, 29.0, 31.0, 180.0])
def test_heading_sectors_tile_the_range_with_the_prior_in_the_middle(range_deg):
    prior = Prior(0, 0.0, 0.0, 20.0, 0.4, math.radians(range_deg))
    sectors = heading_sectors(prior)
    yaws = np.array([yaw for _, sector in sectors for yaw in sector])
    assert np.allclose(np.diff(yaws), np.diff(yaws)[0] if len(yaws) > 1 else 0.0)  # even, none twice
    assert np.abs(yaws - 0.4).min() < 1e-9
    assert np.diff(yaws).max(initial=0.0) <= math.radians(2.0) + 1e-9
    assert yaws[-1] - yaws[0] <= 2 * math.radians(max(range_deg, 1.0))
    assert all(np.abs(np.array(sector) - up).max() <= math.radians(15.0) for up, sector in sectors)


@pytest.mark.parametrize("range_deg", [16.0, 20.0, 45.0])
def test_confidence_does_not_depend_on_how_headings_are_split(bench, localizer, located, range_deg):
    """A clear frame stays clear when its headings are searched by several patches, also near their borders."""
    estimates = [estimate for estimate, _ in located]
    best = int(np.argmax([estimate.confidence for estimate in estimates]))
    clear, alone = bench.frames[best], estimates[best]
    for turn_deg in (0.0, 10.0, range_deg / 3):
        prior = replace(
            clear.prior, yaw_rad=clear.truth.yaw_rad + math.radians(turn_deg), yaw_range_rad=math.radians(range_deg)
        )
        split = localizer.locate(clear.frames, prior)
        assert split.confidence > alone.confidence - 0.25
        assert math.hypot(split.east_m - alone.east_m, split.north_m - alone.north_m) < 1.0


def test_a_camera_under_the_ground_is_named(bench, localizer):
    moment = bench.frames[0]
    buried = replace(moment.frames[0], ground_z_m=1.7)
    with pytest.raises(InputError, match="ground_height_in_base_m"):
        localizer.locate([buried], moment.prior)


def test_matches_lie_in_the_image_and_in_the_map(bench, localizer):
    moment = bench.frames[2]
    estimate = localizer.locate(moment.frames, moment.prior)
    assert len(estimate.matches) > 20
    for match in estimate.matches:
        assert 0 <= match.pixel[0] <= 640 and 0 <= match.pixel[1] <= 360
        assert math.hypot(match.point_map[0] - moment.truth.east_m, match.point_map[1] - moment.truth.north_m) < 70


def test_features_are_reused_while_the_vehicle_stays_near(bench, localizer):
    moment = bench.frames[5]
    localizer.locate(moment.frames, moment.prior)
    misses = localizer.aerial.misses
    localizer.locate(moment.frames, replace(moment.prior, yaw_rad=moment.prior.yaw_rad + 1e-4))
    assert localizer.aerial.misses == misses


def test_features_of_a_patch_with_gaps_are_made_again_when_imagery_arrives(bench):
    """An online map fills in while the vehicle drives; what is whole is kept all the same."""

    class Arriving:
        revision = changes = 0
        whole = False

        def patch(self, *request):
            patch = bench.orthophoto.patch(*request)
            return patch if self.whole else replace(patch, stand_in=0.3)

    source = Arriving()
    localizer = Localizer(source, LocalizerSettings())
    moment = bench.frames[5]
    sector, _ = heading_sectors(moment.prior)[0]

    def misses() -> int:
        aerial_features(localizer.aerial, moment.frames, moment.prior, sector)
        return localizer.aerial.misses

    assert [misses(), misses()] == [1, 1], "nothing has arrived since"
    source.revision, source.whole = 1, True
    assert [misses(), misses()] == [2, 2]
    source.revision = 2
    assert misses() == 2, "a whole patch stays"
    source.changes = 1
    assert misses() == 3, "unless some of its imagery was no imagery after all"


def coarser(orthophoto, factor):
    """The orthophoto as a zoom with pixels `factor` times as large shows it."""
    rows, columns = (side // factor * factor for side in orthophoto.image.shape[:2])
    size = (columns // factor, rows // factor)
    image = cv2.resize(orthophoto.image[:rows, :columns], size, interpolation=cv2.INTER_AREA)
    lost_px = np.array([columns, rows]) - orthophoto.image.shape[1::-1]
    east_m, north_m = lost_px / 2 * orthophoto.meters_per_pixel * (1, -1)
    return ImageMap(image, orthophoto.meters_per_pixel * factor, east_m, north_m)


def test_coarse_imagery_widens_the_estimate_and_very_coarse_is_refused(bench, localizer):
    class As:
        """The same pixels, said to be of another resolution."""

        resolution = None

        def patch(self, *request):
            return replace(bench.orthophoto.patch(*request), meters_per_pixel_source=self.resolution)

    source, moment = As(), bench.frames[5]
    other = Localizer(source, LocalizerSettings())

    def estimate(resolution):
        source.resolution, source.changes = resolution, (resolution or 0.0) * 10
        return other.locate(moment.frames, moment.prior)

    plain = estimate(None)
    np.testing.assert_array_equal(estimate(0.1).covariance, plain.covariance)
    for resolution, added_m2 in ((0.2, 0.0), (0.8, 0.6 / 9), (1.6, 2.52 / 9)):
        added = estimate(resolution).covariance - plain.covariance
        np.testing.assert_allclose(added, np.diag([added_m2, added_m2, 0.0]), atol=1e-9)
    refused = estimate(3.2)
    assert not refused.accepted and refused.reason.startswith("map: all imagery here has 3.2 m per pixel; fetch finer")


def test_accepted_estimates_on_coarse_imagery_are_inside_their_ellipses(bench, errors):
    localizer = Localizer(coarser(bench.orthophoto, 8), LocalizerSettings())
    coarse = list(evaluate_bench(bench, localizer))
    assert np.median([e.position_m for e in coarse]) > np.median([e.position_m for e in errors]), "else no test"
    accepted = [error for error in coarse if error.accepted]
    assert accepted and np.mean([error.nees < 11.3 for error in accepted]) >= 0.8


def test_several_views_count_as_the_root_of_their_number(bench):
    """Two copies of one image are no two witnesses: the posterior stays wider than if they were independent."""
    localizer, moment = Localizer(bench.orthophoto, LocalizerSettings()), bench.frames[5]
    (once,), (twice,) = (localizer.score(moment.frames * copies, moment.prior) for copies in (1, 2))
    assert twice.temperature == pytest.approx(math.sqrt(2) * once.temperature)


def test_a_covered_camera_is_refused_with_a_reason(bench, localizer):
    moment = bench.frames[0]
    black = replace(moment.frames[0], image=np.zeros_like(moment.frames[0].image))
    estimate = localizer.locate([black], moment.prior)
    assert not estimate.accepted and estimate.reason


def test_the_gate_follows_settings_that_change_while_it_runs(bench):
    """As the node does when a parameter is set."""
    localizer = Localizer(bench.orthophoto, LocalizerSettings(min_confidence=0.0, min_inlier_ratio=0.0))
    moment = bench.frames[5]
    localizer.settings = replace(localizer.settings, max_position_std_m=100.0)
    assert localizer.locate(moment.frames, moment.prior).accepted
    for change, word in (
        ({"min_inlier_ratio": 1.0}, "min_inlier_ratio"),
        ({"max_position_std_m": 0.01}, "max_position_std_m"),
        ({"min_confidence": 1.0}, "min_confidence"),
    ):
        localizer.settings = replace(localizer.settings, **change)
        estimate = localizer.locate(moment.frames, moment.prior)
        assert not estimate.accepted and word in estimate.reason
        localizer.settings = replace(localizer.settings, min_confidence=0.0, min_inlier_ratio=0.0)


def test_a_wrong_image_size_names_both_sizes(bench, localizer):
    moment = bench.frames[0]
    small = replace(moment.frames[0], image=moment.frames[0].image[:100])
    with pytest.raises(InputError, match=r"640x100 .* 640x360"):
        localizer.locate([small], moment.prior)


def test_a_prior_off_the_map_says_so(bench, localizer):
    moment = bench.frames[0]
    with pytest.raises(NoImageryError, match="does not cover"):
        localizer.locate(moment.frames, replace(moment.prior, east_m=5000.0))


def test_half_a_map_is_masked_not_matched(bench):
    """Where imagery ends the descriptors are zero, so black borders attract nothing."""
    moment = bench.frames[4]
    whole = Localizer(bench.orthophoto, LocalizerSettings())
    patch = aerial_features(whole.aerial, moment.frames, moment.prior, heading_sectors(moment.prior)[0][0]).patch
    cut = round(float(bench.orthophoto.pixel(patch.center_east_m, patch.center_north_m)[0]))
    image = bench.orthophoto.image[:, :cut]
    resolution = bench.orthophoto.meters_per_pixel
    half = ImageMap(image, resolution, center_east_m=(cut - bench.orthophoto.image.shape[1]) / 2 * resolution)
    localizer = Localizer(half, LocalizerSettings())
    sector, _ = heading_sectors(moment.prior)[0]
    features = aerial_features(localizer.aerial, moment.frames, moment.prior, sector)
    empty = features.descriptors.norm(dim=0) == 0
    covered = features.patch.valid[2::4, 2::4]
    assert 0.3 < empty.float().mean() < 0.7
    assert np.mean(empty.numpy() != covered) > 0.95


def test_missing_weights_and_devices_are_one_sentence(bench, tmp_path):
    with pytest.raises(ModelError, match="weights_dir"):
        Localizer(bench.orthophoto, LocalizerSettings(weights_dir=str(tmp_path)))
    (tmp_path / "town_matcher.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a readable safetensors"):
        Localizer(bench.orthophoto, LocalizerSettings(weights_dir=str(tmp_path)))
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            pick_device("cuda:0")
