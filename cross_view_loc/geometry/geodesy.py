"""WGS84 ⇄ map metres ⇄ web-mercator pixels, all in float64 (float32 degrees step by 0.85 m)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray

from cross_view_loc.errors import InputError

Array = NDArray[np.float64]

WGS84_A_M = 6378137.0
WGS84_F = 1.0 / 298.257223563
WGS84_B_M = WGS84_A_M * (1.0 - WGS84_F)
WGS84_E2 = WGS84_F * (2.0 - WGS84_F)
MERCATOR_MAX_LATITUDE_DEG = float(np.degrees(np.arctan(np.sinh(np.pi))))


@dataclass(frozen=True)
class MapOrigin:
    """The WGS84 point whose map coordinates are (0, 0, 0); height above the ellipsoid.

    Raises InputError when it is not a place on Earth.
    """

    latitude_deg: float
    longitude_deg: float
    height_m: float = 0.0

    def __post_init__(self) -> None:
        values = (self.latitude_deg, self.longitude_deg, self.height_m)
        if not np.all(np.isfinite(values)) or abs(self.latitude_deg) > 90.0 or abs(self.longitude_deg) > 360.0:
            raise InputError(
                f"map_origin {values} is not a place on Earth; give latitude and longitude in degrees"
                " and the ellipsoidal height in metres."
            )


def wrap_degrees(angle_deg: ArrayLike) -> Array:
    """Angles brought to [-180, 180)."""
    return (np.asarray(angle_deg, dtype=np.float64) + 180.0) % 360.0 - 180.0


def geodetic_to_ecef(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike) -> Array:
    """(..., 3) earth-centred coordinates in metres of WGS84 positions."""
    lat, lon = np.radians(latitude_deg), np.radians(longitude_deg)
    height = np.asarray(height_m, dtype=np.float64)
    prime_vertical_m = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * np.sin(lat) ** 2)
    horizontal_m = (prime_vertical_m + height) * np.cos(lat)
    z = (prime_vertical_m * (1.0 - WGS84_E2) + height) * np.sin(lat)
    return np.stack(np.broadcast_arrays(horizontal_m * np.cos(lon), horizontal_m * np.sin(lon), z), axis=-1)


def ecef_to_geodetic(ecef: ArrayLike) -> tuple[Array, Array, Array]:
    """WGS84 latitude, longitude (degrees) and height (m) of (..., 3) earth-centred metres.

    Bowring's formula (1976) iterated twice: below a nanometre anywhere near the surface.
    """
    ecef = np.asarray(ecef, dtype=np.float64)
    x, y, z = ecef[..., 0], ecef[..., 1], ecef[..., 2]
    horizontal_m = np.hypot(x, y)
    second_e2 = WGS84_E2 / (1.0 - WGS84_E2)
    reduced = np.arctan2(z * WGS84_A_M, horizontal_m * WGS84_B_M)
    for _ in range(2):
        lat = np.arctan2(
            z + second_e2 * WGS84_B_M * np.sin(reduced) ** 3,
            horizontal_m - WGS84_E2 * WGS84_A_M * np.cos(reduced) ** 3,
        )
        reduced = np.arctan2((1.0 - WGS84_F) * np.sin(lat), np.cos(lat))
    prime_vertical_m = WGS84_A_M / np.sqrt(1.0 - WGS84_E2 * np.sin(lat) ** 2)
    # This form of the height holds at the poles too, where horizontal / cos(lat) does not.
    height = horizontal_m * np.cos(lat) + z * np.sin(lat) - WGS84_A_M**2 / prime_vertical_m
    return np.degrees(lat), np.degrees(np.arctan2(y, x)), height


class _TangentPlane:
    """East, north, up in the plane that touches the ellipsoid at the origin."""

    def __init__(self, origin: MapOrigin) -> None:
        lat, lon = np.radians(origin.latitude_deg), np.radians(origin.longitude_deg)
        self._origin_ecef = geodetic_to_ecef(origin.latitude_deg, origin.longitude_deg, origin.height_m)
        self._R_map_ecef = np.array(
            [
                [-np.sin(lon), np.cos(lon), 0.0],
                [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)],
                [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)],
            ]
        )

    def to_map(self, lat: Array, lon: Array, height: Array) -> tuple[Array, Array, Array]:
        enu = (geodetic_to_ecef(lat, lon, height) - self._origin_ecef) @ self._R_map_ecef.T
        return enu[..., 0], enu[..., 1], enu[..., 2]

    def to_geodetic(self, east: Array, north: Array, up: Array) -> tuple[Array, Array, Array]:
        return ecef_to_geodetic(np.stack([east, north, up], axis=-1) @ self._R_map_ecef + self._origin_ecef)


class _UtmPlane:
    """UTM metres minus the origin's, turned by the meridian convergence there; the scale is kept.

    That is what robot_localization's navsat_transform does by default, so that y is true north at the origin.
    """

    def __init__(self, origin: MapOrigin) -> None:
        if abs(origin.latitude_deg) > 84.0:
            raise InputError(
                f"UTM is not defined at map_origin latitude {origin.latitude_deg:.4f}; use map_projection: enu."
            )
        self._origin_height_m = origin.height_m
        # `+south` only adds a false northing, which the subtraction of the origin would remove again.
        definition = f"+proj=utm +zone={utm_zone(origin.latitude_deg, origin.longitude_deg)} +ellps=WGS84"
        self._transformer = pyproj.Transformer.from_pipeline(definition)
        longitude = float(wrap_degrees(origin.longitude_deg))
        factors = pyproj.Proj(definition).get_factors(longitude, origin.latitude_deg)
        convergence = np.radians(factors.meridian_convergence)
        self._cos, self._sin = float(np.cos(convergence)), float(np.sin(convergence))
        self._easting_m, self._northing_m = self._transformer.transform(longitude, origin.latitude_deg)

    def to_map(self, lat: Array, lon: Array, height: Array) -> tuple[Array, Array, Array]:
        easting, northing = self._transformer.transform(wrap_degrees(lon), lat)
        de, dn = np.asarray(easting) - self._easting_m, np.asarray(northing) - self._northing_m
        return self._cos * de + self._sin * dn, self._cos * dn - self._sin * de, height - self._origin_height_m

    def to_geodetic(self, east: Array, north: Array, up: Array) -> tuple[Array, Array, Array]:
        easting = self._easting_m + self._cos * east - self._sin * north
        northing = self._northing_m + self._sin * east + self._cos * north
        lon, lat = self._transformer.transform(easting, northing, direction="INVERSE")
        return np.asarray(lat), np.asarray(lon), up + self._origin_height_m


def utm_zone(latitude_deg: float, longitude_deg: float) -> int:
    """UTM zone number with the exceptions of south-west Norway and Svalbard."""
    longitude_deg = float(wrap_degrees(longitude_deg))
    if 56.0 <= latitude_deg < 64.0 and 3.0 <= longitude_deg < 12.0:
        return 32
    if latitude_deg >= 72.0 and 0.0 <= longitude_deg < 42.0:
        return 31 + 2 * int((longitude_deg + 3.0) // 12.0)
    return int((longitude_deg + 180.0) // 6.0) + 1


class MapProjection:
    """Converts between WGS84 and map metres about one origin.

    `kind` "enu" is the tangent plane at the origin; "utm" matches navsat_transform's default.
    Raises InputError for another kind, and for "utm" beyond 84 degrees of latitude. Safe to share between threads.
    """

    def __init__(self, origin: MapOrigin, kind: str = "enu") -> None:
        planes: dict[str, Any] = {"enu": _TangentPlane, "utm": _UtmPlane}
        if kind not in planes:
            raise InputError(f'map_projection "{kind}" is unknown; choose "enu" or "utm".')
        self.origin = origin
        self.kind = kind
        self._plane: _TangentPlane | _UtmPlane = planes[kind](origin)

    def __repr__(self) -> str:
        return f"MapProjection({self.origin!r}, kind={self.kind!r})"

    def to_map(
        self, latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike = 0.0
    ) -> tuple[Array, Array, Array]:
        """East, north, up in metres of WGS84 positions (arrays broadcast; height above the ellipsoid)."""
        return self._plane.to_map(*_broadcast(latitude_deg, longitude_deg, height_m))

    def to_geodetic(self, east_m: ArrayLike, north_m: ArrayLike, up_m: ArrayLike = 0.0) -> tuple[Array, Array, Array]:
        """Latitude, longitude (degrees, [-180, 180]) and ellipsoidal height of map positions in metres."""
        return self._plane.to_geodetic(*_broadcast(east_m, north_m, up_m))


def mercator_pixel(
    latitude_deg: ArrayLike, longitude_deg: ArrayLike, zoom: int, tile_size: int = 256
) -> tuple[Array, Array]:
    """Global web-mercator pixel (x right, y down; tile (0, 0) starts at 0.0, its first pixel's centre is 0.5).

    Longitudes beyond ±180 continue past the map's edge instead of wrapping, so differences stay small.
    Latitudes beyond ±85.05 degrees are clipped to the edge of the mercator square.
    """
    lat = np.clip(latitude_deg, -MERCATOR_MAX_LATITUDE_DEG, MERCATOR_MAX_LATITUDE_DEG)
    world_px = tile_size * 2.0**zoom
    x = (np.asarray(longitude_deg, dtype=np.float64) + 180.0) / 360.0 * world_px
    y = (0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2.0 * np.pi)) * world_px
    return x, y


def mercator_geodetic(x: ArrayLike, y: ArrayLike, zoom: int, tile_size: int = 256) -> tuple[Array, Array]:
    """Latitude and longitude in degrees of global web-mercator pixels (the inverse of `mercator_pixel`)."""
    world_px = tile_size * 2.0**zoom
    longitude_deg = np.asarray(x, dtype=np.float64) / world_px * 360.0 - 180.0
    latitude_deg = np.degrees(np.arctan(np.sinh((0.5 - np.asarray(y, dtype=np.float64) / world_px) * 2.0 * np.pi)))
    return latitude_deg, longitude_deg


def mercator_meters_per_pixel(latitude_deg: float, zoom: int, tile_size: int = 256) -> float:
    """Ground size in metres of a web-mercator pixel at a latitude (the equator's size times its cosine)."""
    equator_m_per_px = 2.0 * np.pi * WGS84_A_M / (tile_size * 2.0**zoom)
    return float(equator_m_per_px * np.cos(np.radians(latitude_deg)))


def _broadcast(*values: ArrayLike) -> tuple[Array, ...]:
    return tuple(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)))
