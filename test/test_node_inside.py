"""The node's own rules, with its callbacks called directly: clocks that differ, a second publisher, a bad start."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

import rclpy
from fault_helpers import Answer, FaultServer
from rclpy.parameter import Parameter
from ros_helpers import ORIGIN, SECOND, ConstantOffset, Vehicle, private_domain, vehicle_settings, write_tiny_map
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from cross_view_loc.aerial.tiles import TileKey
from cross_view_loc.errors import InputError, ModelError, NoImageryError
from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.inputs.roles import Source
from cross_view_loc.node import main as node_main
from cross_view_loc.node import parameters, start
from cross_view_loc.node import tf as tf_module
from cross_view_loc.node.health import ERROR, OK, WARN
from cross_view_loc.node.localizer_node import LocalizerNode
from cross_view_loc.settings import PARAMETERS, Settings

SOURCES = {role: Source(role, f"/{role}", "camera") for role in ("camera_info", "fix", "tf", "tf_static")}
START = 1_700_000_000 * SECOND


class Inside:
    """A node in this process that nobody spins, and a vehicle whose messages are handed to its callbacks."""

    def __init__(self, domain: int, settings: Settings, localizer: start.Locates | None = None) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        values = [(row.name, getattr(settings, row.name)) for row in PARAMETERS]
        overrides = [Parameter(name, value=list(v) if isinstance(v, tuple) else v) for name, v in values if v != ()]
        self.localizer = localizer or ConstantOffset()
        self.node = LocalizerNode(lambda *_: self.localizer, context=self.context, parameter_overrides=overrides)
        assert self.node.bring_up(), self.node.refusal
        assert self.node.pipeline is not None
        self.pipeline = self.node.pipeline
        self.vehicle_node = rclpy.create_node("vehicle", context=self.context)
        self.vehicle = Vehicle(self.vehicle_node, compressed=False)
        self.complaints: list[str] = []
        self.pipeline.complain = lambda kind, text, number: self.complaints.append(text)

    def hear_static(self) -> None:
        mounts = [("camera_optical", Vehicle.T_base_camera), ("imu_link", Vehicle.T_base_imu)]
        mounts.append(("antenna", np.eye(4)))
        transforms = [Vehicle._stamped("base_link", child, T, 0) for child, T in mounts]
        self.pipeline.on_input(SOURCES["tf_static"], TFMessage(transforms=transforms))

    def hear_all(self, stamp: int, fix_ahead_ns: int = 0) -> None:
        """Everything but the image."""
        vehicle = self.vehicle
        self.pipeline.on_input(SOURCES["camera_info"], vehicle.info_message(stamp))
        self.pipeline.on_input(SOURCES["fix"], vehicle.fix_message(stamp + fix_ahead_ns))
        self.hear_tf("odom", "base_link", stamp, vehicle.T_odom_base(stamp))

    def hear_tf(self, parent: str, child: str, stamp: int, T: np.ndarray | None = None) -> None:
        stamped = Vehicle._stamped(parent, child, np.eye(4) if T is None else T, stamp)
        self.pipeline.on_input(SOURCES["tf"], TFMessage(transforms=[stamped]))

    def image(self, stamp: int) -> None:
        self.pipeline.on_image("camera", self.vehicle.image_message(stamp))
        assert self.pipeline.worker is not None and self.pipeline.worker.drain(10.0)

    def verdict(self, name: str):
        verdicts = self.node.health.verdicts(1e-6, map_problems=self.node.map_file.problems())
        return next(each for each in verdicts if each.name == name)

    def close(self) -> None:
        self.node.close()
        self.vehicle_node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def make() -> Iterator:
    made: list[Inside] = []
    with private_domain() as domain:

        def make_one(localizer: start.Locates | None = None, **changes) -> Inside:
            values = dict(imu_topic="", odometry_topic="", prior_wait_s=0.0) | changes
            made.append(Inside(domain, vehicle_settings(**values), localizer))
            made[-1].hear_static()
            return made[-1]

        yield make_one
        for each in made:
            each.close()


def test_images_that_another_clock_makes_old_are_an_error(make) -> None:
    inside = make()
    assert inside.verdict("estimates").sentence == "waiting for the first image"
    inside.hear_all(START, fix_ahead_ns=18 * SECOND)
    inside.image(START)
    verdict = inside.verdict("estimates")
    assert verdict.level == ERROR and verdict.values["dropped: too old"] == "1"
    assert verdict.sentence.startswith("/image: image is 18.0 s older than the newest stamp on /fix; set both")
    assert inside.complaints == [verdict.sentence]
    inside.node.health._localized_at = math.inf  # before the timeout
    assert inside.verdict("estimates").sentence == verdict.sentence, "not 'waiting for the first image'"


def test_image_that_repeats_a_stamp_is_counted_and_said(make) -> None:
    inside = make()
    inside.hear_all(START)
    inside.image(START)
    assert inside.verdict("estimates").level == OK and not inside.complaints
    inside.image(START)
    assert inside.verdict("estimates").values["dropped: not newer than the last image"] == "1"
    assert "/image: image has a stamp 0.000 s before the last one localized" in inside.complaints[0]


def test_second_publisher_of_our_transform_holds_ours_back(make) -> None:
    inside = make()
    sent: list[TFMessage] = []
    now = [0.0]
    inside.pipeline.outputs.tf._publisher = SimpleNamespace(publish=sent.append)
    inside.pipeline.outputs.tf._clock = lambda: now[0]

    def drive(step: int) -> None:
        stamp = START + step * SECOND // 10
        inside.hear_all(stamp)
        inside.image(stamp)

    drive(0)
    assert len(sent) == 1
    inside.pipeline.on_input(SOURCES["tf"], sent[0])  # our own comes back on our own subscription
    drive(1)
    assert len(sent) == 2 and inside.verdict("estimates").level == OK
    inside.hear_tf("/map", "odom", START + SECOND // 7)
    drive(2)
    assert len(sent) == 2
    verdict = inside.verdict("estimates")
    assert verdict.level == WARN
    assert (
        "no transform is published: /tf: map -> odom is already published by /vehicle; set tf_mode" in verdict.sentence
    )
    now[0] += tf_module.FOREIGN_MEMORY_S + 1.0
    drive(3)
    assert len(sent) == 3 and inside.verdict("estimates").level == OK, "the other one has stopped"


def test_static_second_publisher_holds_for_ever(make) -> None:
    inside = make()
    inside.pipeline.outputs.tf._clock = lambda: 1e9
    stamped = Vehicle._stamped("map", "odom", np.eye(4), 0)
    inside.pipeline.on_input(SOURCES["tf_static"], TFMessage(transforms=[stamped]))
    inside.hear_all(START)
    inside.image(START)
    assert "already published by" in inside.verdict("estimates").sentence


class _ShutsDown(ConstantOffset):
    """As when SIGINT comes during an inference."""

    context: rclpy.Context | None = None

    def locate(self, frames, prior):
        if self.context is not None:
            rclpy.shutdown(context=self.context)
        return super().locate(frames, prior)


def test_shutdown_during_an_estimate_is_no_internal_error(make) -> None:
    localizer = _ShutsDown()
    inside = make(localizer)
    inside.hear_all(START)
    localizer.context = inside.context
    inside.image(START)
    assert not inside.complaints and "internal errors" not in inside.node.health.counts()


def test_first_fix_of_infinite_altitude_is_an_origin_too(tmp_path: Path) -> None:
    write_tiny_map(tmp_path / "map.mbtiles")
    with private_domain() as domain:
        inside = Inside(domain, vehicle_settings(map_origin=[], map_path=str(tmp_path / "map.mbtiles")))
        try:
            fix = inside.vehicle.fix_message(START)
            fix.altitude = math.inf
            assert inside.pipeline.waits_for.startswith("waiting for the first fix on /fix")
            inside.pipeline.on_input(SOURCES["fix"], fix)
            assert not inside.pipeline.waits_for
        finally:
            inside.close()


def test_unreadable_tiles_are_a_warning(make, tmp_path: Path) -> None:
    write_tiny_map(tmp_path / "map.mbtiles", data=b"no picture at all")
    inside = make(map_path=str(tmp_path / "map.mbtiles"))
    assert inside.verdict("map").level == OK
    projection = MapProjection(MapOrigin(*ORIGIN))
    source = inside.node.map_file.open()
    with pytest.raises(NoImageryError):
        start.AerialMap(source, projection).patch(0.0, 0.0, 16, 0.5)
    verdict = inside.verdict("map")
    assert verdict.level == WARN and verdict.values["problems"] == "1"
    assert verdict.sentence.startswith("map: 1 problem, latest: ") and "map.mbtiles" in verdict.sentence
    sent: list = []
    inside.node._diagnostics._publisher = SimpleNamespace(publish=sent.append)
    inside.node._diagnostics.publish()
    assert {status.name: status.message for status in sent[0].status}["localizer: map"] == verdict.sentence


def test_online_source_is_fetched_ahead_and_its_failures_are_named(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yaml, cache = tmp_path / "ortho.yaml", tmp_path / "cache.mbtiles"
    with FaultServer(Answer(403)) as server:
        yaml.write_text(f"{{kind: xyz, name: Ortho, url: '{server.url}/{{z}}/{{x}}/{{y}}', rate_per_s: 100}}")
        inside = make(map_path=str(yaml), map_cache=str(cache), map_origin=[])
        inside.pipeline.on_input(SOURCES["fix"], inside.vehicle.fix_message(START))
        assert inside.verdict("map").level == OK and not server.requests, "nothing is fetched before there is a place"
        inside.hear_all(START)
        inside.image(START)
        source = inside.node.map_file.open()
        assert source.store.drain(30.0) and server.requests and cache.exists()
        verdict = inside.verdict("map")
        assert (
            verdict.level == WARN and "Ortho, tile " in verdict.sentence and "HTTP 403 (forbidden)" in verdict.sentence
        )
        assert inside.verdict("estimates").values["accepted share of last 50"] == "1.00"
        asked = len(server.requests)
        inside.node.map_file.close()
        assert source.store.read(TileKey.at(*ORIGIN[:2], 18)) is None and len(server.requests) == asked


def test_offline_node_opens_no_connection(make, tmp_path: Path) -> None:
    yaml = tmp_path / "ortho.yaml"
    with FaultServer() as server:
        yaml.write_text(f"{{kind: xyz, name: Ortho, url: '{server.url}/{{z}}/{{x}}/{{y}}'}}")
        inside = make(map_path=str(yaml), map_cache=str(tmp_path / "c.mbtiles"), map_offline=True, map_origin=[])
        inside.pipeline.on_input(SOURCES["fix"], inside.vehicle.fix_message(START))
        inside.hear_all(START)
        inside.image(START)
        projection = MapProjection(MapOrigin(*ORIGIN))
        with pytest.raises(NoImageryError):
            start.AerialMap(inside.node.map_file.open(), projection).patch(0.0, 0.0, 16, 0.5)
        assert "the network is off; fetch the area with cross_view_loc prefetch" in inside.verdict("map").sentence
        assert not server.requests


# --- before there is a node ---


def test_empty_map_path_is_named_also_beside_an_origin() -> None:
    for settings in (Settings(), Settings(map_origin=ORIGIN)):
        with pytest.raises(InputError, match="parameter map_path is empty"):
            map_file = start.MapFile(settings.map_path)
            start.configured_origin(settings, map_file)
            start.build_localizer(settings, map_file)


def test_map_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    source = SimpleNamespace(map_origin=None, problems=())
    monkeypatch.setattr(start, "open_source", lambda path, **_: opened.append(path) or source)
    map_file = start.MapFile("map.tif")
    assert start.configured_origin(Settings(map_path="map.tif"), map_file) is None
    assert map_file.open() is source and opened == ["map.tif"] and map_file.problems() == (0, "")


def test_device_that_fails_in_the_warm_up_is_one_sentence() -> None:
    def fails(frames, prior):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines")

    with pytest.raises(ModelError, match=r"device 'cuda' \(CUDA out of memory.*; free its memory or set device to cpu"):
        start.warm_up(SimpleNamespace(locate=fails), "cuda")

    def nothing_there(frames, prior):
        raise NoImageryError("nothing here")

    assert start.warm_up(SimpleNamespace(locate=nothing_there), "cpu") >= 0.0


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_missing_package_is_named_with_its_remedy(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "cross_view_loc.localizer":
                raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.delitem(sys.modules, "cross_view_loc.localizer", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    map_file = SimpleNamespace(open=lambda: None)
    with pytest.raises(ModelError, match=f"{package} is missing; run `pip install torch safetensors`"):
        start.build_localizer(Settings(), map_file)


def test_interrupt_while_modules_are_imported_is_a_clean_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(node_main, "_missing_ros", interrupted)
    try:
        assert node_main.main([]) == 0
    except KeyboardInterrupt:
        pytest.fail("the interrupt reached the user as a traceback")


def test_parameters_nobody_knows_are_named_with_the_nearest() -> None:
    sentences = parameters.unknown_parameters(["serch_radius_m", "search_radius_m", "use_sim_time", "qos_overrides./a"])
    assert len(sentences) == 1 and "did you mean search_radius_m?" in sentences[0]


def test_wrong_topic_is_told_once_with_the_one_there_is(make, monkeypatch) -> None:
    inside = make(image_topic="/imaeg", input_timeout_s=0.1)
    warned: list[str] = []
    inside.node._silence._warn = warned.append
    inside.vehicle_node.create_publisher(Image, "/image", 1)
    inside.node.create_publisher(Image, "~/debug/overlay", 1)  # ours: never meant
    inside.node.health._started -= 1.0
    deadline = time.monotonic() + 20.0
    while not any("/image" in text.split("type", 1)[-1] for text in warned) and time.monotonic() < deadline:
        inside.node._verdicts()
        time.sleep(0.05)
    (said,) = [text for text in warned if "sensor_msgs/CompressedImage: /image" in text]
    assert "/imaeg (image, nobody publishes it)" in said and "overlay" not in said
    count = len(warned)
    inside.node._verdicts()
    assert len(warned) == count
