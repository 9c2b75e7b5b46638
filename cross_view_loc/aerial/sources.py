"""Where aerial imagery comes from: one interface, and opening the right source for a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import MapError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin

NO_MAP = (
    "no map: give --map an .mbtiles, .pmtiles or GeoTIFF file, a folder of tiles or a source's YAML, or set map_path in"
    " --config"
)
"""What a command says that needs a map and was given none."""


class AerialSource(Protocol):
    """Imagery by WGS84 position. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """File or service, as errors call it."""
        ...

    @property
    def attribution(self) -> str:
        """Whom to credit; empty when the map does not say."""
        ...

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees."""
        ...

    @property
    def map_origin(self) -> MapOrigin | None:
        """Origin the map itself recommends, or None."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing found broken so far (a damaged tile), oldest first."""
        ...

    def contains(self, latitude_deg: float, longitude_deg: float) -> bool:
        """Whether there is imagery at a place."""
        ...

    def sample(
        self, latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64], meters_per_pixel: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """RGB (H, W, 3) and valid (H, W) at smoothly varying positions (H, W), about `meters_per_pixel` apart.

        Longitudes may run past ±180 so that they vary smoothly across the antimeridian. Never raises for imagery
        that is missing or damaged: those pixels are not valid.
        """
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """What a source has at the positions asked for, and how good it is."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB, zero where not valid."""
    valid: NDArray[np.bool_]
    """(H, W) where there is imagery."""
    stand_in: float = 0.0
    """Share of the valid pixels from coarser imagery that stands in for what is missing."""
    meters_per_pixel: float | None = None
    """Mean ground size of the imagery's own pixels, where known."""


@runtime_checkable
class DetailedSource(Protocol):
    """A source that knows how good its imagery is at a place."""

    def sample_detailed(
        self, latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64], meters_per_pixel: float
    ) -> Sample:
        """As `AerialSource.sample`, with more to say."""
        ...


def sample_of(
    source: AerialSource,
    latitude_deg: NDArray[np.float64],
    longitude_deg: NDArray[np.float64],
    meters_per_pixel: float,
) -> Sample:
    """All that a source tells about its imagery at the positions."""
    if isinstance(source, DetailedSource):
        return source.sample_detailed(latitude_deg, longitude_deg, meters_per_pixel)
    return Sample(*source.sample(latitude_deg, longitude_deg, meters_per_pixel))


def open_source(path: str | Path, *, cache_path: str | Path | None = None, offline: bool = False) -> AerialSource:
    """Source for a map file by its suffix: .mbtiles, .pmtiles, .tif, .tiff, a folder of tiles, or a source's YAML.

    `cache_path` and `offline` are for online sources: where tiles are kept, and whether the network is forbidden.
    Raises MissingInputError when there is no such file, MapError when it is not a map this package reads.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingInputError(
            f"Map file {path} does not exist; give map_path (--map) an .mbtiles, .pmtiles or GeoTIFF file, a folder of"
            " tiles or a source's YAML."
        )
    if path.suffix.lower() in (".yaml", ".yml"):
        from cross_view_loc.aerial.opening import open_spec
        from cross_view_loc.aerial.spec import SourceSpec

        return open_spec(SourceSpec.from_yaml(path), cache_path, offline)
    openers: dict[str, Callable[[Path], AerialSource]] = {
        ".mbtiles": _open_mbtiles,
        ".pmtiles": _open_pmtiles,
        ".tif": _open_geotiff,
        ".tiff": _open_geotiff,
    }
    opener = _open_folder if path.is_dir() else openers.get(path.suffix.lower())
    if opener is None:
        raise MapError(
            f"Map file {path} is of an unknown kind; give an .mbtiles, .pmtiles, .tif or .yaml file, or a folder of"
            " tiles."
        )
    return opener(path)


def _open_mbtiles(path: Path) -> AerialSource:
    from cross_view_loc.aerial.mbtiles import MbtilesSource

    return MbtilesSource(path)


def _open_pmtiles(path: Path) -> AerialSource:
    from cross_view_loc.aerial.opening import open_pmtiles

    return open_pmtiles(path)


def _open_folder(path: Path) -> AerialSource:
    from cross_view_loc.aerial.folder import FolderStore
    from cross_view_loc.aerial.tiled_source import TiledSource

    return TiledSource(FolderStore(path))


def _open_geotiff(path: Path) -> AerialSource:
    from cross_view_loc.aerial.geotiff import GeotiffSource

    return GeotiffSource(path)
