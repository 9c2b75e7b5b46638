"""Which weights a benchmark runs: ours, a folder's, imported ones; each in a journal of its own, and all go on."""

import json
import shutil

import loc2_parity
import pair_helpers
import pytest
import torch

from cross_view_loc.cli import main
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.evaluation.kitti import kitti_pairs
from cross_view_loc.evaluation.pair_bench import measure_pairs
from cross_view_loc.evaluation.pair_models import find_model
from cross_view_loc.evaluation.published import FIGURES, published_rows
from cross_view_loc.matching.loc2 import pipeline
from cross_view_loc.matching.loc2.convert import import_checkpoint
from cross_view_loc.networks.weights import SHIPPED


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return pair_helpers.write_kitti(tmp_path_factory.mktemp("kitti"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    torch.save(loc2_parity.state_dict(), folder / "matcher.pth")
    return import_checkpoint(folder / "matcher.pth", "kitti", folder / "loc2_kitti.safetensors")


def noise_score(matcher, ground, aerial):
    """Instead of the projectors, which take seconds: every match equally likely but for noise."""
    noise = torch.rand(matcher.spec.aerial_cells**2, len(ground.usable), generator=torch.Generator().manual_seed(0))
    return noise * torch.from_numpy(ground.usable)


@pytest.fixture
def run(root, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load_backbone", lambda name, device: lambda images: torch.zeros(1, 8, 2, 2))
    monkeypatch.setattr(pipeline.Loc2Matcher, "score", noise_score)

    def run(*more):
        arguments = ("--area", "same", "--depth", "flat", "--device", "cpu", "--json", *map(str, more))
        status = main(["evaluate", "kitti", "--root", str(root), *arguments])
        captured = capsys.readouterr()
        return json.loads(captured.out)["results"] if status == 0 else captured.err

    return run


def test_our_own_and_imported_weights_run_side_by_side_and_go_on(run, imported, tmp_path, monkeypatch):
    arguments = ("--model", "town", "--model", imported, "--frames", 2, "--out", tmp_path / "out")
    first = run(*arguments)
    assert [(row["model"], row["estimator"], row["frames"]) for row in first] == [
        ("town", "consensus", 2),
        ("loc2_kitti", "loc2", 2),
    ]
    journals = sorted(path.name for path in (tmp_path / "out").glob("*.jsonl"))
    assert len(journals) == 2
    lines = (tmp_path / "out" / journals[0]).read_text().splitlines()
    assert "weights" in json.loads(lines[0]) and len(lines) == 3
    (tmp_path / "out" / journals[0]).write_text("\n".join(lines[:2]) + "\n")  # as if it had been interrupted
    again = run(*arguments)
    for before, after in zip(first, again, strict=True):
        timeless = [{key: value for key, value in row.items() if "seconds" not in key} for row in (before, after)]
        assert timeless[0] == timeless[1]
    message = run("--model", "town", "--frames", 3, "--out", tmp_path / "out")
    assert "begun with another frames" in message and "--out" in message


def test_imported_weights_are_shown_the_published_crop(root, run, imported, monkeypatch):
    """The tile is 512 px of the benchmark's, in the middle of the noisy crop, its right where the prior heads."""
    tiles = []

    def spy(frames, prior, aerial_map, matcher, depth, settings):
        frame, spec = aerial_map.frame, matcher.spec
        features = matcher.aerial_features(aerial_map, prior, 0.0)
        patch = features.patch
        assert (patch.center_east_m, patch.center_north_m) == (0.0, 0.0) and spec.aerial_px == patch.image.shape[0]
        assert patch.meters_per_pixel * spec.aerial_px == pytest.approx(512 * 0.195829)
        tiles.append((*frame.to_map(0.0, 0.0), frame.yaw_rad + patch.rotation_rad))
        raise InputError("seen enough")

    monkeypatch.setattr("cross_view_loc.localizer.locate_loc2", spy)
    for variant in ("10", "180"):
        (row,) = run("--model", imported, "--variant", variant)
        assert row["failed"] == 3 and row["failed_reasons"] == {"seen enough": 3}
        for pair, (east_m, north_m, up_rad) in zip(kitti_pairs(root, "same", variant), tiles, strict=True):
            assert (east_m, north_m) == (pair.prior.east_m, pair.prior.north_m)
            assert up_rad == pytest.approx(pair.prior.yaw_rad + 1.5707963)
        tiles.clear()


def test_models_are_found_by_folder_file_and_name(imported, tmp_path, monkeypatch):
    assert find_model("town").folder == SHIPPED and find_model("town").loc2 is None
    assert find_model(str(imported), "some_backbone").backbone == "some_backbone"
    monkeypatch.setattr("cross_view_loc.evaluation.pair_models.models_folder", lambda: imported.parent)
    assert find_model("loc2_kitti").loc2 == imported
    own = tmp_path / "mine"
    own.mkdir()
    with pytest.raises(MissingInputError, match=r"no town_matcher.safetensors in .*mine"):
        find_model(str(own))
    shutil.copy(SHIPPED / "town_matcher.safetensors", own)
    assert (find_model(str(own)).name, find_model(str(own)).folder) == ("mine", own)
    prints = {find_model(str(own)).fingerprint("flat")["weights"], find_model("town").fingerprint("flat")["weights"]}
    assert len(prints) == 1  # the same weights
    with pytest.raises(MissingInputError, match="no precomputed depth in"):
        find_model("town").fingerprint(f"precomputed:{own}")


def test_unknown_models_are_refused_with_the_choices(run):
    message = run("--model", "loc3")
    assert "no model 'loc3'" in message and "--model town" in message


def test_a_refusal_that_repeats_the_prior_is_a_failure(root):
    """The published estimator says so when its matches agree on nothing: its prior stands in for it."""
    pairs = kitti_pairs(root, "same", "10")

    class Lost(pair_helpers.Knowing):
        def locate(self, frames, prior):
            found = super().locate(frames, prior)
            return type(found)(0, 0.0, 0.0, 0.0, found.covariance, accepted=False, reason="no alignment")

    errors = measure_pairs(pairs, Lost(pairs))
    assert [error.failed for error in errors] == ["no alignment"] * 3
    assert all(error.error.position_m == pytest.approx(error.error.prior_position_m) for error in errors)


def test_published_figures_are_those_of_the_setting():
    assert [row["method"] for row in published_rows("vigor", "unknown", ("cross",))] == ["Loc²", "GS-ViewBridge"]
    assert published_rows("kitti", "180", ("same", "cross")) == []
    for figure in FIGURES:
        assert figure.source and figure.position_mean_m > (figure.position_median_m or 0)
