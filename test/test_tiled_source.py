"""Patches from web-mercator tiles: metric everywhere on Earth, with stand-ins that say so and lie where they should."""

import math

import numpy as np
import pyproj
import pytest
from map_helpers import PaintedStore, Scene, dot_positions, encode, keys_about

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.offsets import OffsetRegion, OffsetSource, shifted
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import TileKey, within_bounds
from cross_view_loc.errors import NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_meters_per_pixel

CORNERS_M = np.array([(-50.0, -50.0), (50.0, -50.0), (50.0, 50.0), (-50.0, 50.0), (0.0, 0.0)])
PLACES = {
    "equator": (0.0, 33.0),
    "49 north": (49.0, 8.4),
    "35 south": (-35.0, 149.1),
    "69 north": (69.0, 20.3),
    "antimeridian": (-17.0, 180.0),
    "UTM zone edge": (49.0, 6.0),
}


def tangent_plane(latitude_deg, longitude_deg):
    """pyproj's own way from degrees to east, north, up about a place."""
    return pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84"
        f" +step +proj=topocentric +ellps=WGS84 +lat_0={latitude_deg} +lon_0={longitude_deg} +h_0=0"
    )


def utm_turned(latitude_deg, longitude_deg):
    """UTM metres about a place with y to true north, as a function of (lon, lat), by pyproj alone."""
    crs = pyproj.database.query_utm_crs_info(
        "WGS 84", pyproj.aoi.AreaOfInterest(longitude_deg, latitude_deg, longitude_deg, latitude_deg)
    )[-1]
    grid = pyproj.Proj(f"EPSG:{crs.code}")
    x0, y0 = grid(longitude_deg, latitude_deg)
    turn = math.radians(grid.get_factors(longitude_deg, latitude_deg).meridian_convergence)

    def convert(lon, lat):
        x, y = grid(lon, lat)
        east, north = np.asarray(x) - x0, np.asarray(y) - y0
        return math.cos(turn) * east + math.sin(turn) * north, math.cos(turn) * north - math.sin(turn) * east

    return convert


@pytest.mark.parametrize("place", PLACES)
def test_a_patch_is_metric_against_pyproj(place):
    latitude_deg, longitude_deg = PLACES[place]
    plane = tangent_plane(latitude_deg, longitude_deg)
    lon, lat, _ = plane.transform(*CORNERS_M.T, np.zeros(5), direction="INVERSE")
    zoom = 19 if abs(latitude_deg) < 60 else 18
    source = TiledSource(
        PaintedStore(Scene(latitude_deg, longitude_deg, zip(lat, lon, strict=True), stripes=False), [zoom])
    )
    kinds = ("enu", "utm") if place in ("49 north", "UTM zone edge") else ("enu",)
    for kind in kinds:
        truth = CORNERS_M if kind == "enu" else np.stack(utm_turned(latitude_deg, longitude_deg)(lon, lat), -1)
        aerial_map = AerialMap(source, MapProjection(MapOrigin(latitude_deg, longitude_deg), kind))
        patch = aerial_map.patch(1.3, -0.4, 600, 0.25, 1.1 if kind == "enu" else math.pi / 2)
        assert patch.valid.mean() > 0.99
        measured = dot_positions(patch, truth)
        assert np.linalg.norm(measured - truth, axis=-1).max() <= 0.02
        along_m = np.linalg.norm(measured[1] - measured[0])
        geodesic_m = pyproj.Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2]
        scale = 1.0 if kind == "enu" else np.linalg.norm(truth[1] - truth[0]) / geodesic_m
        assert along_m == pytest.approx(geodesic_m * scale, abs=0.02)


def dot_scene(east_m, north_m, **options):
    """A scene at 49° north with a dot so far from its middle."""
    lon, lat, _ = tangent_plane(49.0, 8.4).transform([east_m], [north_m], [0.0], direction="INVERSE")
    return Scene(49.0, 8.4, [(lat[0], lon[0])], **options)


@pytest.fixture(scope="module")
def scene():
    return dot_scene(6.0, -4.0)


@pytest.fixture(scope="module")
def projection():
    return MapProjection(MapOrigin(49.0, 8.4))


def test_a_lower_zoom_stands_in_in_its_place_and_says_so(scene, projection):
    whole = AerialMap(TiledSource(PaintedStore(scene, [17, 18, 19])), projection).patch(0.0, 0.0, 300, 0.2)
    assert whole.stand_in == 0.0
    assert whole.meters_per_pixel_source == pytest.approx(mercator_meters_per_pixel(49.0, 19))
    hole = TileKey.at(49.0, 8.4, 19)
    for levels in (1, 2):
        zooms = [19 - levels, 19]
        absent = keys_about(49.0, 8.4, 19, 3) if levels == 1 else [hole]
        store = PaintedStore(scene, zooms, absent=absent)
        patch = AerialMap(TiledSource(store), projection).patch(0.0, 0.0, 300, 0.2)
        assert patch.valid.all()
        difference = patch.image.astype(float) - whole.image
        # Half a pixel of the lower zoom, 0.2 m, would differ by 5 grey levels on average where it stands in.
        assert abs(difference).mean() < 0.8
        assert abs(difference.mean()) < 0.3
        if levels == 1:
            assert patch.stand_in == 1.0
            assert patch.meters_per_pixel_source == pytest.approx(mercator_meters_per_pixel(49.0, 18))
        else:
            south, west, north, east = hole.bounds()
            pixels = patch.map_to_pixel(np.stack(projection.to_map([north, south], [west, east])[:2], -1)).clip(0, 300)
            assert patch.stand_in == pytest.approx(np.prod(pixels[1] - pixels[0]) / 300**2, abs=0.02)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_stand_in_is_not_half_a_pixel_off(projection, levels):
    store = PaintedStore(dot_scene(6.0, -4.0, dot_m=1.6, stripes=False), [19 - levels, 19])
    store.absent.update(keys_about(49.0, 8.4, 19, 3))
    patch = AerialMap(TiledSource(store), projection).patch(0.0, 0.0, 160, 0.2, 0.7)
    assert patch.stand_in == 1.0
    # Half a pixel of the lower zoom is 0.2, 0.4 and 0.8 m.
    np.testing.assert_allclose(dot_positions(patch, [(6.0, -4.0)]), [(6.0, -4.0)], atol=0.02 * 2**levels / 2)


def test_a_tile_that_arrives_later_is_used(scene, projection):
    hole = TileKey.at(49.0, 8.4, 19)
    store = PaintedStore(scene, [19], absent=[hole])
    aerial_map = AerialMap(TiledSource(store), projection)
    first = aerial_map.patch(0.0, 0.0, 200, 0.2)
    assert 0.2 < first.valid.mean() < 0.9 and not first.image[~first.valid].any()
    store.absent.clear()
    assert aerial_map.patch(0.0, 0.0, 200, 0.2).valid.all()


def test_much_coarser_tiles_do_not_pass_for_imagery(scene, projection):
    store = PaintedStore(scene, [12, 19], absent=keys_about(49.0, 8.4, 19, 3))
    with pytest.raises(NoImageryError, match="painted has no imagery"):
        AerialMap(TiledSource(store), projection).patch(0.0, 0.0, 100, 0.2)


def test_decoded_tiles_are_reused_while_the_vehicle_moves(scene, projection):
    store = PaintedStore(scene, [19])
    aerial_map = AerialMap(TiledSource(store), projection)
    for east_m in (0.0, 1.0, 2.0, 3.0):
        aerial_map.patch(east_m, 0.0, 200, 0.2)
    assert len(store.asked) == len(set(store.asked))
    small = TiledSource(store, cache_tiles=2)
    for _ in range(2):
        AerialMap(small, projection).patch(0.0, 0.0, 300, 0.2)
    assert len(small._cache) == 2


def test_high_density_tiles_show_the_same(scene, projection):
    plain = AerialMap(TiledSource(PaintedStore(scene, [19])), projection).patch(0.0, 0.0, 200, 0.2, 0.3)
    dense = AerialMap(TiledSource(PaintedStore(scene, [18], tile_size_px=512)), projection).patch(0, 0, 200, 0.2, 0.3)
    assert abs(plain.image.astype(float) - dense.image).mean() < 0.1


def test_an_unreadable_tile_is_told_once_and_tried_again_when_it_changes(scene, projection):
    class Broken(PaintedStore):
        data = b"<html>blocked</html>"

        def read(self, key):
            return self.data or super().read(key)

    store = Broken(scene, [19])
    source = TiledSource(store)
    for _ in range(2):
        with pytest.raises(NoImageryError):
            AerialMap(source, projection).patch(0.0, 0.0, 100, 0.2)
    assert source.problem_count == len(source.problems)
    assert all("of painted is not a readable image" in sentence for sentence in source.problems)
    store.data = b""
    assert AerialMap(source, projection).patch(0.0, 0.0, 100, 0.2).valid.all()


def test_an_offset_puts_shifted_imagery_in_its_place(scene, projection):
    # The imagery shows everything 1.5 m east and 0.8 m south of where it is.
    source = TiledSource(PaintedStore(dot_scene(7.5, -4.8, stripes=False), [19]))
    seen = AerialMap(source, projection).patch(0.0, 0.0, 200, 0.2)
    np.testing.assert_allclose(dot_positions(seen, [(7.5, -4.8)]), [(7.5, -4.8)], atol=0.02)
    put_right = AerialMap(OffsetSource(source, (1.5, -0.8)), projection).patch(0.0, 0.0, 200, 0.2)
    np.testing.assert_allclose(dot_positions(put_right, [(6.0, -4.0)]), [(6.0, -4.0)], atol=0.02)


def test_offsets_are_metres_against_pyproj_at_any_latitude():
    geod = pyproj.Geod(ellps="WGS84")
    for latitude_deg in (0.0, 49.0, -35.0, 69.0):
        latitude, longitude = shifted(np.array(latitude_deg), np.array(179.99999), (30.0, 40.0))
        azimuth_deg, _, distance_m = geod.inv(179.99999, latitude_deg, float(longitude), float(latitude))
        assert distance_m == pytest.approx(50.0, abs=0.001)
        assert azimuth_deg == pytest.approx(math.degrees(math.atan2(30.0, 40.0)), abs=0.01)


def test_a_region_has_its_own_offset_up_to_its_edge(scene, projection):
    west_deg = float(projection.to_geodetic(-500.0, 0.0)[1])
    region = OffsetRegion(((48.0, west_deg), (48.0, 8.4), (50.0, 8.4), (50.0, west_deg)), (2.0, 1.0))
    store = PaintedStore(scene, [17, 19], absent=[TileKey.at(49.0, 8.4, 19)])
    plain = TiledSource(store)
    patch = AerialMap(OffsetSource(plain, (0.0, 0.0), (region,)), projection).patch(0.0, 0.0, 200, 0.2)
    left = AerialMap(OffsetSource(plain, (2.0, 1.0)), projection).patch(0.0, 0.0, 200, 0.2)
    right = AerialMap(plain, projection).patch(0.0, 0.0, 200, 0.2)
    np.testing.assert_array_equal(patch.image[:, :99], left.image[:, :99])
    np.testing.assert_array_equal(patch.image[:, 101:], right.image[:, 101:])
    assert abs(left.image.astype(float) - right.image).mean() > 5.0
    assert patch.stand_in == pytest.approx((left.stand_in + right.stand_in) / 2, abs=0.1)


def test_regions_hold_places_across_the_antimeridian():
    region = OffsetRegion(((-18.0, 179.0), (-18.0, -179.0), (-16.0, -179.0), (-16.0, 179.0)), (1.0, 0.0))
    latitudes, longitudes = np.full(5, -17.0), np.array([179.5, -179.5, 180.5, 178.5, 0.0])
    assert region.contains(latitudes, longitudes).tolist() == [True, True, True, False, False]
    assert not region.contains(np.array([-15.0]), np.array([180.0]))[0]


def test_keys_name_tiles_as_others_do():
    key = TileKey(3, 3, 5)
    assert (str(key), key.quadkey, key.row_from_south) == ("3/3/5", "213", 2)  # the example of Bing's documentation
    assert key.parent(2) == TileKey(1, 0, 1)
    assert TileKey.at(-89.9, -180.0, 4) == TileKey(4, 0, 15)
    assert TileKey.at(49.0, 190.0, 4) == TileKey.at(49.0, -170.0, 4)
    south, west, north, east = TileKey(1, 1, 0).bounds()
    assert (south, west, east) == (0.0, 0.0, 180.0) and north == pytest.approx(85.0511287798066)
    assert not TileKey(2, 4, 0).exists and not TileKey(31, 0, 0).exists
    assert within_bounds(0.0, -179.5, (-1.0, 179.0, 1.0, -179.0)) and not within_bounds(
        0, 0, (-1.0, 179.0, 1.0, -179.0)
    )


def test_grey_and_transparent_pictures_are_decoded():
    from cross_view_loc.aerial.tiles import decode_tile

    grey = decode_tile(encode(np.full((8, 8, 3), 77, np.uint8)[..., :1].repeat(3, -1)))
    assert grey is not None and (grey[0] == 77).all() and grey[1].all()
    assert decode_tile(b"") is None and decode_tile(b"\x89PNG\r\n\x1a\n") is None
