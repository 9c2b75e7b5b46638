"""How the town looks in one picture set: light, weather, season, paint, parked cars and the camera's electronics.

The town's geometry never depends on an Appearance, only what covers it does: two Appearances of one town are the same
place at another time, which is exactly the gap between an aerial image and a vehicle's camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]

SEASONS = ("spring", "summer", "autumn", "winter")
HARD_HOURS = ("night", "low_sun", "wet", "fog", "plain")
HARD_SHARES = (0.25, 0.25, 0.2, 0.15, 0.15)


@dataclass(frozen=True)
class Appearance:
    """One look. Colours are linear RGB factors; the defaults are a clear summer noon without camera faults."""

    seed: int = 0
    """Varies clouds, stains, sensor noise and car colours."""
    cars_seed: int = 0
    """Which cars stand where."""
    occupancy: float = 0.55
    """Share of parking spots in use, 0 to 1."""
    season: str = "summer"
    """Where the colours came from; one of SEASONS. For the record: the fields below decide."""

    sun_azimuth_deg: float = 150.0
    """Clockwise from north, where the sun stands."""
    sun_elevation_deg: float = 48.0
    sun_strength: float = 2.6
    sun_colour: Colour = (1.0, 0.95, 0.86)
    ambient: float = 0.75
    """Light from the whole sky."""
    cloud: float = 0.25
    """0 clear, above 0.6 overcast."""
    fog_per_m: float = 0.0006
    sky: float = 1.0
    """Brightness of sky and haze: 1 by day, a few hundredths at night."""
    lamp_strength: float = 0.0
    """Light of the street lamps, 0 when they are off; see `lamps`."""
    varied_cars: bool = False
    """Cars of many types instead of the two plain ones."""

    grass_tint: Colour = (1.0, 1.0, 1.0)
    leaf_tint: Colour = (1.0, 1.0, 1.0)
    bareness: float = 0.0
    """0 full crowns, 1 bare twigs."""
    autumn: float = 0.0
    """0 green, 1 turned and fallen leaves."""
    wetness: float = 0.0
    """0 dry, 1 wet roads with puddles."""
    paint: float = 0.8
    """How much of the road markings is left: 1 new, 0.4 worn."""
    road_brightness: float = 1.0

    gain: float = 0.62
    white_balance: Colour = (1.0, 1.0, 1.0)
    saturation: float = 1.05
    contrast: float = 0.4
    vignette: float = 0.25
    shot_noise: float = 0.02
    read_noise: float = 0.006
    blur_taps: int = 6
    """Samples along the motion blur; 1 switches it off."""
    exposure_s: float = 0.012

    @staticmethod
    def random(seed: int) -> Appearance:
        """Any season, weather and time of day, seen by any reasonable camera."""
        rng = np.random.default_rng([seed, 0])
        return _draw(seed, str(rng.choice(SEASONS)), rng)

    @staticmethod
    def aerial(seed: int) -> Appearance:
        """As orthophotos are flown: leaves on, sun high, clear air, a clean sensor without vignette or blur."""
        rng = np.random.default_rng([seed, 1])
        look = _draw(seed, _aerial_season(seed), rng)
        elevation_deg = rng.uniform(40.0, 62.0)
        strength, ambient = rng.uniform(2.1, 2.9), rng.uniform(0.6, 0.85)
        return replace(
            look,
            sun_azimuth_deg=rng.uniform(120.0, 240.0),
            sun_elevation_deg=elevation_deg,
            sun_strength=strength,
            sun_colour=(1.0, rng.uniform(0.93, 0.98), rng.uniform(0.84, 0.95)),
            ambient=ambient,
            cloud=0.1,
            fog_per_m=0.0,
            wetness=0.0,
            bareness=min(look.bareness, 0.08),
            gain=_exposure(strength, ambient, elevation_deg) * 10 ** rng.uniform(-0.05, 0.05),
            white_balance=_triple(rng, (0.93, 0.98, 0.92), (1.07, 1.02, 1.07)),
            saturation=rng.uniform(0.7, 1.05),
            contrast=rng.uniform(0.0, 0.6),
            vignette=0.0,
            shot_noise=0.004,
            read_noise=0.002,
            blur_taps=1,
            exposure_s=0.0,
        )

    @staticmethod
    def ground(seed: int) -> Appearance:
        """As the vehicle meets the place: other season, time of day and cars than `aerial(seed)`."""
        rng = np.random.default_rng([seed, 2])
        others = [season for season in SEASONS if season != _aerial_season(seed)]
        return _draw(seed + 7_919, str(rng.choice(others)), rng)

    @staticmethod
    def hard_ground(seed: int) -> Appearance:
        """As `ground`, at an hour that cameras dislike: night, low sun, wet road or fog, and worse electronics."""
        rng = np.random.default_rng([seed, 4])
        others = [season for season in SEASONS if season != _aerial_season(seed)]
        look = _draw(seed + 15_401, str(rng.choice(others)), rng)
        hour = str(rng.choice(HARD_HOURS, p=HARD_SHARES))
        wet = hour == "wet" or rng.random() < 0.35
        look = replace(
            look,
            varied_cars=True,
            wetness=float(rng.uniform(0.6, 1.0)) if wet else look.wetness,
            fog_per_m=float(10 ** rng.uniform(-2.1, -1.6)) if hour == "fog" else look.fog_per_m,
            vignette=float(rng.uniform(0.2, 0.7)),
            shot_noise=float(rng.uniform(0.03, 0.08)),
            read_noise=float(rng.uniform(0.01, 0.03)),
            exposure_s=float(rng.uniform(0.008, 0.03)),
            paint=float(rng.uniform(0.35, 0.9)),
        )
        if hour == "night":
            return _night(look, rng)
        if hour == "low_sun":
            elevation_deg, strength = float(rng.uniform(4.0, 14.0)), float(rng.uniform(2.4, 3.4))
            gain = _exposure(strength, look.ambient, elevation_deg) * float(10 ** rng.uniform(-0.1, 0.25))
            return replace(
                look,
                sun_elevation_deg=elevation_deg,
                sun_strength=strength,
                ambient=float(rng.uniform(0.4, 0.7)),
                cloud=float(rng.uniform(0.0, 0.35)),
                gain=gain,
            )
        return look


def _aerial_season(seed: int) -> str:
    return str(np.random.default_rng([seed, 3]).choice(["spring", "summer", "summer", "autumn"]))


def _exposure(sun_strength: float, ambient: float, elevation_deg: float) -> float:
    """Gain that brings a grey horizontal surface to about the same brightness in any light."""
    light = sun_strength * np.sin(np.radians(elevation_deg)) + ambient
    return float(np.clip(1.45 / light**0.85, 0.45, 1.15))


def _night(look: Appearance, rng: np.random.Generator) -> Appearance:
    """Dark sky, street lamps, long exposure and a sensor at the end of its range."""
    return replace(
        look,
        sun_strength=float(rng.uniform(0.005, 0.02)),
        sun_elevation_deg=max(look.sun_elevation_deg, 20.0),
        ambient=float(rng.uniform(0.05, 0.14)),
        cloud=0.5,
        sky=float(rng.uniform(0.01, 0.05)),
        lamp_strength=float(rng.uniform(0.8, 1.6)),
        fog_per_m=min(look.fog_per_m, 0.004),
        gain=float(rng.uniform(2.2, 4.0)),
        saturation=float(rng.uniform(0.35, 0.8)),
        shot_noise=float(rng.uniform(0.05, 0.11)),
        read_noise=float(rng.uniform(0.02, 0.05)),
        exposure_s=float(rng.uniform(0.02, 0.04)),
    )


def _triple(rng: np.random.Generator, low: Colour, high: Colour) -> Colour:
    a, b, c = rng.uniform(low, high)
    return float(a), float(b), float(c)


def _draw(seed: int, season: str, rng: np.random.Generator) -> Appearance:
    overcast = bool(rng.random() < 0.33)
    elevation_deg = float(rng.uniform(10.0, {"winter": 30.0, "autumn": 45.0}.get(season, 65.0)))
    strength = float(rng.uniform(0.1, 0.4) if overcast else rng.uniform(1.8, 3.2))
    ambient = float(rng.uniform(1.05, 1.4) if overcast else rng.uniform(0.5, 0.9))
    wet = bool(rng.random() < (0.45 if overcast else 0.12))
    grass: dict[str, tuple[Colour, Colour]] = {
        "spring": ((0.8, 0.85, 0.9), (1.4, 1.2, 1.8)),
        "summer": ((0.8, 0.75, 0.8), (2.3, 1.2, 1.9)),
        "autumn": ((1.1, 0.8, 0.7), (2.0, 1.15, 1.4)),
        "winter": ((1.1, 0.75, 0.9), (1.7, 1.05, 2.0)),
    }
    leaf: dict[str, tuple[Colour, Colour]] = {
        "spring": ((1.0, 0.9, 0.7), (1.8, 1.5, 1.4)),
        "summer": ((0.7, 0.6, 0.6), (1.4, 1.2, 1.4)),
        "autumn": ((1.0, 0.6, 0.6), (3.0, 1.2, 1.2)),
        "winter": ((1.6, 0.6, 1.0), (2.6, 0.9, 2.0)),
    }
    bareness = {"spring": (0.0, 0.5), "summer": (0.0, 0.1), "autumn": (0.0, 0.7), "winter": (0.75, 1.0)}[season]
    return Appearance(
        seed=seed,
        cars_seed=seed,
        occupancy=float(rng.uniform(0.15, 0.8)),
        season=season,
        sun_azimuth_deg=float(rng.uniform(60.0, 300.0)),
        sun_elevation_deg=elevation_deg,
        sun_strength=strength,
        sun_colour=(1.0, float(rng.uniform(0.85, 0.98)), float(rng.uniform(0.65, 0.95))),
        ambient=ambient,
        cloud=float(rng.uniform(0.65, 0.9) if overcast else rng.uniform(0.0, 0.5)),
        fog_per_m=float(10 ** rng.uniform(-4.0, -2.3)),
        grass_tint=_triple(rng, *grass[season]),
        leaf_tint=_triple(rng, *leaf[season]),
        bareness=float(rng.uniform(*bareness)),
        autumn=float(rng.uniform(0.3, 1.0)) if season == "autumn" else 0.0,
        wetness=float(rng.uniform(0.3, 1.0)) if wet else 0.0,
        paint=float(rng.uniform(0.4, 1.0)),
        road_brightness=float(rng.uniform(0.6, 1.5)),
        gain=_exposure(strength, ambient, elevation_deg) * float(10 ** rng.uniform(-0.18, 0.15)),
        white_balance=_triple(rng, (0.85, 0.95, 0.82), (1.18, 1.05, 1.2)),
        saturation=float(rng.uniform(0.6, 1.2)),
        contrast=float(rng.uniform(0.0, 0.9)),
        vignette=float(rng.uniform(0.0, 0.5)),
        shot_noise=float(rng.uniform(0.005, 0.05)),
        read_noise=float(rng.uniform(0.002, 0.02)),
        exposure_s=float(rng.uniform(0.001, 0.03)),
    )
