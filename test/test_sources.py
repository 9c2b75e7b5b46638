"""Every kind of source: the same scene gives the same patch, and what cannot be used is refused with a sentence."""

import contextlib
import math
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyproj
import pytest
import yaml
from map_helpers import (
    Scene,
    dot_positions,
    encode,
    keys_about,
    write_folder,
    write_geotiff,
    write_mbtiles,
    write_pmtiles,
)

from cross_view_loc import __version__
from cross_view_loc.aerial.http_policy import BackOff
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.offsets import OffsetSource
from cross_view_loc.aerial.raster_client import RasterClient
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.aerial.urls import shown_url, tile_url
from cross_view_loc.aerial.wmts import resolved
from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_meters_per_pixel

LAT, LON, ZOOM = 49.0, 8.4, 19
EXAMPLES = sorted((Path(__file__).parent.parent / "config" / "sources").glob("*.yaml"))
SCENE = Scene(LAT, LON)
PROJECTION = MapProjection(MapOrigin(LAT, LON))


@pytest.fixture(scope="module")
def tiles():
    return {key: encode(SCENE.tile(key)) for key in keys_about(LAT, LON, ZOOM, 1)}


@pytest.fixture(scope="module")
def dense_tiles():
    return {key: encode(SCENE.tile(key, 512)) for key in keys_about(LAT, LON, ZOOM - 1, 1)}


def patch_of(source, projection=PROJECTION):
    return AerialMap(source, projection).patch(1.0, -2.0, 200, 0.2, 1.2)


@pytest.fixture(scope="module")
def expected(tiles, tmp_path_factory):
    return patch_of(open_source(write_mbtiles(tmp_path_factory.mktemp("map") / "plain.mbtiles", tiles)))


def write_yaml(path, /, **content):
    path.write_text(yaml.safe_dump(content))
    return path


# --- the same scene through every kind ---


def as_webp(folder, tiles, dense):
    return write_mbtiles(folder / "m.mbtiles", {key: encode(SCENE.tile(key), ".webp") for key in tiles}, format="webp")


def as_gdal2tiles(folder, tiles, dense):
    (folder / "tilemapresource.xml").write_text('<TileMap><TileSets profile="mercator"></TileSets></TileMap>')
    return write_folder(folder, tiles, "{z}/{x}/{-y}.png")


def as_tms_yaml(folder, tiles, dense):
    write_folder(folder / "t", tiles, "{z}/{x}/{-y}.png")
    return write_yaml(folder / "s.yaml", kind="folder", path="t", scheme="tms")


def as_file_url(folder, tiles, dense):
    write_folder(folder / "with space", tiles, "{z}-{x}/at_{y}.png")
    url = (folder / "with space").as_uri() + "/{z}-{x}/at_{y}.png"
    return write_yaml(folder / "s.yml", kind="xyz", url=url)


def as_retina_url(folder, tiles, dense):
    write_folder(folder / "r", dense, "{z}/{x}/{y}@2x.png")
    return write_yaml(folder / "s.yaml", kind="xyz", url=folder.as_uri() + "/r/{z}/{x}/{y}{r}.png", tile_size_px=512)


def as_quadkeys(folder, tiles, dense):
    write_folder(folder / "q", tiles, "a{q}.png")
    return write_yaml(folder / "s.yaml", kind="folder", url=folder.as_uri() + "/q/a{q}.png")


def as_pmtiles_yaml(folder, tiles, dense):
    write_pmtiles(folder / "m.pmtiles", tiles)
    return write_yaml(folder / "s.yaml", kind="pmtiles", path="m.pmtiles", attribution="© painter")


def geotiff(crs, **options):
    pytest.importorskip("rasterio")
    return lambda folder, tiles, dense: write_geotiff(folder / "o.tif", SCENE, crs, 40.0, 0.15, **options)


LOCAL = {
    "mbtiles webp": as_webp,
    "mbtiles 512": lambda folder, tiles, dense: write_mbtiles(folder / "m.mbtiles", dense),
    "pmtiles": lambda folder, tiles, dense: write_pmtiles(folder / "m.pmtiles", tiles),
    "pmtiles 512": lambda folder, tiles, dense: write_pmtiles(folder / "m.pmtiles", dense),
    "pmtiles yaml": as_pmtiles_yaml,
    "folder": lambda folder, tiles, dense: write_folder(folder, tiles),
    "folder retina": lambda folder, tiles, dense: write_folder(folder, dense, "{z}/{x}/{y}@2x.png"),
    "folder gdal2tiles": as_gdal2tiles,
    "folder tms": as_tms_yaml,
    "file url": as_file_url,
    "file url retina": as_retina_url,
    "quadkeys": as_quadkeys,
    "geotiff 25832": geotiff("EPSG:25832"),
    "geotiff 3857": geotiff("EPSG:3857"),
    "geotiff 4326": geotiff("EPSG:4326"),
    "geotiff ETRS89-LAEA": geotiff("EPSG:3035", compress="deflate"),
}


@pytest.mark.parametrize("kind", LOCAL)
def test_the_same_scene_through_every_local_kind(kind, tmp_path, tiles, dense_tiles, expected):
    source = open_source(LOCAL[kind](tmp_path, tiles, dense_tiles))
    patch = patch_of(source)
    assert patch.valid.all() and expected.valid.all()
    assert abs(patch.image.astype(float) - expected.image).mean() <= 1.0
    assert source.problems == () and source.contains(LAT, LON) and not source.contains(LAT, LON + 0.1)
    south, west, north, east = source.bounds
    assert south < LAT < north and west < LON < east and (north - south) < 0.01


class SceneServer:
    """Serves the scene as XYZ tiles, WMTS by key-value, WMS by any box, and files; notes what it was asked."""

    def __init__(self, files=None):
        self.files, self.asked, self.status, server = files or {}, [], 200, self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                server.asked.append((self.path, dict(self.headers)))
                status, body = server.answer(self.path)
                span = self.headers.get("Range")
                if status == 200 and span:
                    first, _, last = span.removeprefix("bytes=").partition("-")
                    stop = min(int(last) + 1 if last else len(body), len(body))
                    whole, status, body = len(body), 206, body[int(first) : stop]
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{whole}")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, path):
        parts = urlsplit(path)
        if parts.path in self.files:
            return self.status, self.files[parts.path]
        if parts.path.startswith(("/xyz/", "/tms/")):
            _, scheme, zoom, column, row = parts.path.removesuffix(".png").split("/")
            key = TileKey(int(zoom), int(column), int(row))
            key = TileKey(key.zoom, key.column, key.row_from_south) if scheme == "tms" else key
            return 200, encode(SCENE.tile(key))
        if parts.path.startswith("/dense/"):
            _, _, zoom, column, row = parts.path.removesuffix("@2x.png").removesuffix(".png").split("/")
            return 200, encode(SCENE.tile(TileKey(int(zoom), int(column), int(row)), 512))
        if parts.path.startswith("/quad/"):
            digits = parts.path.removeprefix("/quad/").removesuffix(".png")
            column, row = (int("".join(str(int(d) >> bit & 1) for d in digits), 2) for bit in (0, 1))
            return 200, encode(SCENE.tile(TileKey(len(digits), column, row)))
        query = {name.upper(): values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/wmts" and query.get("REQUEST") == "GetTile" and query.get("LAYER") == "ORTHO.PHOTOS":
            assert query["TILEMATRIXSET"] == "GoogleMaps" and query["SERVICE"] == "WMTS"
            key = TileKey(
                int(query["TILEMATRIX"].removeprefix("EPSG:3857:")), int(query["TILECOL"]), int(query["TILEROW"])
            )
            return 200, encode(SCENE.tile(key))
        if parts.path == "/wms" and query.get("REQUEST") == "GetMap" and query.get("CRS") == "EPSG:3857":
            box = [float(value) for value in query["BBOX"].split(",")]
            return 200, encode(SCENE.mercator(*box, int(query["WIDTH"]), int(query["HEIGHT"])))
        return 404, b"nothing here"


@pytest.fixture(scope="module")
def server():
    server = SceneServer()
    yield server
    server.http.shutdown()
    server.http.server_close()


class Direct:
    """A TileStore that fetches as it reads, to test addresses without a cache."""

    problems, attribution, bounds = (), "", (-85.0, -180.0, 85.0, 180.0)

    def __init__(self, spec):
        self.spec, self.name, self.tile_size_px = spec, spec.name, spec.tile_size_px
        self.zooms = tuple(range(spec.zoom_min, spec.zoom_max + 1))

    def read(self, key):
        with urllib.request.urlopen(tile_url(self.spec, key), timeout=30) as answer:
            return answer.read()


ONLINE = {
    "xyz": {"kind": "xyz", "url": "/xyz/{z}/{x}/{y}.png"},
    "xyz -y": {"kind": "xyz", "url": "/tms/{z}/{x}/{-y}.png"},
    "tms": {"kind": "xyz", "url": "/tms/{z}/{x}/{y}.png", "scheme": "tms"},
    "xyz retina": {"kind": "xyz", "url": "/dense/{z}/{x}/{y}{r}.png", "tile_size_px": 512, "zoom_max": ZOOM - 1},
    "xyz 512": {"kind": "xyz", "url": "/dense/{z}/{x}/{y}.png", "tile_size_px": 512, "zoom_max": ZOOM - 1},
    "quadkeys": {"kind": "xyz", "url": "/quad/{q}.png"},
    "wmts rest": {"kind": "wmts", "url": "/xyz/{TileMatrix}/{TileCol}/{TileRow}.png"},
    "wmts kvp": {
        "kind": "wmts", "url": "/wmts", "layer": "ORTHO.PHOTOS", "tile_matrix_set": "GoogleMaps",
        "tile_matrix": "EPSG:3857:{z}", "image_format": "image/png",
    },
    "wms": {"kind": "wms", "url": "/wms?map=x", "layer": "dop", "image_format": "image/png"},
    "wms 512": {"kind": "wms", "url": "/wms", "layer": "dop", "tile_size_px": 512, "zoom_max": ZOOM - 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", ONLINE)
def test_the_same_scene_through_every_online_kind(kind, server, expected):
    spec = SourceSpec.from_mapping({"zoom_max": ZOOM, **ONLINE[kind], "url": server.url + ONLINE[kind]["url"]})
    patch = patch_of(TiledSource(Direct(spec)))
    assert patch.valid.all()
    assert abs(patch.image.astype(float) - expected.image).mean() <= 1.0


@pytest.mark.parametrize(
    ("limits", "used"), [((10, ZOOM - 2), ZOOM - 2), ((ZOOM + 1, ZOOM + 2), ZOOM + 1), ((10, 22), ZOOM)]
)
def test_only_zooms_within_the_limits_are_asked_for(limits, used, server, tmp_path):
    """A patch of 0.2 m would be cut from zoom 19: the nearest one allowed is taken, and its resolution told."""
    content = {"kind": "xyz", "url": f"{server.url}/xyz/{{z}}/{{x}}/{{y}}.png", "rate_per_s": 1000}
    path = write_yaml(tmp_path / "s.yaml", **content, zoom_min=limits[0], zoom_max=limits[1])
    server.asked.clear()
    source, patch = open_and_wait(path, tmp_path / "cache.mbtiles")
    source.store.close()
    asked = {int(parts[2]) for parts in (path.split("/") for path, _ in server.asked)}
    assert used in asked and min(asked) >= limits[0] and max(asked) == used
    assert patch.meters_per_pixel_source == pytest.approx(mercator_meters_per_pixel(LAT, used), rel=1e-3)


def open_and_wait(path, cache):
    """A patch of an online source once its tiles have come; the first looks may find nothing."""
    source = open_source(path, cache_path=cache)
    until_s = time.monotonic() + 120.0
    while time.monotonic() < until_s:
        with contextlib.suppress(MapError):
            patch = patch_of(source)
            if patch.valid.all() and patch.stand_in == 0.0:
                return source, patch
        time.sleep(0.05)
    raise AssertionError(f"the tiles did not come: {source.problems}")


@pytest.mark.parametrize("kind", ["xyz", "wms"])
def test_a_yaml_of_an_online_source_opens_with_its_cache(kind, server, expected, tmp_path):
    content = {**ONLINE[kind], "url": server.url + ONLINE[kind]["url"], "zoom_min": ZOOM, "zoom_max": ZOOM}
    path = write_yaml(
        tmp_path / "ortho.yaml", **content, rate_per_s=500, attribution="© painter", bounds=[48, 8, 50, 9]
    )
    source, patch = open_and_wait(path, tmp_path / "cache.mbtiles")
    assert abs(patch.image.astype(float) - expected.image).mean() <= 1.0
    assert (source.name, source.attribution, source.bounds) == ("ortho", "© painter", (48.0, 8.0, 50.0, 9.0))
    source.store.close()
    asked = len(server.asked)
    again = open_source(path, cache_path=tmp_path / "cache.mbtiles", offline=True)
    np.testing.assert_array_equal(patch_of(again).image, patch.image)
    assert len(server.asked) == asked
    again.store.close()


def test_a_remote_geotiff_comes_by_ranges_and_as_cached_tiles(tmp_path, expected):
    pytest.importorskip("rasterio")
    file = write_geotiff(tmp_path / "o.tif", SCENE, "EPSG:25832", 120.0, 0.15, blockxsize=256, blockysize=256)
    server = SceneServer({"/o.tif": file.read_bytes()})
    from cross_view_loc.aerial.geotiff import GeotiffSource

    direct = GeotiffSource(f"{server.url}/o.tif")
    assert abs(patch_of(direct).image.astype(float) - expected.image).mean() <= 1.0
    assert any(headers.get("Range") for _, headers in server.asked)
    path = write_yaml(tmp_path / "cog.yaml", kind="geotiff", url=f"{server.url}/o.tif", zoom_min=20, zoom_max=20)
    source, patch = open_and_wait(path, tmp_path / "cache.mbtiles")
    assert abs(patch.image.astype(float) - expected.image).mean() <= 1.0
    source.store.close()
    server.http.shutdown()
    server.http.server_close()


RASTER_FAULTS = {
    "missing": (404, True, r"HTTP response code: 404\); check the address and the network; it is not asked any more"),
    "forbidden": (403, True, r"HTTP response code: 403\).*start again once that is mended"),
    "failing": (500, False, r"HTTP response code: 500\); check the address and the network\.$"),
    "too many": (429, False, r"HTTP response code: 429"),
    "error page": (200, False, "not recognized as being in a supported file format"),
    "no place": (0, True, "has no georeference; use the orthophoto's GeoTIFF"),
}


@pytest.mark.parametrize("case", RASTER_FAULTS)
def test_a_remote_geotiff_that_fails_is_left_in_peace_and_asked_again_where_that_helps(case, tmp_path):
    """GDAL itself would remember the first failure for as long as the process lives."""
    rasterio = pytest.importorskip("rasterio")
    status, is_lasting, sentence = RASTER_FAULTS[case]
    file = write_geotiff(tmp_path / "o.tif", SCENE, "EPSG:25832", 40.0, 0.15)
    with rasterio.open(tmp_path / "bare.tif", "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8") as bare:
        bare.write(np.zeros((3, 9, 9), np.uint8))
    failing = {"/o.tif": (tmp_path / "bare.tif").read_bytes() if status == 0 else b"<html>please log in</html>"}
    server = SceneServer(failing)
    server.status = status or 200
    spec = SourceSpec.from_mapping({"kind": "geotiff", "url": f"{server.url}/o.tif", "name": "cog", "rate_per_s": 1000})
    client = RasterClient(spec, BackOff(first_s=1000.0))
    answer = client.fetch(TileKey.at(LAT, LON, 20))
    assert answer.status == ("refused" if is_lasting else "failed") and answer.was_asked
    assert re.search(rf"^cog, tile 20/\d+/\d+: {server.url}/o.tif .*{sentence}", answer.reason), answer.reason
    asked = len(server.asked)
    server.files["/o.tif"], server.status = file.read_bytes(), 200
    again = client.fetch(TileKey.at(LAT, LON, 20))
    assert not again.was_asked and again.reason and len(server.asked) == asked, "left in peace"
    client.back_off = BackOff()
    assert client.fetch(TileKey.at(LAT, LON, 20)).status == ("refused" if is_lasting else "ok")
    client.close()
    server.http.shutdown()
    server.http.server_close()


def test_a_remote_geotiff_that_breaks_off_comes_back(tmp_path):
    pytest.importorskip("rasterio")
    file = write_geotiff(tmp_path / "o.tif", SCENE, "EPSG:25832", 150.0, 0.15, blockxsize=256, blockysize=256)
    server = SceneServer({"/o.tif": file.read_bytes()})
    content = {"kind": "geotiff", "url": f"{server.url}/o.tif", "name": "cog", "rate_per_s": 1000}
    spec = SourceSpec.from_mapping({**content, "user_agent_contact": "me@example.org"})
    client = RasterClient(spec, BackOff(first_s=1e-9))
    assert client.fetch(TileKey.at(LAT, LON, 20)).status == "ok"
    assert {headers["User-Agent"] for _, headers in server.asked} == {f"cross_view_loc/{__version__} (me@example.org)"}
    server.status = 503
    broken = client.fetch(TileKey.at(LAT + 0.001, LON, 20))
    assert broken.status == "failed" and re.search(r"^cog, tile .*cannot be read at columns .*network", broken.reason)
    assert "503" in client.fetch(TileKey.at(LAT + 0.001, LON, 20)).reason, "opened anew, it is told"
    server.status = 200
    assert client.fetch(TileKey.at(LAT + 0.001, LON, 20)).status == "ok"
    client.close()
    server.http.shutdown()
    server.http.server_close()


# --- coordinate systems ---

DOTS_M = np.array([(-20.0, -15.0), (18.0, -22.0), (3.0, 21.0)])
SYSTEMS = {
    "Karlsruhe": ((49.0, 8.4), ("EPSG:25832", "EPSG:3857", "EPSG:4326")),
    "New York": ((40.7, -73.9), ("EPSG:2263", "EPSG:3857", "EPSG:4326", "EPSG:26918")),
    "antimeridian": ((-17.0, 180.0), ("EPSG:3857", "EPSG:4326", "EPSG:32760")),
}


@pytest.mark.parametrize("place", SYSTEMS)
def test_coordinate_systems_agree(place, tmp_path):
    pytest.importorskip("rasterio")
    (latitude_deg, longitude_deg), systems = SYSTEMS[place]
    plane = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84"
        f" +step +proj=topocentric +ellps=WGS84 +lat_0={latitude_deg} +lon_0={longitude_deg} +h_0=0"
    )
    lon, lat, _ = plane.transform(*DOTS_M.T, np.zeros(len(DOTS_M)), direction="INVERSE")
    scene = Scene(latitude_deg, longitude_deg, zip(lat, lon, strict=True), stripes=False)
    projection = MapProjection(MapOrigin(latitude_deg, longitude_deg))
    found = {}
    for crs in systems:
        path = write_geotiff(tmp_path / f"{crs[5:]}.tif", scene, crs, 45.0, 0.2)
        for meters_per_pixel in (0.2, 0.4):
            patch = AerialMap(open_source(path), projection).patch(
                0.0, 0.0, round(70 / meters_per_pixel), meters_per_pixel, 1.9
            )
            found[crs, meters_per_pixel] = dot_positions(patch, DOTS_M)
            np.testing.assert_allclose(found[crs, meters_per_pixel], DOTS_M, atol=0.02)
    for positions in found.values():
        assert np.linalg.norm(positions - found[systems[0], 0.2], axis=-1).max() <= 0.02


def test_a_yaml_names_the_system_that_a_file_lacks(tmp_path, expected):
    rasterio = pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "o.tif", SCENE, "EPSG:25832", 40.0, 0.15)
    with rasterio.open(tmp_path / "o.tif") as file:
        data, profile = file.read(), {**file.profile, "crs": None}
    with rasterio.open(tmp_path / "bare.tif", "w", **profile) as file:
        file.write(data)
    with pytest.raises(MapError, match=r"bare\.tif has no coordinate system"):
        open_source(tmp_path / "bare.tif")
    source = open_source(write_yaml(tmp_path / "s.yaml", kind="geotiff", path="bare.tif", crs="EPSG:25832"))
    assert abs(patch_of(source).image.astype(float) - expected.image).mean() <= 1.0
    with pytest.raises(MapError, match='crs "EPSG:99" of'):
        open_source(write_yaml(tmp_path / "s.yaml", kind="geotiff", path="bare.tif", crs="EPSG:99"))


def test_offsets_of_a_yaml_apply_to_any_kind(tmp_path, tiles):
    write_mbtiles(tmp_path / "m.mbtiles", tiles)
    offset = [3.0, 0.0]
    region = {"bounds": [48.9, 8.3, 49.1, 8.5], "offset_m": [0.0, 2.0]}
    plain = open_source(tmp_path / "m.mbtiles")
    east = open_source(write_yaml(tmp_path / "a.yaml", kind="mbtiles", path="m.mbtiles", map_offset_m=offset))
    both = open_source(
        write_yaml(
            tmp_path / "b.yaml", kind="mbtiles", path="m.mbtiles", map_offset_m=offset, map_offset_regions=[region]
        )
    )
    assert isinstance(east, OffsetSource) and east.zooms == plain.zooms
    for source, (east_m, north_m) in ((east, (3.0, 0.0)), (both, (0.0, 2.0))):
        put_right = AerialMap(source, PROJECTION).patch(0.0, 0.0, 100, 0.2)
        as_drawn = AerialMap(plain, PROJECTION).patch(east_m, north_m, 100, 0.2)
        assert abs(put_right.image.astype(float) - as_drawn.image).max() <= 2


# --- addresses and secrets ---


def test_addresses_hold_the_key_and_shown_ones_do_not(monkeypatch):
    monkeypatch.setenv("ORTHO_KEY", "top/secret")
    key = TileKey(3, 3, 5)
    spec = SourceSpec.from_mapping(
        {
            "kind": "xyz", "url": "https://user:pw@{s}.example.org/{q}/{z}/{x}/{y}{r}.jpg?k={key}&token=abc",
            "subdomains": ["a", "b"], "tile_size_px": 512, "api_key_env": "ORTHO_KEY",
            "headers": {"Authorization": "Bearer {key}"},
        }
    )  # fmt: skip
    assert tile_url(spec, key) == "https://user:pw@a.example.org/213/3/3/5@2x.jpg?k=top%2Fsecret&token=abc"
    assert shown_url(spec, key) == "https://a.example.org/213/3/3/5@2x.jpg?k=***&token=***"
    assert spec.request_headers() == {"Authorization": "Bearer top/secret"}
    assert "secret" not in repr(spec)
    monkeypatch.delenv("ORTHO_KEY")
    with pytest.raises(MissingInputError, match="set the environment variable ORTHO_KEY"):
        tile_url(spec, key)


def test_requests_of_web_map_services():
    spec = SourceSpec.from_mapping(
        {"kind": "wms", "url": "https://x.org/ows?map=a&request=GetCapabilities", "layer": "a,b", "version": "1.1.1"}
    )
    query = parse_qs(urlsplit(tile_url(spec, TileKey(1, 0, 0))).query, keep_blank_values=True)
    half = math.pi * 6378137
    assert query["SRS"] == ["EPSG:3857"] and "CRS" not in query and query["map"] == ["a"]
    assert query["REQUEST"] == ["GetMap"] and "request" not in query and query["LAYERS"] == ["a,b"]
    np.testing.assert_allclose([float(v) for v in query["BBOX"][0].split(",")], [-half, 0, 0, half], atol=1e-3)


# --- WMTS capabilities ---


def capabilities(crs="urn:ogc:def:crs:EPSG::3857", formats=("image/png", "image/jpeg"), top_left=None, rest=True):
    half = math.pi * 6378137
    top_left = top_left or f"{-half} {half}"
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{zoom:02}</ows:Identifier>"
        f"<ScaleDenominator>{559082264.0287178 / 2**zoom}</ScaleDenominator><TopLeftCorner>{top_left}</TopLeftCorner>"
        f"<TileWidth>256</TileWidth><TileHeight>256</TileHeight></TileMatrix>"
        for zoom in range(6, 20)
    )
    limits = "".join(
        f"<TileMatrixLimits><TileMatrix>{zoom:02}</TileMatrix></TileMatrixLimits>" for zoom in range(10, 20)
    )
    link = '<ResourceURL format="image/jpeg" resourceType="tile"'
    link += ' template="https://x.org/{Style}/{Time}/{TileMatrixSet}/{TileMatrix}/{TileRow}/{TileCol}.jpg"/>'
    return f"""<?xml version="1.0"?><Capabilities xmlns="http://www.opengis.net/wmts/1.0"
      xmlns:ows="http://www.opengis.net/ows/1.1" xmlns:xlink="http://www.w3.org/1999/xlink">
      <ows:ServiceProvider><ows:ProviderName>Survey</ows:ProviderName></ows:ServiceProvider>
      <ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP>
        <ows:Get xlink:href="https://x.org/kvp?"/></ows:HTTP></ows:DCP></ows:Operation></ows:OperationsMetadata>
      <Contents><Layer><ows:Identifier>ortho_rgb</ows:Identifier>
        <ows:WGS84BoundingBox><ows:LowerCorner>5 47</ows:LowerCorner><ows:UpperCorner>11 48</ows:UpperCorner>
        </ows:WGS84BoundingBox>
        <Style isDefault="true"><ows:Identifier>normal</ows:Identifier></Style>
        {"".join(f"<Format>{name}</Format>" for name in formats)}
        <Dimension><ows:Identifier>Time</ows:Identifier><Default>current</Default></Dimension>
        <TileMatrixSetLink><TileMatrixSet>main</TileMatrixSet>
        <TileMatrixSetLimits>{limits}</TileMatrixSetLimits></TileMatrixSetLink>{link if rest else ""}</Layer>
        <TileMatrixSet><ows:Identifier>main</ows:Identifier><ows:SupportedCRS>{crs}</ows:SupportedCRS>
        {matrices}</TileMatrixSet></Contents></Capabilities>""".encode()


def wmts_spec(**content):
    return SourceSpec.from_mapping(
        {"kind": "wmts", "capabilities_url": "https://x.org/caps", "layer": "ortho_rgb", "name": "X", **content}
    )


def test_a_wmts_layer_is_read_from_its_capabilities():
    spec = resolved(wmts_spec(zoom_max=18), capabilities())
    assert (spec.zoom_min, spec.zoom_max, spec.tile_size_px) == (10, 18, 256)
    assert (spec.bounds, spec.attribution) == ((47.0, 5.0, 48.0, 11.0), "Survey")
    assert tile_url(spec, TileKey(12, 7, 9)) == "https://x.org/normal/current/main/12/9/7.jpg"
    spec = resolved(wmts_spec(image_format="image/png"), capabilities(rest=False))
    query = parse_qs(urlsplit(tile_url(spec, TileKey(15, 7, 9))).query)
    assert query["TILEMATRIX"] == ["15"] and query["FORMAT"] == ["image/png"] and query["STYLE"] == ["normal"]


@pytest.mark.parametrize(
    ("document", "content", "sentence"),
    [
        (b"<html><body>no</body></html>", {}, "is no WMTS GetCapabilities document"),
        (b"not xml", {}, "is no WMTS GetCapabilities document"),
        (capabilities(), {"layer": "ortho"}, 'has no layer "ortho"; .* such as ortho_rgb'),
        (capabilities(), {"tile_matrix_set": "other"}, 'no tile_matrix_set "other"; its sets are main'),
        (capabilities(crs="urn:ogc:def:crs:EPSG::2056"), {}, r"not offered as web-mercator .*only as EPSG:2056"),
        (capabilities(top_left="420000 350000"), {}, "not offered as web-mercator"),
        (capabilities(formats=["application/vnd.mapbox-vector-tile"]), {}, "is vector tiles"),
        (capabilities(), {"image_format": "image/tiff"}, "not offered as image/tiff"),
        (capabilities(), {"zoom_max": 5}, "has zooms 10 to 19, none within 0 to 5"),
    ],
)
def test_capabilities_that_cannot_serve_are_refused(document, content, sentence):
    with pytest.raises(MapError, match=sentence):
        resolved(wmts_spec(**content), document)


def test_capabilities_are_fetched_once_and_kept(tmp_path):
    server = SceneServer({"/caps": capabilities()})
    path = write_yaml(
        tmp_path / "w.yaml", kind="wmts", capabilities_url=f"{server.url}/caps", layer="ortho_rgb", zoom_max=18
    )
    cache = tmp_path / "cache" / "w.mbtiles"
    source = open_source(path, cache_path=cache)
    assert source.zooms == tuple(range(10, 19)) and source.attribution == "Survey"
    source.store.close()
    write_yaml(path, kind="wmts", capabilities_url=f"{server.url}/gone", layer="ortho_rgb")
    with pytest.raises(MapError, match=r"w: http://127.0.0.1:\d+/gone answered HTTP 404"):
        open_source(path, cache_path=tmp_path / "other.mbtiles")
    server.http.shutdown()
    server.http.server_close()
    offline = open_source(path, cache_path=cache, offline=True)
    assert offline.zooms == tuple(range(10, 20))
    offline.store.close()
    with pytest.raises(MapError, match=r"/gone cannot be reached .*check capabilities_url and the network"):
        open_source(path, cache_path=tmp_path / "other.mbtiles")


# --- bad input ---


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "has no kind; give one of xyz, wmts"),
        ({"kind": "tiles"}, "kind is 'tiles'; choose one of xyz"),
        ({"kind": "xyz"}, "has no url"),
        ({"kind": "xyz", "ulr": "x"}, '"ulr" is not a key of a map source; did you mean url?'),
        ({"kind": "xyz", "url": "htps://x.org/{z}/{x}/{y}"}, "is no address; it begins http://"),
        ({"kind": "xyz", "url": "tiles.org/{z}/{x}/{y}"}, "is no address"),
        ({"kind": "xyz", "url": "https:///{z}/{x}/{y}"}, "is no address"),
        ({"kind": "xyz", "url": "https://x.org/{z}/{x}.png"}, "must hold {z}, {x} and {y}"),
        ({"kind": "xyz", "url": "https://x.org/{zoom}/{x}/{y}"}, "{zoom} in url is no known placeholder"),
        ({"kind": "xyz", "url": "https://{s}.x.org/{q}"}, "there are no subdomains"),
        ({"kind": "xyz", "url": "https://x.org/{q}?k={key}"}, "has no api_key_env"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "api_key_env": "K"}, "has api_key_env but {key} nowhere"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "zoom_max": 31}, "zoom_max is 31; .* from 0 to 30"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "zoom_min": 20}, "zoom_min 20 is above zoom_max 19"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "bounds": [50, 8, 49, 9]}, "is no area on Earth"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "map_offset_m": [1]}, r"must be \[east, north\] in metres"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "map_offset_m": [500, 0]}, "more than 100 m"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "map_offset_regions": [{"offset_m": [1, 1]}]}, "bounds or"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "rate_per_s": "fast"}, "must be a number"),
        ({"kind": "xyz", "url": "https://x.org/{q}", "bulk_download": True}, "choose one of allowed, forbidden"),
        ({"kind": "wms", "url": "https://x.org/wms"}, "has no layer"),
        ({"kind": "wmts", "url": "https://x.org/wmts", "layer": "a"}, "has no tile_matrix_set"),
        ({"kind": "wmts", "url": "https://x.org/wmts", "layer": "a", "tile_matrix_set": "b", "tile_matrix": "{k}"},
         "is no pattern of {z}"),
        ({"kind": "mbtiles"}, "has no path"),
    ],
)  # fmt: skip
def test_a_wrong_yaml_is_refused_with_one_sentence(content, sentence, tmp_path):
    path = write_yaml(tmp_path / "wrong.yaml", **content)
    with pytest.raises(MapError, match=sentence) as caught:
        open_source(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_yaml_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: xyz\nurl: [secret\n")
    with pytest.raises(MapError, match="not valid YAML at line") as caught:
        open_source(tmp_path / "a.yaml")
    assert "secret" not in str(caught.value)
    (tmp_path / "b.yaml").write_text("just text")
    with pytest.raises(MapError, match="key: value"):
        open_source(tmp_path / "b.yaml")


def test_a_missing_api_key_is_told_at_the_start(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    path = write_yaml(tmp_path / "k.yaml", kind="xyz", url="https://x.org/{q}?k={key}", api_key_env="NO_SUCH_KEY")
    with pytest.raises(MissingInputError, match="k needs an API key; set the environment variable NO_SUCH_KEY"):
        open_source(path, cache_path=tmp_path / "c.mbtiles")


def test_broken_files_are_refused_with_one_sentence(tmp_path, tiles):
    whole = write_pmtiles(tmp_path / "whole.pmtiles", tiles).read_bytes()
    cases = {
        "cut.pmtiles": (whole[: len(whole) // 2], "is truncated"),
        "short.pmtiles": (whole[:60], r"damaged header|truncated"),
        "none.pmtiles": (b"", "not a PMTiles file"),
        "old.pmtiles": (b"PMTiles\x02" + whole[8:], "is PMTiles version 2"),
        "text.pmtiles": (b"<html>not found</html>" * 20, "not a PMTiles file"),
        "directory.pmtiles": (whole[:127] + bytes(40) + whole[167:], "damaged directory"),
        "none.mbtiles": (b"", "not a readable MBTiles"),
        "none.tif": (b"", "not a readable GeoTIFF"),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        if name.endswith(".tif"):
            pytest.importorskip("rasterio")
        with pytest.raises(MapError, match=sentence) as caught:
            open_source(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    vector = write_pmtiles(tmp_path / "vector.pmtiles", tiles, tile_type="MVT")
    with pytest.raises(MapError, match="vector tiles"):
        open_source(vector)
    with pytest.raises(MissingInputError, match="does not exist"):
        open_source(tmp_path / "nowhere.yaml")


def test_a_truncated_mbtiles_is_told_and_never_crashes(tmp_path, tiles):
    data = write_mbtiles(tmp_path / "m.mbtiles", tiles).read_bytes()
    (tmp_path / "cut.mbtiles").write_bytes(data[: len(data) // 2])
    try:
        source = open_source(tmp_path / "cut.mbtiles")
    except MapError as error:
        assert "cut.mbtiles" in str(error)
    else:
        with contextlib.suppress(MapError):
            patch_of(source)
        assert any("cut.mbtiles" in sentence for sentence in source.problems)


def test_folders_without_picture_tiles_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MapError, match="holds no tiles"):
        open_source(tmp_path / "empty")
    write_folder(tmp_path / "vector", {TileKey(3, 1, 1): b"\x1a"}, "{z}/{x}/{y}.pbf")
    with pytest.raises(MapError, match="vector tiles"):
        open_source(tmp_path / "vector")
    (tmp_path / "empty" / "tilemapresource.xml").write_text('<TileSets profile="geodetic">')
    with pytest.raises(MapError, match="profile geodetic"):
        open_source(tmp_path / "empty")


def test_rasters_without_a_place_are_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 3, "dtype": "uint8"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "n.tif", "w", **profile) as file,
    ):
        file.write(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(MapError, match=r"n\.tif has no georeference"):
        open_source(tmp_path / "n.tif")
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    transform = rasterio.transform.from_origin(100, 100, 1, 1)
    with rasterio.open(tmp_path / "l.tif", "w", **profile, crs=local, transform=transform) as file:
        file.write(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(MapError, match=r"l\.tif has (a coordinate system that cannot be related|no coordinate system)"):
        open_source(tmp_path / "l.tif")


# --- the examples ---


def test_there_are_examples():
    assert {SourceSpec.from_yaml(path).kind for path in EXAMPLES} >= {
        "xyz", "wmts", "wms", "mbtiles", "pmtiles", "geotiff", "folder"
    }  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_read_and_name_their_licence(path, monkeypatch):
    spec = SourceSpec.from_yaml(path)
    if spec.is_local_file:
        return
    if spec.api_key_env:
        monkeypatch.setenv(spec.api_key_env, "k")
    assert spec.attribution and spec.licence and spec.licence_url.startswith("https://")
    assert spec.bounds[0] > -85.0, "a national service has bounds"
    if spec.kind != "geotiff":
        address = urlsplit(tile_url(spec, TileKey(spec.zoom_max, 12, 34)))
        assert address.scheme == "https" and "{" not in tile_url(spec, TileKey(spec.zoom_max, 12, 34))
