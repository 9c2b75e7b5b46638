"""The compact monocular depth network: metric, because it is told where flat ground would be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cross_view_loc.depth.source import Depth
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View
from cross_view_loc.networks.unet import STRIDE_PX, UNet, stack_ground_input
from cross_view_loc.networks.weights import load_weights, prepare_for_inference

LARGEST_DEPTH_M = 80.0


class DepthNetwork(nn.Module):
    """View (B, 3, H, W) with ray elevation and flat-ground inverse depth → log z-depth and log-spread.

    Both (B, H/4, W/4); the spread is the absolute error expected of the log-depth.

    The network corrects flat ground rather than inventing metres: camera height and tilt come in with the rays, so the
    scale of what stands on the ground follows from where it touches it. 0.81 M parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = UNet(5, (24, 48, 72, 96), 32)
        self.head = nn.Conv2d(32, 2, 1)
        nn.init.zeros_(self.head.weight[1])  # the same spread everywhere, to begin with
        nn.init.constant_(self.head.bias[0], math.log(15.0))  # type: ignore[index]
        nn.init.constant_(self.head.bias[1], math.log(0.1))  # type: ignore[index]

    def forward(self, views: Tensor, elevation: Tensor, flat_inverse_depth: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(stack_ground_input(views, elevation, flat_inverse_depth))
        log_depth, log_spread = self.head(features).float().unbind(1)
        return log_depth.clamp(math.log(0.5), math.log(LARGEST_DEPTH_M * 1.5)), log_spread.clamp(-5.0, 1.0)


class LearnedDepth:
    """The depth network as a depth source."""

    kind = "metric"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        weights = load_weights(path)
        self.network = DepthNetwork()
        prepare_for_inference(self.network, weights, device)
        self.device = device
        self.log_scale_std = float(weights.metadata.get("log_scale_std", 0.05))  # type: ignore[arg-type]

    @torch.inference_mode()
    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        pixel_rays = view.rays()
        maps = self.network(
            torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255.0,
            torch.from_numpy(geometry.elevation(pixel_rays)).to(self.device).float()[None],
            torch.from_numpy(geometry.flat_inverse_depth(pixel_rays)).to(self.device).float()[None],
        )
        along = torch.from_numpy(rays).to(self.device).float()
        log_depth, log_spread = sample_cells(torch.cat(maps), view, along).double().cpu().numpy()
        return Depth(np.where(log_depth < math.log(LARGEST_DEPTH_M), np.exp(log_depth), 0.0), log_spread)


def sample_cells(maps: Tensor, view: View, rays: Tensor) -> Tensor:
    """Maps (C, h, w) over a view's cells, sampled bilinearly along rays (R, C, 3) → (C, R, C)."""
    u = rays[..., 0] * view.focal_px + view.width / 2
    v = rays[..., 1] * view.focal_px + view.height / 2
    # cell (i, j) is centred at pixel ((j + 0.5)·4, (i + 0.5)·4): grid_sample without corner alignment
    grid = torch.stack([u / view.width, v / view.height], -1) * 2 - 1
    assert maps.shape[-2:] == (view.height // STRIDE_PX, view.width // STRIDE_PX)
    return torch.nn.functional.grid_sample(maps[None], grid[None], align_corners=False, padding_mode="border")[0]
