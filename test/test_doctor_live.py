"""Doctor on a running graph: what the vehicle of the node's tests publishes, over real DDS."""

import json
import threading
import time

import pytest

pytest.importorskip("rclpy")
import domain_coordinator
import rclpy
from bag_helpers import CAMERA
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import NavSatFix
from tf2_msgs.msg import TFMessage

from cross_view_loc.bags.reader import Bag
from cross_view_loc.cli import main
from cross_view_loc.errors import MissingInputError
from cross_view_loc.node.graph_recording import record_graph


@pytest.fixture
def domain(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with domain_coordinator.domain_id() as domain_id:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain_id))
        yield domain_id


@pytest.fixture
def receiver(domain):
    """A best-effort receiver and a transform that was sent once, before anybody listened."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("receiver", context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    stamped = TransformStamped()
    stamped.header.frame_id, stamped.child_frame_id = "base_link", CAMERA.optical_frame
    node.create_publisher(TFMessage, "/tf_static", latched).publish(TFMessage(transforms=[stamped]))
    fixes = node.create_publisher(NavSatFix, "/gps/fix", qos_profile_sensor_data)

    def publish() -> None:
        fix = NavSatFix(latitude=48.0, longitude=11.0)
        fix.header.stamp, fix.header.frame_id = node.get_clock().now().to_msg(), "antenna"
        fixes.publish(fix)

    node.create_timer(0.1, publish)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10.0)
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_graph_is_recorded_with_what_was_sent_before(receiver, tmp_path, domain):
    started = time.time_ns()
    assert record_graph(tmp_path / "live", 5.0, domain) > 5
    with Bag(tmp_path / "live") as bag:
        assert bag.topics["/tf_static"].count == 1
        assert bag.topics["/gps/fix"].count > 5
        assert bag.start_ns >= started
        assert {item.message.latitude for item in bag.messages(["/gps/fix"])} == {48.0}


def test_the_running_graph_is_examined(receiver, capsys):
    assert main(["doctor", "--live", "5", "--json", "--quick"]) == 1
    answer = json.loads(capsys.readouterr().out)
    failures = {row["check"] for row in answer["findings"] if row["level"] == "FAIL"}
    assert failures == {"image.topic", "camera_info.topic"}
    assert answer["topics"]["fix"] == "/gps/fix"


def test_a_silent_graph_is_refused_in_one_sentence(domain, tmp_path):
    with pytest.raises(MissingInputError, match="nothing came within 1 s"):
        record_graph(tmp_path / "live", 1.0, domain)
