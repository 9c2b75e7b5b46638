"""An area of a map as a picture that knows where it lies: GeoTIFF, or PNG with a world file; in web mercator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.aerial.spans import Bounds
from cross_view_loc.errors import InputError, MissingInputError, NoImageryError
from cross_view_loc.geometry.geodesy import WGS84_A_M, mercator_geodetic, mercator_meters_per_pixel, mercator_pixel

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_STRIP_ROWS = 256
_MAX_SIDE_PX = 60_000
_MAX_PNG_PX = 100_000_000


@dataclass(frozen=True)
class MercatorGrid:
    """A rectangle of global web-mercator pixels of one zoom, tiles of `tile_size_px` a side."""

    zoom: int
    tile_size_px: int
    left: int
    top: int
    width_px: int
    height_px: int

    @classmethod
    def of_box(cls, box: Bounds, zoom: int, tile_size_px: int = 256) -> MercatorGrid:
        """The pixels that cover south, west, north, east. Raises InputError when they are too many."""
        south, west, north, east = box
        east += 360.0 if west > east else 0.0
        x, y = mercator_pixel([north, south], [west, east], zoom, tile_size_px)
        # A corner on a pixel's edge, but for rounding, takes no pixel more.
        left, top = (math.floor(value[0] + 1e-3) for value in (x, y))
        width, height = (max(1, math.ceil(value[1] - 1e-3) - math.floor(value[0] + 1e-3)) for value in (x, y))
        if max(width, height) > _MAX_SIDE_PX:
            raise InputError(
                f"the box at zoom {zoom} is {width} × {height} pixels; give a smaller --bbox or a lower --zoom"
            )
        return cls(zoom, tile_size_px, left, top, width, height)

    @property
    def pixel_m(self) -> float:
        """Side of a pixel in EPSG:3857's units, which are metres at the equator."""
        return 2.0 * math.pi * WGS84_A_M / (self.tile_size_px * 2**self.zoom)

    @property
    def corner_m(self) -> tuple[float, float]:
        """EPSG:3857 coordinates of the outer corner of the first pixel."""
        half = math.pi * WGS84_A_M
        return self.left * self.pixel_m - half, half - self.top * self.pixel_m

    def strips(self, source: AerialSource) -> Iterator[tuple[int, Image, Mask]]:
        """First row, RGB and validity of strips of the rectangle, from the north."""
        for row in range(0, self.height_px, _STRIP_ROWS):
            rows = np.arange(row, min(row + _STRIP_ROWS, self.height_px)) + self.top + 0.5
            columns = np.arange(self.width_px) + self.left + 0.5
            x, y = np.meshgrid(columns, rows)
            latitude, longitude = mercator_geodetic(x, y, self.zoom, self.tile_size_px)
            middle_deg = float(latitude[len(rows) // 2, 0])
            image, valid = source.sample(
                latitude, longitude, mercator_meters_per_pixel(middle_deg, self.zoom, self.tile_size_px)
            )
            yield row, image, valid


def export(
    source: AerialSource, grid: MercatorGrid, path: Path, on_rows: Callable[[int], object] = lambda count: None
) -> float:
    """Write the rectangle to a .tif, .tiff or .png and return the share of its pixels that have imagery.

    Raises InputError for another ending, MissingInputError without rasterio, NoImageryError (and leaves no file) when
    no pixel has imagery.
    """
    writers = {".tif": _write_geotiff, ".tiff": _write_geotiff, ".png": _write_png}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"--out {path} is neither GeoTIFF nor PNG; give a name that ends in .tif or .png")
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        valid_px = writer(source, grid, part, on_rows)
        if valid_px == 0:
            south, west, north, east = source.bounds
            raise NoImageryError(
                f"{source.name} has no imagery in the box; it covers {south:.5f},{west:.5f},{north:.5f},{east:.5f}"
                " (S,W,N,E): give a --bbox within"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if path.suffix.lower() == ".png":
        _write_world_file(path, grid)
    return valid_px / (grid.width_px * grid.height_px)


def _write_geotiff(source: AerialSource, grid: MercatorGrid, path: Path, on_rows: Callable[[int], object]) -> int:
    try:
        import rasterio
        from rasterio.transform import from_origin
        from rasterio.windows import Window
    except ImportError:
        raise MissingInputError(
            f"writing {path.name} needs rasterio; run pip install cross_view_loc[geotiff], or give a .png"
        ) from None
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(grid.width_px, grid.height_px) >= 256 else {}
    valid_px = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=grid.width_px, height=grid.height_px, count=4, dtype="uint8",
        crs="EPSG:3857", transform=from_origin(*grid.corner_m, grid.pixel_m, grid.pixel_m),
        photometric="RGB", alpha="YES", compress="deflate", predictor=2, bigtiff="IF_SAFER", **layout,
    ) as file:  # fmt: skip
        file.update_tags(ATTRIBUTION=source.attribution, SOURCE=source.name)
        if source.map_origin is not None:
            origin = source.map_origin
            file.update_tags(MAP_ORIGIN=f"{origin.latitude_deg},{origin.longitude_deg},{origin.height_m}")
        for row, image, valid in grid.strips(source):
            window = Window(0, row, grid.width_px, len(image))
            file.write(np.moveaxis(image, -1, 0), [1, 2, 3], window=window)
            file.write(valid.astype(np.uint8) * 255, 4, window=window)
            valid_px += int(valid.sum())
            on_rows(len(image))
    return valid_px


def _write_png(source: AerialSource, grid: MercatorGrid, path: Path, on_rows: Callable[[int], object]) -> int:
    if grid.width_px * grid.height_px > _MAX_PNG_PX:
        raise InputError(
            f"the picture would have {grid.width_px} × {grid.height_px} pixels; give a .tif, which is written in parts"
        )
    picture = np.zeros((grid.height_px, grid.width_px, 4), dtype=np.uint8)
    for row, image, valid in grid.strips(source):
        picture[row : row + len(image), :, :3] = image[..., ::-1]
        picture[row : row + len(image), :, 3] = valid * 255
        on_rows(len(image))
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return int((picture[..., 3] > 0).sum())


def _write_world_file(path: Path, grid: MercatorGrid) -> None:
    """Beside a picture: where the middle of its first pixel lies, and in which coordinate system."""
    x, y = grid.corner_m
    values = (grid.pixel_m, 0.0, 0.0, -grid.pixel_m, x + grid.pixel_m / 2, y - grid.pixel_m / 2)
    path.with_suffix(".pgw").write_text("".join(f"{value!r}\n" for value in values), encoding="ascii")
    import pyproj

    path.with_suffix(".prj").write_text(pyproj.CRS("EPSG:3857").to_wkt("WKT1_ESRI"), encoding="ascii")
