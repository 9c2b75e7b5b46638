"""The report: one HTML page with everything in it, so that it opens offline, from a mail, years later."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from cross_view_loc.bags.results import FrameRecord, without_nan
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline
from cross_view_loc.report.map_layer import MapLayer
from cross_view_loc.report.panels import Picture
from cross_view_loc.report.series import distributions, frame_columns, grouped_reasons


@dataclass(frozen=True)
class Report:
    """All that the page tells."""

    bag: str
    records: Sequence[FrameRecord]
    row: dict[str, Any]
    """Figures as `evaluation.runs.run_row` gives them."""
    truth: Timeline[Matrix] | None = None
    truth_name: str = ""
    no_truth_because: str = ""
    layer: MapLayer | None = None
    pictures: Sequence[Picture] = ()
    configuration: str = ""
    """YAML."""
    facts: Sequence[tuple[str, str]] = ()
    """Shown as a table: versions, map, topics."""
    partial: str = ""
    """Why the run did not reach the end; empty when it did."""
    assumptions: Mapping[str, int] = field(default_factory=dict)
    """For how many estimates something was assumed because an input lacked or could not be true, by sentence."""
    calibration: str = ""
    """What was fitted on the drive, lines for people; empty when nothing was."""


def page(report: Report) -> str:
    """The whole HTML document."""
    spread = distributions(report.records, report.truth)
    data = {
        "frames": frame_columns(report.records, report.truth),
        "spread": spread,
        "row": report.row,
        "hasTruth": report.truth is not None,
        "counts": _counts(report.records),
        "reasons": grouped_reasons(report.records),
        "map": None if report.layer is None else _extent(report.layer),
    }
    values = {
        "title": html.escape(title(report)),
        "bag": html.escape(report.bag),
        "verdict": html.escape(verdict(report)),
        "partial": f'<p class="warn">Partial: {html.escape(report.partial)}</p>' if report.partial else "",
        "warnings": "".join(f'<p class="warn">{html.escape(told)}</p>' for told in warnings(report)),
        "calibration": (
            f"<h2>Calibration</h2><pre>{html.escape(report.calibration)}</pre>" if report.calibration else ""
        ),
        "truth_note": html.escape(_truth_note(report)),
        "figures": _figures(report, spread),
        "ortho": "" if report.layer is None else _image(report.layer.jpeg, "orthophoto", "ortho"),
        "map_note": "" if report.layer is not None else "The map has no imagery here.",
        "panels": "".join(_panel(picture) for picture in report.pictures) or "<p>No estimate to show.</p>",
        "configuration": html.escape(report.configuration),
        "facts": "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in report.facts
        ),
        "style": _part("report.css"),
        "script": _part("map.js") + _part("charts.js"),
        # "</script>" in a topic's name or a reason must not end the element.
        "data": json.dumps(without_nan(data), separators=(",", ":")).replace("<", "\\u003c"),
    }
    text = _part("report.html")
    pieces = text.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:  # in one pass: what is filled in is not searched for places again
        name, rest = piece.split("}}", 1)
        filled += [values[name], rest]
    return "".join(filled)


def title(report: Report) -> str:
    """Of the browser's tab."""
    failed = "" if _counts(report.records)["accepted"] else "no pose accepted · "
    return f"{failed}{report.bag} · cross_view_loc"


def warnings(report: Report) -> list[str]:
    """What the reader should know before the figures: that inputs contradict each other, or that one is missing."""
    most = sorted(report.assumptions.items(), key=lambda pair: -pair[1])[:5]
    return [f"Warning, for {count} image{'s' if count != 1 else ''}: {sentence}" for sentence, count in most]


def verdict(report: Report) -> str:
    """The result in one sentence."""
    counts, row = _counts(report.records), report.row
    localized = counts["accepted"] + counts["refused"]
    told = f"{localized} of {len(report.records)} images localized, {counts['accepted']} accepted"
    if not counts["accepted"]:
        told = f"No pose accepted: {localized} of {len(report.records)} images localized"
    if report.truth is None:
        spread = distributions(report.records, None)
        if spread["within95"] is None:
            return f"{told}; without truth their errors are not known."
        return (
            f"{told}; without truth their errors are not known, but {_percent(spread['within95'])} of the accepted "
            "ones lie within the joint 95 % region of estimate and GNSS."
        )
    median = row["accepted_position_median_m"]
    which = "median error"
    if median is None:
        median, which = row["position_median_m"], "median error of all"
    if median is None:
        return f"{told}; the truth does not reach them."
    return f"{told}, {which} {median:.2f} m against GNSS {row['prior_position_median_m']:.2f} m."


def _truth_note(report: Report) -> str:
    if report.truth is not None:
        return f"Errors are against {report.truth_name}."
    because = f" ({report.no_truth_because})" if report.no_truth_because else ""
    return (
        f"Nothing says where the vehicle really was{because}: this page cannot tell errors, coverage or NEES. Shown "
        "instead is how far estimates lie from the GNSS prior, and whether that is within what both claim."
    )


def _figures(report: Report, spread: dict[str, Any]) -> str:
    row, counts = report.row, _counts(report.records)
    share = counts["accepted"] / max(len(report.records), 1)
    tiles = [("accepted", _percent(share), f"of {len(report.records)} images")]
    if report.truth is not None:
        tiles += [
            ("median error", _metres(row["accepted_position_median_m"]), "accepted images"),
            ("95 % below", _metres(row["accepted_position_p95_m"]), "accepted images"),
            ("GNSS median", _metres(row["prior_position_median_m"]), "the prior's error"),
            ("heading", _figure(row["heading_median_deg"], ".2f", "°"), "median error, all"),
            ("in 95 % ellipsoid", _percent(row["coverage_95"]), "should be 95 %"),
            ("NEES / 3", _figure(row["nees_per_dof"], ".2f"), "should be 1"),
        ]
    else:
        median = spread["accepted"][50] if spread["accepted"] else None
        tiles += [
            ("from GNSS", _metres(median), "median distance, accepted"),
            ("consistent", _percent(spread["within95"]), "within the joint 95 % region"),
        ]
    tiles.append(("per image", _figure(row["frame_seconds_p50"], ".2f", " s"), "median computing time"))
    return "".join(
        f'<div class="tile"><span>{name}</span><b>{value}</b><small>{html.escape(note)}</small></div>'
        for name, value, note in tiles
    )


def _counts(records: Sequence[FrameRecord]) -> dict[str, int]:
    return {status: sum(record.status == status for record in records) for status in ("accepted", "refused", "skipped")}


def _extent(layer: MapLayer) -> dict[str, float]:
    sides = {"west": layer.west_m, "south": layer.south_m, "east": layer.east_m, "north": layer.north_m}
    return {name: round(value, 4) for name, value in sides.items()}


def _panel(picture: Picture) -> str:
    caption = f"<b>{html.escape(picture.title)}</b> {html.escape(picture.note)}"
    return f"<figure>{_image(picture.jpeg, picture.title)}<figcaption>{caption}</figcaption></figure>"


def _image(jpeg: bytes, alt: str, identity: str = "") -> str:
    named = f' id="{identity}"' if identity else ""
    return f'<img{named} alt="{html.escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def _figure(value: float | None, style: str, unit: str = "") -> str:
    return "–" if value is None else f"{format(value, style)}{unit}"


def _percent(value: float | None) -> str:
    return _figure(None if value is None else 100.0 * value, ".0f", " %")


def _metres(value: float | None) -> str:
    return _figure(value, ".2f", " m")


def _part(name: str) -> str:
    return resources.files("cross_view_loc.report").joinpath(name).read_text(encoding="utf-8")
