"""Entry of the `localizer` executable: one sentence when something is missing, status 0 on SIGINT and SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from cross_view_loc.errors import CrossViewError


def main(arguments: Sequence[str] | None = None, **node_arguments: Any) -> int:
    """Run the node until it is stopped; 0 when it was asked to stop, 1 when it could not start.

    `node_arguments` go to `LocalizerNode`.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return _run(arguments, node_arguments)
    except KeyboardInterrupt:  # also while the modules are still being imported, which takes seconds
        return 0


def _run(arguments: Sequence[str] | None, node_arguments: dict[str, Any]) -> int:
    missing = _missing_ros()
    if missing:
        print(f"localizer: {missing}", file=sys.stderr)
        return 1
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from cross_view_loc.node.localizer_node import LocalizerNode

    try:
        rclpy.init(args=None if arguments is None else list(arguments))
    except RuntimeError as error:  # rcl has said what on its log: a parameter file that is missing or no YAML, mostly
        print(
            f"localizer: the ROS arguments cannot be used ({error}); check the path and the text of --params-file",
            file=sys.stderr,
        )
        return 1
    node = None
    try:
        node = LocalizerNode(**node_arguments)
        if node.autostart and not node.bring_up():
            if not rclpy.ok():
                return 0  # asked to stop while it was loading
            print(f"localizer: {node.refusal}", file=sys.stderr)
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except CrossViewError as error:
        print(f"localizer: {error}", file=sys.stderr)
        return 1
    except Exception:
        # A signal during start-up shuts the context down under the constructor's feet.
        if rclpy.ok():
            raise
        return 0
    finally:
        if node is not None:
            node.close()
        rclpy.try_shutdown()
    return 0


def _missing_ros() -> str:
    """Why ROS cannot be used here; empty when it can."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        return f"rclpy is missing ({error}); source a ROS 2 installation or run `pip install cross_view_loc[ros]`"
    try:
        import tf2_msgs.msg  # noqa: F401
    except ImportError as error:
        return (
            f"tf2_msgs is missing ({error}); install ros-jazzy-tf2-msgs beside your ROS installation, or, with the "
            "ROS wheels, run `pip install --no-build-isolation ./resource/tf2_msgs` in this package's source"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
