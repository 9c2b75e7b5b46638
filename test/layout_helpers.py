"""A town that costs nothing: a circle to drive on, and pictures that say where their pixels look."""

from types import SimpleNamespace

import numpy as np

from cross_view_loc.geometry.transforms import rpy, transform
from cross_view_loc.simulation.drive_renderer import DriveRenderer
from cross_view_loc.simulation.layouts.scene import Scene


class CircleDrive:
    """Left turns on a circle of 30 m about (40, -20), climbing, nose up and left side up."""

    duration_s = 90.0

    def T_map_base(self, t_s):
        if np.ndim(t_s):
            return np.stack([self.T_map_base(t) for t in t_s])
        angle = 0.25 * t_s
        position = [40 + 30 * np.sin(angle), -20 - 30 * np.cos(angle), 3.0 + 0.1 * t_s]
        return transform(rpy(0.02, -0.03, angle), position)

    def velocity_map(self, t_s):
        angle = 0.25 * t_s
        return np.array([7.5 * np.cos(angle), 7.5 * np.sin(angle), 0.1])

    def turn_rate_rad_s(self, t_s):
        return 0.25


class RayPainter:
    """Stands in for the renderer. Pinholes: red and green are 128 + 100 x, y of the ray with z = 1. Orthophotos: red
    and green count metres east and north, wrapping at 256 dm."""

    def ortho(self, east_m, north_m, width, height, meters_per_pixel, lean=(0.0, 0.0), supersample=2):
        east = east_m + (np.arange(width) + 0.5 - width / 2) * meters_per_pixel
        north = north_m - (np.arange(height) + 0.5 - height / 2) * meters_per_pixel
        east, north = np.meshgrid(east, north)
        return np.stack([10 * east % 256, 10 * north % 256, 0 * east], -1).astype(np.uint8)

    def pinhole(self, T_map_camera, width, height, focal_px, velocity=None, time_s=0.0):
        x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
        return np.stack([128 + 100 * x / focal_px, 128 + 100 * y / focal_px, 0 * x], -1).round().astype(np.uint8)

    def panorama(self, T_map_camera, width, height, time_s=0.0):
        return np.full((height, width, 3), 90, np.uint8)

    def render(self, views):
        return np.stack(views), np.ones(np.shape(views)[:3], np.float32)


def scene(seed, projection, size_m=400.0, map_shift_m=(0.0, 0.0)):
    """A `Scene` of the circle."""
    painter = RayPainter()
    world = SimpleNamespace(
        seed=seed, town=SimpleNamespace(size_m=size_m), map_shift_m=map_shift_m, lean=(0.0, 0.0), map_renderer=painter
    )
    return Scene(world, CircleDrive(), DriveRenderer(painter, None), projection)
