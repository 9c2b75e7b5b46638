"""A depth model as a depth source: metres whatever it measures, and what the parameter depth_scale makes of them."""

import math

import numpy as np
import pytest

from cross_view_loc.depth.modelled import PRIOR_STD, TRUSTED_STD, ModelDepth
from cross_view_loc.depth.relative import SCALE_UNKNOWN_STD
from cross_view_loc.depth.source import view_for
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.matching.ground import observe_ground
from cross_view_loc.types import Frame

CELLS = View(200.0).rays(4, 8)
GEOMETRY = ViewGeometry(transform(rpy(0, math.radians(4.0), 0) @ R_BODY_OPTICAL, [1.5, 0.0, 1.6]), np.eye(3), 1.6)
CAMERA = PinholeCamera(640, 384, 400.0, 400.0, 320.0, 192.0)
BLANK = np.zeros((384, 640, 3), np.uint8)


class RoadModel:
    """Sees a flat road with a wall 25 m ahead, in any measure."""

    name, licence = "road", "none"

    def __init__(self, measure="metric", along="z", factor=1.0, shift=0.0, is_blind=False):
        self.measure, self.along, self.factor, self.shift, self.is_blind = measure, along, factor, shift, is_blind
        self.sizes = []

    def __call__(self, images, focal_px):
        self.sizes.append((images.shape[2], float(focal_px[0])))
        rays = View(float(focal_px[0]), width=images.shape[2], height=images.shape[1]).rays()
        z = 1.0 / np.maximum(GEOMETRY.flat_inverse_depth(rays), 1 / 25.0)
        if self.is_blind:
            z = np.full_like(z, np.nan)
        if self.along == "range":
            z = z * np.linalg.norm(rays, axis=-1)
        value = 1.0 / z if self.measure == "inverse" else z
        return (value * self.factor + self.shift)[None].astype(np.float32)


def truth():
    return 1.0 / np.maximum(GEOMETRY.flat_inverse_depth(CELLS), 1 / 25.0)


def frame(stamp_ns=0, name="camera"):
    return Frame(BLANK, CAMERA, stamp_ns, GEOMETRY.T_base_view, name=name)


def seen(source, stamp_ns=0, name="camera"):
    wanted = view_for(source, View(200.0))
    source.begin(frame(stamp_ns, name))
    image = np.full((wanted.height, wanted.width, 3), 10 * source.model.factor, np.uint8)  # no image is run twice
    return source(image, wanted, GEOMETRY, CELLS)


@pytest.mark.parametrize("along", ["z", "range"])
@pytest.mark.parametrize(
    ("measure", "factor", "shift"),
    [("metric", 1.0, 0.0), ("metric", 1.3, 0.0), ("relative", 0.001, 0.0), ("inverse", 20.0, -3.0)],
)
def test_every_measure_becomes_metres(measure, along, factor, shift):
    source = ModelDepth(RoadModel(measure, along, factor, shift))
    found = seen(source)
    near = GEOMETRY.flat_inverse_depth(CELLS) > 1 / 15.0
    np.testing.assert_allclose(found.z_m[near], truth()[near], rtol=0.03)
    assert 0.0 < source.log_scale_std < 0.1
    assert source.scale == pytest.approx(1 / factor, rel=0.05)


def test_the_model_gets_a_finer_view_of_the_same_rays():
    model = RoadModel()
    observed = View(200.0, yaw_rad=0.3)
    wanted = view_for(ModelDepth(model), observed)
    assert (wanted.width, wanted.height, wanted.focal_px, wanted.yaw_rad) == (640, 384, 400.0, 0.3)
    np.testing.assert_allclose(wanted.rays(8, 16), observed.rays(4, 8))
    seen(ModelDepth(model))
    assert model.sizes == [(640, 400.0)]


def test_metres_are_trusted_corrected_or_ignored():
    long = 1.3
    trusted, corrected, ignored = (ModelDepth(RoadModel(factor=long), p) for p in ("trusted", "corrected", "ignored"))
    near = GEOMETRY.flat_inverse_depth(CELLS) > 1 / 15.0
    ratios = [float(np.median(seen(source).z_m[near] / truth()[near])) for source in (trusted, corrected, ignored)]
    assert ratios == pytest.approx([long, 1.0, 1.0], rel=0.02)
    assert trusted.log_scale_std == TRUSTED_STD
    with pytest.raises(InputError, match="depth_scale is 'believed'; choose trusted"):
        ModelDepth(RoadModel(), "believed")


def test_without_a_road_metric_depth_stays_and_relative_depth_says_so():
    above = CELLS[:12]  # all above the horizon
    for measure, std in (("metric", PRIOR_STD), ("relative", SCALE_UNKNOWN_STD), ("inverse", SCALE_UNKNOWN_STD)):
        source = ModelDepth(RoadModel(measure))
        source.begin(frame())
        found = source(np.zeros((384, 640, 3), np.uint8), view_for(source, View(200.0)), GEOMETRY, above)
        assert source.log_scale_std == std and source.scale == 1.0
        assert (found.z_m > 0).all() == (measure != "inverse")


def test_a_metric_model_s_scale_is_filtered_per_camera_and_a_relative_one_s_is_not():
    metric, relative = RoadModel(factor=1.2), RoadModel("relative", factor=1.2)
    sources = [ModelDepth(metric), ModelDepth(relative)]
    for index in range(10):
        for source in sources:
            seen(source, index * 10**8)
    metric.factor = relative.factor = 2.0  # one image quite unlike the others
    for source in sources:
        seen(source, 10**9)
    assert sources[0].scale == pytest.approx(1 / 1.2, rel=0.02)
    assert sources[1].scale == pytest.approx(1 / 2.0, rel=0.02)
    seen(sources[0], 10**9, "other")
    assert sources[0].scale == pytest.approx(1 / 2.0, rel=0.02), "another camera has a filter of its own"
    seen(sources[0], 0)
    assert sources[0].scale == pytest.approx(1 / 2.0, rel=0.02), "the time has jumped back: it begins anew"


def test_a_blind_model_gives_no_depth():
    for measure in ("metric", "relative", "inverse"):
        assert (seen(ModelDepth(RoadModel(measure, is_blind=True))).z_m == 0).all()


def test_observing_announces_each_frame_and_pools_the_scale():
    class Source(ModelDepth):
        begun: list

        def begin(self, frame):
            self.begun.append(frame.name)
            super().begin(frame)

        def __call__(self, image, view, geometry, rays):
            assert image.shape == (view.height, view.width, 3) and view.width == 640
            found = super().__call__(image, view, geometry, rays)
            self.log_scale_std = 0.05 if self.begun[-1] == "first" else SCALE_UNKNOWN_STD
            return found

    torch = pytest.importorskip("torch")
    from cross_view_loc.matching.encoders import load_matcher
    from cross_view_loc.networks.weights import MATCHER_FILE, SHIPPED

    torch.set_num_threads(1)
    matcher, _ = load_matcher(SHIPPED / MATCHER_FILE, "cpu")
    source = Source(RoadModel())
    source.begun = []
    ground = observe_ground([frame(name="first"), frame(name="second")], matcher, source, "cpu")
    assert source.begun == ["first", "second"] and len(plan_views(CAMERA)) == 1
    assert ground.log_scale_std == pytest.approx(0.05 * math.sqrt(2), rel=0.01)
