"""Procedural surfaces: albedo of walls, roofs, crowns, cars and street furniture from seed, position and uv."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.
# ruff: noqa: UP018

from cross_view_loc.simulation.kernels_common import (
    EVERGREEN,
    Look,
    SceneData,
    draw,
    hash3,
    is_bare,
    noise_at,
    noise_on,
)
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)


@wp.func
def fract(x: float) -> float:
    return x - wp.floor(x)


@wp.func
def band(distance: float, half: float, softness: float) -> float:
    """1 inside |distance| < half, 0 outside, with an anti-aliased edge."""
    return wp.clamp((half - wp.abs(distance)) / softness + 0.5, 0.0, 1.0)


@wp.func
def plaster(scene: SceneData, u: float, v: float, seed: int, footprint_m: float) -> wp.vec3:
    """Wall without windows: rendered, brick, concrete or clad."""
    style = draw(seed, 1)
    t = draw(seed, 2)
    c = wp.vec3(0.62, 0.56, 0.46)
    if style < 0.35:
        c = wp.vec3(0.70, 0.66, 0.58) * (0.75 + 0.4 * t)
    elif style < 0.6:
        c = wp.vec3(0.42, 0.20, 0.14) * (0.8 + 0.5 * t)
    elif style < 0.72:
        c = wp.vec3(0.50, 0.50, 0.50) * (0.8 + 0.4 * t)
    elif style < 0.84:
        c = wp.vec3(0.66, 0.55, 0.30) * (0.8 + 0.3 * t)
    elif style < 0.92:
        c = wp.vec3(0.45, 0.52, 0.56) * (0.8 + 0.4 * t)
    if style >= 0.35 and style < 0.6 and footprint_m < 0.05:
        row = wp.floor(v / 0.075)
        along = u / 0.24 + 0.5 * (row - 2.0 * wp.floor(row * 0.5))
        if fract(along) < 0.06 or fract(v / 0.075) < 0.15:
            c = c * 0.5 + wp.vec3(0.22, 0.21, 0.2)
        else:
            c = c * (0.85 + 0.3 * hash3(int(wp.floor(along)), int(row), seed, 3))
    stain = noise_at(scene.coarse_noise, u * 5.0 + style * 300.0, v * 3.0) * 0.25
    stain += noise_at(scene.coarse_noise, u * 40.0, v * 40.0) * 0.12
    c = c * (0.82 + stain)
    if v < 0.45:
        c = c * 0.6
    return c


@wp.func
def facade(
    scene: SceneData,
    look: Look,
    uv: wp.vec2,
    wall_top_m: float,
    seed: int,
    footprint_m: float,
    ray: wp.vec3,
    n: wp.vec3,
) -> wp.vec3:
    """Wall with a grid of framed windows that reflect the sky; no window reaches over the top of the wall."""
    u = uv[0]
    v = uv[1]
    c = plaster(scene, u, v, seed, footprint_m)
    storey_m = 2.8 + 0.5 * draw(seed, 4)
    bay_m = 2.1 + 1.9 * draw(seed, 5)
    width = 0.34 + 0.3 * draw(seed, 6)
    height = 0.42 + 0.15 * draw(seed, 7)
    if draw(seed, 8) < 0.15:
        width = 0.86  # ribbon windows
    storey = wp.floor(v / storey_m)
    bay = wp.floor(u / bay_m)
    a = u / bay_m - bay - 0.5
    sill = float(0.30)
    if draw(seed, 9) < 0.4 and storey < 0.5:
        sill = 0.12  # shop windows
    b = v / storey_m - storey - sill - 0.5 * height
    soft_a = wp.clamp(footprint_m / bay_m, 0.002, 0.5)
    soft_b = wp.clamp(footprint_m / storey_m, 0.002, 0.5)
    chance = hash3(int(bay), int(storey), seed, 5)
    window = float(0.0)
    if chance >= 0.12 and v >= 0.1 and (storey + sill + height) * storey_m < wall_top_m - 0.15:
        window = band(a, 0.5 * width, soft_a) * band(b, 0.5 * height, soft_b)
        frame = band(a, 0.5 * width + 0.035, soft_a) * band(b, 0.5 * height + 0.03, soft_b)
        c = c * (1.0 - frame) + wp.vec3(0.75, 0.75, 0.72) * (0.25 + 0.75 * draw(seed, 10)) * frame
        # A mullion down the middle of wide windows.
        if width > 0.45 and draw(seed, 11) < 0.6:
            window = window * (1.0 - band(a, 0.02, soft_a) * 0.8)
    if window <= 0.0:
        return c
    facing = wp.dot(ray, n)
    mirrored = ray - n * (2.0 * facing)
    sky = look.horizon * 0.6 + look.zenith * 0.4
    if mirrored[2] < 0.0:
        sky = look.ambient * 0.25
    grazing = 1.0 - wp.min(1.0, wp.abs(facing))
    f = 0.08 + 0.6 * grazing * grazing * grazing
    curtain = wp.max(0.0, hash3(int(bay), int(storey), seed, 6) - 0.6)
    glass = wp.vec3(0.05, 0.055, 0.06) + wp.vec3(0.35, 0.33, 0.3) * curtain
    # Shading multiplies by the light, a reflection must not be: divide it out first.
    light = look.ambient + look.sun_colour * 0.3 + wp.vec3(0.05, 0.05, 0.05)
    glass = glass * (1.0 - f) + wp.cw_div(sky, light) * f
    return c * (1.0 - window) + glass * window


@wp.func
def tiled_roof(scene: SceneData, p: wp.vec3, uv: wp.vec2, seed: int, footprint_m: float) -> wp.vec3:
    t = draw(seed, 20)
    c = wp.vec3(0.36, 0.14, 0.09)
    if t < 0.3:
        c = wp.vec3(0.14, 0.14, 0.15)
    elif t < 0.45:
        c = wp.vec3(0.24, 0.13, 0.10)
    elif t < 0.55:
        c = wp.vec3(0.30, 0.28, 0.26)
    c = c * (0.75 + 0.5 * draw(seed, 21))
    detail = wp.clamp(1.0 - footprint_m * 5.0, 0.0, 1.0)
    course = 1.0 - wp.min(1.0, fract(uv[1] / 0.35) * 4.0)
    c = c * (1.0 - detail * (0.35 * course + 0.12 * fract(uv[0] / 0.3)))
    moss = 0.25 * noise_at(scene.coarse_noise, p[0] * 3.0, p[1] * 3.0 + p[2])
    moss += 0.3 * noise_at(scene.coarse_noise, p[0] * 0.9 + t * 99.0, p[1] * 0.9)
    return c * (0.75 + moss)


@wp.func
def flat_roof(scene: SceneData, p: wp.vec3, uv: wp.vec2, seed: int, footprint_m: float) -> wp.vec3:
    t = draw(seed, 20)
    grey = 0.12 + 0.5 * t * t
    c = wp.vec3(grey, grey * 0.98, grey * 0.94)
    if t > 0.35 and t < 0.5:
        c = wp.vec3(0.18, 0.20, 0.10)  # planted
    dirt = 0.35 * noise_at(scene.coarse_noise, p[0] * 2.0, p[1] * 2.0)
    dirt += 0.35 * noise_at(scene.coarse_noise, p[0] * 0.35 + t * 77.0, p[1] * 0.35)
    c = c * (0.65 + dirt)
    if fract(uv[0] * 0.12) < 0.02 and footprint_m < 0.4:
        c = c * 0.75
    return c


@wp.func
def seed_colour(seed: int) -> wp.vec3:
    """The albedo that `materials.coloured_seed` put into a seed."""
    c = wp.vec3(float((seed >> 12) & 63), float((seed >> 6) & 63), float(seed & 63)) * (1.0 / 63.0)
    return wp.cw_mul(c, c)


@wp.func
def shingle_roof(scene: SceneData, p: wp.vec3, uv: wp.vec2, seed: int, footprint_m: float) -> wp.vec3:
    """Courses of shingles or tiles, each of its own shade, stained and patched."""
    c = seed_colour(seed)
    detail = wp.clamp(1.0 - footprint_m * 3.0, 0.0, 1.0)
    course = wp.floor(uv[1] / 0.32)
    piece = wp.floor(uv[0] / 0.55 + 0.5 * (course - 2.0 * wp.floor(course * 0.5)))
    c = c * (1.0 + detail * 0.3 * (hash3(int(piece), int(course), seed, 8) - 0.5))
    if fract(uv[1] / 0.32) < 0.16:
        c = c * (1.0 - 0.3 * detail)
    shift = draw(seed, 20) * 90.0
    stain = 0.35 * noise_at(scene.coarse_noise, p[0] * 2.5 + shift, p[1] * 2.5 + p[2])
    stain += 0.4 * noise_at(scene.coarse_noise, p[0] * 0.7 + shift, p[1] * 0.7)
    return c * (0.62 + stain)


@wp.func
def metal_roof(scene: SceneData, p: wp.vec3, uv: wp.vec2, seed: int, footprint_m: float) -> wp.vec3:
    """Ribbed sheets that run down the slope, with rust and dull strips."""
    c = seed_colour(seed)
    sheet = wp.floor(uv[0] / 0.9)
    c = c * (0.9 + 0.2 * hash3(int(sheet), 1, seed, 9))
    rib = wp.clamp(1.0 - footprint_m * 5.0, 0.0, 1.0)
    if fract(uv[0] / 0.3) < 0.2:
        c = c * (1.0 - 0.35 * rib)
    shift = draw(seed, 20) * 90.0
    rust = noise_at(scene.coarse_noise, p[0] * 1.1 + shift, p[1] * 1.1) - 0.45 - 0.5 * draw(seed, 21)
    rust = wp.clamp(rust * 4.0, 0.0, 0.7)
    c = c * (1.0 - rust) + wp.vec3(0.23, 0.12, 0.07) * rust
    return c * (0.85 + 0.3 * noise_at(scene.coarse_noise, p[0] * 3.0, p[1] * 3.0))


@wp.func
def crown(scene: SceneData, look: Look, p: wp.vec3, n: wp.vec3, seed: int):
    """Albedo, bumped normal and ambient occlusion of leaves."""
    t = draw(seed, 3 + (look.seed & 1023))
    c = look.leaf_dark * (1.0 - t) + look.leaf_light * t
    turned = wp.clamp(look.autumn * 1.7 - draw(seed, 31) * 0.9, 0.0, 1.0)
    if seed >= EVERGREEN:  # between today's leaves and what is green all year
        turned = 0.0
        c = c * 0.4 + wp.vec3(0.04, 0.065, 0.03) * (0.4 + 0.7 * draw(seed, 33))
    if turned > 0.0:  # each tree turns at its own time and to its own colour
        hue = draw(seed, 32)
        c = c * (1.0 - turned) + wp.vec3(0.22 + 0.10 * hue, 0.06 + 0.11 * hue, 0.012) * turned
    if is_bare(scene, seed):
        c = wp.vec3(0.09, 0.07, 0.05) * (0.7 + 0.6 * t)
    offset = t * 400.0
    h1 = noise_on(scene.fine_noise, p, 60.0, offset)
    h2 = noise_on(scene.fine_noise, p, 16.0, offset + 50.0)
    h3 = noise_at(scene.fine_noise, p[2] * 20.0 + offset, p[0] * 20.0)
    bumped = wp.normalize(n + wp.vec3(h1 - 0.5, h3 - 0.5, h2 - 0.5) * 1.8)
    height = wp.clamp((h1 - 0.5) * 1.5 + (h2 - 0.5) * 1.5 + 0.55, 0.05, 1.2)
    return c * (0.30 + 1.25 * height), bumped, 0.35 + 0.65 * wp.clamp(bumped[2] * 0.6 + 0.5, 0.0, 1.0)


@wp.func
def car(look: Look, uv: wp.vec2, seed: int):
    """Albedo and mirror strength of a car: paint, glass, tyres, lamps."""
    t = draw(seed, 7 + (look.seed & 1023))
    c = wp.vec3(0.75, 0.75, 0.74)
    if t < 0.25:
        c = wp.vec3(0.03, 0.03, 0.035)
    elif t < 0.45:
        c = wp.vec3(0.30, 0.31, 0.32)
    elif t < 0.58:
        c = wp.vec3(0.45, 0.03, 0.03)
    elif t < 0.72:
        c = wp.vec3(0.04, 0.10, 0.32)
    elif t < 0.78:
        c = wp.vec3(0.10, 0.22, 0.12)
    elif t < 0.82:
        c = wp.vec3(0.55, 0.40, 0.05)
    mirror = float(0.15)
    if uv[1] > 0.66 and uv[1] < 0.93 and uv[0] > -0.46 and uv[0] < 0.41:
        c = wp.vec3(0.02, 0.025, 0.03)
        mirror = 0.65
    elif uv[1] < 0.25:
        c = wp.vec3(0.03, 0.03, 0.03)
    elif uv[1] > 0.42 and uv[1] < 0.56 and uv[0] < -0.493:
        c = wp.vec3(0.5, 0.03, 0.02)
    elif uv[1] > 0.40 and uv[1] < 0.52 and uv[0] > 0.475:
        c = wp.vec3(0.8, 0.8, 0.8)
    return c, mirror


@wp.func
def hedge(scene: SceneData, look: Look, p: wp.vec3) -> wp.vec3:
    height = wp.clamp((noise_on(scene.fine_noise, p, 70.0, 0.0) - 0.5) * 2.2 + 0.5, 0.0, 1.2)
    c = (look.leaf_dark * 0.6 + look.leaf_light * 0.2) * (0.35 + height)
    return c * (1.0 - 0.4 * look.autumn) + wp.vec3(0.05, 0.03, 0.015) * look.autumn * height


@wp.func
def fence(p: wp.vec3, seed: int) -> wp.vec3:
    c = wp.vec3(0.28, 0.18, 0.10) * (0.7 + 0.5 * draw(seed, 2))
    if fract((p[0] + p[1]) * 5.0) < 0.12:
        c = c * 0.3
    return c


@wp.func
def lamp(seed: int) -> wp.vec3:
    """Luminaires are grey (seed up to 1), traffic signs red or blue."""
    if seed <= 1:
        return wp.vec3(0.6, 0.6, 0.55)
    if seed % 2 == 1:
        return wp.vec3(0.6, 0.05, 0.05)
    return wp.vec3(0.05, 0.12, 0.5)
