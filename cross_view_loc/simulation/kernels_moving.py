"""Rays against the moving cars, after rays against the scene at rest: whatever is nearer stays in the depth buffer."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors

from cross_view_loc.simulation.kernels_common import CameraData, pixel_ray
from cross_view_loc.simulation.kernels_visibility import MAX_RANGE_M, depth_key
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)


@wp.kernel
def cast_moving(
    bvh: wp.uint64,
    cameras: wp.array(dtype=CameraData),
    width: int,
    height: int,
    keys: wp.array(dtype=wp.int64, ndim=3),
):
    """One thread per pixel; the moving cars' triangles are the scene's first, so a face's number is the same."""
    k, y, x = wp.tid()
    camera = cameras[k]
    d = pixel_ray(camera, float(x) + 0.5, float(y) + 0.5, width, height)
    hit = wp.mesh_query_ray(bvh, camera.position, d, MAX_RANGE_M)
    if hit.result:
        key = depth_key(hit.t, hit.face)
        if key < keys[k, y, x]:
            keys[k, y, x] = key
