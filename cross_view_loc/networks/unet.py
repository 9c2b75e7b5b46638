"""The one convolutional body that the ground encoder, the aerial encoder and the depth network share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE_PX = 4
"""Feature cells are this many input pixels apart, in rows and columns."""


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """conv-bn-relu-conv-bn beside the identity; starts as the identity, which steadies early training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class UNet(nn.Module):
    """Image (B, C, H, W) → features (B, out_channels, H/4, W/4), with context from strides 8, 16 and 32.

    Pixels are folded into channels before the first convolution, so no full-resolution layer is ever computed: most of
    what makes this fast on a CPU. H and W must be multiples of 4; other strides are handled by resizing.
    """

    def __init__(self, in_channels: int, channels: tuple[int, int, int, int], out_channels: int) -> None:
        super().__init__()
        a, b, c, d = channels
        self.stem = nn.Sequential(_convolution(in_channels * 4, a, 3, 2), _convolution(a, a))
        self.down8 = nn.Sequential(_convolution(a, b, 3, 2), ResidualBlock(b), ResidualBlock(b))
        self.down16 = nn.Sequential(_convolution(b, c, 3, 2), ResidualBlock(c), ResidualBlock(c))
        self.down32 = nn.Sequential(_convolution(c, d, 3, 2), ResidualBlock(d), ResidualBlock(d))
        self.up16 = nn.Sequential(_convolution(c + d, c, 1), _convolution(c, c))
        self.up8 = nn.Sequential(_convolution(b + c, b, 1), _convolution(b, b))
        self.up4 = nn.Sequential(_convolution(a + b, out_channels, 1), _convolution(out_channels, out_channels))

    def forward(self, image: Tensor) -> Tensor:
        x4 = self.stem(F.pixel_unshuffle(image, 2))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        y = self.up16(torch.cat([x16, _resize_like(x32, x16)], 1))
        y = self.up8(torch.cat([x8, _resize_like(y, x8)], 1))
        return self.up4(torch.cat([x4, _resize_like(y, x4)], 1))


def _resize_like(x: Tensor, reference: Tensor) -> Tensor:
    return F.interpolate(x, size=reference.shape[-2:], mode="nearest")


def normalize_image(image: Tensor) -> Tensor:
    """RGB in [0, 1], any shape → roughly zero mean and unit deviation, the range every network here was trained on."""
    return (image - 0.4) / 0.25


def restore_image(normalized: Tensor) -> Tensor:
    """The inverse of `normalize_image`."""
    return normalized * 0.25 + 0.4


def stack_ground_input(views: Tensor, elevation: Tensor, flat_inverse_depth: Tensor) -> Tensor:
    """The five input channels that every ground network shares, (B, 5, H, W).

    Views (B, 3, H, W) in [0, 1]; sine of each pixel's ray elevation and flat-ground inverse depth (1/m), (B, H, W).
    """
    rays = torch.stack([elevation * 2.0, flat_inverse_depth.clamp(max=0.5) * 4.0], 1)
    return torch.cat([normalize_image(views), rays], 1).contiguous(memory_format=torch.channels_last)
