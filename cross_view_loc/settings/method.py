"""The settings of what is made of it: networks, acceptance, tracking, outputs."""

from __future__ import annotations

from dataclasses import dataclass

from cross_view_loc.settings.parameter import setting

_METHOD = "Method"
_GATE = "Search and acceptance"
_TRACKING = "Tracking"
_OUTPUT = "Output"


@dataclass(frozen=True)
class MethodSettings:
    """The second half of `Settings`."""

    depth: str = setting(
        "learned",
        _METHOD,
        "Distance of a pixel: learned (ships with the package), flat (the ground plane), a name of `models list`, "
        "hf:FOLDER_OR_NAME or onnx:FILE.",
    )
    depth_fallback: tuple[str, ...] = setting(
        (), _METHOD, "Tried in this order when depth cannot be loaded (weights missing, licence not accepted)."
    )
    depth_scale: str = setting(
        "corrected",
        _METHOD,
        "Metres of a depth model that gives some: trusted, corrected by the camera's height above the road (filtered "
        "over time), or ignored. The shipped network is told that height.",
        choices=("trusted", "corrected", "ignored"),
    )
    estimator: str = setting(
        "consensus",
        _METHOD,
        "consensus of all cells; guided = then Procrustes on the matches it guides; matches = the published one.",
        choices=("consensus", "guided", "matches"),
    )
    segmenter: str = setting(
        "none",
        _METHOD,
        "Leaves out vehicles, people and sky: none, or hf:FOLDER_OR_NAME of a semantic segmentation network; "
        "loc2_weights do without.",
    )
    device: str = setting("auto", _METHOD, "Where the networks run: auto, cpu, cuda or cuda:N.")
    weights_dir: str = setting("", _METHOD, "Folder of weights; empty = the weights that ship with the package.")
    loc2_weights: str = setting(
        "", _METHOD, "Published weights made by `models import loc2`, to be used in place of ours; empty = ours."
    )
    loc2_backbone: str = setting(
        "", _METHOD, "DINOv2 for them: a folder or a Hugging Face name; empty = the one they were trained with."
    )
    threads: int = setting(
        0,
        _METHOD,
        "CPU threads of the networks; 0 = half of the cores, the rest is for the other nodes.",
        minimum=0,
        maximum=256,
    )
    seed: int = setting(0, _METHOD, "Seed of every random choice.", minimum=0, maximum=2**31 - 1)

    window_frames: int = setting(
        5,
        _METHOD,
        "Moments that count in an estimate, carried to the present one by odometry; 1 = the present alone, as always "
        "with the estimators guided and matches and with loc2_weights.",
        minimum=1,
        maximum=50,
        live=True,
    )
    window_length_m: float = setting(
        20.0, _METHOD, "Way at most from the oldest of them to now.", minimum=0.0, maximum=200.0, live=True
    )
    window_spacing_m: float = setting(
        2.0, _METHOD, "Way at least between two of them.", minimum=0.0, maximum=50.0, live=True
    )

    search_radius_m: float = setting(
        20.0, _GATE, "Half the side of the searched square about the prior.", minimum=1.0, maximum=100.0, live=True
    )
    heading_range_deg: float = setting(
        10.0,
        _GATE,
        "Headings searched on both sides of a known heading; an unknown heading searches all.",
        minimum=0.5,
        maximum=180.0,
        live=True,
    )
    min_confidence: float = setting(
        0.9, _GATE, "Least posterior probability of the chosen mode.", minimum=0.0, maximum=1.0, live=True
    )
    min_inlier_ratio: float = setting(
        0.35,
        _GATE,
        "Least share of ground cells that agree with the map at the pose; refuses places unlike those trained on.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_position_std_m: float = setting(
        2.0,
        _GATE,
        "Largest accepted standard deviation along the worst direction.",
        minimum=0.01,
        maximum=100.0,
        live=True,
    )
    map_std_m: float = setting(
        0.3,
        _GATE,
        "Standard deviation of the aerial image's own placement, added to every covariance.",
        minimum=0.0,
        maximum=20.0,
        live=True,
    )
    mount_yaw_std_deg: float = setting(
        0.3,
        _GATE,
        "Standard deviation of where TF and calibration say the camera looks, added to every heading's variance.",
        minimum=0.0,
        maximum=20.0,
        live=True,
    )
    covariance_scale: float = setting(
        1.0,
        _GATE,
        "Factor on every covariance; `evaluate bag --calibrate` fits it on a drive with truth.",
        minimum=0.01,
        maximum=100.0,
        live=True,
    )

    tracking: bool = setting(
        True,
        _TRACKING,
        "Judge estimates by motion, fix and each other, and search near the track; false = every image on its own.",
    )
    consistency_sigma: float = setting(
        4.0,
        _TRACKING,
        "Largest Mahalanobis distance of an estimate from motion (3 degrees of freedom) and from the fix (2).",
        minimum=1.0,
        maximum=20.0,
        live=True,
    )
    max_deviation_m: float = setting(
        2.0,
        _TRACKING,
        "An estimate may always lie so far from where motion says, and farther only as the track itself is uncertain.",
        minimum=0.1,
        maximum=100.0,
        live=True,
    )
    confirm_sightings: int = setting(
        2,
        _TRACKING,
        "So many consistent estimates begin a track; the last of them is the first one accepted.",
        minimum=1,
        maximum=50,
        live=True,
    )
    replace_sightings: int = setting(
        8,
        _TRACKING,
        "So many consistent estimates elsewhere, in a row, replace the track.",
        minimum=2,
        maximum=100,
        live=True,
    )
    replace_with_fix_sightings: int = setting(
        3,
        _TRACKING,
        "So many do when the fix contradicts the track and not them.",
        minimum=1,
        maximum=100,
        live=True,
    )
    sighting_distance_m: float = setting(
        0.5,
        _TRACKING,
        "Estimates nearer together than this, and than sighting_interval_s, count once.",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    sighting_interval_s: float = setting(
        0.5,
        _TRACKING,
        "Estimates farther apart in time than this always count, also when the vehicle stands.",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    recheck_interval_s: float = setting(
        2.0,
        _TRACKING,
        "So often a tracking vehicle searches all that the fix leaves possible, so that a wrong track is noticed.",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    fix_patience_s: float = setting(
        15.0,
        _TRACKING,
        "A track that the fixes contradict for so long without a break is dropped.",
        minimum=0.0,
        maximum=3600.0,
        live=True,
    )
    lost_after_s: float = setting(
        3.0,
        _TRACKING,
        "Without an accepted estimate for so long, and for lost_after_frames images, the vehicle is lost.",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    lost_after_frames: int = setting(
        3,
        _TRACKING,
        "So many images without an accepted estimate, and lost_after_s, make a vehicle lost.",
        minimum=1,
        maximum=1000,
        live=True,
    )
    track_radius_m: float = setting(
        6.0,
        _TRACKING,
        "Least half side of the searched square while tracking.",
        minimum=2.0,
        maximum=100.0,
        live=True,
    )
    track_heading_range_deg: float = setting(
        5.0,
        _TRACKING,
        "Least heading range while tracking.",
        minimum=1.0,
        maximum=180.0,
        live=True,
    )
    lost_radius_m: float = setting(
        40.0,
        _TRACKING,
        "A lost vehicle's search grows up to this, and to all headings.",
        minimum=1.0,
        maximum=100.0,
        live=True,
    )
    widen_interval_s: float = setting(
        2.0,
        _TRACKING,
        "After each of these a lost vehicle's search is half as wide again, with twice the heading range.",
        minimum=0.1,
        maximum=60.0,
        live=True,
    )
    odometry_drift_share: float = setting(
        0.03,
        _TRACKING,
        "Standard deviation of odometry's way, as a share of it.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    odometry_yaw_drift_deg_per_m: float = setting(
        0.1,
        _TRACKING,
        "Standard deviation of odometry's heading in degrees per metre of way.",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    max_speed_m_per_s: float = setting(
        40.0,
        _TRACKING,
        "Without odometry, or when it claims more, the vehicle may have moved at up to this speed.",
        minimum=0.5,
        maximum=200.0,
        live=True,
    )
    max_yaw_rate_deg_per_s: float = setting(
        60.0,
        _TRACKING,
        "The same for turning.",
        minimum=1.0,
        maximum=720.0,
        live=True,
    )

    publish_fix: bool = setting(
        False, _OUTPUT, "Accepted estimates also on ~/fix (sensor_msgs/NavSatFix), for navigation that wants fixes."
    )
    publish_odometry: bool = setting(
        False, _OUTPUT, "Accepted estimates also on ~/odometry (nav_msgs/Odometry, pose in map_frame)."
    )
    publish_debug: bool = setting(
        True,
        _OUTPUT,
        "Offer ~/debug/compressed, ~/markers, ~/search and ~/aerial_patch; made only while somebody subscribes.",
        live=True,
    )
    aerial_patch_frame: str = setting(
        "aerial_patch", _OUTPUT, "Frame of ~/aerial_patch: origin at its centre, x to the right (east), y up (north)."
    )
    autostart: bool = setting(
        True, _OUTPUT, "Configure and activate at start; false leaves that to a lifecycle manager."
    )
