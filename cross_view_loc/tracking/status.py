"""How the localizer is after an image, as ~/status tells it: a state, a sentence, figures."""

from __future__ import annotations

import math

import numpy as np

from cross_view_loc.tracking.tracked import Located
from cross_view_loc.tracking.tracker import Tracker

OK, WARN, ERROR = 0, 1, 2
"""As in diagnostic_msgs/DiagnosticStatus."""
LEVELS = {"tracking": OK, "searching": OK, "lost": WARN, "waiting": ERROR}


def state_after(tracker: Tracker | None, located: Located | None = None, problem: str = "") -> tuple[str, str]:
    """State and sentence after an estimate, or after the `problem` that there was none."""
    if tracker is not None:
        return tracker.state, tracker.reason
    if located is None:
        return "waiting", problem
    estimate = located.estimate
    return ("tracking" if estimate.accepted else "lost"), estimate.reason or "accepted, every image on its own"


def status_values(state: str, located: Located | None = None, latency_s: float | None = None) -> dict[str, str]:
    """Key and value: the state and, with an estimate, its figures with their units."""
    values = {"state": state}
    if located is not None:
        estimate, search = located.estimate, located.search
        std_m = math.sqrt(max(float(np.linalg.eigvalsh(estimate.covariance[:2, :2])[-1]), 0.0))
        values |= {
            "accepted": "true" if estimate.accepted else "false",
            "refused because": estimate.reason,
            "confidence": f"{estimate.confidence:.3f}",
            "inlier ratio": f"{estimate.inlier_ratio:.3f}",
            "position std (m)": f"{std_m:.3f}",
            "heading std (deg)": f"{math.degrees(math.sqrt(max(float(estimate.covariance[2, 2]), 0.0))):.3f}",
            "scale": f"{estimate.scale:.4f}",
            "scale std": f"{estimate.scale_std:.4f}",
            "search radius (m)": f"{search.radius_m:.1f}",
            "search heading range (deg)": f"{math.degrees(search.yaw_range_rad):.1f}",
        }
    if latency_s is not None:
        values["latency (s)"] = f"{latency_s:.3f}"
    return values
