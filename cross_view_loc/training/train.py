"""The training loops: depth network first, then the matcher on the depth it will really be given."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from cross_view_loc.depth.learned import DepthNetwork
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.views import View
from cross_view_loc.matching.encoders import TOKEN_COLUMNS_PX, TOKEN_ROWS_PX, Matcher
from cross_view_loc.networks.weights import load_into, load_weights, save_weights
from cross_view_loc.training.batches import (
    DepthBatch,
    MatcherBatch,
    PredictedDepth,
    ViewInputs,
    augment_colour,
    background,
    collate_depth,
    collate_matcher,
    matcher_sample,
    view_arrays,
)
from cross_view_loc.training.losses import depth_loss, matcher_losses
from cross_view_loc.training.town_data import TownData, load_town


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on; stored in the weights it makes."""

    steps: int
    batch: int
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    match_loss_weight: float = 0.3
    flat_share: float = 0.35
    """Share of batches lifted by flat ground instead of metric depth."""
    workers: int = 2
    """Each computes its own batch of a step; one core each beats sharing every operation, also on a busy machine."""
    seed: int = 0
    bf16: bool = True
    log_every: int = 100
    """Steps between log lines and checkpoints."""


def load_towns(folder: Path) -> list[TownData]:
    """All towns of a data folder; raises MissingInputError when there are none."""
    paths = sorted(path for path in folder.glob("town_*.npz") if ".partial" not in path.name)
    if not paths:
        raise MissingInputError(f"no town_*.npz in {folder}; make some with `cross_view_loc train data --out {folder}`")
    return [load_town(path) for path in paths]


def train_depth(
    towns: Sequence[TownData],
    settings: TrainingSettings,
    out: Path,
    log: Callable[[str], None],
    start_from: Path | None = None,
) -> DepthNetwork:
    """Train the depth network and write its weights, with its scale error on the last two towns as metadata."""
    if len(towns) < 3:
        raise InputError(f"{len(towns)} towns are too few: two are held out to measure on; render at least 3")
    torch.manual_seed(settings.seed)
    network = DepthNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start_from is not None:
        load_into(network, load_weights(start_from))
    training, held_out = towns[:-2], towns[-2:]

    def make(step: int) -> DepthBatch:
        rng = np.random.default_rng([settings.seed, 1, step])
        picks = [training[int(rng.integers(len(training)))] for _ in range(settings.batch)]
        batch = collate_depth([(town, int(rng.integers(len(town.images)))) for town in picks])
        return replace(batch, views=_augmented(batch.views, settings.seed + step))

    def step_loss(batch: DepthBatch) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            log_depth = network(*_fields(batch.views))
        loss = depth_loss(log_depth, batch.depth_m)
        return loss, {"depth": loss.item()}

    started = time.perf_counter()
    _optimise(network, make, step_loss, settings, log)
    scale_std, error = depth_errors(network, held_out)
    log(f"held-out towns: log-scale deviation {scale_std:.3f}, median absolute log error {error:.3f}")
    metadata = {
        "settings": asdict(settings),
        "towns": [town.seed for town in training],
        "log_scale_std": max(0.03, round(scale_std, 4)),
        "median_log_error": round(error, 4),
        "seconds": round(time.perf_counter() - started),
    }
    save_weights(out, network.state_dict(), metadata)
    return network


def train_matcher(
    towns: Sequence[TownData],
    depth_weights: Path | None,
    settings: TrainingSettings,
    out: Path,
    log: Callable[[str], None],
    start_from: Path | None = None,
) -> Matcher:
    """Train the matcher from camera poses and write its weights."""
    torch.manual_seed(settings.seed)
    matcher = Matcher().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start_from is not None:
        load_into(matcher, load_weights(start_from))
    predicted = predict_depth(towns, depth_weights, log) if depth_weights else {}
    partial = out.with_suffix(".partial.safetensors")

    def make(step: int) -> tuple[MatcherBatch, int]:
        rng = np.random.default_rng([settings.seed, 2, step])
        picks = [towns[int(rng.integers(len(towns)))] for _ in range(settings.batch)]
        samples = [matcher_sample(t, int(rng.integers(len(t.images))), predicted, rng) for t in picks]
        batch = collate_matcher(samples)
        generator = torch.Generator().manual_seed(settings.seed + 7 * step)
        views, patches = _augmented(batch.views, settings.seed + step), augment_colour(batch.patches, generator)
        return replace(batch, views=views, patches=patches), step

    def step_loss(item: tuple[MatcherBatch, int]) -> tuple[Tensor, dict[str, float]]:
        batch, step = item
        generator = torch.Generator().manual_seed(settings.seed + 11 * step)
        kind = "flat" if float(torch.rand((), generator=generator)) < settings.flat_share else "metric"
        pose, match = matcher_losses(matcher, batch, kind, generator, settings.bf16)
        return pose + settings.match_loss_weight * match, {f"pose_{kind}": pose.item(), "match": match.item()}

    started = time.perf_counter()
    _optimise(matcher, make, step_loss, settings, log, lambda: save_weights(partial, matcher.state_dict(), {}))
    metadata = {
        "settings": asdict(settings),
        "towns": [town.seed for town in towns],
        "views": sum(len(town.images) for town in towns),
        "seconds": round(time.perf_counter() - started),
    }
    save_weights(out, matcher.state_dict(), metadata)
    partial.unlink(missing_ok=True)
    return matcher


def _optimise(
    network: nn.Module,
    make: Callable[[int], object],
    step_loss: Callable[..., tuple[Tensor, dict[str, float]]],
    settings: TrainingSettings,
    log: Callable[[str], None],
    checkpoint: Callable[[], None] | None = None,
) -> None:
    """AdamW with a short warm-up and a cosine decay; logs the mean losses, and checkpoints, every few steps."""
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    network.train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parameters = list(network.parameters())
    started = time.perf_counter()
    recent: dict[str, list[float]] = {}

    def gradients(batch: object) -> tuple[tuple[Tensor | None, ...], dict[str, float]]:
        loss, parts = step_loss(batch)
        return torch.autograd.grad(loss, parameters, allow_unused=True), parts

    batches = background(make, settings.steps * settings.workers, ahead=2 * settings.workers)
    progress = tqdm(range(settings.steps), desc="train", unit="step", mininterval=5)
    pool = ThreadPoolExecutor(settings.workers)
    for step in progress:
        rate = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate + 1e-5
        results = list(pool.map(gradients, [next(batches) for _ in range(settings.workers)]))
        for index, parameter in enumerate(parameters):
            found = [grads[index] for grads, _ in results if grads[index] is not None]
            parameter.grad = torch.stack(found).sum(0) / settings.workers if found else None  # type: ignore[arg-type]
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        for name, value in [item for _, parts in results for item in parts.items()]:
            recent.setdefault(name, []).append(value)
        if (step + 1) % settings.log_every == 0:
            means = {name: round(float(np.mean(values)), 4) for name, values in recent.items()}
            log(json.dumps({"step": step + 1, "seconds": round(time.perf_counter() - started), **means}))
            recent = {}
            if checkpoint is not None:
                checkpoint()
    torch.set_num_threads(threads)
    network.eval()


def _fields(views: ViewInputs) -> tuple[Tensor, Tensor, Tensor]:
    return views.images, views.elevation, views.flat_inverse_depth


def _augmented(views: ViewInputs, seed: int) -> ViewInputs:
    images = augment_colour(views.images, torch.Generator().manual_seed(seed))
    return replace(views, images=images)


@torch.inference_mode()
def _log_depths(network: DepthNetwork, town: TownData, chunk: int = 16) -> Tensor:
    """(N, 48, 80) of all of a town's views."""
    network.eval()
    out = []
    for start in range(0, len(town.images), chunk):
        arrays = [view_arrays(town, index) for index in range(start, min(start + chunk, len(town.images)))]
        images, elevation, inverse = (torch.from_numpy(np.stack(column)) for column in zip(*arrays, strict=True))
        out.append(network(images.permute(0, 3, 1, 2).float() / 255.0, elevation, inverse))
    return torch.cat(out)


def predict_depth(towns: Sequence[TownData], weights: Path, log: Callable[[str], None]) -> PredictedDepth:
    """The network's depth at the matcher's cells for every view of every town."""
    from cross_view_loc.depth.learned import sample_depth

    network = DepthNetwork()
    load_into(network, load_weights(weights))
    predicted: PredictedDepth = {}
    for town in tqdm(towns, desc="depth", unit="town"):
        views = [View(float(focal)) for focal in town.focal_px]
        rays = [torch.from_numpy(v.rays(TOKEN_ROWS_PX, TOKEN_COLUMNS_PX)).float() for v in views]
        logs = _log_depths(network, town)
        cells = [sample_depth(d, v, r) for d, v, r in zip(logs, views, rays, strict=True)]
        predicted[town.seed] = torch.stack(cells).numpy().astype(np.float16)
    log(f"predicted depth for {len(predicted)} towns")
    return predicted


def depth_errors(network: DepthNetwork, towns: Sequence[TownData]) -> tuple[float, float]:
    """(deviation over views of the median log ratio, median absolute log error), on 2–40 m."""
    medians, errors = [], []
    for town in towns:
        for log_depth, depth in zip(_log_depths(network, town).numpy(), town.depth_m.astype(np.float64), strict=True):
            used = (depth > 2.0) & (depth < 40.0)
            if used.sum() < 100:
                continue
            ratio = log_depth[used] - np.log(depth[used])
            medians.append(float(np.median(ratio)))
            errors.append(float(np.median(np.abs(ratio))))
    return float(np.std(medians)), float(np.median(errors))
