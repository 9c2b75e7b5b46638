"""From a frame to what the released matchers see of the ground: the resized image, its cells' depths, lifted points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cross_view_loc.depth.source import DepthSource, begin_frame, view_for
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import Camera, EquirectangularCamera, PinholeCamera, StripCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View, mask_at, plan_views
from cross_view_loc.matching.loc2.backbone import to_unit_image
from cross_view_loc.matching.loc2.coordinates import Array, GroundImage, sample_depth_image, usable_depth
from cross_view_loc.matching.loc2.specification import TOKEN_PX, Loc2Specification
from cross_view_loc.types import Frame

Mask = NDArray[np.bool_]
TRAINED_FOCAL_PER_WIDTH = 721.54 / 1242
"""Of the cameras the pinhole weights were trained with: what a lens of another kind is turned into."""


@dataclass(frozen=True)
class LiftedGround:
    """The ground cells of one frame, row by row."""

    image: Tensor
    """(1, 3, H, W) in [0, 1], what the backbone sees."""
    points_body: Array
    """(T, 2) x forward, y left, metres, in the level body frame; without meaning where not `usable`."""
    pixels: Array
    """(T, 2) column and row of the cells' centres in the camera's image."""
    usable: Mask
    """(T,) seen, with a depth within the variant's limit."""
    camera_body: Array
    """(2,) of the camera in the level body frame."""


def lift_ground(frame: Frame, spec: Loc2Specification, depth: DepthSource | Array) -> LiftedGround:
    """Prepare one frame for the matcher.

    `depth` is a depth source, or a depth image (H', W') of the frame's whole image in metres, of the variant's kind
    (range along the ray or z), any resolution, 0 where unknown.

    Raises InputError when the image does not fit its camera, or the camera not the variant.
    """
    image, geometry, seen = prepare_image(frame, spec)
    if isinstance(depth, np.ndarray):
        depth_m = sample_depth_image(_as_prepared(depth, frame, geometry), geometry)
    else:
        depth_m = _source_depth(frame, geometry, depth)
    rotation = frame.R_level_base @ frame.T_base_camera[:3, :3]
    camera_level = frame.R_level_base @ frame.T_base_camera[:3, 3]
    usable = usable_depth(depth_m, spec) & seen
    centres = np.meshgrid(
        (np.arange(spec.ground_columns) + 0.5) * TOKEN_PX, (np.arange(spec.ground_rows) + 0.5) * TOKEN_PX
    )
    pixels = frame.camera.project(geometry.rays(*centres))[0]
    if frame.mask is not None:
        usable &= mask_at(frame.mask, frame.camera, pixels)
    points = (geometry.cell_rays() * np.where(usable, depth_m, 0.0)[..., None]) @ rotation.T + camera_level
    return LiftedGround(
        image, points[..., :2].reshape(-1, 2), pixels.reshape(-1, 2), usable.reshape(-1), camera_level[:2]
    )


def prepare_image(frame: Frame, spec: Loc2Specification) -> tuple[Tensor, GroundImage, Mask]:
    """The resized image (1, 3, H, W), its geometry, and which cells (rows, columns) the camera really saw.

    A full panorama, and a pinhole image without distortion, are resized as they are, as published; a panorama with
    its top and bottom cut off is padded with black; any other lens becomes a pinhole of the trained field of view.
    """
    camera, (height, width) = frame.camera, frame.image.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise InputError(
            f"image of {frame.name} is {width}x{height} but its calibration is for {camera.width}x{camera.height}; "
            "publish the CameraInfo of this resolution"
        )
    rows, columns = spec.ground_rows_px, spec.ground_columns_px
    everything = np.ones((spec.ground_rows, spec.ground_columns), dtype=bool)
    geometry = prepared_geometry(camera, spec)
    if _is_only_resized(camera):
        return to_unit_image(frame.image, rows, columns), geometry, everything
    if spec.is_panorama and not isinstance(camera, StripCamera):
        raise InputError(
            f"the Loc2 variant '{spec.variant}' needs a panorama and {frame.name} is none; use the variant kitti"
        )
    map_x, map_y, valid = _sampling_map(camera, geometry)
    sampled = cv2.remap(frame.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sampled[~valid] = 0
    share = cv2.resize(valid.astype(np.float32), everything.shape[::-1], interpolation=cv2.INTER_AREA)
    return to_unit_image(sampled.astype(np.uint8), rows, columns), geometry, share > 0.5


def prepared_geometry(camera: Camera, spec: Loc2Specification) -> GroundImage:
    """The rays of the image that `prepare_image` makes."""
    if spec.is_panorama:
        return GroundImage(spec)
    rows, columns = spec.ground_rows_px, spec.ground_columns_px
    if isinstance(camera, PinholeCamera) and _is_only_resized(camera):
        x, y = columns / camera.width, rows / camera.height
        return GroundImage(spec, camera.fx * x, camera.fy * y, camera.cx * x, camera.cy * y)
    focal_px = TRAINED_FOCAL_PER_WIDTH * columns
    return GroundImage(spec, focal_px, focal_px, columns / 2, rows / 2)


def _is_only_resized(camera: Camera) -> bool:
    if isinstance(camera, PinholeCamera):
        return not any(camera.distortion)
    return isinstance(camera, EquirectangularCamera)


@lru_cache(maxsize=8)
def _sampling_map(camera: Camera, geometry: GroundImage) -> tuple[NDArray[np.float32], NDArray[np.float32], Mask]:
    """OpenCV's maps from the prepared image to the camera's, and where the camera sees anything."""
    spec = geometry.spec
    columns, rows = np.meshgrid(np.arange(spec.ground_columns_px) + 0.5, np.arange(spec.ground_rows_px) + 0.5)
    pixels, valid = camera.project(geometry.rays(columns, rows))
    pixels = np.where(valid[..., None], pixels, -1e6)
    return (pixels[..., 0] - 0.5).astype(np.float32), (pixels[..., 1] - 0.5).astype(np.float32), valid


def _as_prepared(depth_m: Array, frame: Frame, geometry: GroundImage) -> Array:
    """A depth image of the camera as one of the prepared image; resized images need nothing, lenses are remapped."""
    camera = frame.camera
    if _is_only_resized(camera):
        return depth_m
    map_x, map_y, valid = _sampling_map(camera, geometry)
    scale_x, scale_y = depth_m.shape[1] / camera.width, depth_m.shape[0] / camera.height
    at_x, at_y = (map_x + 0.5) * scale_x - 0.5, (map_y + 0.5) * scale_y - 0.5
    sampled = cv2.remap(depth_m.astype(np.float32), at_x, at_y, cv2.INTER_NEAREST)
    return np.where(valid, sampled, 0.0).astype(np.float64)


def _source_depth(frame: Frame, geometry: GroundImage, source: DepthSource) -> Array:
    """Depth (rows, columns) of the variant's kind at the cells' depth pixels, from a source that works on views."""
    rays = geometry.rays(*geometry.depth_pixels())
    depth_m = np.zeros(rays.shape[:2])
    begin_frame(source, frame)
    for view in plan_views(frame.camera, frame.T_base_camera):
        local = rays @ view.R_camera_view  # the transposed rotation, on rows
        inside = _inside(local, view) & (depth_m == 0)
        if not inside.any():
            continue
        local = np.where(inside[..., None], local, (0.0, 0.0, 1.0))
        local = local / local[..., 2:]
        wanted = view_for(source, view)
        image, _ = wanted.sample(frame.image, frame.camera)
        z_view = source(image, wanted, ViewGeometry.of(frame, view), local).z_m
        along = np.linalg.norm(local, axis=-1) if geometry.spec.depth_kind == "range" else (local @ _axis_z(view))
        depth_m = np.where(inside, z_view * along, depth_m)
    return depth_m


def _axis_z(view: View) -> Array:
    """The camera's optical axis in the view's frame: a view ray's z in the camera is its product with this."""
    return np.asarray(view.R_camera_view[2], dtype=np.float64)


def _inside(local: Array, view: View) -> Mask:
    """Which rays (..., 3) in a view's frame its image holds."""
    z = np.where(local[..., 2] > 1e-6, local[..., 2], np.inf)
    across, down = np.abs(local[..., 0]) / z * view.focal_px, np.abs(local[..., 1]) / z * view.focal_px
    ahead = local[..., 2] > 1e-6
    return ahead & (across <= view.width / 2 * (1 + 1e-6)) & (down <= view.height / 2 * (1 + 1e-6))
