"""cv_bridge and tf_transformations where they are installed, NumPy where they are not: the same pictures and rotations.

Neither is among the wheels, so stand-ins do here what the real ones do by their documentation and sources; in a ROS
installation the tests run against the real ones as well.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from test_images import H, W, message, picture

from cross_view_loc.errors import InputError
from cross_view_loc.geometry import transforms
from cross_view_loc.inputs import ros_packages
from cross_view_loc.inputs.images import decode
from cross_view_loc.inputs.poses import rotation_of

HAS = {name: importlib.util.find_spec(name) is not None for name in ("cv_bridge", "tf_transformations")}


class BridgeLikeTheRealOne:
    """imgmsg_to_cv2 of cv_bridge: a view of the data by `step`, then OpenCV's conversion to the wanted encoding."""

    CODES: ClassVar = {
        "bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB,
        "mono8": cv2.COLOR_GRAY2RGB,
        "yuv422": cv2.COLOR_YUV2RGB_UYVY, "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2, "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
        "bayer_bggr8": cv2.COLOR_BayerRG2RGB, "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
        "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    }  # fmt: skip
    CHANNELS: ClassVar = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "yuv422": 2, "yuv422_yuy2": 2}
    asked: list[str]

    def imgmsg_to_cv2(self, image, desired_encoding="passthrough"):
        self.asked.append(image.encoding)
        assert desired_encoding == "rgb8" and not image.is_bigendian
        channels = self.CHANNELS.get(image.encoding, 1)
        pixels = np.frombuffer(bytes(image.data), np.uint8).reshape(image.height, image.step)[
            :, : image.width * channels
        ]
        pixels = np.ascontiguousarray(pixels).reshape(image.height, image.width, channels)
        return pixels if image.encoding == "rgb8" else cv2.cvtColor(pixels, self.CODES[image.encoding])


@pytest.fixture(params=["stand-in", "real"])
def bridge(request, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """With cv_bridge; the encodings it was given (None of the real one's)."""
    asked: list[str] = []
    if request.param == "stand-in":
        module = ModuleType("cv_bridge")
        kind = type("CvBridge", (BridgeLikeTheRealOne,), {"asked": asked})
        module.CvBridge = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
    elif not HAS["cv_bridge"]:
        pytest.skip("cv_bridge is not installed")
    clear = ros_packages.installed.cache_clear
    clear()
    yield asked
    clear()


def _samples() -> Iterator[tuple[str, SimpleNamespace]]:
    rgb = picture()
    orders = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 1], "mono8": [1]}
    random = np.random.default_rng(0)
    for padding in (0, 6):
        for encoding, channels in orders.items():
            yield encoding, message(rgb[..., channels], encoding, padding=padding)
        for pattern in ("rggb", "bggr", "gbrg", "grbg"):
            mosaic = random.integers(0, 255, (H, W), dtype=np.uint8)
            yield f"bayer_{pattern}8", message(mosaic, f"bayer_{pattern}8", padding=padding)
        for encoding in ("yuv422", "yuv422_yuy2"):
            packed = random.integers(0, 255, (H, W * 2), dtype=np.uint8)
            yield encoding, message(packed, encoding, padding=padding)
        for big in (False, True):
            deep = random.integers(0, 65535, (H, W)).astype(">u2" if big else "<u2")
            for encoding in ("mono16", "bayer_rggb16"):
                yield encoding, message(deep, encoding, big=big, padding=padding)


@pytest.mark.parametrize("number", range(len(list(_samples()))))
def test_pictures_are_the_same_with_and_without_cv_bridge(number: int, bridge, monkeypatch) -> None:
    encoding, sent = list(_samples())[number]
    with_it = decode(sent)
    monkeypatch.setattr(ros_packages, "installed", lambda name: None)
    without = decode(sent)
    assert with_it.dtype == without.dtype == np.uint8 and with_it.flags.c_contiguous
    np.testing.assert_array_equal(with_it, without, err_msg=encoding)


def test_cv_bridge_is_asked_only_what_it_does_right(bridge, request) -> None:
    if request.node.callspec.params["bridge"] == "real":
        pytest.skip("nobody counts what the real one is asked")
    for _, sent in _samples():
        decode(sent)
    plain = {encoding for encoding, sent in _samples() if not encoding.endswith("16")}
    assert sorted(bridge) == sorted(plain), "once each: not those with padded rows, nor of 16 bits"


def test_cv_bridge_that_fails_is_replaced(monkeypatch) -> None:
    class Broken:
        def imgmsg_to_cv2(self, *_, **__):
            raise TypeError("built for another OpenCV")

    monkeypatch.setattr(ros_packages, "installed", lambda name: SimpleNamespace(CvBridge=Broken))
    np.testing.assert_array_equal(decode(message(picture(), "rgb8")), picture())


def test_package_that_cannot_be_imported_is_none(monkeypatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "broken_package":
                raise RuntimeError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert ros_packages.installed("broken_package") is None


@pytest.fixture(params=["stand-in", "real"])
def tf_transformations(request, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of that name: quaternions as (x, y, z, w), any length, matrices of 4x4."""
    if request.param == "stand-in":
        module = ModuleType("tf_transformations")

        def quaternion_matrix(quaternion):
            x, y, z, w = np.asarray(quaternion, float)
            norm = x * x + y * y + z * z + w * w
            if norm < np.finfo(float).eps:
                return np.eye(4)
            s = 2.0 / norm
            R = np.eye(3) + s * np.array(
                [
                    [-(y * y + z * z), x * y - w * z, x * z + w * y],
                    [x * y + w * z, -(x * x + z * z), y * z - w * x],
                    [x * z - w * y, y * z + w * x, -(x * x + y * y)],
                ]
            )
            return transforms.transform(R, (0, 0, 0))

        def quaternion_from_matrix(matrix):
            return -transforms.to_quaternion(np.asarray(matrix)[:3, :3])  # the sign is left to the reader

        module.quaternion_matrix, module.quaternion_from_matrix = (  # type: ignore[attr-defined]
            quaternion_matrix,
            quaternion_from_matrix,
        )
        monkeypatch.setitem(sys.modules, "tf_transformations", module)
    elif not HAS["tf_transformations"]:
        pytest.skip("tf_transformations is not installed")
    ros_packages.installed.cache_clear()
    yield
    ros_packages.installed.cache_clear()


def test_rotations_are_the_same_with_and_without_tf_transformations(tf_transformations) -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        x, y, z, w = random.normal(size=4) * 3.0
        R = rotation_of(SimpleNamespace(x=x, y=y, z=z, w=w))
        np.testing.assert_allclose(R, transforms.from_quaternion(x, y, z, w), atol=1e-12)
        np.testing.assert_allclose(ros_packages.quaternion_from_rotation(R), transforms.to_quaternion(R), atol=1e-9)
    with pytest.raises(InputError, match="is not a rotation"):
        rotation_of(SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0))
