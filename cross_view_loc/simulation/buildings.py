"""Houses with pitched roofs, flat-roofed buildings with parapets, and the machines on top of them."""

from __future__ import annotations

import mapbox_earcut as earcut
import numpy as np
from numpy.typing import NDArray
from shapely import contains_xy
from shapely.geometry import Polygon
from shapely.geometry.polygon import orient

from cross_view_loc.simulation.footprints import OrientedRectangle
from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder

FOUNDATION_M = 1.5
"""Walls reach this far below the ground, so that slopes never show a gap."""
_PARAPET_HEIGHT_M = 0.6
_PARAPET_WIDTH_M = 0.3
_EAVES_M = 0.45


def add_flat_building(builder: MeshBuilder, footprint: Polygon, base_m: float, top_m: float, seed: int) -> None:
    """Add a building with vertical walls and a flat roof at `top_m` behind a parapet."""
    corners = np.asarray(orient(footprint).exterior.coords)[:-1]
    _add_walls(builder, corners, base_m, top_m + _PARAPET_HEIGHT_M, seed)
    faces = earcut.triangulate_float64(corners, np.array([len(corners)], np.uint32)).reshape(-1, 3)
    builder.add_flat(_raised(corners, top_m), faces, SurfaceMaterial.ROOF_FLAT, seed, corners)
    _add_parapet(builder, footprint, corners, top_m, seed)


def add_rooftop_units(
    builder: MeshBuilder, footprint: Polygon, roof_m: float, seed: int, rng: np.random.Generator
) -> None:
    """Add a few metal boxes (ventilation, lifts) at random places on a flat roof."""
    count = int(rng.integers(2, 6))
    share, half_sizes = rng.random((count, 2)), rng.uniform(0.5, 1.6, (count, 2))
    heights, yaws = rng.uniform(0.6, 1.6, count), rng.uniform(0.0, np.pi, count)
    area = footprint.buffer(-2.0)
    if area.is_empty:
        return
    west, south, east, north = area.bounds
    centers = np.array([west, south]) + share * [east - west, north - south]
    inside = contains_xy(area, centers[:, 0], centers[:, 1])
    tops = roof_m + heights[inside]
    builder.add_boxes(
        centers[inside], half_sizes[inside], roof_m - 0.5, tops, yaws[inside], SurfaceMaterial.METAL, seed
    )


def add_house(
    builder: MeshBuilder,
    plan: OrientedRectangle,
    base_m: float,
    wall_m: float,
    ridge_m: float,
    hipped: bool,
    seed: int,
    roof: tuple[SurfaceMaterial, int] | None = None,
    has_chimney: bool = True,
) -> None:
    """Add a house with walls of height `wall_m` and a gable or hip roof `ridge_m` higher; the ridge runs lengthwise.

    roof: its material and seed where it is not of tiles.
    """
    roof_material, roof_seed = roof or (SurfaceMaterial.ROOF_TILE, seed)
    corners = plan.corners
    length, width = plan.length_m, plan.width_m
    top = base_m + wall_m
    _add_walls(builder, corners, base_m, top, seed)

    # The roof overhangs the walls by the eaves and continues its slope downwards there.
    eaves = plan.part((-_EAVES_M, length + _EAVES_M), (-_EAVES_M, width + _EAVES_M)).corners
    eaves_height = top - _EAVES_M * ridge_m / (width / 2) * 0.8
    inset = width / 2 if hipped else -_EAVES_M
    ridge = plan.at([inset, length - inset], [width / 2, width / 2])
    points = np.concatenate([_raised(eaves, eaves_height), _raised(ridge, top + ridge_m)])
    slope = float(np.hypot(width / 2 + _EAVES_M, ridge_m))
    full = length + 2 * _EAVES_M
    side_uv = [[0.0, 0.0], [full, 0.0], [length + _EAVES_M - inset, slope], [_EAVES_M + inset, slope]]
    for quad in ([0, 1, 5, 4], [2, 3, 4, 5]):
        builder.add_flat(points[quad], [[0, 1, 2], [0, 2, 3]], roof_material, roof_seed, side_uv)
    if hipped:
        end_uv = [[0.0, 0.0], [width + 2 * _EAVES_M, 0.0], [width / 2 + _EAVES_M, slope]]
        for triangle in ([1, 2, 5], [3, 0, 4]):
            builder.add_flat(points[triangle], [[0, 1, 2]], roof_material, roof_seed, end_uv)
    else:
        gable_uv = [[0.0, wall_m], [width, wall_m], [width / 2, wall_m + ridge_m]]
        for first, second in ((1, 2), (3, 0)):
            foot = _raised(corners[[first, second]], top)
            peak = np.append((corners[first] + corners[second]) / 2, top + 0.97 * ridge_m)
            builder.add_flat([*foot, peak], [[0, 1, 2]], SurfaceMaterial.WALL, seed, gable_uv)
    if not has_chimney:
        return
    chimney = 0.7 * ridge[0] + 0.3 * ridge[1] + 0.15 * width * plan.across
    builder.add_boxes(chimney, 0.5, top + 0.3 * ridge_m, top + ridge_m + 0.7, plan.yaw_rad, SurfaceMaterial.KERB, seed)


def _raised(points: NDArray[np.float64], height_m: float) -> NDArray[np.float64]:
    return np.concatenate([points, np.full((len(points), 1), height_m)], axis=1)


def _add_walls(builder: MeshBuilder, corners: NDArray[np.float64], base_m: float, top_m: float, seed: int) -> None:
    """Walls round counter-clockwise corners (N, 2); u runs on round the building, v is metres above the base."""
    following = np.roll(corners, -1, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(following - corners, axis=1))])
    bottom, top = base_m - FOUNDATION_M, top_m
    count = len(corners)
    vertices = np.stack(
        [_raised(corners, bottom), _raised(following, bottom), _raised(following, top), _raised(corners, top)], axis=1
    )
    uv = np.empty((count, 4, 2))
    uv[:, [0, 3], 0] = along[:-1, None]
    uv[:, [1, 2], 0] = along[1:, None]
    uv[:, :2, 1] = -FOUNDATION_M
    uv[:, 2:, 1] = top_m - base_m
    faces = (np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(count)[:, None, None]).reshape(-1, 3)
    builder.add_flat(vertices.reshape(-1, 3), faces, SurfaceMaterial.WALL, seed, uv.reshape(-1, 2))


def _add_parapet(
    builder: MeshBuilder, footprint: Polygon, corners: NDArray[np.float64], roof_m: float, seed: int
) -> None:
    inset = footprint.buffer(-_PARAPET_WIDTH_M, join_style="mitre")
    if inset.geom_type != "Polygon" or len(inset.exterior.coords) != len(corners) + 1:
        return
    inner = np.asarray(orient(inset).exterior.coords)[:-1]
    inner = np.roll(inner, -int(np.argmin(((inner - corners[0]) ** 2).sum(axis=1))), axis=0)
    count = len(corners)
    top = roof_m + _PARAPET_HEIGHT_M
    vertices = np.concatenate([_raised(corners, top), _raised(inner, top), _raised(inner, roof_m)])
    i = np.arange(count)
    j = (i + 1) % count
    faces = np.concatenate(
        [
            np.stack([i, j, j + count], 1),
            np.stack([i, j + count, i + count], 1),
            np.stack([i + count, j + count, j + 2 * count], 1),
            np.stack([i + count, j + 2 * count, i + 2 * count], 1),
        ]
    )
    builder.add_flat(vertices, faces, SurfaceMaterial.KERB, seed)
