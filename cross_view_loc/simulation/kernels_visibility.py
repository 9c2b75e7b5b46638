"""Which triangle does each pixel see? Two answers to the same question: rasterise, or cast rays into a BVH.

Both write a depth buffer of 64-bit keys (distance bits << 32 | triangle), so that the nearest triangle wins whatever
the order of threads: the picture does not depend on scheduling.
"""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.
# ruff: noqa: RUF046, UP018

from cross_view_loc.simulation.kernels_common import (
    LEAF,
    MISS,
    ORTHO,
    PINHOLE,
    CameraData,
    SceneData,
    leaf_is_open,
    pixel_ray,
)
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)

MAX_RANGE_M = wp.constant(900.0)
MAX_LEAF_LAYERS = wp.constant(8)


@wp.func
def depth_key(distance: float, triangle: int) -> wp.int64:
    # The bits of a positive float sort like the float.
    return (wp.int64(wp.cast(distance, wp.int32)) << wp.int64(32)) | wp.int64(triangle)


@wp.func
def include(bounds: wp.vec4, x: float, y: float) -> wp.vec4:
    return wp.vec4(wp.min(bounds[0], x), wp.min(bounds[1], y), wp.max(bounds[2], x), wp.max(bounds[3], y))


@wp.func
def include_vertex(bounds: wp.vec4, a: wp.vec4, near: float) -> wp.vec4:
    if a[3] < near:
        return bounds
    return include(bounds, a[0] / a[3], a[1] / a[3])


@wp.func
def include_crossing(bounds: wp.vec4, a: wp.vec4, b: wp.vec4, near: float) -> wp.vec4:
    """Add the point where edge a-b crosses the near plane, if it does."""
    if (a[3] - near) * (b[3] - near) >= 0.0:
        return bounds
    t = (near - a[3]) / (b[3] - a[3])
    p = a * (1.0 - t) + b * t
    return include(bounds, p[0] / near, p[1] / near)


@wp.func
def corner(scene: SceneData, kind: int, index: int) -> wp.vec4:
    v = scene.vertices[index]
    if kind == ORTHO:
        v = scene.flat_vertices[index]
    return wp.vec4(v[0], v[1], v[2], 1.0)


@wp.kernel
def rasterise(
    scene: SceneData,
    cameras: wp.array(dtype=CameraData),
    width: int,
    height: int,
    near: float,
    keys: wp.array(dtype=wp.int64, ndim=3),
):
    """One thread per (camera, cluster). Homogeneous edge functions: triangles may cross the near plane."""
    k, cluster = wp.tid()
    camera = cameras[k]
    sphere = scene.clusters[cluster]
    if camera.kind == ORTHO:
        sphere = scene.flat_clusters[cluster]
    radius = sphere[3]
    centre = wp.vec4(sphere[0], sphere[1], sphere[2], 1.0)
    side = camera.planes * centre
    if side[0] < -radius or side[1] < -radius or side[2] < -radius or side[3] < -radius:
        return
    if wp.dot(camera.depth_plane, centre) < near - radius:
        return
    last = wp.min((cluster + 1) * scene.cluster_size, scene.triangle_count)
    for t in range(cluster * scene.cluster_size, last):
        ia = scene.triangles[3 * t]
        ib = scene.triangles[3 * t + 1]
        ic = scene.triangles[3 * t + 2]
        a = camera.clip_from_map * corner(scene, camera.kind, ia)
        b = camera.clip_from_map * corner(scene, camera.kind, ib)
        c = camera.clip_from_map * corner(scene, camera.kind, ic)
        if a[3] < near and b[3] < near and c[3] < near:
            continue
        bounds = wp.vec4(1.0e9, 1.0e9, -1.0e9, -1.0e9)
        bounds = include_vertex(bounds, a, near)
        bounds = include_vertex(bounds, b, near)
        bounds = include_vertex(bounds, c, near)
        if a[3] < near or b[3] < near or c[3] < near:
            bounds = include_crossing(bounds, a, b, near)
            bounds = include_crossing(bounds, b, c, near)
            bounds = include_crossing(bounds, c, a, near)
        if bounds[2] < 0.0 or bounds[3] < 0.0 or bounds[0] > float(width) or bounds[1] > float(height):
            continue
        x0 = wp.max(0, int(wp.ceil(wp.max(bounds[0], -1.0) - 0.5)))
        y0 = wp.max(0, int(wp.ceil(wp.max(bounds[1], -1.0) - 0.5)))
        x1 = wp.min(width - 1, int(wp.floor(wp.min(bounds[2], float(width) + 1.0) - 0.5)))
        y1 = wp.min(height - 1, int(wp.floor(wp.min(bounds[3], float(height) + 1.0) - 0.5)))
        if x1 < x0 or y1 < y0:
            continue
        ea = wp.cross(wp.vec3(b[0], b[1], b[3]), wp.vec3(c[0], c[1], c[3]))
        eb = wp.cross(wp.vec3(c[0], c[1], c[3]), wp.vec3(a[0], a[1], a[3]))
        ec = wp.cross(wp.vec3(a[0], a[1], a[3]), wp.vec3(b[0], b[1], b[3]))
        det = a[0] * ea[0] + a[1] * ea[1] + a[3] * ea[2]
        if wp.abs(det) < 1.0e-9:
            continue
        ea = ea / det
        eb = eb / det
        ec = ec / det
        e_depth = ea * a[2] + eb * b[2] + ec * c[2]
        e_w = ea + eb + ec
        is_leaf = scene.materials[t] == LEAF
        for y in range(y0, y1 + 1):
            py = float(y) + 0.5
            px = float(x0) + 0.5
            la = ea[0] * px + ea[1] * py + ea[2]
            lb = eb[0] * px + eb[1] * py + eb[2]
            lc = ec[0] * px + ec[1] * py + ec[2]
            for x in range(x0, x1 + 1):
                # Rounding must not open cracks along shared edges: a centre on an edge may belong to both triangles.
                slack = -1.0e-4 * (la + lb + lc)
                if la >= slack and lb >= slack and lc >= slack:
                    px = float(x) + 0.5
                    inverse_w = e_w[0] * px + e_w[1] * py + e_w[2]
                    depth = (e_depth[0] * px + e_depth[1] * py + e_depth[2]) / inverse_w
                    if depth > 0.0:
                        key = depth_key(depth, t)
                        if key < keys[k, y, x]:
                            seen = int(1)
                            if is_leaf:
                                w = 1.0 / inverse_w
                                p = (scene.vertices[ia] * la + scene.vertices[ib] * lb + scene.vertices[ic] * lc) * w
                                n = scene.normals[ia] * la + scene.normals[ib] * lb + scene.normals[ic] * lc
                                d = camera.direction
                                if camera.kind == PINHOLE:
                                    d = p - camera.position
                                facing = wp.abs(wp.dot(wp.normalize(n), wp.normalize(d)))
                                if leaf_is_open(scene, p, scene.seeds[t], facing):
                                    seen = 0
                            if seen == 1:
                                wp.atomic_min(keys, k, y, x, key)
                la += ea[0]
                lb += eb[0]
                lc += ec[0]


@wp.kernel
def cast_rays(
    scene: SceneData,
    cameras: wp.array(dtype=CameraData),
    width: int,
    height: int,
    keys: wp.array(dtype=wp.int64, ndim=3),
):
    """One thread per pixel of a pinhole or panorama; walks on through open leaves."""
    k, y, x = wp.tid()
    camera = cameras[k]
    d = pixel_ray(camera, float(x) + 0.5, float(y) + 0.5, width, height)
    travelled = float(0.0)
    keys[k, y, x] = MISS
    for _layer in range(MAX_LEAF_LAYERS):
        hit = wp.mesh_query_ray(scene.bvh, camera.position + d * travelled, d, MAX_RANGE_M - travelled)
        if not hit.result:
            break
        travelled += hit.t
        t = hit.face
        if scene.materials[t] == LEAF:
            na = scene.normals[scene.triangles[3 * t]]
            nb = scene.normals[scene.triangles[3 * t + 1]]
            nc = scene.normals[scene.triangles[3 * t + 2]]
            n = wp.normalize(na * hit.u + nb * hit.v + nc * (1.0 - hit.u - hit.v))
            facing = wp.abs(wp.dot(n, wp.normalize(d)))
            if leaf_is_open(scene, camera.position + d * travelled, scene.seeds[t], facing):
                travelled += 0.01
                continue
        keys[k, y, x] = depth_key(travelled, t)
        break
