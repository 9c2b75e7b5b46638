"""Depth models as ONNX files, run by onnxruntime; what the file itself cannot say stands in a JSON file beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.model import ALONGS, MEASURES, Along, Measure
from cross_view_loc.errors import ModelError


@dataclass(frozen=True)
class OnnxDescription:
    """The JSON file: `depth.onnx` has `depth.json` beside it. Every key may be left out but `measure`."""

    measure: str = ""
    along: str = "z"
    licence: str = ""
    size_px: tuple[int, int] | None = None
    """(height, width) of the input, for files that leave it open; else the image's own size."""
    multiple_of: int = 1
    """An open size is rounded to multiples of this: 14 for models on DINOv2, often 32."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Subtracted from colours in [0, 1], in the model's order."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    colours: str = "RGB"
    output: str = ""
    """Name of the depth among several outputs; else the first."""
    canonical_focal_px: float = 0.0
    """Not 0: depth is that of a camera of this focal length at the input's size, and is scaled by true / canonical."""


class OnnxDepth:
    """An ONNX file as a `DepthModel`: one input of images (N, 3, h, w) or (N, h, w, 3), a map per image out."""

    def __init__(
        self, path: Path, device: str = "cpu", *, measure: str = "", along: str = "", side_px: int = 0, threads: int = 0
    ) -> None:
        """`measure` and `along` override the JSON file, `side_px` its `size_px` by a square.

        Raises ModelError when onnxruntime or the file is missing, when it is no depth model, or nobody says what its
        numbers are.
        """
        self.name, self.device = str(path), device
        self._session = _session(path, device, threads)
        described = read_description(path)
        self.licence = described.licence
        if not (measure or described.measure):
            raise ModelError(
                f"nobody says what the numbers of {path} are; write {path.with_suffix('.json').name} beside it, e.g. "
                '{"measure": "inverse"}, or add ?measure=metric, ?measure=relative or ?measure=inverse'
            )
        self.measure = cast(Measure, measure or described.measure)
        self.along = cast(Along, along or described.along)
        self._described = replace(described, size_px=(side_px, side_px)) if side_px else described
        inputs, outputs = self._session.get_inputs(), [each.name for each in self._session.get_outputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or 3 not in (inputs[0].shape[1], inputs[0].shape[3]):
            shapes = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise ModelError(f"{path} takes {shapes}; a depth model takes one image (N, 3, h, w) or (N, h, w, 3)")
        if described.output and described.output not in outputs:
            raise ModelError(f"{path} has no output '{described.output}'; its outputs are {', '.join(outputs)}")
        self._input, self._output = inputs[0], described.output or outputs[0]
        self._channels_last = inputs[0].shape[1] != 3

    def __call__(self, images: NDArray[np.uint8], focal_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `DepthModel`. Raises ModelError when the network refuses the size or returns no map."""
        shape = (images.shape[1], images.shape[2])
        size = self._size(shape)
        batch = np.stack([self._prepared(image, size) for image in images])
        one_by_one = isinstance(self._input.shape[0], int)  # exported for so many images, which is nearly always one
        parts = [batch[i : i + 1] for i in range(len(batch))] if one_by_one else [batch]
        maps = np.concatenate([self._run(part) for part in parts])
        whole = np.stack([cv2.resize(each, shape[::-1], interpolation=cv2.INTER_LINEAR) for each in maps])
        canonical = self._described.canonical_focal_px
        if canonical:
            at_input = np.asarray(focal_px) * size[1] / shape[1]
            whole = whole * (at_input / canonical)[:, None, None].astype(np.float32)
        valid = np.isfinite(whole) & ((whole > 0) | (self.measure == "inverse"))
        return np.where(valid, whole, np.float32(np.nan)).astype(np.float32)

    def _size(self, shape: tuple[int, int]) -> tuple[int, int]:
        fixed = self._input.shape[1:3] if self._channels_last else self._input.shape[2:4]
        step, wanted = self._described.multiple_of, self._described.size_px or shape
        rounded = [max(step, round(side / step) * step) for side in wanted]
        height, width = (own if isinstance(own, int) else free for own, free in zip(fixed, rounded, strict=True))
        return int(height), int(width)

    def _prepared(self, image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
        shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        colours = resized[..., ::-1] if self._described.colours == "BGR" else resized
        unit = (colours.astype(np.float32) / 255.0 - self._described.mean) / self._described.std
        return (unit if self._channels_last else unit.transpose(2, 0, 1)).astype(np.float32)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        wanted = np.float16 if "float16" in self._input.type else np.uint8 if "uint8" in self._input.type else None
        try:
            found = self._session.run([self._output], {self._input.name: batch.astype(wanted) if wanted else batch})[0]
        except Exception as error:  # onnxruntime's own classes are not importable without it
            raise ModelError(f"{self.name} cannot be run ({_first_line(error)}); set size_px or multiple_of") from error
        maps = np.asarray(found, dtype=np.float32)
        maps = maps.reshape(maps.shape[0], *(side for side in maps.shape[1:] if side != 1)) if maps.ndim == 4 else maps
        maps = maps[None] if maps.ndim == 2 else maps
        if maps.ndim != 3 or len(maps) != len(batch):
            raise ModelError(
                f"{self.name} returns {self._output} of shape {list(np.shape(found))}, which is no map per image; name "
                "the right output in its JSON file"
            )
        return maps


def read_description(path: Path) -> OnnxDescription:
    """The JSON file beside an ONNX file, or what holds without one. Raises ModelError for what it does not know."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return OnnxDescription()
    try:
        values: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        unknown = set(values) - {field.name for field in fields(OnnxDescription)}
        if unknown:
            known = ", ".join(field.name for field in fields(OnnxDescription))
            raise ModelError(f"{beside} has the key '{sorted(unknown)[0]}'; it may have {known}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        described = OnnxDescription(**values)
        good = (
            described.measure in (*MEASURES, "")
            and described.along in ALONGS
            and described.colours in ("RGB", "BGR")
            and described.multiple_of >= 1
            and len(described.mean) == len(described.std) == 3
            and (described.size_px is None or len(described.size_px) == 2)
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{beside} is no JSON object ({_first_line(error)}); mend it") from error
    if not good:
        raise ModelError(
            f"{beside}: measure is one of {', '.join(MEASURES)}, along of {', '.join(ALONGS)}, colours RGB or BGR, "
            "mean and std have three numbers and size_px two"
        )
    return described


def _session(path: Path, device: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"{path} needs the package 'onnxruntime', which is missing; run `pip install onnxruntime`"
        ) from error
    if not path.is_file():
        raise ModelError(f"there is no file {path}; give the path of an ONNX file after onnx:")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    cuda = device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CUDAExecutionProvider"] * cuda + ["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"{path} is no ONNX file that onnxruntime can run ({_first_line(error)}); replace it"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")[:200]
