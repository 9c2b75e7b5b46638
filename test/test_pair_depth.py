"""Stored depth in the benchmarks: each image's own, rolled with its panorama."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pair_helpers
import pytest

from cross_view_loc.depth.source import FlatGround
from cross_view_loc.depth.stored import Provenance, write_sidecar
from cross_view_loc.evaluation.pair_depth import show_stored_depth
from cross_view_loc.evaluation.pair_models import find_model
from cross_view_loc.evaluation.pairs import load_pair
from cross_view_loc.evaluation.vigor import vigor_pairs


class Stored:
    """Depth of half the images' size whose nearest column is the one that is white in the image."""

    def __init__(self, with_spread):
        self.with_spread, self.asked = with_spread, []

    def _maps(self, image):
        column = int(cv2.imread(str(image))[0, :, 0].argmax()) // 2
        depth_m = np.full((128, 256), 50, np.float32)
        depth_m[:, column] = 3.0
        return depth_m

    def maps(self, image):
        return SimpleNamespace(log_spread=-self._maps(image) if self.with_spread else None)

    def depth_m(self, image, camera):
        self.asked.append((image, camera.width))
        return self._maps(image)

    def source(self, depth_m, camera, log_spread=None):
        return SimpleNamespace(depth_m=depth_m, log_spread=log_spread)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = pair_helpers.write_vigor(tmp_path_factory.mktemp("vigor"), {"Chicago": (1, 2)})
    image = np.zeros((256, 512, 3), np.uint8)
    image[:, 100:102] = 255
    pair_helpers.save(root / "Chicago" / "panorama" / "a.jpg", image)
    return vigor_pairs(root, "same", "known", "corrected", cities=["Chicago"])[0]


@pytest.mark.parametrize("turn", [0.0, 0.25, 508 / 512])
@pytest.mark.parametrize("with_spread", [True, False])
def test_depth_turns_with_its_panorama(pair, turn, with_spread):
    loaded = load_pair(replace(pair, turn=turn))
    stored = Stored(with_spread)
    localizer = SimpleNamespace(depth=stored)
    show = show_stored_depth(localizer)
    for _ in range(2):  # the second pair is read from the folder again, not from the first one's depth
        show(loaded)
    assert stored.asked == [(pair.image, 512)] * 2
    column = int(localizer.depth.depth_m[0].argmin())
    assert loaded.frame.image[0, 2 * column : 2 * column + 2].min() > 200
    if with_spread:
        assert int(localizer.depth.log_spread[0].argmax()) == column
    else:
        assert localizer.depth.log_spread is None


def test_other_depth_sources_are_left_alone(pair):
    localizer = SimpleNamespace(depth=FlatGround())
    show_stored_depth(localizer)(load_pair(pair))
    assert isinstance(localizer.depth, FlatGround)


def test_depth_that_another_source_made_is_told_apart(tmp_path):
    told = []
    for source in ("flat", "learned"):
        write_sidecar(tmp_path, Provenance(source, "z", "metric", 0.1, "", "", "kitti", "by the data set"))
        told.append(find_model("town").fingerprint(f"precomputed:{tmp_path}"))
    assert told[0] != told[1] and told[1] == find_model("town").fingerprint(f"precomputed:{tmp_path}")
