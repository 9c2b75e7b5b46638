"""Where to look for the vehicle when an image was taken: the rule that makes a prior of fixes, heading and odometry.

The rule depends only on stamps, never on arrival, so that the live node and the offline runner agree:

1. Position: the newest fix not after the image, less the antenna's lever arm, carried to the image's stamp by the
   odometry between the two stamps (turned into the map by the heading). Without odometry or heading it is carried by
   the velocity between the last fixes.
2. Heading: by `heading_source`, interpolated at the image's stamp; `auto` is the Imu, or the course as long as no Imu
   has given a heading. `course` is the direction between the newest fix
   and the latest one at least `course_min_distance_m` away; with odometry the same two moments give the turn between
   odometry and map instead, which also holds in bends, when reversing and when standing.
3. Search: a square of `search_radius_m`; a known heading ± `heading_range_deg` (more for a course between uncertain
   fixes), else all headings. Estimates are never fed back, so that one mistake cannot hold itself in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.geometry.transforms import Matrix, rotation_z, yaw_of
from cross_view_loc.inputs.fixes import Fix
from cross_view_loc.inputs.stamps import NS_PER_S, Timeline, blend_transforms, to_ns
from cross_view_loc.settings import Settings
from cross_view_loc.types import Prior

COURSE_HISTORY_S = 20.0
"""Older fixes say nothing about the present course."""

COURSE_STDS = 2.5
"""The search ends at the range given: a course between uncertain fixes may lie off by more than one deviation."""

VELOCITY_STEP_S, VELOCITY_HISTORY_S = 0.5, 5.0
"""Fixes nearer together in time say more about their noise than about the velocity; older ones nothing about now."""

STRAIGHT_RAD = math.radians(15.0)
"""A heading that turns by less over a stretch is compared with the stretch's course."""


@dataclass(frozen=True)
class _AntennaPosition:
    """A fix in the map, with the antenna's place on the vehicle."""

    fix: Fix
    map_m: NDArray[np.float64]
    """(2,) east, north."""
    antenna_in_base_m: NDArray[np.float64]
    """(3,)"""


class PriorTracker:
    """Collects fixes, headings and odometry, and answers with the prior at an image's stamp."""

    def __init__(self, projection: MapProjection | None, settings: Settings) -> None:
        """Without a projection, as long as the map's origin is unknown, there are no positions."""
        self.settings = settings
        self._projection = projection
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after a jump back in time."""
        self._positions: Timeline[_AntennaPosition] = Timeline(lambda start, end, fraction: start)
        self._headings: Timeline[float] = Timeline(_blend_angles)
        self._odometry: Timeline[Matrix] = Timeline(blend_transforms)

    def add_fix(self, fix: Fix, antenna_in_base_m: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        """A fix of the antenna, which sits at `antenna_in_base_m` on the vehicle."""
        if self._projection is None:
            raise MissingInputError("the map has no origin yet; set map_origin")
        height_m = fix.height_m if math.isfinite(fix.height_m) else self._projection.origin.height_m
        east, north, _ = self._projection.to_map(fix.latitude_deg, fix.longitude_deg, height_m)
        position = _AntennaPosition(fix, np.array([float(east), float(north)]), np.asarray(antenna_in_base_m, float))
        self._positions.add(fix.stamp_ns, position)

    def add_heading(self, stamp_ns: int, yaw_rad: float) -> None:
        """An absolute heading, counter-clockwise from east."""
        self._headings.add(stamp_ns, yaw_rad)

    def add_odometry(self, stamp_ns: int, T_odom_base: Matrix) -> None:
        """(4, 4) pose of `base_link` in the odometry's frame."""
        self._odometry.add(stamp_ns, T_odom_base)

    @property
    def heading_source(self) -> str:
        """`heading_source` with `auto` decided."""
        chosen = self.settings.heading_source
        if chosen == "auto":
            return "imu" if self.settings.imu_topic else "course"
        return chosen

    def ready(self, stamp_ns: int) -> bool:
        """Whether heading and odometry, where configured, have reached the stamp, so that waiting gains nothing."""
        needed: list[int | None] = []
        if self.heading_source == "imu":
            needed.append(self._headings.newest_stamp)
        if self.settings.odometry_topic:
            needed.append(self._odometry.newest_stamp)
        return all(newest is not None and newest >= stamp_ns for newest in needed)

    def prior(self, stamp_ns: int) -> Prior:
        """The prior at the stamp; MissingInputError without a recent fix, InputError when it is too uncertain."""
        position = self._newest_position(stamp_ns)
        settings = self.settings
        std_m = position.fix.std_m(settings.fix_min_std_m)
        if std_m > settings.search_radius_m:
            raise InputError(
                f"fix on {settings.fix_topic} reports a standard deviation of {std_m:.1f} m, more than "
                f"search_radius_m ({settings.search_radius_m:g}); wait for a better fix or raise search_radius_m"
            )
        heading = self._heading(stamp_ns)
        east_m, north_m = self._base_position(position, stamp_ns, None if heading is None else heading[0])
        if heading is None:
            return Prior(stamp_ns, east_m, north_m, settings.search_radius_m, position_std_m=std_m)
        yaw_rad, range_rad = heading
        return Prior(stamp_ns, east_m, north_m, settings.search_radius_m, yaw_rad, min(range_rad, math.pi), std_m)

    def _newest_position(self, stamp_ns: int) -> _AntennaPosition:
        positions = self._positions.until(stamp_ns)
        if not positions:
            raise MissingInputError(
                f"no valid fix on {self.settings.fix_topic} before the image; check the receiver and both clocks"
            )
        fix_stamp_ns, position = positions[-1]
        age_s = (stamp_ns - fix_stamp_ns) / NS_PER_S
        if age_s > self.settings.max_fix_age_s:
            raise MissingInputError(
                f"the last valid fix on {self.settings.fix_topic} is {age_s:.1f} s older than the image; "
                "check the receiver or raise max_fix_age_s"
            )
        return position

    def _heading(self, stamp_ns: int) -> tuple[float, float] | None:
        """Yaw and the range to search on both sides of it, or None when unknown."""
        range_rad = math.radians(self.settings.heading_range_deg)
        if self.settings.heading_source == "auto" and self._headings.newest_stamp is None:
            return self._course(stamp_ns, range_rad)
        if self.heading_source == "imu":
            yaw_rad = self._headings.at(stamp_ns, self._max_gap_ns)
            return None if yaw_rad is None else (yaw_rad, range_rad)
        if self.heading_source == "odometry":
            T_odom_base = self._odometry.at(stamp_ns, self._max_gap_ns)
            return None if T_odom_base is None else (yaw_of(T_odom_base), range_rad)
        if self.heading_source == "course":
            return self._course(stamp_ns, range_rad)
        return None

    def _stretch(self, stamp_ns: int) -> tuple[_AntennaPosition, _AntennaPosition] | None:
        """The newest fix and, first, the latest one far enough away to give a direction; None when there is none."""
        positions = [position for _, position in self._positions.until(stamp_ns)]
        if not positions:
            return None
        newest = positions[-1]
        oldest_ns = newest.fix.stamp_ns - to_ns(COURSE_HISTORY_S)
        for earlier in reversed(positions[:-1]):
            if earlier.fix.stamp_ns < oldest_ns:
                return None
            if np.hypot(*(newest.map_m - earlier.map_m)) >= self.settings.course_min_distance_m:
                return earlier, newest
        return None

    def _direction(self, earlier: _AntennaPosition, newest: _AntennaPosition, stds: float) -> tuple[float, float]:
        """Direction from one fix to the other and the angle that so many standard deviations of both make of it."""
        step_map = newest.map_m - earlier.map_m
        floor_m = self.settings.fix_min_std_m
        error_m = math.hypot(newest.fix.std_m(floor_m), earlier.fix.std_m(floor_m))
        return math.atan2(step_map[1], step_map[0]), math.atan2(stds * error_m, float(np.hypot(*step_map)))

    def straight_stretch(self, stamp_ns: int) -> tuple[float, float, float] | None:
        """Course, its standard deviation and the Imu's yaw of the straight stretch driven up to the stamp.

        None when the heading is not the Imu's, or the vehicle stands or turns.
        """
        stretch = self._stretch(stamp_ns) if self.heading_source == "imu" else None
        if stretch is None:
            return None
        earlier, newest = stretch
        start_ns, end_ns = earlier.fix.stamp_ns, newest.fix.stamp_ns
        yaws = [self._headings.at(time, self._max_gap_ns) for time in (start_ns, (start_ns + end_ns) // 2, end_ns)]
        start_rad, middle_rad, end_rad = yaws
        if start_rad is None or middle_rad is None or end_rad is None:
            return None
        if max(abs(_wrapped(start_rad - middle_rad)), abs(_wrapped(end_rad - middle_rad))) > STRAIGHT_RAD:
            return None
        course_rad, std_rad = self._direction(earlier, newest, 1.0)
        return course_rad, std_rad, middle_rad

    def _course(self, stamp_ns: int, least_range_rad: float) -> tuple[float, float] | None:
        stretch = self._stretch(stamp_ns)
        if stretch is None:
            return None
        earlier, newest = stretch
        yaw_rad, error_rad = self._direction(earlier, newest, COURSE_STDS)
        range_rad = max(least_range_rad, error_rad)
        if not self.settings.odometry_topic:
            return yaw_rad, range_rad
        start, end = self._antenna_in_odom(earlier), self._antenna_in_odom(newest)
        now = self._odometry.at(stamp_ns, self._max_gap_ns)
        if start is None or end is None or now is None:
            return None
        step_odom = end - start
        # Odometry that stood still while the fixes moved cannot tell a direction.
        if np.hypot(*step_odom) < self.settings.course_min_distance_m / 2.0:
            return None
        yaw_map_odom = yaw_rad - math.atan2(step_odom[1], step_odom[0])
        return _wrapped(yaw_map_odom + yaw_of(now)), range_rad

    def _antenna_in_odom(self, position: _AntennaPosition) -> NDArray[np.float64] | None:
        T_odom_base = self._odometry.at(position.fix.stamp_ns, self._max_gap_ns)
        if T_odom_base is None:
            return None
        return np.asarray((T_odom_base[:3, :3] @ position.antenna_in_base_m + T_odom_base[:3, 3])[:2])

    def _base_position(self, position: _AntennaPosition, stamp_ns: int, yaw_rad: float | None) -> tuple[float, float]:
        """East and north of `base_link` at the stamp, given its heading there."""
        if yaw_rad is None:
            base = position.map_m + self._coasted(position, stamp_ns)
            return float(base[0]), float(base[1])
        then, now = (self._odometry.at(time, self._max_gap_ns) for time in (position.fix.stamp_ns, stamp_ns))
        if then is None or now is None:
            antenna_from_base = rotation_z(yaw_rad) @ position.antenna_in_base_m
            moved = self._coasted(position, stamp_ns)
        else:
            R_map_odom = rotation_z(yaw_rad - yaw_of(now))
            antenna_from_base = R_map_odom @ then[:3, :3] @ position.antenna_in_base_m
            moved = (R_map_odom @ (now[:3, 3] - then[:3, 3]))[:2]
        base = position.map_m - antenna_from_base[:2] + moved
        return float(base[0]), float(base[1])

    def _coasted(self, newest: _AntennaPosition, stamp_ns: int) -> NDArray[np.float64]:
        """(2,) way since the newest fix at the velocity between the last fixes; zeros when these tell none."""
        end_ns = newest.fix.stamp_ns
        start_ns = end_ns - to_ns(VELOCITY_STEP_S)
        earlier = self._positions.until(start_ns)
        if not earlier or earlier[-1][0] < end_ns - to_ns(VELOCITY_HISTORY_S):
            return np.zeros(2)
        earlier_ns, position = earlier[-1]
        return (newest.map_m - position.map_m) * ((stamp_ns - end_ns) / (end_ns - earlier_ns))

    @property
    def _max_gap_ns(self) -> int:
        return to_ns(self.settings.max_input_gap_s)


def _blend_angles(start_rad: float, end_rad: float, fraction: float) -> float:
    return _wrapped(start_rad + fraction * _wrapped(end_rad - start_rad))


def _wrapped(angle_rad: float) -> float:
    return math.remainder(angle_rad, 2.0 * math.pi)
