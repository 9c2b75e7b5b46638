"""What counts as a warning or an error, and which image the worker takes."""

import threading

import numpy as np
import pytest

from cross_view_loc.node.health import ERROR, OK, WARN, Coverage, Health, tracker_verdict
from cross_view_loc.node.machine import Machine
from cross_view_loc.node.worker import NewestFirstWorker

TOPICS = {"image": "/image", "camera_info": "/info", "fix": "/fix", "imu": "/imu"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(TOPICS, clock)


def inputs(health: Health, *assumptions: str):
    return health.verdicts(2.0, assumptions)[0]


def estimates(health: Health):
    return health.verdicts(2.0)[1]


def all_arrive(health: Health) -> None:
    for role in TOPICS:
        health.arrived(role)


def test_nothing_is_wrong_before_the_timeout_and_everything_named_after(health: Health, clock: Clock) -> None:
    assert inputs(health).level == OK
    clock.now += 3.0
    verdict = inputs(health)
    assert verdict.level == ERROR
    for sentence in ("/image (image) has never arrived", "/info (camera_info) has never", "/fix (fix)", "/imu (imu)"):
        assert sentence in verdict.sentence


def test_silence_of_an_optional_topic_is_a_warning(health: Health, clock: Clock) -> None:
    all_arrive(health)
    clock.now += 3.0
    for role in ("image", "fix"):
        health.arrived(role)
    verdict = inputs(health)
    assert verdict.level == WARN
    assert verdict.sentence == "/imu (imu) is silent for 3.0 s", "CameraInfo may rest once it is known"
    assert verdict.values["imu age (s)"] == "3.00" and verdict.values["image messages"] == "2"


def test_unusable_messages_warn_for_a_while(health: Health, clock: Clock) -> None:
    all_arrive(health)
    assert health.unusable("fix", "/fix: NO_FIX") == 1
    assert inputs(health).level == WARN and "1 unusable messages, the last: /fix: NO_FIX" in inputs(health).sentence
    clock.now += 6.0
    all_arrive(health)
    assert inputs(health).level == OK and inputs(health).values["fix unusable"] == "1"
    assert inputs(health, "antenna assumed").level == WARN


def test_problem_of_an_unwatched_topic_warns_for_a_while(health: Health, clock: Clock) -> None:
    all_arrive(health)
    assert health.count_problem("initialpose", "initialpose: pose is given in frame 'odom'") == 1
    assert inputs(health).level == WARN and "given in frame 'odom'" in inputs(health).sentence
    clock.now += 6.0
    all_arrive(health)
    assert inputs(health).level == OK and health.counts() == {"unusable messages on initialpose": 1}


def test_rate_counts_the_last_seconds(health: Health, clock: Clock) -> None:
    for _ in range(100):
        clock.now += 0.1
        all_arrive(health)
    assert float(inputs(health).values["image rate (Hz)"]) == pytest.approx(10.0, abs=0.3)


def test_images_that_never_become_estimates_are_an_error(health: Health, clock: Clock) -> None:
    assert estimates(health).level == OK
    all_arrive(health)
    health.not_localized("images without needed input", "no transform")
    assert estimates(health).level == OK, "not yet"
    clock.now += 3.0
    assert estimates(health).level == ERROR and estimates(health).sentence == "no transform"
    health.localized(True, "", 0.1, 0.2)
    assert estimates(health).level == OK
    assert estimates(health).values["images without needed input"] == "1"


def test_first_image_is_not_waited_for_once_it_came(health: Health) -> None:
    assert estimates(health).sentence == "waiting for the first image"
    all_arrive(health)
    assert estimates(health).level == OK and estimates(health).sentence == "the first image is being worked on"


def test_problems_of_the_map_warn(health: Health) -> None:
    assert health.verdicts(2.0)[2].level == OK
    verdict = health.verdicts(2.0, map_problems=(3, "Tile 18/1/2 is damaged."))[2]
    assert (verdict.name, verdict.level) == ("map", WARN)
    assert verdict.sentence == "map: 3 problems, latest: Tile 18/1/2 is damaged." and verdict.values["problems"] == "3"


def test_refusals_warn_and_latency_is_told(health: Health) -> None:
    for number in range(10):
        health.localized(number % 3 == 0, "" if number % 3 == 0 else "ambiguous", 0.1 * number, None)
    verdict = estimates(health)
    assert verdict.level == WARN and "40%" in verdict.sentence and "ambiguous" in verdict.sentence
    assert verdict.values["compute p50 (s)"] == f"{np.percentile(np.arange(10) * 0.1, 50):.3f}"
    assert verdict.values["image to pose p95 (s)"] == "unknown"


def test_held_back_transform_warns(health: Health) -> None:
    health.localized(True, "", 0.1, 0.2)
    health.tf_held_back("base_link already has the parent odom")
    assert estimates(health).level == WARN and "already has the parent odom" in estimates(health).sentence


def test_newest_item_wins_and_the_replaced_are_counted() -> None:
    release, started = threading.Event(), threading.Event()
    seen = []

    def process(item: int) -> None:
        seen.append(item)
        started.set()
        release.wait(5.0)

    worker = NewestFirstWorker(process)
    worker.offer(1)
    assert started.wait(5.0)
    for item in (2, 3, 4):
        worker.offer(item)
    release.set()
    assert worker.drain(5.0)
    worker.close()
    assert seen == [1, 4] and worker.dropped == 2


def test_item_waits_until_it_is_ready() -> None:
    ready = threading.Event()
    seen = []
    worker = NewestFirstWorker(seen.append, lambda item: ready.is_set(), lambda: 30.0)
    worker.offer(1)
    assert not worker.drain(0.05) and not seen
    ready.set()
    worker.wake()
    assert worker.drain(5.0)
    worker.close()
    assert seen == [1]


def test_item_does_not_wait_for_ever() -> None:
    seen = []
    worker = NewestFirstWorker(seen.append, lambda item: False, lambda: 0.01)
    worker.offer(1)
    assert worker.drain(5.0) and seen == [1]
    worker.close()


def test_close_does_not_wait_for_what_never_gets_ready() -> None:
    seen = []
    worker = NewestFirstWorker(seen.append, lambda item: False, lambda: 60.0)
    worker.offer(1)
    worker.close(5.0)
    assert not seen


def test_one_silent_camera_of_several_is_a_warning_all_are_an_error(clock: Clock) -> None:
    health = Health({"front image": "/front", "left image": "/left", "left camera_info": "/info", "fix": "/fix"}, clock)
    for role in ("front image", "left image", "left camera_info", "fix"):
        health.arrived(role)
    clock.now += 3.0
    for role in ("front image", "fix"):
        health.arrived(role)
    verdict = inputs(health)
    assert (verdict.level, verdict.sentence) == (WARN, "/left (left image) is silent for 3.0 s")
    assert verdict.values["left image age (s)"] == "3.00"
    clock.now += 3.0
    health.arrived("fix")
    assert inputs(health).level == ERROR and "/front (front image)" in inputs(health).sentence


def test_a_silent_fix_is_a_warning_while_the_vehicle_is_tracked(health: Health, clock: Clock) -> None:
    all_arrive(health)
    clock.now += 3.0
    for role in ("image", "imu"):
        health.arrived(role)
    assert health.verdicts(2.0)[0].level == ERROR
    assert health.verdicts(2.0, is_tracking=True)[0].level == WARN


def test_place_without_imagery_is_a_warning_though_every_tile_was_readable(health: Health) -> None:
    def map_of(valid: float, stand_in: float):
        return health.verdicts(2.0, coverage=Coverage(valid, stand_in))[2]

    assert map_of(1.0, 0.0).level == OK and map_of(1.0, 0.0).values["imagery of last patch"] == "1.00"
    assert map_of(0.3, 0.0).level == WARN and "only 30% of the place has imagery" in map_of(0.3, 0.0).sentence
    assert map_of(1.0, 0.8).level == WARN and "stands in for 80%" in map_of(1.0, 0.8).sentence


def test_tracker_that_is_lost_or_waits_is_a_warning() -> None:
    levels = {state: tracker_verdict(state, "why").level for state in ("waiting", "searching", "tracking", "lost")}
    assert levels == {"waiting": WARN, "searching": OK, "tracking": OK, "lost": WARN}
    assert tracker_verdict("lost", "no accepted estimate for 3.1 s").sentence == "lost: no accepted estimate for 3.1 s"


def test_stages_are_told_by_name(health: Health) -> None:
    for milliseconds in range(1, 101):
        health.localized(True, "", 0.1, None, {"inference": milliseconds / 1000})
    assert estimates(health).values["inference p50 (s)"] == "0.051"
    assert estimates(health).values["inference p95 (s)"] == "0.095"


def test_machine_tells_processor_and_memory(clock: Clock) -> None:
    machine = Machine(clock)
    block = np.ones(30_000_000, np.uint8)
    while machine.verdict("cpu").values["cpu (cores)"] == "0.00":
        clock.now += 0.01
        np.sort(block[:1_000_000])
    verdict = machine.verdict("cpu")
    assert verdict.level == OK and float(verdict.values["memory (MB)"]) > 30.0 and verdict.values["device"] == "cpu"
