"""WGS84, map metres and mercator pixels: signs, agreement with pyproj, the antimeridian."""

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import (
    MapOrigin,
    MapProjection,
    mercator_geodetic,
    mercator_meters_per_pixel,
    mercator_pixel,
    utm_zone,
    wrap_degrees,
)

PLACES = [(0.0, 0.0), (49.0, 8.4), (-35.0, 149.1), (69.0, 19.0), (10.0, 179.999), (-17.0, -179.999)]
METERS_PER_DEGREE = 111_320.0


def around(lat, lon, count=500, spread_deg=0.05):
    """Random positions about a place, longitudes wrapped as a receiver reports them."""
    random = np.random.default_rng(1)
    latitudes = lat + random.uniform(-spread_deg, spread_deg, count)
    longitudes = wrap_degrees(lon + random.uniform(-spread_deg, spread_deg, count))
    return latitudes, longitudes, random.uniform(-50.0, 500.0, count)


@pytest.mark.parametrize("kind", ["enu", "utm"])
@pytest.mark.parametrize(("lat", "lon"), PLACES)
def test_moving_north_raises_latitude_and_moving_east_raises_longitude(lat, lon, kind):
    projection = MapProjection(MapOrigin(lat, lon, 120.0), kind)
    origin_lat, origin_lon, origin_height = projection.to_geodetic(0.0, 0.0, 0.0)
    assert (origin_lat, origin_height) == pytest.approx((lat, 120.0), abs=1e-9)
    assert wrap_degrees(origin_lon - lon) == pytest.approx(0.0, abs=1e-9)

    north_lat, north_lon, _ = projection.to_geodetic(0.0, 100.0)
    assert (north_lat - lat) * METERS_PER_DEGREE == pytest.approx(100.0, rel=0.01)
    assert wrap_degrees(north_lon - lon) * METERS_PER_DEGREE == pytest.approx(0.0, abs=0.01)
    east_lat, east_lon, _ = projection.to_geodetic(100.0, 0.0)
    east_m = wrap_degrees(east_lon - lon) * METERS_PER_DEGREE * np.cos(np.radians(lat))
    assert east_m == pytest.approx(100.0, rel=0.01)
    assert (east_lat - lat) * METERS_PER_DEGREE == pytest.approx(0.0, abs=0.01)
    assert projection.to_geodetic(0.0, 0.0, 5.0)[2] == pytest.approx(125.0, abs=1e-6)


@pytest.mark.parametrize(("lat", "lon"), PLACES)
def test_enu_agrees_with_pyproj(lat, lon):
    latitudes, longitudes, heights = around(lat, lon)
    pipeline = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=cart +ellps=WGS84"
        f" +step +proj=topocentric +ellps=WGS84 +lat_0={lat} +lon_0={lon} +h_0=120"
    )
    expected = pipeline.transform(longitudes, latitudes, heights)
    ours = MapProjection(MapOrigin(lat, lon, 120.0)).to_map(latitudes, longitudes, heights)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["enu", "utm"])
@pytest.mark.parametrize(("lat", "lon"), PLACES)
def test_map_and_back_is_below_a_micrometre(lat, lon, kind):
    latitudes, longitudes, heights = around(lat, lon)
    projection = MapProjection(MapOrigin(lat, lon, 120.0), kind)
    back = projection.to_geodetic(*projection.to_map(latitudes, longitudes, heights))
    np.testing.assert_allclose(back[0], latitudes, atol=1e-11)
    np.testing.assert_allclose(wrap_degrees(back[1] - longitudes), 0.0, atol=2e-11)
    np.testing.assert_allclose(back[2], heights, atol=1e-6)


def test_positions_either_side_of_the_antimeridian_are_neighbours():
    for kind in ("enu", "utm"):
        projection = MapProjection(MapOrigin(10.0, 179.9999), kind)
        east, north, _ = projection.to_map(10.0, [-179.9999, 180.0001])
        np.testing.assert_allclose(east, 0.0002 * METERS_PER_DEGREE * np.cos(np.radians(10.0)), rtol=0.01)
        np.testing.assert_allclose(north, 0.0, atol=0.01)


def test_utm_keeps_the_scale_and_turns_to_true_north():
    # On the central meridian grid north is true north and the scale is 0.9996.
    easting, northing, _ = MapProjection(MapOrigin(49.0, 9.0), "utm").to_map([49.0, 49.01], [9.01, 9.0])
    enu_east, enu_north, _ = MapProjection(MapOrigin(49.0, 9.0)).to_map([49.0, 49.01], [9.01, 9.0])
    assert easting[0] / enu_east[0] == pytest.approx(0.9996, abs=2e-6)
    assert northing[1] / enu_north[1] == pytest.approx(0.9996, abs=2e-6)
    # At the rim of a zone grid north is 2.3 degrees off; the map's y is still true north.
    rim_east, rim_north, _ = MapProjection(MapOrigin(49.0, 6.01), "utm").to_map(49.001, 6.01)
    assert np.degrees(np.arctan2(rim_east, rim_north)) == pytest.approx(0.0, abs=1e-4)


def test_utm_is_the_standard_grid_turned_by_the_convergence():
    grid = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32756", always_xy=True)
    origin = np.array(grid.transform(151.9, -33.0))
    latitudes, longitudes, _ = around(-33.0, 151.9)
    offsets = np.stack(grid.transform(longitudes, latitudes), axis=-1) - origin
    east, north, _ = MapProjection(MapOrigin(-33.0, 151.9), "utm").to_map(latitudes, longitudes)
    np.testing.assert_allclose(np.hypot(east, north), np.linalg.norm(offsets, axis=1), atol=1e-5)
    turn = np.angle((east + 1j * north) / (offsets[:, 0] + 1j * offsets[:, 1]))
    np.testing.assert_allclose(turn, turn[0], atol=1e-8)


def test_utm_zones_with_their_exceptions():
    assert [utm_zone(49.0, 8.4), utm_zone(0.0, -180.0), utm_zone(0.0, 180.0), utm_zone(0.0, 179.9)] == [32, 1, 1, 60]
    assert [utm_zone(60.0, 5.0), utm_zone(78.0, 8.0), utm_zone(78.0, 10.0), utm_zone(78.0, 40.0)] == [32, 31, 33, 37]


def test_mercator_pixels_of_the_corner_and_the_middle_of_the_world():
    assert mercator_pixel(0.0, 0.0, 1) == pytest.approx((256.0, 256.0))
    assert mercator_pixel(85.0511287798066, -180.0, 4) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert mercator_pixel(90.0, 180.0, 4) == pytest.approx((4096.0, 0.0), abs=1e-6)
    assert mercator_meters_per_pixel(0.0, 0) == pytest.approx(156543.0339, abs=1e-3)
    assert mercator_meters_per_pixel(60.0, 18, 512) == pytest.approx(156543.0339 / 2**18 / 4, abs=1e-6)


def test_mercator_matches_epsg_3857():
    latitudes, longitudes, _ = around(49.0, 8.4)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(longitudes, latitudes)
    half = np.pi * 6378137.0
    ours = mercator_pixel(latitudes, longitudes, 19)
    np.testing.assert_allclose(ours[0], (x + half) / (2 * half) * 256 * 2**19, atol=1e-6)
    np.testing.assert_allclose(ours[1], (half - y) / (2 * half) * 256 * 2**19, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.floats(-84.0, 84.0), st.floats(-180.0, 180.0), st.integers(0, 22))
def test_mercator_and_back(lat, lon, zoom):
    back = mercator_geodetic(*mercator_pixel(lat, lon, zoom), zoom)
    assert back == pytest.approx((lat, lon), abs=1e-10)


@pytest.mark.parametrize("values", [(np.nan, 0.0, 0.0), (91.0, 0.0, 0.0), (0.0, 400.0, 0.0), (0.0, 0.0, np.inf)])
def test_origin_must_be_on_earth(values):
    with pytest.raises(InputError, match="map_origin"):
        MapOrigin(*values)


def test_unknown_projection_and_polar_utm_are_refused():
    with pytest.raises(InputError, match='"mercator"'):
        MapProjection(MapOrigin(0.0, 0.0), "mercator")
    with pytest.raises(InputError, match="map_projection: enu"):
        MapProjection(MapOrigin(86.0, 0.0), "utm")
