"""Image messages to (H, W, 3) RGB, for ROS and rosbags messages alike, with and without cv_bridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError
from cross_view_loc.inputs.ros_packages import rgb_by_cv_bridge

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Encoding:
    """How the bytes of a pixel are laid out, and what makes RGB of the unpacked array."""

    channels: int
    bits: int
    to_rgb: Callable[[NDArray[Any]], Any]


def _grey(pixels: NDArray[Any]) -> Any:
    return np.repeat(pixels[..., :1], 3, axis=2)


def _opencv(code: int) -> Callable[[NDArray[Any]], Any]:
    return lambda pixels: cv2.cvtColor(np.ascontiguousarray(pixels), code)


def _encodings() -> dict[str, _Encoding]:
    table = {
        "rgb8": _Encoding(3, 8, lambda pixels: pixels),
        "bgr8": _Encoding(3, 8, _opencv(cv2.COLOR_BGR2RGB)),
        "rgba8": _Encoding(4, 8, lambda pixels: pixels[..., :3]),
        "bgra8": _Encoding(4, 8, _opencv(cv2.COLOR_BGRA2RGB)),
        "mono8": _Encoding(1, 8, _grey),
        "rgb16": _Encoding(3, 16, lambda pixels: pixels),
        "bgr16": _Encoding(3, 16, lambda pixels: pixels[..., ::-1]),
        "mono16": _Encoding(1, 16, _grey),
        "yuv422": _Encoding(2, 8, _opencv(cv2.COLOR_YUV2RGB_UYVY)),
        "yuv422_yuy2": _Encoding(2, 8, _opencv(cv2.COLOR_YUV2RGB_YUY2)),
    }
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        # OpenCV's aliases of this form name the pattern by its first row, as ROS does.
        code = getattr(cv2, f"COLOR_Bayer{pattern.upper()}2RGB")
        for bits in (8, 16):
            table[f"bayer_{pattern}{bits}"] = _Encoding(1, bits, _opencv(code))
    # OpenCV's own names, as cv_bridge reads them.
    aliases = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "uyvy": "yuv422", "yuyv": "yuv422_yuy2"}
    return table | {alias: table[name] for alias, name in aliases.items()}


_ENCODINGS = _encodings()


def decode(message: Any) -> Image:
    """(H, W, 3) RGB of a sensor_msgs Image or CompressedImage; 16-bit images keep their upper 8 bits.

    Raises InputError for an unknown encoding, a size that does not fit the data, or a damaged JPEG or PNG.
    """
    return _decode_raw(message) if hasattr(message, "encoding") else _decode_compressed(message)


def _decode_raw(message: Any) -> Image:
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(
            f"image encoding '{message.encoding}' is not a colour or grey image; "
            "have the driver send rgb8, bgr8, mono8, bayer_* or yuv422"
        )
    width, height = int(message.width), int(message.height)
    pixel_bytes = encoding.channels * encoding.bits // 8
    pixels: NDArray[Any] = pixel_rows(message, pixel_bytes)
    bridged = rgb_by_cv_bridge(message, width * pixel_bytes)
    if bridged is not None:
        return bridged
    if encoding.bits == 16:
        pixels = pixels.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    pixels = pixels.reshape(height, width, encoding.channels)
    rgb = np.asarray(encoding.to_rgb(pixels))
    return np.ascontiguousarray(rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8))


def pixel_rows(message: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """(H, W · pixel_bytes) contiguous bytes of a raw image, without what pads its rows; InputError when too few."""
    width, height, step = int(message.width), int(message.height), int(message.step)
    row_bytes = width * pixel_bytes
    data = np.frombuffer(message.data, dtype=np.uint8)
    if width == 0 or height == 0:
        raise InputError(f"image is {width}x{height} pixels; check the camera driver")
    if step < row_bytes or data.size < step * (height - 1) + row_bytes:
        raise InputError(
            f"image of {width}x{height} {message.encoding} with step {step} needs {max(step, row_bytes) * height} "
            f"bytes but holds {data.size}; check the camera driver"
        )
    # The last row may come without its padding.
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    return np.ascontiguousarray(rows)


def _decode_compressed(message: Any) -> Image:
    data = np.frombuffer(message.data, dtype=np.uint8)
    sent_as = f"compressed image ('{message.format}', {data.size} bytes)"
    if data.size == 0:
        raise InputError(f"{sent_as} is empty; check the camera driver")
    # The JPEG library fills the missing part of a cut-off picture with grey and only warns.
    # Drivers of USB cameras hand over their whole buffer: the picture, then zeros.
    sent = data.tobytes().rstrip(b"\0")
    if sent.startswith(b"\xff\xd8") and b"\xff\xd9" not in sent[-1024:]:
        raise InputError(f"{sent_as} is a JPEG that breaks off; check the camera driver or the network")
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise InputError(f"{sent_as} cannot be decoded; send JPEG or PNG colour images")
    # Not a copy with reversed strides, which takes as long as the decoding.
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
