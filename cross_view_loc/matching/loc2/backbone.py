"""DINOv2 ViT-L/14 patch tokens as the released matchers expect them: no ImageNet normalisation, offset positions."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cross_view_loc.errors import ModelError
from cross_view_loc.matching.loc2.network import TOKEN_CHANNELS
from cross_view_loc.matching.loc2.specification import TOKEN_PX
from cross_view_loc.models.installed import find_named

DINOV2_LARGE = "facebook/dinov2-large"
"""Apache-2.0, 304 M parameters."""
POSITION_OFFSET = 0.1

Backbone = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1], sides multiples of 14 → tokens (B, 1024, H / 14, W / 14)."""


def load_backbone(name: str = DINOV2_LARGE, device: str = "cpu", channels: int = TOKEN_CHANNELS) -> Backbone:
    """DINOv2 by registry name, by Hugging Face name (fetched before, or in its cache) or from a local folder.

    Half precision on a GPU, single on a CPU. Raises ModelError when `transformers` is missing, when there is no such
    model, or when its tokens do not have `channels` channels.
    """
    model = load_dinov2(name)
    if model.config.hidden_size != channels or model.config.patch_size != TOKEN_PX:
        raise ModelError(
            f"the backbone '{name}' has {model.config.hidden_size} channels and patches of {model.config.patch_size} "
            f"px, but the matcher was trained on {channels} and {TOKEN_PX}; use {DINOV2_LARGE}"
        )
    return ModuleBackbone(model, device)


def load_dinov2(name: str, blocks: int | None = None) -> Any:
    """The `Dinov2Model` of a Hugging Face name or a local folder, its position embeddings interpolated as published.

    Only its first `blocks` blocks when given. Raises ModelError when `transformers` is missing or there is no such
    model.
    """
    try:
        from transformers import Dinov2Model
    except ImportError as error:
        raise ModelError(
            f"the backbone '{name}' needs the package 'transformers', which is missing; run `pip install transformers`"
        ) from error
    try:
        model = Dinov2Model.from_pretrained(find_named(name)[0], local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ModelError(
            f"the backbone '{name}' cannot be loaded ({first}); "
            f"run `cross_view_loc models fetch {name}`, or give a folder with its config.json and model.safetensors"
        ) from error
    if blocks is not None:
        model.encoder.layer = model.encoder.layer[:blocks]
    use_published_positions(model)
    return model


class ModuleBackbone:
    """Any torch module as a backbone: Hugging Face's DINOv2, the one of torch hub, or one that returns a grid."""

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        self.precision = torch.float16 if device.startswith("cuda") else torch.float32
        self.device = device
        self.module = module.requires_grad_(False).to(device=device, dtype=self.precision).eval()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Final normed patch tokens (B, C, H / 14, W / 14), without the class token. Raises ModelError."""
        rows, columns = images.shape[2] // TOKEN_PX, images.shape[3] // TOKEN_PX
        images = images.to(self.device, self.precision)
        features = getattr(self.module, "forward_features", None)
        output = features(images) if features is not None else self.module(images)
        if isinstance(output, dict) and "x_norm_patchtokens" in output:
            output = output["x_norm_patchtokens"]
        output = getattr(output, "last_hidden_state", output)
        if not isinstance(output, Tensor):
            raise ModelError(f"the backbone returned {type(output).__name__}; it must return patch tokens as a tensor")
        if output.ndim == 3:  # tokens; what comes before the patches is the class token and its like
            output = output[:, output.shape[1] - rows * columns :].transpose(1, 2)
            output = output.unflatten(2, (rows, columns)) if output.shape[2] == rows * columns else output
        if output.ndim != 4 or output.shape[2:] != (rows, columns):
            raise ModelError(
                f"the backbone returned tokens of shape {list(output.shape)} where {rows} x {columns} patches of "
                f"{TOKEN_PX} px were meant; use a ViT with {TOKEN_PX} px patches"
            )
        return output


def use_published_positions(model: nn.Module, offset: float = POSITION_OFFSET) -> None:
    """Make a Hugging Face DINOv2 interpolate its position embeddings as the published DINOv2 does.

    `transformers` resizes to the target's size; the published one by the factor (size + 0.1) / trained size, which
    moves every sample a little. Weights trained on the latter's tokens want the latter's tokens.
    """
    embeddings = model.embeddings

    def interpolate_pos_encoding(self: nn.Module, tokens: Tensor, height: int, width: int) -> Tensor:
        return interpolate_positions(self.position_embeddings, height // TOKEN_PX, width // TOKEN_PX, offset)  # type: ignore[arg-type]

    embeddings.interpolate_pos_encoding = types.MethodType(interpolate_pos_encoding, embeddings)  # type: ignore[union-attr,assignment]


def interpolate_positions(positions: Tensor, rows: int, columns: int, offset: float = POSITION_OFFSET) -> Tensor:
    """Embeddings (1, 1 + n², C) of a class token and a square grid → (1, 1 + rows·columns, C), bicubic.

    With an `offset` the scale factors are (size + offset) / n, else the exact ratio. The trained grid stays as it is.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return positions
    grid = positions[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if offset:
        factors = ((rows + offset) / side, (columns + offset) / side)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
    else:
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2).to(positions.dtype)], 1)


def to_unit_image(image: NDArray[np.uint8], rows: int, columns: int) -> Tensor:
    """An RGB image (H, W, 3) resized to exactly (1, 3, rows, columns) in [0, 1], averaging where it shrinks."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255.0
    if tensor.shape[2:] == (rows, columns):
        return tensor
    return F.interpolate(tensor, size=(rows, columns), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
