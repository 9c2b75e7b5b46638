"""From what a pixel sees to the light it receives: surface, sun and shadow, sky light, reflections, fog."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.
# ruff: noqa: UP018

from cross_view_loc.simulation.kernels_common import (
    LEAF,
    MISS,
    ORTHO,
    CameraData,
    Look,
    SceneData,
    noise_at,
    ortho_origin,
    pixel_ray,
)
from cross_view_loc.simulation.kernels_ground import ground_albedo
from cross_view_loc.simulation.kernels_materials import (
    car,
    crown,
    facade,
    fence,
    flat_roof,
    hedge,
    lamp,
    metal_roof,
    seed_colour,
    shingle_roof,
    tiled_roof,
)
from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)

GROUND = wp.constant(int(SurfaceMaterial.GROUND))
WALL = wp.constant(int(SurfaceMaterial.WALL))
ROOF_TILE = wp.constant(int(SurfaceMaterial.ROOF_TILE))
ROOF_FLAT = wp.constant(int(SurfaceMaterial.ROOF_FLAT))
TRUNK = wp.constant(int(SurfaceMaterial.TRUNK))
CAR = wp.constant(int(SurfaceMaterial.CAR))
KERB = wp.constant(int(SurfaceMaterial.KERB))
METAL = wp.constant(int(SurfaceMaterial.METAL))
HEDGE = wp.constant(int(SurfaceMaterial.HEDGE))
FENCE = wp.constant(int(SurfaceMaterial.FENCE))
LAMP = wp.constant(int(SurfaceMaterial.LAMP))
ROOF_SHINGLE = wp.constant(int(SurfaceMaterial.ROOF_SHINGLE))
ROOF_METAL = wp.constant(int(SurfaceMaterial.ROOF_METAL))
PAINTED = wp.constant(int(SurfaceMaterial.PAINTED))


@wp.func
def sky(scene: SceneData, look: Look, d: wp.vec3) -> wp.vec3:
    """Light from unit direction d; below the skyline, hazy countryside instead of the town's edge."""
    up = wp.max(d[2], 0.0)
    rim = wp.pow(1.0 - up, 5.0)
    c = look.zenith * (1.0 - rim) + look.horizon * rim
    if d[2] > 0.02:
        q = 1.0 / (d[2] + 0.12)
        o = look.cloud_offset
        n = 0.55 * noise_at(scene.coarse_noise, d[0] * q * 14.0 + o, d[1] * q * 14.0)
        n += 0.30 * noise_at(scene.coarse_noise, d[0] * q * 40.0, d[1] * q * 40.0 + o)
        n += 0.15 * noise_at(scene.coarse_noise, d[0] * q * 110.0, d[1] * q * 110.0)
        m = wp.clamp((n - 0.5 + look.cloud * 0.9) * 2.2, 0.0, 1.0) * wp.min(1.0, d[2] * 8.0)
        c = c * (1.0 - m) + (look.sun_colour * 0.32 + look.ambient * 0.7) * m
    s = wp.max(0.0, wp.dot(d, look.sun_direction))
    c += look.sun_colour * (wp.pow(s, 250.0) * 2.0 * (1.0 - look.cloud) + 0.06 * wp.pow(s, 12.0))
    azimuth = wp.atan2(d[1], d[0]) * 81.487331  # once round is one period of the table
    hills = 0.055 * noise_at(scene.coarse_noise, azimuth, look.cloud_offset) - 0.008
    if d[2] < hills:
        land = wp.cw_mul(wp.vec3(0.10, 0.12, 0.08), look.ambient + look.sun_colour * 0.4)
        c = look.horizon * 0.45 + land * 0.55
    return c


@wp.func
def sun_visibility(scene: SceneData, p: wp.vec3, cosine: float) -> float:
    """Share of the sun's light that reaches p: four shadow-map taps; the bias grows as light grazes."""
    q = scene.shadow_from_map * wp.vec4(p[0], p[1], p[2], 1.0)
    x = q[0] - 0.5
    y = q[1] - 0.5
    i = int(wp.floor(x))
    j = int(wp.floor(y))
    if i < 0 or j < 0 or i >= scene.shadow_size - 1 or j >= scene.shadow_size - 1:
        return 1.0
    bias_m = 0.10 + 0.30 * wp.sqrt(wp.max(0.0, 1.0 - cosine * cosine)) / wp.max(cosine, 0.25)
    ax = x - float(i)
    ay = y - float(j)
    key = wp.int64(wp.cast(q[2] - bias_m, wp.int32)) << wp.int64(32)
    lit = float(0.0)
    if scene.shadow[j, i] > key:
        lit += (1.0 - ax) * (1.0 - ay)
    if scene.shadow[j, i + 1] > key:
        lit += ax * (1.0 - ay)
    if scene.shadow[j + 1, i] > key:
        lit += (1.0 - ax) * ay
    if scene.shadow[j + 1, i + 1] > key:
        lit += ax * ay
    return lit


@wp.kernel
def shade(
    scene: SceneData,
    look: Look,
    cameras: wp.array(dtype=CameraData),
    width: int,
    height: int,
    keys: wp.array(dtype=wp.int64, ndim=3),
    radiance: wp.array(dtype=wp.vec3, ndim=3),
    depth: wp.array(dtype=float, ndim=3),
):
    """Linear light and depth of every pixel: z (pinhole), range (panorama), distance below the plane (ortho)."""
    k, y, x = wp.tid()
    camera = cameras[k]
    column = float(x) + 0.5
    row = float(y) + 0.5
    o = camera.position
    d = camera.direction
    if camera.kind == ORTHO:
        o = ortho_origin(camera, column, row)
    else:
        d = pixel_ray(camera, column, row, width, height)
    length = wp.length(d)
    ray = d / length
    key = keys[k, y, x]
    if key == MISS:
        depth[k, y, x] = 0.0
        if camera.kind == ORTHO:
            radiance[k, y, x] = wp.vec3(0.0, 0.0, 0.0)
        else:
            radiance[k, y, x] = sky(scene, look, ray)
        return
    t = int(key & wp.int64(0xFFFFFFFF))
    ia = scene.triangles[3 * t]
    ib = scene.triangles[3 * t + 1]
    ic = scene.triangles[3 * t + 2]
    a = scene.vertices[ia]
    b = scene.vertices[ib]
    c = scene.vertices[ic]
    if camera.kind == ORTHO:
        a = scene.flat_vertices[ia]
        b = scene.flat_vertices[ib]
        c = scene.flat_vertices[ic]
    # Möller-Trumbore; clamped, since rasterisation and this may differ by a rounding at the triangle's edge.
    e1 = b - a
    e2 = c - a
    h = wp.cross(d, e2)
    det = wp.dot(e1, h)
    inverse = float(0.0)
    if wp.abs(det) > 1.0e-12:
        inverse = 1.0 / det
    s = o - a
    u = wp.clamp(wp.dot(s, h) * inverse, 0.0, 1.0)
    v = wp.clamp(wp.dot(d, wp.cross(s, e1)) * inverse, 0.0, 1.0)
    w = 1.0 - u - v
    hit = a * w + b * u + c * v
    distance = wp.dot(hit - o, ray)
    p = hit
    if camera.kind == ORTHO:
        p = scene.vertices[ia] * w + scene.vertices[ib] * u + scene.vertices[ic] * v
        depth[k, y, x] = o[2] - p[2]
    else:
        depth[k, y, x] = distance / length
    n = wp.normalize(scene.normals[ia] * w + scene.normals[ib] * u + scene.normals[ic] * v)
    uv_a = scene.uv[ia]
    uv_b = scene.uv[ib]
    uv_c = scene.uv[ic]
    uv = uv_a * w + uv_b * u + uv_c * v
    material = scene.materials[t]
    seed = scene.seeds[t]
    if material != GROUND and material != LEAF and wp.dot(n, ray) > 0.0:
        n = -n
    footprint_m = camera.pixel_size * distance
    if camera.kind == ORTHO:
        footprint_m = camera.pixel_size
    cosine = wp.max(0.03, wp.abs(wp.dot(n, ray)))

    albedo = wp.vec3(0.3, 0.3, 0.3)
    mirror = float(0.0)
    open_sky = float(1.0)
    through = float(0.0)  # share of light that leaves let through
    if material == GROUND:
        albedo, mirror = ground_albedo(scene, look, p, ray, footprint_m, cosine)
    elif material == WALL:
        top_m = wp.max(uv_a[1], wp.max(uv_b[1], uv_c[1]))
        albedo = facade(scene, look, uv, top_m, seed, footprint_m / wp.max(0.2, cosine), ray, n)
        open_sky = 0.6 + 0.4 * wp.clamp(uv[1] * 0.4, 0.0, 1.0)
    elif material == ROOF_TILE:
        albedo = tiled_roof(scene, p, uv, seed, footprint_m)
    elif material == ROOF_FLAT:
        albedo = flat_roof(scene, p, uv, seed, footprint_m)
    elif material == LEAF:
        albedo, n, open_sky = crown(scene, look, p, n, seed)
        through = 0.25
    elif material == TRUNK:
        bark = noise_at(scene.coarse_noise, p[0] * 30.0 + p[1] * 30.0, p[2] * 8.0)
        albedo = wp.vec3(0.12, 0.09, 0.06) * (0.5 + bark)
    elif material == CAR:
        albedo, mirror = car(look, uv, seed)
    elif material == KERB:
        albedo = wp.vec3(0.38, 0.37, 0.35) * (0.8 + 0.4 * noise_at(scene.coarse_noise, p[0] * 9.0, p[1] * 9.0))
    elif material == METAL:
        albedo = wp.vec3(0.25, 0.26, 0.27) * (0.8 + 0.4 * noise_at(scene.coarse_noise, p[0] * 3.0, p[2] * 3.0))
    elif material == HEDGE:
        albedo = hedge(scene, look, p)
        open_sky = 0.8
    elif material == FENCE:
        albedo = fence(p, seed)
    elif material == LAMP:
        albedo = lamp(seed)
    elif material == ROOF_SHINGLE:
        albedo = shingle_roof(scene, p, uv, seed, footprint_m)
    elif material == ROOF_METAL:
        albedo = metal_roof(scene, p, uv, seed, footprint_m)
        mirror = 0.12
    elif material == PAINTED:
        albedo = seed_colour(seed) * (0.85 + 0.3 * noise_at(scene.coarse_noise, p[0] * 4.0, p[1] * 4.0 + p[2]))

    lambert = wp.dot(n, look.sun_direction)
    sun = float(0.0)
    if lambert > 0.0 or through > 0.0:
        sun = sun_visibility(scene, p, wp.max(0.0, lambert))
    diffuse = wp.max(0.0, lambert) * (1.0 - through) + through * (0.5 + 0.5 * lambert)
    light = look.sun_colour * (diffuse * sun) + look.ambient * ((0.62 + 0.38 * n[2]) * open_sky)
    colour = wp.cw_mul(albedo, light)
    if mirror > 0.0:
        r = ray - n * (2.0 * wp.dot(ray, n))
        grazing = 1.0 - wp.min(1.0, cosine)
        f = mirror * (0.25 + 0.75 * grazing * grazing * grazing * grazing)
        reflected = look.zenith * wp.max(0.0, r[2]) + look.horizon * ((1.0 - wp.abs(r[2])) * 0.7)
        glint = wp.pow(wp.max(0.0, wp.dot(r, look.sun_direction)), 60.0) * 1.5
        colour = colour * (1.0 - f) + reflected * f + look.sun_colour * (sun * mirror * glint)
    if look.fog_per_m > 0.0 and camera.kind != ORTHO:
        f = 1.0 - wp.exp(-distance * look.fog_per_m)
        colour = colour * (1.0 - f) + look.fog_colour * f
    radiance[k, y, x] = colour
