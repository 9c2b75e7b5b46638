"""Georeferenced rasters (GeoTIFF, COG) in any coordinate system pyproj knows; needs the `geotiff` extra."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from cross_view_loc.aerial.origin import parse_map_origin
from cross_view_loc.aerial.resampling import bilinear, on_lattice
from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, wrap_degrees

Array = NDArray[np.float64]

_LATTICE_STEP_PX = 16


class GeotiffSource:
    """An 8-bit grey, RGB or RGBA raster, read window by window from its overviews.

    Raises MissingInputError when the file or rasterio is missing, MapError when the raster has no coordinate
    system or is not 8-bit colour.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.problem_count = 0
        self._problems: list[str] = []
        if not self.path.is_file():
            raise MissingInputError(f"Map file {self.path} does not exist; give the path of a GeoTIFF file.")
        try:
            import rasterio
            import rasterio.errors
        except ImportError:
            raise MissingInputError(
                f"Reading {self.path} needs rasterio; run pip install cross_view_loc[geotiff]."
            ) from None
        self._lock = threading.Lock()
        self._errors: tuple[type[Exception], ...] = (rasterio.errors.RasterioError, OSError)
        try:
            self._dataset: Any = rasterio.open(self.path)
        except self._errors as error:
            raise MapError(f"{self.path} is not a readable GeoTIFF ({error}); fetch it again.") from error
        if self._dataset.crs is None:
            raise MapError(f"{self.path} has no coordinate system; set it with gdal_edit.py -a_srs EPSG:CODE.")
        self._bands = _color_bands(self._dataset, self.path)
        self._from_wgs84 = pyproj.Transformer.from_crs("EPSG:4326", self._dataset.crs.to_wkt(), always_xy=True)
        self._pixel_from_crs = ~self._dataset.transform

    @property
    def attribution(self) -> str:
        """Whom to credit, from the file's tags."""
        tags = self._dataset.tags()
        return str(tags.get("ATTRIBUTION") or tags.get("TIFFTAG_COPYRIGHT") or "")

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each part of the file found unreadable so far."""
        with self._lock:
            return tuple(self._problems)

    @property
    def map_origin(self) -> MapOrigin | None:
        """The tag MAP_ORIGIN ("lat,lon,height"), or None. Raises MapError when it cannot be understood."""
        text = self._dataset.tags().get("MAP_ORIGIN")
        return parse_map_origin(text, self.name) if text else None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees."""
        left, bottom, right, top = self._dataset.bounds
        west, south, east, north = self._from_wgs84.transform_bounds(left, bottom, right, top, direction="INVERSE")
        return south, west, north, east

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether the raster has an opaque pixel at the place."""
        _, valid = self.sample(np.array([[latitude_deg]]), np.array([[longitude_deg]]), 0.0)
        return bool(valid[0, 0])

    def sample(self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float) -> tuple[Any, Any]:
        """See AerialSource: RGB (H, W, 3) and valid (H, W), bilinear after averaging down to the asked resolution."""
        x, y = on_lattice(self._to_pixel, np.asarray(latitude_deg), np.asarray(longitude_deg), _LATTICE_STEP_PX)
        factor = _pixels_per_sample(x, y)
        width, height = self._dataset.width, self._dataset.height
        left, right = _window(x, width, factor)
        top, bottom = _window(y, height, factor)
        if not np.all(np.isfinite(x)) or left >= right or top >= bottom:
            return np.zeros((*x.shape, 3), dtype=np.uint8), np.zeros(x.shape, dtype=bool)
        try:
            image, valid = self._read(left, top, right, bottom, factor)
        except self._errors as error:
            self._report(f"{self.name} cannot be read at columns {left}-{right}, rows {top}-{bottom} ({error}).")
            return np.zeros((*x.shape, 3), dtype=np.uint8), np.zeros(x.shape, dtype=bool)
        return bilinear(image, valid, (x - left) / factor, (y - top) / factor)

    def _to_pixel(self, latitude_deg: Array, longitude_deg: Array) -> tuple[Array, Array]:
        """Raster column and row, pixel centres at + 0.5 (GDAL's geotransform counts pixel edges as integers)."""
        x, y = self._from_wgs84.transform(wrap_degrees(longitude_deg), latitude_deg)
        t = self._pixel_from_crs
        return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f

    def _read(self, left: int, top: int, right: int, bottom: int, factor: int) -> tuple[Any, Any]:
        from rasterio.enums import Resampling
        from rasterio.windows import Window

        window = Window(left, top, right - left, bottom - top)
        shape = ((bottom - top) // factor, (right - left) // factor)
        resampling = Resampling.average if factor > 1 else Resampling.nearest
        with self._lock:
            bands = self._dataset.read(
                self._bands, window=window, out_shape=(len(self._bands), *shape), resampling=resampling
            )
            mask = self._dataset.dataset_mask(window=window, out_shape=shape)
        image = np.ascontiguousarray(np.moveaxis(bands, 0, -1))
        return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image, mask > 127

    def _report(self, sentence: str) -> None:
        with self._lock:
            self.problem_count += 1
            if sentence not in self._problems and len(self._problems) < 100:
                self._problems.append(sentence)


def _color_bands(dataset: Any, path: Path) -> list[int]:
    """Band numbers of red, green, blue, or of grey alone."""
    names = [interpretation.name for interpretation in dataset.colorinterp]
    if "palette" in names:
        raise MapError(f"{path} has a colour palette; convert it with gdal_translate -expand rgb.")
    if all(color in names for color in ("red", "green", "blue")):
        bands = [names.index(color) + 1 for color in ("red", "green", "blue")]
    else:
        bands = [1, 2, 3] if dataset.count >= 3 else [1]
    if any(dataset.dtypes[band - 1] != "uint8" for band in bands):
        raise MapError(f"{path} is {dataset.dtypes[0]}, not 8-bit; convert it with gdal_translate -ot Byte -scale.")
    return bands


def _pixels_per_sample(x: Array, y: Array) -> int:
    """How many raster pixels lie between neighbouring samples, rounded down, at least 1."""
    if min(x.shape) < 2:
        return 1
    spacing = np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0])
    return max(1, int(spacing * 1.02)) if np.isfinite(spacing) else 1


def _window(positions: Array, size: int, factor: int) -> tuple[int, int]:
    """Whole blocks of `factor` raster pixels that cover the positions and one block around, inside the raster."""
    low, high = float(np.min(positions)), float(np.max(positions))
    if not (np.isfinite(low) and np.isfinite(high)):
        return 0, 0
    start = max(0, int(np.floor(low / factor)) - 1) * factor
    stop = min(size // factor, int(np.ceil(high / factor)) + 1) * factor
    return start, stop
