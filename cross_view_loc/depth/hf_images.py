"""Images as a Hugging Face depth model wants them, and its map back at the images' size.

The model's own image processor does it where it runs on Pillow alone: always that one, also where torchvision is
installed, so that every machine computes the same. Where there is none (Depth Pro), or no Pillow, its configuration
file is followed here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.errors import ModelError

OWN = (
    "DPTImageProcessor",
    "DPTFeatureExtractor",
    "GLPNImageProcessor",
    "GLPNFeatureExtractor",
    "DepthProImageProcessor",
)
"""Processors whose configuration `from_configuration` follows; also with "Fast" or "Pil" behind."""
_BICUBIC = 3


def from_processor(processor: Any, images: NDArray[np.uint8], side_px: int = 0) -> Tensor:
    """Images (N, H, W, 3) through an image processor of `transformers` → (N, 3, h, w)."""
    options = {"size": {"height": side_px, "width": side_px}} if side_px else {}
    found = processor(images=list(images), return_tensors="pt", input_data_format="channels_last", **options)
    return found["pixel_values"]  # type: ignore[no-any-return]


def from_configuration(config: dict[str, Any], images: NDArray[np.uint8], side_px: int = 0) -> Tensor:
    """Images (N, H, W, 3) → (N, 3, h, w), resized and normalised as a `preprocessor_config.json` says.

    Raises ModelError for a processor that does more than that.
    """
    kind = processor_kind(config)
    if not kind.startswith(OWN) or config.get("do_pad"):
        raise ModelError(
            f"images for this model are prepared by its {kind or 'image processor'}, which needs the package 'pillow'; "
            "run `pip install pillow`"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    if config.get("do_resize", True):
        size = target_size(config, images.shape[1:3], side_px)
        # Depth Pro was trained on images shrunk without averaging; Pillow, which the others use, averages.
        antialias = not kind.startswith("DepthPro")
        mode = "bicubic" if config.get("resample", 2) == _BICUBIC else "bilinear"
        pixels = F.interpolate(pixels, size, mode=mode, align_corners=False, antialias=antialias).clamp(0, 255)
        if antialias:
            pixels = pixels.round()  # what Pillow makes is 8 bit again
    if config.get("do_rescale", True):
        pixels = pixels * float(config.get("rescale_factor", 1 / 255))
    if config.get("do_normalize", not kind.startswith("GLPN")):
        mean, std = (torch.tensor(config.get(name, [0.5] * 3))[:, None, None] for name in ("image_mean", "image_std"))
        pixels = (pixels - mean) / std
    return pixels


def processor_kind(config: dict[str, Any]) -> str:
    """The processor's class by its configuration, without what says how it computes; empty when it does not say."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    return kind.removesuffix("Fast").removesuffix("Pil")


def target_size(config: dict[str, Any], shape: tuple[int, ...], side_px: int = 0) -> tuple[int, int]:
    """(height, width) that images of `shape` are resized to by a `preprocessor_config.json`."""
    height, width = shape[:2]
    if "size_divisor" in config and processor_kind(config).startswith("GLPN"):
        step = int(config["size_divisor"])
        return max(step, height // step * step), max(step, width // step * step)
    size = config.get("size", 384)
    size = {"height": size, "width": size} if isinstance(size, int) else size
    wanted = (side_px or int(size["height"]), side_px or int(size["width"]))
    down, across = wanted[0] / height, wanted[1] / width
    if config.get("keep_aspect_ratio"):
        down = across = min(down, across, key=lambda scale: abs(1 - scale))  # as little as possible
    step = int(config.get("ensure_multiple_of", 1))
    return (max(step, round(down * height / step) * step), max(step, round(across * width / step) * step))


def back_to_images(maps: Tensor, shape: tuple[int, int], is_padded: bool = False) -> Tensor:
    """Maps (N, h, w) of the processed images → (N, H, W) of the images themselves, bicubic.

    `is_padded`: the processor had put a mirrored border of 3·√(side / 2) around them, as ZoeDepth's does.
    """
    height, width = shape
    down, across = (int(math.sqrt(side / 2) * 3) for side in shape) if is_padded else (0, 0)
    whole = F.interpolate(maps[:, None], (height + 2 * down, width + 2 * across), mode="bicubic", align_corners=False)
    return whole[:, 0, down : down + height, across : across + width]


def metres_of_canonical(inverse: Tensor, focal_per_width: Tensor, shape: tuple[int, int]) -> Tensor:
    """Depth Pro's inverse depth (N, h, w) for a camera as wide as long → metres (N, H, W).

    Depth is in proportion to the focal length in image widths (N,); equation 1 of arXiv 2410.02073.
    """
    scaled = inverse / focal_per_width[:, None, None]
    whole = F.interpolate(scaled[:, None], shape, mode="bilinear", align_corners=False)[:, 0]
    return 1.0 / whole.clamp(1e-4, 1e4)
