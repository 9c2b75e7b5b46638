"""`cross_view_loc evaluate`: errors by a stated protocol, on places the weights have never seen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from cross_view_loc.commands import evaluate_bag, evaluate_pairs, evaluate_sensitivity
from cross_view_loc.commands.depth_option import town_depth_name
from cross_view_loc.commands.quiet_warp import start_warp
from cross_view_loc.commands.tables import text_table
from cross_view_loc.commands.train import parse_seeds
from cross_view_loc.errors import InputError
from cross_view_loc.settings import parameter_named

if TYPE_CHECKING:
    from cross_view_loc.evaluation.town_rows import RowResult

EXAMPLES = """examples:
  cross_view_loc evaluate town --seeds 9000-9003 --json
  cross_view_loc evaluate town --seeds 9000 --depth flat --frames 20
  cross_view_loc evaluate town --protocol heading_unknown --depth learned --estimator matches
  cross_view_loc evaluate town --protocol offset --protocol panorama --depth true --depth learned --cache renders
  cross_view_loc evaluate town --seeds 9000-9019 --frames 50 --by-scene --out evaluation
protocols:
  offset           prior uniform in ±20 m along each axis, heading within ±10°
  heading_unknown  prior uniform within 20 m, any heading
  gnss             prior with σ 3 m, heading with σ 5°
  panorama         as offset, with one 360° camera whatever --cameras says
gaps: mild is another season and light; hard adds night, wet, a changed and displaced map, lens, shutter, JPEG, dirt
depths: true is rendered, relative is the network's with a random scale per image, anchored to the camera's height,
  inverse the same as a / z + b with random a and b per image;
  learned, flat, a name of `models list`, hf:FOLDER_OR_NAME or onnx:FILE as everywhere
Options that may be repeated are combined; a town is rendered once and measured under every combination.
--out writes results.json, table.txt, risk_coverage.png, calibration.png and gallery/<row>/01.jpg …, the worst frames.
KITTI and VIGOR: `cross_view_loc evaluate kitti --help`, `cross_view_loc evaluate vigor --help`.
A recording against its truth, the imagery's offset, fusion with odometry (`cross_view_loc evaluate bag --help`):
  cross_view_loc evaluate bag drive/bag --map drive/map.mbtiles --config drive/localizer.yaml --fuse
What wrong calibration, map, prior and odometry cost (`cross_view_loc evaluate sensitivity --help`):
  cross_view_loc evaluate sensitivity --seeds 9000-9001 --frames 20
"""
PROTOCOL_CHOICES = ("offset", "heading_unknown", "gnss", "panorama")
CAMERA_CHOICES = ("front", "surround", "panorama", "fisheye", "fisheye_down")
GAP_CHOICES = ("mild", "hard")
REGION_CHOICES = ("town", "suburb", "rural", "forest")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the benches."""
    benches = parser.add_subparsers(dest="bench", required=True)
    evaluate_bag.configure(
        benches.add_parser(
            "bag",
            help="a recording against its truth",
            epilog=evaluate_bag.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    evaluate_sensitivity.configure(
        benches.add_parser(
            "sensitivity",
            help="what wrong calibration, map, prior and odometry cost on towns",
            epilog=evaluate_sensitivity.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    for name, what, examples, declare in (
        ("kitti", "the KITTI cross-view benchmark", evaluate_pairs.KITTI_EXAMPLES, evaluate_pairs.configure_kitti),
        ("vigor", "the VIGOR benchmark", evaluate_pairs.VIGOR_EXAMPLES, evaluate_pairs.configure_vigor),
    ):
        raw = argparse.RawDescriptionHelpFormatter
        declare(benches.add_parser(name, help=what, epilog=examples, formatter_class=raw))
    town = benches.add_parser("town", help="unseen procedural towns, exact truth")
    town.add_argument("--seeds", type=parse_seeds, default=[9000, 9001, 9002, 9003], metavar="A-B")
    town.add_argument("--frames", type=int, default=40, help="frames a town")
    town.add_argument("--protocol", action="append", choices=PROTOCOL_CHOICES, help="repeatable; default offset")
    town.add_argument("--cameras", action="append", choices=CAMERA_CHOICES, help="repeatable; default front")
    town.add_argument(
        "--gap", action="append", choices=GAP_CHOICES, help="between map and camera; repeatable; default mild"
    )
    town.add_argument("--region", action="append", choices=REGION_CHOICES, help="repeatable; default town")
    town.add_argument(
        "--window",
        type=int,
        action="append",
        metavar="N",
        help="moments an estimate, joined by odometry; repeatable; default 1",
    )
    town.add_argument(
        "--depth", action="append", type=town_depth_name, metavar="NAME", help="repeatable; default learned and flat"
    )
    town.add_argument(
        "--estimator",
        action="append",
        choices=parameter_named("estimator").choices,
        help="repeatable; default consensus",
    )
    town.add_argument("--model", action="append", help="folder of weights, repeatable; default those that ship")
    town.add_argument("--by-scene", action="store_true", help="add rows for junctions, streets and bends")
    town.add_argument("--device", default="auto")
    town.add_argument(
        "--map-std",
        type=float,
        help="metres added to every covariance for the map; default: the gap's own",
    )
    town.add_argument("--town-size", type=float, default=400.0, help="side in metres (%(default)s)")
    town.add_argument("--cache", type=Path, metavar="DIR", help="keep rendered towns there and use them again")
    town.add_argument("--out", type=Path, metavar="DIR", help="write figures, plots and the failure gallery there")
    town.add_argument("--worst", type=int, default=10, help="pictures a row in the gallery (%(default)s)")
    town.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Render each bench once, then measure every setting on it; recordings and data sets go their own way."""
    if options.bench == "bag":
        return evaluate_bag.execute(options)
    if options.bench == "sensitivity":
        return evaluate_sensitivity.execute(options)
    if options.bench in ("kitti", "vigor"):
        return evaluate_pairs.execute(options)
    _check(options)
    from cross_view_loc.evaluation.town_rows import combine, measure
    from cross_view_loc.localizer import LocalizerSettings
    from cross_view_loc.simulation.gap import map_std_of

    settings = combine(
        options.protocol or ["offset"],
        options.gap or ["mild"],
        options.region or ["town"],
        options.depth or ["learned", "flat"],
        options.estimator or ["consensus"],
        options.cameras or ["front"],
        options.model or [""],
        options.window or [1],
    )

    def base(gap: str) -> LocalizerSettings:
        map_std_m = map_std_of(gap) if options.map_std is None else options.map_std
        # Where a simulated camera looks is known exactly.
        return LocalizerSettings(
            device=options.device, map_std_m=map_std_m, mount_yaw_std_deg=0.0, threads=os.cpu_count() or 1
        )

    start_warp()
    total = len(options.seeds) * len(settings) * options.frames
    with tqdm(total=total, unit="frame", file=sys.stderr, disable=None) as progress:

        def advance(drive: str) -> None:
            progress.set_description(drive, refresh=False)
            progress.update()

        results = measure(
            settings,
            options.seeds,
            options.frames,
            base,
            town_size_m=options.town_size,
            cache=options.cache,
            worst=options.worst if options.out else 0,
            on_render=lambda drive: progress.set_description(f"rendering {drive}"),
            on_frame=advance,
        )
    seeds = [min(options.seeds), max(options.seeds)]
    rows = [result.row(seeds=seeds) for result in results]
    if options.by_scene:
        rows += [row for result in results for row in result.scene_rows(seeds=seeds)]
    if options.out:
        write_folder(options.out, rows, results)
    print(json.dumps({"results": rows}) if options.json else table(rows))
    return 0


def _check(options: argparse.Namespace) -> None:
    """InputError for what argparse cannot see, before anything is rendered."""
    if options.frames < 1:
        raise InputError(f"--frames is {options.frames}; give at least 1")
    if options.worst < 0:
        raise InputError(f"--worst is {options.worst}; give 0 for no gallery, or more")
    for name, folder in (("--out", options.out), ("--cache", options.cache)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; choose a folder for {name}")
    if options.out is not None and options.out.is_dir() and any(options.out.iterdir()):
        raise InputError(f"{options.out} is not empty and results would mix; choose another folder for --out")


def write_folder(out: Path, rows: list[dict[str, object]], results: Sequence[RowResult]) -> None:
    """results.json, table.txt, the two plots and a gallery for each row that kept frames."""
    from cross_view_loc.evaluation.gallery import draw_gallery
    from cross_view_loc.evaluation.plots import draw_calibration, draw_risk_coverage

    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps({"results": rows}, indent=1) + "\n", encoding="utf-8")
    (out / "table.txt").write_text(table(rows) + "\n", encoding="utf-8")
    names = _short_names(results)
    curves = [(name, result.errors) for name, result in zip(names, results, strict=True)]
    draw_risk_coverage(out / "risk_coverage.png", curves)
    draw_calibration(out / "calibration.png", curves)
    for result in results:
        if result.worst.cases:
            draw_gallery(out / "gallery" / result.setting.slug, result.worst.cases)


def _short_names(results: Sequence[RowResult]) -> list[str]:
    """What tells the rows apart, for legends."""
    rows = [result.row() for result in results]
    keys = [key for key, _, _ in SETTING_COLUMNS if len({str(row[key]) for row in rows}) > 1] or ["depth"]
    return [", ".join(str(row[key]) for key in keys) for row in rows]


SETTING_COLUMNS = (
    ("protocol", "protocol", ""),
    ("gap", "gap", ""),
    ("region", "region", ""),
    ("place", "place", ""),
    ("cameras", "cameras", ""),
    ("model", "model", ""),
    ("depth", "depth", ""),
    ("estimator", "estimator", ""),
    ("window", "window", ""),
)
ALWAYS_SHOWN = ("depth", "estimator")
COLUMNS = (
    ("frames", "frames", "d"),
    ("accepted", "accepted", ".0%"),
    ("position_median_m", "median m", ".2f"),
    ("position_mean_m", "mean m", ".2f"),
    ("lateral_median_m", "lateral", ".2f"),
    ("longitudinal_median_m", "longit.", ".2f"),
    ("heading_median_deg", "heading °", ".2f"),
    ("recall_1m", "≤1 m", ".0%"),
    ("recall_2m", "≤2 m", ".0%"),
    ("recall_2m_5deg", "≤2 m, 5°", ".0%"),
    ("accepted_position_p95_m", "acc. p95", ".2f"),
    ("accepted_beyond_5m", "acc. >5 m", ".1%"),
    ("coverage_50", "in 50 %", ".0%"),
    ("coverage_95", "in 95 %", ".0%"),
    ("coverage_99", "in 99 %", ".0%"),
    ("nees_per_dof", "NEES/3", ".2f"),
    ("risk_coverage_area", "AURC", ".3f"),
    ("confidence_ece", "ECE", ".3f"),
    ("prior_position_median_m", "prior m", ".1f"),
    ("frame_seconds_p50", "s/frame", ".2f"),
    ("frame_seconds_p95", "p95", ".2f"),
)


def table(rows: list[dict[str, object]]) -> str:
    """The rows as an aligned text table; settings that never differ are left out, a figure without data is a dash."""
    varied = [
        column for column in SETTING_COLUMNS
        if column[0] in ALWAYS_SHOWN or len({str(row[column[0]]) for row in rows}) > 1
    ]  # fmt: skip
    return text_table(rows, (*varied, *COLUMNS))
