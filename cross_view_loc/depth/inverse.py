"""Metres from inverse depth of unknown scale and shift, as MiDaS, DPT and Depth Anything give it.

The value is a / z + b. On the road 1 / z is known from the camera's height, so that a and b are a line through the road
cells; what stands on the road is nearer than the road behind it and lies above that line. Nothing is farther than the
sky, whose value is b itself, so that the least of what is seen above the horizon says b once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.depth.relative import FEWEST_CELLS, GROUND_WITHIN_M, SMALLEST_STD
from cross_view_loc.geometry.lifting import FARTHEST_M

Array = NDArray[np.float64]
TILT_STD_PER_M = math.radians(0.4) / 1.5
"""A camera tilted by a little more than believed, 1.5 m above the road, shifts all inverse depths of the road alike."""
REMOTEST_PER_M, REMOTEST_STD_PER_M = 0.003, 0.006
"""Inverse depth of the farthest thing above the horizon: 0 where there is sky, as mostly; 1/70 in a narrow street."""
LOW_SHARE = 0.05
"""The least few values may be single wrong pixels."""
ROAD_SHARE = 0.35
"""Within a band of equal distance on the ground, the road lies below this share of the values, or is not there."""
BANDS = 14
INDEPENDENT_SHARE = 0.03
"""Cells err together (an image's noise is smooth): so many of them count as if each erred on its own."""
USUAL_RANGE_M = 10.0
"""Where the matcher's cells mostly lie: the deviation there is that of the scale, what differs from it is spread."""
MODEL_LOG_SPREAD = math.log(0.08)
"""Of a single cell's depth by a general model."""
LEAST_STEEPNESS = 4.0
"""Deviations by which the slope must be above 0."""


@dataclass(frozen=True)
class InverseFit:
    """value = a / z + b, and how well both are known."""

    a: float
    b: float
    covariance: Array
    """(2, 2) of a and b."""

    def relative_std(self, z_m: Array) -> Array:
        """Relative deviation of depths (...) that the uncertainty of a and b causes; grows with the depth."""
        inverse = 1.0 / np.maximum(z_m, 1e-3)
        (v_a, c_ab), (_, v_b) = self.covariance
        variance = inverse**2 * v_a + 2 * inverse * c_ab + v_b
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)) / self.a * z_m)

    @property
    def log_scale_std(self) -> float:
        """Deviation of the log of what all depths are wrong by alike."""
        return max(SMALLEST_STD, float(self.relative_std(np.array(USUAL_RANGE_M))))

    def depth(self, value: Array, log_spread: Array | float = MODEL_LOG_SPREAD) -> tuple[Array, Array]:
        """Depth (m, 0 where unknown or beyond use) of values (...), and the log of its relative deviation.

        `log_spread`: that of the values alone. What is added to it leaves out what the scale's deviation tells already.
        """
        inverse = (value - self.b) / self.a
        good = np.isfinite(inverse) & (inverse > 1.0 / (2 * FARTHEST_M))
        z_m = np.where(good, 1.0 / np.where(good, inverse, 1.0), 0.0)
        own = np.maximum(self.relative_std(z_m) ** 2 - self.log_scale_std**2, 0.0)
        return z_m, 0.5 * np.log(np.exp(2 * np.asarray(log_spread)) + own)


def fit_inverse(value: Array, flat_inverse: Array) -> InverseFit | None:
    """a and b from values (...) by the road's cells and the sky's; None without a road.

    `flat_inverse` (...) is 1 / depth of the flat ground in each cell, 0 on and above the horizon: along the axis or the
    ray, as the values are. Scaling the values scales a and b; adding to them adds to b.
    """
    road = np.isfinite(value) & (flat_inverse > 1.0 / GROUND_WITHIN_M)
    if int(road.sum()) < FEWEST_CELLS:
        return None
    x, y = flat_inverse[road], value[road]
    line = _first_line(x, y)
    if line is None:
        return None
    a, b = line
    kept, spread = np.ones(len(x)), 0.0
    # Inverse depths of the road err by a share of themselves (the network) and by a constant (tilt, slope).
    noise = 0.003 + 0.05 * x
    for _ in range(12):
        residual = (y - a * x - b) / (a * noise)
        near = np.abs(residual) < 3.0
        spread = float(np.clip(1.4826 * np.median(np.abs(residual[near])), 0.2, 1.0)) if near.any() else 1.0
        kept = np.clip(1.0 - (residual / (3.0 * spread)) ** 2, 0.0, None) ** 2
        if kept.sum() < FEWEST_CELLS / 2:
            return None
        a, b = _weighted_line(x, y, kept / noise**2)
        if a <= 0.0:
            return None
    weight = kept * INDEPENDENT_SHARE / (noise * spread * a) ** 2
    information = np.array([[np.sum(weight * x * x), np.sum(weight * x)], [np.sum(weight * x), np.sum(weight)]])
    covariance = np.linalg.inv(information)
    if a < LEAST_STEEPNESS * math.sqrt(covariance[0, 0]):
        return None
    covariance[1, 1] += (a * TILT_STD_PER_M) ** 2
    return _with_sky(InverseFit(a, b, covariance), value[np.isfinite(value) & (flat_inverse <= 0.0)])


def _first_line(x: Array, y: Array) -> tuple[float, float] | None:
    """Slope and intercept that the lower values of most bands of equal inverse depth agree on; None if it falls."""
    edges = np.linspace(x.min(), x.max() + 1e-9, BANDS + 1)
    band = np.digitize(x, edges) - 1
    middles, lows = [], []
    for index in range(BANDS):
        inside = band == index
        if inside.sum() >= 3:
            middles.append(float(x[inside].mean()))
            lows.append(float(np.quantile(y[inside], ROAD_SHARE)))
    if len(middles) < 4:
        return None
    X, Y = np.array(middles), np.array(lows)
    i, j = np.triu_indices(len(X), 1)
    slope = float(np.median((Y[j] - Y[i]) / (X[j] - X[i])))
    return (slope, float(np.median(Y - slope * X))) if slope > 0.0 else None


def _weighted_line(x: Array, y: Array, weight: Array) -> tuple[float, float]:
    total = weight.sum()
    mean_x, mean_y = float((weight * x).sum() / total), float((weight * y).sum() / total)
    variance = float((weight * (x - mean_x) ** 2).sum())
    slope = float((weight * (x - mean_x) * (y - mean_y)).sum()) / max(variance, 1e-300)
    return slope, mean_y - slope * mean_x


def _with_sky(road: InverseFit, above: Array) -> InverseFit:
    """The road's line with what the remotest thing above the horizon says of b, the less the more they disagree."""
    if len(above) < FEWEST_CELLS:
        return road
    said = float(np.quantile(above, LOW_SHARE)) - road.a * REMOTEST_PER_M
    variance = (road.a * REMOTEST_STD_PER_M) ** 2
    surprise = (said - road.b) ** 2 / (variance + road.covariance[1, 1])
    variance *= 1.0 + max(0.0, surprise - 1.0)  # a wall in front of the camera is no sky
    gain = road.covariance[:, 1] / (road.covariance[1, 1] + variance)
    a, b = np.array([road.a, road.b]) + gain * (said - road.b)
    covariance = road.covariance - np.outer(gain, road.covariance[1])
    return InverseFit(float(a), float(b), covariance) if a > 0.0 else road
