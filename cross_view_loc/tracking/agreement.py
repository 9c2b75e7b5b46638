"""Whether an estimate can be where something else says the vehicle is, and the sentence when it cannot."""

from __future__ import annotations

import math

import numpy as np

from cross_view_loc.tracking.motion import Predicted, Seen
from cross_view_loc.tracking.rules import TrackerRules
from cross_view_loc.types import Prior

UNKNOWN_STD_SHARE = 0.5
"""Of the search's radius: a prior's deviation when it does not tell one."""


def contradiction(place: Predicted, now: Seen, name: str, rules: TrackerRules) -> str:
    """Why an estimate cannot be at a predicted place, which `name` is the word for; empty when it can."""
    sigma, way_m, turn_rad = place.distance(now.pose, now.covariance)
    off = f"{way_m:.1f} m and {math.degrees(turn_rad):.1f} deg"
    return _sentence(name, off, sigma, way_m, place, rules)


def fix_contradiction(prior: Prior, now: Seen, rules: TrackerRules) -> str:
    """Why an estimate's position cannot be that of a fix; empty when it can. Headings are not compared."""
    std_m = UNKNOWN_STD_SHARE * prior.radius_m if prior.position_std_m is None else prior.position_std_m
    place = Predicted(np.array([prior.east_m, prior.north_m, 0.0]), np.diag([std_m**2, std_m**2, 1.0]))
    position = np.array([*now.pose[:2], 0.0])
    sigma, way_m, _ = place.distance(position, np.pad(now.covariance[:2, :2], (0, 1)))
    return _sentence("the fix", f"{way_m:.1f} m", sigma, way_m, place, rules)


def _sentence(name: str, off: str, sigma: float, way_m: float, place: Predicted, rules: TrackerRules) -> str:
    limit_sigma = rules.consistency_sigma
    if sigma > limit_sigma:
        return (
            f"contradicts {name}: {off} from it is {sigma:.1f} standard deviations, "
            f"more than consistency_sigma ({limit_sigma:g})"
        )
    limit_m = max(rules.max_deviation_m, limit_sigma * place.gaussian_std_m) + place.reach_m
    if way_m > limit_m:
        return f"contradicts {name}: {off} from it, {limit_m:.1f} m allowed (max_deviation_m)"
    return ""
