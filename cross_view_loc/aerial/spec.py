"""A source of imagery described by a short YAML file: what it is, where, how it may be used, and how it is shifted."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cross_view_loc import __version__
from cross_view_loc.aerial import spec_values as values
from cross_view_loc.aerial.offsets import OffsetRegion
from cross_view_loc.aerial.tiles import WORLD_BOUNDS_DEG
from cross_view_loc.errors import MapError, MissingInputError

LOCAL_KINDS = ("mbtiles", "pmtiles", "folder")
TILE_SERVICES = ("xyz", "wmts", "wms")
KINDS = (*TILE_SERVICES, *LOCAL_KINDS, "geotiff")


def _field(check: values.Check, default: Any) -> Any:
    """A field of SourceSpec with the function that turns its YAML value into the field's type."""
    return dataclasses.field(default=default, metadata={"check": check})


@dataclass(frozen=True)
class SourceSpec:
    """One source; build it with `from_yaml`, which checks it. Field names are the YAML's keys."""

    kind: str = _field(values.choice(KINDS), "")
    name: str = _field(values.text, "")
    """What errors, reports and the cache call it; the YAML's file name by default."""
    url: str = _field(values.text, "")
    """Template of a tile's address, or the service's address; see `urls`. GeoTIFF: the file's address."""
    path: Path | None = dataclasses.field(default=None, metadata={"check": values.path})
    """File or folder of a local source; relative to the YAML's folder."""
    tile_size_px: int = _field(values.whole(16, 4096), 256)
    zoom_min: int = _field(values.whole(0, 30), 0)
    zoom_max: int = _field(values.whole(0, 30), 19)
    scheme: str = _field(values.choice(("", "xyz", "tms")), "")
    """Which way rows count: xyz from the north (default), tms from the south."""
    bounds: tuple[float, float, float, float] = _field(values.bounds, WORLD_BOUNDS_DEG)
    """South, west, north, east in degrees; west > east across the antimeridian."""

    layer: str = _field(values.text, "")
    style: str = _field(values.text, "")
    image_format: str = _field(values.text, "")
    """MIME type that WMS and WMTS are asked for."""
    version: str = _field(values.text, "")
    tile_matrix_set: str = _field(values.text, "")
    tile_matrix: str = _field(values.text, "{z}")
    """How WMTS names a zoom, such as "EPSG:3857:{z}" or "{z:02}"."""
    tile_matrix_ids: tuple[str, ...] = _field(values.texts, ())
    """The names one by one from zoom_min on, where they follow no pattern."""
    capabilities_url: str = _field(values.text, "")
    """WMTS: read everything about the layer from this document at start instead."""
    subdomains: tuple[str, ...] = _field(values.texts, ())
    crs: str = _field(values.text, "")
    """GeoTIFF: coordinate system for a file that names none, such as EPSG:25832."""

    attribution: str = _field(values.text, "")
    licence: str = _field(values.text, "")
    licence_url: str = _field(values.text, "")
    bulk_download: str = _field(values.choice(("allowed", "forbidden")), "forbidden")
    """Whether the terms allow fetching an area ahead of use."""

    api_key_env: str = _field(values.text, "")
    """Environment variable that holds the API key, for {key} in url and headers."""
    headers: tuple[tuple[str, str], ...] = _field(values.pairs, ())
    user_agent_contact: str = _field(values.text, "")
    """E-mail or web address that the server's operator can turn to."""
    rate_per_s: float = _field(values.number(0.01, 1000.0), 5.0)
    connections: int = _field(values.whole(1, 16), 2)
    cache_days: float = _field(values.number(0.0, 36500.0), 7.0)
    """Tiles are used without asking again for at least so long."""
    cache_path: Path | None = dataclasses.field(default=None, metadata={"check": values.path})
    cache_limit_mb: float = _field(values.number(1.0, 1e7), 2000.0)

    map_offset_m: tuple[float, float] = _field(values.offset, (0.0, 0.0))
    """East, north metres from where a thing is to where this imagery shows it."""
    map_offset_regions: tuple[OffsetRegion, ...] = _field(values.regions, ())
    """Other offsets inside regions; the first region that holds a place counts."""

    @classmethod
    def from_yaml(cls, path: str | Path) -> SourceSpec:
        """Read and check a source's YAML. Raises MissingInputError or MapError with the file and the key."""
        path = Path(path).expanduser()
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingInputError(f"Map source {path} does not exist; see config/sources for examples.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise MapError(f"Map source {path} cannot be read ({error}); give a YAML text file.") from None
        except yaml.YAMLError as error:
            # The parser's own message quotes the file, which may hold what should not be shown.
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark else ""
            raise MapError(f"Map source {path} is not valid YAML{where}; see config/sources for examples.") from None
        if not isinstance(content, Mapping):
            raise MapError(f"Map source {path} is not a list of `key: value` lines; see config/sources for examples.")
        return cls.from_mapping(content, str(path), path.parent, path.stem)

    @classmethod
    def from_mapping(
        cls, content: Mapping[str, Any], where: str = "map source", folder: Path = Path(), default_name: str = "map"
    ) -> SourceSpec:
        """Check `content`, whose keys are the field names; `where` begins errors, `folder` is for relative paths."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for key, value in content.items():
            if key not in fields:
                close = difflib.get_close_matches(str(key), fields, n=1)
                hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(fields)}."
                raise MapError(f'{where}: "{key}" is not a key of a map source; {hint}')
            if value is not None:
                given[key] = fields[key].metadata["check"](value, f"{where}: {key}", folder)
        given.setdefault("name", default_name)
        spec = cls(**given)
        spec._check(where)
        return spec

    @property
    def is_local_file(self) -> bool:
        """Whether it is read from this machine, so that no network is needed."""
        return self.kind in LOCAL_KINDS or not re.match(r"https?://", self.url or self.capabilities_url, re.I)

    def api_key(self) -> str:
        """The API key, "" when none is named. Raises MissingInputError when the variable is not set."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "")
        if not key:
            raise MissingInputError(
                f"{self.name} needs an API key; set the environment variable {self.api_key_env} to it."
            )
        return key

    @property
    def user_agent(self) -> str:
        """How we call ourselves to servers: version and contact."""
        return f"cross_view_loc/{__version__} ({self.user_agent_contact or 'no contact given'})"

    def request_headers(self) -> dict[str, str]:
        """Headers with the API key filled in; never log them."""
        key = self.api_key() if any("{key}" in value for _, value in self.headers) else ""
        return {name: value.replace("{key}", key) for name, value in self.headers}

    def _check(self, where: str) -> None:
        from cross_view_loc.aerial.urls import check_address

        if not self.kind:
            raise MapError(f"{where} has no kind; give one of {', '.join(KINDS)}.")
        if self.zoom_min > self.zoom_max:
            raise MapError(f"{where}: zoom_min {self.zoom_min} is above zoom_max {self.zoom_max}; swap them.")
        if self.path is None and not self.url:
            needed = "path" if self.kind in LOCAL_KINDS else "url" if self.kind in TILE_SERVICES else "path or url"
            if not (self.kind == "wmts" and self.capabilities_url):
                raise MapError(f"{where} has no {needed}; a source of kind {self.kind} needs it.")
        if self.kind in TILE_SERVICES and self.path is not None:
            raise MapError(f"{where}: kind {self.kind} has a url, not a path; for files use kind folder.")
        ids = len(self.tile_matrix_ids)
        if ids and ids != self.zoom_max - self.zoom_min + 1:
            raise MapError(
                f"{where}: tile_matrix_ids has {ids} names for zooms {self.zoom_min} to {self.zoom_max};"
                " give one for each zoom."
            )
        uses_key = "{key}" in self.url + self.capabilities_url or any("{key}" in value for _, value in self.headers)
        if uses_key and not self.api_key_env:
            raise MapError(f"{where} uses {{key}} but has no api_key_env; name the environment variable that holds it.")
        if self.api_key_env and not uses_key:
            raise MapError(f"{where} has api_key_env but {{key}} nowhere; write {{key}} in url or headers.")
        check_address(self, where)
