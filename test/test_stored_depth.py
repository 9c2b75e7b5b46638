"""Depth kept on disk: the format's bytes, what is asked of sources, and the command that fills a folder."""

import json
import math

import cv2
import numpy as np
import pytest

from cross_view_loc import cli
from cross_view_loc.depth.choose import make_depth
from cross_view_loc.depth.source import FlatGround
from cross_view_loc.depth.stored import DepthMaps, open_depth, read_maps, write_maps
from cross_view_loc.depth.whole_image import depth_of_image
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.geometry.views import plan_views
from cross_view_loc.types import Frame

HEIGHT_M, PITCH_DEG = 1.65, 3.0
MOUNT = transform(rpy(0.0, math.radians(PITCH_DEG), 0.0) @ R_BODY_OPTICAL, (0.0, 0.0, HEIGHT_M))
CAMERA = "pinhole:200,200,161,95"
CAMERAS = (
    PinholeCamera(320, 180, 200.0, 200.0, 130.0, 90.0),
    EquirectangularCamera(256, 128),
    FisheyeCamera(240, 150, 75.0, 75.0, 120.0, 75.0),
)


def frame_of(camera, mount=MOUNT):
    return Frame(np.full((camera.height, camera.width, 3), 99, np.uint8), camera, 0, mount)


def test_a_file_holds_what_other_software_reads_to_a_millimetre(tmp_path):
    depth_m = np.array([[0.0, 1.2345, 39.9999], [127.9, 128.2, np.inf], [np.nan, 0.0001, 7.0]], np.float32)
    spread = np.linspace(-5.0, 1.0, 9, dtype=np.float32).reshape(3, 3)
    write_maps(tmp_path / "a" / "x.png", DepthMaps(depth_m, spread))
    raw = cv2.imread(str(tmp_path / "a" / "x.png"), cv2.IMREAD_UNCHANGED)
    assert raw.dtype == np.uint16 and raw[2, 2] == 7 * 512
    found = read_maps(tmp_path / "a" / "x.png")
    expected = np.array([[0.0, 1.2345, 39.9999], [127.9, 0.0, 0.0], [0.0, 0.0, 7.0]])
    np.testing.assert_allclose(found.depth_m, expected, atol=0.001)
    np.testing.assert_allclose(found.log_spread, spread, atol=1 / 64 + 1e-6)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["x.png", "x.spread.png"]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: type(camera).__name__)
def test_flat_ground_is_found_at_every_pixel_whichever_way_it_looks(camera):
    """Z for a pinhole, range for panorama and fisheye: the ray's plane intersection, also behind the camera."""
    maps = depth_of_image(frame_of(camera), FlatGround())
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays, valid = camera.unproject(np.stack([columns, rows], axis=-1))
    down = -(rays @ MOUNT[:3, :3].T)[..., 2]
    range_m = HEIGHT_M / np.where(down > 0.01, down, np.nan)
    expected = range_m * rays[..., 2] if isinstance(camera, PinholeCamera) else range_m
    known = maps.depth_m > 0
    np.testing.assert_allclose(maps.depth_m[known], expected[known], rtol=1e-5)
    # Views look no lower than the localizer, and those of a fisheye not into its corners, which see what is behind.
    wanted = (
        valid & (range_m < 12.0) & (range_m > 8.0) & ((rays[..., 2] > 0) | isinstance(camera, EquirectangularCamera))
    )
    assert np.mean(known[wanted]) > 0.99


def write_sidecar_for(folder, camera_text, root):
    words = ["depth", str(root), "--depth", "flat", "--camera", camera_text, "--camera-height", str(HEIGHT_M)]
    return cli.main([*words, "--camera-pitch-deg", str(PITCH_DEG), "--out", str(folder)])


@pytest.mark.parametrize(
    ("camera", "text"),
    [(CAMERAS[0], "pinhole:200,200,130,90"), (CAMERAS[1], "equirectangular"), (CAMERAS[2], "fisheye:75,75,120,75")],
    ids=["pinhole", "panorama", "fisheye"],
)
def test_stored_depth_says_in_every_view_what_its_source_said(tmp_path, camera, text):
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "one.png"
    cv2.imwrite(str(image), np.full((camera.height, camera.width, 3), 99, np.uint8))
    assert write_sidecar_for(tmp_path / "depth", text, tmp_path / "images") == 0
    stored = make_depth(f"precomputed:{tmp_path / 'depth'}", tmp_path, "cpu")
    assert stored.kind == "flat" and stored.log_scale_std == FlatGround.log_scale_std
    stored.show(image, camera)
    frame = frame_of(camera)
    compared = 0
    for view in plan_views(camera, MOUNT):
        geometry, rays = ViewGeometry.of(frame, view), view.rays(8, 8)
        live = FlatGround()(frame.image, view, geometry, rays).z_m
        kept = stored(frame.image, view, geometry, rays)
        assert kept.log_spread is None
        both = (live > 0) & (live < 8.0) & (kept.z_m > 0)
        # The nearest pixel's depth: in a panorama of 1.4° a pixel, some metres away, that is a good tenth.
        np.testing.assert_allclose(kept.z_m[both], live[both], rtol=0.13)
        compared += both.sum()
        assert np.mean(np.abs(kept.z_m[both] / live[both] - 1.0)) < 0.04
    assert compared > 100
    with pytest.raises(InputError, match="does not fit images of 100x50"):
        stored.show(image, EquirectangularCamera(100, 50))


def pictures(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (190, 322, 3), np.uint8))


def run(root, *words):
    return cli.main(["depth", str(root), "--camera", CAMERA, *words])


def test_a_folder_is_resumed_mended_and_its_bad_images_are_named(tmp_path, capsys):
    root, out = tmp_path / "photos", tmp_path / "photos_depth"
    pictures(root, ["a.png", "c.jpg"])
    pictures(root / "b", ["a.png"])
    whole = (root / "a.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "no.jpg").write_bytes(b"this is text")
    assert run(root, "--json") == 1
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert (told["made"], told["kept"], told["bad"]) == (3, 0, 2)
    assert {problem["image"] for problem in told["problems"]} == {str(root / "cut.png"), str(root / "no.jpg")}
    assert "cut.png cannot be read as an image" in output.err
    expected = ["a.png", "a.spread.png", "b/a.png", "b/a.spread.png", "c.png", "c.spread.png", "depth.json"]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == expected
    sidecar = json.loads((out / "depth.json").read_text())
    assert (sidecar["source"], sidecar["along"], sidecar["units_per_m"]) == ("learned", "z", 512)
    assert sidecar["licence"] == "Apache-2.0" and len(sidecar["weights_sha256"]) == 64
    assert CAMERA in sidecar["cameras"]

    good, stamp = (out / "c.png").read_bytes(), (out / "a.png").stat().st_mtime_ns
    (root / "cut.png").unlink()
    (root / "no.jpg").unlink()
    (out / "c.png").write_bytes(good[: len(good) // 2])
    (out / "b" / "a.spread.png").write_bytes(b"")
    assert run(root, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["kept"], told["bad"]) == (2, 1, 0)
    assert (out / "a.png").stat().st_mtime_ns == stamp and (out / "c.png").read_bytes() == good
    assert read_maps(out / "b" / "a.png").log_spread is not None

    assert run(root, "--depth", "flat") == 1
    assert "source is 'learned', not 'flat'" in capsys.readouterr().err
    assert run(root, "--depth", "flat", "--force", "--shrink", "2") == 0
    found = open_depth(out).maps(root / "a.png")
    assert found.depth_m.shape == (95, 161) and found.log_spread is None


def test_depth_belongs_to_the_longest_end_of_an_images_path(tmp_path):
    root, out = tmp_path / "photos", tmp_path / "depth"
    pictures(root, ["a.png"])
    pictures(root / "b", ["a.png"])
    assert run(root, "--depth", "flat", "--camera-pitch-deg", "0", "--out", str(out)) == 0
    write_maps(out / "b" / "a.png", DepthMaps(np.full((190, 322), 5.0, np.float32)))
    camera = PinholeCamera(322, 190, 200.0, 200.0, 161.0, 95.0)
    stored = open_depth(out)
    assert np.all(stored.depth_m(root / "b" / "a.png", camera) == 5.0)
    assert not np.all(stored.depth_m(root / "a.png", camera) == 5.0)
    with pytest.raises(MissingInputError, match=r"no depth of .*other\.png"):
        stored.depth_m(root / "other.png", camera)
    with pytest.raises(InputError, match="choose another depth source"):
        stored(np.zeros((192, 320, 3), np.uint8), *(None,) * 3)
    (out / "depth.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        open_depth(out)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--layout", "kitti", "--camera", CAMERA], "--camera"),
        (["--layout", "images"], "needs --camera"),
        (["--camera", CAMERA, "--shrink", "0"], "--shrink 0"),
        (["--camera", CAMERA, "--depth", "precomputed:x"], "precomputed"),
        (["--camera", CAMERA, "--out", "."], "is the folder of the images"),
        (["--layout", "vigor"], "no images"),
        (["--camera", CAMERA, "--out", "full"], "something else"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path, monkeypatch, capsys, words, named):
    root = tmp_path / "photos"
    pictures(root, ["a.png"])
    (root / "full").mkdir()
    (root / "full" / "thesis.txt").write_text("precious")
    monkeypatch.chdir(root)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert cli.main(["depth", ".", *words]) == 1
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_names_that_would_share_a_depth_are_refused(tmp_path, capsys):
    pictures(tmp_path / "photos", ["a.png", "a.jpg"])
    assert run(tmp_path / "photos", "--depth", "flat") == 1
    assert "would share the depth" in capsys.readouterr().err
