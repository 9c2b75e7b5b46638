"""map info, check and export on maps whose every pixel is known."""

import json
import sqlite3
import time

import cv2
import numpy as np
import pyproj
import pytest

from cross_view_loc.aerial.areas import Area
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.cli import main
from cross_view_loc.evaluation.tile_server import encode, paint_tile
from cross_view_loc.geometry.geodesy import mercator_geodetic

LAT, LON = 48.1372, 11.5755
DOT = (LAT + 0.0002, LON + 0.0006)
ZOOM = 19
FIRST = TileKey.at(LAT, LON, ZOOM)
FETCHED_S = time.time() - 40 * 86400.0


def tiles_about(reach=4):
    return [TileKey(ZOOM, FIRST.column + i, FIRST.row - j) for i in range(-1, reach) for j in range(-1, reach)]


@pytest.fixture
def city(tmp_path, monkeypatch):
    """A file as prefetch leaves it: 25 tiles, one more that the server does not have."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "city.mbtiles"
    metadata = {"attribution": "© painter", "licence": "CC0"}
    cache = TileCache(path, source="painted", metadata=metadata, now=lambda: FETCHED_S)
    for key in tiles_about():
        assert cache.put(key, encode(paint_tile(key, dot=DOT)), expires_s=FETCHED_S + 7 * 86400.0)
    cache.put_missing(TileKey(ZOOM, FIRST.column + 9, FIRST.row), "HTTP 404", FETCHED_S + 1e9)
    cache.close()
    return path


def box_text(columns=(0, 1), rows=(-1, 0)):
    """S,W,N,E through the middles of tiles, counted from the first."""
    latitude, longitude = mercator_geodetic(
        np.array(columns) + FIRST.column + 0.5, np.array(rows) + FIRST.row + 0.5, ZOOM, tile_size=1
    )
    return f"{latitude[1]!r},{longitude[0]!r},{latitude[0]!r},{longitude[1]!r}".replace("np.float64(", "").replace(
        ")", ""
    )


def write_track(path, *points):
    path.write_text(json.dumps({"type": "LineString", "coordinates": [[lon, lat] for lat, lon in points]}))
    return str(path)


def column_middle(column, row=0):
    latitude, longitude = mercator_geodetic(FIRST.column + column + 0.5, FIRST.row + row + 0.5, ZOOM, tile_size=1)
    return float(latitude), float(longitude)


def run_json(arguments, capsys, status=0):
    assert main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_info(city, capsys):
    facts = run_json(["map", "info", city], capsys)
    (row,) = facts["zooms"]
    assert (row["zoom"], row["tiles"]) == (ZOOM, 25)
    assert row["metres_per_pixel"] == pytest.approx(0.1992, abs=2e-3)
    assert facts["attribution"] == "© painter"
    assert facts["metadata"]["licence"] == "CC0"
    assert facts["age"]["expired"] == 25
    assert facts["age"]["known_missing"] == 1
    assert facts["age"]["oldest_s"] == pytest.approx(FETCHED_S)
    south, west, north, east = facts["south_west_north_east_deg"]
    assert south < LAT < north
    assert west < LON < east
    assert main(["map", "info", str(city)]) == 0
    shown = capsys.readouterr().out
    assert "25 tiles" in shown
    assert time.strftime("%Y-%m-%d", time.gmtime(FETCHED_S)) in shown


def test_an_online_source_is_looked_at_by_its_cache_without_a_request(city, tmp_path, capsys):
    key = tiles_about()[0]
    spec = {"kind": "xyz", "url": "http://127.0.0.1:9/{z}/{x}/{y}.png", "cache_path": "kept.mbtiles"}
    (tmp_path / "online.yaml").write_text(json.dumps(spec))
    track = write_track(tmp_path / "t.geojson", column_middle(-1, 1), column_middle(0, 1))
    words = ["map", "check", "online.yaml", "--zoom", ZOOM, "--track", track]
    empty = run_json(["map", "check", "online.yaml"], capsys, status=1)
    assert empty["tiles"] == 0 and "kept.mbtiles holds no tiles yet" in empty["problems"][0]
    source = open_source(tmp_path / "online.yaml", offline=True)
    source.store.cache.put(key, encode(paint_tile(key)), expires_s=FETCHED_S)
    source.store.close()
    facts = run_json(["map", "info", "online.yaml"], capsys)
    assert facts["cache"].endswith("kept.mbtiles") and [row["zoom"] for row in facts["zooms"]] == [ZOOM]
    np.testing.assert_allclose(facts["south_west_north_east_deg"], key.bounds(), atol=1e-9)
    result = run_json(words, capsys, status=1)
    assert (result["tiles"], result["coverage"][0]["present"], len(result["holes"])) == (1, 1, 1)
    (tmp_path / "shifted.yaml").write_text(json.dumps({**spec, "map_offset_m": [1.0, 0.0]}))
    assert run_json(["map", "info", "shifted.yaml"], capsys)["zooms"] == facts["zooms"], "within an offset too"


def test_check_of_a_whole_map(city, tmp_path, capsys):
    track = write_track(tmp_path / "t.geojson", column_middle(0), column_middle(3))
    result = run_json(["map", "check", city, "--track", track], capsys)
    assert result["ok"]
    assert result["tiles"] == 25
    assert result["holes"] == []
    assert result["coverage"][0] == {"zoom": ZOOM, "wanted": 4, "present": 4, "share": 1.0}


def test_check_finds_where_a_track_leaves_the_map(city, tmp_path, capsys):
    """The map ends with column 3; the track goes from the middle of column 0 to that of column 6."""
    start, end = column_middle(0), column_middle(6)
    track = write_track(tmp_path / "t.geojson", start, end)
    result = run_json(["map", "check", city, "--track", track], capsys, status=1)
    length_m = pyproj.Geod(ellps="WGS84").inv(start[1], start[0], end[1], end[0])[2]
    (hole,) = result["holes"]
    assert result["track_m"] == pytest.approx(length_m, rel=1e-3)
    assert hole["from_start_m"] == pytest.approx(3.5 / 6 * length_m, abs=6.0)
    assert hole["length_m"] == pytest.approx(2.5 / 6 * length_m, abs=6.0)
    assert result["coverage"][0] == {"zoom": ZOOM, "wanted": 7, "present": 4, "share": 0.5714}
    assert main(["map", "check", str(city), "--track", track]) == 1
    assert "without imagery" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "changed", "text"])
def test_check_finds_damaged_tiles(city, capsys, damage):
    key = tiles_about()[7]
    with sqlite3.connect(city) as database:
        where = (key.zoom, key.column, key.row_from_south)
        query = "FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
        (data,) = database.execute(f"SELECT tile_data {query}", where).fetchone()
        broken = {"cut": data[:-50], "changed": encode(paint_tile(FIRST)), "text": b"<html>"}[damage]
        database.execute(f"UPDATE tiles SET tile_data = ? {query.removeprefix('FROM tiles')}", (broken, *where))
    database.close()
    result = run_json(["map", "check", city], capsys, status=1)
    assert result["damaged"] == [str(key)]
    assert not result["ok"]


def centroid(picture):
    """(x, y) of the white dot, pixel centres at + 0.5."""
    weight = np.clip(picture.min(axis=-1).astype(float) - 160.0, 0.0, None)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()


def test_export_as_geotiff_knows_where_it_lies(city, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    facts = run_json(["map", "export", city, "--bbox", box_text((0, 2), (-2, 0)), "--out", "x.tif"], capsys)
    assert facts["covered"] == 1.0
    assert facts["attribution"] == "© painter"
    with rasterio.open("x.tif") as file:
        assert (file.width, file.height, file.count) == (512, 512, 4)
        picture = np.moveaxis(file.read([1, 2, 3]), 0, -1)
        assert (file.read(4) == 255).all()
        assert file.tags()["ATTRIBUTION"] == "© painter"
        x, y = file.transform * centroid(picture)
        to_wgs84 = pyproj.Transformer.from_crs(file.crs.to_wkt(), "EPSG:4326", always_xy=True)
        pixel_m = file.transform.a
        wanted = to_wgs84.transform(DOT[1], DOT[0], direction="INVERSE")
    assert np.hypot(x - wanted[0], y - wanted[1]) < 0.5 * pixel_m
    # Pixel for pixel what the tiles hold: the box begins in the middle of a tile.
    corner = paint_tile(TileKey(ZOOM, FIRST.column, FIRST.row - 2), dot=DOT)[128:, 128:]
    assert np.abs(picture[:128, :128].astype(int) - corner).max() <= 1


def test_export_as_png_with_a_world_file(city, tmp_path, capsys):
    assert main(["map", "export", str(city), "--bbox", box_text((0, 2), (-2, 0)), "--out", "x.png"]) == 0
    picture = cv2.imread("x.png", cv2.IMREAD_UNCHANGED)
    assert picture.shape == (512, 512, 4)
    step_x, _, _, step_y, x0, y0 = (float(line) for line in (tmp_path / "x.pgw").read_text().split())
    x, y = centroid(picture[..., :3])
    to_wgs84 = pyproj.Transformer.from_crs((tmp_path / "x.prj").read_text(), "EPSG:4326", always_xy=True)
    wanted = to_wgs84.transform(DOT[1], DOT[0], direction="INVERSE")
    assert abs(x0 + (x - 0.5) * step_x - wanted[0]) < 0.5 * step_x
    assert abs(y0 + (y - 0.5) * step_y - wanted[1]) < 0.5 * step_x
    assert "© painter" in capsys.readouterr().out


def test_an_export_can_be_a_map_again(city, capsys):
    pytest.importorskip("rasterio")
    box = box_text((0, 2), (-2, 0))
    run_json(["map", "export", city, "--bbox", box, "--out", "x.tif"], capsys)
    again = run_json(["map", "export", "x.tif", "--bbox", box, "--zoom", "19", "--out", "again.png"], capsys)
    assert again["covered"] > 0.98
    first = run_json(["map", "export", city, "--bbox", box, "--out", "first.png"], capsys)
    assert (first["width_px"], first["height_px"]) == (again["width_px"], again["height_px"])
    one, other = cv2.imread("first.png"), cv2.imread("again.png")
    assert np.abs(one[4:-4, 4:-4].astype(int) - other[4:-4, 4:-4]).mean() < 1.0


def test_partly_covered_is_transparent(city, capsys):
    facts = run_json(["map", "export", city, "--bbox", box_text((2, 6), (-1, 0)), "--out", "x.png"], capsys)
    assert facts["covered"] == pytest.approx(1.5 / 4, abs=0.01)
    alpha = cv2.imread("x.png", cv2.IMREAD_UNCHANGED)[..., 3]
    assert (alpha[:, :380] == 255).all()
    assert (alpha[:, 390:] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["info", "none.mbtiles"], "none.mbtiles"),
        (["export", "city.mbtiles", "--bbox", "1,2,3", "--out", "x.tif"], "four numbers"),
        (["export", "city.mbtiles", "--bbox", "1,2,1.001,2.001", "--out", "x.png"], "no imagery in the box"),
        (["export", "city.mbtiles", "--bbox", "48,11,49,12", "--out", "x.tif"], "smaller --bbox"),
        (["export", "city.mbtiles", "--bbox", box_text(), "--out", "x.jp2"], "neither GeoTIFF nor PNG"),
        (["export", "city.mbtiles", "--bbox", box_text(), "--out", "none/x.png"], "there is no folder"),
        (["check", "city.mbtiles", "--track", "none.gpx"], "there is no file"),
        (["check", "text.mbtiles"], "text.mbtiles"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(city, tmp_path, arguments, says, capsys):
    (tmp_path / "text.mbtiles").write_text("no database, whatever it says")
    assert main(["map", *arguments]) == 1
    captured = capsys.readouterr()
    (sentence,) = captured.err.strip().splitlines()
    assert says in sentence
    assert captured.out == ""
    assert not list(tmp_path.glob("x*"))


def test_holes_between_two_parts(city, tmp_path, capsys):
    """Two lines of a MultiLineString: the second's hole is counted along both."""
    lines = [[column_middle(a)[::-1], column_middle(b)[::-1]] for a, b in ((0, 2), (5, 6))]
    content = {"type": "MultiLineString", "coordinates": lines}
    (tmp_path / "t.geojson").write_text(json.dumps(content))
    result = run_json(["map", "check", city, "--track", "t.geojson"], capsys, status=1)
    (hole,) = result["holes"]
    assert hole["from_start_m"] == pytest.approx(2 / 3 * result["track_m"], rel=0.01)
    assert len(Area(lines=(np.array([column_middle(5)]),)).tiles([ZOOM])) == 1


def test_the_benchmark_of_the_map_ends_and_its_memories_are_bounded(capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows = run_json(["benchmark", "map", "--frames", "2", "--drive-km", "0.6"], capsys)["results"]
    assert [row["setting"] for row in rows] == [
        "cold, HTTP on the loopback", "prefetch, loopback", "warm disk", "warm memory", "0.6 km drive",
    ]  # fmt: skip
    drive = rows[-1]
    assert drive["patches"] == 12 and drive["empty_patches"] == 0 and drive["tiles_fetched"] > 50
    assert 0 < drive["absent_tiles_most"] < drive["tiles_fetched"] and 0 < drive["decoded_tiles_most"] <= 256
    assert rows[1]["tiles"] > 100 and rows[1]["tiles_per_s"] > 0.0
