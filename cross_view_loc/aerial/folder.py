"""Web-mercator tiles as picture files in folders: zoom/column/row.png, or by a template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from cross_view_loc.aerial.tiles import (
    DEFAULT_TILE_SIZE_PX,
    MAX_ZOOM,
    Problems,
    TileKey,
    decode_tile,
    tile_range_bounds,
)
from cross_view_loc.errors import MapError, MissingInputError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_ENDINGS = tuple(middle + suffix for middle in ("", "@2x") for suffix in (*_PICTURES, *map(str.upper, _PICTURES)))
_PLACEHOLDER = re.compile(r"(\{(?:z|x|y|-y|q)\})")
_GROUPS = {
    "{z}": r"(?P<z>\d+)",
    "{x}": r"(?P<x>\d+)",
    "{y}": r"(?P<y>\d+)",
    "{-y}": r"(?P<y>\d+)",
    "{q}": r"(?P<q>[0-3]+)",
}


class FolderStore:
    """The tiles below a folder.

    `template` is relative to the folder, of {z} {x} {y} {-y} {q}; without one the layout is {z}/{x}/{y} and any picture
    ending. Rows count from the south for scheme "tms", for {-y}, and where gdal2tiles left a tilemapresource.xml.
    Raises MissingInputError when there is no such folder, MapError when it holds no web-mercator picture tiles.
    """

    def __init__(self, folder: str | Path, template: str = "", scheme: str = "", attribution: str = "") -> None:
        self.path = Path(folder)
        self.name = self.path.name or str(self.path)
        self.attribution = attribution
        self._problems = Problems()
        if not self.path.is_dir():
            raise MissingInputError(
                f"Map folder {self.path} does not exist; give a folder of tiles, zoom/column/row.png."
            )
        self._template = template or "{z}/{x}/{y}"
        self._endings = [""] if template else list(_ENDINGS)
        described = self._profile()
        self._from_south = scheme == "tms" or "{-y}" in self._template or (scheme == "" and described)
        self._patterns = [_pattern(part) for part in self._template.split("/")]
        self.zooms = self._existing_zooms()
        if not self.zooms:
            raise MapError(self._why_empty())
        self.tile_size_px = self._probe_tile_size()

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each file that could not be read so far."""
        return self._problems.sentences

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees of the finest zoom's tiles."""
        keys = list(self._tiles(self.zooms[-1]))
        columns, rows = [key.column for key in keys], [key.row for key in keys]
        return tile_range_bounds(self.zooms[-1], min(columns), min(rows), max(columns), max(rows))

    def read(self, key: TileKey) -> bytes | None:
        """A tile's bytes, or None."""
        row = str(key.row_from_south if self._from_south else key.row)
        fill = {"{z}": str(key.zoom), "{x}": str(key.column), "{y}": row, "{-y}": row, "{q}": key.quadkey}
        relative = _PLACEHOLDER.sub(lambda match: fill[match[0]], self._template)
        for ending in self._endings:
            file = self.path / (relative + ending)
            try:
                data = file.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._problems.add(f"Tile {key} of {self.name} cannot be read ({error.strerror}); check {file}.")
                return None
            if ending != self._endings[0]:  # most folders have one kind of picture: try it first next time
                self._endings = [ending, *(other for other in self._endings if other != ending)]
            return data
        return None

    def _profile(self) -> bool:
        """Whether gdal2tiles describes the folder; its rows count from the south. Raises MapError for other grids."""
        try:
            text = (self.path / "tilemapresource.xml").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        found = re.search(r'profile\s*=\s*"([^"]*)"', text)
        if found and "mercator" not in found[1]:
            raise MapError(
                f"{self.path} holds tiles of profile {found[1]}; make them with gdal2tiles --profile=mercator."
            )
        return True

    def _existing_zooms(self) -> tuple[int, ...]:
        if "{q}" in self._template:
            return tuple(sorted({key.zoom for key in self._tiles(None)}))
        first = self._patterns[0].groupindex
        if "z" not in first:
            return tuple(sorted({key.zoom for key in self._tiles(None)}))
        found = (self._patterns[0].fullmatch(entry.name) for entry in self.path.iterdir())
        zooms = sorted({int(match["z"]) for match in found if match and int(match["z"]) <= MAX_ZOOM})
        return tuple(zoom for zoom in zooms if next(self._tiles(zoom), None) is not None)

    def _tiles(self, zoom: int | None) -> Iterator[TileKey]:
        """Tiles of a zoom, or of all."""

        def walk(folder: Path, level: int, values: dict[str, str]) -> Iterator[TileKey]:
            last = level == len(self._patterns) - 1
            for entry in folder.iterdir() if folder.is_dir() else ():
                stem = entry.name
                if last and self._endings != [""]:
                    stem = next((stem[: -len(end)] for end in reversed(_ENDINGS) if stem.endswith(end)), "")
                match = self._patterns[level].fullmatch(stem)
                if match is None:
                    continue
                merged = values | match.groupdict()
                if zoom is not None and int(merged.get("z", zoom)) != zoom:
                    continue
                if not last:
                    yield from walk(entry, level + 1, merged)
                    continue
                key = self._key(merged)
                if key.exists and zoom in (None, key.zoom):
                    yield key

        yield from walk(self.path, 0, {})

    def _key(self, values: dict[str, str]) -> TileKey:
        if "q" in values:
            digits = [int(digit) for digit in values["q"]]
            column = sum((digit & 1) << place for place, digit in enumerate(reversed(digits)))
            return TileKey(len(digits), column, sum((digit >> 1) << p for p, digit in enumerate(reversed(digits))))
        key = TileKey(int(values["z"]), int(values["x"]), int(values["y"]))
        return TileKey(key.zoom, key.column, key.row_from_south) if self._from_south and key.zoom <= MAX_ZOOM else key

    def _why_empty(self) -> str:
        if next(self.path.glob("*/*/*.pbf"), None) or next(self.path.glob("*/*/*.mvt"), None):
            return f"{self.path} holds vector tiles; give a folder of images (png, jpg or webp)."
        return f"{self.path} holds no tiles {self._template} (png, jpg or webp); give the folder that holds the zooms."

    def _probe_tile_size(self) -> int:
        for key, _ in zip(self._tiles(self.zooms[-1]), range(20), strict=False):
            data = self.read(key)
            tile = decode_tile(data) if data else None
            if tile is not None:
                return int(tile[0].shape[1])
        return DEFAULT_TILE_SIZE_PX


def _pattern(part: str) -> re.Pattern[str]:
    """What the file names of one level of a template look like."""
    pieces = _PLACEHOLDER.split(part)
    return re.compile("".join(_GROUPS.get(piece) or re.escape(piece) for piece in pieces))
