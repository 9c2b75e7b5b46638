"""A run's accepted poses as a GPX track, which route planners and phones open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from cross_view_loc import __version__
from cross_view_loc.geometry.geodesy import MapProjection

if TYPE_CHECKING:
    from cross_view_loc.bags.results import FrameRecord

NEW_SEGMENT_NS = 5_000_000_000
"""A gap longer than this is not driven through in a straight line."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def gpx_text(records: Sequence[FrameRecord], projection: MapProjection, name: str) -> str:
    """GPX 1.1 (topografix.com/GPX/1/1): one track, a new segment after each gap; times are the images' stamps."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<gpx version="1.1" creator="cross_view_loc {__version__}" xmlns="http://www.topografix.com/GPX/1/1">',
        f"<trk><name>{escape(name)}</name>",
    ]
    newest_ns: int | None = None
    for record in records:
        pose = record.estimate
        if pose is None or not pose.accepted:
            continue
        if newest_ns is None or pose.stamp_ns - newest_ns > NEW_SEGMENT_NS:
            lines += ["</trkseg>"] * (newest_ns is not None) + ["<trkseg>"]
        newest_ns = pose.stamp_ns
        latitude, longitude, _ = projection.to_geodetic(pose.east_m, pose.north_m)
        at = _EPOCH + timedelta(microseconds=pose.stamp_ns // 1000)
        lines.append(
            f'<trkpt lat="{float(latitude):.9f}" lon="{float(longitude):.9f}">'
            f"<time>{at.strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3]}Z</time></trkpt>"
        )
    lines += ["</trkseg>"] * (newest_ns is not None) + ["</trk></gpx>", ""]
    return "\n".join(lines)
