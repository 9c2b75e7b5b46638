"""`cross_view_loc prefetch`: fetch the map of an area ahead of a drive, into one file for use without a network."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cross_view_loc.aerial import cache_file
from cross_view_loc.aerial.areas import Area, parse_box, parse_zooms
from cross_view_loc.aerial.capabilities import with_capabilities
from cross_view_loc.aerial.coverage import Coverage, survey
from cross_view_loc.aerial.fetch_all import FetchReport
from cross_view_loc.aerial.mbtiles import MbtilesStore
from cross_view_loc.aerial.opening import open_online
from cross_view_loc.aerial.prefetch import Plan, make_plan, refuse_unless_allowed, wanted_zooms
from cross_view_loc.aerial.quicklook import quick_look, write_png
from cross_view_loc.aerial.spec import SourceSpec
from cross_view_loc.aerial.tracks import read_polygon, read_track
from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.track import fix_lines
from cross_view_loc.errors import InputError, MapError, MissingInputError
from cross_view_loc.geometry.geodesy import mercator_meters_per_pixel

EXAMPLES = """examples:
  where a recording went, and 100 m around it:
    cross_view_loc prefetch my_bag --source orthophotos.yaml --out tour.mbtiles
  a planned tour, a town, a polygon drawn on geojson.io; without a question:
    cross_view_loc prefetch --track tour.gpx --buffer-m 60 --source orthophotos.yaml --out tour.mbtiles --yes
    cross_view_loc prefetch --bbox 48.10,11.50,48.16,11.62 --zoom 17-19 --source orthophotos.yaml --out town.mbtiles
    cross_view_loc prefetch --polygon quarter.geojson --source orthophotos.yaml --out quarter.mbtiles --yes --json

Count, size, licence and attribution come first, then a question. Interrupted or run again, it fetches only what is
missing or has expired. Beside the file it writes a picture (tour.png) with holes in magenta. The exit status is 0 when
every tile that the source has is there. Then: cross_view_loc run my_bag --map tour.mbtiles
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help="a recording: where its GNSS fixes lie")
    parser.add_argument("--bbox", metavar="S,W,N,E", help="a box in degrees; W > E crosses the antimeridian")
    parser.add_argument("--track", type=Path, metavar="FILE", help="a GPX or GeoJSON track")
    parser.add_argument("--polygon", type=Path, metavar="FILE", help="a GeoJSON polygon")
    parser.add_argument("--buffer-m", type=float, default=100.0, metavar="M", help="around the area (%(default)s m)")
    parser.add_argument("--zoom", metavar="A-B", help="default: as fine as 0.3 m per pixel and two coarser")
    parser.add_argument("--source", type=Path, required=True, metavar="YAML", help="where the imagery comes from")
    parser.add_argument("--out", type=Path, required=True, metavar="MBTILES", help="the file to write or to go on with")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Say what it takes, ask, fetch, say what is there now."""
    area = _area(options)
    described = SourceSpec.from_yaml(options.source)
    spec = _with_capabilities(described)
    refuse_unless_allowed(spec)
    if options.out.suffix.lower() != ".mbtiles":
        raise InputError(f"--out {options.out} is not an .mbtiles file; give a name that ends in .mbtiles")
    if not options.out.absolute().parent.is_dir():
        raise MissingInputError(f"there is no folder {options.out.absolute().parent}; create it or give another --out")
    out = options.out.absolute()
    zooms = wanted_zooms(spec, area, parse_zooms(options.zoom) if options.zoom else None)
    plan = make_plan(spec, area, zooms, out)
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr if options.json else sys.stdout)  # noqa: E731
    _show_plan(spec, area, plan, say)
    if not options.yes and not _agreed(plan):
        say("nothing was fetched and nothing written")
        return 1
    if described.capabilities_url:
        with_capabilities(described, out, False)  # kept beside the file, so that the YAML works offline with it
    report = _fetch(spec, plan, out)
    coverage = survey(MbtilesStore(out), plan.tiles) if _has_tiles(report) else Coverage()
    picture = out.with_suffix(".png") if coverage.wanted else None
    if picture is not None:
        write_png(picture, quick_look(MbtilesStore(out), plan.tiles, area.lines + _closed(area.rings)))
    _show_result(out, report, coverage, picture, say)
    if options.json:
        print(json.dumps(_summary(spec, area, plan, out, report, coverage, picture)))
    return _status(report)


def lines_of_file(path: Path) -> tuple[NDArray[np.float64], ...]:
    """Lines (N, 2) latitude, longitude of a GPX or GeoJSON file, or of the GNSS fixes of a bag."""
    if path.is_dir() or path.suffix.lower() in (".bag", ".mcap", ".db3"):
        with Bag(path) as bag:
            return fix_lines(bag)
    return read_track(path)


def _area(options: argparse.Namespace) -> Area:
    given = [name for name in ("bag", "bbox", "track", "polygon") if getattr(options, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise InputError(f"give one area: BAG, --bbox, --track or --polygon ({found} given)")
    if options.bbox is not None:
        return Area.from_box(*parse_box(options.bbox), buffer_m=options.buffer_m)
    if options.polygon is not None:
        return Area(rings=read_polygon(options.polygon), buffer_m=options.buffer_m, name=str(options.polygon))
    if options.track is not None:
        return Area(lines=lines_of_file(options.track), buffer_m=options.buffer_m, name=str(options.track))
    with Bag(options.bag) as bag:
        return Area(lines=fix_lines(bag), buffer_m=options.buffer_m, name=str(options.bag))


def _with_capabilities(spec: SourceSpec) -> SourceSpec:
    """The spec with zooms and bounds that the service states, read without leaving anything on the disk."""
    if not spec.capabilities_url:
        return spec
    with tempfile.TemporaryDirectory() as folder:
        return with_capabilities(spec, Path(folder) / "map.mbtiles", False)


def _show_plan(spec: SourceSpec, area: Area, plan: Plan, say: Callable[[str], None]) -> None:
    say(f"{spec.name}: {area.name}, {area.buffer_m:g} m around it")
    say(f"  attribution  {spec.attribution or 'not given'}")
    say(f"  licence      {' '.join(part for part in (spec.licence, spec.licence_url) if part) or 'not given'}")
    for zoom, count in plan.tiles.counts.items():
        metres = mercator_meters_per_pixel(area.middle_latitude_deg, zoom, spec.tile_size_px)
        say(f"  zoom {zoom:2d}      {count} tiles, {metres:.2f} m per pixel")
    say(f"  to fetch     {plan.to_fetch} tiles ({plan.held} are there), about {_megabytes(plan.size_bytes)}")
    say(f"               {plan.tile_bytes / 1e3:.1f} kB a tile, {plan.bytes_from}")
    say(f"  at least     {_duration(plan.to_fetch / spec.rate_per_s)}, at most {spec.rate_per_s:g} tiles a second")


def _agreed(plan: Plan) -> bool:
    if not sys.stdin.isatty():
        raise InputError(
            f"{plan.to_fetch} tiles, about {_megabytes(plan.size_bytes)}, would be fetched, and there is no terminal "
            "to ask on; add --yes"
        )
    print("Fetch them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _fetch(spec: SourceSpec, plan: Plan, out: Path) -> FetchReport:
    # What is fetched on purpose is not dropped for being too much, nor replaced by the limit of a cache for driving.
    store = open_online(dataclasses.replace(spec, cache_limit_mb=1e9, capabilities_url=""), out)
    try:
        with tqdm(total=len(plan.tiles), unit="tile", file=sys.stderr, disable=None) as bar:

            def advance(report: FetchReport) -> None:
                bar.update(report.done - bar.n)
                bar.set_postfix_str(f"{report.bytes / 1e6:.1f} MB, {report.failed} failed", refresh=False)

            return store.fetch_all(plan.tiles, advance)  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise
    finally:
        store.close()
        cache_file.stand_alone(out)


def _has_tiles(report: FetchReport) -> bool:
    return report.held + report.fetched > 0


def _status(report: FetchReport) -> int:
    """0, or the reason as an error: tiles that the source refused or failed to give."""
    if report.stopped:
        raise MapError(report.stopped)
    if report.failed:
        last = report.problems[-1] if report.problems else "the server gave no usable answer"
        raise MapError(f"{report.failed} tiles could not be fetched ({last.rstrip('.')}); run the same command again")
    if not _has_tiles(report):
        last = f" ({report.problems[-1].rstrip('.')})" if report.problems else ""
        raise MapError(f"the source has no imagery there{last}; check the area, or take another source")
    return 0


def _show_result(
    out: Path, report: FetchReport, coverage: Coverage, picture: Path | None, say: Callable[[str], None]
) -> None:
    say(
        f"{report.fetched} tiles fetched ({_megabytes(report.bytes)}), {report.held} were there, {report.missing} the "
        f"source does not have, {report.failed} failed"
    )
    for row in coverage.rows():
        say(f"  zoom {row['zoom']}: {row['present']} of {row['wanted']} tiles ({row['share']:.1%})")
    if coverage.damaged:
        say(f"  {len(coverage.damaged)} tiles are damaged, the first {coverage.damaged[0]}; run the same command again")
    if picture is not None:
        say(f"map {out}, picture {picture}")


def _summary(
    spec: SourceSpec,
    area: Area,
    plan: Plan,
    out: Path,
    report: FetchReport,
    coverage: Coverage,
    picture: Path | None,
) -> dict[str, Any]:
    return {
        "source": spec.name,
        "attribution": spec.attribution,
        "licence": spec.licence,
        "area": area.name,
        "buffer_m": area.buffer_m,
        "tiles": {str(zoom): count for zoom, count in plan.tiles.counts.items()},
        "estimated_bytes": round(plan.size_bytes),
        "fetch": dataclasses.asdict(report),
        "coverage": coverage.rows(),
        "absent": [str(key) for key in coverage.absent],
        "damaged": [str(key) for key in coverage.damaged],
        "out": str(out),
        "out_bytes": out.stat().st_size if out.is_file() else 0,
        "picture": str(picture) if picture else None,
    }


def _closed(rings: tuple[NDArray[np.float64], ...]) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.concatenate([ring, ring[:1]]) for ring in rings)


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds) % 60:02d} s"
