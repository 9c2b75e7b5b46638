"""A track: estimates that motion joins, and how many of them are independent sightings.

Where a track is, is all its estimates' word and not the last one's alone: else one vague estimate would make it forget
what the sharp ones before it knew. This never leaves the tracker; what is published is each estimate as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.tracking.motion import Predicted, Seen, predict, wrapped
from cross_view_loc.tracking.rules import TrackerRules

CORRELATED = 2.0
"""Estimates in a row share part of their errors: each counts as if its covariance were this much larger."""
LARGEST_REACH_M = 0.5
"""Unmeasured motion up to this leaves a prediction worth joining with."""


@dataclass(frozen=True)
class Track:
    """Where it is, by all its estimates up to the newest, and the newest one that counted as a sighting."""

    last: Seen
    counted: Seen
    sightings: int = 1

    @staticmethod
    def begun(seen: Seen, sightings: int = 1) -> Track:
        """A track of one estimate."""
        return Track(seen, seen, sightings)

    def at(self, stamp_ns: int, T_odom_base: Matrix | None, rules: TrackerRules) -> Predicted:
        """Where its vehicle is at a stamp."""
        return predict(self.last, stamp_ns, T_odom_base, rules)

    def continued(self, seen: Seen, rules: TrackerRules) -> Track:
        """The track with one more estimate, which counts as a sighting when place or time differ enough.

        A standing vehicle sees the same mistake again and again.
        """
        way_m = float(np.hypot(*(seen.pose[:2] - self.counted.pose[:2])))
        waited = seen.stamp_ns - self.counted.stamp_ns >= to_ns(rules.sighting_interval_s)
        joined = _joined(self.at(seen.stamp_ns, seen.T_odom_base, rules), seen)
        if way_m >= rules.sighting_distance_m or waited:
            return Track(joined, seen, self.sightings + 1)
        return Track(joined, self.counted, self.sightings)


def _joined(predicted: Predicted, seen: Seen) -> Seen:
    """An estimate joined with where it was predicted (Kalman); alone where unmeasured motion makes that vague."""
    if predicted.reach_m > LARGEST_REACH_M:
        return seen
    correlated = CORRELATED * seen.covariance
    gain = np.linalg.solve(predicted.covariance + correlated, predicted.covariance).T
    offset = seen.pose - predicted.pose
    offset[2] = wrapped(float(offset[2]))
    pose = predicted.pose + gain @ offset
    pose[2] = wrapped(float(pose[2]))
    kept = np.eye(3) - gain
    covariance = kept @ predicted.covariance @ kept.T + gain @ correlated @ gain.T
    return Seen(seen.stamp_ns, pose, covariance, seen.T_odom_base)
