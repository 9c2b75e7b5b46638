"""A recording to the localizer: `ros2 launch cross_view_loc replay.launch.py bag:=drive params_file:=car.yaml …`.

The bag is the clock: it is played with --clock, and every node takes its time from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("cross_view_loc"))

ARGUMENTS = (
    ("bag", None, "The recording: a rosbag2 folder or file."),
    ("params_file", str(SHARE / "config" / "localizer.yaml"), "The localizer's parameter file."),
    ("map_path", "", "Aerial imagery; empty = what params_file says."),
    ("rviz", "false", "Also open RViz."),
    ("fuse", "false", "Also run robot_localization (fusion.launch.py) on the poses."),
    ("local_ekf", "false", "With fuse: run ekf_local too; most recordings hold odom → base_link in /tf already."),
    ("rate", "1.0", "Pace of the recording."),
    ("wait_s", "10.0", "Play after this long, when the networks are loaded."),
    ("play_options", "", "Further words for `ros2 bag play`, such as '--start-offset 30'."),
    ("tf_mode", "map_to_odom", "Transform of the localizer without fuse; see localizer.yaml."),
    ("log_level", "info", "Of the localizer: debug, info, warn, error or fatal."),
)


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


def _actions(context: LaunchContext) -> list[Any]:
    argument = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    fuse = _truth(argument["fuse"])
    handed_on = {name: argument[name] for name in ("params_file", "map_path", "log_level")} | {"use_sim_time": "true"}
    handed_on |= {"local_ekf": argument["local_ekf"]} if fuse else {"tf_mode": argument["tf_mode"]}
    file = Path(__file__).with_name("fusion.launch.py" if fuse else "localizer.launch.py")
    play = ["ros2", "bag", "play", argument["bag"], "--clock", "--rate", argument["rate"]]
    actions: list[Any] = [
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments=list(handed_on.items())),
        TimerAction(
            period=float(argument["wait_s"]),
            actions=[ExecuteProcess(cmd=[*play, *argument["play_options"].split()], output="screen")],
        ),
    ]
    if _truth(argument["rviz"]):
        config = SHARE / "config" / "localizer.rviz"
        shown = ["-d", str(config)] if config.is_file() else []
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz2",
                arguments=shown,
                parameters=[{"use_sim_time": True}],
                output="screen",
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions)])
