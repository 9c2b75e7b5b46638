"""An estimate from depth computed beforehand is the one from depth computed live."""

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("warp", reason="the town needs the extra: pip install cross_view_loc[sim]")

from cross_view_loc.depth.batch import Job, Work, compute
from cross_view_loc.depth.choose import make_depth
from cross_view_loc.depth.stored import Provenance, open_depth, write_sidecar
from cross_view_loc.evaluation.town import make_bench
from cross_view_loc.geometry.cameras import EquirectangularCamera
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.networks.weights import SHIPPED


@pytest.mark.parametrize("cameras", ["front", "panorama"])
def test_the_same_place_is_found(tmp_path, cameras):
    """To a fifth of its own deviation, where one mode is clearly best: cells at edges differ by a few percent."""
    bench = make_bench(9004, 2, cameras=cameras, town_size_m=260.0)
    moment = bench.frames[0]
    (frame,) = moment.frames
    is_panorama = isinstance(frame.camera, EquirectangularCamera)
    camera = frame.camera
    text = "equirectangular" if is_panorama else f"pinhole:{camera.fx},{camera.fy},{camera.cx},{camera.cy}"
    image, out = tmp_path / "images" / "one.png", tmp_path / "depth"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.ascontiguousarray(frame.image[..., ::-1]))
    source = make_depth("learned", SHIPPED, "cpu")
    along = "range" if is_panorama else "z"
    write_sidecar(out, Provenance("learned", along, source.kind, source.log_scale_std, "", "", "images", text))
    job = Job(image, out / "one.png", text, frame.T_base_camera)
    assert compute(job, Work("learned", SHIPPED, "cpu"), source).outcome == "made"

    live = Localizer(bench.orthophoto, LocalizerSettings()).locate([frame], moment.prior)
    stored = open_depth(out)
    stored.show(image, camera)
    kept = Localizer(bench.orthophoto, LocalizerSettings(), depth=stored).locate([frame], moment.prior)
    std_m = math.sqrt(float(np.linalg.eigvalsh(live.covariance[:2, :2])[-1]))
    assert math.hypot(live.east_m - kept.east_m, live.north_m - kept.north_m) < 0.2 * std_m
    turn_rad = abs(math.remainder(live.yaw_rad - kept.yaw_rad, 2 * math.pi))
    assert turn_rad < 0.3 * math.sqrt(live.covariance[2, 2])
    np.testing.assert_allclose(np.sqrt(np.diag(kept.covariance)), np.sqrt(np.diag(live.covariance)), rtol=0.1)
