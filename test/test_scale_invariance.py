"""The published finding: what a relative depth is multiplied by changes nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.depth.modelled import ModelDepth
from cross_view_loc.depth.relative import AnchoredDepth
from cross_view_loc.evaluation.town import make_bench
from cross_view_loc.localizer import Localizer, LocalizerSettings

FACTORS = (0.001, 1.0, 1000.0)


@pytest.fixture(scope="module")
def town():
    bench = make_bench(9004, 2, town_size_m=260.0)
    localizers = [
        Localizer(bench.orthophoto, LocalizerSettings(estimator=name, window_frames=1, threads=1))
        for name in ("consensus", "matches")
    ]
    return bench.frames[1], {each.settings.estimator: (each, each.depth) for each in localizers}


class Scaled:
    """The shipped network's depth, in units that nobody knows."""

    kind, log_scale_std = "metric", 0.9

    def __init__(self, inner, factor):
        self.inner, self.factor = inner, factor

    def __call__(self, image, view, geometry, rays):
        found = self.inner(image, view, geometry, rays)
        return found._replace(z_m=found.z_m * self.factor)


class Rendered:
    """A relative or inverse model that knows the scene; images are the frame's own size."""

    name, licence, along = "rendered", "none", "z"

    def __init__(self, depth_m, measure, factor):
        self.depth_m, self.measure, self.factor = depth_m, measure, factor

    def __call__(self, images, focal_px):
        height, width = images.shape[1:3]
        rows, columns = (
            (np.linspace(0, side, count, endpoint=False) + 0.5 * side / count).astype(int)
            for side, count in zip(self._shown(height, width), (height, width), strict=True)
        )
        top = (self.depth_m.shape[0] - self._shown(height, width)[0]) // 2
        z_m = self.depth_m[np.clip(rows + top, 0, self.depth_m.shape[0] - 1)][:, columns].astype(np.float64)
        inverse = np.where(z_m > 0, 1 / np.maximum(z_m, 1e-3), 0.0)
        if self.measure == "inverse":
            return (inverse * self.factor + 0.3 * self.factor)[None].astype(np.float32)
        return np.where(z_m > 0, z_m * self.factor, np.nan)[None].astype(np.float32)

    def _shown(self, height, width):
        """Rows and columns of the camera's image that a view shows: its whole width."""
        return round(height * self.depth_m.shape[1] / width), self.depth_m.shape[1]


@pytest.mark.parametrize(
    ("estimator", "source"),
    [("consensus", "anchored"), ("consensus", "relative"), ("consensus", "inverse"), ("matches", "relative")],
)
def test_the_unit_of_depth_does_not_matter(town, estimator, source):
    moment, localizers = town
    localizer, learned = localizers[estimator]

    def locate(factor):
        if source == "anchored":
            localizer.depth = AnchoredDepth(Scaled(learned, factor))
        else:
            localizer.depth = ModelDepth(Rendered(moment.depth_m[0], source, factor))
        return localizer.locate(moment.frames, moment.prior)

    found = [locate(factor) for factor in FACTORS]
    one = found[FACTORS.index(1.0)]
    for estimate in found:
        assert math.hypot(estimate.east_m - one.east_m, estimate.north_m - one.north_m) < 0.01
        assert abs(estimate.yaw_rad - one.yaw_rad) < math.radians(0.05)
        assert estimate.scale == pytest.approx(one.scale, abs=0.005)
        assert 0.0 < estimate.scale_std < 0.15
    if estimator == "consensus":
        assert math.hypot(one.east_m - moment.truth.east_m, one.north_m - moment.truth.north_m) < 2.0


def test_a_frame_that_is_followed_leaves_the_scale_as_one_that_is_located(town):
    """A run that is continued answers as one that was never interrupted, and a reset one as a fresh one."""
    moment, localizers = town
    localizer, _ = localizers["consensus"]
    earlier = [replace(frame, stamp_ns=frame.stamp_ns - 1_000_000_000) for frame in moment.frames]
    found = {}
    for way in ("located", "followed", "fresh", "reset"):
        model = Rendered(moment.depth_m[0], "metric", 1.08)
        localizer.depth = source = ModelDepth(model)
        localizer.window.clear()
        if way == "followed":
            localizer.follow(earlier)
        elif way != "fresh":
            localizer.locate(earlier, moment.prior)
        if way == "reset":
            localizer.forget()
        source.model = Rendered(moment.depth_m[0], "metric", 1.0)
        source._maps.clear()  # the same image, seen otherwise
        estimate = localizer.locate(moment.frames, moment.prior)
        found[way] = (source.scale, estimate.east_m, estimate.north_m, estimate.scale)
    assert found["followed"] == found["located"]
    assert found["reset"] == found["fresh"]
    assert abs(found["located"][0] - found["fresh"][0]) > 0.01
