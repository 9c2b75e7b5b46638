"""The online store: reading never waits, what is missing comes later, and whatever fails, reading goes on."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fault_helpers import Answer, FaultServer, picture
from test_tile_client import NOT_A_PICTURE

from cross_view_loc.aerial.ahead import TilesAhead, online_store
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.fetch_all import FetchReport
from cross_view_loc.aerial.fetch_queue import FetchQueue
from cross_view_loc.aerial.http import TileClient
from cross_view_loc.aerial.http_policy import BackOff
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.mbtiles import MbtilesSource
from cross_view_loc.aerial.online import OnlineStore
from cross_view_loc.aerial.tiled_source import TiledSource
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, mercator_geodetic, mercator_meters_per_pixel

KEY = TileKey(15, 17000, 11000)
KEYS = [TileKey(15, 17001 + index, 11000) for index in range(40)]
WAIT_S = 30.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultServer() as server:
        yield server


@pytest.fixture
def make(server: FaultServer, tmp_path: Path) -> Iterator:
    made: list[OnlineStore] = []

    def make_one(offline: bool = False, waits: bool = False, now=time.time, limit_mb=100.0, **changes) -> OnlineStore:
        spec = server.spec(**changes)
        cache = TileCache(tmp_path / "cache.mbtiles", limit_mb, source="Ortho", now=now)
        client = TileClient(spec, back_off=BackOff(0.001, 0.01, seed=1), now=now)
        made.append(OnlineStore(spec, cache, client, offline=offline, waits=waits, now=now))
        return made[-1]

    yield make_one
    for store in made:
        store.close()


def test_a_missing_tile_is_on_its_way_and_there_next_time(make, server: FaultServer) -> None:
    server.default = Answer(body=picture(1), delay_s=0.2)
    store = make()
    started_s = time.monotonic()
    assert store.read(KEY) is None and store.read(KEY) is None
    assert time.monotonic() - started_s < 0.2, "before the server has answered"
    assert store.drain(WAIT_S) and store.read(KEY) == picture(1)
    assert server.counts[KEY] == 1 and store.arrivals == 1 and store.problems == ()
    assert store.name == "Ortho" and store.zooms[0] == 10 and store.tile_size_px == 256


def test_memory_first_then_disk_then_network(make, server: FaultServer) -> None:
    one = make()
    one.read(KEY)
    assert one.drain(WAIT_S)
    two = make()
    data = two.read(KEY)
    assert data is not None, "from the disk, at once"
    two.cache.close()
    assert two.read(KEY) == data, "from memory"
    assert server.counts[KEY] == 1


def test_tiles_that_cannot_be_are_not_asked_for(make, server: FaultServer) -> None:
    store = make(zoom_max=16)
    for key in (TileKey(15, -1, 0), TileKey(15, 2**15, 0), TileKey(9, 1, 1), TileKey(17, 1, 1)):
        assert store.read(key) is None
        store.want([key])
    assert store.drain(WAIT_S) and not server.requests


@pytest.mark.parametrize("case", NOT_A_PICTURE)
def test_every_failure_is_in_problems_and_reading_goes_on(make, server: FaultServer, case: str) -> None:
    answer, status, what, remedy = NOT_A_PICTURE[case]
    server.answers[KEY] = answer
    store = make()
    here = store.read(KEYS[0])
    assert here is None and store.drain(WAIT_S)
    here = store.read(KEYS[0])
    assert store.read(KEY) is None and store.drain(WAIT_S)
    (problem,) = store.problems
    assert problem.startswith(f"Ortho, tile {KEY}: ") and what in problem and remedy in problem
    assert store.problem_count == 1
    assert store.read(KEY) is None and store.read(KEYS[0]) == here is not None
    store.read(KEYS[1])
    assert store.drain(WAIT_S)
    assert (store.read(KEYS[1]) is None) == (status == "refused")
    assert server.counts[KEY] <= 6, "redirects and one more try, no storm"


@pytest.mark.parametrize("case", NOT_A_PICTURE)
def test_whatever_fails_a_patch_is_cut_of_the_rest_and_the_hole_is_masked(make, server: FaultServer, case: str) -> None:
    """What the localizer sees: never an exception, never black for imagery, and all of it once the server is well."""
    answer, status, _, _ = NOT_A_PICTURE[case]
    place = [float(value) for value in mercator_geodetic(KEY.column + 1.0, KEY.row + 0.5, 15, tile_size=1)]
    aerial_map = AerialMap(TiledSource(make(zoom_min=15, zoom_max=15)), MapProjection(MapOrigin(*place)))
    store = aerial_map.source.store
    beside = TileKey(15, KEY.column + 1, KEY.row)
    assert store.fetch_all([beside]).fetched == 1
    server.answers[KEY] = answer
    for _ in range(2):
        patch = aerial_map.patch(0.0, 0.0, 200, 3.2)
        assert store.drain(WAIT_S)
        assert patch.valid[:, 110:].all() and not patch.valid[:, :90].any() and not patch.image[:, :90].any()
    assert store.problems
    if status == "failed":
        del server.answers[KEY]
        later = make(zoom_min=15, zoom_max=15)  # as after its pause
        assert later.fetch_all([KEY]).fetched == 1
        whole = AerialMap(TiledSource(later), aerial_map.projection).patch(0.0, 0.0, 200, 3.2)
        assert whole.valid.all()
        np.testing.assert_array_equal(whole.image[:, 110:], patch.image[:, 110:])


def test_dns_failure_is_in_problems_and_the_cache_is_read(make, server: FaultServer) -> None:
    good = make()
    good.read(KEY)
    assert good.drain(WAIT_S)
    bad = make(url="http://tiles.invalid/{z}/{x}/{y}")
    bad.read(KEYS[0])
    deadline_s = time.monotonic() + WAIT_S
    while not bad.problems and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert 'host "tiles.invalid" cannot be found' in bad.problems[0]
    assert bad.read(KEY) is not None


def test_a_wrong_address_is_given_up_soon_and_is_the_reason_told(make) -> None:
    """A command that waits for its tiles must not try for minutes, nor blame the place for what the address lacks."""
    bad = make(waits=True, url="http://tiles.invalid/{z}/{x}/{y}", zoom_min=15, zoom_max=15)
    report = bad.fetch_all(KEYS)
    assert 'host "tiles.invalid" cannot be found' in report.stopped and bad.back_off.failures <= 3 + 2
    aerial_map = AerialMap(TiledSource(bad), MapProjection(MapOrigin(48.0, 11.0)))
    with pytest.raises(NoImageryError, match=r'^Ortho has no imagery within .* now: Ortho, tile .*"tiles\.invalid"'):
        aerial_map.patch(0.0, 0.0, 50, 3.2)


def test_a_failing_tile_comes_once_the_server_is_well_and_the_sentence_goes(make, server: FaultServer) -> None:
    server.answers[KEY] = [Answer(503), Answer(503), Answer(body=picture(2))]
    store = make()
    deadline_s = time.monotonic() + WAIT_S
    said: set[str] = set()
    while store.read(KEY) is None and time.monotonic() < deadline_s:
        said.update(store.problems)
        time.sleep(0.005)
    assert store.read(KEY) == picture(2)
    assert any("HTTP 503" in sentence for sentence in said) and store.problems == () and store.problem_count == 2


def test_missing_tiles_are_asked_for_once(make, server: FaultServer) -> None:
    server.answers[KEY] = Answer(404)
    now_s = [1.7e9]
    store = make(now=lambda: now_s[0])
    for _ in range(3):
        assert store.read(KEY) is None and store.drain(WAIT_S)
    again = make(now=lambda: now_s[0])
    assert again.read(KEY) is None and again.drain(WAIT_S) and server.counts[KEY] == 1, "kept on the disk"
    now_s[0] += 2 * 86400.0
    server.answers[KEY] = Answer(body=picture(4))
    assert again.read(KEY) is None and again.drain(WAIT_S) and again.read(KEY) == picture(4)


def test_old_tiles_are_used_and_asked_about(make, server: FaultServer) -> None:
    now_s = [1.7e9]
    server.answers[KEY] = [Answer(body=picture(1), headers={"ETag": '"1"'}), Answer(304), Answer(500), Answer(404)]
    make(now=lambda: now_s[0]).fetch_all([KEY])
    for age_weeks, requests in ((0, 1), (2, 2), (2, 2), (4, 3), (4, 4), (4, 4)):
        now_s[0] = 1.7e9 + age_weeks * 7 * 86400.0
        store = make(now=lambda: now_s[0])
        assert store.read(KEY) == picture(1), "at once, whatever the server says"
        assert store.drain(WAIT_S) and server.counts[KEY] == requests
    assert [request.headers.get("if-none-match") for request in server.requests] == [None, '"1"', '"1"', '"1"']


def test_placeholders_vanish_also_from_before(make, server: FaultServer) -> None:
    server.default = Answer(body=picture(9))
    store = make()
    report = store.fetch_all(KEYS[:10])
    assert report.missing == 3 and report.fetched == 7
    assert all(store.read(key) is None for key in KEYS[:10]) and list(store.cache.keys()) == []
    assert "a placeholder and no imagery" in store.problems[0]


def test_a_placeholder_leaves_decoded_memory_and_a_newer_tile_replaces_the_old(make, server: FaultServer) -> None:
    """Until enough tiles had the same bytes a patch was cut of them; afterwards it must not be cut of them again."""
    middle_deg = mercator_geodetic(KEYS[0].column + 0.5, KEYS[0].row + 0.5, 15, tile_size=1)
    place = tuple(np.full((2, 2), float(value)) for value in middle_deg)
    now_s = [1.7e9]
    store = make(now=lambda: now_s[0], zoom_min=15, zoom_max=15)
    source = TiledSource(store)

    def color() -> list[int] | None:
        image, valid = source.sample(*place, 3.0)
        return image[0, 0].tolist() if valid.all() else None

    server.answers[KEYS[0]] = Answer(body=plain(40))
    store.fetch_all(KEYS[:1])
    assert color() == [40, 40, 40] and source.decoded == 1 and store.changes == 0
    now_s[0] += 30 * 86400.0
    server.answers[KEYS[0]] = Answer(body=plain(90))
    store.fetch_all(KEYS[:1])
    assert color() == [90, 90, 90] and source.decoded == 1 and store.changes == 1, "the newer one"
    for key in KEYS[1:8]:
        server.answers[key] = Answer(body=plain(90))
    report = store.fetch_all(KEYS[1:8])
    assert report.missing == 1 and store.changes == 8
    assert color() is None and source.decoded == 0
    assert store.held["tiles"] == 0 and store.held["absent"] == 8 and store.held["changed"] == 7


def plain(level: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((256, 256, 3), level, np.uint8))[1])


def test_offline_never_touches_the_network(make, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    make().fetch_all([KEY])
    asked = len(server.requests)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    store = make(offline=True, now=lambda: time.time() + 1e8)
    assert store.read(KEY) is not None, "although it is old"
    store.want(KEYS)
    assert store.drain(WAIT_S) and store.problems == ()
    assert store.read(KEYS[0]) is None
    (problem,) = store.problems
    assert problem.startswith(
        f"Ortho, tile {KEYS[0]}: not in the cache {store.cache.path}, and the network is off; fetch"
    )
    with pytest.raises(InputError, match="offline, so nothing can be fetched"):
        store.fetch_all([KEY])
    assert len(server.requests) == asked


def test_wanted_tiles_come_before_they_are_read(make, server: FaultServer) -> None:
    store = make()
    store.want(KEYS)
    assert store.drain(WAIT_S) and all(server.counts[key] == 1 for key in KEYS)
    assert all(store.read(key) is not None for key in KEYS)
    store.want(KEYS)
    assert store.drain(WAIT_S) and len(server.requests) == len(KEYS)


def test_urgent_tiles_go_first_and_later_ones_before_earlier() -> None:
    done: list[TileKey] = []
    gate = threading.Event()

    def work(key: TileKey) -> None:
        gate.wait(WAIT_S)
        done.append(key)
        if key == KEYS[7]:
            raise RuntimeError("must not end the thread")

    queue = FetchQueue(work, lambda: 0.0, threads=1)
    queue.add([KEY], 5)
    while KEY not in queue._under_way:
        time.sleep(0.001)
    queue.add(KEYS[:3], 1)
    queue.add(KEYS[3:6], 1)
    queue.add([KEYS[6]], 2)
    queue.add([KEYS[2], KEYS[7]], 0)
    gate.set()
    assert queue.drain(WAIT_S)
    assert done[1:] == [KEYS[index] for index in (2, 7, 3, 4, 5, 0, 1, 6)]
    queue.close()
    assert queue.join(WAIT_S)


def test_a_long_queue_forgets_what_lies_behind() -> None:
    gate, done = threading.Event(), []
    queue = FetchQueue(lambda key: (gate.wait(WAIT_S), done.append(key)), lambda: 0.0, threads=1)  # type: ignore[arg-type]
    for row in range(100):
        queue.add([TileKey(20, column, row) for column in range(100)], 1)
    assert len(queue._ranks) <= 4000
    queue.close()
    gate.set()
    assert queue.join(WAIT_S) and len(done) <= 1


def test_fetching_an_area_goes_on_where_it_stopped(make, server: FaultServer) -> None:
    server.answers[KEYS[3]] = Answer(404)
    server.answers[KEYS[4]] = Answer(200, b"<html>")
    server.answers[KEYS[5]] = [Answer(500), Answer(body=picture(5))]
    server.answers[KEYS[6]] = Answer(200, picture(6)[:60] + bytes(300) + picture(6)[-12:])
    store, seen = make(), []

    def stop(report: FetchReport) -> None:
        seen.append(report)
        if report.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch_all(KEYS, stop)
    assert [report.done for report in seen] == list(range(1, 21)) and seen[-1].total == 40
    server.answers[KEYS[4]] = Answer(body=picture(4))
    report = make().fetch_all(KEYS)
    assert report.done == report.total == 40 and report.stopped == ""
    assert report.held + report.fetched == 38 and 18 <= report.held <= 25
    assert report.missing == 1 and report.failed == 1 and report.bytes > 1000
    assert any("HTTP 200 with a png that cannot be decoded" in problem for problem in report.problems)
    assert make().fetch_all([]).done == 0


@pytest.mark.parametrize(
    ("answer", "requests", "sentence"),
    [
        (Answer(403), 8, "HTTP 403 (forbidden)"),
        (Answer(500), 30, "HTTP 500 (the server fails); it is asked again later; if it goes on"),
        (Answer(429, headers={"Retry-After": "3600"}), 8, "it asks for 3600 s of peace"),
    ],
)
def test_fetching_ends_where_it_makes_no_sense(
    make, server: FaultServer, answer: Answer, requests: int, sentence: str
) -> None:
    """How many are under way when it is noticed depends on the machine; all of them would be 40 requests and more."""
    server.default = answer
    report = make().fetch_all(KEYS)
    assert sentence in report.stopped and report.done < 20 and len(server.requests) <= requests


def test_a_full_disk_ends_fetching_but_not_reading(make, server: FaultServer) -> None:
    store = make()
    writer = store.cache._writer
    writer.execute(f"PRAGMA max_page_count = {writer.execute('PRAGMA page_count').fetchone()[0] + 40}")
    report = store.fetch_all(KEYS)
    assert "full disk" in report.stopped and 0 < report.done < 40
    store.read(KEYS[30])
    assert store.drain(WAIT_S) and store.read(KEYS[30]) is not None, "from memory"
    assert sum("full disk" in problem for problem in store.problems) == 1


def test_a_store_that_waits_gives_the_same_each_time(make, server: FaultServer) -> None:
    server.answers[KEYS[1]] = [Answer(500), Answer(body=picture(1))]
    server.answers[KEYS[2]] = Answer(404)
    store = make(waits=True)
    assert store.read(KEYS[0]) is not None and store.read(KEYS[1]) == picture(1) and store.read(KEYS[2]) is None


def test_closing_does_not_wait_for_a_slow_server(make, server: FaultServer) -> None:
    server.default = Answer(body=picture(), delay_s=5.0)
    store = make()
    store.want(KEYS)
    while not server.requests:
        time.sleep(0.005)
    started_s = time.monotonic()
    store.close()
    assert time.monotonic() - started_s < 4.5
    assert store.read(KEYS[0]) is None and not store._queue._ranks
    store.want(KEYS)


def test_a_program_that_just_ends_ends(server: FaultServer, tmp_path: Path) -> None:
    server.default = Answer(body=picture(), delay_s=60.0)
    program = f"""
from cross_view_loc.aerial.ahead import TilesAhead, online_store
from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.online import OnlineStore
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey
spec = SourceSpec.from_mapping(dict(kind="xyz", url="{server.url}/{{z}}/{{x}}/{{y}}"))
store = OnlineStore(spec, TileCache("{tmp_path}/c.mbtiles"))
store.want([TileKey(15, 1, 1)])
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=50, capture_output=True, env=os.environ, check=False)
    assert done.returncode == 0 and done.stderr == b""


def test_a_map_of_an_online_source_fills_up_while_it_is_used(make, server: FaultServer) -> None:
    store = make(zoom_min=13, zoom_max=15)
    server.answers[KEY] = Answer(body=picture(1), delay_s=0.05)
    source = TiledSource(store)
    south, west, north, east = KEY.bounds()
    place = np.full((2, 2), (south + north) / 2), np.full((2, 2), (west + east) / 2)
    assert not source.sample(*place, 3.2)[1].any(), "masked, not black"
    assert store.drain(WAIT_S)
    detailed = source.sample_detailed(*place, 3.2)
    assert detailed.valid.all() and detailed.stand_in == 0.0
    assert MbtilesSource(store.cache.path).zooms == (13, 14, 15)


def test_no_key_in_the_bytes_of_the_cache(make, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAP_KEY", "sesame-4711")
    store = make(query="?key={key}", api_key_env="MAP_KEY", headers={"Authorization": "Bearer {key}"})
    server.answers[KEYS[0]] = Answer(404, b"no such tile for sesame-4711")
    server.answers[KEYS[1]] = Answer(body=picture(), headers={"ETag": '"sesame-4711"'})
    store.fetch_all([KEY, *KEYS[:2]])
    assert "sesame-4711" in server.requests[0].path
    store.close()
    rows = sqlite3.connect(store.cache.path).execute("SELECT missing FROM cache WHERE missing <> ''").fetchall()
    assert rows and "no such tile for ***" in rows[0][0]
    for part in store.cache.path.parent.iterdir():
        assert b"sesame" not in part.read_bytes() and b"4711" not in part.read_bytes()


# --- ahead of the vehicle ---


class Wants:
    """In place of a store."""

    def __init__(self, zoom_max: int = 21) -> None:
        self.zooms, self.tile_size_px, self.wanted = tuple(range(10, zoom_max + 1)), 256, []

    def want(self, keys) -> None:
        self.wanted.append(list(keys))


@pytest.mark.parametrize("origin", [(0.0, 10.0), (49.0, 8.4), (-35.0, 180.0), (69.0, -180.0)])
def test_tiles_around_and_ahead_cover_the_way(origin: tuple[float, float]) -> None:
    projection, store = MapProjection(MapOrigin(*origin, 0.0)), Wants()
    ahead = TilesAhead(store, projection, reach_m=80.0, meters_per_pixel=0.2)  # type: ignore[arg-type]
    for step in range(4):
        ahead.moved(1_000_000_000 * step, 15.0 * step, 0.0)
    first, *others = store.wanted
    assert len(others) == 1, "not again before it has moved a quarter of its reach"
    zoom = max(key.zoom for key in first)
    resolutions = [mercator_meters_per_pixel(origin[0], z, 256) for z in (zoom - 1, zoom)]
    assert resolutions[0] > 0.2 * 1.02 and (resolutions[1] <= 0.2 * 1.02 or zoom == 21)
    assert all(key.exists for key in first) and len(first) == len(set(first))
    assert first[0].zoom == zoom - 3, "something to stand in comes first"

    def at(east_m: float, north_m: float) -> TileKey:
        latitude_deg, longitude_deg, _ = projection.to_geodetic(east_m, north_m)
        return TileKey.at(float(latitude_deg), float(longitude_deg), zoom)

    corners = {at(east_m, north_m) for east_m in (-79.0, 0.0, 79.0) for north_m in (-79.0, 0.0, 79.0)}
    assert corners <= set(first)
    assert {at(30.0 + 15.0 * seconds, 0.0) for seconds in range(15)} <= set(others[0])
    assert at(30.0 + 15.0 * 18, 0.0) not in first and at(-200.0, 0.0) not in others[0]
    fine = [key for key in first if key.zoom == zoom]
    assert fine[0] == at(0.0, 0.0)


def test_a_jump_in_time_or_place_is_no_speed() -> None:
    projection, store = MapProjection(MapOrigin(49.0, 8.4, 0.0)), Wants()
    ahead = TilesAhead(store, projection, reach_m=80.0, meters_per_pixel=0.2)  # type: ignore[arg-type]
    for stamp_s, east_m in ((0, 0.0), (1, 5000.0), (0, 5100.0), (100, 5300.0)):
        ahead.moved(stamp_s * 1_000_000_000, east_m, 0.0)
    standing = len(ahead.keys(5300.0, 0.0))
    assert all(len(wanted) < 1.5 * standing for wanted in store.wanted) and len(store.wanted) == 4


def test_only_online_sources_have_a_store(make, tmp_path: Path) -> None:
    store = make()
    source = TiledSource(store)
    assert online_store(source) is store
    store.fetch_all([KEY])
    assert online_store(MbtilesSource(store.cache.path)) is None
