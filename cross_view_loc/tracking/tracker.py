"""Decides which estimates to believe over time and where to look next; deterministic, for it knows stamps only.

The localizer's own gate judges one image. This judges the sequence:

1. An estimate that passed that gate must agree with the last accepted one, carried to its stamp by odometry (or by
   the greatest speed), within `consistency_sigma` of both covariances. One that does not is refused, and begins a
   rival: when `replace_sightings` such estimates in a row agree with each other, or fewer when the fix is on their
   side, the track was wrong and is theirs.
2. Without a track, or when motion has made it uncertain, `confirm_sightings` consistent estimates begin one.
3. A track must not confirm itself: every `recheck_interval_s`, and as long as there is a rival or the fixes disagree,
   all that the prior leaves possible is searched and not only the track's surroundings. A new track must agree with
   the fix; an old one that the fixes contradict for `fix_patience_s` is dropped.
4. While tracking, the search is as small as the track's uncertainty; lost, it grows.

The prior never changes a pose: it decides where to look, and whether to refuse.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Literal

import numpy as np

from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import NS_PER_S, to_ns
from cross_view_loc.tracking import searches
from cross_view_loc.tracking.agreement import contradiction, fix_contradiction
from cross_view_loc.tracking.motion import Predicted, Seen, seen
from cross_view_loc.tracking.rules import TrackerRules
from cross_view_loc.tracking.track import Track
from cross_view_loc.types import Estimate, Prior

State = Literal["waiting", "searching", "tracking", "lost"]

WEAK_TRACK_STD_M = 2.0
"""A track known no better than this cannot vouch for an estimate alone: several must agree again."""
LARGEST_HELD_STD_M = 5.0
"""A track known no better than this does not widen the search about a fix."""
GIVEN_STD_M, GIVEN_STD_RAD = 3.0, math.radians(10.0)
"""A pose that somebody clicked is no better than this, whatever its covariance says."""


class Tracker:
    """Call `search` before and `judge` after each image, in the order of their stamps; safe for several threads."""

    _track: Track | None
    _rival: Track | None
    _lost_since_ns: int | None
    _disagreeing_since_ns: int | None

    def __init__(self, rules: TrackerRules | None = None) -> None:
        self.rules = rules or TrackerRules()
        """May be replaced at any time."""
        self._lock = threading.RLock()
        self._forget("no image yet")

    # --- what it knows ---

    @property
    def state(self) -> State:
        """waiting (for an input), searching (a first place), tracking, or lost."""
        with self._lock:
            if self._waiting:
                return "waiting"
            if self._lost_since_ns is not None:
                return "lost"
            return "tracking" if self._track is not None and not self._is_given else "searching"

    @property
    def reason(self) -> str:
        """One sentence about why it is in this state."""
        with self._lock:
            return self._waiting or self._reason

    # --- each image ---

    def missing(self, what: str, stamp_ns: int) -> None:
        """An image could not be localized because an input is missing; `what` names it."""
        with self._lock:
            self._newest_ns = stamp_ns
            self._missed(stamp_ns)
            if self._track is None or self._lost_since_ns is not None:
                self._waiting = what

    def search(
        self, prior: Prior | None, stamp_ns: int, T_odom_base: Matrix | None = None, no_prior: str = "no fix yet"
    ) -> Prior | None:
        """Where to look for the vehicle at the stamp; None when nobody knows, and the state is then waiting.

        `prior` is what fix and heading say, None without them, for the reason `no_prior`. `T_odom_base` is the
        odometry's (4, 4) pose at the stamp, None without odometry.
        """
        with self._lock:
            self._newest_ns = stamp_ns
            self._grow_lost(stamp_ns)
            track = self._predicted(self._track, stamp_ns, T_odom_base)
            if track is not None and prior is not None:
                self._compare_with_fix(track, prior, stamp_ns)
                track = self._predicted(self._track, stamp_ns, T_odom_base)
            found = self._search(prior, track, stamp_ns, T_odom_base)
            self._waiting = "" if found is not None else no_prior
            return found

    def judge(self, estimate: Estimate, prior: Prior | None, T_odom_base: Matrix | None = None) -> Estimate:
        """The same estimate with `accepted` and `reason` as the sequence has it; `prior` as given to `search`."""
        with self._lock:
            stamp_ns = estimate.stamp_ns
            if not estimate.accepted:
                self._missed(stamp_ns)
                return estimate
            now = seen(estimate, T_odom_base)
            track = self._predicted(self._track, stamp_ns, T_odom_base)
            against_track = "" if track is None else contradiction(track, now, "the track", self.rules)
            agrees = track is not None and not against_track
            if self._track is not None and track is not None and agrees and self._vouches(track, now, prior):
                self._accept(self._track.continued(now, self.rules), stamp_ns)
                return estimate
            refusal = self._rival_refusal(now, prior, T_odom_base, against_track, agrees and self._is_given)
            if not refusal:
                return estimate
            self._missed(stamp_ns)
            return dataclasses.replace(estimate, accepted=False, reason=refusal)

    # --- what others tell it ---

    def reset(self, reason: str = "reset") -> None:
        """Forget everything; the next images are searched as at the start."""
        with self._lock:
            self._forget(reason)

    def time_jumped(self) -> None:
        """Time was set back: nothing known so far has a meaning any more."""
        self.reset("time jumped back")

    def relocalize(self) -> None:
        """Forget the track and search as widely as a vehicle lost for long."""
        with self._lock:
            newest_ns = self._newest_ns
            self._forget("asked to relocalize")
            self._lost_since_ns = newest_ns - 10 * to_ns(self.rules.widen_interval_s)

    def set_pose(
        self,
        stamp_ns: int,
        east_m: float,
        north_m: float,
        yaw_rad: float,
        std_m: float = GIVEN_STD_M,
        std_rad: float = GIVEN_STD_RAD,
        T_odom_base: Matrix | None = None,
    ) -> None:
        """Somebody says where the vehicle is: the search goes there, and only there, until estimates confirm it."""
        with self._lock:
            self._forget("a pose was given")
            std_m, std_rad = max(std_m, GIVEN_STD_M), max(std_rad, GIVEN_STD_RAD)
            covariance = np.diag([std_m**2, std_m**2, std_rad**2])
            self._track = Track.begun(Seen(stamp_ns, np.array([east_m, north_m, yaw_rad]), covariance, T_odom_base), 0)
            self._is_given, self._accepted_ns = True, stamp_ns

    # --- inside ---

    def _forget(self, reason: str) -> None:
        self._track = None
        self._rival = None
        self._is_given = False
        self._waiting = ""
        self._reason = reason
        self._newest_ns = 0
        self._accepted_ns = self._wide_ns = -(10**18)
        self._missed_frames = self._rival_frames = 0
        self._lost_since_ns = None
        self._disagreeing_since_ns = None

    def _predicted(self, track: Track | None, stamp_ns: int, T_odom_base: Matrix | None) -> Predicted | None:
        return None if track is None else track.at(stamp_ns, T_odom_base, self.rules)

    def _search(
        self, prior: Prior | None, track: Predicted | None, stamp_ns: int, T_odom_base: Matrix | None
    ) -> Prior | None:
        rules = self.rules
        rival = self._predicted(self._rival, stamp_ns, T_odom_base)
        near = None if track is None else searches.near(track, stamp_ns, rules)
        everywhere = prior
        if everywhere is None and track is not None:
            needed_m, needed_rad = searches.needed(track)
            if needed_m > max(rules.lost_radius_m, rules.search_radius_m):
                return None  # nothing but a fix can help now
            range_rad = max(math.radians(rules.heading_range_deg), needed_rad)
            everywhere = searches.about(track, stamp_ns, max(rules.search_radius_m, needed_m), range_rad)
        if everywhere is None:
            return None
        if self._is_given and near is not None:
            return near
        if self._lost_since_ns is not None:
            if rival is not None and not searches.holds(everywhere, rival):
                return searches.near(rival, stamp_ns, rules)
            return self._lost_search(everywhere, self._lost_since_ns, stamp_ns)
        is_due = stamp_ns - self._wide_ns >= to_ns(rules.recheck_interval_s)
        is_narrow = near is not None and searches.is_narrower(near, everywhere)
        if is_narrow and not is_due and self._rival is None and self._disagreeing_since_ns is None:
            return near
        self._wide_ns = stamp_ns
        if track is None or track.std_m > LARGEST_HELD_STD_M:
            return everywhere
        return searches.grown_to_hold(everywhere, track) or near

    def _lost_search(self, everywhere: Prior, since_ns: int, stamp_ns: int) -> Prior:
        """As wide as it has grown, but only once in `widen_interval_s`: wide searches take long."""
        if stamp_ns - self._wide_ns < to_ns(self.rules.widen_interval_s):
            return everywhere
        self._wide_ns = stamp_ns
        return searches.widened(everywhere, searches.widening_level(since_ns, stamp_ns, self.rules), self.rules)

    def _vouches(self, track: Predicted, now: Seen, prior: Prior | None) -> bool:
        """Whether agreeing with the track is enough to believe an estimate.

        Where unmeasured motion makes that easy, the fix must agree too.
        """
        if self._is_given or track.gaussian_std_m > WEAK_TRACK_STD_M:
            return False
        if track.std_m <= WEAK_TRACK_STD_M:
            return True
        is_lost = self._lost_since_ns is not None
        return not is_lost and (prior is None or not fix_contradiction(prior, now, self.rules))

    def _rival_refusal(
        self, now: Seen, prior: Prior | None, T_odom_base: Matrix | None, against_track: str, is_as_given: bool
    ) -> str:
        """Why an estimate that no good track vouches for is refused; empty when it completes a track of its own."""
        against_fix = "" if prior is None or is_as_given else fix_contradiction(prior, now, self.rules)
        if against_fix:
            return against_track or against_fix
        rival = self._predicted(self._rival, now.stamp_ns, T_odom_base)
        if self._rival is not None and rival is not None and not contradiction(rival, now, "the rival", self.rules):
            self._rival = self._rival.continued(now, self.rules)
        else:
            self._rival = Track.begun(now)
        self._rival_frames = 0
        needed = self._needed(against_track)
        if self._rival.sightings >= needed:
            self._accept(self._rival, now.stamp_ns)
            return ""
        return against_track or f"unconfirmed: {self._rival.sightings} of {needed} consistent estimates so far"

    def _needed(self, against_track: str) -> int:
        """How many sightings a rival needs."""
        rules = self.rules
        if not against_track:
            return rules.confirm_sightings
        fix_is_against_track = self._disagreeing_since_ns is not None
        return rules.replace_with_fix_sightings if fix_is_against_track else rules.replace_sightings

    def _compare_with_fix(self, track: Predicted, prior: Prior, stamp_ns: int) -> None:
        """Note since when the fixes contradict the track; one they contradict for too long is dropped."""
        at_track = Seen(stamp_ns, track.pose, track.covariance + np.eye(3) * track.reach_m**2)
        if not fix_contradiction(prior, at_track, self.rules):
            self._disagreeing_since_ns = None
            return
        if self._disagreeing_since_ns is None:
            self._disagreeing_since_ns = stamp_ns
        seconds = (stamp_ns - self._disagreeing_since_ns) / NS_PER_S
        if seconds >= self.rules.fix_patience_s:
            self._forget(f"the fixes contradicted the track for {seconds:.0f} s")
            self._newest_ns = self._lost_since_ns = stamp_ns

    def _accept(self, track: Track, stamp_ns: int) -> None:
        self._track, self._rival, self._is_given = track, None, False
        self._accepted_ns, self._missed_frames = stamp_ns, 0
        self._lost_since_ns = None
        self._reason = "estimates agree with motion"

    def _missed(self, stamp_ns: int) -> None:
        self._missed_frames += 1
        self._rival_frames += 1
        self._grow_lost(stamp_ns)

    def _grow_lost(self, stamp_ns: int) -> None:
        """From tracking to lost, by seconds and by images without an accepted estimate; a rival is forgotten alike."""
        rules = self.rules
        rival_ns = stamp_ns if self._rival is None else self._rival.last.stamp_ns
        if self._rival_frames > rules.lost_after_frames and stamp_ns - rival_ns > to_ns(rules.lost_after_s):
            self._rival = None
        if self._track is None or self._lost_since_ns is not None:
            return
        silent_s = (stamp_ns - self._accepted_ns) / NS_PER_S
        if silent_s < rules.lost_after_s or self._missed_frames < rules.lost_after_frames:
            return
        self._lost_since_ns = stamp_ns
        self._reason = f"no accepted estimate for {silent_s:.1f} s"
        if self._is_given:
            self._track, self._is_given = None, False
            self._reason = f"nothing confirmed the given pose for {silent_s:.1f} s"
