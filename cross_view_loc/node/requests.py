"""What a request does: each answers with a sentence, or raises CrossViewError with the reason why it cannot be done."""

from __future__ import annotations

import math
from typing import Any

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapOrigin
from cross_view_loc.inputs.initial_pose import read_initial_pose
from cross_view_loc.inputs.stamps import stamp_ns
from cross_view_loc.node.pipeline import Pipeline
from cross_view_loc.node.start import MapFile, refuse_origin_elsewhere
from cross_view_loc.tracking.tracker import Tracker


def relocalize(pipeline: Pipeline) -> str:
    """Search widely, in all headings."""
    _tracker(pipeline, "~/relocalize").relocalize()
    return "searching widely, in all headings"


def set_origin(pipeline: Pipeline, map_file: MapFile) -> str:
    """Count the map's metres from `new_origin`, else from the newest fix."""
    settings, fix = pipeline.settings, pipeline.assembler.newest_fix
    if settings.new_origin:
        origin = MapOrigin(*settings.new_origin)
    elif fix is not None:
        origin = fix.origin
    else:
        raise MissingInputError(f"no valid fix on {settings.fix_topic} yet; set new_origin before")
    refuse_origin_elsewhere(origin, settings, map_file)
    pipeline.set_origin(origin)
    return f"the map's origin is {origin}; poses count from there"


def prefetch(pipeline: Pipeline, map_file: MapFile) -> str:
    """Have the tiles around the vehicle fetched in the background."""
    projection, settings = pipeline.assembler.projection, pipeline.settings
    if projection is None:
        raise MissingInputError(pipeline.waits_for)
    ahead = map_file.tiles_ahead(projection, settings.prefetch_radius_m)
    if ahead is None:
        raise InputError(f"{settings.map_path or 'map_path'} is no online source, so nothing has to be fetched")
    if pipeline.place is None:
        raise MissingInputError("the vehicle's place is not known yet; wait for the first prior")
    keys = ahead.keys(*pipeline.place)
    map_file.want(keys)
    return f"{len(keys)} tiles within {settings.prefetch_radius_m:g} m are wanted; those not here are fetched"


def take_initial_pose(pipeline: Pipeline, message: Any) -> str:
    """Search where a geometry_msgs/PoseWithCovarianceStamped says the vehicle is."""
    tracker, assembler = _tracker(pipeline, "a given pose"), pipeline.assembler
    given = read_initial_pose(message, pipeline.settings.map_frame)
    # People click by the wall clock, whatever clock the sensors have: it holds for the newest input.
    stamp = assembler.newest_stamp_ns or stamp_ns(message)
    tracker.set_pose(
        stamp, given.east_m, given.north_m, given.yaw_rad, given.std_m, given.std_rad, assembler.motion(stamp)
    )
    degrees = math.degrees(given.yaw_rad)
    return f"the vehicle is about {given.east_m:.1f} E {given.north_m:.1f} N, {degrees:.0f} deg from east"


def _tracker(pipeline: Pipeline, what: str) -> Tracker:
    if pipeline.tracker is None:
        raise InputError(f"{what} needs the tracker; set tracking to true")
    return pipeline.tracker
