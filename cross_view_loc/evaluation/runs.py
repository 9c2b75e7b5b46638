"""A run against recorded ground truth: what `run` and `demo` compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.evaluation.metrics import FrameError, Truth, frame_error, summarize
from cross_view_loc.evaluation.trajectory import TrajectoryError, trajectory_error
from cross_view_loc.geometry.transforms import Matrix, yaw_of
from cross_view_loc.inputs.stamps import Timeline, to_ns
from cross_view_loc.settings import Settings

TRUTH_GAP_NS = to_ns(0.2)
"""Truth is interpolated over at most this."""


def truth_at(truth: Timeline[Matrix], stamp_ns: int) -> Truth | None:
    """Where base_link was at the stamp; None where the truth does not reach."""
    T_map_base = truth.at(stamp_ns, TRUTH_GAP_NS)
    if T_map_base is None:
        return None
    return Truth(float(T_map_base[0, 3]), float(T_map_base[1, 3]), yaw_of(T_map_base))


def record_errors(records: Sequence[FrameRecord], truth: Timeline[Matrix]) -> list[FrameError]:
    """Errors of every estimate the truth reaches, accepted or not."""
    errors = []
    for record in records:
        place = truth_at(truth, record.stamp_ns)
        if record.estimate is None or record.prior is None or place is None:
            continue
        prior_m = math.hypot(record.prior.east_m - place.east_m, record.prior.north_m - place.north_m)
        errors.append(frame_error(record.estimate, place, prior_m, record.seconds))
    return errors


def record_trajectory(records: Sequence[FrameRecord], truth: Timeline[Matrix]) -> TrajectoryError:
    """ATE and RPE of the accepted estimates that the truth reaches."""
    pairs = [
        (record.estimate, place)
        for record in records
        if record.estimate is not None
        and record.estimate.accepted
        and (place := truth_at(truth, record.stamp_ns)) is not None
    ]
    return trajectory_error([estimate for estimate, _ in pairs], [place for _, place in pairs])


def depth_served(localizer: object) -> dict[str, str]:
    """For `run_row`: the depth source that served, and where another was asked for, why this one stands in for it.

    Empty for a stand-in of a localizer that has no depth.
    """
    name, notice = getattr(localizer, "depth_name", ""), getattr(localizer, "depth_notice", "")
    return ({"depth": name} if name else {}) | ({"depth_notice": notice} if notice else {})


def run_row(
    records: Sequence[FrameRecord], truth: Timeline[Matrix] | None, settings: Settings, **setting: object
) -> dict[str, object]:
    """One row of figures; without truth those of errors are None. `frames` and `accepted` count every image.

    `setting` names what was measured; its `depth` (`depth_served`) takes the place of what the settings asked for.
    """
    errors = [] if truth is None else record_errors(records, truth)
    trajectory = trajectory_error([], []) if truth is None else record_trajectory(records, truth)
    named = {"protocol": "bag", "depth": settings.depth, "estimator": settings.estimator} | setting
    row = summarize(errors, **named)
    seconds = [record.seconds for record in records if record.estimate is not None]
    quantiles = np.quantile(seconds, [0.5, 0.95]).round(4) if seconds else [None, None]
    return (
        row
        | trajectory.row()
        | {
            "frames": len(records),
            "accepted": round(sum(record.status == "accepted" for record in records) / max(len(records), 1), 4),
            "frame_seconds_p50": None if quantiles[0] is None else float(quantiles[0]),
            "frame_seconds_p95": None if quantiles[1] is None else float(quantiles[1]),
        }
    )
