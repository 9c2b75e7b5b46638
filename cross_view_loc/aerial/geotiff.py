"""Georeferenced rasters (GeoTIFF, COG) in any coordinate system pyproj knows; needs the `geotiff` extra.

A file, or an address that answers range requests: then only the blocks that are looked at come over the network.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyproj
import pyproj.exceptions
from numpy.typing import NDArray

from cross_view_loc import __version__
from cross_view_loc.aerial.origin import parse_map_origin
from cross_view_loc.aerial.resampling import bilinear, on_lattice
from cross_view_loc.aerial.sources import Sample
from cross_view_loc.aerial.tiles import Problems
from cross_view_loc.aerial.urls import redacted
from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin, wrap_degrees

Array = NDArray[np.float64]

_LATTICE_STEP_PX = 16


class GeotiffSource:
    """An 8-bit grey, RGB or RGBA raster, read window by window from its overviews.

    `path` is a file or an http(s) address, which errors call `shown`; `crs` is for files that name none; `headers` go
    with every request. Reading an address waits for the network. Raises MissingInputError when the file or rasterio
    is missing, MapError when it cannot be opened, is not georeferenced or is not 8-bit colour.
    """

    def __init__(
        self,
        path: str | Path,
        crs: str = "",
        shown: str = "",
        headers: Mapping[str, str] | None = None,
        attribution: str = "",
    ) -> None:
        self._default_attribution = attribution
        self._is_remote = str(path).lower().startswith(("http://", "https://"))
        self._address = f"/vsicurl/{path}" if self._is_remote else str(path)
        self.path = Path(urlsplit(str(path)).path if self._is_remote else path)
        self._shown = shown or (redacted(str(path)) if self._is_remote else str(path))
        self.name = self.path.name
        self._problems = Problems()
        if not self._is_remote and not self.path.is_file():
            raise MissingInputError(f"Map file {self.path} does not exist; give the path of a GeoTIFF file.")
        try:
            import rasterio
            import rasterio.errors
        except ImportError:
            raise MissingInputError(
                f"Reading {self._shown} needs rasterio; run pip install cross_view_loc[geotiff]."
            ) from None
        self._lock = threading.Lock()
        self._errors: tuple[type[Exception], ...] = (rasterio.errors.RasterioError, OSError)
        self._options = _network_options(headers or {}, self._address) if self._is_remote else {}
        self._dataset: Any = self._open(rasterio)
        self._bands = _color_bands(self._dataset, self._shown)
        crs_wkt = self._crs_wkt(crs)
        try:
            self._from_wgs84 = pyproj.Transformer.from_crs("EPSG:4326", crs_wkt, always_xy=True)
            self._period = _period(pyproj.CRS.from_user_input(crs_wkt))
        except pyproj.exceptions.ProjError:
            raise MapError(
                f"{self._shown} has a coordinate system that cannot be related to WGS84; reproject it with gdalwarp."
            ) from None
        self._pixel_from_crs = ~self._dataset.transform

    def _open(self, rasterio: Any) -> Any:
        try:
            with rasterio.Env(**self._options), warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                dataset = rasterio.open(self._address)
        except self._errors as error:
            remedy = "check the address and the network" if self._is_remote else "fetch it again"
            raise MapError(f"{self._shown} is not a readable GeoTIFF ({self._reason(error)}); {remedy}.") from None
        if dataset.transform.is_identity:
            raise MapError(
                f"{self._shown} has no georeference; use the orthophoto's GeoTIFF, or set it with"
                " gdal_edit.py -a_srs EPSG:CODE -a_ullr."
            )
        return dataset

    def _crs_wkt(self, crs: str) -> str:
        if self._dataset.crs is not None:
            return str(self._dataset.crs.to_wkt())
        if not crs:
            raise MapError(
                f"{self._shown} has no coordinate system; name it as crs in a source YAML, or set it with"
                " gdal_edit.py -a_srs EPSG:CODE."
            )
        try:
            return str(pyproj.CRS.from_user_input(crs).to_wkt())
        except pyproj.exceptions.CRSError:
            raise MapError(f'crs "{crs}" of {self._shown} is unknown; give one such as EPSG:25832.') from None

    def _reason(self, error: Exception) -> str:
        """What GDAL says, with neither its file system's prefix nor the secrets of an address."""
        text = str(error).replace(self._address, self._shown).replace(str(self.path), self.name)
        return redacted(" ".join(text.split())).rstrip(".")

    @property
    def attribution(self) -> str:
        """Whom to credit, from the file's tags."""
        tags = self._dataset.tags()
        return str(tags.get("ATTRIBUTION") or tags.get("TIFFTAG_COPYRIGHT") or self._default_attribution)

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each part of the file found unreadable so far."""
        return self._problems.sentences

    @property
    def problem_count(self) -> int:
        """How often a part could not be read."""
        return self._problems.count

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
        taken = self.sample_detailed(latitude_deg, longitude_deg, meters_per_pixel)
        return taken.image, taken.valid

    def sample_detailed(self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float) -> Sample:
        """As `sample`, with the ground size of the pixels it was made of."""
        x, y = on_lattice(self._to_pixel, np.asarray(latitude_deg), np.asarray(longitude_deg), _LATTICE_STEP_PX)
        spacing_px = _raster_pixels_apart(x, y)
        factor = max(1, int(spacing_px * 1.02))
        left, right = _window(x, self._dataset.width, factor)
        top, bottom = _window(y, self._dataset.height, factor)
        nothing = Sample(np.zeros((*x.shape, 3), dtype=np.uint8), np.zeros(x.shape, dtype=bool))
        if not np.all(np.isfinite(x)) or left >= right or top >= bottom:
            return nothing
        try:
            image, valid = self._read(left, top, right, bottom, factor)
        except self._errors as error:
            self._problems.add(
                f"{self.name} cannot be read at columns {left}-{right}, rows {top}-{bottom} ({self._reason(error)});"
                f" {'check the network' if self._is_remote else 'fetch it again'}."
            )
            return nothing
        image, valid = bilinear(image, valid, (x - left) / factor, (y - top) / factor)
        return Sample(image, valid, meters_per_pixel=factor * meters_per_pixel / spacing_px)

    def _to_pixel(self, latitude_deg: Array, longitude_deg: Array) -> tuple[Array, Array]:
        """Raster column and row, pixel centres at + 0.5 (GDAL's geotransform counts pixel edges as integers)."""
        x, y = self._from_wgs84.transform(wrap_degrees(longitude_deg), latitude_deg)
        if self._period is not None:
            # Where longitude is x, a patch across ±180° must not be torn apart: unwrap it, then put it by the raster.
            middle = x[x.shape[0] // 2, x.shape[1] // 2]
            left, _, right, _ = self._dataset.bounds
            x = middle + _wrapped(x - middle, self._period)
            x = x - np.round((middle - (left + right) / 2.0) / self._period) * self._period
        t = self._pixel_from_crs
        return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f

    def _read(self, left: int, top: int, right: int, bottom: int, factor: int) -> tuple[Any, Any]:
        import rasterio
        from rasterio.enums import Resampling
        from rasterio.windows import Window

        window = Window(left, top, right - left, bottom - top)
        shape = ((bottom - top) // factor, (right - left) // factor)
        resampling = Resampling.average if factor > 1 else Resampling.nearest
        with self._lock, rasterio.Env(**self._options):
            bands = self._dataset.read(
                self._bands, window=window, out_shape=(len(self._bands), *shape), resampling=resampling
            )
            mask = self._dataset.dataset_mask(window=window, out_shape=shape)
        image = np.ascontiguousarray(np.moveaxis(bands, 0, -1))
        return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image, mask > 127


def _network_options(headers: Mapping[str, str], address: str) -> dict[str, Any]:
    """How GDAL is to behave on the network: no listing of folders, patience with an end, an honest name."""
    options: dict[str, Any] = {
        # Otherwise one failure to open the address would count for as long as the process lives.
        "CPL_VSIL_CURL_NON_CACHED": address,
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": 10,
        "GDAL_HTTP_TIMEOUT": 30,
        "GDAL_HTTP_MAX_RETRY": 1,
        "GDAL_HTTP_RETRY_DELAY": 1,
        "GDAL_HTTP_USERAGENT": headers.get("User-Agent", f"cross_view_loc/{__version__}"),
        "GDAL_HTTP_MULTIRANGE": "YES",
    }
    others = {name: value for name, value in headers.items() if name != "User-Agent"}
    if others:
        options["GDAL_HTTP_HEADERS"] = "\r\n".join(f"{name}: {value}" for name, value in others.items())
    return options


def _period(crs: pyproj.CRS) -> float | None:
    """After how many units of x the world repeats, where x is longitude; None for other systems."""
    if crs.is_geographic:
        return 360.0 / np.degrees(crs.axis_info[0].unit_conversion_factor)
    operation = crs.coordinate_operation.method_name if crs.coordinate_operation is not None else ""
    if operation in ("Popular Visualisation Pseudo Mercator", "Mercator (variant A)"):
        to_x = pyproj.Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)
        return float(to_x.transform(90.0, 0.0)[0] - to_x.transform(-90.0, 0.0)[0]) * 2.0
    return None


def _wrapped(difference: Array, period: float) -> Array:
    return (difference + period / 2.0) % period - period / 2.0


def _color_bands(dataset: Any, path: str) -> list[int]:
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


def _raster_pixels_apart(x: Array, y: Array) -> float:
    """How many raster pixels lie between neighbouring samples; 1 when that cannot be told."""
    if min(x.shape) < 2:
        return 1.0
    spacing = float(np.hypot(x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]))
    return spacing if np.isfinite(spacing) and spacing > 0.0 else 1.0


def _window(positions: Array, size: int, factor: int) -> tuple[int, int]:
    """Whole blocks of `factor` raster pixels that cover the positions and one block around, inside the raster."""
    low, high = float(np.min(positions)), float(np.max(positions))
    if not (np.isfinite(low) and np.isfinite(high)):
        return 0, 0
    start = max(0, int(np.floor(low / factor)) - 1) * factor
    stop = min(size // factor, int(np.ceil(high / factor)) + 1) * factor
    return start, stop
