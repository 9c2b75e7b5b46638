"""The VIGOR benchmark: signs of the labels, rolled panoramas, tile sizes, splits, and what is wrong with a tree."""

import json
import math
import re

import cv2
import numpy as np
import pair_helpers
import pytest

from cross_view_loc.cli import main
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.pair_bench import digest, measure_pairs, pairs_row
from cross_view_loc.evaluation.pairs import load_ahead, load_pair
from cross_view_loc.evaluation.vigor import tile_of_city, vigor_pairs
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.matching.loc2.specification import specification

METERS = {"NewYork": 0.113248, "Seattle": 0.100817, "SanFrancisco": 0.118141, "Chicago": 0.111262}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pair_helpers.write_vigor(tmp_path_factory.mktemp("vigor"))


def pairs_of(root, heading="known", area="same", labels="original", **more):
    return vigor_pairs(root, area, heading, labels, **more)


def test_offsets_have_their_signs_and_each_city_its_scale(root):
    """(30, −50): the camera lies 30 rows below and 50 columns to the right of the middle: south and east."""
    pairs = {pair.place: pair for pair in pairs_of(root)}
    for city, (down, left) in pair_helpers.VIGOR_OFFSETS.items():
        assert pairs[city].truth.east_m == pytest.approx(-left * METERS[city])
        assert pairs[city].truth.north_m == pytest.approx(-down * METERS[city])
        assert pairs[city].truth.yaw_rad == pairs[city].prior.yaw_rad == math.pi / 2
        assert pairs[city].prior.radius_m == pytest.approx(160 * METERS[city])
    u, v = load_pair(pairs["NewYork"]).aerial.pixel(pairs["NewYork"].truth.east_m, pairs["NewYork"].truth.north_m)
    assert (u, v) == pytest.approx((320 + 50, 320 + 30))


def test_areas_and_labels_are_those_asked_for(root):
    assert [pair.place for pair in pairs_of(root)] == ["NewYork", "Seattle", "SanFrancisco", "Chicago"]
    assert [pair.place for pair in pairs_of(root, area="cross")] == ["SanFrancisco", "Chicago"]
    assert [pair.place for pair in pairs_of(root, cities=["Chicago"])] == ["Chicago"]
    original, corrected = pairs_of(root)[0], pairs_of(root, labels="corrected")[0]
    assert original.truth.north_m - corrected.truth.north_m == pytest.approx(METERS["NewYork"])
    with pytest.raises(InputError, match=r"Seattle in .* are not tested in the cross area"):
        pairs_of(root, area="cross", cities=["Seattle"])


def test_a_rolled_panorama_looks_where_its_truth_says(root, tmp_path):
    """A mark due east of the camera is seen by the rolled frame, with the truth's heading, due east again."""
    own = pair_helpers.write_vigor(tmp_path / "v", {"NewYork": (0, 0)})
    picture = np.zeros((512, 1024, 3), np.uint8)
    picture[:, 3 * 256 - 2 : 3 * 256 + 2] = 255  # the middle is north, three quarters of the width are east
    cv2.imwrite(str(own / "NewYork" / "panorama" / "a.jpg"), picture)
    seen = set()
    for seed in range(5):
        (pair,) = pairs_of(own, "unknown", seed=seed, cities=["NewYork"])
        frame = load_pair(pair).frame
        column = int(np.argmax(np.roll(frame.image[256, :, 0].astype(float), 2).cumsum() >= 255 * 4)) - 3.5
        ray = frame.camera.unproject([[column, 256.0]])[0][0]
        body = frame.T_base_camera[:3, :3] @ ray
        azimuth = pair.truth.yaw_rad + math.atan2(body[1], body[0])
        assert math.degrees(math.remainder(azimuth, 2 * math.pi)) == pytest.approx(0.0, abs=1.0)
        assert pair.prior.yaw_range_rad == math.pi and pair.prior.yaw_rad == 0.0
        seen.add(round(pair.turn, 3))
    assert len(seen) == 5
    assert pairs_of(own, "unknown", seed=4, cities=["NewYork"])[0].turn == pair.turn


@pytest.mark.parametrize("heading", ["known", "unknown"])
def test_perfect_matches_have_no_error_in_every_city(root, heading):
    """Through the published alignment, each city's tile with its own size."""
    pairs = pairs_of(root, heading)
    localizer = Localizer(next(load_ahead(pairs)).aerial, LocalizerSettings(depth="flat", device="cpu"))
    localizer.published = pair_helpers.PerfectMatches(pairs, specification("vigor", "new_york"))
    errors = measure_pairs(pairs, localizer)
    assert max(error.error.position_m for error in errors) < 0.02
    assert max(abs(error.error.heading_deg) for error in errors) < 0.1


def test_imported_weights_see_the_tiles_at_their_size(root):
    """The tile they are given spans the city's whole satellite image, and the matcher's points with it."""

    class Imported:
        network = type("Network", (), {"to": lambda self, d: self, "eval": lambda self: self})()
        spec, backbone, device = specification("vigor"), None, "cpu"

    localizer = type("Holder", (), {"published": Imported()})()
    choose = tile_of_city(localizer)
    for pair in pairs_of(root):
        choose(load_pair(pair))
        assert localizer.published.spec.tile_m == pytest.approx(640 * METERS[pair.place])
    with pytest.raises(InputError, match="no city of the kitti tiles"):
        localizer.published = Imported()
        localizer.published.spec = specification("kitti")
        tile_of_city(localizer)(load_pair(pairs_of(root)[0]))


def test_an_offset_is_found_on_its_axis_with_its_sign(root):
    for heading in ("known", "unknown"):
        pairs = pairs_of(root, heading)
        errors = measure_pairs(pairs, pair_helpers.Knowing(pairs, forward_m=2.0, left_m=1.0, turn_deg=3.0))
        assert all(error.error.longitudinal_m == pytest.approx(2.0) for error in errors)
        assert all(error.error.lateral_m == pytest.approx(1.0) for error in errors)
        assert pairs_row(errors)["heading_mean_deg"] == pytest.approx(3.0)


def test_another_seed_is_another_bench(root):
    """A journal of other headings, or of other labels, is not gone on with."""
    first = digest(pairs_of(root, "unknown"))
    assert first == digest(pairs_of(root, "unknown"))
    assert first != digest(pairs_of(root, "unknown", seed=1)) != digest(pairs_of(root, "unknown", labels="corrected"))


def test_a_line_listed_twice_is_two_frames(root, tmp_path):
    own = pair_helpers.write_vigor(tmp_path / "v", {"Chicago": (1, 2)})
    file = own / "splits" / "Chicago" / "same_area_balanced_test.txt"
    file.write_text(file.read_text() * 2)
    names = [pair.name for pair in pairs_of(own, cities=["Chicago"])]
    assert names == ["Chicago/a.jpg", "Chicago/a.jpg#2"]


def command(root, *more):
    return main(["evaluate", "vigor", "--root", str(root), "--area", "same", "--device", "cpu", *map(str, more)])


def test_the_command_prints_rows_beside_what_is_published(root, capsys):
    arguments = ("--depth", "flat", "--city", "Chicago", "--heading", "known")
    assert command(root, *arguments, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert row["protocol"] == "vigor heading known" and row["labels"] == "corrected" and row["frames"] == 1
    assert row["cameras"] == "panorama" and row["area"] == "same"


FAULTS = {
    "labels": (
        lambda root: (root / "splits/Seattle/same_area_balanced_test.txt").unlink(),
        r"no same_area_balanced_test.txt in .*splits.Seattle \(same area, original labels\)",
    ),
    "line": (
        lambda root: (root / "splits/Seattle/same_area_balanced_test.txt").write_text("a.jpg s.png 3 south\n"),
        r"same_area_balanced_test.txt line 1 is 'a.jpg s.png 3 south'",
    ),
    "nan": (
        lambda root: (root / "splits/Seattle/same_area_balanced_test.txt").write_text("a.jpg s.png nan 3\n"),
        r"same_area_balanced_test.txt line 1 is",
    ),
    "satellite": (lambda root: (root / "Chicago/satellite/s.png").unlink(), r"no aerial image at .*Chicago"),
    "panorama": (
        lambda root: pair_helpers.save(root / "NewYork/panorama/a.jpg", np.zeros((300, 512, 3), np.uint8)),
        r"a.jpg is 512x300, no panorama twice as wide as high",
    ),
    "not an image": (
        lambda root: (root / "NewYork/panorama/a.jpg").write_text("<html>"),
        r"a.jpg cannot be read as an image",
    ),
    "tile": (
        lambda root: pair_helpers.save(root / "NewYork/satellite/s.png", np.zeros((320, 320, 3), np.uint8)),
        r"s.png is 320x320, not 640x640",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_trees_are_named_in_one_sentence(name, tmp_path, capsys):
    fault, words = FAULTS[name]
    root = pair_helpers.write_vigor(tmp_path / "vigor")
    fault(root)
    assert command(root, "--labels", "original", "--depth", "flat") != 0
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, message), message
