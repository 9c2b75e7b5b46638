"""Which weights a depth source has, for those who keep its output: their hash and licence."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cross_view_loc.depth.source import DepthSource
from cross_view_loc.depth.spec import parse_depth
from cross_view_loc.models.installed import find_named, find_registered
from cross_view_loc.models.lock import sha256_of
from cross_view_loc.models.registry import DEPTH_MODELS
from cross_view_loc.networks.weights import DEPTH_FILE

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".onnx")


def weights_sha256(name: str, folder: Path) -> str:
    """Of the files behind a depth's name, `folder` holding those of `learned`: a file's own hash, the hash of several
    files' hashes in the order of their names, or nothing where there are none."""
    spec = parse_depth(name)
    if spec.source == "learned":
        return sha256_of(folder / DEPTH_FILE)
    if spec.source == "onnx":
        return sha256_of(Path(spec.where).expanduser())
    if spec.source == "registry":
        where: Path | str = find_registered(DEPTH_MODELS[spec.where])
    elif spec.source == "hf":
        where = find_named(spec.where)[0]
    else:
        return ""
    files = sorted(path for path in Path(where).glob("*") if path.suffix in WEIGHTS) if Path(where).is_dir() else []
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest() if files else ""


def licence_of(name: str, source: DepthSource) -> str:
    """Of the weights; that of the package for what ships with it."""
    if parse_depth(name).source in ("learned", "flat"):
        return "Apache-2.0"
    return str(getattr(getattr(source, "model", None), "licence", ""))
