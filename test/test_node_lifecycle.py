"""The managed node: its transitions over DDS as a manager asks for them, and what each gives back."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_helpers import ORIGIN, ConstantOffset, Station, node_process, private_domain, vehicle_settings, write_tiny_map
from sensor_msgs.msg import CompressedImage, Image

from cross_view_loc.errors import ModelError
from cross_view_loc.node.localizer_node import LocalizerNode
from cross_view_loc.node.start import build_localizer


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
        ({"map_origin": [], "fix_topic": "", "map_path": "MAP"}, "map_origin is empty and no fix_topic can give it"),
        (
            {"map_origin": [8.4, 49.0, 0.0], "map_path": "MAP"},
            "map_origin is latitude 8.40000, longitude 49.00000, out",
        ),
        ({"depth": "midas"}, "parameter depth: there is no depth source 'midas'; choose learned, flat"),
        ({"estimator": "magic"}, "parameter estimator is 'magic'; choose one of consensus"),
        ({"heading_source": "imu"}, "heading_source is 'imu' but imu_topic is empty; name the Imu topic"),
        ({"cameras": ["a", "a"]}, "cameras lists 'a' twice"),
        ({"cameras": 3}, "parameter cameras is 3; it must be of type string_array"),
        ({"cameras": ["a"], "a.image_transport": "jpg"}, "a.image_transport is 'jpg'; choose one of auto, raw"),
        ({"cameras": ["a"], "a.calibration_file": "/nowhere.yaml"}, "there is no camera file at /nowhere.yaml"),
        ({"base_frame": "map"}, "map_frame and base_frame are both 'map'"),
    ],
)
def test_what_is_wrong_is_a_failed_transition_and_in_the_diagnostics(context, given, sentence, tmp_path) -> None:
    if given.get("map_path") == "MAP":
        write_tiny_map(tmp_path / "map.mbtiles")
        given = given | {"map_path": str(tmp_path / "map.mbtiles")}
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
    verdicts = {verdict.name: verdict for verdict in node._verdicts()}
    assert verdicts["lifecycle"].sentence == "the node is active" and verdicts["lifecycle"].level == 0
    assert {"inputs", "estimates", "map", "tracker", "machine"} < set(verdicts)
    node.close()


def test_a_depth_source_that_stands_in_is_told_and_the_node_goes_on(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # no models there
    write_tiny_map(tmp_path / "map.mbtiles")
    given = {"map_path": str(tmp_path / "map.mbtiles"), "depth": "depth-anything-v2-small", "threads": 1}
    node = make(context, build_localizer, **given)
    assert not node.bring_up() and "run `cross_view_loc models fetch depth-anything-v2-small`" in node.refusal
    node.close()
    node = make(context, build_localizer, **given, depth_fallback=["onnx:/nowhere.onnx", "flat"])
    assert node.bring_up(), node.refusal
    inputs = next(verdict for verdict in node._verdicts() if verdict.name == "inputs")
    assert inputs.level >= 1 and "depth 'flat' stands in for 'depth-anything-v2-small'" in inputs.sentence
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


def test_quality_of_service_is_overridden_by_the_standard_parameters(context) -> None:
    override = {"qos_overrides./gnss/fix.subscription.reliability": "reliable"}
    override |= {"qos_overrides./a/image.subscription.depth": 7, "cameras": ["a"], "a.image_topic": "/a/image"}
    node = make(context, **override, **{"a.image_transport": "raw"})
    assert node.bring_up(), node.refusal

    def qos(topic: str):
        (own,) = [each for each in node.get_subscriptions_info_by_topic(topic) if each.node_name == "localizer"]
        return own.qos_profile

    assert qos("/gnss/fix").reliability == ReliabilityPolicy.RELIABLE
    assert qos("/a/camera_info").reliability == ReliabilityPolicy.BEST_EFFORT
    depths = [each.qos_profile.depth for each in node.subscriptions if each.topic_name == "/a/image"]
    assert depths == [7]
    node.trigger_deactivate()
    node.trigger_activate()
    assert qos("/gnss/fix").reliability == ReliabilityPolicy.RELIABLE, "also the second time"
    node.close()


@pytest.mark.parametrize(
    ("transport", "topic", "kind"),
    [
        ("auto", "/cam/image/compressed", CompressedImage),
        ("auto", "/cam/image", None),
        ("raw", "/cam/image/compressed", Image),
        ("compressed", "/cam/image", CompressedImage),
    ],
)
def test_type_of_the_images_is_found_out(context, transport, topic, kind) -> None:
    node = make(context, image_transport=transport, image_topic=topic)
    assert node.bring_up(), node.refusal

    def kinds() -> list[type]:
        return [each.msg_type for each in node.subscriptions if each.topic_name == topic]

    if kind is not None:
        assert kinds() == [kind]
    else:
        assert kinds() == [] and "/cam/image: nobody publishes it yet" in str(node.pipeline.assumptions())
        publisher = node.create_publisher(CompressedImage, topic, 1)
        for _ in range(100):
            node.pipeline._subscriptions._subscribe_to_images()
            if kinds():
                break
            time.sleep(0.05)
        assert kinds() == [CompressedImage] and not node.pipeline.assumptions()
        node.destroy_publisher(publisher)
    node.close()
