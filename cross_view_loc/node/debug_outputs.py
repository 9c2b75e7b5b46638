"""What is made only while somebody looks: pictures, markers, the search and the map around the vehicle.

~/debug/compressed sensor_msgs/CompressedImage: match panel, 1280 px wide
~/markers          visualization_msgs/MarkerArray: camera footprint, inliers, residuals, 95 % ellipse
~/search           geometry_msgs/PolygonStamped: the square or disc that was searched
~/aerial_patch     sensor_msgs/Image, reliable and transient local: north-up map around the vehicle, in a frame of its
                   own. `aerial_patch_frame` has its origin at the picture's centre, x to the picture's right (east), y
                   to its top (north), z up; one pixel is PATCH_METERS_PER_PIXEL. TF map → aerial_patch_frame leaves
                   with each picture, with its stamp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PolygonStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from cross_view_loc.aerial.map import AerialMap
from cross_view_loc.aerial.patch import Patch
from cross_view_loc.errors import MapError
from cross_view_loc.geometry.transforms import transform
from cross_view_loc.matching.match_panel import Panel, draw, jpeg, panel_square
from cross_view_loc.node.conversions import to_time, transform_message
from cross_view_loc.node.debug_markers import markers, search_polygon
from cross_view_loc.settings import Settings
from cross_view_loc.tracking.tracked import Located
from cross_view_loc.types import Frame

PATCH_SIZE_PX, PATCH_METERS_PER_PIXEL, PATCH_STEP_M = 512, 0.25, 16.0


class DebugOutputs:
    """Publishers that cost nothing while nobody subscribes; used from the worker's thread."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self._node = node
        self._map_frame, self._patch_frame = settings.map_frame, settings.aerial_patch_frame
        self._aerial: AerialMap | None = None
        self._last_patch: tuple[float, float] | None = None
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._panel = node.create_publisher(CompressedImage, "~/debug/compressed", 1)
        self._markers = node.create_publisher(MarkerArray, "~/markers", 1)
        self._search = node.create_publisher(PolygonStamped, "~/search", 1)
        self._patch = node.create_publisher(Image, "~/aerial_patch", kept)
        self._tf = node.create_publisher(TFMessage, "/tf", 10)

    def use_map(self, aerial: AerialMap | None) -> None:
        """Take pictures of the ground from there; None where there is no map."""
        self._aerial, self._last_patch = aerial, None

    def publish(
        self, frames: Sequence[Frame], located: Located, state: str = "", latency_s: float | None = None
    ) -> None:
        """Whatever somebody subscribes to."""
        estimate = located.estimate
        if self._panel.get_subscription_count():
            panel = Panel(frames[0], estimate, located.search, self._panel_patch(located), state, latency_s)
            message = CompressedImage(format="jpeg", data=jpeg(draw(panel)))
            message.header.stamp, message.header.frame_id = to_time(estimate.stamp_ns), frames[0].name
            self._panel.publish(message)
        if self._markers.get_subscription_count():
            self._markers.publish(markers(frames, estimate, self._map_frame))
        if self._search.get_subscription_count():
            self._search.publish(search_polygon(located.search, self._map_frame))
        if self._patch.get_subscription_count():
            self._publish_patch(located)
        else:
            self._last_patch = None

    def close(self) -> None:
        """Take the publishers down."""
        for publisher in (self._panel, self._markers, self._search, self._patch, self._tf):
            self._node.destroy_publisher(publisher)

    def _panel_patch(self, located: Located) -> Patch | None:
        return self._cut(*panel_square(located.estimate, located.search))

    def _publish_patch(self, located: Located) -> None:
        place = (
            round(located.estimate.east_m / PATCH_STEP_M) * PATCH_STEP_M,
            round(located.estimate.north_m / PATCH_STEP_M) * PATCH_STEP_M,
        )
        if place == self._last_patch:
            return
        patch = self._cut(*place, PATCH_SIZE_PX, PATCH_METERS_PER_PIXEL, np.pi / 2)
        if patch is None:
            return
        self._last_patch = place
        stamp = located.estimate.stamp_ns
        message = Image(
            height=patch.size_px, width=patch.size_px, encoding="rgb8", step=3 * patch.size_px,
            data=np.ascontiguousarray(patch.image).tobytes(),
        )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_time(stamp), self._patch_frame
        T_map_patch = transform(np.eye(3), (*place, 0.0))
        self._tf.publish(
            TFMessage(transforms=[transform_message(T_map_patch, self._map_frame, self._patch_frame, stamp)])
        )
        self._patch.publish(message)

    def _cut(self, east_m: float, north_m: float, size_px: int, gsd_m: float, rotation_rad: float) -> Patch | None:
        if self._aerial is None:
            return None
        try:
            return self._aerial.patch(east_m, north_m, size_px, gsd_m, rotation_rad)
        except MapError:
            return None  # the estimate's own diagnostics say what is wrong with the map
