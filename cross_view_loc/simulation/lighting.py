"""An Appearance translated into the structures the kernels read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.appearance import Appearance
from cross_view_loc.simulation.kernels_common import Look
from cross_view_loc.simulation.kernels_sensor import Sensor
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.palette import TOWN_PALETTE, Palette
from cross_view_loc.simulation.warp_runtime import wp

LEAF_DARK = np.array([0.035, 0.085, 0.02])
LEAF_LIGHT = np.array([0.075, 0.13, 0.03])


def sun_direction(appearance: Appearance) -> NDArray:
    """Unit vector towards the sun, map frame (ENU)."""
    azimuth, elevation = np.radians([appearance.sun_azimuth_deg, appearance.sun_elevation_deg])
    level = np.cos(elevation)
    return np.array([np.sin(azimuth) * level, np.cos(azimuth) * level, np.sin(elevation)])


def make_look(appearance: Appearance, palette: Palette = TOWN_PALETTE) -> Look:
    """Light, air and season for the shading kernels."""
    low_sun = float(np.clip(1.0 - appearance.sun_elevation_deg / 35.0, 0.0, 1.0))
    sun_colour = np.array(appearance.sun_colour) * appearance.sun_strength
    sun_colour *= [1.0, 1.0 - 0.18 * low_sun, 1.0 - 0.45 * low_sun]  # a low sun is red
    blue_sky = np.array([0.82, 0.92, 1.1])
    ambient = appearance.ambient * (blue_sky * (1.0 - appearance.cloud) + appearance.cloud)
    if appearance.cloud > 0.6:
        zenith, horizon = np.array([0.72, 0.74, 0.78]), np.array([1.02, 1.03, 1.06])
    else:
        zenith = np.array([0.20, 0.42, 1.0])
        horizon = np.array([0.90 + 0.36 * low_sun, 1.02, 1.18 - 0.3 * low_sun])

    look = Look()
    look.sun_direction = wp.vec3(*sun_direction(appearance))
    look.sun_colour = wp.vec3(*sun_colour)
    look.ambient = wp.vec3(*ambient)
    look.zenith = wp.vec3(*zenith)
    look.horizon = wp.vec3(*horizon)
    look.fog_colour = wp.vec3(*(horizon * [0.82, 0.82, 0.80]))
    look.fog_per_m = appearance.fog_per_m
    look.cloud = appearance.cloud
    look.cloud_offset = float(appearance.seed * 37.3 % 400.0)
    look.leaf_dark = wp.vec3(*(LEAF_DARK * appearance.leaf_tint * palette.leaf))
    look.leaf_light = wp.vec3(*(LEAF_LIGHT * appearance.leaf_tint * palette.leaf))
    look.autumn = appearance.autumn
    look.wetness = appearance.wetness
    look.paint = appearance.paint
    look.ground_offset = float(appearance.seed * 13.7 % 100.0)
    look.seed = appearance.seed & 0x7FFFFFFF
    return look


def make_sensor(appearance: Appearance) -> Sensor:
    """The camera's electronics for the sensor kernel."""
    sensor = Sensor()
    sensor.gain = appearance.gain
    sensor.white_balance = wp.vec3(*appearance.white_balance)
    sensor.saturation = appearance.saturation
    sensor.contrast = appearance.contrast
    sensor.vignette = appearance.vignette
    sensor.shot_noise = appearance.shot_noise
    sensor.read_noise = appearance.read_noise
    sensor.blur_taps = appearance.blur_taps
    sensor.seed = appearance.seed & 0x7FFFFFFF
    return sensor


def ground_palette(appearance: Appearance, palette: Palette = TOWN_PALETTE) -> tuple[NDArray, NDArray]:
    """Darkest and lightest albedo of every ground material, each (materials, 3) float32."""
    dark = np.array([palette.ground[material] for material in GroundMaterial], np.float32)
    light = dark * 1.25
    season = np.array(appearance.grass_tint) ** palette.season_strength
    grass = int(GroundMaterial.GRASS)
    dark[grass] *= season
    light[grass] = dark[grass] * [1.5, 1.25, 1.3]
    for material in (GroundMaterial.MEADOW, GroundMaterial.CROP, GroundMaterial.LITTER):
        weak = season**0.35
        dark[material] *= weak
        light[material] *= weak
    for material in (GroundMaterial.ASPHALT, GroundMaterial.PARKING_ASPHALT, GroundMaterial.YELLOW_LINE):
        dark[material] *= appearance.road_brightness
        light[material] *= appearance.road_brightness
    return dark, light
