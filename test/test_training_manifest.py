"""Training as a user runs it: from a manifest on the command line, with held-out data, either loss, resumed."""

import csv
import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from cross_view_loc.cli import main
from cross_view_loc.geometry.procrustes import Similarity
from cross_view_loc.matching.encoders import Matcher, load_matcher
from cross_view_loc.matching.matches import cell_centres
from cross_view_loc.networks.weights import SHIPPED, load_weights
from cross_view_loc.training.batches import MatcherBatch, ViewInputs
from cross_view_loc.training.checkpoint import checkpoint_path
from cross_view_loc.training.published_loss import match_losses, virtual_point_distance


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 255, (60, 60, 3), np.uint8), (600, 600), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "above.png"), texture)
    cv2.imwrite(str(tmp_path / "front.jpg"), texture[:192, :320])
    with (tmp_path / "m.csv").open("w") as file:
        file.write("image,camera,mount,east_m,north_m,yaw_deg,aerial,meters_per_pixel\n")
        for index in range(3):
            file.write(f'front.jpg,"pinhole:200,200,160,96",1.5 2,{index},0,{30 * index},above.png,0.2\n')
    return tmp_path / "m.csv"


def command(manifest, *more):
    weights = str(manifest.parent / "weights")
    fast = ["--steps", "2", "--batch", "1", "--workers", "1", "--log-every", "1", "--weights", weights]
    return ["train", "matcher", "--data", str(manifest), *fast, *more]


def test_a_matcher_trains_from_a_manifest_without_depth(manifest, capsys):
    """Depth comes from the package's network, the pose error on held-out data goes into the curve."""
    assert main(command(manifest, "--held-out", str(manifest), "--validate-every", "2")) == 0, capsys.readouterr().err
    path = manifest.parent / "weights" / "town_matcher.safetensors"
    _, metadata = load_matcher(path)
    assert metadata["manifests"] == [str(manifest)] and metadata["towns"] == [] and metadata["views"] == 3
    with path.with_suffix(".curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert 0 <= float(rows[1]["held_out_position_median_m"]) < 29 and rows[0]["held_out_recall_1m"] == ""
    assert not checkpoint_path(path).exists()  # finished: nothing to resume


def test_the_published_loss_trains_and_an_interrupted_run_resumes(manifest, monkeypatch, capsys):
    from cross_view_loc.commands import train as command_module

    arguments = command(manifest, "--loss", "loc2", "--precision", "float32")
    assert main(arguments) == 0, capsys.readouterr().err
    path = manifest.parent / "weights" / "town_matcher.safetensors"
    whole = load_weights(path)
    assert whole.metadata["settings"]["loss"] == "loc2"
    path.unlink()

    def interrupt(line):
        if line.startswith('{"step": 1'):
            row = json.loads(line)
            assert row.get("match_metric", row.get("match_flat")) > 0
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command_module, "_log", interrupt)
        assert main(arguments) == 130
    assert checkpoint_path(path).exists() and not path.exists()
    assert main([*arguments, "--resume"]) == 0
    resumed = load_weights(path)
    assert all(torch.equal(value, resumed.tensors[name]) for name, value in whole.tensors.items())


def test_depth_cannot_be_learned_from_images_without_it(manifest, capsys):
    assert main(["train", "depth", "--data", *[str(manifest)] * 3, "--steps", "1"]) == 1
    assert "without a depth file" in capsys.readouterr().err
    assert main(command(manifest, "--device", "cuda:99")) == 1
    assert main(["train", "manifest", "x", "--layout", "kitti", "--out", "k.csv"]) == 1
    assert "--list" in capsys.readouterr().err
    assert (SHIPPED / "town_depth.safetensors").exists()


# --- the published loss ---

CELLS, DEPTH = 40, 64


def planted(noise: float, heading_rad: float = 0.2) -> tuple[MatcherBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ground points whose descriptors are those of the aerial cells under them at a pose, and a batch that says so."""
    generator = torch.Generator().manual_seed(3)
    aerial = torch.nn.functional.normalize(torch.randn(1, DEPTH, CELLS, CELLS, generator=generator), dim=1)
    centres = cell_centres(CELLS)
    chosen = torch.randperm(CELLS * CELLS, generator=generator)[:400]
    truth = torch.tensor([1.3, -2.1])
    turned = centres[chosen] - truth
    c, s = math.cos(heading_rad), math.sin(heading_rad)
    patch = torch.stack([c * turned[:, 0] + s * turned[:, 1], -s * turned[:, 0] + c * turned[:, 1]], -1)
    body = torch.stack([patch[:, 1], -patch[:, 0]], -1)[None]
    descriptors = aerial.flatten(2)[0].T[chosen][None]
    descriptors = descriptors + noise * torch.randn(descriptors.shape, generator=generator)
    descriptors = torch.nn.functional.normalize(descriptors, dim=-1).requires_grad_()
    usable = torch.ones(1, 400, dtype=torch.bool)
    batch = MatcherBatch(
        ViewInputs(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)),
        torch.zeros(1, 3, 4, 4),
        {"metric": (body, usable), "flat": (body, usable)},
        depth_m=torch.full((1, 400), 10.0),
        log_spread=torch.full((1, 400), math.log(0.02)),
        prior=torch.zeros(1, 2),
        shift=truth[None],
        heading=torch.tensor([heading_rad]),
    )
    return batch, descriptors, torch.zeros(1, 400, 2), aerial


def losses(batch, descriptors, confidence, aerial):
    matcher = Matcher()
    with torch.no_grad():
        matcher.log_match_sharpness.fill_(math.log(30.0))
    return match_losses(matcher, batch, "metric", descriptors, confidence, aerial, torch.Generator().manual_seed(0))


def test_right_matches_at_the_right_pose_cost_almost_nothing():
    pose, match = (loss.item() for loss in losses(*planted(0.0)))
    assert pose < 0.05 and match < 0.05


def test_a_wrong_label_costs_what_the_virtual_points_are_moved():
    batch, *features = planted(0.0)
    moved = replace(batch, shift=batch.shift + 2.0)
    pose, match = losses(moved, *features)
    assert pose.item() == pytest.approx(math.hypot(2, 2), abs=0.05) and match.item() > 3


def test_descending_the_loss_mends_noisy_descriptors():
    batch, descriptors, confidence, aerial = planted(0.12)
    before = losses(batch, descriptors, confidence, aerial)
    x = descriptors
    for _ in range(15):
        pose, match = losses(batch, torch.nn.functional.normalize(x, dim=-1), confidence, aerial)
        (gradient,) = torch.autograd.grad(pose + 0.1 * match, x)
        assert torch.isfinite(gradient).all()
        x = (x - 0.05 * gradient / gradient.norm(dim=-1).amax().clamp(min=1e-9)).detach().requires_grad_()
    after = losses(batch, torch.nn.functional.normalize(x, dim=-1), confidence, aerial)
    assert all(now.item() < then.item() for now, then in zip(after, before, strict=True))


def test_nothing_usable_costs_nothing_that_is_not_a_number():
    batch, *features = planted(0.0)
    nothing = {kind: (points, torch.zeros_like(usable)) for kind, (points, usable) in batch.points.items()}
    empty = replace(batch, points=nothing)
    assert all(math.isfinite(loss.item()) for loss in losses(empty, *features))


def test_virtual_points_of_a_turn_move_by_their_distance_from_the_vehicle():
    solution = Similarity(torch.tensor([math.pi]), torch.tensor([3.0]), torch.zeros(1, 2))
    axis = np.linspace(-2.5, 2.5, 10)
    expected = 2 * np.hypot(*np.meshgrid(axis, axis)).mean()
    assert float(virtual_point_distance(solution, torch.zeros(1), torch.zeros(1, 2))) == pytest.approx(
        expected, rel=1e-3
    )
