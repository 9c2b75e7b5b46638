"""What the parameter `depth` says: a name, or where a model lies, with options behind a question mark. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from cross_view_loc.depth.model import ALONGS, MEASURES
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.models.installed import find_named, find_registered
from cross_view_loc.models.registry import DEPTH_MODELS

Source = Literal["learned", "flat", "registry", "hf", "onnx", "precomputed"]
OPTIONS = {
    "measure": "what its numbers are: " + ", ".join(MEASURES),
    "along": "what they are measured along: " + ", ".join(ALONGS),
    "side_px": "size that the model's image is resized to; smaller is faster",
}


@dataclass(frozen=True)
class DepthSpec:
    """One parsed choice."""

    text: str
    """As it was written."""
    source: Source
    where: str
    """Registry name, Hugging Face name or folder, ONNX file, or folder of depth; empty for learned and flat."""
    measure: str = ""
    """Overrides what the model's files say; empty: as they say."""
    along: str = ""
    side_px: int = 0


def is_here(spec: DepthSpec) -> str:
    """Where a model's files are, with its licence, for people; not whether they load.

    Raises ModelError, with the command that helps, when they are not on this machine or the licence was not accepted.
    """
    if spec.source == "onnx":
        path = Path(spec.where).expanduser()
        if not path.is_file():
            raise ModelError(f"there is no file {path}; give the path of an ONNX file after onnx:")
        return str(path)
    if spec.source == "precomputed":
        folder = Path(spec.where).expanduser()
        if not folder.is_dir():
            raise ModelError(f"there is no folder {folder}; give one that `cross_view_loc depth` wrote")
        return str(folder)
    if spec.source == "registry":
        model = DEPTH_MODELS[spec.where]
        return f"{find_registered(model)} ({model.licence})"
    where, _, licence = find_named(spec.where)
    return f"{where}{f' ({licence})' if licence else ''}"


def parse_depth(text: str) -> DepthSpec:
    """`learned`, `flat`, a registry name, `hf:FOLDER_OR_NAME` or `onnx:FILE`, and `?measure=inverse&side_px=252`;
    `precomputed:DIR` for the images of a data set.

    Raises InputError for anything else.
    """
    name, _, query = text.strip().partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key, value in options.items():
        allowed = {"measure": MEASURES, "along": ALONGS}.get(key)
        if key not in OPTIONS or (allowed and value not in allowed) or (key == "side_px" and not value.isdigit()):
            raise InputError(
                f"depth '{text}' has the option '{key}={value}'; options are "
                + "; ".join(f"{each} ({meaning})" for each, meaning in OPTIONS.items())
            )
    chosen: dict[str, str] = {key: value for key, value in options.items() if key != "side_px"}
    side_px = int(options.get("side_px", 0))
    kind, colon, where = name.partition(":")
    if name in ("learned", "flat") and not query:
        return DepthSpec(text, name, "")  # type: ignore[arg-type]
    if colon and kind in ("hf", "onnx") and where:
        return DepthSpec(text, kind, where, side_px=side_px, **chosen)  # type: ignore[arg-type]
    if kind == "precomputed" and where and not query:
        return DepthSpec(text, "precomputed", where)
    if name in DEPTH_MODELS:
        return DepthSpec(text, "registry", name, side_px=side_px, **chosen)
    raise InputError(
        f"there is no depth source '{text}'; choose learned, flat, a name of `cross_view_loc models list`, "
        "hf:FOLDER_OR_NAME or onnx:FILE"
    )
