"""Localizer and robot_localization: `ros2 launch cross_view_loc fusion.launch.py params_file:=car.yaml map_path:=…`.

    ekf_local    odometry and gyro       → odometry/filtered/local,  TF odom → base_link
    ekf_global   odometry and our poses  → odometry/filtered/global, TF map → odom
    navsat_transform (navsat:=true)      GNSS as a further input of ekf_global, about the localizer's own map_origin

Topics and frames come from the localizer's parameter file, so that they are written down once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile

from cross_view_loc.settings import Settings
from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("cross_view_loc"))

ARGUMENTS = (
    ("params_file", str(SHARE / "config" / "localizer.yaml"), "The localizer's parameter file."),
    ("map_path", "", "Aerial imagery; empty = what params_file says."),
    ("local_params_file", str(SHARE / "config" / "ekf_local.yaml"), "Parameters of ekf_local."),
    ("global_params_file", str(SHARE / "config" / "ekf_global.yaml"), "Parameters of ekf_global."),
    ("navsat_params_file", str(SHARE / "config" / "navsat.yaml"), "Parameters that navsat:=true adds."),
    ("local_ekf", "true", "Run ekf_local; false when the vehicle's odometry sends odom → base_link itself."),
    ("navsat", "false", "Also fuse GNSS; needs map_origin in params_file, and map_projection utm there."),
    ("odometry_topic", "", "nav_msgs/Odometry with velocities; empty = odometry_topic of params_file, else odometry."),
    ("imu_topic", "", "sensor_msgs/Imu with a yaw rate; empty = imu_topic of params_file, else imu/data."),
    ("initial_pose", "", "'x y yaw_deg' in the map to start from; empty = wherever the first pose is."),
    ("use_sim_time", "false", "Take the time from /clock."),
    ("namespace", "", "Namespace of all nodes and of their relative topics."),
    ("log_level", "info", "Of the localizer: debug, info, warn, error or fatal."),
)
HANDED_ON = ("params_file", "map_path", "use_sim_time", "namespace", "log_level")


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


def _initial_state(text: str) -> dict[str, list[float]]:
    """The filter's 15 values from 'x y yaw_deg'."""
    if not text.strip():
        return {}
    try:
        x, y, yaw_deg = (float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise RuntimeError(f"initial_pose is '{text}'; give 'x y yaw_deg', metres and degrees in the map") from None
    return {"initial_state": [x, y, 0.0, 0.0, 0.0, math.radians(yaw_deg), *[0.0] * 9]}


def _nodes(context: LaunchContext) -> list[Any]:
    argument = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    settings = Settings.from_yaml(argument["params_file"])
    odometry = argument["odometry_topic"] or settings.odometry_topic or "odometry"
    common: dict[str, Any] = {
        "use_sim_time": _truth(argument["use_sim_time"]),
        "map_frame": settings.map_frame,
        "odom_frame": settings.odom_frame,
        "base_link_frame": settings.base_frame,
        "odom0": odometry,
    }

    def node(executable: str, name: str, parameters: list[Any], remaps: dict[str, str]) -> Node:
        return Node(
            package="robot_localization",
            executable=executable,
            name=name,
            namespace=argument["namespace"],
            parameters=parameters,
            remappings=list(remaps.items()),
            output="screen",
        )

    localizer = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("localizer.launch.py"))),
        # The filter owns map → odom: two publishers would fight over it.
        launch_arguments=[*((name, argument[name]) for name in HANDED_ON), ("tf_mode", "none")],
    )
    global_parameters = [
        ParameterFile(argument["global_params_file"]),
        {**common, "world_frame": settings.map_frame, "pose0": "localizer/pose"},
    ]
    global_parameters[-1] |= _initial_state(argument["initial_pose"])
    nodes: list[Any] = [localizer]
    if _truth(argument["local_ekf"]):
        imu = argument["imu_topic"] or settings.imu_topic or "imu/data"
        local = {**common, "world_frame": settings.odom_frame, "imu0": imu}
        parameters = [ParameterFile(argument["local_params_file"]), local]
        nodes.append(node("ekf_node", "ekf_local", parameters, {"odometry/filtered": "odometry/filtered/local"}))
    if _truth(argument["navsat"]):
        if not settings.map_origin:
            raise RuntimeError(
                f"navsat:=true needs one origin for both, and {argument['params_file']} has no map_origin; set it to "
                "[latitude_deg, longitude_deg, height_m]"
            )
        if settings.map_projection != "utm":
            nodes.append(LogInfo(msg="navsat_transform works in UTM: set map_projection: utm in params_file"))
        navsat = ParameterFile(argument["navsat_params_file"])
        global_parameters.insert(1, navsat)
        datum = {"use_sim_time": common["use_sim_time"], "datum": [*settings.map_origin[:2], 0.0]}
        remaps = {"gps/fix": settings.fix_topic, "odometry/filtered": "odometry/filtered/global"}
        nodes.append(node("navsat_transform_node", "navsat_transform", [navsat, datum], remaps))
    remaps = {"odometry/filtered": "odometry/filtered/global"}
    nodes.append(node("ekf_node", "ekf_global", global_parameters, remaps))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])
