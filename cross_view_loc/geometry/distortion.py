"""Lens distortion and its inverse: Brown–Conrady (plumb_bob, rational) and the equidistant fisheye polynomial.

Each model knows where it stops being one-to-one: past that radius the polynomial folds the picture back on itself,
and pixels there would be answered with a wrong ray. Points beyond it are reported invalid.
Formulas: OpenCV's calib3d documentation.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Pinhole rays are followed to 89.9 degrees off the axis; distortion polynomials mean nothing further out.
_MAX_PINHOLE_ANGLE_RAD = np.radians(89.9)
_TABLE_SIZE = 1024
# Three or four are usual; at the rim, where the slope vanishes, every step only halves the error.
_NEWTON_STEPS = 20
_TOLERANCE = 1e-12


class BrownDistortion:
    """k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 in OpenCV's order; missing ones are zero."""

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        padded = np.zeros(12)
        padded[: len(coefficients)] = coefficients
        k1, k2, self._p1, self._p2, k3, k4, k5, k6, *self._s = (float(c) for c in padded)
        # Polynomials in r², lowest power first.
        self._numerator = np.polynomial.Polynomial([1.0, k1, k2, k3])
        self._denominator = np.polynomial.Polynomial([1.0, k4, k5, k6])
        self._numerator_slope = self._numerator.deriv()
        self._denominator_slope = self._denominator.deriv()
        self._is_identity = not np.any(padded)

    @cached_property
    def max_radius(self) -> float:
        """Undistorted radius (tangent of the angle off the axis) up to which the radial part grows."""
        n, d = self._numerator, self._denominator
        r2 = np.polynomial.Polynomial([0.0, 1.0])
        growth = n * d + 2.0 * r2 * (self._numerator_slope * d - n * self._denominator_slope)
        roots = np.concatenate([_positive_roots(growth), _positive_roots(d)])
        limit = float(np.tan(_MAX_PINHOLE_ANGLE_RAD))
        return min(limit, float(np.sqrt(roots.min()))) if roots.size else limit

    def distort(self, points: Array) -> tuple[Array, Mask]:
        """Distorted normalised points (..., 2), and where the model is one-to-one."""
        if self._is_identity:
            return points, np.ones(points.shape[:-1], dtype=bool)
        distorted, jacobian = self._evaluate(points)
        radius = np.hypot(points[..., 0], points[..., 1])
        determinant = jacobian[0] * jacobian[3] - jacobian[1] * jacobian[2]
        return distorted, (radius < self.max_radius) & (determinant > 0.0)

    def undistort(self, distorted: Array) -> tuple[Array, Mask]:
        """Normalised points (..., 2) whose distortion is `distorted` to 1e-9, and where there is one."""
        if self._is_identity:
            return distorted, np.ones(distorted.shape[:-1], dtype=bool)
        radius_table, distorted_table = self._radial_table
        distorted_radius = np.hypot(distorted[..., 0], distorted[..., 1])
        radius = np.interp(distorted_radius, distorted_table, radius_table)
        # The radial inverse is a start from which Newton on the full model has always a short way to go.
        points = (
            distorted
            * np.divide(radius, distorted_radius, where=distorted_radius > 0, out=np.ones_like(radius))[..., None]
        )
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON_STEPS):
                value, (a, b, c, d) = self._evaluate(points)
                ex, ey = value[..., 0] - distorted[..., 0], value[..., 1] - distorted[..., 1]
                determinant = a * d - b * c
                step = np.stack([d * ex - b * ey, a * ey - c * ex], axis=-1) / determinant[..., None]
                points = points - step
                if not np.any(np.abs(step) > _TOLERANCE):
                    break
            value, inside = self.distort(points)
            residual = np.max(np.abs(value - distorted), axis=-1)
        valid = inside & (residual < 1e-9)
        return np.where(valid[..., None], points, 0.0), valid

    @cached_property
    def _radial_table(self) -> tuple[Array, Array]:
        # Even in angle: dense near the axis, still reaching the far rim when nothing bounds the radius.
        radius = np.tan(np.linspace(0.0, np.arctan(self.max_radius), _TABLE_SIZE, endpoint=False))
        r2 = radius * radius
        return radius, np.maximum.accumulate(radius * self._numerator(r2) / self._denominator(r2))

    def _evaluate(self, points: Array) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        """Distorted points and the Jacobian (dx/dx, dx/dy, dy/dx, dy/dy)."""
        x, y = points[..., 0], points[..., 1]
        s1, s2, s3, s4 = self._s
        p1, p2 = self._p1, self._p2
        r2 = x * x + y * y
        numerator, denominator = self._numerator(r2), self._denominator(r2)
        radial = numerator / denominator
        # Derivative by r²; r² itself changes by 2x and 2y.
        slope = (self._numerator_slope(r2) - radial * self._denominator_slope(r2)) / denominator
        prism_x, prism_y = s1 * r2 + s2 * r2 * r2, s3 * r2 + s4 * r2 * r2
        prism_x_slope, prism_y_slope = s1 + 2.0 * s2 * r2, s3 + 2.0 * s4 * r2
        value = np.stack(
            [
                x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x) + prism_x,
                y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y + prism_y,
            ],
            axis=-1,
        )
        jacobian = (
            radial + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x + 2.0 * x * prism_x_slope,
            2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y + 2.0 * y * prism_x_slope,
            2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y + 2.0 * x * prism_y_slope,
            radial + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x + 2.0 * y * prism_y_slope,
        )
        return value, jacobian


class EquidistantDistortion:
    """theta_d = theta · (1 + k1·theta² + k2·theta⁴ + k3·theta⁶ + k4·theta⁸), theta the angle off the axis."""

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        powers = np.zeros(10)
        powers[1] = 1.0
        powers[3 : 3 + 2 * len(coefficients) : 2] = coefficients
        self._polynomial = np.polynomial.Polynomial(powers)
        self._slope = self._polynomial.deriv()

    @cached_property
    def max_angle_rad(self) -> float:
        """Angle off the axis up to which theta_d grows, at most pi."""
        roots = _positive_roots(self._slope)
        return min(np.pi, float(roots.min())) if roots.size else float(np.pi)

    def distort(self, theta: Array) -> tuple[Array, Mask]:
        """theta_d of angles off the axis (radians), and where the model is one-to-one."""
        return self._polynomial(theta), theta <= self.max_angle_rad

    def undistort(self, theta_d: Array) -> tuple[Array, Mask]:
        """Angles off the axis (radians) to 1e-9, and where there is one."""
        angles, distorted = self._table
        theta = np.interp(theta_d, distorted, angles)
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON_STEPS):
                step = (self._polynomial(theta) - theta_d) / self._slope(theta)
                theta = theta - step
                if not np.any(np.abs(step) > _TOLERANCE):
                    break
            valid = (
                (np.abs(self._polynomial(theta) - theta_d) < 1e-9) & (theta >= -1e-12) & (theta <= self._table[0][-1])
            )
        return np.where(valid, theta, 0.0), valid

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        angles = np.linspace(0.0, self.max_angle_rad, _TABLE_SIZE)
        return angles, np.maximum.accumulate(self._polynomial(angles))


def _positive_roots(polynomial: np.polynomial.Polynomial) -> Array:
    coefficients = np.trim_zeros(polynomial.coef, "b")
    if coefficients.size < 2:
        return np.empty(0)
    roots = np.polynomial.Polynomial(coefficients).roots()
    real = roots.real[np.abs(roots.imag) < 1e-9 * np.maximum(1.0, np.abs(roots))]
    return real[real > 0.0]
