"""The map: can it be opened, does it cover the track, how fine is it, whose is it, where is its origin."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.coverage import holes_along
from cross_view_loc.aerial.sources import AerialSource, open_source, sample_of
from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.bags.offline import refuse_map_of_elsewhere
from cross_view_loc.bags.track import lines_of
from cross_view_loc.doctor.findings import Finding, Group, Level
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.errors import CrossViewError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, mercator_geodetic
from cross_view_loc.settings import Settings

GROUP = Group("map")
WANTED_M = 0.2
"""Metres per pixel that the networks look at."""
COARSE_M, TOO_COARSE_M = 0.35, 0.7
PLACES = 24
MOST = 0.5
"""A map that lacks more of the track than this is the wrong one for the drive."""
HOLE_ZOOM = 22
"""Squares of about six metres; a source is asked in the middle of each."""


def open_map(where: str, settings: Settings) -> tuple[AerialSource | None, list[Finding]]:
    """The map, opened without touching the network, or why it cannot be."""
    if not where:
        return None, [
            GROUP.warn(
                "map.given", "No map was given, so nothing can be said of its coverage.",
                "Give --map, or map_path in --config; `cross_view_loc prefetch` makes one.",
                parameter="map_path",
            )
        ]  # fmt: skip
    try:
        source = open_source(where, cache_path=settings.map_cache or None, offline=True)
    except (CrossViewError, OSError) as error:
        return None, [
            GROUP.fail("map.opens", f"The map cannot be opened: {error}", "Give a map that `map info` reads.",
                       parameter="map_path")
        ]  # fmt: skip
    return source, []


def map_findings(source: AerialSource, where: str, found: Survey, settings: Settings) -> list[Finding]:
    """Coverage and resolution along the fixes, attribution, problems."""
    findings: list[Finding] = []
    is_online = Path(where).suffix.lower() in (".yaml", ".yml")
    if found.fixes:
        try:
            refuse_map_of_elsewhere(source, where, found.fixes[0].origin)
        except NoImageryError as error:
            return [
                GROUP.fail("map.elsewhere", f"{error}.", "Give the map of where the drive was, or check the fixes.",
                           parameter="map_path")
            ]  # fmt: skip
        lines = lines_of(found.fixes)
        findings += _coverage(source, lines, is_online) + _resolution(source, lines)
    if not source.attribution:
        findings.append(
            GROUP.ok(
                "map.attribution", f"{where} does not say whom to credit; ask its source before publishing pictures."
            )
        )
    findings += [
        GROUP.warn(
            "map.problem", f"{problem}.".replace("..", "."), "Fetch the map again; see `cross_view_loc map check`."
        )
        for problem in source.problems[:5]
    ]
    if is_online and not settings.map_offline:
        findings.append(
            GROUP.ok(
                "map.online",
                f"{where} is an online source, looked at here by its cache alone; tiles not yet there come "
                "while driving.",
            )
        )
    if not any(finding.level > Level.OK for finding in findings) and source.attribution:
        findings.append(GROUP.ok("map.attribution", f"Credit: {source.attribution}."))
    return findings


def _coverage(source: AerialSource, lines: list[NDArray[np.float64]], is_online: bool) -> list[Finding]:
    holes, length_m = holes_along(lines, lambda key: source.contains(*_middle(key)), HOLE_ZOOM)
    missing_m = sum(hole.length_m for hole in holes)
    data = {"track_m": round(length_m, 1), "holes": len(holes), "holes_m": round(missing_m, 1)}
    if not holes:
        return [GROUP.ok("map.coverage", f"Imagery along all of the {length_m:.0f} m of track.", data=data)]
    first = max(holes, key=lambda hole: hole.length_m)
    make = GROUP.warn if is_online or missing_m <= MOST * length_m else GROUP.fail
    return [
        make(
            "map.coverage",
            f"{missing_m:.0f} of {length_m:.0f} m of the track have no imagery{' in the cache' if is_online else ''} "
            f"({len(holes)} holes, the longest {first.length_m:.0f} m long, {first.from_start_m:.0f} m from "
            "the start at "
            f"latitude {first.start[0]:.6f}, longitude {first.start[1]:.6f}).",
            "Fetch it with `cross_view_loc prefetch BAG`, or give a larger map; images there get no pose.",
            parameter="map_path",
            data=data,
        )
    ]


def _resolution(source: AerialSource, lines: list[NDArray[np.float64]]) -> list[Finding]:
    points = np.concatenate(lines)
    places = points[np.unique(np.linspace(0, len(points) - 1, PLACES).astype(int))]
    sizes, stand_in, seen = [], [], 0
    for latitude_deg, longitude_deg in places:
        grid = np.arange(-12, 13) * WANTED_M / 111_320.0
        north, east = np.meshgrid(grid[::-1], grid / max(math.cos(math.radians(latitude_deg)), 0.01), indexing="ij")
        sample = sample_of(source, latitude_deg + north, longitude_deg + east, WANTED_M)
        if not sample.valid.any():
            continue
        seen += 1
        stand_in.append(sample.stand_in)
        if sample.meters_per_pixel is not None:
            sizes.append(sample.meters_per_pixel)
    if not seen:
        return []
    if not sizes:
        return [GROUP.ok("map.resolution", "The map does not say how fine its imagery is.")]
    size_m = float(np.median(sizes))
    data = {"meters_per_pixel": round(size_m, 4), "stand_in": round(float(np.mean(stand_in)), 3)}
    text = f"Imagery along the track has {size_m:.2f} m per pixel"
    if size_m > COARSE_M:
        make = GROUP.fail if size_m > TOO_COARSE_M else GROUP.warn
        return [
            make(
                "map.resolution", f"{text}; the networks look at {WANTED_M:g} m.",
                "Get imagery of 0.1 to 0.3 m per pixel (a higher zoom); lane markings must be seen.",
                parameter="map_path", data=data,
            )
        ]  # fmt: skip
    if np.mean(stand_in) > 0.1:
        return [
            GROUP.warn(
                "map.resolution",
                f"{text}, but {np.mean(stand_in):.0%} of it are coarser tiles that stand in for missing ones.",
                "Fetch the finest zoom with `cross_view_loc prefetch BAG`.", parameter="map_path", data=data,
            )
        ]  # fmt: skip
    return [GROUP.ok("map.resolution", f"{text}.", data=data)]


def origin_findings(origin: MapOrigin, origin_from: str, settings: Settings) -> list[Finding]:
    """Where the map frame's origin comes from."""
    place = f"latitude {origin.latitude_deg:.7f}, longitude {origin.longitude_deg:.7f}, height {origin.height_m:.1f} m"
    if origin_from != "first fix":
        return [GROUP.ok("map.origin", f"The map frame's origin comes from the {origin_from}: {place}.")]
    return [
        GROUP.warn(
            "map.origin",
            f"The map frame's origin would be the first fix ({place}): another one in every drive.",
            "Set map_origin, so that poses of different drives can be compared.",
            parameter="map_origin",
            value=(round(origin.latitude_deg, 7), round(origin.longitude_deg, 7), round(origin.height_m, 2)),
        )
    ]


def _middle(key: TileKey) -> tuple[float, float]:
    latitude_deg, longitude_deg = mercator_geodetic(key.column + 0.5, key.row + 0.5, key.zoom, 1)
    return float(latitude_deg), float(longitude_deg)
