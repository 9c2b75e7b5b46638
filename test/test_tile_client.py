"""The tile client against a server that fails in every way: what the user reads, and how politely it goes on."""

from __future__ import annotations

import email.utils
import gzip
import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from fault_helpers import Answer, FaultServer, picture
from hypothesis import given
from hypothesis import strategies as st

import cross_view_loc
from cross_view_loc.aerial.http import TileAnswer, TileClient
from cross_view_loc.aerial.http_policy import (
    BackOff,
    PlaceholderDetector,
    RateLimit,
    Secrets,
    lifetime_s,
    retry_after_s,
)
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tiles import TileKey

KEY = TileKey(18, 137, 91)
KEYS = [TileKey(18, 200 + index, 91) for index in range(40)]
DAY_S = 86400.0
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultServer() as server:
        yield server


def client_of(spec: SourceSpec, **options) -> TileClient:
    return TileClient(spec, back_off=BackOff(first_s=0.001, longest_s=0.01, seed=1), **options)


def ask(server: FaultServer, answer: Answer | None, **changes) -> TileAnswer:
    """One answer of the server to a fresh client, which then gets another tile all the same unless refused."""
    if answer is not None:
        server.answers[KEY] = answer
    client = client_of(server.spec(**changes))
    try:
        got = client.fetch(KEY)
        assert got.reason == "" or (got.reason.startswith(f"Ortho, tile {KEY}: ") and got.reason.endswith("."))
        time.sleep(client.back_off.remaining_s)
        following = client.fetch(KEYS[0])
        assert following.status == ("refused" if got.status == "refused" else "ok")
        return got
    finally:
        client.close()


def test_a_tile_comes_with_what_is_known_of_it(server: FaultServer) -> None:
    headers = {"ETag": '"v1"', "Last-Modified": "Sat, 01 Nov 2025 00:00:00 GMT", "Cache-Control": "max-age=2592000"}
    server.answers[KEY] = [Answer(body=picture(1), headers=PNG | headers), Answer(304, headers=headers)]
    client = client_of(server.spec(), now=lambda: 1000.0)
    got = client.fetch(KEY)
    assert (got.status, got.data, got.etag, got.reason) == ("ok", picture(1), '"v1"', "")
    assert got.expires_s == 1000.0 + 30 * DAY_S and got.last_modified == headers["Last-Modified"]
    again = client.fetch(KEY, got.etag, got.last_modified)
    assert again.status == "not_modified" and again.expires_s == got.expires_s
    asked = server.requests[1].headers
    assert asked["if-none-match"] == '"v1"' and asked["if-modified-since"] == headers["Last-Modified"]
    assert asked["user-agent"] == f"cross_view_loc/{cross_view_loc.__version__} (me@example.org)"
    client.close()


HTML = b"<html><head><title>Access &amp; blocked\n</title></head><body>go away</body></html>"
XML = b'<?xml version="1.0"?><Report><Exception exceptionCode="TileOutOfRange">row 91</Exception></Report>'
NOT_A_PICTURE = {
    "404": (Answer(404, b"nothing"), "missing", "HTTP 404, the source has no imagery there", "check url, zoom_max"),
    "204": (Answer(204), "missing", "HTTP 204, the source has no", "bounds in the source's YAML"),
    "empty": (Answer(200), "missing", "HTTP 200, the source has no", "check url"),
    "out of range": (Answer(400, XML), "missing", "HTTP 400, the source has no imagery", "TileOutOfRange row 91"),
    "403": (
        Answer(403, HTML),
        "refused",
        'HTTP 403 (forbidden) and says "Access & blocked", so the server is not asked any more',
        "check the API key and the service's terms",
    ),
    "401": (Answer(401), "refused", "HTTP 401 (unauthorized)", "check the API key"),
    "429": (
        Answer(429, headers={"Retry-After": "0"}),
        "failed",
        "HTTP 429 (too many requests)",
        "asked again later; lower rate_per_s",
    ),
    "500": (
        Answer(500, b"oops"),
        "failed",
        'HTTP 500 (the server fails) and says "oops"',
        "ask the service's operator",
    ),
    "503": (Answer(503), "failed", "HTTP 503 (the server fails)", "asked again later"),
    "418": (Answer(418), "failed", "HTTP 418 at http://127.0.0.1", "check url and layer"),
    "html": (
        Answer(200, HTML, {"Content-Type": "text/html; charset=utf-8"}),
        "failed",
        'HTTP 200 with text/html that says "Access & blocked" instead of a picture',
        "in a browser to see whether this network or the service blocks it",
    ),
    "html as picture": (Answer(200, HTML, PNG), "failed", "HTTP 200 with image/png that says", "in a browser"),
    "vector": (
        Answer(200, b"\x1a\x05water", {"Content-Type": "application/x-protobuf"}),
        "refused",
        "HTTP 200 with a vector tile",
        "give a source of pictures",
    ),
    "corrupt": (
        Answer(200, picture()[:60] + b"\0" * 300 + picture()[-12:], PNG),
        "failed",
        "HTTP 200 with a png that cannot be decoded",
        "asked for again later",
    ),
    "short without length": (
        Answer(200, picture(kind=".jpg")[:-200], fault="drop"),
        "failed",
        "HTTP 200 with a jpeg cut short",
        "asked for again later",
    ),
    "truncated": (
        Answer(200, picture(), fault="truncated"),
        "failed",
        "HTTP 200 cut short by 127.0.0.1",
        "again later",
    ),
    "reset": (Answer(fault="reset"), "failed", "the connection to 127.0.0.1 broke", "asked for again later"),
    "huge": (
        Answer(200, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 60000, 60000) + bytes(40), PNG),
        "failed",
        "HTTP 200 with a picture of 60000 × 60000 pixels, too many for a tile",
        "check tile_size_px",
    ),
    "long": (Answer(200, bytes(6 << 20)), "failed", "HTTP 200 with more than 4 MiB, too much for a tile", "check url"),
    "gzip bomb": (
        Answer(200, gzip.compress(bytes(200 << 20), 9), {"Content-Encoding": "gzip"}),
        "failed",
        "HTTP 200 with more than 4 MiB",
        "check url",
    ),
    "strangely packed": (Answer(200, b"x", {"Content-Encoding": "br"}), "failed", "a body packed as br", "check url"),
    "redirects": (Answer(302, headers={"Location": "{self}"}), "failed", "redirects without end", "check url"),
    "to nowhere": (Answer(302, headers={"Location": "ftp://example.org/"}), "failed", "broke (UnsupportedProtocol", ""),
}


@pytest.mark.parametrize("case", NOT_A_PICTURE)
def test_whatever_is_no_picture_is_one_sentence_and_the_next_tile_comes(server: FaultServer, case: str) -> None:
    answer, status, what, remedy = NOT_A_PICTURE[case]
    got = ask(server, answer)
    assert got.status == status and got.data is None
    assert what in got.reason and remedy in got.reason, got.reason
    assert "\n" not in got.reason and len(got.reason) < 350


def test_latency_is_a_timeout(server: FaultServer) -> None:
    server.answers[KEY] = Answer(body=picture(), delay_s=2.0)
    client = client_of(server.spec(), timeout_s=0.1)
    assert "no answer from 127.0.0.1 within 0.1 s; check the network" in client.fetch(KEY).reason
    client.close()


def test_unknown_host_and_closed_port_are_told_apart(server: FaultServer) -> None:
    with FaultServer() as gone:
        closed = gone.spec()
    client = client_of(closed)
    got = client.fetch(KEY)
    assert got.status == "failed" and got.http_status is None and "no connection to 127.0.0.1 (" in got.reason
    client.close()
    client = client_of(server.spec(url="http://tiles.invalid/{z}/{x}/{y}"))
    got = client.fetch(KEY)
    assert got.status == "failed"
    assert 'host "tiles.invalid" cannot be found' in got.reason and "check the spelling of url" in got.reason
    client.close()


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_pictures_are_known_by_their_bytes_and_not_by_their_name(server: FaultServer, kind: str) -> None:
    body = picture(3, kind=kind)
    assert ask(server, Answer(200, body, {"Content-Type": "text/plain"})).data == body
    packed = Answer(200, gzip.compress(body), {"Content-Encoding": "gzip"})
    assert ask(server, packed).data == body
    raw = zlib.compress(body)
    assert ask(server, Answer(200, raw, {"Content-Encoding": "deflate"})).data == body


def test_redirects_are_followed_without_giving_the_key_away(server: FaultServer, monkeypatch) -> None:
    monkeypatch.setenv("MAP_KEY", "sesame-4711")
    with FaultServer() as elsewhere:
        elsewhere.url = elsewhere.url.replace("127.0.0.1", "localhost")
        server.answers[KEY] = Answer(301, headers={"Location": f"{elsewhere.url}/1/1/1"})
        spec = server.spec(api_key_env="MAP_KEY", headers={"X-Api-Key": "{key}"})
        client = client_of(spec)
        assert client.fetch(KEY).status == "ok"
        client.close()
        assert server.requests[0].headers["x-api-key"] == "sesame-4711"
        assert "sesame" not in repr(elsewhere.requests)


def test_a_refused_client_never_asks_again(server: FaultServer) -> None:
    server.answers[KEY] = Answer(403)
    client = client_of(server.spec())
    first = client.fetch(KEY)
    others = [client.fetch(key) for key in KEYS[:5]]
    assert {each.status for each in others} == {"refused"} and {each.reason for each in others} == {first.reason}
    assert not any(each.was_asked for each in others) and len(server.requests) == 1
    client.close()


def test_a_failing_server_is_left_in_peace(server: FaultServer) -> None:
    server.answers[KEY] = Answer(503, headers={"Retry-After": "120"})
    client = TileClient(server.spec(), back_off=BackOff(first_s=1.0, seed=1))
    first = client.fetch(KEY)
    assert 120.0 <= first.retry_after_s <= 132.0 and "it asks for 120 s of peace" in first.reason
    second = client.fetch(KEYS[0])
    assert second.status == "failed" and not second.was_asked and second.reason == first.reason
    assert 119.0 < second.retry_after_s <= first.retry_after_s and len(server.requests) == 1
    client.close()


def test_pauses_grow_with_jitter_and_end_with_a_success() -> None:
    now = [0.0]

    def pauses(seed: int) -> list[float]:
        now[0] = 0.0
        back_off, found = BackOff(first_s=1.0, longest_s=60.0, seed=seed, clock=lambda: now[0]), []
        for _ in range(10):
            found.append(back_off.fail("HTTP 500"))
            now[0] += found[-1]
        assert back_off.failures == 10 and back_off.remaining_s == 0.0
        back_off.succeed()
        assert back_off.fail("HTTP 500") <= 1.0
        assert back_off.fail("HTTP 500") <= 1.0 and back_off.failures == 1, "those under way together count once"
        return found

    one, other = pauses(1), pauses(2)
    assert one == pauses(1) != other, "seeded"
    for number, pause_s in enumerate(one):
        assert 0.5 * min(2.0**number, 60.0) <= pause_s <= min(2.0**number, 60.0)
    assert BackOff(first_s=1.0, seed=1).fail("", retry_after_s=500.0) >= 500.0


def test_connections_and_rate_stay_within_their_limits(server: FaultServer) -> None:
    server.default = Answer(body=picture(), delay_s=0.02)
    client = client_of(server.spec(connections=2, rate_per_s=40.0))
    threads = [threading.Thread(target=client.fetch, args=(key,)) for key in KEYS[:12]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert len(server.requests) == 12 and server.most_at_once <= 2
    times_s = sorted(request.time_s for request in server.requests)
    assert times_s[-1] - times_s[0] >= 11 / 40.0 * 0.8  # arrival at the server trembles, the sum does not


def test_rate_limit_ends_when_told_to() -> None:
    limit, stop = RateLimit(0.001), threading.Event()
    assert limit.wait(stop)
    threading.Timer(0.05, stop.set).start()
    assert not limit.wait(stop), "instead of waiting a quarter of an hour"


def test_the_same_picture_everywhere_is_a_placeholder(server: FaultServer) -> None:
    server.default = Answer(body=picture(5), headers=PNG)
    client = client_of(server.spec())
    answers = [client.fetch(key) for key in KEYS[:10]]
    assert [answer.status for answer in answers] == ["ok"] * 7 + ["missing"] * 3
    assert "HTTP 200 with the same" in answers[7].reason and "as 7 other tiles, a placeholder" in answers[7].reason
    assert set(answers[7].same_as) == set(KEYS[:7])
    server.default = None
    assert client.fetch(KEYS[20]).status == "ok"
    client.close()


def test_one_tile_asked_for_often_is_no_placeholder() -> None:
    detector = PlaceholderDetector(tiles=3)
    assert not any(detector.others(KEY, b"same") for _ in range(10))
    assert not detector.others(KEYS[0], b"same") and detector.others(KEYS[1], b"same") == (KEY, KEYS[0])


@pytest.mark.parametrize("place", ["query", "header", "path"])
def test_the_api_key_is_shown_nowhere(
    server: FaultServer, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "s3same/+jkqv x"
    monkeypatch.setenv("MAP_KEY", secret)
    changes = {
        "query": {"url": f"{server.url}/{{z}}/{{x}}/{{y}}?apikey={{key}}"},
        "header": {"headers": {"Authorization": "Bearer {key}"}},
        "path": {"url": f"{server.url}/{{key}}/{{z}}/{{x}}/{{y}}"},
    }[place]
    caplog.set_level(logging.DEBUG)
    echo = Answer(403, f"key {secret} and s3same%2F%2Bjkqv%20x are unknown".encode())
    for answer in (echo, Answer(500, echo.body), Answer(200, echo.body), Answer(418), Answer(fault="reset")):
        server.answers[KEY] = answer
        client = client_of(server.spec(api_key_env="MAP_KEY", **changes))
        got = client.fetch(KEY)
        assert got.reason and "s3same" not in repr(got) and "jkqv" not in repr(got) + repr(client)
        client.close()
    asked = repr(server.requests)
    assert "s3same" in asked, "else the test shows nothing"
    logged = "\n".join(record.getMessage() + str(record.args) for record in caplog.records)
    assert "HTTP Request: GET" in logged
    assert "s3same" not in logged and "jkqv" not in logged


def test_a_key_that_is_not_set_is_named(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAP_KEY", raising=False)
    client = client_of(server.spec(query="?k={key}", api_key_env="MAP_KEY"))
    got = client.fetch(KEY)
    assert got.status == "refused" and "set the environment variable MAP_KEY" in got.reason and not server.requests
    client.close()


def test_closed_client_answers_and_does_not_raise(server: FaultServer) -> None:
    client = client_of(server.spec())
    assert client.fetch(KEY).status == "ok"
    client.close()
    assert client.fetch(KEYS[0]).status == "failed"


def test_lifetimes_and_pauses_are_read_as_servers_write_them() -> None:
    now_s = 1.7e9
    date, later = (email.utils.formatdate(now_s + ahead_s, usegmt=True) for ahead_s in (0, 500))
    assert lifetime_s({"cache-control": "public, max-age=600"}, now_s) == 600.0
    assert lifetime_s({"cache-control": "max-age=600", "age": "100"}, now_s) == 500.0
    assert lifetime_s({"cache-control": "s-maxage=600"}, now_s) == 0.0
    assert lifetime_s({"expires": later}, now_s) == 500.0
    assert lifetime_s({"expires": later, "date": date}, 0.0) == 500.0, "by the server's clock"
    assert lifetime_s({"expires": "0"}, now_s) == lifetime_s({}, now_s) == 0.0
    assert retry_after_s({"retry-after": "30"}, now_s) == 30.0
    assert retry_after_s({"retry-after": later}, now_s) == 500.0
    assert retry_after_s({"retry-after": "9999999"}, now_s) == DAY_S
    assert retry_after_s({"retry-after": "soon"}, now_s) == retry_after_s({}, now_s) == 0.0


def test_a_tile_holds_a_week_at_least_and_a_missing_one_a_day(server: FaultServer) -> None:
    short = {"Cache-Control": "max-age=60"}
    server.answers[KEY] = Answer(body=picture(), headers=short)
    server.answers[KEYS[0]] = Answer(404, headers=short)
    client = client_of(server.spec(), now=lambda: 1000.0)
    assert client.fetch(KEY).expires_s == 1000.0 + 7 * DAY_S
    assert client.fetch(KEYS[0]).expires_s == 1000.0 + DAY_S
    client.close()


@given(st.text(max_size=40), st.text(max_size=40))
def test_headers_of_any_text_are_no_exception(one: str, other: str) -> None:
    headers = {"cache-control": one, "expires": other, "date": one, "age": other, "retry-after": one}
    assert lifetime_s(headers, 1.7e9) >= 0.0 and 0.0 <= retry_after_s(headers, 1.7e9) <= DAY_S


@given(st.text(min_size=6, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_secrets_vanish_from_any_text(secret: str, before: str, after: str) -> None:
    assert secret not in Secrets([secret]).hide(before + secret + after).replace("***", "")
