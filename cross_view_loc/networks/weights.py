"""Weights on disk: safetensors files that carry, as metadata, what made them and what they need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cross_view_loc.errors import ModelError

SHIPPED = Path(__file__).resolve().parent.parent / "weights"
MATCHER_FILE = "town_matcher.safetensors"
DEPTH_FILE = "town_depth.safetensors"


@dataclass(frozen=True)
class Weights:
    """A state dict and its provenance."""

    tensors: dict[str, Tensor]
    metadata: dict[str, object]
    path: Path


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, object], half: bool = True) -> None:
    """Write a state dict as safetensors; floating tensors in half precision unless `half` is False."""
    stored = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for name, value in tensors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, str(path), {name: json.dumps(value) for name, value in metadata.items()})
    path.chmod(0o644)  # the library writes for the owner alone, but weights are read by every user of a machine


def load_weights(path: Path) -> Weights:
    """Read a safetensors file, floats in single precision. Raises ModelError naming the file and the remedy."""
    if not path.is_file():
        raise ModelError(
            f"no weights at {path}; reinstall the package or set weights_dir to the folder that holds them"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); replace it") from error
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return Weights(tensors, metadata, path)


def load_into(module: torch.nn.Module, weights: Weights) -> None:
    """Load strictly; a mismatch becomes one sentence naming the file."""
    try:
        module.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise ModelError(
            f"{weights.path} does not fit this version's network ({str(error).splitlines()[0]})"
        ) from error


def prepare_for_inference(module: torch.nn.Module, weights: Weights, device: str) -> None:
    """Load strictly, then move to the device in the layout the convolutions like, without gradients."""
    load_into(module, weights)
    module.requires_grad_(False).to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
