"""The settings of what comes in: topics, frames, the map, timing."""

from __future__ import annotations

from dataclasses import dataclass

from cross_view_loc.settings.parameter import setting

_TOPICS = "Topics"
_FRAMES = "Frames and transforms"
_MAP = "Map"
_INPUTS = "Inputs and timing"


@dataclass(frozen=True)
class InputSettings:
    """The first half of `Settings`."""

    cameras: tuple[str, ...] = setting(
        (),
        _TOPICS,
        "Names of several cameras, each with parameters NAME.image_topic, NAME.camera_info_topic and so on, as those "
        "below; empty = the one camera of these.",
    )
    image_topic: str = setting("camera/image_raw", _TOPICS, "Camera images (sensor_msgs/Image or CompressedImage).")
    image_transport: str = setting(
        "auto",
        _TOPICS,
        "Message type of image_topic: Image, CompressedImage, or what its name or its publisher says.",
        choices=("auto", "raw", "compressed"),
    )
    camera_info_topic: str = setting(
        "camera/camera_info", _TOPICS, "Calibration of the camera (sensor_msgs/CameraInfo)."
    )
    calibration_file: str = setting(
        "", _TOPICS, "Calibration as a camera_info YAML file, in place of camera_info_topic; empty = from the topic."
    )
    camera_frame: str = setting("", _TOPICS, "Optical frame of the camera; empty = the frame_id in the image's header.")
    depth_topic: str = setting(
        "",
        _TOPICS,
        "Measured depth registered to the image (sensor_msgs/Image, 16UC1 mm or 32FC1 m; may be sparse, as LiDAR "
        "projected into it), used where it has the image's stamp; what it leaves out, depth estimates; empty = none.",
    )
    rectified: str = setting(
        "auto",
        _TOPICS,
        "Whether image_topic is undistorted, so that P counts and D does not; auto: when it is called image_rect….",
        choices=("auto", "true", "false"),
    )
    mask: str = setting(
        "",
        _TOPICS,
        "Picture of the image's size or shape that is black where the image must not be used, as on the vehicle's own "
        "bonnet; empty = none.",
    )
    fix_topic: str = setting("gnss/fix", _TOPICS, "Coarse position that says where to look (sensor_msgs/NavSatFix).")
    odometry_topic: str = setting(
        "", _TOPICS, "Odometry (nav_msgs/Odometry) that carries the last fix to the image's stamp; empty = none."
    )
    imu_topic: str = setting(
        "", _TOPICS, "Attitude and absolute heading (sensor_msgs/Imu with orientation); empty = none."
    )

    map_frame: str = setting("map", _FRAMES, "Frame the poses are given in: east, north, up about map_origin.")
    odom_frame: str = setting("odom", _FRAMES, "Frame of the odometry, used by tf_mode map_to_odom.")
    base_frame: str = setting("base_link", _FRAMES, "Vehicle frame whose pose is estimated: x forward, y left, z up.")
    antenna_in_base_m: tuple[float, ...] = setting(
        (), _FRAMES, "GNSS antenna in base_frame as [x, y, z]; empty = from TF by the fix's frame_id."
    )
    ground_height_in_base_m: float = setting(
        0.0,
        _FRAMES,
        "Height of the ground in base_frame: 0 when base_frame lies on the ground, -0.3 when it is 0.3 m above.",
        minimum=-10.0,
        maximum=10.0,
    )
    tf_mode: str = setting(
        "none",
        _FRAMES,
        "Transform to publish: none, map_to_odom (REP-105), map_to_base, or child (display-only leaf child_frame).",
        choices=("none", "map_to_odom", "map_to_base", "child"),
    )
    transform_tolerance_s: float = setting(
        0.5,
        _FRAMES,
        "map_to_odom is post-dated by this, so that it also serves odometry newer than the image.",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    tf_rate_hz: float = setting(
        10.0,
        _FRAMES,
        "map_to_odom is sent so often between estimates, so that TF stays current; 0 = only with estimates.",
        minimum=0.0,
        maximum=100.0,
    )
    map_to_odom_motion: str = setting(
        "jump",
        _FRAMES,
        "map_to_odom follows an estimate at once, or smooth: no faster than correction_speed_m_per_s and _yaw_rate.",
        choices=("jump", "smooth"),
        live=True,
    )
    correction_speed_m_per_s: float = setting(
        1.0,
        _FRAMES,
        "Smooth corrections move the vehicle no faster than this, beside its own motion.",
        minimum=0.001,
        maximum=100.0,
        live=True,
    )
    correction_yaw_rate_deg_per_s: float = setting(
        5.0, _FRAMES, "Smooth corrections turn it no faster than this.", minimum=0.01, maximum=360.0, live=True
    )
    correction_jump_m: float = setting(
        5.0, _FRAMES, "A correction larger than this is made at once all the same.", minimum=0.0, maximum=1e6, live=True
    )
    child_frame: str = setting("cross_view_base_link", _FRAMES, "Name of the leaf frame of tf_mode child.")

    map_path: str = setting(
        "", _MAP, "Aerial imagery: an .mbtiles, .pmtiles or GeoTIFF file, a folder of tiles, or a source's .yaml."
    )
    map_cache: str = setting(
        "",
        _MAP,
        "File (.mbtiles) that keeps the tiles of an online source; empty = as its .yaml says, else below ~/.cache.",
    )
    map_offline: bool = setting(
        False, _MAP, "Never touch the network: an online source gives what its cache holds, filled by prefetch."
    )
    map_origin: tuple[float, ...] = setting(
        (),
        _MAP,
        "Origin of map_frame as [latitude_deg, longitude_deg, height_m]; empty = the map file's metadata, "
        "else the first fix.",
    )
    new_origin: tuple[float, ...] = setting(
        (),
        _MAP,
        "Where ~/set_origin puts the origin of map_frame, as [latitude_deg, longitude_deg, height_m]; empty = at the "
        "newest fix.",
        live=True,
    )
    prefetch_radius_m: float = setting(
        300.0,
        _MAP,
        "How far around the vehicle ~/prefetch fetches the tiles of an online source (at most 400 of them).",
        minimum=10.0,
        maximum=5000.0,
        live=True,
    )
    map_projection: str = setting(
        "enu", _MAP, "Tangent plane, or UTM shifted to the origin as navsat_transform does.", choices=("enu", "utm")
    )

    imu_convention: str = setting(
        "enu",
        _INPUTS,
        "World and body axes of the Imu orientation: enu (REP-103) or ned (front-right-down body).",
        choices=("enu", "ned"),
    )
    magnetic_declination_deg: float = setting(
        0.0,
        _INPUTS,
        "East-positive declination added to an Imu heading that counts from magnetic north; 0 for true north.",
        minimum=-180.0,
        maximum=180.0,
    )
    attitude: str = setting(
        "auto",
        _INPUTS,
        "Roll and pitch: auto = of Imu or odometry, else level; sensors = theirs, without them no estimate; level; "
        "estimated = against the road, from the depth: a model's or measured; learned sees large tilts only in part.",
        choices=("auto", "sensors", "level", "estimated"),
    )
    heading_source: str = setting(
        "auto",
        _INPUTS,
        "auto = Imu if imu_topic is set, else course over ground; odometry only if its frame faces east at yaw 0.",
        choices=("auto", "imu", "odometry", "course", "none"),
    )
    course_min_distance_m: float = setting(
        10.0,
        _INPUTS,
        "Distance between two fixes from which their direction counts as the heading.",
        minimum=1.0,
        maximum=1000.0,
        live=True,
    )
    fix_min_std_m: float = setting(
        1.5,
        _INPUTS,
        "Floor for a fix's reported standard deviation (receivers are optimistic).",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    max_fix_age_s: float = setting(
        3.0, _INPUTS, "A fix older than this before the image is not used.", minimum=0.01, maximum=3600.0, live=True
    )
    max_input_gap_s: float = setting(
        0.5,
        _INPUTS,
        "Heading and odometry are interpolated over gaps up to this, never further.",
        minimum=0.01,
        maximum=10.0,
        live=True,
    )
    camera_tolerance_s: float = setting(
        0.02,
        _INPUTS,
        "Images of several cameras this near in time are localized together, and a depth image goes with its image; "
        "best below half the time between two images.",
        minimum=0.0,
        maximum=1.0,
    )
    prior_wait_s: float = setting(
        0.1,
        _INPUTS,
        "An image waits this long for heading, odometry and the other cameras to reach its stamp.",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    max_frame_age_s: float = setting(
        1.0,
        _INPUTS,
        "An image this much older than the newest stamp of any input is dropped.",
        minimum=0.05,
        maximum=60.0,
        live=True,
    )
    input_timeout_s: float = setting(
        2.0,
        _INPUTS,
        "A topic silent for longer is named in the diagnostics.",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
