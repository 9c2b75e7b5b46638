"""The tracker's thresholds. Names carry units; each has a parameter of the node and the runner (group "Tracking")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackerRules:
    """What decides; distances in metres, durations in seconds of the images' stamps, angles in degrees."""

    consistency_sigma: float = 4.0
    """Largest Mahalanobis distance, in standard deviations, of an estimate from where motion says the vehicle is (3
    degrees of freedom: 4.03 holds 99.9 % of good estimates) and from the fix (2: 3.72 holds 99.9 %)."""
    max_deviation_m: float = 2.0
    """An estimate may lie so far from where motion says, or `consistency_sigma` of the track's own deviation if that is
    more: one so uncertain that it agrees with everything must not be believed for that."""
    confirm_sightings: int = 2
    """So many consistent estimates make a track; the one that completes them is accepted. 1 takes the first."""
    replace_sightings: int = 8
    """So many consistent estimates elsewhere, in a row, replace a track: a road that repeats itself can deceive for
    some metres."""
    replace_with_fix_sightings: int = 3
    """So many do when the fix contradicts the track and not them."""
    sighting_distance_m: float = 0.5
    """Estimates nearer together than this and than `sighting_interval_s` see the same thing twice: they count once."""
    sighting_interval_s: float = 0.5
    recheck_interval_s: float = 2.0
    """At least so often a tracking vehicle searches all that the prior leaves possible, not only near its track."""
    fix_patience_s: float = 15.0
    """A track that the fixes contradict for so long, all the time, is dropped."""
    lost_after_s: float = 3.0
    """Without an accepted estimate for so long, and for `lost_after_frames` images, the state is lost."""
    lost_after_frames: int = 3
    track_radius_m: float = 6.0
    """Least half side of the searched square while tracking."""
    track_heading_range_deg: float = 5.0
    """Least heading range while tracking."""
    search_radius_m: float = 20.0
    """Half side of the searched square where there is no fix to search about."""
    heading_range_deg: float = 10.0
    """Heading range there."""
    lost_radius_m: float = 40.0
    """A lost vehicle's search grows up to this."""
    widen_interval_s: float = 2.0
    """After each of these, a lost vehicle's search is half as wide again, and twice the heading range."""
    odometry_drift_share: float = 0.03
    """Standard deviation of odometry's way, as a share of it."""
    odometry_yaw_drift_deg_per_m: float = 0.1
    """Standard deviation of odometry's heading per metre of way."""
    max_speed_m_per_s: float = 40.0
    """Without odometry, or where it claims more, the vehicle may have gone anywhere within this speed."""
    max_yaw_rate_deg_per_s: float = 60.0
    """The same for turning."""
