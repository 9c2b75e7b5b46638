"""The compact matcher: one encoder for ground views, one for aerial patches, unit descriptors that meet in the middle.

2.9 M parameters. The ground encoder also sees where each pixel's ray points on the vehicle and how far away flat ground
would be along it, so that one set of weights serves any camera height, tilt and focal length.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cross_view_loc.networks.unet import STRIDE_PX, UNet, normalize_image, stack_ground_input
from cross_view_loc.networks.weights import load_weights, prepare_for_inference

AERIAL_METERS_PER_PIXEL = 0.2
CELL_M = AERIAL_METERS_PER_PIXEL * STRIDE_PX
"""Side of an aerial feature cell."""
TOKEN_ROWS_PX, TOKEN_COLUMNS_PX = 4, 8
"""A ground cell spans this many pixels of a view; columns are coarser because roads recede along rows."""
DEPTH_KINDS = ("metric", "flat")
"""A ground cell's confidence depends on how it is lifted: flat ground is wrong for everything that stands upright."""
_DESCRIPTOR, _TRUNK = 32, 48


class Matcher(nn.Module):
    """Encoders, confidences and the temperature of the score."""

    def __init__(self) -> None:
        super().__init__()
        self.ground_body = UNet(5, (32, 64, 96, 128), _TRUNK)
        self.aerial_body = UNet(3, (32, 64, 96, 128), _TRUNK)
        self.ground_head = nn.Conv2d(_TRUNK, _DESCRIPTOR, 1)
        self.aerial_head = nn.Conv2d(_TRUNK, _DESCRIPTOR, 1)
        self.confidence_head = nn.Conv2d(_TRUNK, len(DEPTH_KINDS), 1)
        nn.init.zeros_(self.confidence_head.weight)
        nn.init.zeros_(self.confidence_head.bias)  # type: ignore[arg-type]
        self.log_match_sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.log_score_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def ground(self, views: Tensor, elevation: Tensor, flat_inverse_depth: Tensor) -> tuple[Tensor, Tensor]:
        """Views (B, 3, H, W) in [0, 1] with ray elevation and flat-ground inverse depth (B, H, W), to ground cells.

        Returns unit descriptors (B, T, 32) and log-confidences (B, T, 2) by `DEPTH_KINDS`; cells row by row.
        """
        trunk = self.ground_body(stack_ground_input(views, elevation, flat_inverse_depth))
        trunk = F.avg_pool2d(trunk, (TOKEN_ROWS_PX // STRIDE_PX, TOKEN_COLUMNS_PX // STRIDE_PX))
        descriptors = F.normalize(self.ground_head(trunk).float(), dim=1)
        confidence = self.confidence_head(trunk).float().clamp(-6.0, 4.0)
        return descriptors.flatten(2).transpose(1, 2), confidence.flatten(2).transpose(1, 2)

    def aerial(self, patches: Tensor) -> Tensor:
        """Patches (B, 3, S, S) in [0, 1] at 0.2 m per pixel → unit descriptors (B, 32, S/4, S/4)."""
        trunk = self.aerial_body(normalize_image(patches).contiguous(memory_format=torch.channels_last))
        return F.normalize(self.aerial_head(trunk).float(), dim=1)

    @property
    def score_sharpness(self) -> Tensor:
        """Factor from summed agreement to log-probability."""
        return self.log_score_sharpness.exp()

    @property
    def match_sharpness(self) -> Tensor:
        """Factor from cosine similarity to the logits of single matches."""
        return self.log_match_sharpness.exp().clamp(max=40.0)


def load_matcher(path: Path, device: str = "cpu") -> tuple[Matcher, dict[str, object]]:
    """The matcher and its metadata (calibration included), ready for inference. Raises ModelError."""
    weights = load_weights(path)
    matcher = Matcher()
    prepare_for_inference(matcher, weights, device)
    return matcher, weights.metadata
