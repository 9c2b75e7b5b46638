"""A map seen in the frame of a prior, as a benchmark's crop shows it: its middle is the origin, its right the x axis.

Localizers cut patches at rounded places and headings, so that neighbouring frames share one. Of a prior at the origin
with heading 0 nothing is rounded: what is looked at is exactly the benchmark's crop, as the weights were trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.matching.aerial_cache import PatchSource
from cross_view_loc.types import Estimate, Prior


@dataclass(frozen=True)
class CropFrame:
    """A frame in the map: where its origin is, and its x axis counter-clockwise from east."""

    east_m: float
    north_m: float
    yaw_rad: float

    @classmethod
    def of(cls, prior: Prior) -> CropFrame:
        """The frame whose origin and x axis are a prior's place and heading, known or not."""
        return cls(prior.east_m, prior.north_m, prior.yaw_rad)

    def prior(self, prior: Prior) -> Prior:
        """The prior of this frame, in it."""
        return replace(prior, east_m=0.0, north_m=0.0, yaw_rad=0.0)

    def to_map(self, x_m: float, y_m: float) -> tuple[float, float]:
        """East, north of a place in this frame."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return self.east_m + c * x_m - s * y_m, self.north_m + s * x_m + c * y_m

    def estimate_in_map(self, estimate: Estimate) -> Estimate:
        """An estimate of this frame with its pose, covariance and matches in the map."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        R_map_crop = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        east_m, north_m = self.to_map(estimate.east_m, estimate.north_m)
        return replace(
            estimate,
            east_m=east_m,
            north_m=north_m,
            yaw_rad=math.remainder(estimate.yaw_rad + self.yaw_rad, 2 * math.pi),
            covariance=R_map_crop @ estimate.covariance @ R_map_crop.T,
            matches=tuple(replace(match, point_map=self.to_map(*match.point_map)) for match in estimate.matches),
        )


@dataclass(frozen=True, eq=False)
class CropMap:
    """The imagery of a map in a crop's frame."""

    imagery: PatchSource
    frame: CropFrame

    def patch(
        self, center_east_m: float, center_north_m: float, size_px: int, meters_per_pixel: float, rotation_rad: float
    ) -> Patch:
        """A patch about (x, y) of the frame; raises NoImageryError where there is nothing at all."""
        place = self.frame.to_map(center_east_m, center_north_m)
        found = self.imagery.patch(*place, size_px, meters_per_pixel, rotation_rad + self.frame.yaw_rad)
        return replace(found, center_east_m=center_east_m, center_north_m=center_north_m, rotation_rad=rotation_rad)
