"""All launch files under the real launch and launch_ros: they import, declare, resolve and say which nodes they start.

Runs where launch and launch_ros are (a ROS installation, or their public sources on PYTHONPATH).
"""

import math
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from cross_view_loc.settings import Settings, parameter_file_text

launch = pytest.importorskip("launch", reason="needs launch and launch_ros, which a ROS installation has")
launch_ros_actions = pytest.importorskip("launch_ros.actions", reason="needs launch_ros")
sources = pytest.importorskip("launch.launch_description_sources")
perform_substitutions = pytest.importorskip("launch.utilities").perform_substitutions
actions_ = launch.actions
ExecuteProcess, LogInfo = actions_.ExecuteProcess, actions_.LogInfo
TimerAction, RegisterEventHandler = actions_.TimerAction, actions_.RegisterEventHandler

ROOT = Path(__file__).parents[1]
ORIGIN = (49.0, 8.4, 110.0)


@pytest.fixture(autouse=True)
def share(monkeypatch):
    """The checkout stands in for the installed package's share folder."""
    import ament_index_python.packages as packages

    monkeypatch.setattr(packages, "get_package_share_directory", lambda name: str(ROOT))


class TuplesToo(yaml.SafeLoader):
    """launch_ros writes lists as YAML with Python's tag for tuples, which the ROS parser skips."""


TuplesToo.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node))


def expand(entities: list[Any], context: Any) -> list[Any]:
    """What the entities lead to, includes and functions followed; nothing is started."""
    found: list[Any] = []
    for entity in entities:
        if isinstance(entity, (ExecuteProcess, LogInfo, TimerAction, RegisterEventHandler)):
            found.append(entity)  # a Node is an ExecuteProcess
        else:
            found += expand(list(entity.visit(context) or []), context)
    return found


def start(file: str, **arguments: str) -> tuple[list[Any], Any]:
    """The actions of a launch file with these arguments, and their context."""
    context = launch.LaunchContext()
    include = actions_.IncludeLaunchDescription(
        sources.PythonLaunchDescriptionSource(str(ROOT / "launch" / file)), launch_arguments=list(arguments.items())
    )
    return expand([include], context), context


def nodes(actions: list[Any], context: Any) -> dict[str, types.SimpleNamespace]:
    """Nodes by name: executable, package, remaps, and the parameters that the process would be given."""
    found = {}
    for action in actions:
        if not isinstance(action, launch_ros_actions.Node):
            continue
        action._perform_substitutions(context)
        parameters: dict[str, Any] = {}
        for path, is_file in action._Node__expanded_parameter_arguments:
            assert is_file
            for key, block in yaml.load(Path(path).read_text(), TuplesToo).items():
                if key in ("/**", f"/**/{action.node_name.split('/')[-1]}", action.node_name):
                    parameters |= block["ros__parameters"]
        name = action.node_name.split("/")[-1]
        remaps = dict(action.expanded_remapping_rules or [])
        found[name] = types.SimpleNamespace(
            full=action.node_name, package=action.node_package, parameters=parameters, remaps=remaps
        )
    return found


@pytest.fixture
def car(tmp_path) -> str:
    """A parameter file of a vehicle with names of its own."""
    settings = Settings(
        odometry_topic="/wheels",
        imu_topic="/imu",
        fix_topic="/gnss",
        odom_frame="odom_car",
        base_frame="car",
        tf_mode="map_to_odom",
        map_origin=ORIGIN,
        map_projection="utm",
    )
    path = tmp_path / "car.yaml"
    path.write_text(parameter_file_text(settings))
    return str(path)


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "launch").glob("*.launch.py")))
def test_every_file_imports_and_describes_its_arguments(file):
    description = sources.PythonLaunchDescriptionSource(str(ROOT / "launch" / file)).get_launch_description(
        launch.LaunchContext()
    )
    arguments = description.get_launch_arguments()
    assert arguments
    assert all(argument.description.endswith(".") for argument in arguments)


def test_localizer(car):
    found = nodes(*start("localizer.launch.py", params_file=car, map_path="/a.mbtiles", namespace="front"))
    localizer = found["localizer"]
    assert localizer.full == "/front/localizer"
    assert localizer.parameters["map_path"] == "/a.mbtiles"
    assert (localizer.parameters["use_sim_time"], localizer.parameters["tf_mode"]) == (False, "map_to_odom")


def test_fusion_has_one_owner_of_each_transform_and_one_set_of_names(car):
    found = nodes(*start("fusion.launch.py", params_file=car, use_sim_time="true"))
    assert set(found) == {"localizer", "ekf_local", "ekf_global"}
    local, world = found["ekf_local"].parameters, found["ekf_global"].parameters
    assert found["localizer"].parameters["tf_mode"] == "none"
    assert (local["world_frame"], world["world_frame"]) == ("odom_car", "map")
    for filter_parameters in (local, world):
        assert filter_parameters["odom0"] == "/wheels"
        assert (filter_parameters["odom_frame"], filter_parameters["base_link_frame"]) == ("odom_car", "car")
    assert local["imu0"] == "/imu"
    assert "pose0" not in local
    assert (world["pose0"], world["pose0_rejection_threshold"]) == ("localizer/pose", 4.0)
    assert "initial_state" not in world and "odom1" not in world
    assert found["ekf_local"].remaps == {"odometry/filtered": "odometry/filtered/local"}
    assert found["ekf_global"].remaps == {"odometry/filtered": "odometry/filtered/global"}
    assert all(node.parameters["use_sim_time"] is True for node in found.values())


def test_fusion_with_gnss_has_one_origin(car):
    found = nodes(*start("fusion.launch.py", params_file=car, navsat="true", local_ekf="false", namespace="car"))
    assert set(found) == {"localizer", "navsat_transform", "ekf_global"}
    navsat = found["navsat_transform"]
    assert navsat.parameters["datum"] == [ORIGIN[0], ORIGIN[1], 0.0]
    assert navsat.parameters["wait_for_datum"] is True
    assert navsat.remaps == {"gps/fix": "/gnss", "odometry/filtered": "odometry/filtered/global"}
    assert found["ekf_global"].parameters["odom1"] == "odometry/gps"
    assert found["ekf_global"].parameters["pose0"] == "localizer/pose"
    assert {node.full for node in found.values()} == {"/car/localizer", "/car/navsat_transform", "/car/ekf_global"}


def test_fusion_says_what_does_not_fit(car, tmp_path):
    plain = tmp_path / "plain.yaml"
    plain.write_text(parameter_file_text(Settings()))
    with pytest.raises(RuntimeError, match="has no map_origin"):
        start("fusion.launch.py", params_file=str(plain), navsat="true")
    plain.write_text(parameter_file_text(Settings(map_origin=ORIGIN)))
    actions, _ = start("fusion.launch.py", params_file=str(plain), navsat="true")
    assert sum(isinstance(action, LogInfo) for action in actions) == 1
    with pytest.raises(RuntimeError, match="x y yaw_deg"):
        start("fusion.launch.py", params_file=car, initial_pose="here")


def test_initial_pose_becomes_the_filters_state(car):
    found = nodes(*start("fusion.launch.py", params_file=car, initial_pose="100 -20.5 90"))
    state = found["ekf_global"].parameters["initial_state"]
    assert len(state) == 15
    assert state[:3] == [100.0, -20.5, 0.0] and state[5] == pytest.approx(math.pi / 2)
    assert not any(state[6:])


@pytest.mark.parametrize("fuse", ["false", "true"])
def test_replay_plays_with_its_clock_and_everybody_listens_to_it(car, fuse):
    actions, context = start("replay.launch.py", bag="/drive", params_file=car, fuse=fuse, rviz="true", rate="0.5")
    found = nodes(actions, context)
    assert set(found) == {"localizer", "rviz2"} | ({"ekf_global"} if fuse == "true" else set())
    assert all(node.parameters["use_sim_time"] is True for node in found.values())
    assert found["localizer"].parameters["tf_mode"] == ("none" if fuse == "true" else "map_to_odom")
    (timer,) = [action for action in actions if isinstance(action, TimerAction)]
    (play,) = timer.actions
    words = [perform_substitutions(context, word) for word in play.cmd]
    assert words == ["ros2", "bag", "play", "/drive", "--clock", "--rate", "0.5"]


def test_demo_simulates_once_then_replays(tmp_path, monkeypatch):
    actions, context = start("demo.launch.py", out=str(tmp_path / "d"), seed="9001")
    simulate = next(action for action in actions if isinstance(action, ExecuteProcess))
    words = [perform_substitutions(context, word) for word in simulate.cmd]
    assert words[:5] == ["ros2", "run", "cross_view_loc", "cross_view_loc", "simulate"]
    assert words[words.index("--seed") + 1] == "9001"
    assert any(isinstance(action, RegisterEventHandler) for action in actions)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "localizer.yaml").write_text(parameter_file_text(Settings(map_origin=ORIGIN)))
    again = nodes(*start("demo.launch.py", out=str(tmp_path / "d")))
    assert again["localizer"].parameters["map_path"] == str(tmp_path / "d" / "map.mbtiles")
