"""Aerial features of a patch, computed once and reused while the vehicle stays near."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.matching.encoders import AERIAL_METERS_PER_PIXEL, FINE, Matcher
from cross_view_loc.networks.unet import STRIDE_PX

SNAP_M = 4.0
SNAP_HEADING_RAD = math.radians(5.0)
"""Patches are cut at multiples of these, so that neighbouring frames ask for the same one."""


def snapped_heading(rotation_rad: float) -> float:
    """How a patch for a vehicle that faces about `rotation_rad` is turned."""
    return round(rotation_rad / SNAP_HEADING_RAD) * SNAP_HEADING_RAD


class PatchSource(Protocol):
    """Anything that cuts metric patches: an AerialMap, or one image file."""

    def patch(
        self,
        center_east_m: float,
        center_north_m: float,
        size_px: int,
        meters_per_pixel: float,
        rotation_rad: float,
    ) -> Patch:
        """A square patch; raises NoImageryError where there is nothing at all."""
        ...


@dataclass(frozen=True)
class AerialFeatures:
    """A patch and its descriptors."""

    patch: Patch
    descriptors: Tensor
    """(D, N, N); zero where there is no imagery, so that nothing is matched there."""
    fine: Tensor
    """(D', 2N, 2N) likewise."""

    revision: int = 0
    """Of the source when the patch was cut: whether better imagery may have come since."""
    changes: int = 0
    """Likewise: whether its imagery may have been withdrawn or replaced since."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it was missing or stood in for something better."""
        return self.patch.stand_in == 0.0 and bool(self.patch.valid.all())

    @property
    def size_m(self) -> float:
        """Side of the patch."""
        return self.patch.image.shape[0] * self.patch.meters_per_pixel

    def to_patch(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Map position → (right, up) metres from the patch centre."""
        d_east, d_north = east_m - self.patch.center_east_m, north_m - self.patch.center_north_m
        c, s = math.cos(self.patch.rotation_rad), math.sin(self.patch.rotation_rad)
        return d_east * s - d_north * c, d_east * c + d_north * s

    def patch_axes(self) -> np.ndarray:
        """(2, 2) matrix taking (right, up) to (east, north)."""
        c, s = math.cos(self.patch.rotation_rad), math.sin(self.patch.rotation_rad)
        return np.array([[s, c], [-c, s]])


class AerialFeatureCache:
    """Cuts snapped patches and keeps the features of the most recent ones."""

    def __init__(self, source: PatchSource, matcher: Matcher, device: str, capacity_mb: float = 128.0) -> None:
        self.source, self._matcher, self._device, self._capacity_mb = source, matcher, device, capacity_mb
        self._kept: OrderedDict[tuple[float, ...], AerialFeatures] = OrderedDict()
        self.hits = 0
        self.misses = 0

    @property
    def latest_patch(self) -> Patch | None:
        """The one last asked for; None before the first."""
        return next(reversed(self._kept.values())).patch if self._kept else None

    def features(
        self, east_m: float, north_m: float, rotation_rad: float, ahead: tuple[float, float], size_px: int
    ) -> AerialFeatures:
        """Features of the snapped patch for a vehicle near (east, north) facing about `rotation_rad`.

        `ahead` = metres (forward, left) from the vehicle to the patch centre: what lies behind a front camera is not
        worth encoding. Rounded to metres, so that a camera that trembles on its mount finds its patches again.
        """
        ahead = (float(round(ahead[0])), float(round(ahead[1])))
        rotation = snapped_heading(rotation_rad)
        snapped_east, snapped_north = round(east_m / SNAP_M) * SNAP_M, round(north_m / SNAP_M) * SNAP_M
        rotation = math.remainder(rotation, 2 * math.pi)
        key = (snapped_east, snapped_north, round(rotation, 6), *ahead, size_px)
        revision, changes = int(getattr(self.source, "revision", 0)), int(getattr(self.source, "changes", 0))
        kept = self._kept.get(key)
        if kept is not None and kept.changes == changes and (kept.is_complete or kept.revision == revision):
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]
        self.misses += 1
        c, s = math.cos(rotation), math.sin(rotation)
        patch = self.source.patch(
            snapped_east + c * ahead[0] - s * ahead[1],
            snapped_north + s * ahead[0] + c * ahead[1],
            size_px,
            AERIAL_METERS_PER_PIXEL,
            rotation,
        )
        self._kept[key] = AerialFeatures(patch, *encode_patch(self._matcher, patch, self._device), revision, changes)
        while len(self._kept) > 1 and sum(map(_megabytes, self._kept.values())) > self._capacity_mb:
            self._kept.popitem(last=False)
        return self._kept[key]


def _megabytes(features: AerialFeatures) -> float:
    numbers = sum(values.numel() * values.element_size() for values in (features.descriptors, features.fine))
    return (numbers + features.patch.image.nbytes + features.patch.valid.nbytes) / 1e6


@torch.inference_mode()
def encode_patch(matcher: Matcher, patch: Patch, device: str) -> tuple[Tensor, Tensor]:
    """Coarse (D, N, N) and fine (D', 2N, 2N) descriptors of a patch, zero in cells not wholly covered by imagery."""
    image = torch.from_numpy(np.ascontiguousarray(patch.image)).to(device).permute(2, 0, 1)[None].float() / 255.0
    coarse, fine = (layer[0] for layer in matcher.aerial(image))
    if not patch.valid.all():
        covered = torch.from_numpy(patch.valid).to(device).float()[None, None]
        coarse = coarse * (F.avg_pool2d(covered, STRIDE_PX)[0] > 0.99)
        fine = fine * (F.avg_pool2d(covered, STRIDE_PX // FINE)[0] > 0.99)
    return coarse, fine
