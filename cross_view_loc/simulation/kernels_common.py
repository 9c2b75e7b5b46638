"""What all kernels share: the structures that describe scene, light and cameras, hashing and noise."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors

from cross_view_loc.simulation.materials import EVERGREEN_SEED, SurfaceMaterial
from cross_view_loc.simulation.noise import TABLE_SIZE
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)

PINHOLE = wp.constant(0)
PANORAMA = wp.constant(1)
ORTHO = wp.constant(2)  # sees the scene flattened: heights are above the terrain, so that only objects lean
SUN = wp.constant(3)  # parallel projection of the true scene, for the shadow map

MISS = wp.constant(wp.int64(9223372036854775807))  # depth-buffer value where nothing was hit
NOISE_MASK = wp.constant(TABLE_SIZE - 1)
EVERGREEN = wp.constant(EVERGREEN_SEED)
LEAF = wp.constant(int(SurfaceMaterial.LEAF))  # the one material that visibility must know (cut-outs)


@wp.struct
class SceneData:
    """Geometry, ground textures and the sun's shadow map, all on one device; lengths in metres, map frame."""

    vertices: wp.array(dtype=wp.vec3)
    flat_vertices: wp.array(dtype=wp.vec3)  # x, y, height above the terrain
    normals: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    triangles: wp.array(dtype=int)  # 3 vertex indices a triangle
    materials: wp.array(dtype=int)
    seeds: wp.array(dtype=int)
    clusters: wp.array(dtype=wp.vec4)  # bounding spheres of runs of cluster_size triangles
    flat_clusters: wp.array(dtype=wp.vec4)
    triangle_count: int
    cluster_size: int
    bvh: wp.uint64
    ground_kind: wp.array(dtype=wp.uint8, ndim=2)
    ground0: wp.array(dtype=wp.uint8, ndim=3)  # sqrt-coded albedo without paint, paint coverage as 4th channel
    ground1: wp.array(dtype=wp.uint8, ndim=3)  # from here on with paint, each level half the size
    ground2: wp.array(dtype=wp.uint8, ndim=3)
    ground3: wp.array(dtype=wp.uint8, ndim=3)
    ground4: wp.array(dtype=wp.uint8, ndim=3)
    texel_m: float
    half_size_m: float
    coarse_noise: wp.array(dtype=float, ndim=2)
    fine_noise: wp.array(dtype=float, ndim=2)
    shadow: wp.array(dtype=wp.int64, ndim=2)
    shadow_from_map: wp.mat44
    shadow_size: int
    bareness: float  # 0 full crowns, 1 bare twigs


@wp.struct
class Look:
    """Light, air and season: the kernel's side of an Appearance."""

    sun_direction: wp.vec3  # towards the sun
    sun_colour: wp.vec3
    ambient: wp.vec3
    zenith: wp.vec3
    horizon: wp.vec3
    fog_colour: wp.vec3
    fog_per_m: float
    cloud: float
    cloud_offset: float
    leaf_dark: wp.vec3
    leaf_light: wp.vec3
    autumn: float
    wetness: float
    paint: float
    ground_offset: float
    seed: int


@wp.struct
class CameraData:
    """One camera; pixel (column i, row j) has its centre at (i + 0.5, j + 0.5)."""

    kind: int
    noise_key: int
    clip_from_map: wp.mat44  # homogeneous: (column·w, row·w, depth·w, w)
    planes: wp.mat44  # rows: the four side planes, normalised, inside positive
    depth_plane: wp.vec4  # metres in front of the camera
    position: wp.vec3
    rotation: wp.mat33  # optical frame -> map
    focal: float
    centre_x: float
    centre_y: float
    pixel_size: float  # radians a pixel (pinhole, panorama) or metres a pixel (ortho)
    origin: wp.vec3  # ortho: start of the ray through the image's top-left corner
    direction: wp.vec3  # ortho and sun: common ray direction
    step_m: float  # ortho: metres a pixel
    velocity: wp.vec3  # in the optical frame
    exposure_s: float


@wp.func
def hash3(x: int, y: int, z: int, salt: int) -> float:
    """Uniform in [0, 1) from integers."""
    h = x * 374761393 + y * 668265263 + z * 1274126177 + salt * 974634541
    h = (h ^ ((h >> 13) & 0x7FFFF)) * 1274126177
    h = h ^ ((h >> 16) & 0xFFFF)
    return float(h & 0xFFFFFF) / 16777216.0


@wp.func
def draw(seed: int, which: int) -> float:
    """The `which`-th uniform number of an object."""
    return hash3(seed, which, seed >> 7, 17)


@wp.func
def noise_at(table: wp.array(dtype=float, ndim=2), x: float, y: float) -> float:
    """Bilinear sample of a periodic table."""
    fx = wp.floor(x)
    fy = wp.floor(y)
    ax = x - fx
    ay = y - fy
    i = int(fx) & NOISE_MASK
    j = int(fy) & NOISE_MASK
    i2 = (i + 1) & NOISE_MASK
    j2 = (j + 1) & NOISE_MASK
    top = table[j, i] * (1.0 - ax) + table[j, i2] * ax
    bottom = table[j2, i] * (1.0 - ax) + table[j2, i2] * ax
    return top * (1.0 - ay) + bottom * ay


@wp.func
def noise_on(table: wp.array(dtype=float, ndim=2), p: wp.vec3, frequency: float, offset: float) -> float:
    """Noise on any surface: mean of the three axis-aligned planes."""
    a = noise_at(table, p[0] * frequency + offset, p[1] * frequency)
    b = noise_at(table, p[1] * frequency + offset, p[2] * frequency + offset)
    c = noise_at(table, p[2] * frequency, p[0] * frequency + offset * 0.5)
    return (a + b + c) * 0.33333


@wp.func
def is_bare(scene: SceneData, seed: int) -> bool:
    """Whether this tree has dropped its leaves; a few never do."""
    if seed >= EVERGREEN:
        return False
    return draw(seed, 6) < scene.bareness * 1.15 - 0.1


@wp.func
def leaf_is_open(scene: SceneData, p: wp.vec3, seed: int, facing: float) -> bool:
    """Whether one sees through a crown at p; crowns are ragged where the surface turns away (facing -> 0)."""
    offset = draw(seed, 5) * 400.0
    low = noise_on(scene.fine_noise, p, 26.0, offset)
    high = noise_on(scene.fine_noise, p, 60.0, offset)
    edge = 1.0 - facing
    if is_bare(scene, seed):
        # Twigs: thin lines where the noise crosses its mean.
        return wp.min(wp.abs(low - 0.5), 0.7 * wp.abs(high - 0.5)) > 0.025 * (1.0 - 0.7 * edge)
    return 0.6 * low + 0.4 * high < 0.36 + 0.1 * scene.bareness + 0.34 * edge * edge


@wp.func
def pixel_ray(camera: CameraData, x: float, y: float, width: int, height: int) -> wp.vec3:
    """Map direction through image point (x, y); pinhole rays have z = 1 in the optical frame."""
    if camera.kind == PANORAMA:
        azimuth = (x / float(width) - 0.5) * 6.283185307
        elevation = (0.5 - y / float(height)) * 3.141592654
        level = wp.cos(elevation)
        return camera.rotation * wp.vec3(wp.sin(azimuth) * level, -wp.sin(elevation), wp.cos(azimuth) * level)
    x_n = (x - camera.centre_x) / camera.focal
    y_n = (y - camera.centre_y) / camera.focal
    return camera.rotation * wp.vec3(x_n, y_n, 1.0)


@wp.func
def ortho_origin(camera: CameraData, x: float, y: float) -> wp.vec3:
    """Start of the ray through image point (x right = east, y down = south)."""
    return camera.origin + wp.vec3(x * camera.step_m, -y * camera.step_m, 0.0)
