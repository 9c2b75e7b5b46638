"""The training loop on tiny networks: repeatable, resumable, the same however many processes share the work."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.training.checkpoint import checkpoint_path
from cross_view_loc.training.curves import Curve, curve_path
from cross_view_loc.training.distributed import ALONE, Processes, joined
from cross_view_loc.training.optimise import Run, on_device, optimise
from cross_view_loc.training.replicas import merge_buffers, replicate
from cross_view_loc.training.settings import TrainingSettings


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1))
        self.unused = nn.Parameter(torch.ones(3))


def make(index):
    generator = torch.Generator().manual_seed(index)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    return x, x.mean((1, 2, 3))


def step_loss(network, batch):
    x, y = batch
    loss = (network.body(x)[:, 0] - y).square().mean()
    return loss, {"tiny": loss.item()}


def train(out, steps=12, workers=2, processes=ALONE, log=lambda line: None, **options):
    torch.manual_seed(0)
    network = Tiny()
    settings = TrainingSettings(steps, 4, workers=workers, log_every=4, bf16=False, validate_every=6)
    optimise(network, make, step_loss, settings, Run(out, log, processes=processes, **options))
    return network


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_two_workers_give_the_same_weights_every_time(tmp_path):
    first = train(tmp_path / "a.safetensors")
    assert all(same(first, train(tmp_path / "b.safetensors")) for _ in range(3))
    assert not torch.equal(first.body[1].running_mean, torch.zeros(4))  # statistics were kept at all


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_resumes_to_the_same_weights_and_curve(tmp_path, workers):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    expected = train(whole, workers=workers)

    def interrupt(line):
        if '"step": 8' in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, workers=workers, log=interrupt)
    assert same(expected, train(broken, workers=workers, resume=True))

    def losses(out):
        with curve_path(out).open() as file:
            return [(row["step"], row["learning_rate"], row["tiny"]) for row in csv.DictReader(file)]

    assert losses(whole) == losses(broken) and [step for step, *_ in losses(whole)] == ["4", "8", "12"]


def test_resuming_names_what_is_missing_or_was_changed(tmp_path):
    out = tmp_path / "a.safetensors"
    with pytest.raises(MissingInputError, match=r"a\.checkpoint\.pt.*--resume"):
        train(out, resume=True)
    train(out)
    with pytest.raises(InputError, match="steps 12, not 20"):
        train(out, steps=20, resume=True)
    with pytest.raises(InputError, match="batches_per_step 2, not 1"):
        train(out, workers=1, resume=True)


def test_statistics_of_replicas_are_the_mean_and_parameters_are_shared():
    network = Tiny()
    replicas = replicate(network, 2)
    assert replicas[1].body[0].weight is network.body[0].weight
    for replica, value in zip(replicas, (1.0, 3.0), strict=True):
        replica.body[1].running_mean.fill_(value)
    merge_buffers(replicas, Processes())
    assert all(replica.body[1].running_mean.tolist() == [2.0] * 4 for replica in replicas)


def test_validation_is_recorded_and_the_network_goes_on_training(tmp_path):
    modes = []

    def validate(network):
        modes.append(network.training)
        return {"held_out": 0.5}

    train(tmp_path / "a.safetensors", validate=validate)
    with curve_path(tmp_path / "a.safetensors").open() as file:
        rows = {row["step"]: row["held_out"] for row in csv.DictReader(file)}
    assert rows == {"4": "", "6": "0.5", "8": "", "12": "0.5"} and modes == [False, False]


def test_an_unused_parameter_is_left_alone(tmp_path):
    assert train(tmp_path / "a.safetensors").unused.tolist() == [1.0, 1.0, 1.0]


def test_a_curve_gains_columns_and_drops_rows_after_the_resumed_step(tmp_path):
    path = tmp_path / "a.curve.csv"
    curve = Curve(path)
    curve.add(1, {"a": 1.0})
    curve.add(2, {"a": 2.0, "b": 3.0})
    Curve(path, keep_until_step=1).add(2, {"b": 4.0})
    assert path.read_text().split() == ["step,a,b", "1,1.0,", "2,,4.0"]


def test_nested_batches_move_whole():
    moved = on_device({"x": (torch.ones(2), 3)}, torch.device("meta"))
    assert moved["x"][0].device.type == "meta" and moved["x"][1] == 3


def test_an_incomplete_torchrun_environment_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"RANK.*torchrun"), joined("cpu"):
        pass


def two_processes(folder: Path) -> None:
    """What each process that torchrun starts does."""
    with joined("cpu") as (processes, _):
        network = train(folder / "two.safetensors", workers=1, processes=processes)
        torch.save(network.state_dict(), folder / f"rank{processes.rank}.pt")
        (folder / f"wrote{processes.rank}").write_text(str(processes.count))


def test_two_processes_learn_what_one_with_two_workers_learns(tmp_path):
    """Averaged gradients and statistics; only the first process writes checkpoint and curve."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "wrote1").read_text() == "2"
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = train(tmp_path / "alone.safetensors", workers=2).state_dict()
    for name, value in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        if value.is_floating_point():
            assert torch.allclose(value, ranks[0][name], atol=1e-5), name
    one = train(tmp_path / "one.safetensors", workers=1).state_dict()
    assert not torch.allclose(one["body.4.weight"], ranks[0]["body.4.weight"], atol=1e-4)
    assert checkpoint_path(tmp_path / "two.safetensors").exists()
    with curve_path(tmp_path / "two.safetensors").open() as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert steps == ["4", "8", "12"] and math.isfinite(float(alone["body.0.bias"][0]))


if __name__ == "__main__":
    two_processes(Path(sys.argv[1]))
