"""The tracker: what it believes, where it looks, and that neither a wrong track nor a wrong fix can hold itself."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_view_loc.errors import MissingInputError
from cross_view_loc.geometry.transforms import Matrix, rotation_z, transform
from cross_view_loc.inputs.stamps import NS_PER_S
from cross_view_loc.tracking import searches
from cross_view_loc.tracking.motion import Predicted, Seen, predict
from cross_view_loc.tracking.rules import TrackerRules
from cross_view_loc.tracking.tracked import locate_tracked
from cross_view_loc.tracking.tracker import Tracker
from cross_view_loc.types import Estimate, Prior

STEP_NS = NS_PER_S // 5
SPEED_M_PER_S = 8.0
FIX_STD_M = 1.5


class Drive:
    """A vehicle in a bend, its odometry, its fixes and a camera that sees it wherever the search holds it."""

    def __init__(self, rules: TrackerRules | None = None, *, with_odometry: bool = True) -> None:
        self.tracker = Tracker(rules)
        self.index = 0
        self.with_odometry = with_odometry
        self.searches: list[Prior] = []
        self.estimates: list[Estimate] = []

    @property
    def stamp_ns(self) -> int:
        return 100 * NS_PER_S + self.index * STEP_NS

    def truth(self) -> tuple[float, float, float]:
        angle = self.index * STEP_NS / NS_PER_S * SPEED_M_PER_S / 60.0
        return 60.0 * math.cos(angle), 60.0 * math.sin(angle), math.remainder(angle + math.pi / 2, 2 * math.pi)

    def T_odom_base(self) -> Matrix | None:
        east, north, yaw = self.truth()
        T_map_base = transform(rotation_z(yaw), (east, north, 0.0))
        return transform(rotation_z(0.7), (5.0, -9.0, 0.0)) @ T_map_base if self.with_odometry else None

    def step(
        self,
        *,
        off: tuple[float, float, float] = (0.0, 0.0, 0.0),
        fix_off: tuple[float, float] | None = (1.0, -0.5),
        sees: bool = True,
        follows_search: bool = False,
        std_m: float = 0.3,
    ) -> Estimate | None:
        """One image. The camera finds the truth + `off`, when the search holds that and it `sees`.

        `follows_search`: it confirms whatever narrow search it is given, as a scene does that looks alike everywhere.
        """
        self.index += 1
        east, north, yaw = self.truth()
        prior = None
        if fix_off is not None:
            place = (east + fix_off[0], north + fix_off[1])
            prior = Prior(self.stamp_ns, *place, 20.0, yaw, math.radians(10.0), FIX_STD_M)
        search = self.tracker.search(prior, self.stamp_ns, self.T_odom_base(), "no fix on /fix")
        if search is None:
            return None
        self.searches.append(search)
        pose = np.array([east + off[0], north + off[1], yaw + off[2]])
        if follows_search and search.radius_m < 20.0:
            pose = np.array([search.east_m, search.north_m, search.yaw_rad])
        found = sees and searches.holds(search, Predicted(pose, np.zeros((3, 3))))
        covariance = np.diag([std_m**2, std_m**2, 0.01**2])
        reason = "" if found else "ambiguous"
        estimate = Estimate(self.stamp_ns, *map(float, pose), covariance, accepted=found, reason=reason)
        judged = self.tracker.judge(estimate, prior, self.T_odom_base())
        self.estimates.append(judged)
        return judged

    def steps(self, count: int, **conditions) -> list[Estimate | None]:
        return [self.step(**conditions) for _ in range(count)]

    def error_m(self, estimate: Estimate) -> float:
        east, north, _ = self.truth()
        return math.hypot(estimate.east_m - east, estimate.north_m - north)


def test_states_from_nothing_to_tracking_to_lost_and_back() -> None:
    drive = Drive()
    assert drive.step(fix_off=None) is None
    assert drive.tracker.state == "waiting" and drive.tracker.reason == "no fix on /fix"
    first = drive.step()
    assert not first.accepted and first.reason.startswith("unconfirmed: 1 of 2") and drive.tracker.state == "searching"
    assert drive.step().accepted and drive.tracker.state == "tracking"
    drive.steps(20)
    drive.steps(14, sees=False)
    assert drive.tracker.state == "tracking", "2.8 s without an estimate are not yet lost"
    drive.steps(2, sees=False)
    assert drive.tracker.state == "lost" and "no accepted estimate for 3" in drive.tracker.reason
    drive.steps(30, sees=False)
    assert drive.tracker.state == "lost"
    recovered = [estimate.accepted for estimate in drive.steps(4)]
    assert drive.tracker.state == "tracking" and sum(recovered) >= 2


def test_slow_cameras_are_not_lost_between_two_images() -> None:
    """Five seconds between images: seconds alone would call it lost, images alone never would."""
    tracker = Tracker(TrackerRules(confirm_sightings=1))
    stamp, covariance = 0, np.eye(3) * 0.01
    for number in range(6):
        stamp += 5 * NS_PER_S
        tracker.search(Prior(stamp, 0.0, 0.0, 20.0, position_std_m=1.5), stamp)
        seen = number in (0, 3)
        tracker.judge(Estimate(stamp, 0.0, 0.0, 0.0, covariance, accepted=seen, reason="" if seen else "dark"), None)
        assert tracker.state == "tracking"


def test_tracking_searches_near_and_rechecks_everywhere() -> None:
    drive = Drive()
    drive.steps(60)
    radii = [search.radius_m for search in drive.searches[5:]]
    assert min(radii) == 6.0 and max(radii) == 20.0
    wide = [index for index, radius in enumerate(radii) if radius == 20.0]
    assert all(b - a == 10 for a, b in itertools.pairwise(wide)), "every two seconds"
    assert all(estimate.accepted for estimate in drive.estimates[1:])


def test_search_is_about_where_odometry_says() -> None:
    drive = Drive()
    drive.steps(20)
    search = drive.searches[-1] if drive.searches[-1].radius_m == 6.0 else drive.searches[-2]
    if search is drive.searches[-1]:
        east, north, yaw = drive.truth()
        assert (search.east_m, search.north_m) == pytest.approx((east, north), abs=0.05)
        assert search.yaw_rad == pytest.approx(yaw, abs=0.01)
    else:
        pytest.fail("expected a narrow search at step 20")


@pytest.mark.parametrize("with_odometry", [True, False])
def test_one_wrong_estimate_among_good_ones_is_refused(with_odometry: bool) -> None:
    """Eight metres off and confident. Without odometry the greatest speed is what it cannot have had."""
    rules = TrackerRules(max_speed_m_per_s=20.0)
    drive = Drive(rules, with_odometry=with_odometry)
    drive.steps(11)
    wrong = None
    for _ in range(12):  # until a wide search comes, in which it is to be found
        wrong = drive.step(off=(-8.0, 3.0, 0.0))
        if wrong.reason.startswith("contradicts"):
            break
        assert not wrong.accepted
    assert wrong.reason.startswith("contradicts the track: ") and ("8.5 m" in wrong.reason) == with_odometry
    assert [estimate.accepted for estimate in drive.steps(5)] == [True] * 5


def test_heading_must_agree_too() -> None:
    drive = Drive()
    drive.steps(11)
    turned = drive.step(off=(0.0, 0.0, math.radians(4.5)))
    assert not turned.accepted and "4.5 deg" in turned.reason


def test_a_row_of_estimates_one_repetition_off_does_not_take_the_track() -> None:
    """Seven in a row, 5 m on, where the fix cannot tell; the track is believed, and goes on."""
    drive = Drive()
    drive.steps(20)
    one_off = drive.steps(7, off=(0.0, 5.0, 0.0), fix_off=(0.0, 2.5))
    assert not any(estimate.accepted for estimate in one_off)
    assert all(estimate.accepted for estimate in drive.steps(5))
    more = drive.steps(12, off=(0.0, 5.0, 0.0), fix_off=(0.0, 2.5))
    assert any(estimate.accepted for estimate in more), "but a longer row does"


def test_a_wrong_track_cannot_confirm_itself() -> None:
    """Near the track everything agrees with it; a search of all the prior allows sees the truth, and wins."""
    drive = Drive()
    drive.steps(10)
    east, north, yaw = drive.truth()
    wrong = Seen(drive.stamp_ns, np.array([east + 9.0, north - 4.0, yaw]), np.eye(3) * 0.01, drive.T_odom_base())
    drive.tracker._track = dataclasses.replace(drive.tracker._track, last=wrong, sightings=1000)
    drive.tracker._disagreeing_since_ns = None
    for _ in range(20):
        estimate = drive.step(follows_search=True)
    assert drive.error_m(estimate) < 0.5 and estimate.accepted and drive.tracker.state == "tracking"


def test_fixes_that_disagree_for_long_drop_the_track() -> None:
    """The scene confirms anything; the fixes say 30 m elsewhere."""
    drive = Drive(TrackerRules(fix_patience_s=5.0))
    drive.steps(20)
    states = []
    for _ in range(40):
        drive.step(fix_off=(30.0, 0.0))
        states.append(drive.tracker.state)
    assert states[20] == "tracking", "within its patience"
    assert states[-1] == "lost" and "the fixes contradicted the track" in drive.tracker.reason
    assert all(not estimate.accepted for estimate in drive.estimates[-10:])
    assert [estimate.accepted for estimate in drive.steps(4)][-2:] == [True, True], "the fix is good again"


def test_a_wrong_fix_for_ten_seconds_changes_nothing() -> None:
    drive = Drive()
    drive.steps(20)
    during = drive.steps(50, fix_off=(15.0, 0.0))
    assert all(estimate.accepted and drive.tracker.state == "tracking" for estimate in during)
    assert all(estimate.accepted for estimate in drive.steps(20))
    assert all(search.radius_m <= searches.WIDEST_M for search in drive.searches)


def test_a_new_track_must_agree_with_the_fix() -> None:
    drive = Drive()
    refused = drive.steps(10, off=(14.0, 0.0, 0.0))
    assert all(not estimate.accepted and "contradicts the fix" in estimate.reason for estimate in refused)


def test_drives_on_without_a_fix_and_takes_it_back() -> None:
    drive = Drive()
    drive.steps(20)
    during = drive.steps(100, fix_off=None)
    assert all(estimate.accepted for estimate in during) and drive.tracker.state == "tracking"
    assert all(estimate.accepted for estimate in drive.steps(20))


def test_a_tunnel_is_bridged_by_odometry() -> None:
    """Neither picture nor fix for eight seconds; found again within three images of the far end."""
    drive = Drive()
    drive.steps(20)
    drive.steps(40, fix_off=None, sees=False)
    assert drive.tracker.state == "lost"
    assert [estimate.accepted for estimate in drive.steps(3, fix_off=None)][-1]


def test_without_fix_and_odometry_it_waits_for_the_fix() -> None:
    drive = Drive(with_odometry=False)
    drive.steps(20)
    drive.steps(40, fix_off=None, sees=False)
    assert drive.tracker.state == "waiting" and drive.tracker.reason == "no fix on /fix"


@pytest.mark.parametrize("sees", [True, False])
def test_a_track_gone_vague_does_not_widen_the_search_about_a_fix(sees) -> None:
    """Without odometry, seconds without an estimate leave a track anywhere; the fix still says where to look."""
    drive = Drive(with_odometry=False)
    drive.steps(20)
    drive.steps(14, sees=sees)
    assert max(search.radius_m for search in drive.searches) <= 30.0
    assert max(search.yaw_range_rad for search in drive.searches) <= math.radians(40.0)


def test_odometry_that_jumps_is_noticed_and_survived() -> None:
    drive = Drive()
    drive.steps(20)
    honest = drive.T_odom_base
    drive.T_odom_base = lambda: transform(rotation_z(1.0), (40.0, 10.0, 0.0)) @ honest()
    after = drive.steps(8)
    assert after[-1].accepted and drive.error_m(after[-1]) < 0.1 and sum(e.accepted for e in after) >= 5


def test_kidnapped_to_where_the_fix_follows() -> None:
    """Estimates in a row elsewhere replace the track; those before the last of them are refused."""
    drive = Drive(TrackerRules(replace_sightings=3))
    drive.steps(20)
    drive.index += 400  # far round the bend, in one moment, and odometry did not see it
    before = drive.T_odom_base()
    drive.index -= 400
    here = drive.T_odom_base()
    drive.index += 400
    honest = drive.T_odom_base
    drive.T_odom_base = lambda: here @ np.linalg.inv(before) @ honest()
    real_stamp = Drive.stamp_ns.fget
    type(drive).stamp_ns = property(lambda self: real_stamp(self) - 400 * STEP_NS)
    try:
        after = drive.steps(12)
    finally:
        type(drive).stamp_ns = property(real_stamp)
    accepted = [estimate.accepted for estimate in after]
    assert not any(accepted[:2]) and all(accepted[-6:])
    assert drive.error_m(after[-1]) < 0.1


def test_given_pose_is_searched_and_confirmed() -> None:
    drive = Drive()
    drive.steps(10)
    drive.index += 1
    east, north, yaw = drive.truth()
    drive.tracker.set_pose(drive.stamp_ns, east + 2.0, north, yaw, T_odom_base=drive.T_odom_base())
    assert drive.tracker.state == "searching"
    after = drive.steps(3, fix_off=(200.0, 0.0))  # the receiver has not noticed yet
    assert math.hypot(drive.searches[-3].east_m - east, drive.searches[-3].north_m - north) < 5.0
    assert [estimate.accepted for estimate in after] == [False, True, True]


def test_a_given_pose_that_nothing_confirms_is_given_up() -> None:
    """Clicked 90 degrees wrong where the fix agrees: the search must not stay there for ever."""
    drive = Drive()
    drive.steps(10)
    east, north, yaw = drive.truth()
    drive.tracker.set_pose(drive.stamp_ns, east, north, yaw + math.pi / 2, T_odom_base=drive.T_odom_base())
    drive.steps(14)
    assert drive.tracker.state == "searching"
    drive.steps(4)
    assert "nothing confirmed the given pose" in drive.tracker.reason or drive.tracker.state == "tracking"
    assert drive.steps(4)[-1].accepted


def test_an_old_rival_confirms_nothing() -> None:
    """Seen once, then nothing for long: the next estimate is the first again."""
    drive = Drive(with_odometry=False)
    drive.step()
    drive.steps(20, sees=False)
    again = drive.step()
    assert not again.accepted and again.reason.startswith("unconfirmed: 1 of 2")


def test_without_odometry_the_fix_must_agree_while_tracking() -> None:
    drive = Drive(with_odometry=False)
    drive.steps(20)
    assert drive.estimates[-1].accepted
    off = drive.steps(4, off=(11.0, 0.0, 0.0), fix_off=(0.0, 0.0))
    assert not any(estimate.accepted for estimate in off)


def test_relocalize_searches_all_headings_and_wide() -> None:
    drive = Drive()
    drive.steps(20)
    drive.tracker.relocalize()
    assert drive.tracker.state == "lost"
    drive.step(fix_off=(1.0, 0.0))
    assert drive.searches[-1].yaw_range_rad == math.pi


def test_lost_widens_and_no_wider_than_the_fix_allows() -> None:
    rules = TrackerRules(lost_radius_m=60.0)
    sure = Prior(0, 0.0, 0.0, 20.0, 0.0, 0.2, position_std_m=2.0)
    vague = dataclasses.replace(sure, position_std_m=18.0)
    assert searches.widened(sure, 3, rules).radius_m == 20.0
    assert [searches.widened(vague, level, rules).radius_m for level in range(4)] == [20.0, 30.0, 44.0, 60.0]
    assert searches.widened(vague, 9, rules).yaw_range_rad == math.pi


def test_time_jump_and_reset_forget() -> None:
    drive = Drive()
    drive.steps(10)
    drive.tracker.time_jumped()
    assert drive.tracker.state == "searching" and drive.tracker.reason == "time jumped back"
    drive.index = 0
    assert [estimate.accepted for estimate in drive.steps(3)] == [False, True, True]


def test_standing_still_is_one_sighting_until_time_passes() -> None:
    drive = Drive(TrackerRules(confirm_sightings=2))
    drive.truth = lambda: (5.0, 6.0, 0.3)
    assert [estimate.accepted for estimate in drive.steps(4)] == [False, False, False, True]


def test_missing_names_the_input() -> None:
    tracker = Tracker()
    tracker.missing("no CameraInfo on /camera_info yet", 5)
    assert (tracker.state, tracker.reason) == ("waiting", "no CameraInfo on /camera_info yet")
    with pytest.raises(MissingInputError, match="no fix on /fix"):
        frame = dataclasses.make_dataclass("F", [("stamp_ns", int)])(9)
        locate_tracked(tracker, lambda frames, prior: None, [frame], None, None, "no fix on /fix")


# --- conventions ---

angles = st.floats(-3.0, 3.0)
lengths = st.floats(-20.0, 20.0)


@settings(max_examples=50, deadline=None)
@given(lengths, lengths, angles, lengths, lengths, angles, angles)
def test_prediction_is_the_pose_composed_with_odometrys_motion(x, y, yaw, dx, dy, turn, odom_yaw) -> None:
    T_map_then = transform(rotation_z(yaw), (x, y, 0.0))
    T_then_now = transform(rotation_z(turn), (dx, dy, 0.0))
    T_odom_then = transform(rotation_z(odom_yaw), (3.0, 4.0, 1.0))
    then = Seen(0, np.array([x, y, yaw]), np.diag([0.04, 0.01, 0.001]), T_odom_then)
    found = predict(then, 5 * NS_PER_S, T_odom_then @ T_then_now, TrackerRules())
    wanted = T_map_then @ T_then_now
    assert found.pose[:2] == pytest.approx(wanted[:2, 3], abs=1e-6)
    assert math.cos(found.pose[2] - math.atan2(wanted[1, 0], wanted[0, 0])) == pytest.approx(1.0, abs=1e-9)
    assert np.linalg.eigvalsh(found.covariance)[0] > 0.0
    assert found.distance(found.pose, np.zeros((3, 3)))[0] == 0.0


def test_heading_error_carries_to_the_side_of_the_way() -> None:
    then = Seen(0, np.array([0.0, 0.0, math.pi / 2]), np.diag([1e-6, 1e-6, 0.01]), np.eye(4))
    rules = TrackerRules(odometry_drift_share=0.0)
    found = predict(then, 2 * NS_PER_S, transform(np.eye(3), (10.0, 0.0, 0.0)), rules)
    assert found.pose[:2] == pytest.approx([0.0, 10.0], abs=1e-9)
    assert found.covariance[0, 0] == pytest.approx(1.0, rel=0.1) and found.covariance[1, 1] < 0.01
    assert found.covariance[0, 2] < 0.0, "facing north, a heading too far left lands to the west"
    east = predict(
        dataclasses.replace(then, pose=np.zeros(3)), 2 * NS_PER_S, transform(np.eye(3), (10.0, 0.0, 0.0)), rules
    )
    assert east.covariance[1, 2] > 0.0 and east.covariance[1, 1] > 0.9, "facing east, to the north"


def test_without_odometry_the_speed_bounds_what_is_possible() -> None:
    then = Seen(0, np.zeros(3), np.diag([0.01, 0.01, 0.0001]), None)
    found = predict(then, NS_PER_S, None, TrackerRules(max_speed_m_per_s=10.0, max_yaw_rate_deg_per_s=30.0))
    assert found.distance(np.array([10.0, 0.0, math.radians(30.0)]), np.eye(3) * 1e-6)[0] == pytest.approx(
        0.0, abs=1e-6
    )
    assert found.distance(np.array([11.0, 0.0, 0.0]), np.eye(3) * 1e-6)[0] > 9.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 4.0, 9.0]), st.booleans(), st.booleans()), max_size=40))
def test_same_stamps_same_verdicts_and_accepted_means_consistent(script) -> None:
    def run() -> list[tuple[bool, str]]:
        drive = Drive()
        for off, sees, has_fix in script:
            drive.step(off=(off, 0.0, 0.0), sees=sees, fix_off=(0.5, 0.5) if has_fix else None)
        return [(estimate.accepted, estimate.reason) for estimate in drive.estimates]

    verdicts = run()
    assert verdicts == run()
    assert all(accepted == (reason == "") for accepted, reason in verdicts)
