"""The gate: which estimates may leave, and the sentence that says why one may not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cross_view_loc.aerial.resolution import COARSEST_M_PER_PX
from cross_view_loc.matching.alignment import Candidate
from cross_view_loc.types import Estimate, Prior

FEWEST_CELLS = 50
LEAST_IMAGERY = 0.5
"""Of a patch: with less, what looks like the best pose may only be the best of what is covered."""


@dataclass(frozen=True)
class Gate:
    """The operating point."""

    min_confidence: float
    """Least probability of the mode."""
    max_position_std_m: float
    """Largest standard deviation along any direction."""
    min_inlier_ratio: float
    """Least weighted share of ground cells whose best aerial cell near by is where the pose puts it. Probabilities are
    calibrated on places like those the weights have seen; this notices pictures that are not."""

    def why_refused(self, best: Candidate, confidence: float, worst_std_m: float, inlier_ratio: float) -> str:
        """Empty when the estimate may leave."""
        if not math.isfinite(best.mode.score):
            return "no alignment: the drawn matches agree on no pose within the search"
        if not best.lattice.holds(best.mode.pose):
            return "outside the searched area: the best pose left it; widen search_radius_m or heading_range_deg"
        imagery = float(best.aerial.patch.valid.mean())
        if imagery < LEAST_IMAGERY:
            return f"map: only {imagery:.0%} of the aerial patch has imagery; fetch the tiles around the vehicle"
        coarse = best.aerial.patch.meters_per_pixel_source
        if coarse is not None and coarse > COARSEST_M_PER_PX:
            return f"map: all imagery here has {coarse:.1f} m per pixel; fetch finer tiles around the vehicle"
        if confidence < self.min_confidence:
            return f"ambiguous: confidence {confidence:.2f} is below min_confidence {self.min_confidence:.2f}"
        if inlier_ratio < self.min_inlier_ratio:
            return (
                f"unlike: only {inlier_ratio:.0%} of the ground cells agree with the map, below min_inlier_ratio "
                f"{self.min_inlier_ratio:.0%}; these weights may not know places that look like this"
            )
        if not worst_std_m <= self.max_position_std_m:
            limit = self.max_position_std_m
            return f"uncertain: standard deviation {worst_std_m:.1f} m is above max_position_std_m {limit:.1f} m"
        return ""


def refused(prior: Prior, reason: str) -> Estimate:
    """The prior itself as an estimate that is not accepted."""
    spread = prior.radius_m**2 / 3
    covariance = np.diag([spread, spread, min(prior.yaw_range_rad, math.pi) ** 2 / 3])
    return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, covariance, reason=reason)
