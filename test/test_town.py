"""The procedural town and its drives."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import contains_xy, prepare
from shapely.geometry import MultiPoint, Point
from shapely.ops import unary_union

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.drive import LATERAL_ACCELERATION_MPS2, LONGITUDINAL_ACCELERATION_MPS2
from cross_view_loc.simulation.materials import GroundMaterial, SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder
from cross_view_loc.simulation.roads import DRIVE_MARGIN_M, build_network
from cross_view_loc.simulation.style import TownStyle
from cross_view_loc.simulation.town import Town

SEEDS = (1, 14, 45)


@pytest.fixture(scope="module")
def towns() -> dict[int, Town]:
    """Small towns of several seeds."""
    return {seed: Town(seed, 240.0) for seed in SEEDS}


@pytest.fixture(scope="module", params=SEEDS)
def town(request: pytest.FixtureRequest, towns: dict[int, Town]) -> Town:
    return towns[request.param]


def _arrays(town: Town) -> list[np.ndarray]:
    mesh, cars = town.mesh, town.cars(3)
    poses = town.drive(2, 30.0).T_map_base(np.linspace(0.0, 30.0, 50))
    rasters = [town.ground_material, town.markings, town.wear]
    return [mesh.vertices, mesh.triangles, mesh.materials, mesh.seeds, cars.vertices, poses, town.trees, *rasters]


def test_same_seed_gives_the_same_town(towns: dict[int, Town]) -> None:
    for first, second in zip(_arrays(towns[1]), _arrays(Town(1, 240.0)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_other_seeds_give_other_towns_cars_and_drives(towns: dict[int, Town]) -> None:
    assert (towns[1].ground_material != towns[14].ground_material).mean() > 0.05
    assert towns[1].cars(0).vertices.shape != towns[1].cars(1).vertices.shape
    assert not towns[1].drive(0).path.equals(towns[1].drive(1).path)


def test_ground_pixel_puts_north_up_and_pixel_centres_at_one_half(town: Town) -> None:
    np.testing.assert_allclose(town.ground_pixel([[-120.0, 120.0], [0.05, -0.05]]), [[0.0, 0.0], [1200.5, 1200.5]])


def test_rasters_agree_with_the_geometry_to_a_pixel(town: Town) -> None:
    road = unary_union(town.areas.carriageway)
    prepare(road)
    index = np.random.default_rng(0).integers(0, 2400, (4000, 2))
    points = np.stack([(index[:, 0] + 0.5) * 0.1 - 120.0, 120.0 - (index[:, 1] + 0.5) * 0.1], axis=1)
    is_road = town.ground_material[index[:, 1], index[:, 0]] == GroundMaterial.ASPHALT
    disagree = is_road != contains_xy(road, points[:, 0], points[:, 1])
    assert is_road.mean() > 0.05
    # cv2 fills the pixels an outline runs through, and 1/16 pixel is its precision.
    assert all(road.boundary.distance(Point(point)) < 0.12 for point in points[disagree])


def test_drive_keeps_to_the_road_and_inside_the_town(town: Town) -> None:
    drive = town.drive(0, 90.0)
    assert drive.duration_s == 90.0
    assert unary_union(town.areas.carriageway).buffer(0.02).contains(drive.path.buffer(0.9))
    assert np.abs(np.asarray(drive.path.coords)).max() <= town.size_m / 2 - DRIVE_MARGIN_M


def test_drive_keeps_to_the_right(town: Town) -> None:
    drive = town.drive(1, 60.0)
    poses = drive.T_map_base(np.arange(0.0, 60.0, 0.25))
    junctions = MultiPoint(list(town.network.positions.values()))
    checked = 0
    for pose in poses:
        position, forward = Point(pose[:2, 3]), pose[:2, 0]
        if junctions.distance(position) < 18.0:
            continue
        road = min(town.network.roads, key=lambda road: road.line.distance(position))
        along = road.line.project(position)
        to_vehicle = pose[:2, 3] - road.center.position(along)
        rightwards = np.array([forward[1], -forward[0]]) @ to_vehicle
        assert road.width_m / 8 < rightwards < road.width_m / 2 - 0.9
        checked += 1
    assert checked > 20


def test_drive_respects_speed_and_accelerations(town: Town) -> None:
    drive = town.drive(0, 90.0, speed_mps=9.0)
    step = 0.05
    velocity = drive.velocity_map(np.arange(0.0, 90.0, step))[:, :2]
    speed = np.linalg.norm(velocity, axis=1)
    acceleration = np.diff(velocity, axis=0) / step
    forward = velocity[:-1] / speed[:-1, None]
    longitudinal = np.diff(speed) / step
    lateral = forward[:, 0] * acceleration[:, 1] - forward[:, 1] * acceleration[:, 0]
    assert speed.max() <= 9.001
    assert speed.min() > 1.0
    assert np.abs(longitudinal).max() < LONGITUDINAL_ACCELERATION_MPS2
    assert np.abs(lateral).max() < LATERAL_ACCELERATION_MPS2


def test_poses_move_as_the_velocity_says_and_face_that_way(town: Town) -> None:
    drive = town.drive(0, 60.0)
    step = 0.01
    time = np.arange(1.0, 59.0, step)
    poses, velocity = drive.T_map_base(time), drive.velocity_map(time)
    moved = np.gradient(poses[:, :3, 3], step, axis=0)[1:-1]
    np.testing.assert_allclose(moved, velocity[1:-1], atol=0.02)
    forward, up = poses[:, :3, 0], poses[:, :3, 2]
    cosine = np.sum(forward * velocity, axis=1) / np.linalg.norm(velocity, axis=1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 3.0
    assert (up[:, 2] > 0.95).all()
    turning = np.diff(np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))) / step
    assert np.abs(turning).max() < 1.0
    assert np.abs(np.diff(turning) / step).max() < 3.0  # no kinks


def test_poses_lie_on_the_terrain_and_are_rigid(town: Town) -> None:
    drive = town.drive(0, 60.0)
    poses = drive.T_map_base(np.linspace(-1.0, 61.0, 200))
    np.testing.assert_allclose(poses[:, 2, 3], town.height(poses[:, 0, 3], poses[:, 1, 3]), atol=1e-9)
    rotation = poses[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    left_wheel = poses[:, :3, 3] + 0.8 * rotation[:, :, 1]
    np.testing.assert_allclose(left_wheel[:, 2], town.height(left_wheel[:, 0], left_wheel[:, 1]), atol=0.03)
    assert drive.T_map_base(5.0).shape == (4, 4)


def test_cars_keep_the_corridor_clear(town: Town) -> None:
    corridor = town.drive(0, 90.0).corridor()
    prepare(corridor)
    blocked = 0
    for seed in range(6):
        cars, kept = town.cars(seed, 1.0), town.cars(seed, 1.0, corridor)
        blocked += contains_xy(corridor, *cars.vertices[:, :2].T).any()
        assert not contains_xy(corridor, *kept.vertices[:, :2].T).any()
        assert 0 < len(kept.triangles) <= len(cars.triangles)
        assert (kept.materials == SurfaceMaterial.CAR).all()
    assert blocked > 0


def test_nothing_solid_stands_in_the_corridor(town: Town) -> None:
    corridor = town.drive(0, 90.0).corridor(0.0).buffer(-0.2)
    mesh = town.mesh
    soft = (SurfaceMaterial.GROUND, SurfaceMaterial.LEAF, SurfaceMaterial.KERB)
    low = mesh.vertices[:, 2] - town.height(mesh.vertices[:, 0], mesh.vertices[:, 1]) < 2.5
    solid = mesh.triangles[~np.isin(mesh.materials, soft)]
    corners = mesh.vertices[solid[low[solid].all(axis=1)].ravel()]
    assert not contains_xy(corridor, corners[:, 0], corners[:, 1]).any()


def test_every_small_town_has_a_route() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        assert len(build_network(240.0, TownStyle.random(rng), rng).drivable) >= 4


def test_impossible_towns_are_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match="at least"):
        Town(0, 20.0)
    with pytest.raises(InputError, match="multiple of the resolution"):
        Town(0, 240.0, 0.7)


def test_mesh_is_consistent(town: Town) -> None:
    mesh = town.mesh
    assert mesh.triangles.min() == 0 and mesh.triangles.max() == len(mesh.vertices) - 1
    assert len(mesh.materials) == len(mesh.seeds) == len(mesh.triangles)
    assert all(np.isfinite(a).all() for a in (mesh.vertices, mesh.normals, mesh.uv))
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-3)
    joined = mesh.joined(mesh)
    np.testing.assert_array_equal(
        joined.vertices[joined.triangles[len(mesh.triangles) :]], mesh.vertices[mesh.triangles]
    )


def test_walls_start_at_ground_level_for_the_windows(town: Town) -> None:
    walls = town.mesh.triangles[town.mesh.materials == SurfaceMaterial.WALL].ravel()
    vertices, v = town.mesh.vertices[walls], town.mesh.uv[walls, 1]
    above_ground = vertices[:, 2] - town.height(vertices[:, 0], vertices[:, 1])
    np.testing.assert_allclose(v, above_ground, atol=2.0)


def test_boxes_face_outwards_and_turn_counter_clockwise() -> None:
    builder = MeshBuilder()
    builder.add_boxes([[10.0, 5.0]], [2.0, 0.5], 0.0, 3.0, np.pi / 2, SurfaceMaterial.METAL)
    mesh = builder.build()
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [9.5, 3.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [10.5, 7.0, 3.0], atol=1e-6)
    assert (np.sum(mesh.normals * (mesh.vertices - [10.0, 5.0, 1.5]), axis=1) > 0).all()


def test_empty_mesh_can_be_built() -> None:
    mesh = MeshBuilder().build()
    assert mesh.vertices.shape == (0, 3) and mesh.triangles.shape == (0, 3)
