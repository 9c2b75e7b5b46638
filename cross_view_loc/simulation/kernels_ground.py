"""The ground: baked once per appearance into a mip pyramid, then looked up by map position."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.
# ruff: noqa: SIM109, UP018

from cross_view_loc.simulation.kernels_common import Look, SceneData, hash3, noise_at
from cross_view_loc.simulation.materials import GroundMaterial
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)

GRASS = wp.constant(int(GroundMaterial.GRASS))
SIDEWALK = wp.constant(int(GroundMaterial.SIDEWALK))
SOIL = wp.constant(int(GroundMaterial.SOIL))
GRAVEL = wp.constant(int(GroundMaterial.GRAVEL))
PLAZA = wp.constant(int(GroundMaterial.PLAZA))
PAVER = wp.constant(int(GroundMaterial.PAVER))
MEADOW = wp.constant(int(GroundMaterial.MEADOW))
LITTER = wp.constant(int(GroundMaterial.LITTER))
YELLOW_LINE = wp.constant(int(GroundMaterial.YELLOW_LINE))

Bytes2 = wp.array(dtype=wp.uint8, ndim=2)
Bytes3 = wp.array(dtype=wp.uint8, ndim=3)
Table = wp.array(dtype=float, ndim=2)


@wp.func
def joint(x: float, pitch: float, gap: float) -> bool:
    """Whether x lies in the joint of a row of slabs `pitch` metres wide."""
    return x / pitch - wp.floor(x / pitch) < gap


@wp.func
def paint_left(coarse: Table, x: float, y: float, offset: float, paint: float) -> float:
    """How much of a marking's paint is left at texture position (x, y) metres, 0 to 1."""
    middle = noise_at(coarse, x * 2.3 + offset, y * 2.3) - 0.5
    high = noise_at(coarse, x * 11.0, y * 11.0 + offset) - 0.5
    return wp.clamp(paint + high * 0.9 + middle * 0.6, 0.0, 1.0)


@wp.func
def tint_at(tint: Bytes3, j: int, i: int, texels: int) -> wp.vec3:
    """Albedo factor of texel (j, i) out of a raster of any size, bilinear; 128 stands for 1, the code is square."""
    n = tint.shape[0]
    scale = float(n) / float(texels)
    x = wp.clamp((float(i) + 0.5) * scale - 0.5, 0.0, float(n - 1))
    y = wp.clamp((float(j) + 0.5) * scale - 0.5, 0.0, float(n - 1))
    i0 = int(x)
    j0 = int(y)
    i1 = wp.min(i0 + 1, n - 1)
    j1 = wp.min(j0 + 1, n - 1)
    ax = x - float(i0)
    ay = y - float(j0)
    f = wp.vec3(0.0, 0.0, 0.0)
    for channel in range(3):
        top = float(tint[j0, i0, channel]) * (1.0 - ax) + float(tint[j0, i1, channel]) * ax
        bottom = float(tint[j1, i0, channel]) * (1.0 - ax) + float(tint[j1, i1, channel]) * ax
        f[channel] = (top * (1.0 - ay) + bottom * ay) / 128.0
    return wp.cw_mul(f, f)


@wp.func
def paint_colour(kind: int) -> wp.vec3:
    """Fresh road paint on a ground material."""
    if kind == YELLOW_LINE:
        return wp.vec3(0.70, 0.46, 0.06)
    return wp.vec3(0.78, 0.78, 0.75)


@wp.kernel
def bake_ground(
    kind: Bytes2,
    markings: Bytes2,
    wear: Bytes2,
    occlusion: Bytes2,
    canopy: Bytes2,
    tint: Bytes3,
    coarse: Table,
    dark: wp.array(dtype=wp.vec3),
    light: wp.array(dtype=wp.vec3),
    texel_m: float,
    look: Look,
    bare: Bytes3,
    painted: Bytes3,
):
    """Albedo of every texel, sqrt-coded: `bare` (4 channels: without paint, paint coverage), `painted` (3)."""
    j, i = wp.tid()
    g = int(kind[j, i])
    x = float(i) * texel_m
    y = float(j) * texel_m
    offset = look.ground_offset
    low = noise_at(coarse, x * 0.55 + offset, y * 0.55 + offset * 2.0)
    middle = noise_at(coarse, x * 2.3 + offset, y * 2.3)
    high = noise_at(coarse, x * 11.0, y * 11.0 + offset)
    t = wp.clamp((low - 0.5) * 1.6 + (middle - 0.5) * 0.9 + 0.5, 0.0, 1.0)
    c = dark[g] * (1.0 - t) + light[g] * t
    if g == PAVER or g == PLAZA:
        c = c * (0.9 + 0.2 * hash3(int(x / 0.45), int(y / 0.45), 3, 1))
        if joint(x, 0.45, 0.2) or joint(y, 0.45, 0.2):
            c = c * 0.85
    if g == SIDEWALK and (joint(x, 0.9, 0.1) or joint(y, 0.9, 0.1)):
        c = c * 0.88
    c = c * (0.9 + 0.2 * high)
    c = wp.cw_mul(c, tint_at(tint, j, i, kind.shape[0]))
    c = c * (1.0 - 0.55 * float(wear[j, i]) / 255.0)
    # Fallen leaves gather under crowns and are swept off the road.
    fallen = look.autumn * float(canopy[j, i]) / 255.0 * wp.clamp(0.25 + (middle - 0.5) * 2.0, 0.0, 0.7)
    if g != GRASS and g != SOIL and g != MEADOW and g != LITTER:
        fallen = fallen * 0.4
    if hash3(i, j, 5, look.seed) < fallen:
        c = wp.vec3(0.30, 0.15, 0.04) * (0.6 + 0.8 * hash3(i, j, 6, look.seed))
    shade = 0.45 + 0.55 * float(occlusion[j, i]) / 255.0
    coverage = float(markings[j, i]) / 255.0
    m = coverage * paint_left(coarse, x, y, offset, look.paint)
    p = c * (1.0 - m) + paint_colour(g) * m
    for channel in range(3):
        bare[j, i, channel] = wp.uint8(wp.sqrt(wp.clamp(c[channel] * shade, 0.0, 1.0)) * 255.0)
        painted[j, i, channel] = wp.uint8(wp.sqrt(wp.clamp(p[channel] * shade, 0.0, 1.0)) * 255.0)
    bare[j, i, 3] = markings[j, i]


@wp.func
def texture(image: Bytes3, x: float, y: float) -> wp.vec3:
    """Bilinear, decoded; (x, y) in texels with texel centres at +0.5."""
    n = image.shape[0]
    x = wp.clamp(x - 0.5, 0.0, float(n - 2) - 0.01)
    y = wp.clamp(y - 0.5, 0.0, float(n - 2) - 0.01)
    i = int(x)
    j = int(y)
    ax = x - float(i)
    ay = y - float(j)
    w00 = (1.0 - ax) * (1.0 - ay)
    w10 = ax * (1.0 - ay)
    w01 = (1.0 - ax) * ay
    w11 = ax * ay
    c00 = wp.vec3(float(image[j, i, 0]), float(image[j, i, 1]), float(image[j, i, 2]))
    c10 = wp.vec3(float(image[j, i + 1, 0]), float(image[j, i + 1, 1]), float(image[j, i + 1, 2]))
    c01 = wp.vec3(float(image[j + 1, i, 0]), float(image[j + 1, i, 1]), float(image[j + 1, i, 2]))
    c11 = wp.vec3(float(image[j + 1, i + 1, 0]), float(image[j + 1, i + 1, 1]), float(image[j + 1, i + 1, 2]))
    c = (c00 * w00 + c10 * w10 + c01 * w01 + c11 * w11) * (1.0 / 255.0)
    return wp.cw_mul(c, c)


@wp.func
def near_ground(scene: SceneData, look: Look, u: float, v: float, footprint_m: float) -> wp.vec3:
    """Finest level: paint gets edges sharper than the texels, or markings near the camera would look like blobs."""
    c = texture(scene.ground0, u, v)
    n = scene.ground0.shape[0]
    x = wp.clamp(u - 0.5, 0.0, float(n - 2) - 0.01)
    y = wp.clamp(v - 0.5, 0.0, float(n - 2) - 0.01)
    i = int(x)
    j = int(y)
    ax = x - float(i)
    ay = y - float(j)
    top = float(scene.ground0[j, i, 3]) * (1.0 - ax) + float(scene.ground0[j, i + 1, 3]) * ax
    bottom = float(scene.ground0[j + 1, i, 3]) * (1.0 - ax) + float(scene.ground0[j + 1, i + 1, 3]) * ax
    coverage = (top * (1.0 - ay) + bottom * ay) / 255.0
    if coverage > 0.0:
        sharpness = wp.clamp(scene.texel_m / wp.max(footprint_m, 0.001), 1.0, 4.0)
        m = wp.clamp((coverage - 0.5) * sharpness + 0.5, 0.0, 1.0)
        px = (u - 0.5) * scene.texel_m
        py = (v - 0.5) * scene.texel_m
        m = m * paint_left(scene.coarse_noise, px, py, look.ground_offset, look.paint)
        nearest = int(scene.ground_kind[int(wp.min(v, float(n - 1))), int(wp.min(u, float(n - 1)))])
        c = c * (1.0 - m) + (paint_colour(nearest) - wp.vec3(0.06, 0.06, 0.06)) * m
    return c


@wp.func
def ground_level(scene: SceneData, look: Look, x: float, y: float, footprint_m: float) -> wp.vec3:
    """Albedo at map position (x, y) from the mip level that fits the footprint."""
    u = (x + scene.half_size_m) / scene.texel_m
    v = (scene.half_size_m - y) / scene.texel_m
    texels = footprint_m / scene.texel_m
    if texels < 1.5:
        return near_ground(scene, look, u, v, footprint_m)
    if texels < 3.0:
        return texture(scene.ground1, u * 0.5, v * 0.5)
    if texels < 6.0:
        return texture(scene.ground2, u * 0.25, v * 0.25)
    if texels < 12.0:
        return texture(scene.ground3, u * 0.125, v * 0.125)
    return texture(scene.ground4, u * 0.0625, v * 0.0625)


@wp.func
def ground_albedo(scene: SceneData, look: Look, p: wp.vec3, ray: wp.vec3, footprint_m: float, cosine: float):
    """Albedo and mirror strength of the ground; three samples along the footprint's long axis at grazing angles."""
    long_m = footprint_m / cosine
    c = wp.vec3(0.0, 0.0, 0.0)
    if long_m < 2.0 * scene.texel_m:
        c = ground_level(scene, look, p[0], p[1], wp.sqrt(footprint_m * long_m))
    else:
        length = wp.sqrt(ray[0] * ray[0] + ray[1] * ray[1]) + 1.0e-6
        hx = ray[0] / length * long_m * 0.33
        hy = ray[1] / length * long_m * 0.33
        level_m = wp.max(footprint_m, long_m * 0.3)
        c = ground_level(scene, look, p[0] - hx, p[1] - hy, level_m)
        c += ground_level(scene, look, p[0], p[1], level_m)
        c += ground_level(scene, look, p[0] + hx, p[1] + hy, level_m)
        c = c * 0.33333
    grain = wp.clamp(1.3 - long_m * 12.0, 0.0, 1.0)
    if grain > 0.0:
        n = noise_at(scene.fine_noise, p[0] * 190.0, p[1] * 190.0) - 0.5
        n += 0.8 * (noise_at(scene.fine_noise, p[0] * 41.0, p[1] * 41.0) - 0.5)
        n += 0.4 * (noise_at(scene.fine_noise, p[0] * 670.0, p[1] * 670.0) - 0.5)
        green = wp.clamp((c[1] - c[0] - 0.01) * 20.0, 0.0, 1.0)
        c = c * (1.0 + grain * n * (0.45 + 0.8 * green))
    mirror = float(0.02)
    if look.wetness > 0.0:
        size = scene.ground_kind.shape[0]
        column = wp.clamp(int((p[0] + scene.half_size_m) / scene.texel_m), 0, size - 1)
        row = wp.clamp(int((scene.half_size_m - p[1]) / scene.texel_m), 0, size - 1)
        g = int(scene.ground_kind[row, column])
        if g != GRASS and g != SOIL and g != GRAVEL and (g < MEADOW or g == YELLOW_LINE):
            pool = noise_at(scene.coarse_noise, p[0] * 1.1, p[1] * 1.1 + 31.0) - 0.72 + 0.3 * look.wetness
            pool = wp.clamp(pool * 5.0, 0.0, 1.0)
            c = c * (1.0 - look.wetness * (0.4 + 0.2 * pool))
            mirror = look.wetness * (0.12 + 0.55 * pool)
    return c, mirror
