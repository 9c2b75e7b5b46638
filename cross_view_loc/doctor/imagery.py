"""A hint at shifted imagery: what estimates of a stretch of the drive have in common against where the vehicle was."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.bags.reader import Bag, BagTopics
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.bags.runner import BagRunner, read_truth
from cross_view_loc.doctor.findings import Finding, Group
from cross_view_loc.errors import CrossViewError
from cross_view_loc.evaluation.map_offset import fit_offset
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.inputs.stamps import NS_PER_S, to_ns
from cross_view_loc.settings import Settings

GROUP = Group("map")
STRETCH_S = 60.0
"""From the middle of the drive, where the vehicle moves."""
IMAGES = 24
FEWEST = 8
INDEPENDENT = 4.0
"""Errors of so short a stretch are those of a few places."""
WORTH_A_WORD_M = 0.3


def offset_findings(
    bag: Bag,
    topics: BagTopics,
    source: AerialSource,
    projection: MapProjection,
    settings: Settings,
    fix_std_m: float | None,
    use_truth: bool,
) -> list[Finding]:
    """Localize some images and compare: with recorded truth where its origin is known, else with the fixes.

    `fix_std_m` is what the fixes say of themselves, along one axis; None when they say nothing. Every image stands for
    itself: a tracker would pull them towards each other.
    """
    records = _located(bag, topics, source, projection, settings)
    truth = read_truth(bag, topics.truth) if use_truth and topics.truth else None
    errors, yaws = [], []
    for record in records:
        pose, prior = record.estimate, record.prior
        if pose is None or not pose.accepted or prior is None:
            continue
        place = None if truth is None else truth_at(truth, record.stamp_ns)
        if truth is not None and place is None:
            continue
        east_m, north_m = (place.east_m, place.north_m) if place is not None else (prior.east_m, prior.north_m)
        errors.append([pose.east_m - east_m, pose.north_m - north_m])
        yaws.append(pose.yaw_rad)
    against = topics.truth if truth is not None else f"the fixes on {topics.fix}"
    if len(errors) < FEWEST:
        return [
            GROUP.ok(
                "map.offset",
                f"Whether the imagery is shifted cannot be told: {len(errors)} of {len(records)} images tried were "
                "accepted.",
            )
        ]
    fitted, covariance, _ = fit_offset(np.array(errors), np.array(yaws), INDEPENDENT)
    reference_m = 0.0 if truth is not None else (fix_std_m if fix_std_m is not None else 2.0)
    std_m = np.sqrt(np.diag(covariance)[:2] + reference_m**2)
    east_m, north_m = (float(value) for value in fitted[:2])
    data = {"east_m": round(east_m, 2), "north_m": round(north_m, 2), "std_m": [round(float(s), 2) for s in std_m],
            "images": len(errors), "against": against}  # fmt: skip
    where = (
        f"{len(errors)} estimates of a stretch of {_stretch_s(bag):.0f} s lie {_offset_text(east_m, north_m)} of "
        f"{against} (± {float(std_m.max()):.1f} m)"
    )
    is_large = math.hypot(east_m / std_m[0], north_m / std_m[1]) > 3.0 and math.hypot(east_m, north_m) > WORTH_A_WORD_M
    if not is_large:
        return [GROUP.ok("map.offset", f"{where}: no sign of shifted imagery.", data=data)]
    return [
        GROUP.warn(
            "map.offset",
            f"{where}: the imagery is shifted, or {'the truth' if truth is not None else 'the receiver'} is.",
            "Confirm it by `cross_view_loc evaluate bag` with truth better than the map (RTK), which prints the "
            "map_offset_m to put into the map's YAML; widen map_std_m until then.",
            parameter="map_std_m",
            data=data,
        )
    ]


def _stretch_s(bag: Bag) -> float:
    return min(STRETCH_S, (bag.end_ns - bag.start_ns) / NS_PER_S)


def _offset_text(east_m: float, north_m: float) -> str:
    return (
        f"{abs(east_m):.2f} m {'east' if east_m >= 0 else 'west'} and "
        f"{abs(north_m):.2f} m {'north' if north_m >= 0 else 'south'}"
    )


def _located(
    bag: Bag, topics: BagTopics, source: AerialSource, projection: MapProjection, settings: Settings
) -> list[FrameRecord]:
    from cross_view_loc.localizer import Localizer

    middle_ns = (bag.start_ns + bag.end_ns) // 2
    start_ns = max(bag.start_ns, middle_ns - to_ns(STRETCH_S / 2))
    stop_ns = min(bag.end_ns + 1, start_ns + to_ns(STRETCH_S))
    localizer = Localizer(
        AerialMap(source, projection), dataclasses.replace(settings, map_std_m=0.0).localizer_settings()
    )
    runner = BagRunner(bag, topics, FrameAssembler(settings, projection), localizer.locate)
    runner.stride = max(1, round(runner.image_count(start_ns, stop_ns) / IMAGES))
    try:
        return runner.run(start_ns, stop_ns)
    except CrossViewError:
        return []
