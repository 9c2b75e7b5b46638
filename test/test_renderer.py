"""The renderer's conventions: where a pixel lies on the map, what depth means, and that a picture is reproducible."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

pytest.importorskip("warp")

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.renderer import Renderer
from cross_view_loc.simulation.town import Town
from cross_view_loc.simulation.views import ORTHO_PLANE_M

WIDTH, HEIGHT, FOCAL = 160, 96, 100.0
PLAIN = Appearance(
    # Overcast, fresh paint, no camera faults: brightness is the markings and nothing else.
    sun_strength=0.01,
    ambient=1.2,
    cloud=0.9,
    fog_per_m=0.0,
    paint=1.3,
    vignette=0.0,
    shot_noise=0.0,
    read_noise=0.0,
    blur_taps=1,
    occupancy=0.0,
)
T_BASE_CAMERA = np.array([[0.0, 0.0, 1.0, 0.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.6], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def town():
    return Town(5, size_m=240.0)


@pytest.fixture(scope="module")
def poses(town):
    drive = town.drive(1)
    return [drive.T_map_base(float(t)) @ T_BASE_CAMERA for t in np.linspace(1.0, drive.duration_s - 1.0, 12)]


@pytest.fixture(scope="module")
def renderer(town):
    return Renderer(town, PLAIN)


@pytest.fixture(scope="module")
def pictures(renderer, poses):
    return renderer.render([renderer.pinhole(T, WIDTH, HEIGHT, FOCAL) for T in poses])


def pixel_centres(width, height):
    return np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)


def lift(depth, T_map_camera):
    """Depth picture -> (H, W, 3) points in the map."""
    u, v = pixel_centres(WIDTH, HEIGHT)
    rays = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], -1)
    return rays * depth[..., None] @ T_map_camera[:3, :3].T + T_map_camera[:3, 3]


def brightness(rgb):
    return rgb.astype(float).mean(-1)


def sample(image, town, points):
    column, row = (town.ground_pixel(points) - 0.5).T  # map_coordinates counts from pixel centres
    return map_coordinates(image.astype(np.float32), [row, column], order=1, mode="nearest")


def test_ground_pixels_lift_onto_the_terrain(town, poses, pictures):
    _, depths = pictures
    errors = []
    for T, depth in zip(poses, depths, strict=True):
        points = lift(depth, T)
        error = points[..., 2] - town.height(points[..., 0], points[..., 1])
        errors.append(np.abs(error[(depth > 0) & (np.abs(error) < 0.06)]))
    on_ground = np.concatenate(errors)
    assert on_ground.size > 0.2 * depths.size
    assert np.median(on_ground) < 0.01


def test_markings_in_the_camera_picture_lie_where_the_map_has_them(town, poses, pictures):
    images, depths = pictures
    points, values = [], []
    for T, image, depth in zip(poses, images, depths, strict=True):
        world = lift(depth, T)
        ground = np.abs(world[..., 2] - town.height(world[..., 0], world[..., 1])) < 0.03
        road = np.zeros_like(ground)
        pixels = np.clip(town.ground_pixel(world[..., :2]), 0, town.markings.shape[0] - 1).astype(int)
        road[ground] = town.ground_material[pixels[..., 1], pixels[..., 0]][ground] == 0
        near = ground & road & (depth > 0) & (depth < 9.0)
        points.append(world[near][:, :2])
        values.append(brightness(image)[near])
    points, values = np.concatenate(points), np.concatenate(values)

    def agreement(east, north):
        return np.corrcoef(sample(town.markings, town, points + np.array([east, north])), values)[0, 1]

    here = agreement(0.0, 0.0)
    assert here > 0.7
    for east, north in ((0.06, 0.0), (-0.06, 0.0), (0.0, 0.06), (0.0, -0.06)):
        assert agreement(east, north) < here


@pytest.mark.parametrize("lean", [(0.0, 0.0), (0.3, -0.2)])
def test_ortho_pixels_are_exactly_map_pixels(town, renderer, lean):
    """Also with lean: what is on the ground stays where it is, whatever the terrain's height."""
    size, step = 400, town.ground_resolution_m
    (image,), (depth,) = renderer.render([renderer.ortho(20.0, -10.0, size, size + 40, step, lean)])
    left, top = np.round(town.ground_pixel([20.0 - size * step / 2, -10.0 + (size + 40) * step / 2])).astype(int)
    u, v = pixel_centres(size, size + 40)
    east, north = 20.0 + (u - size / 2) * step, -10.0 - (v - (size + 40) / 2) * step
    road = np.abs(ORTHO_PLANE_M - depth - town.height(east, north)) < 0.03
    road &= town.ground_material[top : top + size + 40, left : left + size] == 0
    road[:4], road[-4:], road[:, :4], road[:, -4:] = False, False, False, False
    values = brightness(image)[road]

    def agreement(columns, rows):
        window = town.markings[top + rows : top + rows + size + 40, left + columns : left + columns + size]
        return np.corrcoef(window[road].astype(float), values)[0, 1]

    scores = {(i, j): agreement(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert max(scores, key=scores.get) == (0, 0)
    assert scores[0, 0] > 0.9
    # The peak is centred: no half pixel hides in it.
    assert scores[1, 0] == pytest.approx(scores[-1, 0], abs=0.05)
    assert scores[0, 1] == pytest.approx(scores[0, -1], abs=0.05)


def test_buildings_lean_by_their_height(town, renderer):
    size, step, lean = 300, 0.4, (0.2, -0.1)
    views = [renderer.ortho(0.0, 0.0, size, size, step, tilt, supersample=1) for tilt in ((0.0, 0.0), lean)]
    _, (upright, leaning) = renderer.render(views)
    u, v = pixel_centres(size, size)
    east, north = (u - size / 2) * step, -(v - size / 2) * step
    terrain = town.height(east, north)
    height = ORTHO_PLANE_M - upright - terrain
    flat = cv2.erode((np.abs(height - cv2.medianBlur(height.astype(np.float32), 5)) < 0.05).astype(np.uint8), None)
    roof = (height > 6.0) & (flat > 0) & (np.abs(east) < 50) & (np.abs(north) < 50)
    assert roof.sum() > 100
    column = np.floor(u[roof] + height[roof] * lean[0] / step).astype(int)
    row = np.floor(v[roof] - height[roof] * lean[1] / step).astype(int)
    assert np.mean(np.abs(leaning[row, column] - upright[roof]) < 0.15) > 0.85


def test_large_orthos_are_rendered_in_bands_without_seams(renderer, monkeypatch):
    view = renderer.ortho(10.0, 5.0, 120, 90, 0.25, (0.05, 0.02))
    whole, whole_depth = renderer.render([view])
    monkeypatch.setattr("cross_view_loc.simulation.renderer.CHUNK_SAMPLES", {"cpu": 120 * 4 * 7, "cuda": 120 * 4 * 7})
    banded, banded_depth = renderer.render([view])
    assert np.mean(np.abs(banded.astype(int) - whole.astype(int)) > 2) < 0.005
    assert np.mean(np.abs(banded_depth - whole_depth) > 0.01) < 0.005


def test_same_picture_whatever_the_threads_and_the_batch(town, poses):
    look = Appearance.random(4)
    one, two = Renderer(town, look, threads=1), Renderer(town, look, threads=3)
    velocity = (5.0, 3.0, 0.0)
    views = [one.pinhole(T, WIDTH, HEIGHT, FOCAL, velocity) for T in poses[:5]]
    rgb, depth = one.render(views)
    for other in (one.render(views), two.render(views)):
        np.testing.assert_array_equal(rgb, other[0])
        np.testing.assert_array_equal(depth, other[1])
    np.testing.assert_array_equal(two.render(views[3:4])[0][0], rgb[3])


def test_raster_and_ray_cast_see_the_same(renderer, poses, pictures):
    images, depths = pictures
    views = [renderer.pinhole(T, WIDTH, HEIGHT, FOCAL) for T in poses[:4]]
    cast_images, cast_depths = renderer.render(views, method="raycast")
    assert np.mean(np.abs(cast_depths - depths[:4]) <= 0.01 * depths[:4]) > 0.97
    assert np.mean(np.abs(cast_images.astype(int) - images[:4].astype(int)).max(-1) <= 2) > 0.97


def test_panorama_looks_along_z_in_its_middle_and_agrees_with_the_pinhole(renderer, poses, pictures):
    _, depths = pictures
    wide, high = 1024, 512
    T = poses[2]
    images, (ranges,) = renderer.render([renderer.panorama(T, wide, high)])
    assert images.shape == (1, high, wide, 3)
    u, v = pixel_centres(WIDTH, HEIGHT)
    x, y = (u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL
    length = np.sqrt(x * x + y * y + 1.0)
    column = (np.arctan2(x, 1.0) / (2 * np.pi) + 0.5) * wide
    row = (np.arcsin(y / length) / np.pi + 0.5) * high
    seen = cv2.remap(ranges, (column - 0.5).astype(np.float32), (row - 0.5).astype(np.float32), cv2.INTER_LINEAR)
    expected = depths[2] * length
    near = (expected > 0) & (expected < 15.0)
    assert near.mean() > 0.2
    assert np.mean(np.abs(seen[near] / expected[near] - 1.0) < 0.02) > 0.9
    # Bias would betray a shifted pixel grid: half a row is 5 cm at 8 m.
    assert np.median(seen[near] / expected[near] - 1.0) == pytest.approx(0.0, abs=0.001)
    # One column to the right of the centre looks towards +x.
    right = ranges[high // 2 + 40, 3 * wide // 4]
    point = T[:3, 3] + right * np.cos(40.5 / high * np.pi) * T[:3, 0] + right * np.sin(40.5 / high * np.pi) * T[:3, 1]
    assert point[2] > renderer.town.height(point[0], point[1]) - 0.2


def test_sky_has_no_depth_and_outside_the_town_is_black(renderer, poses, pictures):
    _, depths = pictures
    assert (depths == 0).any()
    (image,), (depth,) = renderer.render([renderer.ortho(1000.0, 0.0, 32, 16, 0.5)])
    assert not depth.any()
    assert not image.any()


def test_views_of_different_sizes_are_refused(renderer, poses):
    views = [renderer.pinhole(poses[0], WIDTH, HEIGHT, FOCAL), renderer.pinhole(poses[0], 80, 60, FOCAL)]
    with pytest.raises(InputError, match="one size"):
        renderer.render(views)


@pytest.mark.parametrize("seed", range(12))
def test_ground_look_differs_from_the_aerial_look(seed):
    aerial, ground = Appearance.aerial(seed), Appearance.ground(seed)
    assert aerial == Appearance.aerial(seed)
    assert ground.season != aerial.season
    assert ground.cars_seed != aerial.cars_seed
    assert aerial.fog_per_m == 0.0
    assert aerial.blur_taps == 1


def test_without_warp_the_remedy_is_named():
    code = "import sys; sys.modules['warp'] = None; import cross_view_loc.simulation.renderer"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "pip install cross_view_loc[sim]" in result.stderr.strip().splitlines()[-1]
