"""The KITTI benchmark: noise, axes and signs of the published protocol, resumption, and what is wrong with a tree."""

import json
import math
import re

import numpy as np
import pair_helpers
import pytest

from cross_view_loc.cli import main
from cross_view_loc.datasets.selection import evenly_spaced
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.evaluation.kitti import kitti_pairs, variant_name
from cross_view_loc.evaluation.pair_bench import measure_pairs, pairs_row
from cross_view_loc.evaluation.pair_journal import PairJournal
from cross_view_loc.evaluation.pairs import load_ahead
from cross_view_loc.evaluation.published import published_rows
from cross_view_loc.geometry.transforms import yaw_of
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.matching.loc2.specification import specification


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pair_helpers.write_kitti(tmp_path_factory.mktemp("kitti"))


@pytest.fixture
def own(tmp_path):
    return pair_helpers.write_kitti(tmp_path / "kitti")


def row_of(pairs, localizer):
    return pairs_row(measure_pairs(pairs, localizer), model="m")


@pytest.mark.parametrize("text", ["10", "±10", "+-10", "±10°"])
def test_variants_may_be_written_as_one_likes(text):
    assert variant_name(text) == "10" and variant_name("±180") == "180"
    with pytest.raises(InputError, match=r"±20.*choose ±10 or ±180"):
        variant_name("±20")


def test_a_line_of_noise_gives_the_prior_exactly(root, tmp_path):
    """A vehicle that heads north, so that axes are plain: ahead is north, left is west."""
    lonely = pair_helpers.write_kitti(tmp_path / "north", {"0000000001": (math.pi / 2, 0.5, -0.25, 0.4)})
    (pair,) = kitti_pairs(lonely, "same", "10")
    assert (pair.truth.east_m, pair.truth.north_m) == pytest.approx((0.26, 1.08))  # the camera: 0.26 m right of GPS
    assert pair.truth.yaw_rad == pytest.approx(math.pi / 2)
    # shift x 0.5: 10 m back; shift y -0.25: 5 m to the left; θ 0.4: the vehicle heads 4° left of what the crop says
    assert (pair.prior.east_m, pair.prior.north_m) == pytest.approx((0.26 - 5.0, 1.08 - 10.0))
    assert math.degrees(pair.prior.yaw_rad) == pytest.approx(90.0 - 4.0)
    assert math.degrees(pair.prior.yaw_range_rad) == pytest.approx(10.0)
    (turned,) = kitti_pairs(lonely, "same", "180")
    assert (turned.prior.east_m, turned.prior.north_m) == pytest.approx((0.26 - 5.0, 1.08 - 10.0))
    assert turned.prior.yaw_range_rad == math.pi
    assert math.degrees(turned.prior.yaw_rad) == pytest.approx(90.0 - 72.0)  # how the crop is turned


def test_the_prior_is_the_middle_of_the_published_crop(root):
    """The crop made step by step as published shows the camera where the prior's negative says, heading right by θ."""
    for pair, (_, x, y, theta) in zip(kitti_pairs(root, "same", "10"), pair_helpers.KITTI_FRAMES.values(), strict=True):
        mpp = 0.195829
        camera = np.array([1.08, 0.26]) / mpp  # pixels right and down of the middle once the vehicle heads right
        middle = camera + np.array([-x * 20.0, y * 20.0]) / mpp  # shifts negated; up is minus down
        in_crop = np.array([[1, 0], [0, -1]]) @ (camera - middle) * mpp  # right, up
        angle = theta * math.radians(10.0)  # the picture is turned counter-clockwise
        in_crop = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ in_crop
        difference = np.array([pair.truth.east_m - pair.prior.east_m, pair.truth.north_m - pair.prior.north_m])
        c, s = math.cos(pair.prior.yaw_rad), math.sin(pair.prior.yaw_rad)
        assert np.array([[c, s], [-s, c]]) @ difference == pytest.approx(in_crop, abs=1e-9)
        assert math.remainder(pair.truth.yaw_rad - pair.prior.yaw_rad - angle, 2 * math.pi) == pytest.approx(0)
        assert np.abs(in_crop).max() <= pair.prior.radius_m  # the search holds the truth, the worst noise too


def test_the_frame_is_what_the_car_saw(root):
    pair, *_ = kitti_pairs(root, "same", "10")
    loaded = next(load_ahead([pair]))
    assert loaded.frame.camera.fx == 721.5377 and loaded.frame.camera.cx == 609.5593 + 0.5
    assert loaded.frame.T_base_camera[:3, 3] == pytest.approx(loaded.frame.R_level_base.T @ [0.0, 0.0, 1.65])
    assert yaw_of(loaded.frame.R_level_base) == pytest.approx(0) and loaded.frame.R_level_base[2, 1] == pytest.approx(
        math.sin(0.02) * math.cos(0.01)
    )
    assert loaded.aerial.meters_per_pixel == 0.195829


@pytest.mark.parametrize("variant", ["10", "180"])
def test_a_localizer_that_is_right_has_no_error(root, variant):
    pairs = kitti_pairs(root, "cross", variant)
    row = row_of(pairs, pair_helpers.Knowing(pairs))
    assert row["frames"] == 3 and row["failed"] == 0
    for name in ("position_mean_m", "heading_mean_deg", "lateral_mean_m", "longitudinal_mean_m"):
        assert row[name] == 0.0
    assert row["recall_1m"] == row["recall_3deg"] == row["published_lateral_recall_1m"] == 1.0


@pytest.mark.parametrize("variant", ["10", "180"])
def test_perfect_matches_have_no_error_through_the_real_alignment(root, variant):
    pairs = kitti_pairs(root, "same", variant)
    localizer = Localizer(next(load_ahead(pairs)).aerial, LocalizerSettings(depth="flat", device="cpu"))
    localizer.published = pair_helpers.PerfectMatches(pairs, specification("kitti"))
    errors = measure_pairs(pairs, localizer)
    assert max(error.error.position_m for error in errors) < 1e-3
    assert max(abs(error.error.heading_deg) for error in errors) < 1e-3
    assert errors[1].error.prior_position_m == pytest.approx(20 * math.sqrt(2))


def test_an_offset_is_found_on_its_axis_with_its_sign(root):
    pairs = kitti_pairs(root, "same", "10")
    errors = measure_pairs(pairs, pair_helpers.Knowing(pairs, forward_m=2.0, left_m=1.0, turn_deg=3.0))
    for error in errors:
        assert error.error.longitudinal_m == pytest.approx(2.0) and error.error.lateral_m == pytest.approx(1.0)
        assert error.error.heading_deg == pytest.approx(3.0)
    row = pairs_row(errors)
    assert row["lateral_mean_m"] == row["published_longitudinal_mean_m"] == 1.0
    assert row["longitudinal_mean_m"] == row["published_lateral_mean_m"] == 2.0
    assert row["longitudinal_recall_1m"] == 0.0 and row["published_lateral_recall_3m"] == 1.0
    assert row["position_mean_m"] == pytest.approx(math.sqrt(5), abs=1e-4)
    back = measure_pairs(pairs, pair_helpers.Knowing(pairs, forward_m=-2.0, left_m=-1.0, turn_deg=-3.0))
    assert back[0].error.lateral_m == pytest.approx(-1.0) and back[0].error.heading_deg == pytest.approx(-3.0)


class Failing(pair_helpers.Knowing):
    """Cannot say anything about the second frame."""

    def locate(self, frames, prior):
        if self.calls == 1:
            self.calls += 1
            raise NoImageryError("nothing there")
        return super().locate(frames, prior)


def test_a_failed_frame_counts_with_its_prior(root):
    pairs = kitti_pairs(root, "same", "10")
    row = row_of(pairs, Failing(pairs))
    assert row["failed"] == 1 and row["failed_reasons"] == {"nothing there": 1} and row["frames"] == 3
    assert row["position_mean_m"] == pytest.approx(20 * math.sqrt(2) / 3, abs=1e-3)
    assert row["heading_mean_deg"] == pytest.approx(10.0 / 3, abs=1e-3)


class Interrupted(pair_helpers.Knowing):
    def locate(self, frames, prior):
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().locate(frames, prior)


def test_an_interrupted_run_goes_on_to_the_same_result(root, tmp_path):
    pairs = kitti_pairs(root, "same", "10")
    whole = [error.error.position_m for error in measure_pairs(pairs, pair_helpers.Knowing(pairs, 0.1, 0.2, 0.3))]
    journal = PairJournal(tmp_path / "j.jsonl", {"model": "a"})
    with pytest.raises(KeyboardInterrupt):
        measure_pairs(pairs, Interrupted(pairs, 0.1, 0.2, 0.3), journal)
    journal.close()
    with (tmp_path / "j.jsonl").open("a") as file:
        file.write('{"name": "torn')  # a machine that lost power
    again = PairJournal(tmp_path / "j.jsonl", {"model": "a"})
    rest = pair_helpers.Knowing(pairs, 0.1, 0.2, 0.3)
    assert [error.error.position_m for error in measure_pairs(pairs, rest, again)] == whole and rest.calls == 1
    again.close()
    with pytest.raises(InputError, match=r"begun with another model.*--out"):
        PairJournal(tmp_path / "j.jsonl", {"model": "b"})


def test_some_frames_are_evenly_spaced(root):
    names = [pair.name[-8:-4] for pair in kitti_pairs(root, "same", "10", frames=2)]
    assert names == ["0003", "0009"]


def test_every_nth_frame_of_the_list(root, capsys):
    numbers = list(range(10))
    assert evenly_spaced(numbers, None, 3) == [0, 3, 6, 9] and evenly_spaced(numbers, 2, 3) == [0, 9]
    assert [pair.name[-8:-4] for pair in kitti_pairs(root, "same", "10", stride=2)] == ["0003", "0009"]
    assert command(root, "--stride", 0) == 1 and "--stride is 0; give 1" in capsys.readouterr().err


def command(root, *more):
    return main(["evaluate", "kitti", "--root", str(root), "--variant", "±10", *map(str, more)])


def test_the_command_prints_rows_and_continues(root, tmp_path, capsys):
    """The shipped networks on grey images: whatever they say, it is said twice alike."""
    arguments = ("--area", "same", "--frames", 1, "--depth", "flat", "--device", "cpu", "--out", tmp_path / "out")
    assert command(root, *arguments, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    (row,) = printed["results"]
    assert row["protocol"] == "kitti ±10" and row["area"] == "same" and row["model"] == "town" and row["frames"] == 1
    assert row["window"] == 1 and row["cameras"] == "front" and row["dataset"] == "kitti"
    assert printed["published"] == published_rows("kitti", "10", ("same",)) and len(printed["published"]) == 5
    assert command(root, *arguments) == 0
    text = capsys.readouterr().out
    assert "Loc²" in text and "swapped" in text and "1.13" in text
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == printed  # seconds and all


def edit(path, text):
    path.write_text(text)


FAULTS = {
    "list": (lambda root: (root / "test1_files.txt").unlink(), r"no test1_files.txt \(same area\).*--list"),
    "line": (lambda root: edit(root / "test1_files.txt", "a.png 1 2\n"), r"test1_files.txt line 1 is 'a.png 1 2'"),
    "noise": (
        lambda root: edit(root / "test1_files.txt", f"{pair_helpers.DATE}/{pair_helpers.DRIVE}/0000000003.png\n"),
        r"0000000003.png has no noise",
    ),
    "word": (
        lambda root: edit(root / "test1_files.txt", f"{pair_helpers.DATE}/{pair_helpers.DRIVE}/0000000003.png 1 x 2\n"),
        r"line 1: 'x' is not a number",
    ),
    "empty": (lambda root: edit(root / "test1_files.txt", "\n"), r"test1_files.txt lists nothing"),
    "satmap": (
        lambda root: next((root / "satmap").rglob("*7.png")).unlink(),
        r"no aerial image at .*0000000007.png.*complete the data set",
    ),
    "satmaps": (lambda root: (root / "satmap").rename(root / "sat"), r"no folder satmap"),
    "size": (
        lambda root: pair_helpers.save(next(root.rglob("image_02/data/*3.png")), np.zeros((370, 1226, 3), np.uint8)),
        r"0000000003.png is 1226x370 but its calibration is for 1242x375",
    ),
    "tile": (
        lambda root: pair_helpers.save(next((root / "satmap").rglob("*3.png")), np.zeros((512, 512, 3), np.uint8)),
        r"is 512x512, not 1280x1280",
    ),
    "oxts": (lambda root: next(root.rglob("oxts/data/*3.txt")).unlink(), r"no pose at .*0000000003.txt"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_trees_are_named_in_one_sentence(name, own, capsys):
    fault, words = FAULTS[name]
    fault(own)
    assert command(own, "--area", "same", "--depth", "flat", "--device", "cpu") != 0
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, message), message
