"""Which weights a benchmark is run with: those that ship, a folder of one's own, or imported ones of Loc²."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cross_view_loc.depth.spec import parse_depth
from cross_view_loc.depth.stored import SIDECAR, read_sidecar
from cross_view_loc.errors import MissingInputError
from cross_view_loc.localizer import LocalizerSettings
from cross_view_loc.matching.loc2.convert import models_folder, sha256
from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED

SHIPPED_NAME = "town"


@dataclass(frozen=True)
class PairModel:
    """Weights by the name a row shows."""

    name: str
    folder: Path = SHIPPED
    """Of our own weights."""
    loc2: Path | None = None
    """Imported weights, used instead of our own."""
    backbone: str = ""

    def settings(self, base: LocalizerSettings) -> LocalizerSettings:
        """`base` with these weights."""
        if self.loc2 is not None:
            return replace(base, loc2_weights=str(self.loc2), loc2_backbone=self.backbone)
        return replace(base, weights_dir="" if self.folder == SHIPPED else str(self.folder))

    def fingerprint(self, depth: str) -> dict[str, str]:
        """What tells these weights, and the depth's, from others of the same name. Raises MissingInputError."""
        files = [self.loc2 or self.folder / MATCHER_FILE]
        files += [self.folder / DEPTH_FILE] if depth == "learned" else []
        spec = parse_depth(depth)
        if spec.source == "precomputed":
            read_sidecar(Path(spec.where))
            files.append(Path(spec.where) / SIDECAR)
        return {"model": self.name, "backbone": self.backbone, "weights": " ".join(_digest(f) for f in files)}


def _digest(file: Path) -> str:
    if not file.is_file():
        raise MissingInputError(f"there is no file {file}; check --model and --depth")
    return sha256(file)[:16]


def find_model(text: str, backbone: str = "") -> PairModel:
    """`town`, a folder with our weights, an imported .safetensors file or the name of one in the user's data folder.

    Raises MissingInputError when it is none of them.
    """
    path = Path(text).expanduser()
    if text == SHIPPED_NAME:
        return PairModel(SHIPPED_NAME)
    if path.is_dir():
        if (path / MATCHER_FILE).is_file():
            return PairModel(path.resolve().name, path)
        raise MissingInputError(f"there is no {MATCHER_FILE} in {path}; give --model the folder `train` wrote")
    for file in (path, models_folder() / f"{text}.safetensors"):
        if file.is_file():
            return PairModel(file.stem, loc2=file, backbone=backbone)
    raise MissingInputError(
        f"there is no model '{text}'; give --model {SHIPPED_NAME}, a folder of weights, or a .safetensors file that "
        "`cross_view_loc models import` wrote"
    )
