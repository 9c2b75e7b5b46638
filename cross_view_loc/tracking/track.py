"""A track: estimates that motion joins, and how many of them are independent sightings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import to_ns
from cross_view_loc.tracking.motion import Predicted, Seen, predict
from cross_view_loc.tracking.rules import TrackerRules


@dataclass(frozen=True)
class Track:
    """The newest of the estimates, and the newest one that counted as a sighting."""

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
        if way_m >= rules.sighting_distance_m or waited:
            return Track(seen, seen, self.sightings + 1)
        return Track(seen, self.counted, self.sightings)
