"""prefetch against a tile server on this machine: what is asked for, what is kept, what is said."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from bag_helpers import ORIGIN, drive, write_bag2

from cross_view_loc.aerial.areas import Area
from cross_view_loc.aerial.inventory import Inventory
from cross_view_loc.aerial.mbtiles import MbtilesStore
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.cli import main
from cross_view_loc.commands import prefetch
from cross_view_loc.evaluation.tile_server import PaintedTileServer, paint_tile

LAT, LON = ORIGIN.latitude_deg, ORIGIN.longitude_deg
BOX = f"{LAT},{LON},{LAT + 0.001},{LON + 0.001}"
AREA = Area.from_box(LAT, LON, LAT + 0.001, LON + 0.001, buffer_m=20.0)


@pytest.fixture
def server():
    with PaintedTileServer() as running:
        yield running


@pytest.fixture
def source(server, tmp_path, monkeypatch):
    """Writes the source's YAML, with changes."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        content = {
            "kind": "xyz", "name": "painted", "url": server.url, "zoom_max": 20, "attribution": "© painter",
            "licence": "CC0", "licence_url": "https://example.org/terms", "bulk_download": "allowed",
            "rate_per_s": 1000, "connections": 4,
        }  # fmt: skip
        path = tmp_path / "source.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return str(path)

    return write


def words(source, *more, area=("--bbox", BOX), zoom="17-18"):
    return ["prefetch", *area, "--source", source, "--out", "out.mbtiles", "--buffer-m", "20", "--zoom", zoom, *more]


def refusal(arguments, capsys):
    """The sentence a command refuses with."""
    assert main([str(word) for word in arguments]) == 1
    captured = capsys.readouterr()
    (sentence,) = [line for line in captured.err.splitlines() if line.startswith("cross_view_loc prefetch: ")]
    return sentence


def answer_at_the_terminal(monkeypatch, text):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return text

    monkeypatch.setattr(sys, "stdin", Terminal())


def test_everything_is_fetched_and_reported(source, server, tmp_path, capsys):
    assert main(words(source(), "--yes", "--json")) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    wanted = AREA.tiles([17, 18])
    assert summary["tiles"] == {str(zoom): count for zoom, count in wanted.counts.items()}
    assert summary["fetch"]["fetched"] == len(wanted)
    assert summary["coverage"] == [
        {"zoom": zoom, "wanted": count, "present": count, "share": 1.0} for zoom, count in wanted.counts.items()
    ]
    store = MbtilesStore(tmp_path / "out.mbtiles")
    for key in wanted:
        picture = cv2.imdecode(np.frombuffer(store.read(key), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(picture, paint_tile(key))
    assert store.metadata["attribution"] == "© painter"
    assert set(server.requests) == set(wanted), "nothing else is asked for"
    for text in ("© painter", "CC0", "https://example.org/terms", f"{wanted.counts[18]} tiles"):
        assert text in captured.err
    assert cv2.imread(summary["picture"]).shape[0] > 100


def test_an_interrupted_run_goes_on_with_what_is_missing(source, server, monkeypatch, capsys):
    class Bar:
        n = 0

        def __init__(self, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def update(self, count):
            self.n += count
            if self.n >= 3:
                raise KeyboardInterrupt

        def set_postfix_str(self, text, refresh):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(prefetch, "tqdm", Bar)
        assert main(words(source(connections=1), "--yes")) == 130
    assert "goes on from here" in capsys.readouterr().err
    with Inventory("out.mbtiles") as inventory:
        kept = {key for key, is_whole in inventory.tiles() if is_whole}
    assert len(kept) >= 3
    server.requests.clear()
    assert main(words(source(connections=1), "--yes", "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    wanted = set(AREA.tiles([17, 18]))
    assert set(server.requests) == wanted - kept
    assert summary["fetch"]["held"] == len(kept)
    assert max(server.requests.values()) == 1
    server.requests.clear()
    assert main(words(source(), "--yes")) == 0
    assert not server.requests


def test_a_declined_question_writes_nothing(source, tmp_path, monkeypatch, capsys):
    path = source()
    for answer in ("n\n", "\n", ""):
        answer_at_the_terminal(monkeypatch, answer)
        assert main(words(path)) == 1
    assert "nothing was fetched" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"source.yaml"}


def test_an_agreed_question_fetches(source, tmp_path, monkeypatch):
    answer_at_the_terminal(monkeypatch, "y\n")
    assert main(words(source())) == 0
    assert (tmp_path / "out.mbtiles").exists()
    assert (tmp_path / "out.png").exists()


def test_without_a_terminal_it_wants_yes(source, tmp_path, capsys):
    sentence = refusal(words(source()), capsys)
    assert "--yes" in sentence
    assert not (tmp_path / "out.mbtiles").exists()


def test_forbidden_bulk_is_refused_before_the_server_is_asked(source, server, capsys):
    sentence = refusal(words(source(bulk_download="forbidden"), "--yes"), capsys)
    assert "forbids" in sentence
    assert "https://example.org/terms" in sentence
    assert not server.requests


def test_tiles_the_server_lacks_are_reported_as_holes(source, server, capsys):
    keys = list(AREA.tiles([18]))
    server.answer = lambda key: (404, {}, b"") if key == keys[0] else None
    assert main(words(source(), "--yes", "--json", zoom="18")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["absent"] == [str(keys[0])]
    assert summary["fetch"]["missing"] == 1
    assert summary["coverage"][0]["present"] == len(keys) - 1
    picture = cv2.imread(summary["picture"])[..., ::-1]
    assert np.all(picture == (255, 0, 255), axis=-1).any()


def test_a_refusing_server_is_named_and_nothing_is_written(source, server, tmp_path, capsys):
    server.answer = lambda key: (403, {}, b"no")
    sentence = refusal(words(source(), "--yes"), capsys)
    assert "403" in sentence
    assert "painted" in sentence
    assert sum(server.requests.values()) == 1
    assert not (tmp_path / "out.mbtiles").exists()


def test_by_bag_and_by_track(source, tmp_path, capsys):
    write_bag2(tmp_path / "bag", drive())
    line = {"type": "LineString", "coordinates": [[LON, LAT], [LON + 5e-5, LAT]]}
    (tmp_path / "track.geojson").write_text(json.dumps(line))
    found = []
    for area in (("bag",), ("--track", "track.geojson")):
        assert main(words(source(), "--yes", "--json", area=area)) == 0
        found.append(json.loads(capsys.readouterr().out)["tiles"])
    assert found[0] == found[1]


def test_default_zooms_suit_the_localizer(source, capsys, monkeypatch):
    answer_at_the_terminal(monkeypatch, "n\n")
    arguments = words(source())
    del arguments[arguments.index("--zoom") : arguments.index("--zoom") + 2]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "zoom 19" in shown
    assert "zoom 17" in shown
    assert "zoom 20" not in shown
    assert "0.20 m per pixel" in shown


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a[:1] + a[3:], "give one area"),
        (lambda a: [*a, "--track", "x.gpx"], "bbox and track given"),
        (lambda a: [*a[:2], "1,2,3", *a[3:]], "four numbers"),
        (lambda a: [*a, "--zoom", "22-23"], "zooms 0 to 20"),
        (lambda a: [*a, "--zoom", "x"], "range of zooms"),
        (lambda a: [*a, "--out", "out.tif"], "ends in .mbtiles"),
        (lambda a: [*a, "--out", "none/out.mbtiles"], "there is no folder"),
        (lambda a: [*a, "--source", "none.yaml"], "none.yaml"),
        (lambda a: [*a, "--buffer-m", "-1"], "--buffer-m"),
        (lambda a: [a[0], "--track", "none.gpx", *a[3:]], "there is no file"),
        (lambda a: [a[0], "--polygon", "none.json", *a[3:]], "there is no file"),
        (lambda a: [a[0], "none_bag", *a[3:]], "there is no bag"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(source, server, change, says, capsys):
    assert says in refusal(change(words(source(), "--yes")), capsys)
    assert not server.requests


def test_outside_the_source_and_a_local_source(source, server, tmp_path, capsys):
    assert "lies outside painted" in refusal(words(source(bounds=[10, 10, 11, 11]), "--yes"), capsys)
    path = tmp_path / "local.yaml"
    path.write_text("kind: mbtiles\npath: a.mbtiles\n")
    assert "file on this machine" in refusal(words(str(path), "--yes"), capsys)
    assert not server.requests


def test_somebodys_map_is_not_written_to(source, tmp_path, capsys):
    from bag_helpers import write_map

    before = write_map(tmp_path / "out.mbtiles").read_bytes()
    assert "out.mbtiles" in refusal(words(source(), "--yes"), capsys)
    assert (tmp_path / "out.mbtiles").read_bytes() == before


def test_no_torch():
    code = (
        "import sys; from cross_view_loc.cli import build_parser; build_parser('prefetch'); build_parser('map');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_painter_paints_one_scene_at_every_zoom():
    fine = [paint_tile(TileKey(19, 270000 + i, 180000 + j)).astype(float) for j in (0, 1) for i in (0, 1)]
    whole = np.concatenate([np.concatenate(fine[:2], axis=1), np.concatenate(fine[2:], axis=1)])
    halved = whole.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - paint_tile(TileKey(18, 135000, 90000))).mean() < 1.0
