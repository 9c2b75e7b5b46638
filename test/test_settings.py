"""The table of parameters, the shipped parameter file and the localizer's own settings say the same."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from cross_view_loc.errors import InputError
from cross_view_loc.settings import PARAMETERS, Settings, parameter_file_text, parameter_named
from cross_view_loc.settings.contradictions import ignored_settings
from cross_view_loc.settings.parameter_file import read_parameter_file

SHIPPED_FILE = Path(__file__).parents[1] / "config" / "localizer.yaml"


def test_shipped_file_holds_every_parameter_with_its_default() -> None:
    shipped = read_parameter_file(SHIPPED_FILE)
    assert list(shipped) == [parameter.name for parameter in PARAMETERS]
    for parameter in PARAMETERS:
        value = shipped[parameter.name]
        assert (tuple(value) if isinstance(value, list) else value) == parameter.default, parameter.name
        # ROS refuses an integer where a double is declared.
        assert type(value) is (list if parameter.kind.endswith("_array") else type(parameter.default)), parameter.name


def test_shipped_file_has_the_tables_comments() -> None:
    """Written by parameter_file_text; regenerate it after a change of the table."""
    text = SHIPPED_FILE.read_text(encoding="utf-8")
    body = text[text.index("/**:") :]
    assert body == parameter_file_text()


def test_every_parameter_is_described_and_its_default_is_allowed() -> None:
    for parameter in PARAMETERS:
        assert len(parameter.description) > 20 and parameter.description.endswith("."), parameter.name
        assert parameter.checked(parameter.default) == parameter.default
        if parameter.kind == "double":
            assert parameter.minimum is not None and parameter.maximum is not None, parameter.name
            units = ("_m", "_s", "_deg", "_sigma", "_share", "_scale", "_hz")
            assert parameter.name.endswith(units) or parameter.name.startswith("min_"), parameter.name


def test_written_file_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        image_topic='/a"b\\c', map_origin=(49.0, 8.25, 110.5), tf_mode="map_to_odom", publish_debug=False, seed=7
    )
    path = tmp_path / "localizer.yaml"
    path.write_text(parameter_file_text(settings, header="a drive"), encoding="utf-8")
    assert Settings.from_yaml(path) == settings


def test_several_cameras_are_read_dotted_or_nested_and_written_back(tmp_path: Path) -> None:
    values = {"cameras": ["front", "left"], "front": {"image_topic": "/f", "camera_frame": "/front_optical"}}
    settings = Settings.from_mapping(values | {"left.calibration_file": "left.yaml"})
    front, left = settings.rig
    assert (front.name, front.image_topic, front.camera_info_topic) == ("front", "/f", "front/camera_info")
    assert (left.image_topic, left.calibration_file) == ("left/image_raw", "left.yaml")
    path = tmp_path / "rig.yaml"
    path.write_text(parameter_file_text(settings), encoding="utf-8")
    assert Settings.from_yaml(path) == settings
    assert dataclasses.replace(settings, search_radius_m=5.0).rig == settings.rig


def test_one_camera_is_made_of_the_parameters_without_a_name() -> None:
    settings = Settings(image_topic="/a", depth_topic="/d")
    assert [(camera.name, camera.image_topic, camera.depth_topic) for camera in settings.rig] == [
        ("camera", "/a", "/d")
    ]
    assert dataclasses.replace(settings, image_topic="/b").rig[0].image_topic == "/b"


def test_node_name_and_ros_own_parameters_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    content = {
        "/**": {"ros__parameters": {"seed": 1, "use_sim_time": True}},
        "localizer": {"ros__parameters": {"seed": 2, "search_radius_m": 15}},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    settings = Settings.from_yaml(path)
    assert settings.seed == 2
    assert settings.search_radius_m == 15.0 and isinstance(settings.search_radius_m, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"search_radius": 3.0}, "did you mean search_radius_m"),
        ({"search_radius_m": -3.0}, r"search_radius_m is -3.0; it must lie in \[1, 100\]"),
        ({"search_radius_m": float("nan")}, "search_radius_m is nan"),
        ({"search_radius_m": "wide"}, "must be of type double"),
        ({"tf_mode": "both"}, "choose one of none, map_to_odom"),
        ({"map_origin": [49.0, 8.0]}, "latitude_deg, longitude_deg, height_m"),
        ({"map_origin": [149.0, 8.0, 0.0]}, "latitude_deg, longitude_deg, height_m"),
        ({"map_origin": "here"}, "must be of type double_array"),
        ({"tf_mode": "child", "child_frame": ""}, "child_frame is empty"),
        ({"heading_source": "imu"}, "imu_topic is empty"),
        ({"heading_source": "odometry"}, "odometry_topic is empty"),
        ({"cameras": ["front", "front"]}, "cameras lists 'front' twice; give every camera a name of its own"),
        ({"cameras": ["front", "a.b"]}, "cameras lists 'a.b'"),
        ({"cameras": "front"}, "must be of type string_array"),
        ({"cameras": ["a", "b"], "a.image_topic": "/x", "b.image_topic": "/x"}, "a.image_topic and b.image_topic are"),
        ({"cameras": ["a"], "image_topic": "/x"}, "cameras and image_topic both say"),
        ({"cameras": ["a"], "a.image_tpic": "/x"}, "no parameter 'a.image_tpic'; a camera has image_topic, "),
        ({"cameras": ["a"], "b": {"image_topic": "/x"}}, "no parameter 'b.image_topic'; cameras names a"),
        ({"cameras": ["a"], "a": {"image_transport": "jpg"}}, "a.image_transport is 'jpg'; choose one of auto"),
        ({"cameras": ["a"], "a": {"camera_info_topic": ""}}, "a.camera_info_topic is empty"),
        ({"image_topic": ""}, "image_topic is empty"),
        ({"base_frame": "odom"}, "odom_frame and base_frame are both 'odom'"),
        ({"map_frame": "/base_link"}, "map_frame and base_frame are both 'base_link'"),
        ({"tf_mode": "child", "child_frame": "base_link"}, "base_frame and child_frame are both 'base_link'"),
        ({"odom_frame": ""}, "odom_frame is empty"),
        ({"seed": True}, "must be of type integer"),
    ],
)
def test_bad_value_is_refused_with_a_reason(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings.from_mapping(values)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not valid YAML"), ("seed: 3\n", "no ros__parameters"), (None, "cannot read")]
)
def test_unreadable_file_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Settings.from_yaml(path)


def test_thresholds_are_live_and_topics_frames_map_and_model_are_not() -> None:
    for name in ("search_radius_m", "min_confidence", "max_position_std_m", "max_frame_age_s"):
        assert not parameter_named(name).read_only
    for name in ("image_topic", "map_frame", "map_origin", "map_path", "depth", "device", "tf_mode"):
        assert parameter_named(name).read_only


def test_localizer_settings_are_parameters_with_the_same_defaults() -> None:
    localizer = pytest.importorskip("cross_view_loc.localizer")
    defaults = localizer.LocalizerSettings()
    assert Settings().localizer_settings() == defaults
    for row in dataclasses.fields(defaults):
        assert parameter_named(row.name).default == getattr(defaults, row.name)


def test_settings_that_do_nothing_beside_others_are_told():
    assert ignored_settings(Settings()) == [] and ignored_settings(Settings(estimator="guided")) == []
    assert ignored_settings(Settings(window_frames=8)) == []
    (window,) = ignored_settings(Settings(estimator="matches", window_frames=8))
    assert "window_frames is 8" in window and "estimator 'matches'" in window
    everything = Settings(loc2_weights="a.safetensors", window_frames=8, segmenter="hf:a/b", estimator="guided")
    words = [sentence.split()[1] for sentence in ignored_settings(everything)]
    assert words == ["window_frames", "segmenter", "estimator"]
