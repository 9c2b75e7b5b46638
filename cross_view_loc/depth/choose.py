"""The depth source of a name: the shipped network, flat ground, or a released model that is already on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cross_view_loc.depth.learned import LearnedDepth
from cross_view_loc.depth.model import DepthModel
from cross_view_loc.depth.source import DepthSource, FlatGround
from cross_view_loc.depth.spec import DepthSpec, parse_depth
from cross_view_loc.depth.stored import open_depth
from cross_view_loc.errors import ModelError
from cross_view_loc.geometry.views import VIEW_HEIGHT_PX, VIEW_WIDTH_PX
from cross_view_loc.models.installed import find_named, find_registered
from cross_view_loc.models.registry import DEPTH_MODELS, registered
from cross_view_loc.networks.weights import DEPTH_FILE

NO_TILT = (
    "attitude is 'estimated' but flat ground shows no tilt: where depth is not measured the vehicle counts as level"
)


@dataclass(frozen=True)
class ChosenDepth:
    """The first of several sources that could be loaded."""

    source: DepthSource
    name: str
    """As it was written."""
    notice: str = ""
    """One sentence about what stands in for what, and why; empty when the first could be loaded."""


def choose_depth(names: Sequence[str], folder: Path, device: str, depth_scale: str = "corrected") -> ChosenDepth:
    """The first of `names` (see `parse_depth`) that loads; those after the first stand in for it.

    `depth_scale`: what to do with a metric model's metres, see `ModelDepth`; the shipped network is told the camera's
    height and needs none of it. Raises InputError for a name that means nothing, ModelError when none can be loaded.
    """
    specs = [parse_depth(name) for name in names]
    failures: list[str] = []
    for spec in specs:
        try:
            source = _load(spec, folder, device, depth_scale)
        except ModelError as error:
            failures.append(str(error))
            continue
        notice = f"depth '{spec.text}' stands in for '{specs[0].text}': {failures[0]}" if failures else ""
        return ChosenDepth(source, spec.text, notice)
    raise ModelError("; ".join(failures))


def make_depth(name: str, folder: Path, device: str) -> DepthSource:
    """The depth source of that name; `folder` holds the weights of `learned`. Raises InputError, ModelError."""
    return choose_depth([name], folder, device).source


def load_model(spec: DepthSpec, device: str) -> DepthModel:
    """The model of a `registry`, `hf` or `onnx` choice; nothing is fetched.

    Raises ModelError when it is not on this machine, its licence was not accepted, or a package is missing.
    """
    if spec.source == "onnx":
        from cross_view_loc.depth.onnx import OnnxDepth

        path = Path(spec.where).expanduser()
        threads = torch.get_num_threads()  # as many as the networks of this package have
        return OnnxDepth(path, device, measure=spec.measure, along=spec.along, side_px=spec.side_px, threads=threads)
    row = DEPTH_MODELS[spec.where] if spec.source == "registry" else registered(spec.where)
    if spec.source == "registry" and row is not None:
        where, name, licence = find_registered(row), row.name, row.licence
    else:
        where, name, licence = find_named(spec.where)  # type: ignore[assignment]
    measure, along = spec.measure, spec.along
    if row is not None:
        measure, along = measure or row.measure, along or row.along
    if row is not None and row.package != "transformers":
        from cross_view_loc.depth.universal import UniversalDepth

        return UniversalDepth(
            Path(where), row.package, device, name=name, licence=licence, measure=measure, along=along
        )
    from cross_view_loc.depth.huggingface import HuggingFaceDepth

    return HuggingFaceDepth(
        where, device, name=name, licence=licence, measure=measure, along=along, side_px=spec.side_px
    )


def _load(spec: DepthSpec, folder: Path, device: str, depth_scale: str) -> DepthSource:
    if spec.source == "flat":
        return FlatGround()
    if spec.source == "learned":
        return LearnedDepth(folder / DEPTH_FILE, device)
    if spec.source == "precomputed":
        return open_depth(Path(spec.where).expanduser())
    from cross_view_loc.depth.modelled import ModelDepth

    model = load_model(spec, device)
    try:  # a first time now, while another source may still stand in for it
        size = (VIEW_HEIGHT_PX * ModelDepth.view_scale, VIEW_WIDTH_PX * ModelDepth.view_scale)
        model(np.full((1, *size, 3), 128, np.uint8), np.array([600.0]))
    except RuntimeError as error:  # torch: shapes that do not fit, memory
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ModelError(
            f"the depth model '{model.name}' cannot be run on {device} ({first}); take another, or device cpu"
        ) from error
    return ModelDepth(model, depth_scale)
