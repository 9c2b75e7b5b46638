"""Depth computed beforehand: one 16-bit PNG for each image of a data set, in a tree like the images' own.

    DIR/depth.json                   what the numbers are and where they come from (`Provenance`)
    DIR/…/NAME.png                   uint16, 1/512 m a unit (error below 1 mm, up to 127.99 m), 0 unknown or beyond
    DIR/…/NAME.spread.png            uint8, only of sources that say how sure they are: log of the relative deviation

Depth counts along the optical axis of a pinhole (`z`) and along the ray of any other camera (`range`).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.measured import MeasuredDepth
from cross_view_loc.depth.model import Along
from cross_view_loc.depth.source import Depth
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.cameras import Camera, PinholeCamera
from cross_view_loc.geometry.lifting import ViewGeometry
from cross_view_loc.geometry.views import View

SIDECAR = "depth.json"
FORMAT = "cross_view_loc depth 1"
UNITS_PER_M = 512
_LEAST_LOG_SPREAD, _SPREADS_PER_UNIT = -6.0, 32.0
"""A byte holds −6 to 1.97 in steps of 1/32."""


@dataclass(frozen=True)
class Provenance:
    """What the sidecar says."""

    source: str
    """As `--depth` was given."""
    along: Along
    kind: str
    """ "metric" or "flat", as a depth source's."""
    log_scale_std: float
    licence: str
    """Of the weights; empty when nobody says."""
    weights_sha256: str
    """Of the weights' files one after another; empty when there are none."""
    layout: str
    cameras: str
    """ "by the data set", or what `--camera` and its options said."""
    pixels_shrunk: int = 1
    """Pixels of the image along one of the depth's."""
    units_per_m: int = UNITS_PER_M
    format: str = FORMAT


@dataclass(frozen=True)
class DepthMaps:
    """Depth of one image."""

    depth_m: NDArray[np.float32]
    """(h, w); 0 unknown."""
    log_spread: NDArray[np.float32] | None = None
    """(h, w)"""


def along_of(camera: Camera) -> Along:
    """What stored depth counts along."""
    return "z" if isinstance(camera, PinholeCamera) else "range"


def depth_name(image: Path) -> Path:
    """The depth's path for an image's path in its tree."""
    return image.with_suffix(".png")


def _spread_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.spread.png")


def write_maps(path: Path, maps: DepthMaps) -> None:
    """Write to `path` so that a half-written file never has the name. Values beyond the format's reach are unknown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if maps.log_spread is not None:  # first: the depth's file says that both are there
        _write_png(_spread_path(path), spread_bytes(maps.log_spread))
    else:
        _spread_path(path).unlink(missing_ok=True)
    units = np.rint(np.nan_to_num(maps.depth_m.astype(np.float64), posinf=0.0) * UNITS_PER_M)
    _write_png(path, np.where((units >= 1) & (units <= 65535), units, 0).astype(np.uint16))


def spread_bytes(log_spread: NDArray[np.float32]) -> NDArray[np.uint8]:
    """As `NAME.spread.png` holds it."""
    return np.clip(np.rint((log_spread - _LEAST_LOG_SPREAD) * _SPREADS_PER_UNIT), 0, 255).astype(np.uint8)


def read_maps(path: Path) -> DepthMaps | None:
    """What `write_maps` wrote, or None when a file is damaged or of another kind."""
    units = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if is_whole(path) else None
    if units is None or units.dtype != np.uint16 or units.ndim != 2:
        return None
    depth_m = (units / np.float32(UNITS_PER_M)).astype(np.float32)
    spread_path = _spread_path(path)
    if not spread_path.is_file():
        return DepthMaps(depth_m)
    spread = cv2.imread(str(spread_path), cv2.IMREAD_UNCHANGED) if is_whole(spread_path) else None
    if spread is None or spread.dtype != np.uint8 or spread.shape != depth_m.shape:
        return None
    return DepthMaps(depth_m, (spread / np.float32(_SPREADS_PER_UNIT) + np.float32(_LEAST_LOG_SPREAD)))


def is_whole(path: Path) -> bool:
    """Whether a file is there and, if it is a PNG or JPEG, has its end: decoders fill what is missing with grey."""
    if not path.is_file():
        return False
    end_mark = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}.get(path.suffix.lower(), b"")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))  # some cameras write more behind it
        return end_mark in file.read()


def write_sidecar(folder: Path, provenance: Provenance) -> None:
    """Write `depth.json`, making the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / SIDECAR, (json.dumps(asdict(provenance), indent=2) + "\n").encode())


def read_sidecar(folder: Path) -> Provenance:
    """Raises MissingInputError when there is none, InputError when it is of another format."""
    path = folder / SIDECAR
    if not path.is_file():
        raise MissingInputError(
            f"there is no precomputed depth in {folder}: it has no {SIDECAR}; make it with `cross_view_loc depth`"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Provenance(**{field.name: values[field.name] for field in fields(Provenance)})
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}); make the depth again with --force") from error
    if found.format != FORMAT or found.units_per_m != UNITS_PER_M:
        raise InputError(f"{path} is of the format '{found.format}', not '{FORMAT}'; make the depth again")
    return found


class PrecomputedDepth:
    """Depth of the images of a data set, read from a folder; as a depth source it has to be shown each image's path.

    One image at a time: it serves frames of one camera.
    """

    def __init__(self, folder: Path) -> None:
        """Raises MissingInputError, InputError as `read_sidecar`."""
        self.folder, self.provenance = folder, read_sidecar(folder)
        self.kind, self.log_scale_std = self.provenance.kind, self.provenance.log_scale_std
        self._current: MeasuredDepth | None = None

    def maps(self, image: Path | str) -> DepthMaps:
        """What belongs to an image: the longest end of its path that names a file here.

        Raises MissingInputError when there is none, InputError when it is damaged.
        """
        parts = Path(image).absolute().parts
        for first in range(1, len(parts)):
            path = self.folder / depth_name(Path(*parts[first:]))
            if path.is_file():
                found = read_maps(path)
                if found is None:
                    raise InputError(f"{path} is damaged; run `cross_view_loc depth` again, which replaces it")
                return found
        raise MissingInputError(
            f"{self.folder} has no depth of {image}; run `cross_view_loc depth` for this data set again"
        )

    def depth_m(self, image: Path | str, camera: Camera) -> NDArray[np.float32]:
        """(h, w) metres, along the axis of a pinhole, along the rays of any other camera; 0 unknown. Raises as `maps`.

        InputError also when the depth has another shape than the camera's images.
        """
        found = self.maps(image).depth_m
        self._check(found, image, camera)
        return found

    def source(
        self, depth_m: NDArray[np.float32], camera: Camera, log_spread: NDArray[np.float32] | None = None
    ) -> MeasuredDepth:
        """A depth source of one image's depth (rolled as one likes), as sure of its scale as where it comes from."""
        along = self.provenance.along
        source = MeasuredDepth(depth_m, camera, along=along, log_spread=log_spread, interpolates=True)
        source.kind, source.log_scale_std = self.kind, self.log_scale_std
        return source

    def show(self, image: Path | str, camera: Camera) -> None:
        """The image that the next calls are about. Raises as `depth_m`."""
        maps = self.maps(image)
        self._check(maps.depth_m, image, camera)
        self._current = self.source(maps.depth_m, camera, maps.log_spread)

    def __call__(
        self, image: NDArray[np.uint8], view: View, geometry: ViewGeometry, rays: NDArray[np.float64]
    ) -> Depth:
        """As `DepthSource`. Raises InputError before any image was shown."""
        if self._current is None:
            raise InputError(
                f"precomputed:{self.folder} knows the images of a data set by their files, which come from elsewhere "
                "here; choose another depth source"
            )
        return self._current(image, view, geometry, rays)

    def _check(self, depth_m: NDArray[np.float32], image: Path | str, camera: Camera) -> None:
        if not fits(depth_m.shape, camera.width, camera.height, self.provenance.pixels_shrunk):
            raise InputError(
                f"the depth of {image} in {self.folder} is {depth_m.shape[1]}x{depth_m.shape[0]}, which does not fit "
                f"images of {camera.width}x{camera.height}; make it again from these images"
            )


def open_depth(folder: Path | str) -> PrecomputedDepth:
    """The depth in a folder that `cross_view_loc depth` wrote. Raises MissingInputError, InputError."""
    return PrecomputedDepth(Path(folder))


def stored_shape(width: int, height: int, shrink: int) -> tuple[int, int]:
    """(h, w) of the depth of an image."""
    return max(1, round(height / shrink)), max(1, round(width / shrink))


def fits(shape: tuple[int, ...], width: int, height: int, shrink: int) -> bool:
    """Whether depth of that shape belongs to images of that size."""
    return tuple(shape) == stored_shape(width, height, shrink)


def _write_png(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    done, data = cv2.imencode(".png", values)
    if not done:
        raise OSError(28, "cannot encode the depth", str(path))
    _replace(path, data.tobytes())


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)
