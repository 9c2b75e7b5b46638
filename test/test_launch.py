"""The launch file, held to the package without `launch`, which exists only in ROS installations."""

import ast
import sys
import types
from pathlib import Path
from typing import Any

import pytest

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


def test_only_launch_and_the_standard_library_are_imported() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    imported = {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported <= {"__future__", "pathlib", "ament_index_python", "launch", "launch_ros"}


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
