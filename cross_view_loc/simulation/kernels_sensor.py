"""From light to the bytes a camera delivers: motion blur, exposure, white balance, noise, tone curve."""

# Annotations here are Warp types, which mean nothing to mypy.
# mypy: ignore-errors
# In Warp float(0.0) declares a variable where a literal is a constant, and there is no `in`.
# ruff: noqa: UP018

from cross_view_loc.simulation.kernels_common import ORTHO, PINHOLE, CameraData, hash3
from cross_view_loc.simulation.noise import GAUSSIAN_COUNT
from cross_view_loc.simulation.warp_runtime import MODULE_OPTIONS, wp

wp.set_module_options(MODULE_OPTIONS)

GAUSSIAN_MASK = wp.constant(GAUSSIAN_COUNT - 1)


@wp.struct
class Sensor:
    """The camera's side of an Appearance."""

    gain: float
    white_balance: wp.vec3
    saturation: float
    contrast: float
    vignette: float
    shot_noise: float
    read_noise: float
    blur_taps: int
    seed: int


@wp.kernel
def expose(
    cameras: wp.array(dtype=CameraData),
    sensor: Sensor,
    gaussian: wp.array(dtype=float),
    supersample: int,
    first_row: int,
    radiance: wp.array(dtype=wp.vec3, ndim=3),
    fine_depth: wp.array(dtype=float, ndim=3),
    rgb: wp.array(dtype=wp.uint8, ndim=4),
    depth: wp.array(dtype=float, ndim=3),
):
    """Average supersample x supersample samples into a pixel, keep the nearest depth, then act as a sensor.

    `first_row` is the row of the whole image at which this band begins: noise belongs to the pixel, not to the band.
    """
    k, y, x = wp.tid()
    camera = cameras[k]
    c = wp.vec3(0.0, 0.0, 0.0)
    nearest = float(0.0)
    for j in range(supersample):
        for i in range(supersample):
            c += radiance[k, y * supersample + j, x * supersample + i]
            z = fine_depth[k, y * supersample + j, x * supersample + i]
            if z > 0.0 and (nearest == 0.0 or z < nearest):
                nearest = z
    c = c / float(supersample * supersample)
    depth[k, y, x] = nearest
    gain = sensor.gain
    if camera.kind == ORTHO and nearest == 0.0:
        for channel in range(3):
            rgb[k, y, x, channel] = wp.uint8(0)
        return
    if camera.kind == PINHOLE:
        column = (float(x) + 0.5) * float(supersample)
        row = (float(y) + 0.5) * float(supersample)
        x_n = (column - camera.centre_x) / camera.focal
        y_n = (row - camera.centre_y) / camera.focal
        if sensor.blur_taps > 1:
            inverse_z = float(0.0)
            if nearest > 0.0:
                inverse_z = 1.0 / nearest
            v = camera.velocity
            du = (-v[0] + x_n * v[2]) * inverse_z * camera.focal * camera.exposure_s
            dv = (-v[1] + y_n * v[2]) * inverse_z * camera.focal * camera.exposure_s
            if du * du + dv * dv > 0.5:
                c = wp.vec3(0.0, 0.0, 0.0)
                for tap in range(sensor.blur_taps):
                    t = (float(tap) + 0.5) / float(sensor.blur_taps) - 0.5
                    xi = wp.clamp(int(column + du * t), 0, radiance.shape[2] - 1)
                    yi = wp.clamp(int(row + dv * t), 0, radiance.shape[1] - 1)
                    c += radiance[k, yi, xi]
                c = c / float(sensor.blur_taps)
        gain = gain * (1.0 - sensor.vignette * wp.min(1.0, x_n * x_n + y_n * y_n))
    c = wp.cw_mul(c, sensor.white_balance) * gain
    grey = 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]
    c = wp.vec3(grey, grey, grey) * (1.0 - sensor.saturation) + c * sensor.saturation
    start = int(hash3(camera.noise_key, y + first_row, sensor.seed, 91) * float(GAUSSIAN_COUNT)) + x * 3
    for channel in range(3):
        a = wp.max(0.0, c[channel])
        deviate = gaussian[(start + channel) & GAUSSIAN_MASK]
        a = wp.max(0.0, a + deviate * (sensor.shot_noise * wp.sqrt(a) + sensor.read_noise))
        a = a * (1.0 + a * 0.12) / (1.0 + a * 0.62)  # shoulder: highlights bend before they clip
        a = wp.sqrt(wp.min(1.0, a))
        a = a + sensor.contrast * (a - 0.5) * a * (1.0 - a) * 2.0
        rgb[k, y, x, channel] = wp.uint8(wp.clamp(a * 255.0 + 0.5, 0.0, 255.0))
