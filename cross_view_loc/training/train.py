"""The training runs: depth network first, then the matcher on the depth it will really be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cross_view_loc.depth.learned import DepthNetwork
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.matching.encoders import FINE, Matcher
from cross_view_loc.matching.pretrained import make_matcher
from cross_view_loc.networks.weights import load_into, load_weights, save_weights
from cross_view_loc.training.batches import (
    DepthBatch,
    MatcherBatch,
    PredictedDepth,
    ViewInputs,
    augment_colour,
    collate_depth,
    collate_matcher,
    matcher_sample,
    view_arrays,
)
from cross_view_loc.training.checkpoint import checkpoint_path
from cross_view_loc.training.losses import depth_loss, matcher_losses
from cross_view_loc.training.manifest import load_manifest
from cross_view_loc.training.optimise import Run, optimise
from cross_view_loc.training.published_loss import published_losses
from cross_view_loc.training.settings import LOSSES, TrainingSettings
from cross_view_loc.training.town_data import TownData, load_town
from cross_view_loc.training.validation import fixed_samples, validate

__all__ = ["TrainingSettings", "load_data", "load_towns", "train_depth", "train_matcher"]


def load_towns(folder: Path) -> list[TownData]:
    """All towns of a data folder; raises MissingInputError when there are none."""
    paths = sorted(path for path in folder.glob("town_*.npz") if ".partial" not in path.name)
    if not paths:
        raise MissingInputError(f"no town_*.npz in {folder}; make some with `cross_view_loc train data --out {folder}`")
    return [load_town(path) for path in paths]


def load_data(paths: Sequence[Path]) -> list[TownData]:
    """Towns of folders and views of manifests, in the order given; errors as of `load_towns` and `load_manifest`."""
    data: list[TownData] = []
    manifest_seed = -1
    for path in paths:
        if path.is_dir():
            data += load_towns(path)
        else:
            data += (sets := load_manifest(path, manifest_seed))
            manifest_seed -= len(sets)
    return data


def train_depth(
    towns: Sequence[TownData],
    settings: TrainingSettings,
    out: Path,
    log: Callable[[str], None],
    start_from: Path | None = None,
    run: Run | None = None,
) -> DepthNetwork:
    """Train the depth network and write its weights, with its scale error on the last two towns as metadata.

    `run` says how to record and continue the run. Raises InputError for too little data or data without depth.
    """
    if len(towns) < 3:
        raise InputError(f"{len(towns)} towns are too few: two are held out to measure on; render at least 3")
    for town in towns:
        if not town.has_depth:
            raise InputError(f"{town.name} has views without a depth file; the depth network learns from depth only")
    run = run or Run(out, log)
    torch.manual_seed(settings.seed)
    network = DepthNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start_from is not None:
        load_into(network, load_weights(start_from))
    training, held_out = towns[:-2], towns[-2:]
    pick, device_type = _Picker(training), torch.device(settings.device).type

    def make(step: int) -> DepthBatch:
        rng = np.random.default_rng([settings.seed, 1, step])
        batch = collate_depth([pick(rng) for _ in range(settings.batch)])
        return replace(batch, views=_augmented(batch.views, settings.seed + step))

    def step_loss(replica: DepthNetwork, batch: DepthBatch) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(device_type, torch.bfloat16, enabled=settings.bf16):
            log_depth, log_spread = replica(*_fields(batch.views))
        loss, likelihood = depth_loss(log_depth, log_spread, batch.depth_m)
        return loss, {"depth": loss.item(), "spread": likelihood.item()}

    seconds = optimise(network, make, step_loss, settings, run)
    network.cpu()
    if run.processes.is_first:
        scale_std, error = depth_errors(network, held_out)
        log(f"held-out towns: log-scale deviation {scale_std:.3f}, median absolute log error {error:.3f}")
        metadata = {
            "settings": asdict(settings),
            **_provenance(training),
            "log_scale_std": max(0.03, round(scale_std, 4)),
            "median_log_error": round(error, 4),
            "seconds": round(seconds),
        }
        save_weights(out, network.state_dict(), metadata)
        checkpoint_path(out).unlink(missing_ok=True)
    run.processes.wait()
    return network


def train_matcher(
    towns: Sequence[TownData],
    depth_weights: Path | None,
    settings: TrainingSettings,
    out: Path,
    log: Callable[[str], None],
    start_from: Path | None = None,
    run: Run | None = None,
    held_out: Sequence[TownData] = (),
) -> Matcher:
    """Train the matcher from camera poses and write its weights.

    `run` says how to record and continue the run; on views of `held_out` the pose error is measured as it goes.
    Raises InputError for an unknown loss, or for views without depth when there is no depth network to predict it, and
    ModelError for a backbone that cannot be had.
    """
    if settings.loss not in LOSSES:
        raise InputError(f"there is no loss '{settings.loss}'; choose {' or '.join(LOSSES)}")
    run = run or Run(out, log)
    torch.manual_seed(settings.seed)
    matcher = make_matcher(settings.backbone, settings.device)
    matcher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start_from is not None:
        load_into(matcher, load_weights(start_from))
    predicted = predict_depth([*towns, *held_out], depth_weights, log) if depth_weights else {}
    towns, held_out = ([_with_some_depth(town, predicted) for town in each] for each in (towns, held_out))
    pick = _Picker(towns)
    partial = out.with_suffix(".partial.safetensors")
    backbone: dict[str, object] = {"backbone": settings.backbone} if settings.backbone else {}

    def make(step: int) -> tuple[MatcherBatch, int]:
        rng = np.random.default_rng([settings.seed, 2, step])
        samples = [_seen_sample(*pick(rng), predicted, rng) for _ in range(settings.batch)]
        batch = collate_matcher(samples)
        generator = torch.Generator().manual_seed(settings.seed + 7 * step)
        views, patches = _augmented(batch.views, settings.seed + step), augment_colour(batch.patches, generator)
        return replace(batch, views=views, patches=patches), step

    def step_loss(replica: Matcher, item: tuple[MatcherBatch, int]) -> tuple[Tensor, dict[str, float]]:
        batch, step = item
        generator = torch.Generator(settings.device).manual_seed(settings.seed + 11 * step)
        kind = "flat" if float(torch.rand((), generator=generator)) < settings.flat_share else "metric"
        losses = published_losses if settings.loss == "loc2" else matcher_losses
        parts = losses(replica, batch, kind, generator, settings.bf16)
        weights = {"fine": settings.fine_loss_weight, "match": settings.match_loss_weight}
        total = sum((weights.get(name, 1.0) * part for name, part in parts.items()), torch.zeros(()))
        return total, {f"{name}_{kind}": part.item() for name, part in parts.items()}

    if held_out:
        samples = fixed_samples(held_out, predicted, settings.validation_samples, _seen_sample)
        run = replace(run, validate=lambda network: validate(network, samples, settings.device))
    run = replace(run, on_checkpoint=lambda: save_weights(partial, matcher.state_dict(), backbone))
    seconds = optimise(matcher, make, step_loss, settings, run)
    matcher.cpu()
    if run.processes.is_first:
        metadata = {
            "settings": asdict(settings),
            **backbone,
            **_provenance(towns),
            "views": sum(len(town.images) for town in towns),
            "seconds": round(seconds),
        }
        save_weights(out, matcher.state_dict(), metadata)
        partial.unlink(missing_ok=True)
        checkpoint_path(out).unlink(missing_ok=True)
    run.processes.wait()
    return matcher


class _Picker:
    """Draws one view of all, each as likely as any other however they are divided into towns or maps."""

    def __init__(self, towns: Sequence[TownData]) -> None:
        self._towns, self._ends = towns, np.cumsum([len(town.images) for town in towns])

    def __call__(self, rng: np.random.Generator) -> tuple[TownData, int]:
        view = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, view, side="right"))
        return self._towns[index], view - int(self._ends[index] - len(self._towns[index].images))


def _seen_sample(
    town: TownData, index: int, predicted: PredictedDepth, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """A sample in which cells that the camera never saw (beyond its image's rim) are not used."""
    sample = matcher_sample(town, index, predicted, rng)
    if town.seen_cells is not None:
        seen = np.tile(town.seen_cells[index].reshape(-1), 1 + FINE)
        sample |= {name: value & seen for name, value in sample.items() if name.startswith("usable_")}  # type: ignore[operator]
    return sample


def _with_some_depth(town: TownData, predicted: PredictedDepth) -> TownData:
    """Views without depth of their own take the depth network's for true. InputError when there is neither."""
    if town.has_depth:
        return town
    if town.seed not in predicted:
        raise InputError(
            f"{town.name} has views without a depth file and there is no depth network to predict it; put "
            "town_depth.safetensors into the folder of --weights or give --depth-weights"
        )
    depth_m = np.exp(predicted[town.seed][:, 0].astype(np.float32)).astype(np.float16)
    return replace(
        town, depth_m=depth_m, cell_depth_m=((depth_m[..., 0::2] + depth_m[..., 1::2]) / 2).astype(np.float16)
    )


def _provenance(towns: Sequence[TownData]) -> dict[str, object]:
    """What the weights say they were made from: seeds of towns, names of other data."""
    return {
        "towns": [town.seed for town in towns if town.seed >= 0],
        "manifests": sorted({town.name for town in towns if town.seed < 0}),
    }


def _fields(views: ViewInputs) -> tuple[Tensor, Tensor, Tensor]:
    return views.images, views.elevation, views.flat_inverse_depth


def _augmented(views: ViewInputs, seed: int) -> ViewInputs:
    images = augment_colour(views.images, torch.Generator().manual_seed(seed))
    return replace(views, images=images)


@torch.inference_mode()
def _log_depths(network: DepthNetwork, town: TownData, chunk: int = 16) -> Tensor:
    """(N, 2, 48, 80) log-depth and log-spread of all of a town's views."""
    network.eval()
    out = []
    for start in range(0, len(town.images), chunk):
        arrays = [view_arrays(town, index) for index in range(start, min(start + chunk, len(town.images)))]
        images, elevation, inverse = (torch.from_numpy(np.stack(column)) for column in zip(*arrays, strict=True))
        out.append(torch.stack(network(images.permute(0, 3, 1, 2).float() / 255.0, elevation, inverse), 1))
    return torch.cat(out)


def predict_depth(towns: Sequence[TownData], weights: Path, log: Callable[[str], None]) -> PredictedDepth:
    """The network's log-depth and log-spread (N, 2, 48, 80) for every view of every town."""
    network = DepthNetwork()
    load_into(network, load_weights(weights))
    predicted: PredictedDepth = {}
    for town in tqdm(towns, desc="depth", unit="town"):
        predicted[town.seed] = _log_depths(network, town).numpy().astype(np.float16)
    log(f"predicted depth for {len(predicted)} towns")
    return predicted


def depth_errors(network: DepthNetwork, towns: Sequence[TownData]) -> tuple[float, float]:
    """(deviation over views of the median log ratio, median absolute log error), on 2–40 m."""
    medians, errors = [], []
    for town in towns:
        for index, log_depth in enumerate(_log_depths(network, town)[:, 0].numpy()):
            depth = town.depth_m[index].astype(np.float64)
            used = (depth > 2.0) & (depth < 40.0)
            if used.sum() < 100:
                continue
            ratio = log_depth[used] - np.log(depth[used])
            medians.append(float(np.median(ratio)))
            errors.append(float(np.median(np.abs(ratio))))
    return float(np.std(medians)), float(np.median(errors))
