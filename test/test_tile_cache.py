"""The tile cache: an MBTiles for everybody, bounded, shared, and whole after whatever happened to it."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import sqlite3
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cross_view_loc.aerial.cache import TileCache
from cross_view_loc.aerial.cache_file import ForeignFileError, exclusive, stand_alone
from cross_view_loc.aerial.mbtiles import MbtilesSource
from cross_view_loc.aerial.picture import picture_header
from cross_view_loc.aerial.tiles import TileKey

LATER = 4e9
KEYS = [TileKey(18, 137000 + index, 90000) for index in range(400)]

FORK = multiprocessing.get_context("fork")


def body(index: int) -> bytes:
    return hashlib.sha256(str(index).encode()).digest() * (100 + index % 700)


def write(path: Path, first: int, limit_mb: float, count: int, said: int) -> None:
    """The child's whole life; each number is said once its tile is kept."""
    cache = TileCache(path, limit_mb=limit_mb)
    os.write(said, b"open\n")
    for index in range(first, first + count):
        assert cache.put(TileKey(20, index, 7), body(index), expires_s=LATER, etag=str(index)), cache.problems
        os.write(said, b"%d\n" % index)
    cache.close()


@contextlib.contextmanager
def writer(path: Path, first: int = 0, limit_mb: float = 50.0, count: int = 10**6):
    """A process that writes, and what it says."""
    hears, says = os.pipe()
    process = FORK.Process(target=write, args=(path, first, limit_mb, count, says))
    process.start()
    os.close(says)
    with open(hears, encoding="ascii") as lines:
        yield process, lines
    process.join()


def picture(color: int = 90, kind: str = ".png") -> bytes:
    return bytes(cv2.imencode(kind, np.full((256, 256, 3), color, np.uint8))[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.mbtiles"


@contextlib.contextmanager
def opened(path: Path, **options):
    cache = TileCache(path, **options)
    try:
        yield cache
    finally:
        cache.close()


def test_what_is_put_is_there_after_closing(path: Path) -> None:
    with opened(path, now=lambda: 1000.0, source="ortho") as cache:
        assert cache.get(KEYS[0]) is None
        assert cache.put(KEYS[0], b"picture", expires_s=2000.0, etag='"a"', last_modified="Mon")
        assert cache.put_missing(KEYS[1], "HTTP 404", 1500.0)
    with opened(path, source="ortho") as cache:
        tile, missing = cache.get(KEYS[0]), cache.get(KEYS[1])
        assert tile is not None and missing is not None
        assert (tile.data, tile.fetched_s, tile.expires_s) == (b"picture", 1000.0, 2000.0)
        assert (tile.etag, tile.last_modified, tile.source, tile.missing) == ('"a"', "Mon", "ortho", "")
        assert tile.is_fresh(1999.0) and not tile.is_fresh(2000.0)
        assert missing.data is None and missing.missing == "HTTP 404" and missing.expires_s == 1500.0
        assert cache.keys() == [KEYS[0]]
        cache.refresh(KEYS[0], 9000.0)
        refreshed = cache.get(KEYS[0])
        assert refreshed is not None and refreshed.expires_s == 9000.0 and refreshed.data == b"picture"
        cache.put_missing(KEYS[0], "gone", LATER)
        assert cache.get(KEYS[0]).data is None and cache.keys() == []  # type: ignore[union-attr]
        assert cache.problems == ()


def test_every_program_reads_the_cache_as_mbtiles(path: Path) -> None:
    with opened(path, metadata={"name": "Ortho", "attribution": "© Land"}) as cache:
        cache.put(KEYS[0], picture(kind=".jpg"), expires_s=LATER)
        cache.put(KEYS[0].parent(), picture(kind=".jpg"), expires_s=LATER)
        source = MbtilesSource(path)  # while it is being written
        assert source.zooms == (17, 18) and source.attribution == "© Land"
        assert source.metadata["format"] == "jpg" and source.metadata["minzoom"] == "17"
    south, west, north, east = KEYS[0].bounds()
    image, valid = MbtilesSource(path).sample(
        np.full((4, 4), (south + north) / 2), np.full((4, 4), (west + east) / 2), 0.4
    )
    assert valid.all() and abs(int(image.mean()) - 90) <= 1


def test_gdal_opens_the_cache(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with opened(path, metadata={"name": "Ortho"}) as cache:
        for key in KEYS[:2]:
            cache.put(key, picture(), expires_s=LATER)
    try:
        dataset = rasterio.open(path)
    except rasterio.errors.RasterioIOError as error:
        if "not recognized" in str(error):
            pytest.skip("this GDAL has no MBTiles driver")
        raise
    with dataset:
        assert dataset.crs.to_epsg() == 3857 and dataset.shape == (256, 512)
        assert abs(int(dataset.read(1).mean()) - 90) <= 1


def test_the_least_recently_used_go_first_and_the_file_stays_bounded(path: Path) -> None:
    clock = [1000.0]

    def now() -> float:
        clock[0] += 1.0
        return clock[0]

    with opened(path, limit_mb=1.0, now=now) as cache:
        for index, key in enumerate(KEYS[:200]):
            cache.put(key, bytes([index]) * 10_000, expires_s=LATER)
            assert cache.get(KEYS[0]) is not None, "used all the time"
        assert cache.size_bytes <= 1.0e6
        kept = set(cache.keys())
        assert 60 < len(kept) < 100 and KEYS[0] in kept and KEYS[199] in kept and KEYS[1] not in kept
        assert kept - {KEYS[0]} == set(KEYS[201 - len(kept) : 200]), "but for the first, the newest"
    assert path.stat().st_size < 1.2e6


def test_use_is_remembered_across_processes(path: Path) -> None:
    with opened(path, now=lambda: 10.0) as cache:
        for key in KEYS[:50]:
            cache.put(key, bytes(10_000), expires_s=LATER)
    with opened(path, now=lambda: 20.0) as cache:
        cache.get(KEYS[0])
    with opened(path, limit_mb=0.4, now=lambda: 30.0) as cache:
        cache.put(KEYS[60], bytes(10_000), expires_s=LATER)
        assert {KEYS[0], KEYS[60]} < set(cache.keys())


def test_what_was_used_is_remembered_within_bounds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that only reads, offline, has nothing to write its uses down with."""
    monkeypatch.setattr("cross_view_loc.aerial.cache._REMEMBERED_USES", 3)
    cache = TileCache(path)
    for key in KEYS[:6]:
        cache.put(key, picture(1), expires_s=2e9)
    for key in (*KEYS[:6], KEYS[3]):
        assert cache.get(key) is not None
    assert [place[1] for place in cache._used] == [key.column for key in (KEYS[4], KEYS[5], KEYS[3])]
    cache.close()


def test_two_processes_write_and_read_one_file(path: Path) -> None:
    with writer(path, 0, count=60) as (one, one_says), writer(path, 1000, count=60) as (other, other_says):
        assert len(one_says.readlines()) == 61 and len(other_says.readlines()) == 61
    assert (one.exitcode, other.exitcode) == (0, 0)
    with opened(path) as cache:
        for first in (0, 1000):
            for index in range(first, first + 60):
                tile = cache.get(TileKey(20, index, 7))
                assert tile is not None and tile.data == body(index)
    assert not list(path.parent.glob("*.corrupt*"))


def test_a_file_that_stands_alone_is_one_file_and_can_be_a_cache_again(path: Path) -> None:
    cache = TileCache(path)
    cache.put(KEYS[0], picture(1), expires_s=2e9)
    stand_alone(path)  # in use: left as it is
    cache.put(KEYS[1], picture(2), expires_s=2e9)
    cache.close()
    stand_alone(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.parent.chmod(0o555)
    try:
        assert MbtilesSource(path).zooms == (18,)
    finally:
        path.parent.chmod(0o755)
    again = TileCache(path)
    assert again.put(KEYS[2], picture(3), expires_s=2e9) and again.keys() == KEYS[:3]
    again.close()


def test_the_lock_outlives_being_taken_away(path: Path) -> None:
    """One waits for the lock while its holder deletes it and another makes it anew: they must not both have it."""
    inside, most = [], []

    def enter(number: int) -> None:
        with exclusive(path):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            path.with_name(path.name + ".lock").unlink(missing_ok=True)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


@pytest.mark.parametrize("limit_mb", [50.0, 1.0], ids=["growing", "evicting"])
def test_killed_writers_leave_a_whole_file(path: Path, limit_mb: float) -> None:
    assert kill_writers(path, limit_mb, times=5) > 5


def kill_writers(path: Path, limit_mb: float, times: int) -> int:
    """Kill a writer at `times` random moments and check the file after each; returns how many tiles were written."""
    chance = random.Random(7)
    first = 0
    for _ in range(times):
        with writer(path, first, limit_mb) as (process, says):
            if chance.random() < 0.8:
                assert says.readline() == "open\n"
            time.sleep(chance.uniform(0.0, 0.15))
            process.kill()
            said = [int(line) for line in says.read().splitlines() if line.isdigit()]
        first = check_after_kill(path, limit_mb, said, first)
    return first


def check_after_kill(path: Path, limit_mb: float, said: list[int], first: int) -> int:
    """What a killed writer said it had kept is there and every tile is whole; returns the next free number."""
    if not path.exists():  # killed before it began
        return first
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with opened(path, limit_mb=limit_mb) as cache:
        keys = cache.keys()
        for key in keys:
            tile = cache.get(key)
            assert tile is not None and tile.data == body(key.column) and tile.etag == str(key.column)
        # The last line may have been cut short in the pipe; evicted ones are gone by right.
        if said and limit_mb > 10:
            assert {TileKey(20, index, 7) for index in said[:-1]} <= set(keys)
        assert cache.problems == ()
    return max([first, *(key.column + 1 for key in keys)])


def test_full_disk_is_said_once_and_reading_goes_on(path: Path) -> None:
    with opened(path) as cache:
        assert cache.put(KEYS[0], b"before", expires_s=LATER)
        writer = cache._writer
        assert writer is not None
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")
        for key in KEYS[1:4]:
            assert not cache.put(key, bytes(100_000), expires_s=LATER)
        assert cache.problems == (
            f"Tile cache {path} is on a full disk: new tiles are not kept, those it has are read; free some space or "
            "give another map_cache.",
        )
        assert not cache.is_writable
        tile = cache.get(KEYS[0])
        assert tile is not None and tile.data == b"before" and cache.get(KEYS[1]) is None
        writer.execute("PRAGMA max_page_count = 100000")
        assert cache.put(KEYS[1], bytes(100_000), expires_s=LATER) and cache.problems == () and cache.is_writable


@pytest.mark.parametrize("damage", ["text", "header", "truncated", "holes"])
def test_broken_file_is_set_aside_and_begun_anew(path: Path, damage: str) -> None:
    with opened(path) as cache:
        for index, key in enumerate(KEYS[:100]):
            cache.put(key, bytes([index]) * 5000, expires_s=LATER)
    whole = path.read_bytes()
    broken = {
        "text": b"<html>not a database at all</html>" * 1000,
        "header": b"SQLite format 3\0" + bytes(len(whole) - 16),
        "truncated": whole[: len(whole) // 2],
        "holes": whole[:4096] + b"\x5a" * (len(whole) - 4096),
    }[damage]
    path.write_bytes(broken)
    with opened(path) as cache:
        for index, key in enumerate(KEYS[:100]):
            tile = cache.get(key)
            assert tile is None or tile.data == bytes([index]) * 5000
        for index, key in enumerate(KEYS[:100]):
            cache.put(key, bytes([index]) * 5000, expires_s=LATER)
        for index, key in enumerate(KEYS[:100]):
            tile = cache.get(key)
            assert tile is not None and tile.data == bytes([index]) * 5000, cache.problems
        (problem,) = cache.problems
        (aside,) = path.parent.glob("*.corrupt*")
        assert f"Tile cache {path} was broken" in problem and aside.name in problem
    assert aside.read_bytes()[:1000] == broken[:1000]
    with opened(path) as cache:
        assert len(cache.keys()) == 100 and cache.problems == ()


def test_a_flipped_bit_in_a_tile_is_a_missing_tile(path: Path) -> None:
    with opened(path) as cache:
        cache.put(KEYS[0], b"x" * 3000, expires_s=LATER)
    path.write_bytes(path.read_bytes().replace(b"x" * 3000, b"x" * 1500 + b"y" + b"x" * 1499))
    with opened(path) as cache:
        assert cache.get(KEYS[0]) is None
        assert cache.problems == (f"Tile {KEYS[0]} in {path} was damaged on the disk; it is fetched again.",)
        cache.put(KEYS[0], b"x" * 3000, expires_s=LATER)
        assert cache.get(KEYS[0]) is not None


def test_file_deleted_or_replaced_under_us_is_begun_anew(path: Path) -> None:
    with opened(path) as cache, opened(path) as other:
        cache.put(KEYS[0], b"one", expires_s=LATER)
        for part in path.parent.glob("cache.mbtiles*"):
            part.unlink()
        assert cache.put(KEYS[1], b"two", expires_s=LATER)
        assert other.put(KEYS[2], b"three", expires_s=LATER)
        for each in (cache, other):
            assert each.keys() == KEYS[1:3] and each.get(KEYS[2]) is not None


def test_a_cache_that_cannot_be_written_is_read(path: Path) -> None:
    with opened(path) as cache:
        cache.put(KEYS[0], b"one", expires_s=LATER)
    path.with_name(path.name + ".lock").unlink()
    path.with_name(path.name + ".lock").mkdir()  # what a read-only folder does, also to root
    with opened(path) as cache:
        tile = cache.get(KEYS[0])
        assert tile is not None and tile.data == b"one"
        assert not cache.put(KEYS[1], b"two", expires_s=LATER) and not cache.is_writable
        assert "cannot be written to" in cache.problems[0] and "another map_cache" in cache.problems[0]
    with opened(path / "below a file" / "cache.mbtiles") as cache:
        assert cache.get(KEYS[0]) is None and not cache.put(KEYS[0], b"", expires_s=LATER)
        assert "no tile is kept" in cache.problems[0]


def test_maps_and_caches_of_other_sources_are_left_alone(path: Path, tmp_path: Path) -> None:
    with opened(path, source="ortho A") as cache:
        cache.put(KEYS[0], b"one", expires_s=LATER)
    with pytest.raises(ForeignFileError, match="holds tiles of ortho A, not of ortho B; give another file"):
        TileCache(path, source="ortho B")
    foreign = tmp_path / "map.mbtiles"
    with contextlib.closing(sqlite3.connect(foreign)) as connection, connection:
        connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        connection.execute("CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)")
    before = foreign.read_bytes()
    with pytest.raises(ForeignFileError, match="is a map and not a tile cache"):
        TileCache(foreign)
    assert foreign.read_bytes() == before


def test_closed_cache_is_quiet(path: Path) -> None:
    cache = TileCache(path)
    cache.put(KEYS[0], b"one", expires_s=LATER)
    cache.close()
    cache.close()
    assert cache.get(KEYS[0]) is None and not cache.put(KEYS[1], b"two", expires_s=LATER) and cache.problems == ()
    assert not path.with_name(path.name + "-wal").exists()


@pytest.mark.parametrize(("kind", "name"), [(".png", "png"), (".jpg", "jpeg"), (".webp", "webp")])
def test_headers_of_pictures(kind: str, name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    whole = bytes(cv2.imencode(kind, noise)[1])
    header = picture_header(whole)
    assert header is not None and (header.format, header.width_px, header.height_px) == (name, 56, 40)
    assert header.is_whole
    cut = picture_header(whole[: len(whole) // 2])
    assert cut is not None and not cut.is_whole
    for length in range(40):
        picture_header(whole[:length])  # whatever it is, it is no exception
    assert picture_header(b"<html>") is None and picture_header(b"") is None
