"""The aerial map as the localizer sees it: square patches in map metres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cross_view_loc.aerial.patch import Patch, pixel_centers
from cross_view_loc.aerial.resampling import on_lattice
from cross_view_loc.aerial.sources import AerialSource, sample_of
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection, wrap_degrees

# Between exact conversions at most this far apart the tangent plane and UTM bend by less than 0.1 mm.
_LATTICE_M = 32.0


class AerialMap:
    """Imagery of a source in the map frame of a projection. Safe to share between threads."""

    def __init__(self, source: AerialSource, projection: MapProjection) -> None:
        self.source = source
        self.projection = projection

    @property
    def revision(self) -> int:
        """Grows when imagery has arrived since; always 0 for files."""
        return int(getattr(self._store, "arrivals", 0))

    @property
    def changes(self) -> int:
        """Grows when imagery given out before was withdrawn or replaced; always 0 for files."""
        return int(getattr(self._store, "changes", 0))

    @property
    def _store(self) -> object:
        return getattr(self.source, "store", None)

    def map_origin_hint(self) -> MapOrigin | None:
        """Origin that the map file itself recommends, or None. Raises MapError when it cannot be understood."""
        return self.source.map_origin

    def patch(
        self,
        center_east_m: float,
        center_north_m: float,
        size_px: int,
        meters_per_pixel: float,
        rotation_rad: float = np.pi / 2,
    ) -> Patch:
        """Square of `size_px` pixels of `meters_per_pixel` map metres; `rotation_rad` is the yaw of image-up.

        Raises NoImageryError when no pixel of it has imagery, InputError for a size or position that makes no sense.
        """
        if size_px < 1 or not meters_per_pixel > 0.0:
            raise InputError(
                f"Patch of {size_px} px at {meters_per_pixel} m per pixel is empty; give positive numbers."
            )
        if not np.all(np.isfinite((center_east_m, center_north_m, meters_per_pixel, rotation_rad))):
            raise InputError(
                f"Patch centre ({center_east_m}, {center_north_m}) m, rotation {rotation_rad} rad is not finite;"
                " check the prior."
            )
        blank = Patch(
            image=np.zeros((size_px, size_px, 3), dtype=np.uint8),
            valid=np.zeros((size_px, size_px), dtype=bool),
            center_east_m=float(center_east_m),
            center_north_m=float(center_north_m),
            meters_per_pixel=float(meters_per_pixel),
            rotation_rad=float(rotation_rad),
        )
        latitude_deg, longitude_deg = self._geodetic_grid(blank)
        sample = sample_of(self.source, latitude_deg, longitude_deg, meters_per_pixel)
        if not sample.valid.any():
            raise self._no_imagery(blank)
        return replace(
            blank,
            image=sample.image,
            valid=sample.valid,
            stand_in=sample.stand_in,
            meters_per_pixel_source=sample.meters_per_pixel,
        )

    def _geodetic_grid(self, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude (S, S) of the pixel centres; longitudes run on across the antimeridian."""
        points = patch.pixel_to_map(pixel_centers(patch.size_px))
        center_longitude_deg = self.projection.to_geodetic(patch.center_east_m, patch.center_north_m)[1]

        def convert(east_m: np.ndarray, north_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            latitude_deg, longitude_deg, _ = self.projection.to_geodetic(east_m, north_m)
            return latitude_deg, center_longitude_deg + wrap_degrees(longitude_deg - center_longitude_deg)

        step_px = max(1, min(int(_LATTICE_M / patch.meters_per_pixel), 64))
        latitude_deg, longitude_deg = on_lattice(convert, points[..., 0], points[..., 1], step_px)
        return latitude_deg, longitude_deg

    def _no_imagery(self, patch: Patch) -> NoImageryError:
        latitude_deg, longitude_deg, _ = self.projection.to_geodetic(patch.center_east_m, patch.center_north_m)
        where = (
            f"{self.source.name} has no imagery within {patch.size_m / 2:.0f} m of latitude {latitude_deg:.6f},"
            f" longitude {longitude_deg:.6f}"
        )
        problems = self.source.problems
        if problems:  # more likely the reason than a wrong place
            return NoImageryError(f"{where} now: {problems[-1]}")
        south, west, north, east = self.source.bounds
        return NoImageryError(
            f"{where}; it covers latitude {south:.6f} to {north:.6f}, longitude {west:.6f} to {east:.6f}: fetch a map"
            " of this place or check map_origin."
        )
