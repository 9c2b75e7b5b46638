"""Starts the node: `ros2 launch cross_view_loc localizer.launch.py params_file:=car.yaml map_path:=area.mbtiles`."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("cross_view_loc"))

OVERRIDES = (
    ("map_path", "Aerial imagery (.mbtiles, .tif, a source's .yaml); empty = what params_file says."),
    ("tf_mode", "none, map_to_odom, map_to_base or child; empty = what params_file says."),
)
"""Parameters that an argument replaces when it is given."""

ARGUMENTS = (
    ("params_file", str(SHARE / "config" / "localizer.yaml"), "Parameter file; this package's holds every parameter."),
    *((name, "", text) for name, text in OVERRIDES),
    ("use_sim_time", "false", "Take the time from /clock."),
    ("namespace", "", "Namespace of the node and of its relative topics."),
    ("log_level", "info", "debug, info, warn, error or fatal."),
)


def _localizer(context: LaunchContext) -> list[Node]:
    argument = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    overrides: dict[str, str | bool] = {"use_sim_time": argument["use_sim_time"].lower() in ("true", "1", "yes")}
    # Handed on only when given, so that an empty default never beats the file.
    overrides |= {name: argument[name] for name, _ in OVERRIDES if argument[name]}
    return [
        Node(
            package="cross_view_loc",
            executable="localizer",
            name="localizer",
            namespace=argument["namespace"],
            parameters=[ParameterFile(argument["params_file"]), overrides],
            arguments=["--ros-args", "--log-level", argument["log_level"]],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_localizer)])
