"""A drive through a procedural town, replayed to the localizer: `ros2 launch cross_view_loc demo.launch.py rviz:=true`.

Needs the simulation's packages: `pip install warp-lang scipy shapely networkx mapbox-earcut`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription

ARGUMENTS = (
    ("seed", "9000", "Town and drive; 9000-9999 are unseen by the weights."),
    ("duration", "60", "Seconds of driving."),
    ("out", "demo_drive", "Folder for the drive; one that is there already is played again."),
    ("rviz", "false", "Also open RViz."),
    ("fuse", "false", "Also run robot_localization on the poses."),
)


def _actions(context: LaunchContext) -> list[Any]:
    argument = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    drive = Path(argument["out"]).expanduser().resolve()
    handed_on = {
        "bag": str(drive / "bag"),
        "params_file": str(drive / "localizer.yaml"),
        "map_path": str(drive / "map.mbtiles"),
        "rviz": argument["rviz"],
        "fuse": argument["fuse"],
    }
    replay = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("replay.launch.py"))),
        launch_arguments=list(handed_on.items()),
    )
    if (drive / "localizer.yaml").is_file():
        return [replay]
    words = ["simulate", "--seed", argument["seed"], "--duration", argument["duration"], "--out", str(drive)]
    simulate = ExecuteProcess(cmd=["ros2", "run", "cross_view_loc", "cross_view_loc", *words], output="screen")

    def after(event: Any, context: LaunchContext) -> list[Any]:
        return [replay] if event.returncode == 0 else [Shutdown(reason="the drive could not be simulated")]

    return [simulate, RegisterEventHandler(OnProcessExit(target_action=simulate, on_exit=after))]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions)])
