"""UniK3D and UniDepth through stand-ins with the calls of their public descriptions."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from cross_view_loc.depth.universal import UniversalDepth
from cross_view_loc.errors import ModelError

SHAPE, FOCAL = (6, 8), np.array([10.0, np.nan])


class Pinhole:
    def __init__(self, params=None, K=None):
        matrix = None if K is None else K[0]
        self.fx, self.cx, self.cy = (
            (params[0], params[2], params[3]) if K is None else (matrix[0, 0], matrix[0, 2], matrix[1, 2])
        )


class Network:
    """Everything is at z = 4, seen by the camera given or, without one, by one of 20 px."""

    @classmethod
    def from_pretrained(cls, where, local_files_only):
        assert local_files_only
        if "missing" in where:
            raise OSError("no config.json\nin there")
        return cls()

    def to(self, device):
        return self

    def eval(self):
        return self

    def infer(self, rgb, camera=None):
        assert rgb.dtype == torch.uint8 and rgb.shape == (3, *SHAPE)
        fx, cx, cy = (camera.fx, camera.cx, camera.cy) if camera else (20.0, SHAPE[1] / 2, SHAPE[0] / 2)
        v, u = torch.meshgrid(torch.arange(SHAPE[0]) + 0.5, torch.arange(SHAPE[1]) + 0.5, indexing="ij")
        depth = torch.full(SHAPE, 4.0)
        depth[0, 0] = float("nan")
        points = torch.stack([(u - cx) / fx * depth, (v - cy) / fx * depth, depth])
        return {"depth": depth[None, None], "points": points[None]}


@pytest.fixture(params=["unik3d", "unidepth"])
def package(request, monkeypatch):
    name = request.param
    for path in (name, f"{name}.models", f"{name}.utils", f"{name}.utils.camera"):
        monkeypatch.setitem(sys.modules, path, ModuleType(path))
    setattr(sys.modules[f"{name}.models"], {"unik3d": "UniK3D", "unidepth": "UniDepthV2"}[name], Network)
    sys.modules[f"{name}.utils.camera"].Pinhole = Pinhole
    return name


def test_unik3d_gives_range_and_unidepth_z_for_the_camera_that_is_told(package, tmp_path):
    model = UniversalDepth(tmp_path, package, name="tiny", licence="CC-BY-NC-SA-4.0")
    assert (model.measure, model.along) == ("metric", "range" if package == "unik3d" else "z")
    found = model(np.zeros((2, *SHAPE, 3), np.uint8), FOCAL)
    assert np.isnan(found[:, 0, 0]).all()
    v, u = np.mgrid[:6, :8] + 0.5
    for each, focal in zip(found, (10.0, 20.0), strict=True):
        ranges = 4.0 * np.sqrt(1 + ((u - 4) ** 2 + (v - 3) ** 2) / focal**2)
        expected = ranges if package == "unik3d" else np.full(SHAPE, 4.0)
        np.testing.assert_allclose(each.ravel()[1:], expected.ravel()[1:], rtol=1e-6)


def test_range_can_be_overridden(package, tmp_path):
    found = UniversalDepth(tmp_path, package, along="z")(np.zeros((1, *SHAPE, 3), np.uint8), FOCAL[:1])
    np.testing.assert_allclose(found[0].ravel()[1:], 4.0)


def test_missing_files_and_packages_say_what_to_do(package, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"cannot be loaded \(no config\.json\)"):
        UniversalDepth(tmp_path / "missing", package)
    monkeypatch.setitem(sys.modules, f"{package}.models", None)
    with pytest.raises(ModelError, match=rf"needs the package '{package}'.*install it from github\.com"):
        UniversalDepth(tmp_path, package)
