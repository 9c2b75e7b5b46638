"""A bag, its map and its settings made ready: what `run` and `evaluate bag` localize with, one way for both."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cross_view_loc.aerial.ahead import online_store
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.sources import NO_MAP, AerialSource, open_source
from cross_view_loc.bags.reader import Bag, BagTopics
from cross_view_loc.bags.runner import BagRunner, Locate, choose_topics, first_fix_origin, with_topics
from cross_view_loc.errors import InputError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.settings.contradictions import ignored_settings

if TYPE_CHECKING:
    from cross_view_loc.localizer import Localizer

FAR_DEG = 0.1
"""About ten kilometres."""


@dataclass(frozen=True)
class OfflineRun:
    """An open bag with all that is needed to localize it, checked before any network is loaded."""

    bag: Bag
    topics: BagTopics
    settings: Settings
    """With the bag's topics, the map's path and its origin filled in."""
    source: AerialSource
    projection: MapProjection
    origin_from: str
    """Where map_origin comes from: "configuration", "map" or "first fix"."""

    def span(self, start_s: float, duration_s: float | None) -> tuple[int, int]:
        """Bag times (ns) of a stretch given in seconds from the beginning; to the end without a duration."""
        start_ns = self.bag.start_ns + to_ns(start_s)
        return start_ns, self.bag.end_ns + 1 if duration_s is None else start_ns + to_ns(duration_s)

    def localizer(self, settings: Settings | None = None, source: AerialSource | None = None) -> Localizer:
        """The networks on this map (imports torch); with other settings or imagery where given."""
        from cross_view_loc.localizer import Localizer

        aerial = AerialMap(source or self.source, self.projection)
        localizer = Localizer(aerial, (settings or self.settings).localizer_settings())
        depth_notice = getattr(localizer, "depth_notice", "")  # a stand-in in tests may have no depth
        for notice in filter(None, [depth_notice, *ignored_settings(settings or self.settings)]):
            logging.getLogger(__name__).warning(notice)
        return localizer

    def runner(self, locate: Locate, stride: int = 1, settings: Settings | None = None) -> BagRunner:
        """A runner that starts from nothing, so that the same stretch always gives the same records."""
        assembler = FrameAssembler(settings or self.settings, self.projection)
        tracker = (settings or self.settings).tracker()
        return BagRunner(self.bag, self.topics, assembler, locate, tracker, stride=stride)


@contextmanager
def open_run(
    bag_path: Path,
    map_path: Path | str | None,
    configured: Settings | None,
    on_topics: Callable[[BagTopics], None] = lambda topics: None,
) -> Iterator[OfflineRun]:
    """Open bag and map, and close both at the end; without `configured` the topics are guessed.

    Raises InputError (MissingInputError) or MapError in one sentence when something needed is missing or unusable.
    """
    with Bag(bag_path) as bag:
        topics = choose_topics(bag, configured)
        on_topics(topics)
        settings = with_topics(configured or Settings(), topics)
        where = map_path or settings.map_path
        if not where:
            raise InputError(NO_MAP)
        source = open_source(where, cache_path=settings.map_cache or None, offline=settings.map_offline)
        store = online_store(source)
        try:
            if store is not None:
                store.waits = True  # nobody drives on meanwhile, and the same bag shall give the same poses
            refuse_map_of_elsewhere(source, where, first_fix_origin(bag, topics.fix))
            origin, origin_from = map_origin(settings, source, bag, topics)
            settings = dataclasses.replace(
                settings,
                map_path=str(Path(where).resolve()),
                map_origin=(origin.latitude_deg, origin.longitude_deg, origin.height_m),
            )
            projection = MapProjection(origin, settings.map_projection)
            yield OfflineRun(bag, topics, settings, source, projection, origin_from)
        finally:
            if store is not None:
                store.close()


def map_origin(settings: Settings, source: AerialSource, bag: Bag, topics: BagTopics) -> tuple[MapOrigin, str]:
    """The map's origin and where it comes from: configuration before the map's metadata before the first fix."""
    if settings.map_origin:
        return MapOrigin(*settings.map_origin), "configuration"
    if source.map_origin is not None:
        return source.map_origin, "map"
    return first_fix_origin(bag, topics.fix), "first fix"


def refuse_map_of_elsewhere(source: AerialSource, map_path: str | Path, fix: MapOrigin) -> None:
    """NoImageryError when the drive starts so far from the map that no image of it can be meant."""
    south, west, north, east = source.bounds
    far_east = min(abs(math.remainder(fix.longitude_deg - edge, 360.0)) for edge in (west, east))
    inside = west <= fix.longitude_deg <= east
    if south - FAR_DEG <= fix.latitude_deg <= north + FAR_DEG and (inside or far_east <= FAR_DEG):
        return
    raise NoImageryError(
        f"{map_path} has no imagery where the drive starts (latitude {fix.latitude_deg:.5f}, longitude "
        f"{fix.longitude_deg:.5f}): it covers latitude {south:.5f} to {north:.5f}, longitude {west:.5f} to {east:.5f}; "
        "give the map of where the drive was"
    )
