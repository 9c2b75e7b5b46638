"""The verdicts of `health.py` as /diagnostics, once a second.

diagnostic_updater would bring its timer and its class for tasks, and no message that could not be made without it: the
same DiagnosticArray is published here in a ROS installation and with the wheels, which lack that package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import rclpy.clock
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from cross_view_loc.node.health import Verdict

PERIOD_S = 1.0


class Diagnostics:
    """Asks for the verdicts and publishes them; `hardware_id` is what people group by."""

    def __init__(self, node: Node, verdicts: Callable[[], Sequence[Verdict]], hardware_id: str) -> None:
        self._node, self._verdicts, self._hardware_id = node, verdicts, hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a steady clock: with use_sim_time and no /clock, this must still speak.
        steady = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)

    def publish(self) -> None:
        """One round."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        name = self._node.get_fully_qualified_name().lstrip("/")
        message.status = [
            DiagnosticStatus(
                level=bytes([verdict.level]),
                name=f"{name}: {verdict.name}",
                message=verdict.sentence,
                hardware_id=self._hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in verdict.values.items()],
            )
            for verdict in self._verdicts()
        ]
        self._publisher.publish(message)
