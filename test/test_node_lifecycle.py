"""The managed node: its transitions over DDS as a manager asks for them, and what each gives back."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from ros_helpers import ORIGIN, ConstantOffset, Station, node_process, private_domain, vehicle_settings

from cross_view_loc.errors import ModelError
from cross_view_loc.node.localizer_node import LocalizerNode


def test_a_manager_takes_the_node_through_its_states(tmp_path: Path) -> None:
    settings = vehicle_settings(autostart=False)
    with private_domain() as domain, node_process(tmp_path, settings, domain) as process:
        station = Station(domain)
        change = station.node.create_client(ChangeState, "/localizer/change_state")
        get = station.node.create_client(GetState, "/localizer/get_state")
        assert change.wait_for_service(30.0) and get.wait_for_service(30.0), (tmp_path / "log").read_text()

        def state() -> str:
            future = get.call_async(GetState.Request())
            assert station.spin_until(future.done)
            return future.result().current_state.label

        def ask(transition: int) -> bool:
            future = change.call_async(ChangeState.Request(transition=Transition(id=transition)))
            assert station.spin_until(future.done), (tmp_path / "log").read_text()
            return future.result().success

        try:
            assert state() == "unconfigured" and station.node.count_subscribers("/image") == 0
            assert not ask(Transition.TRANSITION_ACTIVATE), "refused, and the node lives on"
            assert ask(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
            assert not station.drive_until(lambda: station.unchecked, 0.5), "an inactive node works on nothing"
            assert station.spin_until(lambda: "localizer: lifecycle" in station.diagnostics)
            assert station.diagnostics["localizer: lifecycle"].message == "the node is inactive"
            for _ in range(2):
                assert ask(Transition.TRANSITION_ACTIVATE) and state() == "active"
                station.poses.clear()
                assert station.drive_until(lambda: len(station.poses) >= 2), (tmp_path / "log").read_text()
                assert ask(Transition.TRANSITION_DEACTIVATE) and state() == "inactive"
                station.spin(0.2)
                station.unchecked.clear()
                assert not station.drive_until(lambda: station.unchecked, 0.5)
            assert ask(Transition.TRANSITION_CLEANUP) and state() == "unconfigured"
            assert station.spin_until(lambda: station.node.count_publishers("/localizer/pose") == 0)
            assert ask(Transition.TRANSITION_CONFIGURE) and ask(Transition.TRANSITION_ACTIVATE)
            station.poses.clear()
            assert station.drive_until(lambda: station.poses), (tmp_path / "log").read_text()
            assert ask(Transition.TRANSITION_ACTIVE_SHUTDOWN) and state() == "finalized"
            assert process.poll() is None
        finally:
            station.close()
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and "localizer loaded in" in log and "warmed up in" in log


@pytest.fixture
def context():
    with private_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        yield context
        rclpy.try_shutdown(context=context)


def make(context, make_localizer=lambda *_: ConstantOffset(), **given) -> LocalizerNode:
    overrides = [Parameter(name, value=value) for name, value in ({"map_origin": list(ORIGIN)} | given).items()]
    return LocalizerNode(make_localizer, context=context, parameter_overrides=overrides)


def test_cleanup_gives_the_networks_back_and_ends_the_threads(context) -> None:
    made: list[weakref.ref] = []

    def make_localizer(*_):
        localizer = ConstantOffset()
        made.append(weakref.ref(localizer))
        return localizer

    threads = threading.active_count()
    node = make(context, make_localizer)
    assert node.bring_up() and made[0]() is not None and threading.active_count() == threads + 1
    node.trigger_deactivate()
    assert threading.active_count() == threads
    node.trigger_cleanup()
    gc.collect()
    assert made[0]() is None and node.lifecycle_state == "unconfigured"
    assert node.bring_up() and len(made) == 2
    node.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"search_radius_m": 500.0}, "parameter search_radius_m is 500.0; it must lie in [1, 100]"),
        ({"tf_mode": "both"}, "parameter tf_mode is 'both'; choose one of none, map_to_odom"),
        ({"tf_mode": 3}, "parameter tf_mode is 3; it must be of type string"),
        ({"map_origin": [], "map_path": "/nowhere.mbtiles"}, "/nowhere.mbtiles"),
    ],
)
def test_what_is_wrong_is_a_failed_transition_and_in_the_diagnostics(context, given, sentence) -> None:
    node = make(context, **given)
    assert not node.bring_up()
    assert sentence in node.refusal and node.lifecycle_state == "unconfigured"
    (verdict,) = node._verdicts()
    assert verdict.level == 2 and verdict.sentence == node.refusal
    node.close()


def test_a_failed_configure_may_be_tried_again(context) -> None:
    broken = [True]

    def make_localizer(*_):
        if broken[0]:
            raise ModelError("weights/town_matcher.safetensors is missing; put it back")
        return ConstantOffset()

    node = make(context, make_localizer)
    assert not node.bring_up() and node.refusal.startswith("weights/town_matcher.safetensors is missing")
    broken[0] = False
    assert node.bring_up() and not node.refusal
    node.close()


def test_a_defect_in_configure_leaves_an_unconfigured_node(context) -> None:
    node = make(context, lambda *_: 1 / 0)
    assert not node.bring_up() and "ZeroDivisionError" in node.refusal
    assert node.lifecycle_state == "unconfigured"
    node.close()


def test_integers_are_taken_for_doubles_at_start_and_live(context) -> None:
    node = make(context, search_radius_m=15, map_origin=[49, 8, 110])
    assert node.bring_up(), node.refusal
    assert node.settings.search_radius_m == 15.0 and node.settings.map_origin == (49.0, 8.0, 110.0)
    (result,) = node.set_parameters([Parameter("search_radius_m", value=30)])
    assert result.successful and node.settings.search_radius_m == 30.0, result.reason
    assert node.get_parameter("search_radius_m").value == 30.0
    (result,) = node.set_parameters([Parameter("search_radius_m", value=300)])
    assert not result.successful and "search_radius_m" in result.reason
    node.close()
