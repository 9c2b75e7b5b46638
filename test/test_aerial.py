"""Patches from MBTiles and GeoTIFF: a painted dot is found where its latitude and longitude say."""

import sqlite3
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.mbtiles import MbtilesSource
from cross_view_loc.aerial.patch import Patch, pixel_centers
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.errors import InputError, MapError, MissingInputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_meters_per_pixel, mercator_pixel

LAT, LON = 49.0, 8.4
ZOOM = 20
ROTATIONS = [np.pi / 2, 0.0, 2.2, -1.0]


def blob_image(width, height, x, y, sigma_px):
    """Grey ground with a smooth white dot centred at (x, y), pixel centres at + 0.5."""
    v, u = np.mgrid[0:height, 0:width] + 0.5
    dot = np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma_px**2))
    return np.repeat((60 + 180 * dot)[..., None], 3, axis=-1).round().astype(np.uint8)


def centroid(patch):
    """Centre of the dot in patch pixels."""
    weight = np.where(patch.valid, np.clip(patch.image[..., 0].astype(float) - 80, 0, None), 0)
    centers = pixel_centers(patch.size_px)
    return (centers * weight[..., None]).sum((0, 1)) / weight.sum()


def encode(image):
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def tiles_about(lat, lon, zoom, reach, dot, sigma_px, tile_size=256):
    """{(column, row): picture} of tiles around a place, with a dot at another (lat, lon)."""
    x, y = mercator_pixel(lat, lon, zoom, tile_size)
    left, top = int(x // tile_size) - reach, int(y // tile_size) - reach
    count = 2 * reach + 1
    dot_x, dot_y = mercator_pixel(*dot, zoom, tile_size)
    picture = blob_image(
        count * tile_size, count * tile_size, dot_x - left * tile_size, dot_y - top * tile_size, sigma_px
    )
    return {
        (left + i, top + j): picture[j * tile_size : (j + 1) * tile_size, i * tile_size : (i + 1) * tile_size]
        for i in range(count)
        for j in range(count)
    }


def write_mbtiles(path, pyramid, **metadata):
    """MBTiles of {zoom: {(column, row): picture or bytes}}; rows are counted from the south in the file."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
    connection.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
    connection.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
    for zoom, tiles in pyramid.items():
        for (column, row), picture in tiles.items():
            data = picture if isinstance(picture, bytes) else encode(picture)
            values = (zoom, column % 2**zoom, 2**zoom - 1 - row, data)
            connection.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", values)
    connection.commit()
    connection.close()
    return path


@pytest.fixture(scope="module")
def projection():
    return MapProjection(MapOrigin(LAT, LON, 110.0))


@pytest.fixture(scope="module")
def dot_map():
    return np.array([9.0, -6.0])


@pytest.fixture(scope="module")
def dot_tiles(projection, dot_map):
    dot = projection.to_geodetic(*dot_map)[:2]
    return tiles_about(LAT, LON, ZOOM, 2, dot, sigma_px=6.0)


@pytest.fixture(scope="module")
def town(tmp_path_factory, dot_tiles):
    path = tmp_path_factory.mktemp("map") / "a map #1.mbtiles"
    return write_mbtiles(path, {ZOOM: dot_tiles}, map_origin="49.0,8.4,110.0", attribution="© painter")


far, pixel = st.floats(-1e4, 1e4), st.floats(0.0, 64.0)


@given(far, far, st.floats(0.05, 2.0), st.floats(-4.0, 4.0), pixel, pixel)
def test_patch_pixels_to_map_and_back(east, north, meters_per_pixel, rotation, u, v):
    patch = Patch(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool), east, north, meters_per_pixel, rotation)
    np.testing.assert_allclose(patch.map_to_pixel(patch.pixel_to_map([u, v])), [u, v], atol=1e-6)


def test_patch_directions():
    blank = np.zeros((100, 100, 3), np.uint8), np.ones((100, 100), bool)
    north_up = Patch(*blank, 1000.0, 2000.0, 0.5, np.pi / 2)
    np.testing.assert_allclose(north_up.map_to_pixel([1000.0, 2000.0]), [50.0, 50.0])
    np.testing.assert_allclose(north_up.map_to_pixel([1010.0, 2005.0]), [70.0, 40.0])
    # Image-up looks east: north is to the left.
    east_up = Patch(*blank, 1000.0, 2000.0, 0.5, 0.0)
    np.testing.assert_allclose(east_up.map_to_pixel([1010.0, 2005.0]), [40.0, 30.0])


@pytest.mark.parametrize("rotation_rad", ROTATIONS)
@pytest.mark.parametrize("meters_per_pixel", [0.1, 0.2])
def test_a_dot_in_mbtiles_lands_on_its_pixel(town, projection, dot_map, rotation_rad, meters_per_pixel):
    aerial_map = AerialMap(open_source(town), projection)
    for east_m, size_px in ((3.0, round(40 / meters_per_pixel)), (3.37, round(44 / meters_per_pixel) + 1)):
        patch = aerial_map.patch(east_m, 2.0, size_px, meters_per_pixel, rotation_rad)
        assert patch.valid.all()
        np.testing.assert_allclose(centroid(patch), patch.map_to_pixel(dot_map), atol=0.02)


@pytest.mark.parametrize("rotation_rad", ROTATIONS)
@pytest.mark.parametrize("kind", ["enu", "utm"])
def test_a_dot_in_a_utm_geotiff_lands_on_its_pixel(tmp_path, dot_map, rotation_rad, kind):
    rasterio = pytest.importorskip("rasterio")
    import pyproj

    # Far from the central meridian (9°), so that grid north is 1.7 degrees off true north.
    origin = MapOrigin(49.0, 6.7)
    projection = MapProjection(origin, kind)
    lat, lon, _ = projection.to_geodetic(*dot_map)
    grid = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True)
    x, y = grid.transform(lon, lat)
    left, top = (round(value) for value in grid.transform(6.7, 49.0))
    left, top = left - 60, top + 60
    picture = blob_image(1200, 1200, (x - left) / 0.1, (top - y) / 0.1, 8.0)
    transform = rasterio.transform.from_origin(left, top, 0.1, 0.1)
    path = tmp_path / "ortho.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1200, height=1200, count=3, dtype="uint8", crs="EPSG:32632",
        transform=transform, photometric="RGB", tiled=True,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(picture, -1, 0))
        file.update_tags(MAP_ORIGIN="49.0,6.7")
    aerial_map = AerialMap(open_source(path), projection)
    for meters_per_pixel in (0.1, 0.25):
        patch = aerial_map.patch(3.0, 2.0, round(50 / meters_per_pixel), meters_per_pixel, rotation_rad)
        assert patch.valid.all()
        np.testing.assert_allclose(centroid(patch), patch.map_to_pixel(dot_map), atol=0.02)
    assert aerial_map.map_origin_hint() == origin
    assert aerial_map.source.contains(49.0, 6.7) and not aerial_map.source.contains(49.1, 6.7)
    half_out = aerial_map.patch(-60.0, 0.0, 100, 0.2)
    assert 0.3 < half_out.valid.mean() < 0.7 and not half_out.image[~half_out.valid].any()
    with pytest.raises(NoImageryError, match=r"ortho\.tif has no imagery"):
        aerial_map.patch(900.0, 0.0, 100, 0.2)


def test_transparent_geotiff_pixels_are_not_valid(tmp_path, projection):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "masked.tiff"
    picture = np.full((4, 200, 200), 200, np.uint8)
    picture[3] = 255
    picture[3, :, :100] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=200, height=200, count=4, dtype="uint8", crs="EPSG:4326",
        transform=rasterio.transform.from_origin(LON - 1e-4, LAT + 1e-4, 1e-6, 1e-6),
    ) as file:  # fmt: skip
        file.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue", "alpha")]
        file.write(picture)
    valid = AerialMap(open_source(path), projection).patch(0.0, 0.0, 40, 0.2).valid
    assert not valid[:, :19].any() and valid[:, 21:].all()


def test_lattice_conversion_is_exact_enough_over_a_large_patch(projection):
    class Recorder:
        name, attribution, bounds, map_origin, problems = "recorder", "", (0, 0, 1, 1), None, ()

        def sample(self, latitude_deg, longitude_deg, meters_per_pixel):
            self.grid = latitude_deg, longitude_deg
            return np.zeros((*latitude_deg.shape, 3), np.uint8), np.ones(latitude_deg.shape, bool)

    for kind in ("enu", "utm"):
        for lat, lon in ((49.0, 6.1), (69.0, 179.9995), (-35.0, -180.0)):
            local, recorder = MapProjection(MapOrigin(lat, lon), kind), Recorder()
            patch = AerialMap(recorder, local).patch(300.0, -4000.0, 501, 0.4, 0.6)
            east, north, _ = local.to_map(*recorder.grid)
            expected = patch.pixel_to_map(pixel_centers(501))
            # The height that `to_map` lacks tilts 4 km from the origin into less than a millimetre.
            np.testing.assert_allclose(np.stack([east, north], -1), expected, atol=2e-3)
            assert np.ptp(recorder.grid[1]) < 0.01


def test_patches_continue_across_the_antimeridian(tmp_path):
    origin = MapOrigin(-17.0, 179.99995)
    local = MapProjection(origin)
    dot_map = np.array([12.0, 4.0])  # east of the line
    lat, lon, _ = local.to_geodetic(*dot_map)
    assert lon < 0
    tiles = tiles_about(-17.0, 179.99995, ZOOM, 2, (lat, lon + 360.0), 6.0)
    aerial_map = AerialMap(open_source(write_mbtiles(tmp_path / "date.mbtiles", {ZOOM: tiles})), local)
    patch = aerial_map.patch(0.0, 0.0, 300, 0.2)
    assert patch.valid.all()
    np.testing.assert_allclose(centroid(patch), patch.map_to_pixel(dot_map), atol=0.02)


def test_zoom_is_the_nearest_that_is_fine_enough(tmp_path):
    flat = {zoom: {(0, 0): np.full((256, 256, 3), zoom * 10, np.uint8)} for zoom in (15, 17, 18)}
    resolution = {zoom: mercator_meters_per_pixel(LAT, zoom) for zoom in flat}
    pyramid = {}
    for zoom, tiles in flat.items():
        x, y = mercator_pixel(LAT, LON, zoom, 1)
        pyramid[zoom] = {(int(x) + i, int(y) + j): tiles[0, 0] for i in range(-2, 3) for j in range(-2, 3)}
    aerial_map = AerialMap(
        open_source(write_mbtiles(tmp_path / "zooms.mbtiles", pyramid)), MapProjection(MapOrigin(LAT, LON))
    )
    for asked, expected in (
        (resolution[18] * 0.2, 18), (resolution[18], 18), (resolution[18] * 1.9, 18),
        (resolution[17] * 1.1, 17), (resolution[17] * 3.0, 17), (resolution[15], 15),
    ):  # fmt: skip
        assert aerial_map.patch(0.0, 0.0, 16, asked).image[8, 8, 0] == expected * 10


def test_much_finer_tiles_are_averaged(tmp_path, projection):
    checker = np.kron(np.indices((128, 128)).sum(0) % 2, np.ones((2, 2)))[..., None].repeat(3, -1) * 255
    x, y = mercator_pixel(LAT, LON, ZOOM, 1)
    tiles = {(int(x) + i, int(y) + j): checker.astype(np.uint8) for i in range(-2, 3) for j in range(-2, 3)}
    source = open_source(write_mbtiles(tmp_path / "checker.mbtiles", {ZOOM: tiles}))
    resolution = mercator_meters_per_pixel(LAT, ZOOM)
    image = AerialMap(source, projection).patch(0.0, 0.0, 40, resolution * 8, 1.0).image
    assert abs(image.astype(int) - 127).max() <= 2


def test_large_requests_are_split_without_seams(town, projection, monkeypatch):
    whole = AerialMap(open_source(town), projection).patch(0.0, 0.0, 120, 0.3, 1.0)
    monkeypatch.setattr("cross_view_loc.aerial.tiled_source._MAX_MOSAIC_PX", 4000)
    split = AerialMap(open_source(town), projection).patch(0.0, 0.0, 120, 0.3, 1.0)
    np.testing.assert_array_equal(whole.valid, split.valid)
    assert abs(whole.image.astype(int) - split.image).max() <= 3


def test_a_corrupt_tile_is_reported_and_treated_as_missing(tmp_path, dot_tiles, projection):
    x, y = mercator_pixel(LAT, LON, ZOOM, 1)
    broken = (int(x), int(y))
    path = write_mbtiles(tmp_path / "map.mbtiles", {ZOOM: {**dot_tiles, broken: b"not a picture"}})
    source = open_source(path)
    aerial_map = AerialMap(source, projection)
    patch = aerial_map.patch(0.0, 0.0, 200, 0.25)
    assert 0.1 < patch.valid.mean() < 0.95
    assert not patch.image[~patch.valid].any()
    assert source.problems == (
        f"Tile {ZOOM}/{broken[0]}/{broken[1]} of map.mbtiles is not a readable image; fetch it again.",
    )
    aerial_map.patch(0.0, 0.0, 200, 0.25)
    assert source.problem_count == 1


def test_a_missing_tile_is_filled_from_a_lower_zoom(tmp_path, dot_tiles, projection, dot_map):
    dot = projection.to_geodetic(*dot_map)[:2]
    x, y = mercator_pixel(*dot, ZOOM, 1)
    with_hole = {key: tile for key, tile in dot_tiles.items() if key != (int(x), int(y))}
    coarse = tiles_about(LAT, LON, ZOOM - 2, 1, dot, sigma_px=1.5)
    path = write_mbtiles(tmp_path / "hole.mbtiles", {ZOOM: with_hole, ZOOM - 2: coarse})
    patch = AerialMap(open_source(path), projection).patch(3.0, 2.0, 300, 0.15)
    assert patch.valid.all()
    np.testing.assert_allclose(centroid(patch), patch.map_to_pixel(dot_map), atol=0.25)


def test_nothing_there_is_said_with_place_and_bounds(town, projection):
    source = open_source(town)
    with pytest.raises(NoImageryError, match=r"a map #1.mbtiles has no imagery within 10 m of latitude 48.99998"):
        AerialMap(source, projection).patch(5000.0, 0.0, 100, 0.2)
    south, west, north, east = source.bounds
    assert south < LAT < north and west < LON < east
    assert (north - south) * 111_200 == pytest.approx(5 * 256 * mercator_meters_per_pixel(LAT, ZOOM), rel=0.01)
    assert source.contains(LAT, LON) and not source.contains(LAT, LON + 0.05)
    partly = AerialMap(source, projection).patch(60.0, 0.0, 200, 0.2)
    assert 0 < partly.valid.mean() < 1


def test_metadata_is_told(town, projection, tmp_path, dot_tiles):
    source = open_source(town)
    assert AerialMap(source, projection).map_origin_hint() == MapOrigin(49.0, 8.4, 110.0)
    assert (source.attribution, source.name) == ("© painter", "a map #1.mbtiles")
    plain = open_source(write_mbtiles(tmp_path / "plain.mbtiles", {ZOOM: dot_tiles}))
    assert plain.map_origin is None
    odd = open_source(write_mbtiles(tmp_path / "odd.mbtiles", {ZOOM: dot_tiles}, map_origin="somewhere"))
    with pytest.raises(MapError, match="somewhere"):
        _ = odd.map_origin


def test_high_density_tiles_and_transparency(tmp_path, projection, dot_map):
    dot = projection.to_geodetic(*dot_map)[:2]
    tiles = tiles_about(LAT, LON, ZOOM - 1, 1, dot, sigma_px=6.0, tile_size=512)
    x, y = mercator_pixel(LAT, LON, ZOOM - 1, 1)
    clear = np.zeros((512, 512, 4), np.uint8)
    tiles[(int(x) - 1, int(y))] = cv2.imencode(".png", clear)[1].tobytes()
    source = open_source(write_mbtiles(tmp_path / "dense.mbtiles", {ZOOM - 1: tiles}))
    assert source.tile_size == 512
    patch = AerialMap(source, projection).patch(6.0, -3.0, 200, 0.15)
    np.testing.assert_allclose(centroid(patch), patch.map_to_pixel(dot_map), atol=0.02)
    assert not AerialMap(source, projection).patch(-60.0, 0.0, 300, 0.3).valid.all()


def test_several_threads_share_a_map(town, projection):
    aerial_map = AerialMap(MbtilesSource(town, cache_tiles=3), projection)
    expected = aerial_map.patch(0.0, 0.0, 100, 0.2).image
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(aerial_map.patch(0.0, 0.0, 100, 0.2).image)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(np.array_equal(image, expected) for image in results)


def test_unusable_files_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist"):
        open_source(tmp_path / "nowhere.mbtiles")
    (tmp_path / "map.jpg").write_bytes(b"")
    with pytest.raises(MapError, match="unknown kind"):
        open_source(tmp_path / "map.jpg")
    (tmp_path / "text.mbtiles").write_bytes(b"hello, this is a text file and no database" * 50)
    with pytest.raises(MapError, match="not a readable MBTiles"):
        open_source(tmp_path / "text.mbtiles")
    (tmp_path / "text.tif").write_bytes(b"hello")
    with pytest.raises(MapError, match=r"GeoTIFF|rasterio"):
        open_source(tmp_path / "text.tif")
    with pytest.raises(MapError, match="no tiles"):
        open_source(write_mbtiles(tmp_path / "empty.mbtiles", {}))
    with pytest.raises(MapError, match="vector tiles"):
        open_source(write_mbtiles(tmp_path / "vector.mbtiles", {3: {(1, 1): b"\x1a\x00"}}, format="pbf"))


@pytest.mark.parametrize("arguments", [(0.0, 0.0, 0, 0.2), (0.0, 0.0, 10, 0.0), (np.nan, 0.0, 10, 0.2)])
def test_senseless_patches_are_refused(town, projection, arguments):
    with pytest.raises(InputError, match="Patch"):
        AerialMap(open_source(town), projection).patch(*arguments)
