"""Training data from a manifest of one's own: the same per-view arrays as a town's, read from image files when asked.

Rows that share an aerial source become one set of data. Every camera is seen through the virtual pinhole views of the
localizer, so a panorama row gives several views.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.patch import Patch
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.errors import CrossViewError, InputError, NoImageryError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.geometry.views import View, plan_views
from cross_view_loc.inputs.camera_text import parse_camera
from cross_view_loc.matching.encoders import TOKEN_COLUMNS_PX, TOKEN_ROWS_PX
from cross_view_loc.networks.unet import STRIDE_PX
from cross_view_loc.training.manifest_rows import ManifestRow, read_rows
from cross_view_loc.training.town_data import TownData

KEPT_ROWS = 1500
"""Rows whose sampled views stay in memory, 0.2 MB a view: a small set is decoded once, a large one streams."""
OPEN_IMAGES = 16
T = TypeVar("T")


@dataclass(frozen=True)
class ManifestData(TownData):
    """The views of one aerial source; images and depth are read as they are indexed."""

    aerial_map: Any = None
    title: str = ""

    @property
    def name(self) -> str:
        return self.title

    @property
    def maps(self) -> list[Any]:  # type: ignore[override]
        """The one aerial source."""
        return [self.aerial_map]


def load_manifest(path: Path, first_seed: int = -1) -> list[ManifestData]:
    """One set of data for each aerial source of a manifest, seeds counting down from `first_seed`.

    Raises MissingInputError, InputError or MapError naming file and row.
    """
    groups: dict[tuple[Any, ...], list[ManifestRow]] = {}
    for row in read_rows(path):
        groups.setdefault((row.aerial, row.origin, row.meters_per_pixel, row.aerial_center), []).append(row)
    cameras: dict[tuple[str, Path], Camera] = {}
    return [_load_group(rows, path, first_seed - index, cameras) for index, rows in enumerate(groups.values())]


@dataclass(frozen=True)
class SampledView:
    """What one view of one row gives."""

    image: NDArray[np.uint8]
    """(192, 320, 3)"""
    seen_cells: NDArray[np.bool_]
    """(48, 40)"""
    depth_m: NDArray[np.float16]
    """(48, 80)"""
    cell_depth_m: NDArray[np.float16]
    """(48, 40)"""


class _Views:
    """The sampled views of a group's rows, those of the last rows kept."""

    def __init__(self, views: Sequence[tuple[ManifestRow, Camera, int]]) -> None:
        self._views = views
        self._kept: OrderedDict[str, list[SampledView]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> SampledView:
        row, camera, number = self._views[index]
        with self._lock:
            if row.where not in self._kept:
                self._kept[row.where] = sample_row(row, camera)
                while len(self._kept) > KEPT_ROWS:
                    self._kept.popitem(last=False)
            return self._kept[row.where][number]


class _Column(Generic[T]):
    """One field of the views, indexed as the array of a town would be."""

    def __init__(self, views: _Views, field: Callable[[SampledView], T]) -> None:
        self._views, self._field = views, field

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> T:
        return self._field(self._views[index])


def _load_group(
    rows: list[ManifestRow], path: Path, seed: int, cameras: dict[tuple[str, Path], Camera]
) -> ManifestData:
    aerial_map, place = _place(rows[0])
    entries: list[tuple[ManifestRow, Camera, int]] = []
    poses, mounts, levels, focals = [], [], [], []
    for row in rows:
        T_map_base = place(row)
        camera = _camera(row, path.parent, cameras)
        for number, view in enumerate(plan_views(camera, row.T_base_camera)):
            entries.append((row, camera, number))
            poses.append(T_map_base)
            mounts.append(row.T_base_camera @ transform(view.R_camera_view, (0.0, 0.0, 0.0)))
            levels.append(row.R_level_base)
            focals.append(view.focal_px)
    views = _Views(entries)
    columns: dict[str, Any] = {
        "images": _Column(views, lambda view: view.image),
        "depth_m": _Column(views, lambda view: view.depth_m),
        "cell_depth_m": _Column(views, lambda view: view.cell_depth_m),
        "seen_cells": _Column(views, lambda view: view.seen_cells),
    }
    return ManifestData(
        **columns,
        focal_px=np.array(focals),
        T_map_base=np.stack(poses),
        T_base_camera=np.stack(mounts),
        R_level_base=np.stack(levels),
        orthophotos=np.zeros((0, 0, 0, 3), np.uint8),
        seed=seed,
        has_depth=all(row.depth is not None for row in rows),
        aerial_map=aerial_map,
        title=str(path),
    )


def sample_row(row: ManifestRow, camera: Camera) -> list[SampledView]:
    """All views of a row's image, with its depth where it has one; InputError naming the row."""
    image = _read_image(row)
    if image.shape[:2] != (camera.height, camera.width):
        raise InputError(
            f"{row.where}: {row.image} is {image.shape[1]}x{image.shape[0]} but other images of this camera are "
            f"{camera.width}x{camera.height}; give it a camera of its own"
        )
    depth = _read_depth(row, camera)
    sampled = []
    for view in plan_views(camera, row.T_base_camera):
        pixels, seen = view.sample(image, camera)
        rows, columns = view.height // TOKEN_ROWS_PX, view.width // TOKEN_COLUMNS_PX
        share = cv2.resize(seen.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        sampled.append(
            SampledView(
                pixels,
                np.asarray(share > 0.5),
                view_depth(depth, camera, view, STRIDE_PX, STRIDE_PX),
                view_depth(depth, camera, view, TOKEN_ROWS_PX, TOKEN_COLUMNS_PX),
            )
        )
    return sampled


def view_depth(
    depth_m: NDArray[np.float32] | None, camera: Camera, view: View, rows_px: int, columns_px: int
) -> NDArray[np.float16]:
    """Z-depth in the view at the centres of its cells, from the camera's depth (H, W); 0 where there is none.

    A camera's depth counts along its optical axis for a pinhole, along the ray for any other camera.
    """
    rays = view.rays(rows_px, columns_px)
    if depth_m is None:
        return np.zeros(rays.shape[:2], np.float16)
    in_camera = rays @ view.R_camera_view.T
    pixels, seen = camera.project(in_camera)
    column = np.clip(np.floor(pixels[..., 0]), 0, camera.width - 1).astype(int)
    row = np.clip(np.floor(pixels[..., 1]), 0, camera.height - 1).astype(int)
    length = in_camera[..., 2] if isinstance(camera, PinholeCamera) else np.linalg.norm(in_camera, axis=-1)
    z = np.where(seen, depth_m[row, column], 0.0) / np.maximum(length, 1e-6)  # rays have z = 1 in the view
    return np.where(np.isfinite(z) & (z > 0) & (z < 1000.0), z, 0.0).astype(np.float16)


def _camera(row: ManifestRow, folder: Path, cameras: dict[tuple[str, Path], Camera]) -> Camera:
    """Rows of one camera and image folder share its size, so that one image of them is enough to know it."""
    key = (row.camera, row.image.parent)
    if key not in cameras:
        height, width = _read_image(row).shape[:2]
        try:
            cameras[key] = parse_camera(row.camera, folder, width, height)
        except CrossViewError as error:
            raise type(error)(f"{row.where}: {error}") from error
    return cameras[key]


def _read_image(row: ManifestRow) -> NDArray[np.uint8]:
    image = cv2.imread(str(row.image), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise InputError(f"{row.where}: {row.image} cannot be read as an image; give a JPEG or PNG file")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def _read_depth(row: ManifestRow, camera: Camera) -> NDArray[np.float32] | None:
    if row.depth is None:
        return None
    try:
        raw = np.load(row.depth) if row.depth.suffix.lower() == ".npy" else cv2.imread(str(row.depth), -1)
    except (OSError, ValueError):
        raw = None
    if raw is None or np.shape(raw) != (camera.height, camera.width):
        raise InputError(
            f"{row.where}: {row.depth} is not a depth image of {camera.width}x{camera.height} numbers; give one of the "
            "image's size"
        )
    return np.asarray(raw, dtype=np.float32) * np.float32(row.depth_m_per_unit)


class ImageFileMap:
    """An aerial image file as a map, in memory only while patches are cut from it."""

    def __init__(self, path: Path, meters_per_pixel: float, center_east_m: float, center_north_m: float) -> None:
        self._arguments = (path, meters_per_pixel, center_east_m, center_north_m)

    def patch(
        self, center_east_m: float, center_north_m: float, size_px: int, meters_per_pixel: float, rotation_rad: float
    ) -> Patch:
        """As `ImageMap.patch`."""
        image = _open_image(*self._arguments)
        return image.patch(center_east_m, center_north_m, size_px, meters_per_pixel, rotation_rad)


@lru_cache(maxsize=OPEN_IMAGES)
def _open_image(path: Path, meters_per_pixel: float, center_east_m: float, center_north_m: float) -> ImageMap:
    read = ImageMap.from_file(path, meters_per_pixel)
    return ImageMap(read.image, meters_per_pixel, center_east_m, center_north_m, str(path))


def _place(first: ManifestRow) -> tuple[AerialMap | ImageFileMap, Callable[[ManifestRow], NDArray[np.float64]]]:
    """The aerial source of a group and what gives a row's T_map_base (4, 4) in its metres."""
    if first.meters_per_pixel is not None:
        if first.geodetic_deg is None:
            east_m, north_m = first.aerial_center or (0.0, 0.0)
            return ImageFileMap(first.aerial, first.meters_per_pixel, east_m, north_m), _in_metres
        assert first.aerial_center is not None
        projection = MapProjection(MapOrigin(*first.aerial_center))
        image = ImageFileMap(first.aerial, first.meters_per_pixel, 0.0, 0.0)
        return image, lambda row: _in_degrees(row, projection)
    source = open_source(first.aerial)
    if first.origin is not None:
        origin: MapOrigin | None = MapOrigin(*first.origin)
    else:
        origin = source.map_origin
    if origin is None and first.geodetic_deg is not None:
        origin = MapOrigin(*first.geodetic_deg)
    if origin is None:
        raise InputError(
            f"{first.where}: {first.aerial} does not say where its metres start; give origin_latitude_deg and "
            "origin_longitude_deg, or positions as latitude and longitude"
        )
    projection = MapProjection(origin)

    def place(row: ManifestRow) -> NDArray[np.float64]:
        T_map_base = _in_metres(row) if row.map_m is not None else _in_degrees(row, projection)
        latitude, longitude, _ = projection.to_geodetic(T_map_base[0, 3], T_map_base[1, 3])
        if not source.contains(float(latitude), float(longitude)):
            raise NoImageryError(
                f"{row.where}: {row.aerial} has no imagery at latitude {float(latitude):.6f}, longitude "
                f"{float(longitude):.6f}; leave the row out or give a map of this place"
            )
        return T_map_base

    return AerialMap(source, projection), place


def _in_metres(row: ManifestRow) -> NDArray[np.float64]:
    if row.map_m is None:
        raise InputError(f"{row.where}: rows of one aerial source mix metres and degrees; give one kind of position")
    return transform(rotation_z(row.yaw_rad) @ row.R_level_base, (*row.map_m, 0.0))


def _in_degrees(row: ManifestRow, projection: MapProjection) -> NDArray[np.float64]:
    if row.geodetic_deg is None:
        raise InputError(f"{row.where}: rows of one aerial source mix metres and degrees; give one kind of position")
    latitude, longitude = row.geodetic_deg
    height_m = projection.origin.height_m
    east_m, north_m, _ = projection.to_map([latitude, latitude + 1e-5], [longitude] * 2, height_m)
    # True north there is not quite the map's: the difference grows with the distance from the origin.
    north_rad = math.atan2(north_m[1] - north_m[0], east_m[1] - east_m[0])
    R_map_base = rotation_z(row.yaw_rad + north_rad - math.pi / 2) @ row.R_level_base
    return transform(R_map_base, (float(east_m[0]), float(north_m[0]), 0.0))
