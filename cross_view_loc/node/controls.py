"""What people and other nodes may ask of a configured node.

~/enable      std_srvs/SetBool: false leaves images alone until true; everything else is still listened to
~/reset       std_srvs/Trigger: forget where the vehicle was, as at the start
~/relocalize  std_srvs/Trigger: forget it and search widely, in all headings
~/set_origin  std_srvs/Trigger: count the map's metres from the parameter `new_origin`, or when that is empty from
              the newest fix. No standard service carries a place on Earth, so a parameter carries it
~/prefetch    std_srvs/Trigger: fetch the tiles of an online map around the present place in the background
initialpose   geometry_msgs/PoseWithCovarianceStamped in map_frame: the vehicle is there (RViz's "2D Pose
              Estimate"); searched there, and only there, until estimates agree
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from cross_view_loc.errors import CrossViewError
from cross_view_loc.node import requests
from cross_view_loc.node.pipeline import Pipeline
from cross_view_loc.node.start import MapFile


class Controls:
    """The services and `initialpose` of one pipeline, until `close`. A refusal is `success` false with the reason."""

    def __init__(self, node: Node, pipeline: Pipeline, map_file: MapFile) -> None:
        self._node, self._pipeline = node, pipeline
        asked: dict[str, Callable[[], str]] = {
            "reset": pipeline.reset,
            "relocalize": partial(requests.relocalize, pipeline),
            "set_origin": partial(requests.set_origin, pipeline, map_file),
            "prefetch": partial(requests.prefetch, pipeline, map_file),
        }
        self._services = [
            node.create_service(Trigger, f"~/{name}", partial(self._answer, name, do)) for name, do in asked.items()
        ]
        self._services.append(node.create_service(SetBool, "~/enable", self._enable))
        self._initial_pose = node.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, 5
        )

    def close(self) -> None:
        """Take them down."""
        for service in self._services:
            self._node.destroy_service(service)
        self._node.destroy_subscription(self._initial_pose)

    def _answer(self, name: str, do: Callable[[], str], request: Any, response: Any) -> Any:
        try:
            response.message = do()
        except CrossViewError as error:
            response.success, response.message = False, str(error)
        else:
            response.success = True
        self._node.get_logger().info(f"~/{name}: {response.message}")
        return response

    def _enable(self, request: Any, response: Any) -> Any:
        return self._answer("enable", partial(self._pipeline.enable, bool(request.data)), request, response)

    def _on_initial_pose(self, message: Any) -> None:
        try:
            said = requests.take_initial_pose(self._pipeline, message)
        except CrossViewError as error:
            self._pipeline.refuse_input("initialpose", f"initialpose: {error}")
        else:
            self._node.get_logger().info(f"initialpose: {said}")
