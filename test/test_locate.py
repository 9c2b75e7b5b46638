"""`locate`: its camera models, headings and signs, and one JSON object from two picture files."""

import argparse
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.cli import main
from cross_view_loc.commands import locate
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.cameras import EquirectangularCamera, PinholeCamera, StripCamera
from cross_view_loc.types import Estimate


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    locate.configure(parser)
    return parser.parse_args(["--ground", "g.png", "--aerial", "a.png", "--gsd", "0.2", *words])


AERIAL = ImageMap(np.zeros((300, 400, 3), np.uint8), 0.2)


@pytest.mark.parametrize(
    "text, camera",
    [
        ("pinhole:610,600,320,180", PinholeCamera(640, 320, 610.0, 600.0, 320.0, 180.0)),
        ("equirectangular", EquirectangularCamera(640, 320)),
        ("strip", StripCamera(640, 320, 160.0)),
        (None, EquirectangularCamera(640, 320)),
    ],
)
def test_cameras(text, camera):
    assert locate.parse_camera(text, 640, 320) == camera


def test_camera_by_shape():
    assert isinstance(locate.parse_camera(None, 1232, 224), StripCamera)
    pinhole = locate.parse_camera(None, 640, 360)
    ray, _ = pinhole.unproject([640.0, 180.0])
    assert math.degrees(math.atan2(ray[0], ray[2])) == pytest.approx(35.0, abs=0.1)


@pytest.mark.parametrize(
    "text", ["fisheye", "pinhole", "pinhole:1,2,3", "pinhole:a,b,c,d", "strip:3", "pinhole:-1,1,1,1"]
)
def test_cameras_that_are_none(text):
    with pytest.raises(InputError):
        locate.parse_camera(text, 640, 360)


def test_a_pitched_camera_looks_down_and_columns_to_the_right_are_to_the_right(tmp_path):
    cv2.imwrite(str(tmp_path / "g.png"), np.zeros((360, 640, 3), np.uint8))
    given = options("--camera", "pinhole:600,600,320,180", "--camera-pitch-deg", "10", "--camera-height", "1.5")
    given.ground = tmp_path / "g.png"
    frame = locate.ground_frame(given)
    rays, _ = frame.camera.unproject(np.array([[320.0, 180.0], [600.0, 180.0]]))
    ahead, right = rays @ frame.T_base_camera[:3, :3].T
    assert np.allclose(ahead, [math.cos(math.radians(10)), 0.0, -math.sin(math.radians(10))], atol=1e-9)
    assert right[1] < 0.0, "y points left"
    assert frame.T_base_camera[2, 3] == 1.5


@pytest.mark.parametrize("heading_deg, yaw_deg", [(0.0, 90.0), (90.0, 0.0), (-90.0, 180.0), (225.0, -135.0)])
def test_headings_count_clockwise_from_image_up(heading_deg, yaw_deg):
    prior = locate.search_prior(options("--heading-prior-deg", str(heading_deg), "--heading-range-deg", "7"), AERIAL)
    assert abs(math.remainder(prior.yaw_rad - math.radians(yaw_deg), 2 * math.pi)) < 1e-9
    assert math.degrees(prior.yaw_range_rad) == pytest.approx(7.0)
    row = locate.result_row(Estimate(0, 0.0, 0.0, prior.yaw_rad, np.eye(3)), AERIAL)
    assert row["heading_deg"] == pytest.approx(heading_deg % 360.0)


def test_unknown_heading_searches_all_and_the_square_stays_on_the_image():
    prior = locate.search_prior(options(), AERIAL)
    assert prior.yaw_range_rad == math.pi
    assert prior.radius_m == 20.0
    small = ImageMap(np.zeros((100, 100, 3), np.uint8), 0.2)
    assert locate.search_prior(options(), small).radius_m == pytest.approx(10.0)


@pytest.mark.parametrize(
    "words",
    [
        ("--search-radius-m", "200"),
        ("--search-radius-m", "0"),
        ("--heading-range-deg", "10"),
        ("--heading-prior-deg", "0", "--heading-range-deg", "0"),
    ],
)
def test_impossible_searches_are_refused(words):
    with pytest.raises(InputError):
        locate.search_prior(options(*words), AERIAL)


def test_east_is_right_and_north_is_up():
    row = locate.result_row(Estimate(0, 3.0, 5.0, 0.0, np.diag([1.0, 2.0, 3.0])), AERIAL)
    assert (row["dx_px"], row["dy_px"]) == (pytest.approx(15.0), pytest.approx(-25.0))
    assert (row["east_m"], row["north_m"]) == (3.0, 5.0)
    assert row["covariance"][1][1] == 2.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> dict[str, Path]:
    """Two pictures and networks that have learned nothing: what is tested is the way, not the place found."""
    import torch

    from cross_view_loc.depth.learned import DepthNetwork
    from cross_view_loc.matching.encoders import Matcher
    from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, save_weights

    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(0)
    save_weights(folder / MATCHER_FILE, Matcher().state_dict(), {})
    save_weights(folder / DEPTH_FILE, DepthNetwork().state_dict(), {})
    random = np.random.default_rng(0)
    for name, shape in (("ground.png", (18, 32, 3)), ("aerial.png", (30, 30, 3))):
        picture = cv2.resize(random.integers(0, 255, shape, np.uint8), None, fx=20, fy=20)
        cv2.imwrite(str(folder / name), picture)
    return {"ground": folder / "ground.png", "aerial": folder / "aerial.png", "weights": folder}


@pytest.mark.parametrize("depth", ["flat", "learned"])
def test_two_pictures_give_one_json_object(pair, depth, capfd):
    words = ["locate", "--ground", pair["ground"], "--aerial", pair["aerial"], "--gsd", "0.2", "--depth", depth]
    words += ["--heading-prior-deg", "0", "--search-radius-m", "8", "--weights-dir", pair["weights"], "--json"]
    assert main([str(word) for word in words]) == 0
    row = json.loads(capfd.readouterr().out)
    promised = "dx_px dy_px east_m north_m heading_deg covariance confidence accepted reason"
    assert set(promised.split()) <= set(row)
    # Refinement may step a little over the border of what was searched.
    assert max(abs(row["east_m"]), abs(row["north_m"])) <= 12.0
    assert abs(math.remainder(row["heading_deg"], 360.0)) <= 20.0
    assert np.linalg.eigvalsh(np.array(row["covariance"])).min() > 0.0
    assert row["accepted"] or row["reason"]


@pytest.mark.parametrize("missing", ["ground", "aerial"])
@pytest.mark.parametrize("content", [None, b"no picture"])
def test_files_that_are_no_pictures_are_named(pair, tmp_path, missing, content, capsys):
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    files = {**pair, missing: bad}
    assert main(["locate", "--ground", str(files["ground"]), "--aerial", str(files["aerial"]), "--gsd", "0.2"]) == 1
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "bad.jpg" in sentence


@pytest.mark.parametrize("gsd", ["0", "-1", "nan"])
def test_gsd_must_be_a_size(pair, gsd, capsys):
    words = ["locate", "--ground", str(pair["ground"]), "--aerial", str(pair["aerial"]), "--gsd", gsd]
    assert main(words) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_uncertain_camera_height_widens_the_scale():
    assert locate.relative_height_std(options("--camera-height", "2.5")) == pytest.approx(0.2)
    known = options("--camera-height", "2.5", "--camera-height-std", "0.05")
    assert locate.relative_height_std(known) == pytest.approx(0.02)
    with pytest.raises(InputError, match="camera-height-std"):
        locate.relative_height_std(options("--camera-height-std", "-1"))
