"""Tileable noise tables the kernels read: numbers in [0, 1], 512 × 512, the same for every town."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

TABLE_SIZE = 512  # the kernels wrap coordinates with & (TABLE_SIZE - 1)
GAUSSIAN_COUNT = 1 << 20  # length of the table of normal deviates for sensor noise; a power of two


def fractal_noise(size: int, rng: np.random.Generator, octaves: int, base: int, persistence: float) -> NDArray:
    """Sum of periodic value-noise octaves, (size, size) float32, about zero mean and unit variance.

    `base` is the number of cells per side in the first octave; each further octave doubles it.
    """
    total = np.zeros((size, size), np.float32)
    amplitude, energy = 1.0, 0.0
    for octave in range(octaves):
        cells = base * 2**octave
        if cells > size:
            break
        # Two wrapped cells of margin make the cubic interpolation periodic.
        grid = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
        fine = cv2.resize(grid, None, fx=size / cells, fy=size / cells, interpolation=cv2.INTER_CUBIC)
        margin = round(2 * size / cells)
        total += amplitude * fine[margin : margin + size, margin : margin + size]
        energy += amplitude**2
        amplitude *= persistence
    return total / np.sqrt(energy)


def _ranked(values: NDArray) -> NDArray:
    """Values replaced by their rank in [0, 1): a uniform histogram, whatever the noise was."""
    return (np.argsort(np.argsort(values.ravel())).reshape(values.shape) / values.size).astype(np.float32)


@functools.lru_cache(maxsize=1)
def coarse_table() -> NDArray:
    """Many octaves: stains, clouds, grass patches. (512, 512) float32 in [0, 1]."""
    noise = fractal_noise(TABLE_SIZE, np.random.default_rng(7), octaves=7, base=8, persistence=0.75)
    stretched = (noise - noise.min()) / np.ptp(noise)
    return (0.5 * stretched + 0.5 * _ranked(noise)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def fine_table() -> NDArray:
    """Small cells, uniform histogram: leaves, aggregate. (512, 512) float32 in [0, 1)."""
    return _ranked(fractal_noise(TABLE_SIZE, np.random.default_rng(8), octaves=3, base=48, persistence=0.8))


@functools.lru_cache(maxsize=1)
def gaussian_table() -> NDArray:
    """Normal deviates for the sensor noise, (GAUSSIAN_COUNT,) float32."""
    return np.random.default_rng(1).standard_normal(GAUSSIAN_COUNT).astype(np.float32)
