"""What leaves the node for an estimate.

~/pose             geometry_msgs/PoseWithCovarianceStamped of base_frame in map_frame at the image's stamp:
                   accepted estimates only, in the order of their stamps
~/pose_unchecked   the same for every estimate, also those the gate refused
~/debug/compressed sensor_msgs/CompressedImage, the matched pixels; drawn only while somebody subscribes
/tf                by tf_mode, see `tf.py`
"""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.node import debug_picture
from cross_view_loc.node.conversions import pose_message, to_time
from cross_view_loc.node.tf import TransformOutput
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Frame


class Outputs:
    """The node's publishers; of one session, whose frames and topics do not change."""

    def __init__(self, node: Node, assembler: FrameAssembler, settings: Settings) -> None:
        self._node = node
        self._pose = node.create_publisher(PoseWithCovarianceStamped, "~/pose", 10)
        self._pose_unchecked = node.create_publisher(PoseWithCovarianceStamped, "~/pose_unchecked", 10)
        self._debug = node.create_publisher(CompressedImage, "~/debug/compressed", 1)
        self.tf = TransformOutput(node, assembler, settings)

    def publish(self, estimate: Estimate, settings: Settings) -> None:
        """The estimate's pose, and when it is accepted its transform; InputError when that one must not leave."""
        message = pose_message(estimate, settings.map_frame)
        self._pose_unchecked.publish(message)
        if not estimate.accepted:
            return
        self._pose.publish(message)
        self.tf.publish(estimate)

    def publish_debug(self, frames: Sequence[Frame], estimate: Estimate, settings: Settings) -> None:
        """The pictures that somebody looks at; after the pose, which must not wait for them."""
        if not settings.publish_debug or self._debug.get_subscription_count() == 0:
            return
        picture = debug_picture.draw(frames[0], estimate)
        message = CompressedImage(format="jpeg", data=debug_picture.jpeg(picture))
        message.header.stamp = to_time(frames[0].stamp_ns)
        self._debug.publish(message)

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in (self._pose, self._pose_unchecked, self._debug):
            self._node.destroy_publisher(publisher)
        self.tf.close()
