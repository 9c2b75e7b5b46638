"""Every setting in one table: the node declares it, `config/localizer.yaml` lists it, `run --config` reads it.

A setting is a field of `Settings`; its description, limits and choices travel in the field's metadata, and
`PARAMETERS` is the same table in the form the node, the YAML writer and the tests want. Names carry the unit.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cross_view_loc.camera_settings import CAMERA_SUFFIXES, ONLY_CAMERA, CameraSettings
from cross_view_loc.contradictions import first_contradiction
from cross_view_loc.errors import InputError
from cross_view_loc.parameter import Kind, Parameter, Value

if TYPE_CHECKING:
    from cross_view_loc.localizer import LocalizerSettings
    from cross_view_loc.tracking.rules import TrackerRules
    from cross_view_loc.tracking.tracker import Tracker

OTHERS_PARAMETERS = ("use_sim_time", "qos_overrides", "start_type_description_service")
"""Parameters that ROS itself adds to a node; a parameter file may hold them, this table does not."""


def _setting(
    default: Value,
    group: str,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A field of `Settings` with its row of the table; `live` settings may change while the node runs."""
    row = {"group": group, "description": description, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata={**row, "read_only": not live})


_TOPICS, _FRAMES, _MAP, _INPUTS, _METHOD, _GATE, _OUTPUT = (
    "Topics",
    "Frames and transforms",
    "Map",
    "Inputs and timing",
    "Method",
    "Search and acceptance",
    "Output",
)
_TRACKING = "Tracking"


@dataclass(frozen=True)
class Settings:
    """What the node and the offline runner can be told; build it with `from_mapping` or `from_yaml`."""

    cameras: tuple[str, ...] = _setting(
        (),
        _TOPICS,
        "Names of several cameras, each with parameters NAME.image_topic, NAME.camera_info_topic and so on, as the six "
        "below; empty = the one camera of these six.",
    )
    image_topic: str = _setting("camera/image_raw", _TOPICS, "Camera images (sensor_msgs/Image or CompressedImage).")
    image_transport: str = _setting(
        "auto",
        _TOPICS,
        "Message type of image_topic: Image, CompressedImage, or what its name or its publisher says.",
        choices=("auto", "raw", "compressed"),
    )
    camera_info_topic: str = _setting(
        "camera/camera_info", _TOPICS, "Calibration of the camera (sensor_msgs/CameraInfo)."
    )
    calibration_file: str = _setting(
        "", _TOPICS, "Calibration as a camera_info YAML file, in place of camera_info_topic; empty = from the topic."
    )
    camera_frame: str = _setting(
        "", _TOPICS, "Optical frame of the camera; empty = the frame_id in the image's header."
    )
    depth_topic: str = _setting(
        "",
        _TOPICS,
        "Measured depth registered to the image (sensor_msgs/Image, 16UC1 mm or 32FC1 m), used where it has the "
        "image's stamp; empty = none.",
    )
    fix_topic: str = _setting("gnss/fix", _TOPICS, "Coarse position that says where to look (sensor_msgs/NavSatFix).")
    odometry_topic: str = _setting(
        "", _TOPICS, "Odometry (nav_msgs/Odometry) that carries the last fix to the image's stamp; empty = none."
    )
    imu_topic: str = _setting(
        "", _TOPICS, "Attitude and absolute heading (sensor_msgs/Imu with orientation); empty = none."
    )

    map_frame: str = _setting("map", _FRAMES, "Frame the poses are given in: east, north, up about map_origin.")
    odom_frame: str = _setting("odom", _FRAMES, "Frame of the odometry, used by tf_mode map_to_odom.")
    base_frame: str = _setting("base_link", _FRAMES, "Vehicle frame whose pose is estimated: x forward, y left, z up.")
    antenna_in_base_m: tuple[float, ...] = _setting(
        (), _FRAMES, "GNSS antenna in base_frame as [x, y, z]; empty = from TF by the fix's frame_id."
    )
    ground_height_in_base_m: float = _setting(
        0.0,
        _FRAMES,
        "Height of the ground in base_frame: 0 when base_frame lies on the ground, -0.3 when it is 0.3 m above.",
        minimum=-10.0,
        maximum=10.0,
    )
    tf_mode: str = _setting(
        "none",
        _FRAMES,
        "Transform to publish: none, map_to_odom (REP-105), map_to_base, or child (display-only leaf child_frame).",
        choices=("none", "map_to_odom", "map_to_base", "child"),
    )
    transform_tolerance_s: float = _setting(
        0.5,
        _FRAMES,
        "map_to_odom is post-dated by this, so that it also serves odometry newer than the image.",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    tf_rate_hz: float = _setting(
        10.0,
        _FRAMES,
        "map_to_odom is sent so often between estimates, so that TF stays current; 0 = only with estimates.",
        minimum=0.0,
        maximum=100.0,
    )
    map_to_odom_motion: str = _setting(
        "jump",
        _FRAMES,
        "map_to_odom follows an estimate at once, or smooth: no faster than correction_speed_m_per_s and _yaw_rate.",
        choices=("jump", "smooth"),
        live=True,
    )
    correction_speed_m_per_s: float = _setting(
        1.0,
        _FRAMES,
        "Smooth corrections move the vehicle no faster than this, beside its own motion.",
        minimum=0.001,
        maximum=100.0,
        live=True,
    )
    correction_yaw_rate_deg_per_s: float = _setting(
        5.0, _FRAMES, "Smooth corrections turn it no faster than this.", minimum=0.01, maximum=360.0, live=True
    )
    correction_jump_m: float = _setting(
        5.0, _FRAMES, "A correction larger than this is made at once all the same.", minimum=0.0, maximum=1e6, live=True
    )
    child_frame: str = _setting("cross_view_base_link", _FRAMES, "Name of the leaf frame of tf_mode child.")

    map_path: str = _setting(
        "", _MAP, "Aerial imagery: an .mbtiles, .pmtiles or GeoTIFF file, a folder of tiles, or a source's .yaml."
    )
    map_cache: str = _setting(
        "",
        _MAP,
        "File (.mbtiles) that keeps the tiles of an online source; empty = as its .yaml says, else below ~/.cache.",
    )
    map_offline: bool = _setting(
        False, _MAP, "Never touch the network: an online source gives what its cache holds, filled by prefetch."
    )
    map_origin: tuple[float, ...] = _setting(
        (),
        _MAP,
        "Origin of map_frame as [latitude_deg, longitude_deg, height_m]; empty = the map file's metadata, "
        "else the first fix.",
    )
    new_origin: tuple[float, ...] = _setting(
        (),
        _MAP,
        "Where ~/set_origin puts the origin of map_frame, as [latitude_deg, longitude_deg, height_m]; empty = at the "
        "newest fix.",
        live=True,
    )
    prefetch_radius_m: float = _setting(
        300.0,
        _MAP,
        "How far around the vehicle ~/prefetch fetches the tiles of an online source (at most 400 of them).",
        minimum=10.0,
        maximum=5000.0,
        live=True,
    )
    map_projection: str = _setting(
        "enu", _MAP, "Tangent plane, or UTM shifted to the origin as navsat_transform does.", choices=("enu", "utm")
    )

    imu_convention: str = _setting(
        "enu",
        _INPUTS,
        "World and body axes of the Imu orientation: enu (REP-103) or ned (front-right-down body).",
        choices=("enu", "ned"),
    )
    magnetic_declination_deg: float = _setting(
        0.0,
        _INPUTS,
        "East-positive declination added to an Imu heading that counts from magnetic north; 0 for true north.",
        minimum=-180.0,
        maximum=180.0,
    )
    heading_source: str = _setting(
        "auto",
        _INPUTS,
        "auto = Imu if imu_topic is set, else course over ground; odometry only if its frame faces east at yaw 0.",
        choices=("auto", "imu", "odometry", "course", "none"),
    )
    course_min_distance_m: float = _setting(
        10.0,
        _INPUTS,
        "Distance between two fixes from which their direction counts as the heading.",
        minimum=1.0,
        maximum=1000.0,
        live=True,
    )
    fix_min_std_m: float = _setting(
        1.5,
        _INPUTS,
        "Floor for a fix's reported standard deviation (receivers are optimistic).",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    max_fix_age_s: float = _setting(
        3.0, _INPUTS, "A fix older than this before the image is not used.", minimum=0.01, maximum=3600.0, live=True
    )
    max_input_gap_s: float = _setting(
        0.5,
        _INPUTS,
        "Heading and odometry are interpolated over gaps up to this, never further.",
        minimum=0.01,
        maximum=10.0,
        live=True,
    )
    camera_tolerance_s: float = _setting(
        0.02,
        _INPUTS,
        "Images of several cameras this near in time are localized together, and a depth image goes with its image; "
        "best below half the time between two images.",
        minimum=0.0,
        maximum=1.0,
    )
    prior_wait_s: float = _setting(
        0.1,
        _INPUTS,
        "An image waits this long for heading, odometry and the other cameras to reach its stamp.",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    max_frame_age_s: float = _setting(
        1.0,
        _INPUTS,
        "An image this much older than the newest stamp of any input is dropped.",
        minimum=0.05,
        maximum=60.0,
        live=True,
    )
    input_timeout_s: float = _setting(
        2.0,
        _INPUTS,
        "A topic silent for longer is named in the diagnostics.",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )

    depth: str = _setting(
        "learned",
        _METHOD,
        "Distance of a pixel: the network that ships with the package, or the flat ground plane.",
        choices=("learned", "flat"),
    )
    estimator: str = _setting(
        "consensus",
        _METHOD,
        "consensus of all cells; guided = then Procrustes on the matches it guides; matches = the published one.",
        choices=("consensus", "guided", "matches"),
    )
    device: str = _setting("auto", _METHOD, "Where the networks run: auto, cpu, cuda or cuda:N.")
    weights_dir: str = _setting("", _METHOD, "Folder of weights; empty = the weights that ship with the package.")
    loc2_weights: str = _setting(
        "", _METHOD, "Published weights made by `models import loc2`, to be used in place of ours; empty = ours."
    )
    loc2_backbone: str = _setting(
        "", _METHOD, "DINOv2 for them: a folder or a Hugging Face name; empty = the one they were trained with."
    )
    threads: int = _setting(
        0,
        _METHOD,
        "CPU threads of the networks; 0 = half of the cores, the rest is for the other nodes.",
        minimum=0,
        maximum=256,
    )
    seed: int = _setting(0, _METHOD, "Seed of every random choice.", minimum=0, maximum=2**31 - 1)

    search_radius_m: float = _setting(
        20.0, _GATE, "Half the side of the searched square about the prior.", minimum=1.0, maximum=100.0, live=True
    )
    heading_range_deg: float = _setting(
        10.0,
        _GATE,
        "Headings searched on both sides of a known heading; an unknown heading searches all.",
        minimum=0.5,
        maximum=180.0,
        live=True,
    )
    min_confidence: float = _setting(
        0.9, _GATE, "Least posterior probability of the chosen mode.", minimum=0.0, maximum=1.0, live=True
    )
    min_inlier_ratio: float = _setting(
        0.35,
        _GATE,
        "Least share of ground cells that agree with the map at the pose; refuses places unlike those trained on.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_position_std_m: float = _setting(
        2.0,
        _GATE,
        "Largest accepted standard deviation along the worst direction.",
        minimum=0.01,
        maximum=100.0,
        live=True,
    )
    map_std_m: float = _setting(
        0.3,
        _GATE,
        "Standard deviation of the aerial image's own placement, added to every covariance.",
        minimum=0.0,
        maximum=20.0,
        live=True,
    )
    covariance_scale: float = _setting(
        1.0,
        _GATE,
        "Factor on every covariance; `evaluate bag --calibrate` fits it on a drive with truth.",
        minimum=0.01,
        maximum=100.0,
        live=True,
    )

    tracking: bool = _setting(
        True,
        _TRACKING,
        "Judge estimates by motion, fix and each other, and search near the track; false = every image on its own.",
    )
    consistency_sigma: float = _setting(
        4.0,
        _TRACKING,
        "Largest Mahalanobis distance of an estimate from motion (3 degrees of freedom) and from the fix (2).",
        minimum=1.0,
        maximum=20.0,
        live=True,
    )
    max_deviation_m: float = _setting(
        2.0,
        _TRACKING,
        "An estimate may always lie so far from where motion says, and farther only as the track itself is uncertain.",
        minimum=0.1,
        maximum=100.0,
        live=True,
    )
    confirm_sightings: int = _setting(
        2,
        _TRACKING,
        "So many consistent estimates begin a track; the last of them is the first one accepted.",
        minimum=1,
        maximum=50,
        live=True,
    )
    replace_sightings: int = _setting(
        3,
        _TRACKING,
        "So many consistent estimates elsewhere, in a row, replace the track.",
        minimum=2,
        maximum=50,
        live=True,
    )
    sighting_distance_m: float = _setting(
        0.5,
        _TRACKING,
        "Estimates nearer together than this, and than sighting_interval_s, count once.",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    sighting_interval_s: float = _setting(
        0.5,
        _TRACKING,
        "Estimates farther apart in time than this always count, also when the vehicle stands.",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    recheck_interval_s: float = _setting(
        2.0,
        _TRACKING,
        "So often a tracking vehicle searches all that the fix leaves possible, so that a wrong track is noticed.",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    fix_patience_s: float = _setting(
        15.0,
        _TRACKING,
        "A track that the fixes contradict for so long without a break is dropped.",
        minimum=0.0,
        maximum=3600.0,
        live=True,
    )
    lost_after_s: float = _setting(
        3.0,
        _TRACKING,
        "Without an accepted estimate for so long, and for lost_after_frames images, the vehicle is lost.",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    lost_after_frames: int = _setting(
        3,
        _TRACKING,
        "So many images without an accepted estimate, and lost_after_s, make a vehicle lost.",
        minimum=1,
        maximum=1000,
        live=True,
    )
    track_radius_m: float = _setting(
        6.0,
        _TRACKING,
        "Least half side of the searched square while tracking.",
        minimum=2.0,
        maximum=100.0,
        live=True,
    )
    track_heading_range_deg: float = _setting(
        5.0,
        _TRACKING,
        "Least heading range while tracking.",
        minimum=1.0,
        maximum=180.0,
        live=True,
    )
    lost_radius_m: float = _setting(
        40.0,
        _TRACKING,
        "A lost vehicle's search grows up to this, and to all headings.",
        minimum=1.0,
        maximum=100.0,
        live=True,
    )
    widen_interval_s: float = _setting(
        2.0,
        _TRACKING,
        "After each of these a lost vehicle's search is half as wide again, with twice the heading range.",
        minimum=0.1,
        maximum=60.0,
        live=True,
    )
    odometry_drift_share: float = _setting(
        0.03,
        _TRACKING,
        "Standard deviation of odometry's way, as a share of it.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    odometry_yaw_drift_deg_per_m: float = _setting(
        0.1,
        _TRACKING,
        "Standard deviation of odometry's heading in degrees per metre of way.",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    max_speed_m_per_s: float = _setting(
        40.0,
        _TRACKING,
        "Without odometry, or when it claims more, the vehicle may have moved at up to this speed.",
        minimum=0.5,
        maximum=200.0,
        live=True,
    )
    max_yaw_rate_deg_per_s: float = _setting(
        60.0,
        _TRACKING,
        "The same for turning.",
        minimum=1.0,
        maximum=720.0,
        live=True,
    )

    autostart: bool = _setting(
        True, _OUTPUT, "Configure and activate at start; false leaves that to a lifecycle manager."
    )
    publish_fix: bool = _setting(
        False, _OUTPUT, "Accepted estimates also on ~/fix (sensor_msgs/NavSatFix), for navigation that wants fixes."
    )
    publish_odometry: bool = _setting(
        False, _OUTPUT, "Accepted estimates also on ~/odometry (nav_msgs/Odometry, pose in map_frame)."
    )
    publish_debug: bool = _setting(
        True,
        _OUTPUT,
        "Offer ~/debug/compressed, ~/markers, ~/search and ~/aerial_patch; made only while somebody subscribes.",
        live=True,
    )
    aerial_patch_frame: str = _setting(
        "aerial_patch", _OUTPUT, "Frame of ~/aerial_patch: origin at its centre, x to the right (east), y up (north)."
    )

    rig: tuple[CameraSettings, ...] = ()
    """The cameras, one or several; of a single one it is made of the six parameters without a camera's name."""

    def __post_init__(self) -> None:
        for parameter in PARAMETERS:
            value = parameter.checked(getattr(self, parameter.name), "setting")
            # tf2 knows no leading slash, with which ROS 1 began its frames.
            value = value.lstrip("/") if isinstance(value, str) and parameter.name.endswith("_frame") else value
            object.__setattr__(self, parameter.name, value)
        if not self.cameras:
            own = {suffix: getattr(self, suffix) for suffix in CAMERA_SUFFIXES}
            object.__setattr__(self, "rig", (CameraSettings(ONLY_CAMERA, **own),))
        contradiction = first_contradiction(self)
        if contradiction:
            raise InputError(contradiction)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "parameters") -> Settings:
        """Settings from names and values; an unknown name or a bad value raises InputError naming `where`."""
        values = {name: value for name, value in values.items() if not belongs_to_ros(name)}
        cameras = parameter_named("cameras").checked(values.get("cameras", ()), f"{where}:")
        assert isinstance(cameras, tuple)
        rig, others = split_cameras(values, [str(name) for name in cameras], where)
        known: dict[str, Any] = {"rig": rig}
        for name, value in others.items():
            if name not in _BY_NAME:
                raise InputError(f"{where}: there is no parameter '{name}'; {hint_for(name)}")
            known[name] = parameter_named(name).checked(value, f"{where}:")
        return cls(**known)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Settings:
        """Settings from a ROS parameter file (`/**:` or a node's name, then `ros__parameters:`)."""
        return cls.from_mapping(read_parameter_file(path), str(path))

    def tracker(self) -> Tracker | None:
        """A new tracker by these settings; None when tracking is off."""
        from cross_view_loc.tracking.tracker import Tracker

        return Tracker(self.tracker_rules()) if self.tracking else None

    def tracker_rules(self) -> TrackerRules:
        """The part that the tracker understands."""
        from cross_view_loc.tracking.rules import TrackerRules

        names = [row.name for row in dataclasses.fields(TrackerRules)]
        return TrackerRules(**{name: getattr(self, name) for name in names})

    def localizer_settings(self) -> LocalizerSettings:
        """The part that the localizer itself understands (imports torch)."""
        from cross_view_loc.localizer import LocalizerSettings

        names = [row.name for row in dataclasses.fields(LocalizerSettings)]
        return LocalizerSettings(**{name: getattr(self, name) for name in names})


def _parameters() -> tuple[Parameter, ...]:
    kinds: dict[type, Kind] = {str: "string", float: "double", int: "integer", bool: "bool", tuple: "double_array"}
    rows: list[tuple[str, Any, Any]] = [
        (row.name, row.default, row.metadata) for row in dataclasses.fields(Settings) if row.metadata
    ]
    special: dict[str, Kind] = {"cameras": "string_array"}
    return tuple(
        Parameter(name, special.get(name, kinds[type(default)]), default, **metadata)
        for name, default, metadata in rows
    )


PARAMETERS: tuple[Parameter, ...] = _parameters()
_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def camera_rows(camera: str) -> tuple[Parameter, ...]:
    """The six rows of one camera of several; its topics are below its name."""
    defaults = {"image_topic": f"{camera}/image_raw", "camera_info_topic": f"{camera}/camera_info"}
    rows = (parameter_named(suffix) for suffix in CAMERA_SUFFIXES)
    return tuple(
        dataclasses.replace(row, name=f"{camera}.{row.name}", default=defaults.get(row.name, row.default))
        for row in rows
    )


def split_cameras(
    values: Mapping[str, Any], cameras: Sequence[str], where: str
) -> tuple[tuple[CameraSettings, ...], dict[str, Any]]:
    """The settings of the named cameras, by `NAME.image_topic` or a mapping below NAME, and all other values.

    Raises InputError for a bad value or a name that no camera has.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
    found: list[CameraSettings] = []
    for camera in cameras:
        own = {
            row.name.split(".")[-1]: row.checked(flat.pop(row.name, row.default), f"{where}:")
            for row in camera_rows(camera)
        }
        found.append(CameraSettings(camera, **own))  # type: ignore[arg-type]
    for name in flat:
        camera, dot, _ = name.partition(".")
        if dot:
            known = ", ".join(CAMERA_SUFFIXES) if camera in cameras else ", ".join(cameras) or "none"
            raise InputError(
                f"{where}: there is no parameter '{name}'; "
                + (f"a camera has {known}" if camera in cameras else f"cameras names {known}")
            )
    return tuple(found), flat


def belongs_to_ros(name: str) -> bool:
    """Whether ROS itself adds this parameter to a node."""
    return name.split(".")[0] in OTHERS_PARAMETERS


def hint_for(unknown: str) -> str:
    """What to do about a name that the table does not have: the nearest name, or where all of them stand."""
    near = difflib.get_close_matches(unknown, _BY_NAME, n=1)
    return f"did you mean {near[0]}?" if near else "see config/localizer.yaml for all of them"


def parameter_named(name: str) -> Parameter:
    """The table's row of that name."""
    return _BY_NAME[name]


def read_parameter_file(path: str | Path) -> dict[str, Any]:
    """Names and values of every `ros__parameters` block in the file, later blocks winning.

    Raises InputError when the file is missing, is no YAML or has no such block.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a parameter file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{path} is not valid YAML ({reason}); compare with config/localizer.yaml") from error
    blocks = list(content.values()) if isinstance(content, dict) else []
    found = [block["ros__parameters"] for block in blocks if isinstance(block, dict) and "ros__parameters" in block]
    if not found or not all(isinstance(block, dict) for block in found):
        raise InputError(f"{path} has no ros__parameters; start it with '/**:' and an indented 'ros__parameters:'")
    return {name: value for block in found for name, value in block.items()}


def parameter_file_text(
    settings: Settings | None = None,
    header: str = "",
    only_changed: bool = False,
    notes: Mapping[str, str] | None = None,
) -> str:
    """A commented ROS parameter file that holds every parameter, with the values of `settings`.

    `config/localizer.yaml` is this text for the defaults, and `simulate` writes it for a drive. `only_changed` leaves
    out what is as by default; `notes` says more about single parameters.
    """
    settings, notes = settings or Settings(), notes or {}
    chosen = [row for row in PARAMETERS if not only_changed or getattr(settings, row.name) != row.default]
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += ["/**:", "  ros__parameters:" if chosen else "  ros__parameters: {}"]
    group = ""
    last_of_cameras = CAMERA_SUFFIXES[-1]
    for parameter in PARAMETERS:
        if parameter in chosen:
            if parameter.group != group:
                group = parameter.group
                lines += ["", f"    # --- {group} ---"]
            lines += _yaml_lines(parameter, getattr(settings, parameter.name), notes.get(parameter.name, ""))
        if parameter.name == last_of_cameras:
            for camera in settings.rig if settings.cameras else ():
                for row in camera_rows(camera.name):
                    value = getattr(camera, row.name.split(".")[-1])
                    lines.append(f"    {row.name}: {_yaml_value(value)}")
    return "\n".join(lines) + "\n"


def _yaml_lines(parameter: Parameter, value: Value, note: str = "") -> list[str]:
    details = [f"one of {', '.join(parameter.choices)}"] if parameter.choices else []
    if parameter.minimum is not None or parameter.maximum is not None:
        details.append(f"range {parameter.range_text()}")
    details.append("fixed at start" if parameter.read_only else "may change while running")
    return [
        f"    # {parameter.description}",
        f"    # ({'; '.join(details)})",
        *(f"    # {line}" for line in note.splitlines()),
        f"    {parameter.name}: {_yaml_value(value)}",
    ]


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_yaml_value(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
