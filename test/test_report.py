"""The report: what it draws lies where it should, it needs nothing from outside, and a browser shows it."""

import base64
import json
import math
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_helpers import ORIGIN

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.bags.results import FrameRecord, grouped, reasons
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import rotation_z, transform
from cross_view_loc.inputs.stamps import Timeline, blend_transforms
from cross_view_loc.report.map_layer import cut_map_layer
from cross_view_loc.report.page import Report, page, verdict
from cross_view_loc.report.panels import Picture, choose
from cross_view_loc.report.series import distributions, frame_columns, grouped_reasons, residual
from cross_view_loc.types import Estimate, Prior

START_NS = 1_700_000_000_123_456_789
PROJECTION = MapProjection(ORIGIN)


class Posts:
    """Dark ground with a red post 30 m east and 20 m north of the origin, and no imagery west of −60 m."""

    name, problems, map_origin = "posts", (), ORIGIN
    bounds = (47.9, 10.9, 48.1, 11.1)

    def sample(self, latitude_deg, longitude_deg, meters_per_pixel):
        flat = latitude_deg.ravel(), longitude_deg.ravel()
        east, north = (np.asarray(v).reshape(latitude_deg.shape) for v in PROJECTION.to_map(*flat)[:2])
        image = np.full((*latitude_deg.shape, 3), 60, np.uint8)
        image[np.hypot(east - 30.0, north - 20.0) < 3.0] = (250, 30, 30)
        return image, east > -60.0


def jpeg(side: int = 64) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((side, side, 3), 90, np.uint8))[1])


def record(index: int, status: str = "accepted", off=(0.3, 0.1, 0.01), reason: str = "", **changes) -> FrameRecord:
    """A car going north at 1 m an image, seen `off` (east, north, yaw) from where it is; GNSS 2 m to its east."""
    stamp, yaw = START_NS + index * 10**9, math.pi / 2
    estimate = Estimate(
        stamp, off[0], index + off[1], yaw + off[2], np.diag([0.09, 0.01, 1e-4]), confidence=0.5 + index / 100,
        accepted=status == "accepted", reason=reason,
    )  # fmt: skip
    prior = Prior(stamp, 2.0, float(index), 10.0, yaw, 0.2, position_std_m=1.0)
    return FrameRecord(stamp, status, reason, prior, None if status == "skipped" else estimate, 0.05, **changes)


def truth_of(count: int) -> Timeline:
    poses: Timeline = Timeline(blend_transforms, history_s=float("1e9"))
    for index in range(count):
        poses.add(START_NS + index * 10**9, transform(rotation_z(math.pi / 2), (0.0, float(index), 0.0)))
    return poses


RECORDS = [
    *(record(i, off=(0.02 * i, 0.0, 0.0)) for i in range(12)),
    record(12, "refused", (4.0, 3.0, 0.1), "ambiguous: confidence 0.12 is below min_confidence 0.50"),
    record(13, "refused", (4.0, 3.0, 0.1), "ambiguous: confidence 0.31 is below min_confidence 0.50"),
    record(14, "skipped", reason="</script><b>no depth"),
]
ROW = {
    "accepted_position_median_m": 0.11, "position_median_m": 0.14, "prior_position_median_m": 2.0,
    "accepted_position_p95_m": 0.2, "heading_median_deg": 0.3, "coverage_95": 0.9, "nees_per_dof": 1.1,
    "frame_seconds_p50": 0.05,
}  # fmt: skip


def report(**changes) -> Report:
    layer = cut_map_layer(AerialMap(Posts(), PROJECTION), np.array([[0.0, 0.0], [0.0, 14.0]]))
    values = {
        "bag": "drive & co/bag", "records": RECORDS, "row": ROW, "truth": truth_of(20), "truth_name": "/truth",
        "layer": layer, "pictures": [Picture("Best <one>", "error 0.00 m", jpeg())], "configuration": "a: <b>",
        "facts": [("versions", "1.2")],
    }  # fmt: skip
    return Report(**(values | changes))


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_a_known_point_of_the_map_is_at_its_pixel():
    layer = report().layer
    image = cv2.imdecode(np.frombuffer(layer.jpeg, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]

    def color(east_m: float, north_m: float) -> np.ndarray:
        column = (east_m - layer.west_m) / (layer.east_m - layer.west_m) * width
        row = (layer.north_m - north_m) / (layer.north_m - layer.south_m) * height
        return image[int(row), int(column)].astype(int)

    assert color(30.0, 20.0)[2] > 180  # red
    for east_m, north_m in ((30.0, -6.0), (-30.0, 20.0), (30.0, 25.0), (35.0, 20.0)):
        assert color(east_m, north_m)[2] < 100, (east_m, north_m)
    assert width / height == pytest.approx((layer.east_m - layer.west_m) / (layer.north_m - layer.south_m), rel=0.01)


def test_the_picture_of_a_long_drive_stays_small_and_keeps_its_extent():
    class Noise(Posts):
        def sample(self, latitude_deg, longitude_deg, meters_per_pixel):
            noise = np.random.default_rng(0).integers(0, 255, (*latitude_deg.shape, 3), np.uint8)
            return noise, np.ones(latitude_deg.shape, bool)

    track = np.array([[0.0, 0.0], [150.0, 60.0]])
    aerial = AerialMap(Noise(), PROJECTION)
    small, large = cut_map_layer(aerial, track, 150_000), cut_map_layer(aerial, track)
    assert len(small.jpeg) <= 150_000 < len(large.jpeg)
    assert (small.west_m, small.north_m, small.east_m) == (large.west_m, large.north_m, large.east_m)


def test_no_imagery_is_no_picture():
    assert cut_map_layer(AerialMap(Posts(), PROJECTION), np.array([[-500.0, 0.0]])) is None
    assert cut_map_layer(AerialMap(Posts(), PROJECTION), np.full((2, 2), np.nan)) is None


def test_signs_of_residuals_are_the_vehicles():
    """Driving north, an estimate too far east is to the right (lateral < 0), one too far north is ahead."""
    columns = frame_columns([record(0, off=(0.3, 0.1, 0.01))], truth_of(2))
    assert (columns["lat"][0], columns["lon"][0]) == (-0.3, 0.1)
    assert columns["head"][0] == pytest.approx(math.degrees(0.01), abs=1e-3)
    assert (columns["s_lat"][0], columns["s_lon"][0]) == (pytest.approx(0.3, abs=2e-3), pytest.approx(0.1, abs=2e-3))
    assert columns["prior_err"][0] == 2.0
    assert (columns["e"][0], columns["n"][0], columns["te"][0], columns["tn"][0]) == (0.3, 0.1, 0.0, 0.0)
    assert columns["major"][0] == pytest.approx(0.3 * math.sqrt(5.991), abs=1e-3)
    assert abs(math.sin(columns["angle"][0])) < 1e-6  # the long axis is east-west
    assert columns["stamp"] == [str(START_NS)]


def test_without_truth_the_prior_is_what_is_held_against():
    one = record(0, off=(0.5, 0.0, 0.0))
    against = residual(one, None)
    assert against.position_m == pytest.approx(1.5)
    assert against.lateral_m == pytest.approx(1.5)  # GNSS lies to the east, so the estimate is to its left
    assert against.distance2 == pytest.approx(1.5**2 / (1.0 + 0.09))
    columns = frame_columns([one], None)
    assert (columns["te"], columns["prior_err"]) == ([None], [None])
    assert distributions([one], None)["dof"] == 2
    unknown = residual(record(0), None).distance2
    assert unknown is not None
    nobody = Prior(START_NS, 2.0, 0.0, 10.0, 0.0, math.pi)
    lonely = residual(FrameRecord(START_NS, "accepted", "", nobody, one.estimate), None)
    assert (lonely.distance2, lonely.heading_deg) == (None, None)


def test_truth_with_a_gap_is_never_mixed_with_the_prior():
    columns = frame_columns(RECORDS, truth_of(5))
    assert all(value is None for value in columns["pos"][6:])
    assert len(distributions(RECORDS, truth_of(5))["accepted"]) == 101
    assert distributions(RECORDS, truth_of(5))["held"] == 5


def test_reasons_that_differ_in_numbers_are_one():
    first = grouped_reasons(RECORDS)[0]
    assert (first["status"], first["count"]) == ("refused", 2)
    assert first["reason"] == "ambiguous: confidence 0.12–0.31 is below min_confidence 0.50"
    assert reasons(RECORDS)[first["reason"]] == 2  # as the console and metrics.json tell it


def test_grouped_sentences_show_ranges_and_keep_names_apart():
    said = Counter(
        {
            "standard deviation 2.3 m is above max_position_std_m 2.0 m": 3,
            "standard deviation 10.5 m is above max_position_std_m 2.0 m": 4,
            "/imu2/data: yaw differs by 90 deg": 1,
            "/imu1/data: yaw differs by 91 deg": 2,
        }
    )
    assert grouped(said) == {
        "standard deviation 2.3–10.5 m is above max_position_std_m 2.0 m": 7,
        "/imu2/data: yaw differs by 90 deg": 1,
        "/imu1/data: yaw differs by 91 deg": 2,
    }


def test_what_was_assumed_stands_above_the_figures_and_no_pose_in_the_title():
    told = "/imu/data: yaw differs by 90 deg from the course over ground <b>"
    text = page(report(assumptions={told: 15}, calibration="verdict: apply <nothing>"))
    sentence = "Warning, for 15 images: /imu/data: yaw differs by 90 deg from the course over ground &lt;b&gt;"
    assert text.index(sentence) < text.index('class="tiles"')
    assert "verdict: apply &lt;nothing&gt;" in text
    assert "<title>drive &amp; co/bag" in text
    none = report(records=RECORDS[12:], row=ROW | {"accepted_position_median_m": None})
    assert "<title>no pose accepted · drive" in page(none)
    assert verdict(none).startswith("No pose accepted: 2 of 3 images localized, median error of all 0.14 m")
    assert "not errors: there is no truth" in page(report(truth=None))


def test_best_median_and_worst_are_by_error_and_else_by_confidence():
    stamps = [choice.record.stamp_ns for choice in choose(RECORDS, truth_of(20))]
    assert stamps == [RECORDS[index].stamp_ns for index in (0, 5, 11)]
    blind = [choice.record.stamp_ns for choice in choose(RECORDS, None)]
    assert blind == [RECORDS[index].stamp_ns for index in (11, 6, 0)]
    assert choose(RECORDS[12:], None)[0].title == "Best refused image"
    assert choose(RECORDS[14:], None) == []


def test_the_verdict_is_one_sentence_of_figures():
    assert verdict(report()) == "14 of 15 images localized, 12 accepted, median error 0.11 m against GNSS 2.00 m."
    blind = verdict(report(truth=None, no_truth_because="no topic"))
    assert "errors are not known" in blind
    assert "100 % of the accepted" in blind
    assert "cannot tell errors" in page(report(truth=None, no_truth_because="no topic"))


VOID = {"meta", "img", "br", "input", "link"}


class Checker(HTMLParser):
    """Raises when elements do not close in order; collects references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in ("src", "href", "action", "poster", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("with_truth", [True, False])
def test_the_page_is_whole_and_refers_to_nothing_outside(with_truth):
    text = page(report(truth=truth_of(20) if with_truth else None, partial="interrupted <here>"))
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.references and all(each.startswith("data:image/jpeg;base64,") for each in checker.references)
    assert not re.search(r"(https?:)?//[\w.-]+\.\w", text.replace("http://www.w3.org/2000/svg", ""))
    assert "url(" not in text and "import(" not in text and "fetch(" not in text
    data = embedded(text)
    assert data["frames"]["count"] == len(RECORDS)
    assert "</script><b>no depth" in data["frames"]["reasons"]  # there, and it ended nothing
    assert (data["map"]["north"] > data["map"]["south"], data["hasTruth"]) == (True, with_truth)
    assert "drive &amp; co/bag" in text and "a: &lt;b&gt;" in text and "interrupted &lt;here&gt;" in text
    assert len(text) < 6_000_000


def test_a_long_drive_is_thinned_but_counted_whole():
    many = [record(i, off=(0.1, 0.0, 0.0)) for i in range(9000)]
    columns = frame_columns(many, None)
    assert (columns["step"], columns["count"]) == (3, 3000)
    assert columns["stamp"][1] == str(many[3].stamp_ns)
    assert distributions(many, None)["held"] == 9000


def browser():
    """Playwright's API with a Chromium of the system; skips, with the reason, where one is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    path = next(
        (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), ""
    )
    if not path:
        pytest.skip("no Chromium or Chrome on this machine: apt install chromium")
    return api, path


@pytest.mark.parametrize("with_truth", [True, False])
def test_a_browser_shows_it_without_errors_and_without_the_network(tmp_path: Path, with_truth: bool):
    api, path = browser()
    file = tmp_path / "report.html"
    file.write_text(page(report(truth=truth_of(20) if with_truth else None)), encoding="utf-8")
    said, asked = [], []
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=120_000)
        for width, height, scheme in ((1280, 900, "dark"), (390, 800, "light")):
            tab = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.set_default_timeout(120_000)
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(file.as_uri())
            tab.wait_for_function("document.documentElement.dataset.drawn && document.querySelector('#c-cdf path')")
            tab.wait_for_function("document.getElementById('ortho').complete")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out
            assert tab.locator(".tile").count() >= 4
            assert tab.locator("#gate .reason").count() == 2
            tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            # North is up, east right, and the post of the orthophoto is drawn where the map's metres say.
            x, y = tab.evaluate("MAP.toPixel(30, 20)")
            assert tab.evaluate("MAP.toPixel(30, 21)[1]") < y
            assert tab.evaluate("MAP.toPixel(31, 20)[0]") > x
            tab.evaluate("MAP.view.east = 30; MAP.view.north = 20; MAP.zoom(1, 0, 0)")
            tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            red = tab.evaluate(
                "(() => { const c = document.getElementById('canvas'), d = devicePixelRatio;"
                "const [x, y] = MAP.toPixel(30, 20);"
                "return [...c.getContext('2d').getImageData(x * d, y * d, 1, 1).data]; })()"
            )
            assert red[0] > 180 and red[1] < 100
            tab.close()
        chromium.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 2  # the page itself, twice


def test_pictures_travel_as_they_are():
    text = page(report())
    assert base64.b64encode(jpeg()).decode() in text
    assert "Best &lt;one&gt;" in text
