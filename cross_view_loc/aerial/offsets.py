"""Imagery known to be shifted, put right: by one offset for a source, or by regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.sources import AerialSource, Sample, sample_of
from cross_view_loc.geometry.geodesy import WGS84_A_M, WGS84_E2, MapOrigin

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class OffsetRegion:
    """Where an offset of its own applies."""

    polygon_deg: tuple[tuple[float, float], ...]
    """Corners as (latitude, longitude); neighbours less than 180° apart, also across the antimeridian."""
    offset_m: tuple[float, float]
    """East, north metres from where a thing is to where the imagery shows it."""

    def contains(self, latitude_deg: Array, longitude_deg: Array) -> Mask:
        """Which of the places lie inside (even-odd rule)."""
        corners = np.array(self.polygon_deg)
        # Longitudes run on along the polygon and about its first corner, so that ±180 is nowhere special.
        steps = np.diff(corners[:, 1])
        longitudes = corners[0, 1] + np.append(0.0, np.cumsum((steps + 180.0) % 360.0 - 180.0))
        middle = (longitudes.min() + longitudes.max()) / 2.0
        x = middle + (np.asarray(longitude_deg) - middle + 180.0) % 360.0 - 180.0
        y = np.asarray(latitude_deg)
        inside = np.zeros(np.broadcast(x, y).shape, dtype=bool)
        for i in range(len(corners)):
            x0, y0, x1, y1 = longitudes[i - 1], corners[i - 1, 0], longitudes[i], corners[i, 0]
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        return inside


class OffsetSource:
    """A source whose imagery shows things `offset_m` (east, north) from where they are; this one has them in place.

    The same sign as an error of estimates made on the imagery: `evaluate bag` reports what belongs here.
    """

    def __init__(
        self, source: AerialSource, offset_m: tuple[float, float], regions: tuple[OffsetRegion, ...] = ()
    ) -> None:
        self.source = source
        self.offset_m = offset_m
        self.regions = regions

    def __getattr__(self, name: str) -> Any:
        # What a kind of source has beyond the interface (zooms, store, path) stays within reach.
        if name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    @property
    def name(self) -> str:
        """As the source calls itself."""
        return self.source.name

    @property
    def attribution(self) -> str:
        """Whom to credit."""
        return self.source.attribution

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees, as the imagery has them."""
        return self.source.bounds

    @property
    def map_origin(self) -> MapOrigin | None:
        """Origin the map itself recommends, or None."""
        return self.source.map_origin

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing found broken so far."""
        return self.source.problems

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether there is imagery of a place."""
        place = np.array([[latitude_deg]]), np.array([[longitude_deg]])
        offset_m = next((region.offset_m for region in self.regions if region.contains(*place)[0, 0]), self.offset_m)
        latitude, longitude = shifted(*place, offset_m)
        return self.source.contains(float(latitude[0, 0]), float(longitude[0, 0]))

    def sample(
        self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float
    ) -> tuple[NDArray[np.uint8], Mask]:
        """See AerialSource."""
        taken = self.sample_detailed(latitude_deg, longitude_deg, meters_per_pixel)
        return taken.image, taken.valid

    def sample_detailed(self, latitude_deg: Array, longitude_deg: Array, meters_per_pixel: float) -> Sample:
        """See DetailedSource. A patch across a region's edge is put together from both sides."""
        left = np.ones(np.shape(latitude_deg), dtype=bool)
        parts: list[tuple[Mask, Sample]] = []
        for region, offset_m in (*((r, r.offset_m) for r in self.regions), (None, self.offset_m)):
            mine = left if region is None else left & region.contains(latitude_deg, longitude_deg)
            left = left & ~mine
            if mine.any():
                # All of it is sampled, for sources want smoothly varying positions in a full rectangle.
                place = shifted(latitude_deg, longitude_deg, offset_m)
                parts.append((mine, sample_of(self.source, *place, meters_per_pixel)))
        return parts[0][1] if len(parts) == 1 else _joined(parts)


def shifted(latitude_deg: Array, longitude_deg: Array, offset_m: tuple[float, float]) -> tuple[Array, Array]:
    """Places moved by (east, north) metres along the ellipsoid, to first order: 10 µm for 10 m below 70°."""
    if offset_m == (0.0, 0.0):
        return latitude_deg, longitude_deg
    latitude = np.radians(latitude_deg)
    squared = 1.0 - WGS84_E2 * np.sin(latitude) ** 2
    north_radius_m = WGS84_A_M * (1.0 - WGS84_E2) / squared**1.5
    parallel_radius_m = WGS84_A_M / np.sqrt(squared) * np.cos(latitude)
    return (
        latitude_deg + np.degrees(offset_m[1] / north_radius_m),
        longitude_deg + np.degrees(offset_m[0] / np.maximum(parallel_radius_m, 1.0)),
    )


def _joined(parts: list[tuple[Mask, Sample]]) -> Sample:
    """One sample of several, each where its mask says."""
    image, valid = np.zeros_like(parts[0][1].image), np.zeros_like(parts[0][1].valid)
    total, stand_in, resolution = 0, 0.0, 0.0
    for mask, sample in parts:
        image[mask], valid[mask] = sample.image[mask], sample.valid[mask]
        count = int((mask & sample.valid).sum())
        total += count
        stand_in += count * sample.stand_in
        resolution += count * (sample.meters_per_pixel or 0.0)
    known = total > 0 and all(sample.meters_per_pixel for mask, sample in parts if (mask & sample.valid).any())
    return Sample(image, valid, stand_in / max(total, 1), resolution / total if known else None)
