"""The demo's player over real DDS: every message arrives as it was recorded, static transforms also for latecomers."""

import time

import pytest
from bag_helpers import SPEED_MPS, START_NS, drive, write_bag2

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from cross_view_loc.bags.reader import Bag
from cross_view_loc.demo.node_process import private_ros_network


def test_a_bag_arrives_whole_and_at_its_own_pace(tmp_path):
    with private_ros_network(), Bag(write_bag2(tmp_path / "bag", drive())) as bag:
        import rclpy
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from nav_msgs.msg import Odometry
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CompressedImage
        from tf2_msgs.msg import TFMessage

        from cross_view_loc.node.playback import Playback

        context = Context()
        rclpy.init(context=context)
        listener = rclpy.create_node("listener", context=context)
        poses = listener.create_publisher(PoseWithCovarianceStamped, "/localizer/pose", 10)
        odometry, frames = [], []

        def answer(image):
            reply = PoseWithCovarianceStamped()
            reply.header.stamp = image.header.stamp
            reply.pose.pose.position.x = 7.0
            reply.pose.covariance[35] = 0.25
            poses.publish(reply)

        listener.create_subscription(Odometry, "/odom", odometry.append, 100)
        listener.create_subscription(CompressedImage, "/cam/image", answer, 10)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(listener)
        topics = [topic for topic in bag.topics if "truth" not in topic]
        with Playback(bag, topics, "localizer", "map", "odom") as playback:
            end = time.monotonic() + 20.0
            while (
                playback.listeners("/cam/image") == 0 or playback.listeners("/localizer/pose") == 0
            ) and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.5)
            started = time.monotonic()

            def keep_answering(played_s, images):
                executor.spin_once(timeout_sec=0.0)
                return True

            images = playback.play(keep_answering)
            assert time.monotonic() - started >= 1.0, "one second of recording takes a second"
            late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            listener.create_subscription(TFMessage, "/tf_static", frames.append, late)
            end = time.monotonic() + 10.0
            while time.monotonic() < end and not (frames and len(odometry) == 51 and len(playback.received.poses) == 5):
                executor.spin_once(timeout_sec=0.05)
            received = playback.received
        rclpy.try_shutdown(context=context)
    assert images == [START_NS + 100_000_000 + i * 200_000_000 for i in range(5)]
    assert [pose.stamp_ns for pose in received.poses] == images
    assert all(pose.east_m == 7.0 and pose.covariance[2, 2] == 0.25 for pose in received.poses)
    assert all(0.0 < pose.latency_s < 5.0 for pose in received.poses)
    assert len(odometry) == 51
    assert odometry[-1].twist.twist.linear.x == SPEED_MPS
    assert {transform.child_frame_id for transform in frames[0].transforms} >= {"antenna", "imu_link"}
