"""The matcher of Loc² (arXiv 2509.09792) as its released weights expect it: backbone tokens in, match scores out.

Two projectors of one architecture (residual convolutions, three layers of linear attention, one more residual block)
turn the tokens of either image into unit descriptors; the score is a dual softmax over their similarities with a
learned dustbin on both sides. Module and parameter names are those of the released state dict (163 tensors), so that
it loads strictly. 21.5 M parameters; the backbone is not among them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN_CHANNELS = 1024
CHANNELS = (TOKEN_CHANNELS, 512, 256, 128)
DESCRIPTOR = CHANNELS[-1]
HEADS = 8
TEMPERATURE = 0.1
AERIAL_CELLS = 41
"""Aerial tokens are resized to this many rows and columns before their projector."""


class ResidualBlock(nn.Module):
    """conv-bn-relu-conv-bn plus the input (through a 1×1 convolution where the channels change)."""

    def __init__(self, channels_in: int, channels_out: int, closing_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = (
            nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1, bias=False)
        )
        self.closing_relu = closing_relu

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        return F.relu(y) if self.closing_relu else y


class LinearAttentionLayer(nn.Module):
    """Self-attention whose cost grows linearly with the tokens: feature map elu + 1 (Katharopoulos et al. 2020)."""

    def __init__(self, width: int = DESCRIPTOR) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, 2 * width, bias=False), nn.ReLU(), nn.Linear(2 * width, width, bias=False)
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) → tokens (B, N, C)."""
        batch, count, width = x.shape
        shape = (batch, count, HEADS, width // HEADS)
        query = F.elu(self.q_proj(x).view(shape)) + 1
        key = F.elu(self.k_proj(x).view(shape)) + 1
        value = self.v_proj(x).view(shape) / count  # keeps the sums small; undone below
        summary = torch.einsum("bnhd,bnhe->bhde", key, value)
        normaliser = torch.einsum("bnhd,bhd->bnh", query, key.sum(1)) + 1e-6
        message = torch.einsum("bnhd,bhde->bnhe", query, summary) / normaliser[..., None] * count
        message = self.norm1(self.merge(message.reshape(batch, count, width)))
        return x + self.norm2(self.mlp(torch.cat([x, message], -1)))


class Attention(nn.Module):
    """Three layers over all cells of one image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LinearAttentionLayer() for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).unflatten(2, features.shape[2:])


class Projector(nn.Module):
    """Backbone tokens (B, 1024, H, W) → unit descriptors (B, 128, H, W)."""

    def __init__(self, encodes_position: bool) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*[ResidualBlock(a, b) for a, b in pairwise(CHANNELS)])
        self.att_layer = Attention()
        self.final_block = ResidualBlock(DESCRIPTOR, DESCRIPTOR, closing_relu=False)
        self.encodes_position = encodes_position

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.resblocks(tokens)
        if self.encodes_position:
            features = features + sine_position(features.shape[2], features.shape[3], features.device)
        return F.normalize(self.final_block(self.att_layer(features)), dim=1)


class Loc2Network(nn.Module):
    """The whole matcher; ground cells and aerial cells are counted row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.dustbin_score = nn.Parameter(torch.tensor(1.0))
        self.grd_projector = Projector(encodes_position=True)
        self.sat_projector = Projector(encodes_position=False)

    def similarity(
        self, ground_tokens: Tensor, aerial_tokens: Tensor, ground_mask: Tensor, aerial_cells: int = AERIAL_CELLS
    ) -> Tensor:
        """Cosine over temperature (B, aerial_cells², h·w), −inf where the mask (B, h·w) of ground cells is False.

        `ground_tokens` (B, 1024, h, w) and `aerial_tokens` (B, 1024, H, W) are the backbone's, in any precision.
        """
        # The cells' centres lie at (i + 0.5) / cells of the patch: resized without corner alignment.
        aerial_tokens = F.interpolate(
            aerial_tokens.float(), size=(aerial_cells, aerial_cells), mode="bilinear", align_corners=False
        )
        ground = self.grd_projector(ground_tokens.float()).flatten(2)
        aerial = self.sat_projector(aerial_tokens).flatten(2)
        similarity = aerial.transpose(1, 2) @ ground / TEMPERATURE
        return similarity.masked_fill(~ground_mask[:, None], -math.inf)

    def score(self, similarity: Tensor) -> Tensor:
        """Probability (B, A, G) that two cells are each other's match: dual softmax with a dustbin row and column."""
        dustbin = self.dustbin_score
        # A softmax with one more logit is two subtractions from it: no padded copy of millions of similarities.
        over_ground = torch.logaddexp(similarity.logsumexp(2, keepdim=True), dustbin)
        over_aerial = torch.logaddexp(similarity.logsumexp(1, keepdim=True), dustbin)
        return (2 * similarity - over_ground - over_aerial).exp()

    def forward(
        self, ground_tokens: Tensor, aerial_tokens: Tensor, ground_mask: Tensor, aerial_cells: int = AERIAL_CELLS
    ) -> Tensor:
        return self.score(self.similarity(ground_tokens, aerial_tokens, ground_mask, aerial_cells))


def sine_position(rows: int, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """(1, 128, rows, columns): sin x, cos x, sin y, cos y of each of 32 frequencies, positions counted from one."""
    frequency = torch.exp(torch.arange(0, DESCRIPTOR // 2, 2, device=device) * (-math.log(10000.0) / (DESCRIPTOR // 2)))
    x = (torch.arange(columns, device=device) + 1.0) * frequency[:, None]
    y = (torch.arange(rows, device=device) + 1.0) * frequency[:, None]
    x, y = x[:, None, :].expand(-1, rows, -1), y[:, :, None].expand(-1, -1, columns)
    return torch.stack([x.sin(), x.cos(), y.sin(), y.cos()], 1).flatten(0, 1)[None]
