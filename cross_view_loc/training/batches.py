"""Batches for training: random views, priors and patches from towns in memory, made ahead in a background thread."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.geometry.lifting import ViewGeometry, lifted_inside
from cross_view_loc.geometry.transforms import yaw_of
from cross_view_loc.geometry.views import View
from cross_view_loc.matching.encoders import AERIAL_METERS_PER_PIXEL
from cross_view_loc.matching.ground import cell_rays
from cross_view_loc.training.town_data import TownData

PATCH_PX = 400
AHEAD_M = 16.0
PRIOR_RADIUS_M = 20.0
HEADING_RANGE_RAD = math.radians(15.0)


@dataclass(frozen=True)
class ViewInputs:
    """What every ground network sees, (B, …)."""

    images: Tensor
    elevation: Tensor
    flat_inverse_depth: Tensor


@dataclass(frozen=True)
class MatcherBatch:
    """Views, patches and where the vehicle truly is."""

    views: ViewInputs
    patches: Tensor
    points: dict[str, tuple[Tensor, Tensor]]
    """By depth kind: body points (B, T, 2) and usability (B, T); coarse cells, then fine ones."""
    depth_m: Tensor
    log_spread: Tensor
    """(B, T) of the metric depth."""
    prior: Tensor
    """(B, 2) right, up of the prior in the patch."""
    shift: Tensor
    """(B, 2) true position minus prior, right and up."""
    heading: Tensor
    """(B,) true heading offset from patch-up."""


@dataclass(frozen=True)
class DepthBatch:
    """Views and their depth at stride 4, (B, 48, 80), 0 = sky."""

    views: ViewInputs
    depth_m: Tensor


def geometry_of(town: TownData, index: int) -> tuple[View, ViewGeometry]:
    """The view and its nominal geometry as a localizer would know it."""
    T = np.asarray(town.T_base_camera[index], dtype=np.float64)
    return View(float(town.focal_px[index])), ViewGeometry(T, town.R_level_base[index], float(T[2, 3]))


def view_arrays(town: TownData, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Image, elevation and flat inverse depth of one view."""
    view, geometry = geometry_of(town, index)
    rays = view.rays()
    elevation = geometry.elevation(rays).astype(np.float32)
    return town.images[index], elevation, geometry.flat_inverse_depth(rays).astype(np.float32)


def lifted(town: TownData, index: int, depth_m: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Body points (T, 2) and usability (T,) of a view's cells under a depth (3·48, 40) along `cell_rays`."""
    view, geometry = geometry_of(town, index)
    points = geometry.lift(cell_rays(view), depth_m)
    origin = geometry.R_level_base @ geometry.T_base_view[:3, 3]
    usable = (depth_m > 0) & lifted_inside(points, origin)
    return points[..., :2].reshape(-1, 2).astype(np.float32), usable.reshape(-1)


def flat_depth(town: TownData, index: int) -> NDArray[np.float64]:
    """Depth (3·48, 40) of the plane under the vehicle at the matcher's cells, 0 above the horizon."""
    view, geometry = geometry_of(town, index)
    inverse = geometry.flat_inverse_depth(cell_rays(view))
    return np.where(inverse > 1 / 40.0, 1.0 / np.maximum(inverse, 1e-6), 0.0)


def at_cells(cells: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values (…, 48, 80) at stride 4 → (…, 3·48, 40) along `cell_rays`, sampled as `sample_cells` does."""
    coarse = (cells[..., 0::2] + cells[..., 1::2]).astype(np.float64) / 2
    above = np.concatenate([coarse[..., :1, :], coarse[..., :-1, :]], -2)
    below = np.concatenate([coarse[..., 1:, :], coarse[..., -1:, :]], -2)
    return np.concatenate([coarse, 0.75 * coarse + 0.25 * above, 0.75 * coarse + 0.25 * below], -2)


def true_depth(town: TownData, index: int) -> NDArray[np.float64]:
    """Rendered depth (3·48, 40) along `cell_rays`; across edges of objects that of the coarse cell."""
    coarse = town.cell_depth_m[index].astype(np.float64)
    inverse = 1 / np.maximum(town.depth_m[index].astype(np.float64), 0.1)
    smooth = 1 / at_cells(inverse)
    tiled = np.concatenate([coarse] * 3)
    return np.where((np.abs(np.log(smooth / np.maximum(tiled, 0.1))) < 0.15) & (tiled > 0), smooth, tiled)


PredictedDepth = dict[int, NDArray[np.float16]]
"""Town seed → (N, 2, 48, 80) log-depth and log-spread as the depth network gives them."""


def matcher_sample(
    town: TownData, index: int, predicted: PredictedDepth, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """One view with a random prior about it and the patch a localizer would cut."""
    T = town.T_map_base[index]
    yaw_rad, position = yaw_of(T), T[:2, 3]
    heading = rng.uniform(-HEADING_RANGE_RAD, HEADING_RANGE_RAD)
    rotation = yaw_rad - heading
    c, s = math.cos(rotation), math.sin(rotation)
    axes = np.array([[s, c], [-c, s]])  # (right, up) → (east, north)
    shift = rng.uniform(-PRIOR_RADIUS_M, PRIOR_RADIUS_M, 2)
    axis = town.T_base_camera[index][:3, 2]
    forward, left = axis[:2] / np.hypot(*axis[:2])
    ahead = AHEAD_M * np.array([-left, forward])
    center = position + axes @ (ahead - shift)
    patch = town.maps[rng.integers(len(town.maps))].patch(
        float(center[0]), float(center[1]), PATCH_PX, AERIAL_METERS_PER_PIXEL, rotation
    )
    image, elevation, inverse = view_arrays(town, index)
    depth, spread = true_depth(town, index), np.full((3 * 48, 40), math.log(0.02))
    if town.seed in predicted and rng.random() > 0.3:
        log_depth, spread = at_cells(predicted[town.seed][index])
        depth = np.where(log_depth < math.log(80.0), np.exp(log_depth), 0.0)
    else:  # true depth with a scale error keeps the confidences from leaning on one network's errors
        depth = depth * math.exp(rng.normal(0, 0.02))
    out = dict(image=image, elevation=elevation, inverse=inverse, patch=patch.image, prior=-ahead, shift=shift)
    out |= dict(depth=depth.reshape(-1).astype(np.float32), spread=spread.reshape(-1).astype(np.float32))
    for name, z_m in (("metric", depth), ("flat", flat_depth(town, index))):
        out[f"points_{name}"], out[f"usable_{name}"] = lifted(town, index, z_m)
    return {**out, "heading": np.float64(heading)}


def collate_matcher(samples: Sequence[dict[str, NDArray[np.generic]]]) -> MatcherBatch:
    """Stack samples; pixels become floats in [0, 1]."""
    t = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
    return MatcherBatch(
        ViewInputs(_pixels(t["image"]), t["elevation"], t["inverse"]),
        _pixels(t["patch"]),
        {name: (t[f"points_{name}"], t[f"usable_{name}"]) for name in ("metric", "flat")},
        t["depth"],
        t["spread"],
        t["prior"].float(),
        t["shift"].float(),
        t["heading"].float(),
    )


def collate_depth(town_and_index: Sequence[tuple[TownData, int]]) -> DepthBatch:
    """Views with their depth."""
    arrays = [view_arrays(town, index) for town, index in town_and_index]
    images, elevation, inverse = (torch.from_numpy(np.stack(column)) for column in zip(*arrays, strict=True))
    depth = np.stack([town.depth_m[index] for town, index in town_and_index]).astype(np.float32)
    return DepthBatch(ViewInputs(_pixels(images), elevation, inverse), torch.from_numpy(depth))


def _pixels(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255.0


def augment_colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Another sensor, light and season each: gamma, gain, white balance, saturation, haze, blur and noise per image."""
    batch = images.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.rand(batch, channels, 1, 1, generator=generator) * (high - low) + low

    x = images.clamp(1e-4, 1) ** uniform(0.65, 1.5) * uniform(0.7, 1.3) * uniform(0.88, 1.12, 3)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(0.3, 1.3)
    haze = uniform(0.0, 0.2) * (uniform(0.0, 1.0) < 0.3)
    x = x * (1 - haze) + 0.8 * haze
    x = torch.where(uniform(0.0, 1.0) < 0.08, x.mean(1, keepdim=True), x)
    x = torch.where(uniform(0.0, 1.0) < 0.25, _blurred(x), x)
    return (x + torch.randn(x.shape, generator=generator) * uniform(0.0, 0.03)).clamp(0, 1)


def _blurred(images: Tensor) -> Tensor:
    """As a sensor with half the resolution would see it."""
    return F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear", align_corners=False)


def background(make: Callable[[int], object], count: int, ahead: int = 4) -> Iterator[object]:
    """Yield make(0), make(1), … make(count − 1), computed ahead in one thread; its errors are raised here."""
    ready: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)

    def work() -> None:
        for index in range(count):
            try:
                ready.put((make(index), None))
            except BaseException as error:
                ready.put((None, error))
                return

    threading.Thread(target=work, daemon=True).start()
    for _ in range(count):
        item, error = ready.get()
        if error is not None:
            raise error
        yield item
