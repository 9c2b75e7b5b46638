"""Every image encoding gives the same RGB picture; damaged ones give one sentence."""

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.images import decode

H, W = 6, 8


def picture() -> np.ndarray:
    """(H, W, 3) RGB whose channels differ, constant in each 2x2 block so that sub-sampled encodings lose nothing."""
    random = np.random.default_rng(3)
    return np.repeat(np.repeat(random.integers(20, 235, (H // 2, W // 2, 3), dtype=np.uint8), 2, axis=0), 2, axis=1)


def message(data: np.ndarray, encoding: str, *, big: bool = False, padding: int = 0, height: int = H, width: int = W):
    rows = np.ascontiguousarray(data).view(np.uint8).reshape(data.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=rows.shape[1], is_bigendian=int(big), data=rows.tobytes()
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    "container", [bytes, lambda data: np.frombuffer(data, np.uint8), lambda d: array.array("B", d)]
)
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 1])],
)
def test_colour_orders(encoding: str, channels: list[int], padding: int, container) -> None:
    rgb = picture()
    sent = message(rgb[..., channels], encoding, padding=padding)
    sent.data = container(sent.data)
    decoded = decode(sent)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, rgb)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(("encoding", "kind"), [("mono16", "u2"), ("rgb16", "u2"), ("bgr16", "u2"), ("mono8", "u1")])
@pytest.mark.parametrize("big", [False, True])
def test_depths_and_byte_orders(encoding: str, kind: str, big: bool, padding: int) -> None:
    rgb = picture()
    wanted = np.repeat(rgb[..., :1], 3, axis=2) if encoding.startswith("mono") else rgb
    pixels = rgb[..., :1] if encoding.startswith("mono") else rgb[..., ::-1] if encoding == "bgr16" else rgb
    stored = (pixels.astype(np.uint16) << 8 | 7).astype((">" if big else "<") + kind) if kind == "u2" else pixels
    np.testing.assert_array_equal(decode(message(stored, encoding, big=big, padding=padding)), wanted)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_name_the_first_row(pattern: str, bits: int) -> None:
    colour = np.array([200, 120, 40])
    tile = np.array([colour["rgb".index(letter)] for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (H // 2, W // 2))
    stored = mosaic.astype(np.uint8) if bits == 8 else (mosaic << 8).astype("<u2")
    decoded = decode(message(stored, f"bayer_{pattern}{bits}"))
    np.testing.assert_array_equal(decoded[2:4, 2:6], np.broadcast_to(colour, (2, 4, 3)))


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", (1, 0, 3, 2)), ("yuv422_yuy2", (0, 1, 2, 3))])
def test_yuv422_byte_orders(encoding: str, order: tuple[int, ...]) -> None:
    y, u, v = 120, 90, 200
    packed = np.array([y, u, y, v])[list(order)].astype(np.uint8)
    decoded = decode(message(np.tile(packed, (H, W // 2)), encoding, padding=3))
    red = 1.164 * (y - 16) + 1.596 * (v - 128)
    green = 1.164 * (y - 16) - 0.813 * (v - 128) - 0.392 * (u - 128)
    blue = 1.164 * (y - 16) + 2.017 * (u - 128)
    np.testing.assert_allclose(decoded, np.broadcast_to([red, green, blue], (H, W, 3)), atol=2)


def test_last_row_may_lack_its_padding() -> None:
    sent = message(picture(), "rgb8", padding=8)
    sent.data = sent.data[:-8]
    np.testing.assert_array_equal(decode(sent), picture())


def compressed(suffix: str = ".png") -> SimpleNamespace:
    _, data = cv2.imencode(suffix, picture()[..., ::-1])
    return SimpleNamespace(format=f"rgb8; {suffix[1:]} compressed bgr8", data=data.tobytes())


def test_compressed_pictures_are_rgb() -> None:
    np.testing.assert_array_equal(decode(compressed(".png")), picture())
    grey = np.full((16, 16, 3), (220, 60, 20), np.uint8)
    _, data = cv2.imencode(".jpg", grey[..., ::-1])
    np.testing.assert_allclose(decode(SimpleNamespace(format="jpeg", data=data.tobytes())), grey, atol=4)


def test_jpeg_may_be_followed_by_zeros() -> None:
    """As from the fixed buffers of USB cameras."""
    sent = compressed(".jpg")
    wanted = decode(sent)
    cut = sent.data[: len(sent.data) // 2] + bytes(5000)
    sent.data = sent.data + bytes(5000)
    np.testing.assert_array_equal(decode(sent), wanted)
    with pytest.raises(InputError, match="breaks off"):
        decode(SimpleNamespace(format="jpeg", data=cut))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1'"),
        ({"encoding": ""}, "encoding ''"),
        ({"width": 0}, "0x6 pixels"),
        ({"height": 60}, "needs"),
        ({"step": 3}, "step 3"),
        ({"data": b""}, "holds 0"),
    ],
)
def test_raw_image_that_cannot_be_is_refused(change: dict, text: str) -> None:
    sent = message(picture(), "rgb8")
    vars(sent).update(change)
    with pytest.raises(InputError, match=text):
        decode(sent)


@pytest.mark.parametrize("damage", [b"", b"not a picture", "cut"])
def test_damaged_compressed_image_is_refused(damage) -> None:
    sent = compressed(".jpg")
    sent.data = sent.data[: len(sent.data) // 2] if damage == "cut" else damage
    with pytest.raises(InputError, match=r"breaks off|empty|cannot be decoded"):
        decode(sent)
