"""Street lamps at night: light added to what is under them, and a glow around every light that is seen."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.

from cross_view_loc.simulation.kernels_common import PANORAMA, CameraData, Look, pixel_ray
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)


@wp.kernel
def shine(
    look: Look,
    cameras: wp.array(dtype=CameraData),
    positions: wp.array(dtype=wp.vec3, ndim=2),
    colours: wp.array(dtype=wp.vec3, ndim=2),
    cast: wp.array(dtype=float, ndim=2),
    width: int,
    height: int,
    depth: wp.array(dtype=float, ndim=3),
    radiance: wp.array(dtype=wp.vec3, ndim=3),
):
    """Scale each pixel's light by what the lamps add to the sky's: at night that is almost even, so the ratio of
    lights is the ratio of pictures and the surface need not be known. Lamps shine downwards, through everything.
    """
    k, y, x = wp.tid()
    camera = cameras[k]
    d = pixel_ray(camera, float(x) + 0.5, float(y) + 0.5, width, height)
    length = wp.length(d)
    ray = d / length
    z = depth[k, y, x]
    distance = z * length
    if camera.kind == PANORAMA:
        distance = z
    p = camera.position + ray * distance
    lit = wp.vec3(0.0, 0.0, 0.0)
    glow = wp.vec3(0.0, 0.0, 0.0)
    for i in range(positions.shape[1]):
        c = colours[k, i]
        if c[0] <= 0.0:
            break
        lamp = positions[k, i]
        if z > 0.0 and cast[k, i] > 0.0:
            to_lamp = lamp - p
            r2 = wp.dot(to_lamp, to_lamp)
            down = wp.max(0.0, to_lamp[2]) / wp.sqrt(r2 + 0.01)
            lit += c * (cast[k, i] * 45.0 * down / (r2 + 4.0))
        seen = lamp - camera.position
        range_m = wp.length(seen)
        if z == 0.0 or distance > range_m - 0.6:
            cosine = wp.dot(seen, ray) / (range_m + 0.001)
            if cosine > 0.97:
                angle2 = 2.0 * (1.0 - cosine)
                core = 0.16 / (range_m + 0.1) + 0.0015
                glow += c * (2.5 * wp.exp(-angle2 / (core * core)) + 0.12 * wp.exp(-wp.sqrt(angle2) / (5.0 * core)))
    sky = look.ambient
    ratio = wp.vec3(lit[0] / (sky[0] + 0.01), lit[1] / (sky[1] + 0.01), lit[2] / (sky[2] + 0.01))
    radiance[k, y, x] = radiance[k, y, x] + wp.cw_mul(radiance[k, y, x], ratio) + glow
