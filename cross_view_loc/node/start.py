"""What happens in configure: the map is opened, its origin decided, the networks are loaded and warmed up."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from cross_view_loc.aerial.ahead import TilesAhead, online_store
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.patch import Patch
from cross_view_loc.aerial.sources import AerialSource, open_source
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import CrossViewError, InputError, ModelError
from cross_view_loc.geometry.cameras import PinholeCamera
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.inputs.roles import input_key, sources_of
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame, Prior

LOOK_M = 60.0
"""How far from a place of the search imagery is looked at, with room for a patch's corners."""
FAR_DEG = 0.1
"""About ten kilometres: an origin farther off the map than this is a mistake."""
PATCH_METERS_PER_PIXEL = 0.2
"""What patches are cut with (`matching.encoders`, which needs torch)."""


class Locates(Protocol):
    """What the node needs of a localizer."""

    def locate(self, frames: Sequence[Frame], prior: Prior) -> Estimate: ...


class MapFile:
    """The file of `map_path`, opened once, when first asked for. An online source's network is used as told."""

    def __init__(self, path: str, cache: str = "", offline: bool = False) -> None:
        self._path, self._cache, self._offline = path, cache, offline
        self._source: AerialSource | None = None

    def open(self) -> AerialSource:
        """Its imagery; InputError when `map_path` is empty, MissingInputError or MapError when it is no map."""
        if not self._path:
            raise InputError(
                "parameter map_path is empty; give the aerial imagery (.mbtiles, .tif, a source's .yaml) with"
                " -p map_path:=FILE"
            )
        if self._source is None:
            self._source = open_source(self._path, cache_path=self._cache or None, offline=self._offline)
        return self._source

    def tiles_ahead(self, projection: MapProjection, reach_m: float) -> TilesAhead | None:
        """What fetches tiles so far about a place ahead; None for a map in a file, or one that nobody has opened."""
        store = online_store(self._source) if self._source is not None else None
        if store is None:
            return None
        return TilesAhead(store, projection, reach_m, PATCH_METERS_PER_PIXEL)

    def want(self, keys: Iterable[TileKey]) -> None:
        """Have tiles of an online source fetched in the background."""
        store = online_store(self._source) if self._source is not None else None
        if store is not None:
            store.want(keys)

    def close(self) -> None:
        """End what the map does in the background; what it said about problems stays."""
        store = online_store(self._source) if self._source is not None else None
        if store is not None:
            store.close()

    def problems(self) -> tuple[int, str]:
        """How often a part of it could not be read so far, and the latest sentence about that."""
        sentences = self._source.problems if self._source is not None else ()
        if not sentences:
            return 0, ""
        return max(len(sentences), int(getattr(self._source, "problem_count", 0))), sentences[-1]


MakeLocalizer = Callable[[Settings, MapFile], Locates]


class GreyMap:
    """Stands in until the map's origin is known, so that the networks can be warmed up before."""

    def patch(
        self,
        center_east_m: float,
        center_north_m: float,
        size_px: int,
        meters_per_pixel: float,
        rotation_rad: float = np.pi / 2,
    ) -> Patch:
        """Grey everywhere."""
        grey = np.full((size_px, size_px, 3), 128, np.uint8)
        known = np.ones((size_px, size_px), bool)
        return Patch(grey, known, center_east_m, center_north_m, meters_per_pixel, rotation_rad)


def look_at(localizer: Locates, map_file: MapFile, projection: MapProjection) -> None:
    """Have the localizer cut its patches from the map, in metres of the projection."""
    use_map = getattr(localizer, "use_map", None)  # a stand-in in tests may look at no map at all
    if use_map is not None:
        use_map(AerialMap(map_file.open(), projection))


def map_of(map_file: MapFile, projection: MapProjection) -> AerialMap | None:
    """The imagery for pictures of it; None without a map."""
    try:
        return AerialMap(map_file.open(), projection)
    except CrossViewError:
        return None


def build_localizer(settings: Settings, map_file: MapFile) -> Locates:
    """The real localizer, before a grey map; MapError, ModelError or InputError when it or the map is unusable."""
    map_file.open()
    try:
        from cross_view_loc.localizer import Localizer
    except ImportError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "cross_view_loc"):
            raise
        raise ModelError(f"Python package {package} is missing; run `pip install torch safetensors`") from error
    try:
        return Localizer(GreyMap(), settings.localizer_settings())
    except RuntimeError as error:
        raise _device_error(settings.device, error) from error


def configured_origin(settings: Settings, map_file: MapFile) -> MapOrigin | None:
    """The origin by `map_origin`, else by the map file's metadata; None when only the first fix can tell."""
    if settings.map_origin:
        return MapOrigin(*settings.map_origin)
    return map_file.open().map_origin


def refuse_origin_elsewhere(origin: MapOrigin, settings: Settings, map_file: MapFile) -> None:
    """InputError when the map covers nothing near its own origin: latitude and longitude swapped, or another map."""
    if not settings.map_path:  # tests localize without
        return
    south, west, north, east = map_file.open().bounds
    far_east = min(abs(math.remainder(origin.longitude_deg - edge, 360.0)) for edge in (west, east))
    is_between = west <= origin.longitude_deg <= east or far_east <= FAR_DEG
    if south - FAR_DEG <= origin.latitude_deg <= north + FAR_DEG and is_between:
        return
    raise InputError(
        f"parameter map_origin is latitude {origin.latitude_deg:.5f}, longitude {origin.longitude_deg:.5f}, outside of "
        f"what {settings.map_path} covers (latitude {south:.5f} to {north:.5f}, longitude {west:.5f} to {east:.5f}); "
        "give the origin as [latitude_deg, longitude_deg, height_m] near the map, or another map_path"
    )


def watched_topics(settings: Settings) -> dict[str, str]:
    """The topic of every input whose messages are counted, by what it is called."""
    images = {input_key("image", camera.name): camera.image_topic for camera in settings.rig}
    return images | {source.key: source.topic for source in sources_of(settings) if not source.role.startswith("tf")}


def release_memory() -> None:
    """Give back what the networks held, on the GPU too; they must not be referred to any more."""
    gc.collect()
    torch = sys.modules.get("torch")  # not imported for this
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def warm_up(localizer: Locates, device: str) -> float:
    """Seconds of a first estimate on a grey picture, which pays for lazy initialisation before a real image would.

    Raises ModelError when the networks do not run on `device`.
    """
    camera = PinholeCamera(640, 360, 400.0, 400.0, 320.0, 180.0)
    frame = Frame(
        np.full((360, 640, 3), 128, np.uint8), camera, 0, transform(R_BODY_OPTICAL, (1.0, 0.0, 1.5)), name="warm-up"
    )
    started = time.perf_counter()
    try:
        localizer.locate([frame], Prior(0, 0.0, 0.0, 20.0, 0.0, 0.1))
    except CrossViewError:
        pass  # there may be no imagery at the origin, for example; real images will say so
    except RuntimeError as error:
        raise _device_error(device, error) from error
    return time.perf_counter() - started


def _device_error(device: str, error: RuntimeError) -> ModelError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return ModelError(
        f"the networks do not run with device '{device}' ({first_line}); free its memory or set device to cpu"
    )
