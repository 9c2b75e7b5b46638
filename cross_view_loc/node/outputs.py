"""What leaves the node for an estimate.

~/pose             geometry_msgs/PoseWithCovarianceStamped of base_frame in map_frame at the image's stamp:
                   accepted estimates only, in the order of their stamps
~/pose_unchecked   the same for every estimate, also those that were refused
/tf                by tf_mode, see `tf.py`
more               `estimate_outputs.py` (fix, odometry, status, latency), `debug_outputs.py` (what somebody looks at)
"""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node

from cross_view_loc.inputs.assembler import FrameAssembler
from cross_view_loc.node.conversions import pose_message
from cross_view_loc.node.debug_outputs import DebugOutputs
from cross_view_loc.node.estimate_outputs import EstimateOutputs
from cross_view_loc.node.tf import TransformOutput
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.status import state_after
from cross_view_loc.tracking.tracked import Located
from cross_view_loc.tracking.tracker import Tracker
from cross_view_loc.types import Estimate, Frame


class Outputs:
    """The node's publishers; of one session, whose frames and topics do not change."""

    def __init__(self, node: Node, assembler: FrameAssembler, settings: Settings) -> None:
        self._node = node
        self._pose = node.create_publisher(PoseWithCovarianceStamped, "~/pose", 10)
        self._pose_unchecked = node.create_publisher(PoseWithCovarianceStamped, "~/pose_unchecked", 10)
        self.more = EstimateOutputs(node, settings)
        self.debug = DebugOutputs(node, settings)
        self._assembler = assembler
        self.tf = TransformOutput(node, assembler, settings)

    def publish(self, estimate: Estimate, settings: Settings) -> None:
        """The estimate's pose, and when it is accepted its transform; InputError when that one must not leave."""
        message = pose_message(estimate, settings.map_frame)
        self._pose_unchecked.publish(message)
        if not estimate.accepted:
            return
        self._pose.publish(message)
        self.more.accepted(estimate, message, self._assembler.projection)
        self.tf.publish(estimate)

    def publish_status(
        self, tracker: Tracker | None, located: Located | None = None, latency_s: float | None = None, problem: str = ""
    ) -> None:
        """State, figures and latency, after an estimate or after the `problem` that there was none."""
        self.more.status(*state_after(tracker, located, problem), located, latency_s)

    def publish_debug(
        self,
        frames: Sequence[Frame],
        located: Located,
        settings: Settings,
        tracker: Tracker | None = None,
        latency_s: float | None = None,
    ) -> None:
        """What somebody looks at; after the pose, which must not wait for it."""
        if settings.publish_debug:
            self.debug.publish(frames, located, "" if tracker is None else tracker.state, latency_s)

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in (self._pose, self._pose_unchecked):
            self._node.destroy_publisher(publisher)
        self.more.close()
        self.debug.close()
        self.tf.close()
