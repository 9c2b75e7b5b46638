"""What coarse imagery does to an estimate: how much wider it gets, and where it says nothing any more."""

from __future__ import annotations

from cross_view_loc.aerial.patch import Patch

WELL_KNOWN_M_PER_PX = 0.2
"""Imagery of which the localizer's own covariance is true: the patches that it looks at are no finer."""
COARSEST_M_PER_PX = 2.0
"""Imagery coarser than this shows neither kerbs nor markings, and what seems to match may be another street."""
_STD_PER_M_PER_PX = 1.0 / 3.0


def imagery_variance_m2(patch: Patch) -> float:
    """Variance of a position along each axis, in m², that comes from imagery coarser than 0.2 m per pixel.

    (r² − 0.2²) / 9 of imagery of r metres per pixel, whether a lower zoom stands in or the map has none finer. Fitted:
    orthophotos of five unseen towns, averaged down, 200 frames each. With 0.4, 0.8 and 1.6 m the accepted estimates
    were off by as much more as a deviation of 0.0, 0.2 and 0.5 m along each axis adds (medians; upper twentieths say
    0.1, 0.3 and 0.5 m). It is about the deviation of a place within its pixel, r / √12. Zero where it is not known.
    """
    coarse = max(patch.meters_per_pixel_source or 0.0, WELL_KNOWN_M_PER_PX)
    return (coarse**2 - WELL_KNOWN_M_PER_PX**2) * _STD_PER_M_PER_PX**2
