"""Topics that a parameter file leaves open are guessed from the bag, and all of them are told."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from bag_helpers import drive, with_rear_camera, write_bag2, write_map

from cross_view_loc.bags.reader import Bag
from cross_view_loc.bags.runner import choose_topics
from cross_view_loc.bags.topics import topics_text
from cross_view_loc.cli import main
from cross_view_loc.errors import MissingInputError
from cross_view_loc.settings import Settings, parameter_file_text

ALL = {"image": "/cam/image", "camera_info": "/cam/camera_info", "fix": "/gps/fix", "odometry": "/odom",
       "imu": "/imu/data"}  # fmt: skip


@pytest.fixture(scope="module")
def bag_path(tmp_path_factory) -> Path:
    return write_bag2(tmp_path_factory.mktemp("bags") / "drive", drive())


@pytest.fixture(scope="module")
def two_path(tmp_path_factory) -> Path:
    return write_bag2(tmp_path_factory.mktemp("bags") / "two", with_rear_camera(drive()))


def configured(folder: Path, *lines: str) -> Settings:
    path = folder / "car.yaml"
    path.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {line}\n" for line in lines))
    return Settings.from_yaml(path)


def chosen(bag_path: Path, settings: Settings | None):
    with Bag(bag_path) as bag:
        topics = choose_topics(bag, settings)
    return {part: getattr(topics, part) for part in ALL}, topics


def test_what_a_small_file_leaves_open_is_guessed(bag_path, tmp_path):
    names, topics = chosen(bag_path, configured(tmp_path, "search_radius_m: 15.0"))
    assert names == ALL
    assert set(topics.origins.values()) == {"guessed"}
    assert topics.rig[0].image_topic == "/cam/image"


def test_a_file_with_some_topics_keeps_odometry_and_imu(bag_path, tmp_path):
    lines = ("image_topic: cam/image", "camera_info_topic: /cam/camera_info", "fix_topic: /gps/fix")
    names, topics = chosen(bag_path, configured(tmp_path, *lines))
    assert names == ALL
    assert topics.origins == {"image": "file", "camera_info": "file", "fix": "file", "odometry": "guessed",
                              "imu": "guessed"}  # fmt: skip
    text = topics_text(dataclasses.asdict(topics))
    assert "/odom  (guessed)" in text and "/cam/image  (file)" in text
    assert "unused" not in text


def test_an_empty_name_in_the_file_means_none(bag_path, tmp_path):
    names, topics = chosen(bag_path, configured(tmp_path, 'imu_topic: ""', 'odometry_topic: ""'))
    assert names == ALL | {"imu": "", "odometry": ""}
    assert topics.unused == ("/imu/data", "/odom")
    text = topics_text(dataclasses.asdict(topics))
    assert "(file: none)" in text and "in the bag, unused: /imu/data, /odom" in text


def test_the_default_file_copied_whole_does_not_stop_the_guess(bag_path, tmp_path):
    shutil.copy(Path(__file__).parents[1] / "config/localizer.yaml", tmp_path / "car.yaml")
    names, topics = chosen(bag_path, Settings.from_yaml(tmp_path / "car.yaml"))
    assert names == ALL | {"imu": "", "odometry": ""}  # it says that there are none
    assert topics.origins["image"] == "guessed: the default camera/image_raw is not in the bag"


def test_a_name_that_is_not_in_the_bag_is_still_refused(bag_path, tmp_path):
    with pytest.raises(MissingInputError, match="fix_topic is /gps/fxi"):
        chosen(bag_path, configured(tmp_path, "fix_topic: /gps/fxi"))
    with pytest.raises(MissingInputError, match="image_topic is camera/image_raw"):
        chosen(bag_path, Settings())  # of no file: all are meant


def test_the_camera_info_is_that_of_the_named_image(two_path, tmp_path):
    names, topics = chosen(two_path, configured(tmp_path, "image_topic: rear/image"))
    assert (names["image"], names["camera_info"]) == ("/rear/image", "/rear/camera_info")
    assert topics.unused == ("/cam/camera_info", "/cam/image")


def test_of_named_cameras_only_the_rest_is_guessed(two_path, tmp_path):
    lines = ("cameras: [front, rear]", "front.image_topic: /cam/image", "front.camera_info_topic: /cam/camera_info",
             "rear.image_topic: /rear/image", "rear.camera_info_topic: /rear/camera_info")  # fmt: skip
    names, topics = chosen(two_path, configured(tmp_path, *lines))
    assert names == ALL
    assert topics.origins["fix"] == "guessed" and not topics.unused
    assert "rear         /rear/image, /rear/camera_info" in topics_text(dataclasses.asdict(topics))


def test_a_name_by_default_that_the_bag_has_is_taken(tmp_path, monkeypatch):
    items = [("/gnss/fix" if topic == "/gps/fix" else topic, *rest) for topic, *rest in drive()]
    import bag_helpers

    monkeypatch.setitem(bag_helpers.TYPES, "/gnss/fix", bag_helpers.TYPES["/gps/fix"])
    names, topics = chosen(write_bag2(tmp_path / "bag", items), configured(tmp_path, "search_radius_m: 15.0"))
    assert (names["fix"], topics.origins["fix"]) == ("/gnss/fix", "default")


def test_without_camera_info_the_parameter_for_a_file_is_named(tmp_path, capsys):
    bag = write_bag2(tmp_path / "bag", [item for item in drive() if item[0] != "/cam/camera_info"])
    for settings in (None, configured(tmp_path, "search_radius_m: 15.0")):
        with pytest.raises(MissingInputError, match=r"no CameraInfo.*calibration_file"):
            chosen(bag, settings)
    main(["doctor", str(bag), "--quick", "--json"])
    told = json.loads(capsys.readouterr().out)["findings"]
    (finding,) = [each for each in told if each["check"] == "camera_info.topic"]
    assert finding["level"] == "FAIL" and "calibration_file" in finding["remedy"]


def test_a_calibration_file_needs_no_camera_info(tmp_path):
    bag = write_bag2(tmp_path / "bag", [item for item in drive() if item[0] != "/cam/camera_info"])
    names, _ = chosen(bag, configured(tmp_path, "calibration_file: /somewhere/camera.yaml"))
    assert names == ALL | {"camera_info": ""}


def test_doctor_guesses_the_same_and_its_file_leaves_nothing_open(bag_path, tmp_path, capsys):
    settings = configured(tmp_path, "search_radius_m: 15.0", 'imu_topic: ""')
    write_map(tmp_path / "map.mbtiles")
    path = tmp_path / "car.yaml"
    command = ["doctor", str(bag_path), "--map", str(tmp_path / "map.mbtiles"), "--quick", "--json"]
    main([*command, "--config", str(path), "--yaml", str(tmp_path / "new.yaml")])
    told = capsys.readouterr()
    topics = json.loads(told.out)["topics"]
    assert {part: topics[part] for part in ALL} == ALL | {"imu": ""}
    assert "(guessed)" in told.err and "in the bag, unused: /imu/data" in told.err
    again, _ = chosen(bag_path, Settings.from_yaml(tmp_path / "new.yaml"))
    assert again == ALL | {"imu": ""}
    assert 'imu_topic: ""' in (tmp_path / "new.yaml").read_text()
    assert settings.named == {"search_radius_m", "imu_topic"}


def test_a_file_of_what_was_used_has_nothing_to_guess(bag_path, tmp_path):
    used = Settings(image_topic="/cam/image", fix_topic="/gps/fix", camera_info_topic="/cam/camera_info")
    (tmp_path / "used.yaml").write_text(parameter_file_text(used))
    _, topics = chosen(bag_path, Settings.from_yaml(tmp_path / "used.yaml"))
    assert set(topics.origins.values()) == {"file"}
    assert topics_text(dataclasses.asdict(topics)).startswith("topics, as the --config file names them:")
