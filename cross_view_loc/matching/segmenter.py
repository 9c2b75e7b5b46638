"""What moves is on no map, nor is the sky: an optional network finds both in the views, and leaves their cells out.

Of the sky hardly a cell would be lifted anyway: flat ground and measured depth have none above the horizon, and what a
depth network sees farther than `geometry.lifting.FARTHEST_M` is not used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cross_view_loc.depth.hf_images import from_configuration, from_processor
from cross_view_loc.depth.hf_library import image_processor, quiet, sentences, transformers_for
from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.models.installed import find_named

_VEHICLES = ("car", "truck", "bus", "van", "trailer", "caravan")
_CYCLES = ("bicycle", "bike", "motorcycle", "motorbike", "minibike")
MOVING = frozenset(("person", "pedestrian", "rider", *_VEHICLES, *_CYCLES))
"""Names of classes; the data sets (Cityscapes, ADE20K, Mapillary, COCO) call the same things differently."""
SKY = frozenset(("sky", "sky-other", "sky-other-merged"))
WHAT = "segmenter"
LARGEST_BATCH = 8


class Segmenter(Protocol):
    """Finds what moves in pictures, and the sky."""

    name: str

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Images (N, H, W, 3) RGB without distortion → (N, H, W), True on what moves or might, and on sky."""
        ...


class HuggingFaceSegmenter:
    """A model of `AutoModelForSemanticSegmentation` with its image processor; its own labels say what is what."""

    def __init__(self, where: str | Path, device: str = "cpu", name: str = "") -> None:
        """Load from a folder, or by name from Hugging Face's cache on this machine; nothing is fetched.

        Raises ModelError when `transformers` is missing, when the model is not here or not whole, or knows nothing
        that moves.
        """
        self.name, self.device = name or str(where), device
        transformers = transformers_for(self.name, WHAT)
        with sentences(self.name, WHAT), quiet(transformers):
            model, found = transformers.AutoModelForSemanticSegmentation.from_pretrained(
                where, local_files_only=True, output_loading_info=True
            )
        missing = sorted([*found["missing_keys"], *map(str, found["mismatched_keys"])])
        if missing:
            raise ModelError(f"the {WHAT} '{self.name}' is not whole: its weights lack {missing[0]}; fetch it again")
        self.moving_ids = moving_ids(model.config.id2label, self.name)
        self.left_out_ids = sorted({*self.moving_ids, *labelled(model.config.id2label, SKY)})
        self._model: Any = model.float().requires_grad_(False).to(device).eval()
        self._processor, self._configuration = image_processor(transformers, where, self.name, WHAT)

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """As `Segmenter`."""
        parts = [self._part(images[first : first + LARGEST_BATCH]) for first in range(0, len(images), LARGEST_BATCH)]
        return np.concatenate(parts)

    def _part(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        if self._processor is not None:
            pixels = from_processor(self._processor, images)
        else:
            pixels = from_configuration(self._configuration, images)
        logits = self._model(pixel_values=pixels.to(self.device, torch.float32)).logits.float()
        whole = F.interpolate(logits, images.shape[1:3], mode="bilinear", align_corners=False)
        left_out = torch.isin(whole.argmax(1), torch.tensor(self.left_out_ids, device=self.device))
        return np.asarray(left_out.cpu().numpy(), dtype=np.bool_)


def labelled(id2label: dict[Any, str], names: frozenset[str]) -> list[int]:
    """The classes of a model whose label, or one of the synonyms in it, is among the names; ascending."""
    return sorted(
        int(index)
        for index, label in id2label.items()
        if any(part.strip() in names for part in re.split(r"[,;/]|--", str(label).lower()))
    )


def moving_ids(id2label: dict[Any, str], name: str) -> list[int]:
    """The classes of a model that are in MOVING.

    Raises ModelError for a model that has none.
    """
    found = labelled(id2label, MOVING)
    if not found:
        some = ", ".join(list(id2label.values())[:5])
        raise ModelError(
            f"the {WHAT} '{name}' knows nothing that moves (its classes are {some}, …); take one trained on streets"
        )
    return found


def make_segmenter(text: str, device: str) -> Segmenter | None:
    """The segmenter of the parameter: `none`, or `hf:FOLDER_OR_NAME`. Raises InputError for others, ModelError."""
    kind, colon, where = text.partition(":")
    if text == "none":
        return None
    if kind != "hf" or not colon or not where:
        raise InputError(f"there is no segmenter '{text}'; choose none or hf:FOLDER_OR_NAME")
    place, name, _ = find_named(where)
    return HuggingFaceSegmenter(place, device, name)
