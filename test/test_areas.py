"""Areas to tiles: counts worked out by hand, and every tile within the buffer and none beyond it."""

import json
import math

import numpy as np
import pytest
from bag_helpers import ORIGIN, drive, write_bag2
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.aerial.areas import Area, parse_box, parse_zooms, unwrapped
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.aerial.tracks import read_polygon, read_shapes, read_track
from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.track import fix_lines
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import mercator_geodetic, mercator_meters_per_pixel, mercator_pixel


def tile_m(latitude_deg, zoom):
    """Side of a tile on the ground."""
    return mercator_meters_per_pixel(latitude_deg, zoom, 1)


def box_of_tiles(zoom, first_column, first_row, stop_column, stop_row):
    """South, west, north, east of whole tiles."""
    (north, south), (west, east) = mercator_geodetic([first_column, stop_column], [first_row, stop_row], zoom, 1)
    return south, west, north, east


def middle_of(zoom, column, row):
    """(1, 2) latitude, longitude of a tile's middle."""
    latitude, longitude = mercator_geodetic(column + 0.5, row + 0.5, zoom, 1)
    return np.array([[latitude, longitude]])


def test_the_whole_world():
    tiles = Area.from_box(-90, -180, 90, 180).tiles(range(4))
    assert tiles.counts == {0: 1, 1: 4, 2: 16, 3: 64}
    assert len(tiles) == 85
    assert len(set(tiles)) == 85


@pytest.mark.parametrize("row", [200_000, 524_288 - 2, 524_288 + 1, 700_000])
def test_a_box_of_whole_tiles_counts_them_and_no_neighbour(row):
    box = box_of_tiles(20, 550_000, row, 550_003, row + 5)
    tiles = Area.from_box(*box).tiles([18, 20])
    assert set(tiles.of_zoom(20)) == {TileKey(20, 550_000 + i, row + j) for i in range(3) for j in range(5)}
    # Two zooms up, a tile holds 4 × 4 of them.
    columns, rows = {(550_000 + i) >> 2 for i in range(3)}, {(row + j) >> 2 for j in range(5)}
    assert set(tiles.of_zoom(18)) == {TileKey(18, c, r) for c in columns for r in rows}


@pytest.mark.parametrize("latitude", [0.0, 49.0, -35.0, 69.0])
def test_a_buffer_in_metres_is_metres_at_every_latitude(latitude):
    """About the middle of a tile, a buffer of 1.4 tile sides reaches one tile up and down and to the sides, not two.

    It passes the corners of the 3 × 3 (0.71 sides away) and stops before the next tiles (1.5 sides away).
    """
    zoom = 19
    x, y = mercator_pixel(latitude, 8.4, zoom, 1)
    column, row = int(x), int(y)
    place = middle_of(zoom, column, row)
    found = set(Area(lines=(place,), buffer_m=1.4 * tile_m(latitude, zoom)).tiles([zoom]))
    assert found == {TileKey(zoom, column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    # 1.55 sides: the next tiles straight up, down, left and right, and those one to the side of them? At one side off,
    # the nearest corner is hypot(1.5, 0.5) = 1.58 sides away: not yet.
    found = set(Area(lines=(place,), buffer_m=1.55 / 1.007 * tile_m(latitude, zoom)).tiles([zoom]))
    more = {TileKey(zoom, column + i, row + j) for i, j in ((2, 0), (-2, 0), (0, 2), (0, -2))}
    assert len(found) == 9 + 4
    assert more <= found


def test_across_the_antimeridian():
    zoom = 15
    count = 2**zoom
    south, _, north, _ = box_of_tiles(zoom, 0, 12_000, 1, 12_002)
    step = 360.0 / count
    tiles = Area.from_box(south, 180.0 - 2 * step, north, -180.0 + step).tiles([zoom])
    expected = {TileKey(zoom, column % count, row) for column in (-2, -1, 0) for row in (12_000, 12_001)}
    assert set(tiles) == expected
    assert len(tiles) == 6
    line = unwrapped([(-17.0, 179.99), (-17.0, -179.99)])
    columns = {key.column for key in Area(lines=(line,)).tiles([zoom])}
    assert columns == {count - 1, 0}
    near = np.array([[-17.0, 179.9999]])
    assert {key.column for key in Area(lines=(near,), buffer_m=100.0).tiles([zoom])} == {count - 1, 0}


def test_a_diagonal_takes_the_tiles_it_passes():
    """From the middle of tile (0, 0) to the middle of (3, 1), relative: a slope of a third, worked out by hand."""
    zoom, column, row = 18, 140_000, 90_000
    ends = np.concatenate([middle_of(zoom, column, row), middle_of(zoom, column + 3, row + 1)])
    found = {(key.column - column, key.row - row) for key in Area(lines=(ends,)).tiles([zoom])}
    assert found == {(0, 0), (1, 0), (2, 1), (3, 1)} | {(1, 1)} & found | {(2, 0)} & found
    assert {(0, 0), (1, 0), (2, 1), (3, 1)} <= found


def test_a_polygon_with_a_hole():
    zoom, column, row = 17, 70_000, 43_000

    def ring(a, b):  # fmt: skip
        south, west, north, east = box_of_tiles(zoom, column + a, row + a, column + b, row + b)
        return np.array([(south, west), (south, east), (north, east), (north, west)])

    found = set(Area(rings=(ring(0, 7), ring(2, 5))).tiles([zoom]))
    assert len(found) == 49 - 9
    assert TileKey(zoom, column + 3, row + 3) not in found
    # A buffer of 0.4 tile sides closes the tiles around the hole, not its middle one.
    found = set(Area(rings=(ring(0, 7), ring(2, 5)), buffer_m=0.4 * tile_m(51.0, zoom)).tiles([zoom]))
    assert len(found) == 81 - 1
    assert TileKey(zoom, column + 3, row + 3) not in found


number = st.floats(-6.0, 6.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(number, number), min_size=1, max_size=4), st.floats(0.0, 2.5), st.floats(-70.0, 70.0))
def test_tiles_of_a_track_are_those_within_the_buffer(points, buffer_tiles, latitude):
    """Against the distances of a fine grid of points in each tile to the line."""
    zoom = 18
    x, y = mercator_pixel(latitude, 20.0, zoom, 1)
    column, row = int(x), int(y)
    line = np.stack(mercator_geodetic(column + np.array(points)[:, 0], row + np.array(points)[:, 1], zoom, 1), axis=1)
    found = {
        (key.column - column, key.row - row)
        for key in Area(lines=(line,), buffer_m=buffer_tiles * tile_m(latitude, zoom)).tiles([zoom])
    }
    grid = np.stack(np.meshgrid(*[np.linspace(0.001, 0.999, 12)] * 2), axis=-1).reshape(-1, 2)
    for i in range(-9, 9):
        for j in range(-9, 9):
            away = min(
                distance(np.array(a), np.array(b), grid + np.array((i, j))).min()
                for a, b in zip(points, points[1:] or points, strict=False)
            )
            if away < buffer_tiles * 0.999:
                assert (i, j) in found
            if away > buffer_tiles * 1.02 + 0.15:
                assert (i, j) not in found


def distance(a, b, points):
    """Of points (N, 2) from the segment a–b."""
    along = b - a
    t = np.clip((points - a) @ along / max(along @ along, 1e-12), 0.0, 1.0)
    return np.linalg.norm(points - a - t[:, None] * along, axis=1)


def test_bounds_of_the_source_cut_the_area():
    zoom = 16
    box = box_of_tiles(zoom, 1000, 2000, 1010, 2010)
    bounds = box_of_tiles(zoom, 1004, 2003, 1030, 2006)
    tiles = Area.from_box(*box).tiles([zoom], bounds)
    assert set(tiles) == {TileKey(zoom, c, r) for c in range(1004, 1010) for r in range(2003, 2006)}
    assert len(Area.from_box(*box).tiles([zoom], box_of_tiles(zoom, 5000, 10, 5001, 11))) == 0
    assert len(Area.from_box(*box).tiles([zoom], (-90.0, -180.0, 90.0, 180.0))) == 100


def test_membership_and_samples():
    tiles = Area.from_box(*box_of_tiles(16, 1000, 2000, 1100, 2050)).tiles([14, 16])
    assert TileKey(16, 1050, 2020) in tiles
    assert TileKey(16, 1100, 2020) not in tiles
    assert TileKey(15, 500, 1000) not in tiles
    chosen = tiles.spread(5)
    assert len(chosen) == 5
    assert all(key in tiles and key.zoom == 16 for key in chosen)
    assert len({key.row for key in chosen}) == 5
    assert len(Area.from_box(*box_of_tiles(16, 0, 2000, 2, 2001)).tiles([16]).spread(5)) == 2


def test_a_country_is_counted_without_listing_its_tiles():
    tiles = Area.from_box(47.3, 5.9, 55.0, 15.0).tiles([19])
    width = 9.1 / 360 * 2**19
    assert tiles.counts[19] == pytest.approx(width * 17_300, rel=0.05)


def test_options():
    assert parse_box("48.1,11.5,48.2,11.7") == (48.1, 11.5, 48.2, 11.7)
    assert parse_zooms("17-19") == (17, 18, 19)
    assert parse_zooms("18") == (18,)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: parse_box("1,2,3"), "four numbers"),
        (lambda: parse_box("a,b,c,d"), "four numbers"),
        (lambda: parse_zooms("19-17"), "range of zooms"),
        (lambda: parse_zooms("3.5"), "range of zooms"),
        (lambda: parse_zooms("18-40"), "range of zooms"),
        (lambda: Area.from_box(49, 8, 48, 9), "south above its north"),
        (lambda: Area.from_box(math.nan, 8, 48, 9), "four numbers"),
        (lambda: Area.from_box(91, 8, 95, 9), "not on Earth"),
        (lambda: Area.from_box(86, 8, 88, 9), "85.05"),
        (lambda: Area(lines=(np.array([[48.0, 11.0]]),), buffer_m=-1.0), "--buffer-m"),
        (lambda: Area(lines=(np.zeros((0, 2)),)), "no positions"),
        (lambda: Area(lines=(np.array([[100.0, 48.0]]),)), "longitude first"),
    ],
)
def test_bad_areas_are_refused_in_one_sentence(make, says):
    with pytest.raises(InputError) as refused:
        make()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


GPX = """<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1">
<wpt lat="1" lon="2"/><trk><trkseg><trkpt lat="48.0" lon="179.9"><ele>3</ele></trkpt><trkpt lat="48.1" lon="-179.9"/>
</trkseg><trkseg><trkpt lat="48.2" lon="11.2"/></trkseg></trk><rte><rtept lat="10" lon="20"/></rte></gpx>"""


def test_gpx(tmp_path):
    path = tmp_path / "a.gpx"
    path.write_text(GPX)
    first, second, route = read_track(path)
    np.testing.assert_allclose(first, [[48.0, 179.9], [48.1, 180.1]])
    np.testing.assert_allclose(second, [[48.2, 11.2]])
    np.testing.assert_allclose(route, [[10.0, 20.0]])
    path.write_text('<gpx><wpt lat="1" lon="2"/></gpx>')
    np.testing.assert_allclose(read_track(path), [[[1.0, 2.0]]])


def test_geojson(tmp_path):
    path = tmp_path / "a.geojson"
    square = [[11.0, 48.0, 500.0], [11.1, 48.0, 500.0], [11.1, 48.1, 500.0], [11.0, 48.0, 500.0]]
    features = [
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[8.4, 49.0], [8.5, 49.1]]}},
        {"type": "Feature", "geometry": None},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [
            {"type": "Point", "coordinates": [1, 2]}, {"type": "MultiPolygon", "coordinates": [[square]]}]}},
    ]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    shapes = read_shapes(path)
    np.testing.assert_allclose(shapes.lines[0], [[49.0, 8.4], [49.1, 8.5]])
    np.testing.assert_allclose(shapes.lines[1], [[2.0, 1.0]])
    (ring,) = read_polygon(path)
    np.testing.assert_allclose(ring[:, 0], [48.0, 48.0, 48.1, 48.0])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.gpx", "<gpx><trk>", "not readable as GPX"),
        ("a.gpx", "<gpx/>", "no positions"),
        ("a.gpx", '<gpx><wpt lat="x" lon="1"/></gpx>', "without lat and lon"),
        ("a.geojson", "{", "not readable as GeoJSON"),
        ("a.json", "[1, 2]", "not GeoJSON"),
        ("a.json", '{"type": "LineString", "coordinates": [["a", 1]]}', "not numbers"),
        ("a.json", '{"type": "LineString"}', "not numbers"),
        ("a.json", '{"type": "Point", "coordinates": 5}', "not numbers"),
        ("a.kml", "<kml/>", "neither GPX nor GeoJSON"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as refused:
        read_shapes(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_line_is_no_polygon_and_a_missing_file_is_missing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"type": "LineString", "coordinates": [[8.4, 49.0], [8.5, 49.1]]}')
    with pytest.raises(InputError, match="no polygon"):
        read_polygon(path)
    with pytest.raises(MissingInputError, match="there is no file"):
        read_track(tmp_path / "none.gpx")


def test_the_fixes_of_a_bag(tmp_path):
    with Bag(write_bag2(tmp_path / "bag", drive())) as bag:
        (line,) = fix_lines(bag)
    np.testing.assert_allclose(line[0], [ORIGIN.latitude_deg, ORIGIN.longitude_deg], atol=1e-7)
    assert len(line) == 3
    assert np.all(np.diff(line[:, 1]) > 0)


def test_a_jump_of_the_receiver_is_no_drive(tmp_path):
    items = drive()
    fixes = [message for topic, _, message in items if topic == "/gps/fix"]
    fixes[0].latitude, fixes[0].longitude = 1.0, 2.0
    fixes[1].latitude = math.nan
    with Bag(write_bag2(tmp_path / "bag", items)) as bag:
        lines = fix_lines(bag)
    jump, rest = lines
    np.testing.assert_allclose(jump, [[1.0, 2.0]])
    assert len(rest) > 1
    assert np.all(np.abs(rest - rest[0]) < 1e-3)


def test_a_bag_without_fixes(tmp_path):
    items = [item for item in drive() if item[0] != "/gps/fix"]
    with Bag(write_bag2(tmp_path / "bag", items)) as bag, pytest.raises(MissingInputError, match="--track"):
        fix_lines(bag)
