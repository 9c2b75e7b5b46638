"""Training: data that means what it says, losses that fall, weights that load where they are used."""

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.cli import main
from cross_view_loc.depth.learned import DepthNetwork
from cross_view_loc.geometry.transforms import yaw_of
from cross_view_loc.matching.consensus import Lattice, body_to_patch
from cross_view_loc.matching.encoders import AERIAL_METERS_PER_PIXEL, load_matcher
from cross_view_loc.matching.modes import Mode
from cross_view_loc.networks.weights import load_into, load_weights, save_weights
from cross_view_loc.training.batches import PATCH_PX, lifted, matcher_sample, true_depth
from cross_view_loc.training.calibration import ScoredFrame, fit
from cross_view_loc.training.town_data import TOWN_SIZE_M, depth_at_cells, load_town, render_town
from cross_view_loc.training.train import TrainingSettings, depth_errors, train_depth, train_matcher


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return load_town(render_town(7, tmp_path_factory.mktemp("towns"), views_per_drive=6, drives=1, orthophotos=1))


def test_lifted_cells_lie_on_the_ground_of_the_town(town):
    """Nominal geometry with rendered depth: road cells come out near the terrain's height."""
    from cross_view_loc.simulation.town import Town

    ground = Town(7, size_m=TOWN_SIZE_M)
    errors = []
    for index in range(len(town.images)):
        T = town.T_map_base[index]
        points, usable = (values[: 48 * 40] for values in lifted(town, index, true_depth(town, index)))
        c, s = math.cos(yaw_of(T)), math.sin(yaw_of(T))
        east = T[0, 3] + c * points[:, 0] - s * points[:, 1]
        north = T[1, 3] + s * points[:, 0] + c * points[:, 1]
        near = usable & (np.hypot(points[:, 0], points[:, 1]) < 15) & (np.arange(len(points)) > len(points) * 2 // 3)
        column, row = np.floor(ground.ground_pixel(np.stack([east, north], -1))).astype(int).T
        material = ground.ground_material[row, column]
        errors.append(np.mean(material[near] <= 1) if near.any() else np.nan)
    assert np.nanmedian(errors) > 0.8  # asphalt or pavement under the lower third of the image


def test_a_sample_places_its_cells_on_its_own_patch(town):
    """Truth in patch coordinates, the patch's own geometry and the lifted points must be one frame."""
    rng = np.random.default_rng(0)
    for index in range(3):
        sample = matcher_sample(town, index, {}, rng)
        T = town.T_map_base[index]
        rotation = yaw_of(T) - sample["heading"]
        c, s = math.cos(rotation), math.sin(rotation)
        at = sample["prior"] + sample["shift"]
        east_north = T[:2, 3] - np.array([[s, c], [-c, s]]) @ at  # the patch centre, from the truth in the patch
        patch = town.maps[0].patch(*east_north, PATCH_PX, AERIAL_METERS_PER_PIXEL, rotation)
        assert np.abs(patch.image.astype(int) - sample["patch"]).max() <= 1


def test_depth_at_cells_is_exact_on_a_plane_and_keeps_edges():
    v = np.arange(64) + 0.5
    inverse = np.broadcast_to(((v + 30.0) / 640.0)[:, None], (64, 96))
    cells = depth_at_cells((1.0 / inverse).astype(np.float32), 8, 16)
    expected = 640.0 / ((np.arange(8) + 0.5) * 8 + 30.0)
    assert np.allclose(cells, np.broadcast_to(expected[:, None], (8, 6)), rtol=2e-3)
    edge = np.full((64, 96), 5.0, np.float32)
    edge[:, 40:] = 50.0
    assert set(np.unique(depth_at_cells(edge, 8, 16))) <= {5.0, 50.0}


def test_both_networks_learn_and_their_weights_load(town, tmp_path):
    log: list[str] = []
    depth = tmp_path / "town_depth.safetensors"
    untrained, _ = DepthNetwork(), torch.manual_seed(0)
    before = depth_errors(untrained, [town])[1]
    train_depth([town] * 3, TrainingSettings(30, 2, workers=1), depth, log.append)
    network = DepthNetwork()
    load_into(network, load_weights(depth))
    assert depth_errors(network.eval(), [town])[1] < 0.75 * before
    settings = TrainingSettings(40, 1, workers=1, flat_share=0.0, log_every=20)
    train_matcher([town], depth, settings, tmp_path / "town_matcher.safetensors", log.append)
    losses = [json.loads(line) for line in log if line.startswith("{")]
    uniform = math.log(2 * 51 * 51)
    assert losses[-1]["pose_metric"] < uniform - 0.5
    matcher, metadata = load_matcher(tmp_path / "town_matcher.safetensors")
    assert metadata["towns"] == [7] and not matcher.training


def test_test_towns_are_refused(capsys, tmp_path):
    assert main(["train", "data", "--out", str(tmp_path), "--seeds", "8999-9001"]) == 1
    assert "9000" in capsys.readouterr().err


def test_saving_keeps_integers_and_metadata(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.ones(2), "n": torch.tensor(5)}, {"towns": [1, 2]})
    weights = load_weights(tmp_path / "w.safetensors")
    assert weights.tensors["n"].item() == 5 and weights.metadata == {"towns": [1, 2]}
    assert weights.tensors["a"].dtype == torch.float32


def test_calibration_recovers_a_temperature():
    """Scores three times too sharp for the errors that happen must be cooled by about three."""
    rng = np.random.default_rng(3)
    lattice = Lattice(torch.zeros(2), 12, torch.deg2rad(torch.linspace(-10, 10, 11)), torch.zeros(1), 0.05)
    shifts = lattice.shifts_m
    frames = []
    for _ in range(150):
        centre = rng.normal(0, 1.0, 2)
        score = -((shifts[None] - centre[0]) ** 2 + (shifts[:, None] - centre[1]) ** 2) / 2
        score = score[None] - (lattice.headings_rad / math.radians(2.0))[:, None, None] ** 2 / 2
        laplace = torch.diag(torch.tensor([1, 1, 1.2e-3, 1e-4])) / 3
        mode = Mode(torch.tensor([*centre, 0.0, 0.0], dtype=torch.float32), 0.0, laplace)
        truth = np.array([0.0, 0.0, rng.normal(0, math.radians(2.0))])
        frames.append(ScoredFrame(3 * score[None], lattice, (mode,), torch.zeros(1), mode, truth))
    calibration, _ = fit(frames)
    assert 2.0 <= calibration.temperature <= 4.0
    assert 0.5 < calibration.covariance_factor < 2.0


def test_body_to_patch_matches_the_training_axes():
    assert body_to_patch(torch.tensor([3.0, 1.0])).tolist() == [-1.0, 3.0]
