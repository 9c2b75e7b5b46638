"""`cross_view_loc evaluate bag`: a drive against its truth, the imagery's offset, and what fusing the poses gives."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from cross_view_loc.bags.offline import OfflineRun, open_run
from cross_view_loc.bags.results import (
    FrameRecord,
    grouped,
    refuse_full_folder,
    result_folder,
    without_nan,
    write_json,
    write_results,
)
from cross_view_loc.bags.truth import RecordedTruth, read_recorded_truth, refuse_truth_of_elsewhere
from cross_view_loc.commands.calibrate_bag import calibrate, calibration_text
from cross_view_loc.commands.run import check_span, show_topics
from cross_view_loc.commands.run_one import REPORT, localized
from cross_view_loc.commands.tables import text_table
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.map_offset import estimate_map_offset, offset_object, offset_text
from cross_view_loc.evaluation.runs import TRUTH_GAP_NS, depth_served, run_row
from cross_view_loc.settings import Settings, parameter_file_text
from cross_view_loc.tracking.tracked import Locate

EXAMPLES = """examples:
  cross_view_loc evaluate bag drive/bag --map drive/map.mbtiles --config drive/localizer.yaml
  cross_view_loc evaluate bag my_bag --map city.tif --truth /rtk/odometry --fuse
  cross_view_loc evaluate bag my_bag --map city.tif --config car.yaml --truth truth.tum --calibrate --json

Truth is an Odometry, PoseStamped or PoseWithCovarianceStamped topic in the map's frame, a NavSatFix topic (RTK), or a
TUM file; it counts from map_origin. Printed are the errors, the imagery's offset with the YAML to set (where the truth
is better than the map), with --fuse the errors of a small reference filter over odometry with the fixes and with our
poses, with --calibrate what camera and covariance should be corrected by, fitted on the first half of the drive and
advised only where the second half becomes better; that takes a drive of at least two minutes, with turns.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="the recording")
    parser.add_argument("--map", type=Path, metavar="MAP", help="as of `run`; default: map_path")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="the node's parameter file; topics it does not name are guessed"
    )
    parser.add_argument("--truth", default="", metavar="TOPIC|FILE", help="default: the topic that is called truth")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip this much of the bag (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="S", help="use only this much of it")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="every Nth image (%(default)s)")
    parser.add_argument("--fuse", action="store_true", help="fuse with odometry in a reference filter, against GNSS")
    parser.add_argument(
        "--calibrate", action="store_true", help="fit camera, imagery and covariance on one half, try on the other"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write estimates, metrics and report.html there")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """Localize the drive once and measure everything asked for on it."""
    check_span(options)
    refuse_full_folder(options.out)
    configured = Settings.from_yaml(options.config) if options.config else None
    with open_run(options.bag, options.map, configured, show_topics) as offline:
        truth = read_recorded_truth(offline, options.truth)
        span = offline.span(options.start, options.duration)
        localizer = offline.localizer()
        runner = offline.runner(localizer.locate, options.stride)
        records, partial, status = localized(runner, span)
        refuse_truth_of_elsewhere(truth, [record.prior for record in records if record.prior], TRUTH_GAP_NS)
        named = {"bag": str(options.bag), "against": truth.name}
        rows = [run_row(records, truth.poses, offline.settings, **named, **depth_served(localizer))]
        summary: dict[str, Any] = {"results": rows, "map_offset": _offset(offline, records, truth)}
        summary["partial"] = partial or False
        summary["assumptions"] = dict(grouped(runner.assumed).most_common())
        if options.fuse and not partial:  # these two need the whole drive
            rows += _fused_rows(offline, records, truth, span, options)
        if options.calibrate and not partial:
            more, summary["calibration"] = calibrate(offline, truth, span, options.stride, **named)
            rows += more
            if "map_offset" not in summary["calibration"]["advised"] and summary["map_offset"].get("significant"):
                # The whole drive must not advise what half of it does not bear out.
                summary["map_offset"]["not_borne_out"] = True
                summary["map_offset"].pop("yaml", None)
        if options.out:
            summary["out"] = str(options.out)
            _write(options, offline, localizer.locate, records, truth, summary)
    if partial:
        left_out = ", without --fuse and --calibrate" if options.fuse or options.calibrate else ""
        print(f"cross_view_loc evaluate: partial{left_out}: {partial}", file=sys.stderr)
    print(json.dumps(without_nan(summary)) if options.json else _text(summary))
    return status


def _offset(offline: OfflineRun, records: list[FrameRecord], truth: RecordedTruth) -> dict[str, Any]:
    """The imagery's offset as an object for JSON; only a reason where it cannot be told."""
    try:
        offset = estimate_map_offset(records, truth.poses, truth.std_m, offline.settings.map_std_m)
    except InputError as error:
        return {"reason": str(error)}
    return offset_object(offset, offline.source, offline.settings.map_path)


def _fused_rows(
    offline: OfflineRun,
    records: list[FrameRecord],
    truth: RecordedTruth,
    span: tuple[int, int],
    options: argparse.Namespace,
) -> list[dict[str, object]]:
    from cross_view_loc.evaluation.fusion import WAYS, fuse, fused_row, read_fusion_input

    given = read_fusion_input(offline, records, *span)
    return [fused_row(fuse(given, way), truth.poses, bag=str(options.bag), against=truth.name) for way in WAYS]


def _write(
    options: argparse.Namespace,
    offline: OfflineRun,
    locate: Locate,
    records: list[FrameRecord],
    truth: RecordedTruth,
    summary: dict[str, Any],
) -> None:
    folder = result_folder(options.out)
    write_results(folder, records, offline.projection)
    header = f"What `cross_view_loc evaluate bag {options.bag}` used."
    (folder / "localizer.yaml").write_text(parameter_file_text(offline.settings, header), encoding="utf-8")
    write_json(folder / "metrics.json", summary)
    from cross_view_loc.report.write import write_report

    fitted = calibration_text(summary["calibration"]) if "calibration" in summary else ""
    write_report(
        folder, offline, locate, records, summary["results"][0], truth.poses, truth.name, "", summary["partial"] or "",
        summary["assumptions"], fitted,
    )  # fmt: skip


COLUMNS = (
    ("frames", "frames", "d"),
    ("accepted", "accepted", ".0%"),
    ("position_median_m", "median m", ".2f"),
    ("position_mean_m", "mean m", ".2f"),
    ("position_p95_m", "p95", ".2f"),
    ("accepted_position_median_m", "acc. median", ".2f"),
    ("accepted_position_p95_m", "acc. p95", ".2f"),
    ("lateral_median_m", "lateral", ".2f"),
    ("longitudinal_median_m", "longit.", ".2f"),
    ("heading_median_deg", "heading °", ".2f"),
    ("coverage_95", "in 95 %", ".0%"),
    ("nees_per_dof", "NEES/3", ".2f"),
    ("prior_position_median_m", "prior m", ".2f"),
)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows aligned: every image by itself, then the fused ways; a figure without data is a dash."""
    named = [{"": str(row.get("fused") or row.get("part") or "every image"), **row} for row in rows]
    return text_table(named, (("", "", ""), *COLUMNS), names=1)


def _text(summary: dict[str, Any]) -> str:
    lines = [table(summary["results"]), ""]
    fused = {row["fused"]: row for row in summary["results"] if row.get("fused")}
    if fused:
        means = {way: row["position_mean_m"] or math.nan for way, row in fused.items()}
        alone = min(mean for way, mean in means.items() if "poses" not in way)
        share = f"{means['odometry+poses'] / alone:.2f}" if alone > 0.0 else "–"
        lines += [f"fused with poses, the mean error is {share} of the better one fused with GNSS alone", ""]
    lines.append(offset_text(summary["map_offset"]))
    if "calibration" in summary:
        lines += ["", calibration_text(summary["calibration"])]
    if "out" in summary:
        lines += ["", f"results in {summary['out']}; look at {Path(summary['out']) / REPORT}"]
    return "\n".join(lines)
