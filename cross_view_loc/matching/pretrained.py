"""The matcher on a pretrained backbone: frozen DINOv2 tokens instead of trunks that have only ever seen a town.

Optional, chosen when training (`train matcher --backbone NAME`): the weights then hold the heads alone and name their
backbone, which is never part of them. It costs seconds a frame on a CPU. Two middle blocks are used: the last ones say
what a thing is, these still say where its borders are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cross_view_loc.errors import ModelError
from cross_view_loc.matching.encoders import Matcher
from cross_view_loc.matching.loc2.backbone import load_dinov2
from cross_view_loc.matching.loc2.specification import TOKEN_PX
from cross_view_loc.networks.unet import STRIDE_PX, restore_image

BLOCKS = (6, 9)
"""Whose outputs are taken, counted from 1."""
GROUND_ENLARGEMENT, AERIAL_ENLARGEMENT = 2.0, 1.75
"""Images are enlarged so that a token spans 7 px of a view and 1.6 m of a patch."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTH, _RAYS = 96, 2

Tokens = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1], sides multiples of 14 → (B, C, H / 14, W / 14)."""


class FrozenTokens:
    """Tokens of a Hugging Face DINOv2's middle blocks, each normalised over its channels, one after the other."""

    def __init__(self, module: Any, device: str = "cpu") -> None:
        """`module` answers as Hugging Face's `Dinov2Model`.

        Raises ModelError for a backbone of fewer blocks, or of other patches than 14 px.
        """
        config = module.config
        if config.patch_size != TOKEN_PX or config.num_hidden_layers < BLOCKS[-1]:
            raise ModelError(
                f"the backbone has {config.num_hidden_layers} blocks and patches of {config.patch_size} px; "
                f"use a DINOv2, which has {BLOCKS[-1]} blocks at least and patches of {TOKEN_PX} px"
            )
        self.channels = len(BLOCKS) * int(config.hidden_size)
        self._module = module.requires_grad_(False).to(device).eval()

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenTokens:
        """Frozen: a worker's copy of the matcher shares it."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], sides multiples of 14 → (B, channels, H / 14, W / 14)."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        states = self._module((images - mean) / std, output_hidden_states=True).hidden_states
        rows, columns = images.shape[2] // TOKEN_PX, images.shape[3] // TOKEN_PX
        chosen = [states[block][:, -rows * columns :].float() for block in BLOCKS]  # the class token comes first
        tokens = torch.cat([F.layer_norm(each, each.shape[-1:]) for each in chosen], -1)
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))


class PretrainedBody(nn.Module):
    """Takes a trunk's place: normalised image and ray channels (B, 3 + R, H, W) → features (B, out, H / 4, W / 4)."""

    def __init__(self, tokens: Tokens, channels: int, rays: int, enlargement: float, out_channels: int) -> None:
        super().__init__()
        self._tokens, self._enlargement = (tokens,), enlargement  # in a tuple: its weights are not this module's
        self.project = nn.Conv2d(channels, _WIDTH, 1)
        self.rays = nn.Conv2d(rays, _WIDTH, 1, bias=False) if rays else None
        self.first, self.second = nn.GroupNorm(8, _WIDTH), nn.GroupNorm(8, _WIDTH)
        self.mix = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_WIDTH, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[2:]
        sides = [max(1, round(side * self._enlargement / TOKEN_PX)) * TOKEN_PX for side in (rows, columns)]
        enlarged = F.interpolate(restore_image(image[:, :3]), size=sides, mode="bicubic", align_corners=False)
        tokens = F.dropout2d(self._tokens[0](enlarged.clamp(0, 1)), 0.1, self.training)
        size = (rows // STRIDE_PX, columns // STRIDE_PX)
        x = F.interpolate(self.project(tokens), size=size, mode="bilinear", align_corners=False)
        if self.rays is not None:
            x = x + self.rays(F.avg_pool2d(image[:, 3:], STRIDE_PX))
        x = F.gelu(self.first(x))
        return self.out(F.gelu(self.second(self.mix(x)) + x))  # type: ignore[no-any-return]


class PretrainedMatcher(Matcher):
    """The matcher's heads, confidences and temperatures on frozen tokens; what is trained and stored is these alone."""

    def __init__(self, tokens: Tokens, channels: int) -> None:
        super().__init__()
        trunk = self.ground_head.in_channels
        self.ground_body = PretrainedBody(tokens, channels, _RAYS, GROUND_ENLARGEMENT, trunk)  # type: ignore[assignment]
        self.aerial_body = PretrainedBody(tokens, channels, 0, AERIAL_ENLARGEMENT, trunk)  # type: ignore[assignment]


def make_matcher(backbone: str = "", device: str = "cpu") -> Matcher:
    """An untrained matcher: the compact one, or on the DINOv2 of that Hugging Face name or local folder.

    Raises ModelError when the backbone cannot be had.
    """
    if not backbone:
        return Matcher()
    tokens = FrozenTokens(load_dinov2(backbone, BLOCKS[-1]), device)
    return PretrainedMatcher(tokens, tokens.channels)
