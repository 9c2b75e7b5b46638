"""Training data with a mixed gap: pictures, depth, poses and orthophotos of one place must mean the same place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.geometry.views import VIEW_HEIGHT_PX, VIEW_WIDTH_PX, View
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.town import Town
from cross_view_loc.training import town_data
from cross_view_loc.training.town_data import ORTHO_METERS_PER_PIXEL, TownData, load_town, render_town

SEED, SIZE_M, VIEWS, DRIVES = 11, 240.0, 6, 2
ROADS = (GroundMaterial.ASPHALT, GroundMaterial.PARKING_ASPHALT)


def render(folder, region="town", views=VIEWS, orthophotos=2) -> TownData:
    """A small town whose mounts are as nominal, so that what the data says of its cameras is exact."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(town_data, "TOWN_SIZE_M", SIZE_M)
        patched.setattr(town_data, "MOUNT_STD_RAD", 0.0)
        path = render_town(SEED, folder, views, DRIVES, orthophotos, region=region, gap="mixed")
    return load_town(path)


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SEED, size_m=SIZE_M)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> TownData:
    return render(tmp_path_factory.mktemp("data"))


def raster_at(town: Town, raster: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of a ground raster under map points (..., 2 or more), the border's beyond it."""
    column, row = np.moveaxis(np.floor(town.ground_pixel(points)).astype(int), -1, 0)
    last = len(raster) - 1
    return raster[row.clip(0, last), column.clip(0, last)]


def lifted_into_map(data: TownData, index: int) -> np.ndarray:
    """(48, 80, 3) map points of a view's depth at stride 4; NaN in the sky."""
    rays = View(float(data.focal_px[index])).rays(4, 4)
    z_m = data.depth_m[index].astype(np.float64)
    T_map_view = data.T_map_base[index] @ data.T_base_camera[index]
    points = (rays * np.where(z_m > 0, z_m, np.nan)[..., None]) @ T_map_view[:3, :3].T + T_map_view[:3, 3]
    return points


def road_heights(data: TownData, town: Town, index: int) -> np.ndarray:
    """How far above the terrain a view's cells lie that the town's rasters call road, metres; up to 15 m away."""
    points = lifted_into_map(data, index)
    eye = data.T_map_base[index] @ data.T_base_camera[index][:, 3]
    near = np.hypot(points[..., 0] - eye[0], points[..., 1] - eye[1]) < 15.0
    points = points[near & (points[..., 2] - eye[2] < -0.7)]
    points = points[np.isin(raster_at(town, town.ground_material, points), ROADS)]
    return points[:, 2] - town.height(points[:, 0], points[:, 1])


def test_lifted_road_lies_on_the_terrain(data, town):
    """Within centimetres, under a perfect camera (first drive) and a rolling shutter (second)."""
    for views in np.split(np.arange(DRIVES * VIEWS), DRIVES):
        heights = np.concatenate([road_heights(data, town, index) for index in views])
        assert len(heights) > 1000
        assert abs(np.median(heights)) < 0.005
        assert np.percentile(np.abs(heights), 80) < 0.015  # the rest is what stands on the road


def road_seen(data: TownData, town: Town, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Map points (K, 3) of a view's road, every 10 cm, 4 to 14 m away, and the brightness of the picture there (K,)."""
    T_map_view = data.T_map_base[index] @ data.T_base_camera[index]
    axis = np.arange(-14.0, 14.0, 0.1)
    offset = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    east_north = T_map_view[:2, 3] + offset[np.hypot(*offset.T) > 4.0]
    points = np.concatenate([east_north, town.height(*east_north.T)[:, None]], 1)
    points = points[np.isin(raster_at(town, town.ground_material, points), ROADS)]
    in_view = (points - T_map_view[:3, 3]) @ T_map_view[:3, :3]
    z_m = in_view[:, 2]
    pixel = in_view[:, :2] / np.maximum(z_m, 0.1)[:, None] * data.focal_px[index]
    pixel += [VIEW_WIDTH_PX / 2, VIEW_HEIGHT_PX / 2]
    inside = (z_m > 1.0) & (pixel > 1).all(1) & (pixel < [VIEW_WIDTH_PX - 1, VIEW_HEIGHT_PX - 1]).all(1)
    points, pixel, z_m = points[inside], pixel[inside], z_m[inside]
    rendered = data.depth_m[index][tuple((pixel[:, ::-1] // 4).astype(int).T)].astype(np.float64)
    visible = np.abs(rendered - z_m) < 0.1 * z_m
    column, row = (pixel[visible] - 0.5).T
    return points[visible], map_coordinates(data.images[index].mean(-1), [row, column], order=1)


def best_shift(score: np.ndarray) -> np.ndarray:
    """(2,) sub-cell place of the maximum of a (2k + 1, 2k + 1) table, from its middle."""
    row, column = np.unravel_index(score.argmax(), score.shape)
    middle = len(score) // 2
    found = np.array([row, column], dtype=float) - middle
    if not (0 < row < len(score) - 1 and 0 < column < len(score) - 1):
        return found
    for axis, line in enumerate((score[row - 1 : row + 2, column], score[row, column - 1 : column + 2])):
        found[axis] += 0.5 * (line[0] - line[2]) / (line[0] - 2 * line[1] + line[2])
    return found


def test_painted_lines_are_seen_where_the_town_has_them(data, town):
    """Pictures looked up at projected road points are bright where paint lies, less so with the paint moved aside."""
    aside_m = np.arange(-8, 9) * 0.1
    for views in np.split(np.arange(DRIVES * VIEWS), DRIVES):
        score = np.zeros((len(aside_m), len(aside_m)))
        for index in views:
            points, seen = road_seen(data, town, index)
            if (raster_at(town, town.markings, points) > 0).sum() < 100:
                continue
            seen = (seen - seen.mean()) / seen.std()
            for i, d_north in enumerate(aside_m):
                for j, d_east in enumerate(aside_m):
                    paint = raster_at(town, town.markings, points[:, :2] + [d_east, d_north]).astype(float)
                    score[i, j] += np.mean(seen * (paint - paint.mean())) / 255
        assert score.max() > 0.1
        assert np.abs(best_shift(score) * 0.1).max() < 0.2  # a shutter that rolls while driving shears by a decimetre


def test_orthophotos_are_not_displaced(data, town):
    """Road and paint of both orthophotos lie where the ground rasters have them: within a fifth of a pixel (4 cm)."""
    reach, side = 3, data.orthophotos.shape[1]
    axis = (np.arange(side) + 0.5 - side / 2) * ORTHO_METERS_PER_PIXEL
    east, north = np.meshgrid(axis, -axis)
    inside = np.maximum(np.abs(east), np.abs(north)) < SIZE_M / 2 - 10.0
    points = np.stack([east, north], -1)
    road = np.isin(raster_at(town, town.ground_material, points), ROADS) & inside
    for photo in data.orthophotos:
        grey = photo.mean(-1)
        score = np.zeros((2 * reach + 1, 2 * reach + 1))
        for i, d_row in enumerate(range(-reach, reach + 1)):
            for j, d_column in enumerate(range(-reach, reach + 1)):
                moved = np.roll(grey, (-d_row, -d_column), (0, 1))[road]
                paint = raster_at(town, town.markings, points[road]).astype(float)
                score[i, j] = np.corrcoef(moved, paint)[0, 1]
        assert score.max() > 0.1
        assert np.abs(best_shift(score)).max() < 0.2


def test_the_same_arguments_give_the_same_file(tmp_path):
    """With all that a mixed gap draws; few views are enough to meet every random stream. And the region is obeyed."""
    first, second = (render(tmp_path / name, "rural", views=2, orthophotos=1) for name in "ab")
    for name in ("images", "depth_m", "cell_depth_m", "focal_px", "T_map_base", "T_base_camera", "R_level_base"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.orthophotos, second.orthophotos)
    rural = Town(SEED, size_m=SIZE_M, region="rural")
    heights = np.concatenate([road_heights(first, rural, index) for index in range(2 * DRIVES)])
    assert len(heights) > 500 and np.median(np.abs(heights)) < 0.01
