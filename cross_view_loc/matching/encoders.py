"""The compact matcher: one encoder for ground views, one for aerial patches, unit descriptors that meet in the middle.

Two layers come out of each: coarse cells, whose consensus an FFT scores for every pose of a lattice, and fine cells
from the same trunk, which sharpen the best poses and tell look-alikes apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cross_view_loc.networks.unet import STRIDE_PX, UNet, normalize_image, stack_ground_input
from cross_view_loc.networks.weights import load_weights, prepare_for_inference

AERIAL_METERS_PER_PIXEL = 0.2
CELL_M = AERIAL_METERS_PER_PIXEL * STRIDE_PX
"""Side of a coarse aerial cell."""
FINE = 2
"""A coarse aerial cell holds FINE × FINE fine ones, a coarse ground cell FINE fine ones above each other."""
TOKEN_ROWS_PX, TOKEN_COLUMNS_PX = 4, 8
"""A coarse ground cell spans this many pixels of a view; columns are coarser because roads recede along rows."""
DEPTH_KINDS = ("metric", "flat")
"""A ground cell's confidence depends on how it is lifted: flat ground is wrong for everything that stands upright."""
_DESCRIPTOR, _FINE_DESCRIPTOR, _TRUNK = 32, 16, 48


@dataclass(frozen=True)
class CellFeatures:
    """Ground cells of a batch of views at one resolution, row by row."""

    descriptors: Tensor
    """(B, T, D) unit."""
    log_confidence: Tensor
    """(B, T, 2) by DEPTH_KINDS, before the depth's own uncertainty is known."""


class Matcher(nn.Module):
    """Encoders, confidences and the temperatures of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.ground_body = UNet(5, (32, 64, 96, 128), _TRUNK)
        self.aerial_body = UNet(3, (32, 64, 96, 128), _TRUNK)
        self.ground_head = nn.Conv2d(_TRUNK, _DESCRIPTOR, 1)
        self.aerial_head = nn.Conv2d(_TRUNK, _DESCRIPTOR, 1)
        self.confidence_head = nn.Conv2d(_TRUNK, len(DEPTH_KINDS), 1)
        self.ground_fine_head = nn.Conv2d(_TRUNK, _FINE_DESCRIPTOR * FINE, 1)
        self.aerial_fine_head = nn.Conv2d(_TRUNK, _FINE_DESCRIPTOR * FINE * FINE, 1)
        self.fine_confidence_head = nn.Conv2d(_TRUNK, len(DEPTH_KINDS) * FINE, 1)
        self.trust = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        for module in (self.confidence_head, self.fine_confidence_head, self.trust[2]):
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.log_match_sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.log_score_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))
        self.log_fine_sharpness = nn.Parameter(torch.tensor(math.log(5.0)))

    def ground(self, views: Tensor, elevation: Tensor, flat_inverse_depth: Tensor) -> tuple[CellFeatures, CellFeatures]:
        """Views (B, 3, H, W) in [0, 1] with ray elevation and flat-ground inverse depth (B, H, W), to ground cells.

        Returns the coarse cells, and the fine ones: first all upper halves of the coarse cells, then all lower ones.
        """
        trunk = self.ground_body(stack_ground_input(views, elevation, flat_inverse_depth))
        trunk = F.avg_pool2d(trunk, (TOKEN_ROWS_PX // STRIDE_PX, TOKEN_COLUMNS_PX // STRIDE_PX))
        coarse = _cells(self.ground_head(trunk), self.confidence_head(trunk), 1)
        return coarse, _cells(self.ground_fine_head(trunk), self.fine_confidence_head(trunk), FINE)

    def aerial(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, 3, S, S) in [0, 1] at 0.2 m per pixel → unit descriptors (B, 32, S/4, S/4), (B, 16, S/2, S/2)."""
        trunk = self.aerial_body(normalize_image(patches).contiguous(memory_format=torch.channels_last))
        fine = F.pixel_shuffle(self.aerial_fine_head(trunk).float(), FINE)
        return F.normalize(self.aerial_head(trunk).float(), dim=1), F.normalize(fine, dim=1)

    def trust_in_depth(self, depth_m: Tensor, log_spread: Tensor) -> Tensor:
        """What a measured or learned depth's own uncertainty adds to the log-confidence of coarse and fine cells.

        Depth (...) in metres, log of its relative deviation (...) → (..., 2).
        """
        return self.trust(torch.stack([depth_m.clamp(1.0, 60.0).log() - 2.3, log_spread + 2.5], -1)).clamp(-6.0, 2.0)

    @property
    def score_sharpness(self) -> Tensor:
        """Factor from summed agreement of the coarse cells to log-probability."""
        return self.log_score_sharpness.exp()

    @property
    def fine_sharpness(self) -> Tensor:
        """The same for the fine cells."""
        return self.log_fine_sharpness.exp()

    @property
    def match_sharpness(self) -> Tensor:
        """Factor from cosine similarity to the logits of single matches."""
        return self.log_match_sharpness.exp().clamp(max=40.0)


def _cells(descriptors: Tensor, confidence: Tensor, parts: int) -> CellFeatures:
    """Maps (B, parts·D, h, w) and (B, parts·2, h, w) → cells (B, parts·h·w, …), part by part."""
    d = descriptors.float().unflatten(1, (parts, -1)).flatten(3).transpose(2, 3).flatten(1, 2)
    c = confidence.float().clamp(-6.0, 4.0).unflatten(1, (parts, -1)).flatten(3).transpose(2, 3).flatten(1, 2)
    return CellFeatures(F.normalize(d, dim=-1), c)


def load_matcher(path: Path, device: str = "cpu") -> tuple[Matcher, dict[str, object]]:
    """The matcher and its metadata (calibration included), ready for inference. Raises ModelError.

    Weights that name a backbone in their metadata are a `PretrainedMatcher`'s.
    """
    from cross_view_loc.matching.pretrained import make_matcher

    weights = load_weights(path)
    matcher = make_matcher(str(weights.metadata.get("backbone", "")), device)
    prepare_for_inference(matcher, weights, device)
    return matcher, weights.metadata
