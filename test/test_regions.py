"""Suburb, rural and forest towns beside the default one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from shapely.ops import unary_union

from cross_view_loc.errors import InputError
from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.lighting import ground_palette
from cross_view_loc.simulation.materials import ROAD_MATERIALS, GroundMaterial, SurfaceMaterial, coloured_seed
from cross_view_loc.simulation.regions import REGIONS, region_named
from cross_view_loc.simulation.renderer import Renderer
from cross_view_loc.simulation.roads import DRIVE_MARGIN_M, build_network
from cross_view_loc.simulation.style import TownStyle
from cross_view_loc.simulation.town import Town

COUNTRY = tuple(region for region in REGIONS if region != "town")
SIZE_M = 240.0


@pytest.fixture(scope="module")
def towns() -> dict[tuple[str, int], Town]:
    """Small towns of two seeds of every region."""
    return {(region, seed): Town(seed, SIZE_M, region=region) for region in REGIONS for seed in (3, 4)}


def _digest(town: Town) -> str:
    mesh, sums = town.mesh, hashlib.sha256()
    rasters = (town.ground_material, town.markings, town.wear)
    meshes = (mesh.vertices, mesh.normals, mesh.uv, mesh.triangles, mesh.materials, mesh.seeds, town.trees)
    for array in (*rasters, *meshes):
        sums.update(array.tobytes())
    return sums.hexdigest()[:16]


@pytest.mark.parametrize(
    ("seed", "size_m", "digest"), [(3, 240.0, "99035dbccfdf0b94"), (14, 300.0, "b33a308e46a4b96f")]
)
def test_default_town_is_bit_for_bit_what_it_was_before_there_were_regions(
    seed: int, size_m: float, digest: str
) -> None:
    town = Town(seed, size_m)
    assert _digest(town) == digest
    assert town.region == "town"
    assert (town.tint == 128).all()
    dark, _ = ground_palette(Appearance(), town.palette)
    np.testing.assert_allclose(dark[GroundMaterial.ASPHALT], [0.085, 0.085, 0.088])


@pytest.mark.parametrize("region", COUNTRY)
def test_same_seed_same_place(towns: dict[tuple[str, int], Town], region: str) -> None:
    first, again = towns[region, 3], Town(3, SIZE_M, region=region)
    assert _digest(first) == _digest(again)
    np.testing.assert_array_equal(first.tint, again.tint)
    assert first.palette == again.palette


def test_regions_and_seeds_differ(towns: dict[tuple[str, int], Town]) -> None:
    keys = list(towns)
    for index, key in enumerate(keys):
        for other in keys[:index]:
            assert (towns[key].ground_material != towns[other].ground_material).mean() > 0.05
    for region in COUNTRY:
        assert towns[region, 3].palette != towns[region, 4].palette


def test_seeds_of_a_region_spread_over_colours_and_widths() -> None:
    palettes, widths = [], []
    for seed in range(12):
        town = Town(seed, 120.0, 0.2, region="rural")
        palettes.append(np.array(list(town.palette.ground.values())))
        widths.append([town.style.collector_width_m, town.style.sidewalk_width_m])
    relative = np.std(palettes, axis=0) / np.mean(palettes, axis=0)
    assert np.median(relative[[GroundMaterial.GRASS, GroundMaterial.ASPHALT, GroundMaterial.GRAVEL]]) > 0.2
    assert np.ptp(widths, axis=0).min() > 1.0


@pytest.mark.parametrize("region", COUNTRY)
def test_drives_stay_on_the_road(towns: dict[tuple[str, int], Town], region: str) -> None:
    for seed in (3, 4):
        town = towns[region, seed]
        drive = town.drive(1, 60.0)
        assert np.abs(np.asarray(drive.path.coords)).max() <= SIZE_M / 2 - DRIVE_MARGIN_M
        poses = drive.T_map_base(np.linspace(0.0, drive.duration_s, 400))
        for left_m in (-0.8, 0.0, 0.8):
            column, row = town.ground_pixel(poses[:, :2, 3] + left_m * poses[:, :2, 1]).astype(int).T
            assert np.isin(town.ground_material[row, column], ROAD_MATERIALS).all()


@pytest.mark.parametrize("region", COUNTRY)
def test_nothing_solid_stands_on_the_road(towns: dict[tuple[str, int], Town], region: str) -> None:
    from shapely import contains_xy, prepare

    town = towns[region, 4]
    road = unary_union(town.areas.carriageway).buffer(-0.5)
    prepare(road)
    mesh = town.mesh
    soft = (SurfaceMaterial.GROUND, SurfaceMaterial.LEAF, SurfaceMaterial.KERB)
    low = mesh.vertices[:, 2] - town.height(mesh.vertices[:, 0], mesh.vertices[:, 1]) < 2.5
    solid = mesh.triangles[~np.isin(mesh.materials, soft)]
    corners = mesh.vertices[solid[low[solid].all(axis=1)].ravel()]
    assert len(corners) > 0
    assert not contains_xy(road, corners[:, 0], corners[:, 1]).any()


@pytest.mark.parametrize("region", COUNTRY)
def test_every_small_place_has_a_route(region: str) -> None:
    rules = region_named(region)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        assert len(build_network(SIZE_M, TownStyle.random(rng, rules), rng, rules.plan).drivable) >= 4


def test_forest_has_trees_and_suburb_has_houses(towns: dict[tuple[str, int], Town]) -> None:
    trees = {region: len(towns[region, 3].trees) + len(towns[region, 4].trees) for region in REGIONS}
    assert trees["forest"] > 2 * max(trees["town"], trees["suburb"])
    roofs = (SurfaceMaterial.ROOF_SHINGLE, SurfaceMaterial.ROOF_METAL)
    assert np.isin(towns["suburb", 3].mesh.materials, roofs).sum() > 100
    assert not np.isin(towns["town", 3].mesh.materials, roofs).any()


def test_surfaces_have_detail_to_match(towns: dict[tuple[str, int], Town]) -> None:
    """Within a few metres of unmarked road and verge the albedo varies, by amounts both views can see."""
    for region in COUNTRY:
        town = towns[region, 3]
        factor = (town.tint[..., 1].astype(float) / 128.0) ** 2
        step = len(town.ground_material) // len(factor)
        road = np.isin(town.ground_material[::step, ::step], ROAD_MATERIALS)
        assert 0.05 < factor[road].std() < 0.6
        assert 0.8 < np.median(factor) < 1.25


def test_place_at_tells_junctions_bends_and_streets(towns: dict[tuple[str, int], Town]) -> None:
    seen = set()
    for town in towns.values():
        degree = dict(town.network.graph.degree)
        for node, position in town.network.positions.items():
            if degree[node] >= 3:
                assert town.place_at(*position) == "junction"
        for road in town.network.roads:
            middle = road.center.length_m / 2
            place = town.place_at(*road.center.position(middle))
            headings = [road.center.tangent(middle + ahead) for ahead in (-15.0, 15.0)]
            turn = np.degrees(np.arccos(np.clip(headings[0] @ headings[1], -1.0, 1.0)))
            if place != "junction" and middle > 15.0:
                assert (place == "bend") == (turn > 12.0)
            seen.add(place)
    assert seen >= {"street", "bend"}


def test_what_the_camera_and_the_orthophoto_see_follow_the_tint() -> None:
    """The shared detail shows in an orthophoto: brighter tint, brighter pixels."""
    town = Town(3, 120.0, region="rural")
    renderer = Renderer(town, Appearance(cloud=0.9, sun_strength=0.2, ambient=1.2))
    picture = renderer.render([renderer.ortho(0.0, 0.0, 300, 300, 0.4)])[0][0].mean(axis=2)
    step = len(town.tint) // 300
    kind = town.ground_material[:: 2 * step, :: 2 * step]
    tint = town.tint[::step, ::step, 1].astype(float)
    asphalt = kind == GroundMaterial.ASPHALT
    assert np.corrcoef(tint[asphalt], picture[asphalt])[0, 1] > 0.3


def test_seed_colours_survive_and_unknown_regions_are_refused() -> None:
    seed = coloured_seed((0.25, 0.04, 0.81), 7)
    decoded = [((seed >> shift & 63) / 63.0) ** 2 for shift in (12, 6, 0)]
    np.testing.assert_allclose(decoded, [0.25, 0.04, 0.81], atol=0.02)
    assert coloured_seed((1.0, 1.0, 1.0), 4095) < 2**31
    with pytest.raises(InputError, match="suburb"):
        Town(0, SIZE_M, region="moon")
