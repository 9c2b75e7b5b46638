"""Writes report.html into a result folder, from what a run over a bag has at its end."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc import __version__
from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.bags.offline import OfflineRun
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.doctor.machine import PACKAGES
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline
from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED
from cross_view_loc.report.map_layer import cut_map_layer
from cross_view_loc.report.page import Report, page
from cross_view_loc.report.panels import choose, draw_panels
from cross_view_loc.settings import Settings, parameter_file_text
from cross_view_loc.tracking.tracked import Locate

FILE_NAME = "report.html"
FAR_M = 200.0
"""Estimates farther from their prior do not widen the map."""


def write_report(
    folder: Path,
    offline: OfflineRun,
    locate: Locate,
    records: Sequence[FrameRecord],
    row: dict[str, Any],
    truth: Timeline[Matrix] | None = None,
    truth_name: str = "",
    no_truth_because: str = "",
    partial: str = "",
    assumptions: Mapping[str, int] | None = None,
    calibration: str = "",
) -> Path:
    """Write the page beside the other results; three images are read and localized again for their pictures.

    `assumptions` counts the estimates by what was assumed for them, `calibration` is what was fitted, for people.
    """
    aerial = AerialMap(offline.source, offline.projection)
    report = Report(
        bag=str(offline.bag.path),
        records=records,
        row=row,
        truth=truth,
        truth_name=truth_name,
        no_truth_because=no_truth_because,
        layer=cut_map_layer(aerial, _track(records)),
        pictures=draw_panels(offline, locate, choose(records, truth)),
        configuration=parameter_file_text(offline.settings),
        facts=facts(offline, records, row),
        partial=partial,
        assumptions=assumptions or {},
        calibration=calibration,
    )
    path = folder / FILE_NAME
    path.write_text(page(report), encoding="utf-8")
    return path


def facts(offline: OfflineRun, records: Sequence[FrameRecord], row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the result depends on, as names and values for people; `row` tells which depth source served."""
    settings, origin = offline.settings, offline.projection.origin
    used = dataclasses.asdict(dataclasses.replace(offline.topics, rig=(), origins={}, unused=()))
    topics = {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in used.items() if value}
    found = [
        ("bag", str(offline.bag.path.resolve())),
        ("images", f"{len(records)}, {(records[-1].stamp_ns - records[0].stamp_ns) / 1e9:.1f} s"),
        ("map", settings.map_path),
        (
            "map origin",
            f"{origin.latitude_deg:.7f}, {origin.longitude_deg:.7f}, {origin.height_m:.1f} m (from "
            f"{offline.origin_from}; {settings.map_projection})",
        ),
        ("topics", "; ".join(f"{name}: {value}" for name, value in topics.items())),
        ("depth", str(row.get("depth_notice") or row.get("depth", settings.depth))),
        ("weights", weights_text(settings, str(row.get("depth", "")))),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}; device {settings.device}"),
        ("versions", versions_text()),
    ]
    problems = list(offline.source.problems)[:3]
    return found + ([("map problems", "; ".join(problems))] if problems else [])


def versions_text() -> str:
    """This package, Python and the libraries it stands on."""
    told = [f"cross_view_loc {__version__}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(told)


def weights_text(settings: Settings, depth: str = "") -> str:
    """Files and the beginnings of their SHA-256 sums; `depth` served, where not that of the settings."""
    depth = depth or settings.depth
    folder = Path(settings.weights_dir) if settings.weights_dir else SHIPPED
    files = [folder / MATCHER_FILE] + ([folder / DEPTH_FILE] if depth == "learned" else [])
    files += [Path(settings.loc2_weights)] if settings.loc2_weights else []
    told = [
        f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}…)"
        for path in files
        if path.is_file()
    ]
    return ", ".join(told if depth in ("learned", "flat") else [*told, f"depth {depth}"])


def _track(records: Sequence[FrameRecord]) -> np.ndarray:
    """(N, 2) positions that should lie on the map's picture."""
    points = []
    for record in records:
        prior, estimate = record.prior, record.estimate
        if prior is not None:
            points.append((prior.east_m, prior.north_m))
        if estimate is None or (not estimate.accepted and prior is None):
            continue
        place = (estimate.east_m, estimate.north_m)
        if prior is None or np.hypot(place[0] - prior.east_m, place[1] - prior.north_m) < FAR_M:
            points.append(place)
    return np.array(points, dtype=np.float64).reshape(-1, 2)
