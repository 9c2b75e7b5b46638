"""The node and the offline runner believe the same estimates of the same messages, for the same reasons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

from ros_helpers import ORIGIN, SECOND, Truthful, Vehicle, private_domain, vehicle_settings
from test_node_inside import SOURCES, START, Inside
from tf2_msgs.msg import TFMessage

from cross_view_loc.bags.reader import BagMessage, BagTopics
from cross_view_loc.bags.runner import BagRunner
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.inputs.assembler import FrameAssembler

STEPS = 90


def brightness(step: int) -> int:
    """A dark stretch, one estimate 9 m off, and later a place 12 m off for good."""
    if 20 <= step < 28 or 40 <= step < 78:
        return 5
    return 137 if step == 35 else 140 if step > 80 else 128


def has_fix(step: int) -> bool:
    return not 10 <= step < 50


def recorded(vehicle: Vehicle) -> Iterator[tuple[str, str, object]]:
    """(role, topic, message) in the order of a recording."""
    mounts = [("camera_optical", Vehicle.T_base_camera), ("antenna", np.eye(4))]
    yield "tf_static", "/tf_static", TFMessage(transforms=[Vehicle._stamped("base_link", *each, 0) for each in mounts])
    for step in range(STEPS):
        stamp = START + step * SECOND // 10
        yield "camera_info", "/camera_info", vehicle.info_message(stamp)
        if has_fix(step):
            yield "fix", "/fix", vehicle.fix_message(stamp - SECOND // 50)
        moved = Vehicle._stamped("odom", "base_link", vehicle.T_odom_base(stamp), stamp)
        yield "tf", "/tf", TFMessage(transforms=[moved])
        vehicle.brightness = brightness(step)
        yield "image", "/image", vehicle.image_message(stamp)


class Recording:
    """As much of a bag as the runner asks for."""

    path, start_ns, end_ns, cut = "recording", START, START + STEPS * SECOND, ""

    def __init__(self, items: list[tuple[str, str, object]]) -> None:
        self.items = items

    def messages(self, topics, start_ns: int = 0) -> Iterator[BagMessage]:
        time_ns = START
        for role, topic, message in self.items:
            time_ns += SECOND // 10 if role == "image" else 0
            if topic in topics:
                yield BagMessage(topic, "", time_ns, message)


def test_the_node_and_the_runner_agree_on_every_image() -> None:
    settings = vehicle_settings(imu_topic="", odometry_topic="", prior_wait_s=0.0, tracking=True, max_fix_age_s=1.0)
    with private_domain() as domain:
        inside = Inside(domain, settings, Truthful())
        try:
            items = list(recorded(inside.vehicle))
            published = []
            inside.pipeline.outputs.publish = lambda estimate, settings: published.append(estimate)
            for role, _, message in items:
                if role == "image":
                    inside.pipeline.on_image("camera", message)
                    assert inside.pipeline.worker.drain(10.0)
                else:
                    inside.pipeline.on_input(SOURCES[role], message)
        finally:
            inside.close()
    topics = BagTopics("/image", "/camera_info", "/fix", tf=("/tf",), tf_static=("/tf_static",))
    assembler = FrameAssembler(settings, MapProjection(MapOrigin(*ORIGIN)))
    runner = BagRunner(Recording(items), topics, assembler, Truthful().locate, settings.tracker())
    records = [record for record in runner.run(0, 2**62) if record.estimate is not None]
    said = [(record.stamp_ns, record.estimate.accepted, record.estimate.reason) for record in records]
    assert said == [(estimate.stamp_ns, estimate.accepted, estimate.reason) for estimate in published]
    assert [record.estimate.east_m for record in records] == [estimate.east_m for estimate in published]
    reasons = " ".join(reason for _, _, reason in said)
    assert all(words in reasons for words in ("unconfirmed", "too dark", "contradicts")), "or it would prove little"
    assert 20 < sum(accepted for _, accepted, _ in said) < STEPS - 10
