"""One ground image with one aerial image, as public benchmarks have them: what it is, and reading it ahead of use."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.evaluation.metrics import Truth
from cross_view_loc.inputs.camera_text import parse_camera
from cross_view_loc.types import Frame, Prior

READ_AHEAD = 3


@dataclass(frozen=True)
class Pair:
    """One frame of a benchmark. Metres count from the aerial image's middle; `base_link` lies below the camera."""

    name: str
    """As the benchmark's list has it; no two frames of a bench share one."""
    image: Path
    camera: str
    """As in a manifest."""
    image_size: tuple[int, int] | None
    """Width and height that the calibration is for; None: twice as wide as high, a panorama."""
    T_base_camera: NDArray[np.float64]
    R_level_base: NDArray[np.float64]
    aerial: Path
    aerial_px: int
    """Side of the aerial image that `meters_per_pixel` is for."""
    meters_per_pixel: float
    truth: Truth
    prior: Prior
    place: str = ""
    """City, where tiles of cities differ."""
    turn: float = 0.0
    """A panorama's columns are rolled to the right by this share of its width, 0 to 1."""


@dataclass(frozen=True)
class LoadedPair:
    """A pair with its images."""

    pair: Pair
    frame: Frame
    aerial: ImageMap


def refuse_missing(pairs: Sequence[Pair]) -> None:
    """MissingInputError naming the first image that is not there, before hours are spent on the others."""
    for pair in pairs:
        for what, path in (("ground", pair.image), ("aerial", pair.aerial)):
            if not path.is_file():
                raise MissingInputError(
                    f"there is no {what} image at {path}, which the list asks for ({pair.name}); complete the data set"
                )


def load_pair(pair: Pair) -> LoadedPair:
    """Read both images. Raises InputError or MapError when one cannot be read or has another size than it should."""
    image = read_rgb(pair.image)
    height, width = image.shape[:2]
    if pair.image_size is None and width != 2 * height:
        raise InputError(f"{pair.image} is {width}x{height}, no panorama twice as wide as high; download it again")
    if pair.image_size is not None and (width, height) != pair.image_size:
        raise InputError(
            f"{pair.image} is {width}x{height} but its calibration is for {pair.image_size[0]}x{pair.image_size[1]}; "
            "use the rectified images (the 'sync' drives) as downloaded"
        )
    aerial = ImageMap.from_file(pair.aerial, pair.meters_per_pixel)
    if aerial.image.shape[:2] != (pair.aerial_px, pair.aerial_px):
        raise InputError(
            f"{pair.aerial} is {aerial.image.shape[1]}x{aerial.image.shape[0]}, not {pair.aerial_px}x{pair.aerial_px} "
            f"as {pair.meters_per_pixel:g} metres per pixel need it; use the aerial images as downloaded"
        )
    camera = parse_camera(pair.camera, pair.image.parent, width, height)
    rolled = np.ascontiguousarray(np.roll(image, columns_rolled(pair, width), axis=1))
    frame = Frame(rolled, camera, pair.prior.stamp_ns, pair.T_base_camera, pair.R_level_base)
    return LoadedPair(pair, frame, aerial)


def columns_rolled(pair: Pair, width: int) -> int:
    """Whole columns of an image or depth image of that width by which it is rolled to the right."""
    return round(pair.turn * width)


def with_unique_names(pairs: Sequence[Pair]) -> list[Pair]:
    """A frame that is listed again has its count behind its name."""
    counts: Counter[str] = Counter()
    named = []
    for pair in pairs:
        counts[pair.name] += 1
        named.append(pair if counts[pair.name] == 1 else replace(pair, name=f"{pair.name}#{counts[pair.name]}"))
    return named


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3). Raises InputError when it is no image."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise InputError(f"{path} cannot be read as an image; download it again")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def load_ahead(pairs: Sequence[Pair], ahead: int = READ_AHEAD) -> Iterator[LoadedPair]:
    """The pairs in their order, the next ones read by another thread meanwhile; raises what `load_pair` raises."""
    waiting: deque[Future[LoadedPair]] = deque()
    rest = iter(pairs)
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        waiting.extend(reader.submit(load_pair, pair) for pair in islice(rest, ahead))
        try:
            while waiting:
                loaded = waiting.popleft().result()
                waiting.extend(reader.submit(load_pair, pair) for pair in islice(rest, 1))
                yield loaded
        finally:
            reader.shutdown(cancel_futures=True)
