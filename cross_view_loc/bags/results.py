"""What a run leaves on disk: estimates as TUM, CSV and GeoJSON, metrics as JSON, and the configuration it used."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cross_view_loc.bags.gpx import gpx_text
from cross_view_loc.errors import InputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.types import Estimate, Prior

CSV_COLUMNS = (
    "stamp_ns", "status", "reason", "east_m", "north_m", "yaw_rad", "latitude_deg", "longitude_deg",
    "var_east", "cov_east_north", "cov_east_yaw", "var_north", "cov_north_yaw", "var_yaw",
    "scale", "scale_std", "confidence", "inlier_ratio", "prior_east_m", "prior_north_m", "prior_yaw_rad",
)  # fmt: skip


@dataclass(frozen=True)
class FrameRecord:
    """What became of one camera image.

    `status` is "accepted", "refused" (an estimate that did not pass the gate) or "skipped" (no estimate at all);
    `reason` is empty only when accepted. `seconds` is the time the localizer took, 0 when it was not asked.
    """

    stamp_ns: int
    status: str
    reason: str = ""
    prior: Prior | None = None
    estimate: Estimate | None = None
    seconds: float = 0.0
    search: Prior | None = None
    """Where the tracker had it searched; the prior where there is no tracker."""
    recorded_ns: int = 0
    """Bag time of the image that completed it."""
    state: tuple[str, str] = ("", "")
    """The tracker's word after it, and why; empty when the image did not come that far."""


NUMBER = re.compile(r"(?<![\w./])\d+(?:\.\d+)?")
"""A number by itself; the digits of /camera2 or v1.3 are part of a name."""


def reasons(records: Iterable[FrameRecord]) -> Counter[str]:
    """How often each reason for skipping or refusing occurred, grouped as `grouped` does."""
    return grouped(Counter(record.reason for record in records if record.reason))


def grouped(counts: Mapping[str, int]) -> Counter[str]:
    """Sentences that differ in numbers only as one, which shows each number's range ("2.3–2.6 m"); counts added."""
    kinds: dict[str, Counter[str]] = {}
    for sentence, count in counts.items():
        kinds.setdefault(NUMBER.sub("…", sentence), Counter())[sentence] += count
    return Counter({_with_ranges(list(kind)): kind.total() for kind in kinds.values()})


def _with_ranges(sentences: Sequence[str]) -> str:
    """The first sentence with the ranges of all in place of its numbers."""
    columns = zip(*(NUMBER.findall(sentence) for sentence in sentences), strict=True)
    ends = [(min(column, key=float), max(column, key=float)) for column in columns]
    ranges = iter(low if float(low) == float(high) else f"{low}–{high}" for low, high in ends)
    return NUMBER.sub(lambda _: next(ranges), sentences[0])


def refuse_full_folder(out: Path | None) -> None:
    """InputError when results must not go there; worth asking before hours of work."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; name another with --out, or remove it first")


def resumed_folder(out: Path | None, root: Path = Path("results")) -> Path:
    """The folder of an interrupted run: `out`, or where `results/latest` points; InputError when it is no such run."""
    folder = out or root / "latest"
    if not folder.is_dir():
        raise InputError(f"there is no run to continue at {folder}; name its folder with --out")
    return folder.resolve()


def result_folder(out: Path | None, root: Path = Path("results")) -> Path:
    """`out` if given, else a new `results/<time>` that the link `results/latest` then points to; created."""
    if out is not None:
        refuse_full_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        return out
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = next(path for i in range(1000) if not (path := root / (f"{stamp}-{i}" if i else stamp)).exists())
    folder.mkdir(parents=True)
    latest = root / "latest"
    if latest.is_symlink() or not latest.exists():
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    return folder


def write_results(folder: Path, records: Sequence[FrameRecord], projection: MapProjection) -> None:
    """Write estimates.tum, .gpx (accepted only), .csv (every image, with the reason) and .geojson, and timings.csv.

    What a computer took for an image is in a file of its own: the others are the same to the byte in every run.
    """
    (folder / "estimates.tum").write_text(tum_text(records), encoding="utf-8")
    with (folder / "estimates.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_csv_row(record, projection) for record in records)
    timings = [f"{record.stamp_ns},{record.seconds:.6f}\n" for record in records if record.estimate is not None]
    (folder / "timings.csv").write_text("".join(["stamp_ns,seconds\n", *timings]), encoding="utf-8")
    (folder / "estimates.geojson").write_text(json.dumps(_geojson(records, projection)), encoding="utf-8")
    (folder / "estimates.gpx").write_text(gpx_text(records, projection, folder.name), encoding="utf-8")


def tum_text(records: Iterable[FrameRecord]) -> str:
    """Accepted poses of base_link in the map as `stamp x y z qx qy qz qw` lines, the format evo and others read."""
    lines = []
    for record in records:
        if record.estimate is None or not record.estimate.accepted:
            continue
        pose, half = record.estimate, record.estimate.yaw_rad / 2
        stamp = f"{pose.stamp_ns // 10**9}.{pose.stamp_ns % 10**9:09d}"
        lines.append(f"{stamp} {pose.east_m:.6f} {pose.north_m:.6f} 0 0 0 {math.sin(half):.9f} {math.cos(half):.9f}\n")
    return "".join(lines)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as indented JSON; NaN, which JSON does not know, becomes null."""
    path.write_text(json.dumps(without_nan(content), indent=2) + "\n", encoding="utf-8")


def without_nan(value: Any) -> Any:
    """The same nested value with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv_row(record: FrameRecord, projection: MapProjection) -> dict[str, Any]:
    row: dict[str, Any] = {"stamp_ns": record.stamp_ns, "status": record.status, "reason": record.reason}
    if record.prior is not None:
        row |= {
            "prior_east_m": f"{record.prior.east_m:.4f}",
            "prior_north_m": f"{record.prior.north_m:.4f}",
            "prior_yaw_rad": f"{record.prior.yaw_rad:.6f}",
        }
    pose = record.estimate
    if pose is None:
        return row
    latitude, longitude, _ = projection.to_geodetic(pose.east_m, pose.north_m)
    upper = pose.covariance[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    return row | {
        "east_m": f"{pose.east_m:.4f}",
        "north_m": f"{pose.north_m:.4f}",
        "yaw_rad": f"{pose.yaw_rad:.6f}",
        "latitude_deg": f"{float(latitude):.9f}",
        "longitude_deg": f"{float(longitude):.9f}",
        **dict(zip(CSV_COLUMNS[8:14], (f"{value:.6g}" for value in upper), strict=True)),
        "scale": f"{pose.scale:.4f}",
        "scale_std": f"{pose.scale_std:.4f}",
        "confidence": f"{pose.confidence:.4f}",
        "inlier_ratio": f"{pose.inlier_ratio:.4f}",
    }


def _geojson(records: Sequence[FrameRecord], projection: MapProjection) -> dict[str, Any]:
    """Points of all estimates, to drop onto any web map."""
    features = []
    for record in records:
        if record.estimate is None:
            continue
        pose = record.estimate
        latitude, longitude, _ = projection.to_geodetic(pose.east_m, pose.north_m)
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [round(float(longitude), 9), round(float(latitude), 9)]},
                "properties": {
                    "stamp_ns": pose.stamp_ns,
                    "accepted": pose.accepted,
                    "reason": record.reason,
                    "bearing_deg": round((90.0 - math.degrees(pose.yaw_rad)) % 360.0, 3),
                    "confidence": round(pose.confidence, 4),
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}
