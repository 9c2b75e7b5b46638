"""A released Loc² checkpoint → a safetensors file that says what it is, and back into the network."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cross_view_loc.errors import ModelError
from cross_view_loc.matching.loc2.network import Loc2Network
from cross_view_loc.matching.loc2.specification import Loc2Specification, specification
from cross_view_loc.models.store import models_folder
from cross_view_loc.networks.weights import load_weights, prepare_for_inference, save_weights

FORMAT = "loc2-matcher"
LICENCE = "AGPL-3.0"
"""Of the published code and weights; this package's own code is not derived from them."""
ARTICLE = "arXiv 2509.09792"
_NESTS = ("state_dict", "model_state_dict", "model", "matcher")
_PREFIXES = ("module.", "model.", "matcher.", "_orig_mod.")
_SHOWN = 3


def import_checkpoint(source: Path, variant: str, out: Path | None = None) -> Path:
    """Convert a released state dict to safetensors; `out` is a folder, a .safetensors file, or the user's own folder.

    Raises ModelError when the file cannot be read or does not hold exactly the matcher's tensors.
    """
    specification(variant)
    tensors = read_checkpoint(source)
    target = out or models_folder()
    if target.suffix != ".safetensors":
        target = target / f"loc2_{variant}.safetensors"
    metadata: dict[str, object] = {
        "format": FORMAT,
        "variant": variant,
        "licence": LICENCE,
        "article": ARTICLE,
        "source_file": source.name,
        "source_sha256": sha256(source),
    }
    save_weights(target, tensors, metadata, half=False)  # the projectors are published in single precision
    return target


def read_checkpoint(source: Path) -> dict[str, Tensor]:
    """The matcher's 163 tensors of a .pt, .pth, .ckpt or .safetensors file, under their own names.

    Wrappers (`state_dict`, `model`) and prefixes (`module.`) are taken off; anything executable in the file is refused.
    Raises ModelError in one sentence.
    """
    if not source.is_file():
        raise ModelError(f"no checkpoint at {source}; give the path of the released matcher's file")
    try:
        if source.suffix == ".safetensors":
            stored: object = load_file(str(source))
        else:
            stored = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{source} is no plain state dict but holds Python objects, which are not run, or is damaged; "
            "save its state_dict() alone with torch.save"
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{source} is not a readable checkpoint ({first}); download it again") from error
    tensors = _unwrap(stored)
    if not tensors:
        raise ModelError(f"{source} holds no tensors by name; give the released matcher's state dict")
    _check(tensors, source)
    return {name: tensors[name].to(value.dtype) for name, value in expected_layout().items()}


def load_network(path: Path, device: str = "cpu") -> tuple[Loc2Network, Loc2Specification]:
    """An imported matcher ready for inference, and what its inputs must be. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"no Loc2 weights at {path}; make them with `cross_view_loc models import loc2 FILE`")
    weights = load_weights(path)
    if weights.metadata.get("format") != FORMAT:
        raise ModelError(f"{path} holds no Loc2 matcher; make one with `cross_view_loc models import loc2 FILE`")
    _check(weights.tensors, path)
    network = Loc2Network()
    prepare_for_inference(network, weights, device)
    return network, specification(str(weights.metadata.get("variant")))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def expected_layout() -> dict[str, Tensor]:
    """Names, shapes and types of the matcher's tensors, without their memory."""
    with torch.device("meta"):
        return dict(Loc2Network().state_dict())


def _unwrap(stored: object) -> dict[str, Tensor]:
    while isinstance(stored, Mapping):
        inner = next((stored[name] for name in _NESTS if isinstance(stored.get(name), Mapping)), None)
        if inner is None:
            break
        stored = inner
    if not isinstance(stored, Mapping):
        return {}
    tensors = {str(name): value for name, value in stored.items() if isinstance(value, Tensor)}
    while tensors and (prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in tensors)), None)):
        tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def _check(tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = expected_layout()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name} {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", misshapen))
        if names
    ]
    if faults:
        raise ModelError(
            f"{path} does not hold the {len(expected)} tensors of the Loc2 matcher: {'; '.join(faults)}; "
            "give the released matcher's own state dict, without the backbone"
        )
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(f"{path} has numbers that are not finite in {broken[0]}; download it again")
