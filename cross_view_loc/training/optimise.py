"""The training loop: AdamW over batches that several workers and several processes compute, resumable, repeatable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from cross_view_loc.training.batches import background
from cross_view_loc.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from cross_view_loc.training.curves import Curve, curve_path
from cross_view_loc.training.distributed import ALONE, Processes, average_gradients
from cross_view_loc.training.replicas import merge_buffers, replicate
from cross_view_loc.training.settings import TrainingSettings

StepLoss = Callable[[Any, Any], tuple[Tensor, dict[str, float]]]
"""(network, batch) → loss and its parts by name."""
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """How a run is recorded and continued."""

    out: Path
    """Weights to write; the checkpoint and the curve lie beside them."""
    log: Callable[[str], None]
    resume: bool = False
    processes: Processes = ALONE
    tensorboard: Path | None = None
    validate: Callable[[Any], dict[str, float]] | None = None
    """Network in evaluation mode → measurements on held-out data."""
    on_checkpoint: Callable[[], None] = lambda: None


def optimise(
    network: nn.Module, make: Callable[[int], Any], step_loss: StepLoss, settings: TrainingSettings, run: Run
) -> float:
    """Train with a short warm-up and a cosine decay; returns the seconds spent, those before a resumption included.

    `make(i)` is the i-th batch of the whole run: step s of W workers in P processes uses batches s·W·P … (s+1)·W·P − 1,
    whichever process makes them, so that neither resuming nor the number of processes changes what is learned from.
    """
    processes, device = run.processes, torch.device(settings.device)
    network.to(device).train()
    processes.share_state(network)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    per_step = settings.workers * processes.count
    first, before_s = 0, 0.0
    if run.resume:
        first, before_s = load_checkpoint(checkpoint_path(run.out), network, optimiser, settings, per_step)
        run.log(f"resumed after step {first} of {settings.steps}")
    curve = Curve(curve_path(run.out), run.tensorboard, first) if processes.is_first else None
    replicas = replicate(network, settings.workers)
    started = time.perf_counter() - before_s
    recent: dict[str, list[float]] = {}

    def gradients(replica: nn.Module, batch: Any) -> tuple[tuple[Tensor | None, ...], dict[str, float]]:
        # What a loss makes on the way lies where its batch lies; on a CPU the context would only cost time.
        with contextlib.nullcontext() if device.type == "cpu" else device:
            loss, parts = step_loss(replica, on_device(batch, device))
        return torch.autograd.grad(loss, parameters, allow_unused=True), parts

    def make_mine(index: int) -> Any:
        step, worker = divmod(index + first * settings.workers, settings.workers)
        return make(step * per_step + processes.rank * settings.workers + worker)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    batches = background(make_mine, (settings.steps - first) * settings.workers, ahead=2 * settings.workers)
    progress = tqdm(
        range(first, settings.steps), "train", unit="step", mininterval=5, disable=None if processes.is_first else True
    )
    try:
        with ThreadPoolExecutor(settings.workers) as pool:
            for step in progress:
                rate = learning_rate(step, settings)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                results = list(pool.map(gradients, replicas, [next(batches) for _ in replicas]))
                merge_buffers(replicas, processes)
                average_gradients([each for each, _ in results], parameters, processes)
                nn.utils.clip_grad_norm_(parameters, 2.0)
                optimiser.step()
                for name, value in [item for _, parts in results for item in parts.items()]:
                    recent.setdefault(name, []).append(value)
                done = step + 1
                is_last = done == settings.steps
                if curve is None or not (done % settings.log_every == 0 or is_last or _validates(done, settings, run)):
                    continue
                row = {name: round(float(np.mean(values)), 4) for name, values in recent.items()}
                recent = {}
                if _validates(done, settings, run):
                    row |= _measured(network, run, threads)
                seconds = time.perf_counter() - started
                save_checkpoint(checkpoint_path(run.out), done, seconds, network, optimiser, settings, per_step)
                run.on_checkpoint()
                curve.add(done, {"seconds": round(seconds, 1), "learning_rate": float(f"{rate:.4g}"), **row})
                run.log(json.dumps({"step": done, "seconds": round(seconds), **row}))
    finally:
        torch.set_num_threads(threads)
        if curve is not None:
            curve.close()
    network.eval()
    return time.perf_counter() - started


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """A warm-up of 100 steps, then a cosine down to a small rest."""
    rate = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * rate + 1e-5


def on_device(value: T, device: torch.device) -> T:
    """A batch (tensors in dataclasses, dictionaries, tuples) with its tensors on a device."""
    if device.type == "cpu":
        return value
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)  # type: ignore[return-value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: on_device(each, device) for name, each in fields.items()})  # type: ignore[return-value]
    if isinstance(value, dict):
        return {name: on_device(each, device) for name, each in value.items()}  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(on_device(each, device) for each in value)  # type: ignore[return-value]
    return value


def _validates(done: int, settings: TrainingSettings, run: Run) -> bool:
    return run.validate is not None and (done % settings.validate_every == 0 or done == settings.steps)


def _measured(network: nn.Module, run: Run, threads: int) -> dict[str, float]:
    assert run.validate is not None
    torch.set_num_threads(threads)
    network.eval()
    try:
        return run.validate(network)
    finally:
        network.train()
        torch.set_num_threads(1)
