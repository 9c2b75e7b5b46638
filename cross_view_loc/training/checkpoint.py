"""A training run on disk: everything it needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from cross_view_loc.errors import InputError, MissingInputError, ModelError
from cross_view_loc.training.settings import TrainingSettings

MAY_CHANGE = ("log_every", "validate_every", "validation_samples", "device", "workers")
"""Settings that change neither the batches nor the steps; workers are checked as batches a step."""


def checkpoint_path(weights: Path) -> Path:
    """Where the checkpoint of a run lies that will write `weights`."""
    return weights.with_suffix(".checkpoint.pt")


def save_checkpoint(
    path: Path,
    step: int,
    seconds: float,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    batches_per_step: int,
) -> None:
    """Write all state after `step` steps; an interrupted write leaves the checkpoint before it.

    Random numbers need no state: every batch is drawn from (seed, step).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {
        "step": step,
        "seconds": seconds,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "settings": asdict(settings),
        "batches_per_step": batches_per_step,
    }
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    batches_per_step: int,
) -> tuple[int, float]:
    """Restore network and optimiser; returns (steps done, seconds spent).

    Raises MissingInputError without a checkpoint, ModelError when it is damaged or of another network, InputError when
    the run was started with other settings.
    """
    if not path.is_file():
        raise MissingInputError(f"there is no checkpoint at {path} to resume from; start without --resume")
    device = next(network.parameters()).device
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is not a readable checkpoint; start again without --resume") from error
    asked = {**asdict(settings), "batches_per_step": batches_per_step}
    before = {**state["settings"], "batches_per_step": state["batches_per_step"]}
    for name in sorted(asked.keys() | before.keys()):
        if name not in MAY_CHANGE and asked.get(name) != before.get(name):
            raise InputError(
                f"{path} was made with {name} {before.get(name)}, not {asked.get(name)}; resume with the same options "
                "or start again without --resume"
            )
    try:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path} does not fit this network; start again without --resume") from error
    return int(state["step"]), float(state["seconds"])
