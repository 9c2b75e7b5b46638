"""prefetch of services that describe themselves, of a remote GeoTIFF, and through kills at any moment."""

import contextlib
import json
import math
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from map_helpers import encode, write_geotiff, write_mbtiles
from test_sources import LAT, LON, SCENE, ZOOM, SceneServer, keys_about, patch_of, write_yaml

from cross_view_loc.aerial.inventory import Inventory
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.cli import main
from cross_view_loc.evaluation.tile_server import PaintedTileServer, paint_tile
from cross_view_loc.evaluation.tile_server import encode as jpeg

BOX = f"{LAT - 0.0002},{LON - 0.0003},{LAT + 0.0002},{LON + 0.0003}"


@pytest.fixture
def server():
    server = DescribedServer({})
    yield server
    server.http.shutdown()
    server.http.server_close()


class DescribedServer(SceneServer):
    """With tiles of 512 pixels too."""

    def answer(self, path):
        if path.startswith("/dense/"):
            _, _, zoom, column, row = path.removesuffix(".png").split("/")
            return 200, encode(SCENE.tile(TileKey(int(zoom), int(column), int(row)), 512))
        return super().answer(path)


def capabilities(template, kvp, size_px):
    """What a service says of itself; each zoom's name begins with `kvp`'s prefix."""
    half = math.pi * 6378137.0
    prefix = "EPSG:3857:" if kvp else ""
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{prefix}{zoom}</ows:Identifier>"
        f"<ScaleDenominator>{2 * half / size_px / 0.28e-3 / 2**zoom!r}</ScaleDenominator>"
        f"<TopLeftCorner>{-half} {half}</TopLeftCorner><TileWidth>{size_px}</TileWidth>"
        f"<TileHeight>{size_px}</TileHeight></TileMatrix>"
        for zoom in range(12, 21)
    )
    rest = "" if kvp else f'<ResourceURL format="image/png" resourceType="tile" template="{template}"/>'
    get = f'<ows:Get xlink:href="{template}"/>' if kvp else ""
    return f"""<?xml version="1.0"?><Capabilities xmlns="http://www.opengis.net/wmts/1.0"
      xmlns:ows="http://www.opengis.net/ows/1.1" xmlns:xlink="http://www.w3.org/1999/xlink">
      <ows:ServiceProvider><ows:ProviderName>Survey</ows:ProviderName></ows:ServiceProvider>
      <ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP>{get}</ows:HTTP></ows:DCP>
      </ows:Operation></ows:OperationsMetadata><Contents><Layer><ows:Identifier>ORTHO.PHOTOS</ows:Identifier>
      <Style isDefault="true"><ows:Identifier>normal</ows:Identifier></Style><Format>image/png</Format>
      <TileMatrixSetLink><TileMatrixSet>GoogleMaps</TileMatrixSet></TileMatrixSetLink>{rest}</Layer><TileMatrixSet>
      <ows:Identifier>GoogleMaps</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
      {matrices}</TileMatrixSet></Contents></Capabilities>""".encode()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    tiles = {key: encode(SCENE.tile(key)) for key in keys_about(LAT, LON, ZOOM, 1)}
    return patch_of(open_source(write_mbtiles(tmp_path_factory.mktemp("map") / "plain.mbtiles", tiles)))


def fetched(folder, yaml_path, zooms, capsys):
    """What prefetch says it did, and the patch of the file it wrote; the YAML must give the same offline with it."""
    out = folder / "area.mbtiles"
    words = ["prefetch", "--bbox", BOX, "--buffer-m", "15", "--zoom", zooms, "--source", str(yaml_path), "--yes"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    beside = sorted(file.name for file in folder.glob("area.*"))
    assert set(beside) <= {"area.mbtiles", "area.png", "area.capabilities.xml"}, "one file, to be copied"
    patch = patch_of(open_source(out))
    offline = open_source(yaml_path, cache_path=out, offline=True)
    np.testing.assert_array_equal(patch_of(offline).image, patch.image)
    offline.store.close()
    return summary, patch


@pytest.mark.parametrize(("kvp", "size_px"), [(False, 256), (True, 256), (False, 512)])
def test_a_wmts_is_fetched_by_its_capabilities(kvp, size_px, server, expected, tmp_path, capsys):
    folder = "dense" if size_px == 512 else "xyz"
    template = f"{server.url}/wmts" if kvp else f"{server.url}/{folder}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"
    server.files["/caps"] = capabilities(template, kvp, size_px)
    path = write_yaml(
        tmp_path / "survey.yaml", kind="wmts", capabilities_url=f"{server.url}/caps", layer="ORTHO.PHOTOS",
        zoom_max=20, bulk_download="allowed", rate_per_s=1000,
    )  # fmt: skip
    finest = ZOOM - (size_px == 512)
    summary, patch = fetched(tmp_path, path, f"{finest - 1}-{finest}", capsys)
    assert summary["attribution"] == "Survey" and summary["fetch"]["failed"] == 0
    assert summary["coverage"][-1] == {
        "zoom": finest, "wanted": summary["fetch"]["fetched"] - summary["coverage"][0]["wanted"],
        "present": summary["tiles"][str(finest)], "share": 1.0,
    }  # fmt: skip
    assert patch.valid.all() and abs(patch.image.astype(float) - expected.image).mean() <= 1.0


def test_a_remote_geotiff_is_fetched_by_its_ranges(server, expected, tmp_path, capsys):
    pytest.importorskip("rasterio")
    file = write_geotiff(tmp_path / "o.tif", SCENE, "EPSG:25832", 120.0, 0.15, blockxsize=256, blockysize=256)
    server.files["/o.tif"] = file.read_bytes()
    path = write_yaml(
        tmp_path / "cog.yaml", kind="geotiff", url=f"{server.url}/o.tif", zoom_max=20, bulk_download="allowed",
        rate_per_s=1000,
    )  # fmt: skip
    summary, patch = fetched(tmp_path, path, "19", capsys)
    assert summary["fetch"]["failed"] == 0 and summary["coverage"][0]["share"] == 1.0
    assert patch.valid.all() and abs(patch.image.astype(float) - expected.image).mean() <= 1.0
    assert any(headers.get("Range") for asked, headers in server.asked if asked == "/o.tif")


KILLED = "import sys; from cross_view_loc.cli import main; sys.exit(main())"


def test_killed_at_any_moment_it_goes_on_and_no_tile_is_corrupt(tmp_path, monkeypatch):
    """SIGKILL while tiles arrive: the file opens, every tile in it is the server's, the next run fetches the rest."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pictures = [jpeg(paint_tile(TileKey(ZOOM, column, 180_000)), "jpg") for column in range(4)]
    rng = random.Random(3)

    def body(key):
        return pictures[(key.column + key.row) % 4] + str(key).encode()

    with PaintedTileServer(answer=lambda key: (200, {"Content-Type": "image/jpeg"}, body(key))) as server:
        path = write_yaml(
            tmp_path / "s.yaml",
            kind="xyz",
            url=server.url.replace(".png", ".jpg"),
            zoom_max=ZOOM,
            bulk_download="allowed",
            rate_per_s=40,
        )
        out = tmp_path / "m.mbtiles"
        words = ["prefetch", "--bbox", BOX, "--buffer-m", "150", "--source", str(path), "--out", str(out), "--yes"]
        held = 0
        for kill in range(3):
            asked = sum(server.requests.values())
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            until_s = time.monotonic() + 120.0
            while sum(server.requests.values()) < asked + 6 + 5 * kill and time.monotonic() < until_s:
                assert process.poll() is None, "it has ended before it was killed"
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            with Inventory(out) as inventory:
                found = list(inventory.tiles())
            assert all(is_whole for _, is_whole in found) and len(found) >= held
            held = len(found)
            with contextlib.closing(sqlite3.connect(out)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                rows = database.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles").fetchall()
            for zoom, column, row, data in rows:
                assert data == body(TileKey(zoom, column, 2**zoom - 1 - row))
        assert held > 0
        assert main(words) == 0
        with Inventory(out) as inventory:
            keys = {key for key, is_whole in inventory.tiles() if is_whole}
        assert keys == set(server.requests) and len(keys) > held
        assert not list(tmp_path.glob("*.corrupt-*"))
