"""The launch file, held to the package without `launch`, which exists only in ROS installations."""

import ast
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[1] / "launch" / "localizer.launch.py"


class Recorded:
    """Keeps what it was made of, in place of launch's classes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.named = arguments, named


class Configuration(Recorded):
    """launch.substitutions.LaunchConfiguration"""

    def perform(self, context: dict[str, str]) -> str:
        return context[self.arguments[0]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The launch file's names, run with recording stand-ins for launch and launch_ros."""
    contents: dict[str, dict[str, Any]] = {
        "ament_index_python": {},
        "ament_index_python.packages": {"get_package_share_directory": lambda name: str(FILE.parents[1])},
        "launch": {"LaunchContext": dict, "LaunchDescription": Recorded},
        "launch.actions": {"DeclareLaunchArgument": Recorded, "OpaqueFunction": Recorded},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Recorded},
        "launch_ros.parameter_descriptions": {"ParameterFile": Recorded},
    }
    for name, members in contents.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {"__name__": "localizer_launch"}
    exec(compile(FILE.read_text(encoding="utf-8"), str(FILE), "exec"), names)
    return names


FILES = sorted(FILE.parent.glob("*.launch.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_launch_settings_and_the_standard_library_are_imported(file: Path) -> None:
    """A launch file that needs torch or rclpy would take seconds to say what its arguments are."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name for name in ours if name.startswith("cross_view_loc")} <= {"cross_view_loc.settings"}
    standard = {"__future__", "math", "pathlib", "typing"}
    assert imported <= {*standard, "ament_index_python", "cross_view_loc", "launch", "launch_ros"}


def test_node_gets_file_and_overrides(launch_file: dict[str, Any]) -> None:
    description = launch_file["generate_launch_description"]()
    *declared, function = description.arguments[0]
    context = {each.arguments[0]: each.named["default_value"] for each in declared}
    assert Path(context["params_file"]).is_file()
    (node,) = function.named["function"](context)
    assert (node.named["package"], node.named["executable"]) == ("cross_view_loc", "localizer")
    assert node.named["parameters"][1] == {"use_sim_time": False}
    context |= {"map_path": "/area.mbtiles", "use_sim_time": "True", "namespace": "car", "log_level": "debug"}
    (node,) = function.named["function"](context)
    assert node.named["parameters"][1] == {"use_sim_time": True, "map_path": "/area.mbtiles"}
    assert node.named["namespace"] == "car"
    assert node.named["arguments"] == ["--ros-args", "--log-level", "debug"]


KNOWN = {
    "ekf": {
        "frequency", "sensor_timeout", "two_d_mode", "publish_tf", "map_frame", "odom_frame", "base_link_frame",
        "world_frame", "smooth_lagged_data", "history_length", "process_noise_covariance",
        "initial_estimate_covariance",
    },
    "sensor": {"", "_config", "_differential", "_relative", "_queue_size"},
    "navsat": {
        "frequency", "delay", "wait_for_datum", "magnetic_declination_radians", "yaw_offset", "use_odometry_yaw",
        "zero_altitude", "publish_filtered_gps", "broadcast_cartesian_transform", "use_local_cartesian",
    },
}  # fmt: skip
"""Names that robot_localization declares; another name would be ignored without a word."""
REJECTION = {"odom": "_pose_rejection_threshold", "pose": "_rejection_threshold", "imu": "_pose_rejection_threshold"}


def blocks(name: str) -> dict[str, dict[str, Any]]:
    """The parameters of each node in a file of config/."""
    content = yaml.safe_load((FILE.parents[1] / "config" / name).read_text(encoding="utf-8"))
    return {node: block["ros__parameters"] for node, block in content.items()}


def check_filter(parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        sensor = next(
            (kind for kind in ("odom", "pose", "imu") if name[: len(kind) + 1] in (f"{kind}0", f"{kind}1")), ""
        )
        if not sensor:
            assert name in KNOWN["ekf"], name
            continue
        suffix = name[len(sensor) + 1 :]
        assert suffix in KNOWN["sensor"] | {REJECTION[sensor]}, name
        if suffix == "_config":
            assert len(value) == 15 and all(isinstance(item, bool) for item in value)
        if suffix.endswith("threshold"):
            assert isinstance(value, float)  # an integer is of the wrong type, and the node ends
    for name in ("process_noise_covariance", "initial_estimate_covariance"):
        if name in parameters:
            assert len(parameters[name]) == 15 and all(isinstance(item, float) for item in parameters[name])


def test_filters_are_configured_by_names_that_exist_and_right_types() -> None:
    (local,), (world,) = (list(blocks(f"ekf_{name}.yaml").values()) for name in ("local", "global"))
    check_filter(local)
    check_filter(world)
    assert local["world_frame"] == local["odom_frame"] != world["world_frame"] == world["map_frame"]
    assert not any(key.startswith("pose") for key in local)
    x, y, yaw = (world["pose0_config"][index] for index in (0, 1, 5))
    assert x and y and yaw and sum(world["pose0_config"]) == 3
    assert world["smooth_lagged_data"] and world["history_length"] >= 1.0
    # A first pose ten kilometres and half a turn from zero is within the gate.
    std = [world["initial_estimate_covariance"][index] ** 0.5 for index in (0, 1, 5)]
    assert (10e3 / std[0]) ** 2 + (10e3 / std[1]) ** 2 + (3.1416 / std[2]) ** 2 < world[
        "pose0_rejection_threshold"
    ] ** 2


def test_navsat_adds_to_the_global_filter_and_turns_nothing() -> None:
    navsat, added = blocks("navsat.yaml").values()
    assert set(navsat) <= KNOWN["navsat"]
    assert navsat["wait_for_datum"] and navsat["magnetic_declination_radians"] == navsat["yaw_offset"] == 0.0
    check_filter(added)
    assert set(added).isdisjoint(*blocks("ekf_global.yaml").values())
