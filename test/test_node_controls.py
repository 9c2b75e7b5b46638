"""What a running node may be asked: each service and `initialpose`, what it does and with what reason it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the node's tests need ROS or `pip install .[ros]`")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed: see resource/tf2_msgs")

from fault_helpers import FaultServer
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from ros_helpers import ORIGIN, SECOND, ConstantOffset, Truthful, private_domain, write_tiny_map
from std_srvs.srv import SetBool, Trigger
from test_node_inside import SOURCES, START, Inside

from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection


class Recorder:
    """Remembers where it was told to search."""

    def __init__(self, inner) -> None:
        self.inner, self.searches = inner, []

    def locate(self, frames, prior):
        self.searches.append(prior)
        return self.inner.locate(frames, prior)


@pytest.fixture
def make() -> Iterator:
    from ros_helpers import vehicle_settings

    made: list[Inside] = []
    with private_domain() as domain:

        def make_one(**changes) -> Inside:
            values = dict(imu_topic="", odometry_topic="", prior_wait_s=0.0, tracking=True) | changes
            settings = vehicle_settings(**values)
            # One that follows its prior would walk away with a tracker.
            recorder = Recorder(Truthful() if settings.tracking else ConstantOffset())
            made.append(Inside(domain, settings, recorder))
            made[-1].hear_static()
            recorder.searches.clear()
            return made[-1]

        yield make_one
        for each in made:
            each.close()


def ask(inside: Inside, name: str) -> tuple[bool, str]:
    controls = inside.node._controls
    response = controls._services[["reset", "relocalize", "set_origin", "prefetch"].index(name)].callback(
        Trigger.Request(), Trigger.Response()
    )
    return response.success, response.message


def enable(inside: Inside, wanted: bool) -> tuple[bool, str]:
    response = inside.node._controls._enable(SetBool.Request(data=wanted), SetBool.Response())
    return response.success, response.message


def drive(inside: Inside, steps: range) -> None:
    for step in steps:
        stamp = START + step * SECOND // 2
        inside.hear_all(stamp)
        inside.image(stamp)


def clicked(east: float, north: float, yaw: float, frame: str = "map") -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped()
    message.header.frame_id = frame
    message.pose.pose.position.x, message.pose.pose.position.y = east, north
    message.pose.pose.orientation.z, message.pose.pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    message.pose.covariance[0] = message.pose.covariance[7] = 0.25
    return message


def test_enable_pauses_and_resumes(make) -> None:
    inside = make()
    drive(inside, range(3))
    assert enable(inside, False) == (True, "disabled: images are left alone until ~/enable is called with true")
    before = len(inside.localizer.searches)
    drive(inside, range(3, 5))
    assert len(inside.localizer.searches) == before
    assert inside.node.health.counts()["images while disabled"] == 2
    assert "disabled" in inside.verdict("estimates").sentence
    assert enable(inside, True)[0]
    drive(inside, range(5, 7))
    assert len(inside.localizer.searches) == before + 2


def test_reset_forgets_the_fixes_and_the_track(make) -> None:
    inside = make()
    drive(inside, range(4))
    assert inside.pipeline.tracker.state == "tracking"
    assert ask(inside, "reset")[0]
    assert inside.pipeline.tracker.state == "searching"
    before = len(inside.localizer.searches)
    inside.image(START + 4 * SECOND // 2)
    assert len(inside.localizer.searches) == before and "no valid fix on /fix" in inside.complaints[-1]
    drive(inside, range(5, 8))
    assert inside.pipeline.tracker.state == "tracking", "calibration and mounts are still known"


def test_relocalize_searches_all_headings(make) -> None:
    inside = make()
    drive(inside, range(4))
    assert inside.localizer.searches[-1].radius_m < 20.0
    assert ask(inside, "relocalize") == (True, "searching widely, in all headings")
    drive(inside, range(4, 6))
    assert any(search.yaw_range_rad >= math.pi - 1e-9 for search in inside.localizer.searches[4:])
    inside = make(tracking=False)
    assert ask(inside, "relocalize") == (False, "~/relocalize needs the tracker; set tracking to true")


def test_initial_pose_is_searched_also_without_any_fix(make) -> None:
    inside = make(fix_topic="")
    inside.pipeline.on_input(SOURCES["camera_info"], inside.vehicle.info_message(START))
    inside.hear_tf("odom", "base_link", START, inside.vehicle.T_odom_base(START))
    inside.image(START)
    assert not inside.localizer.searches and inside.pipeline.tracker.state == "waiting"
    inside.node._controls._on_initial_pose(clicked(100.0, -50.0, 1.0))
    inside.hear_tf("odom", "base_link", START + SECOND, inside.vehicle.T_odom_base(START))
    inside.image(START + SECOND)
    search = inside.localizer.searches[-1]
    assert (search.east_m, search.north_m, search.yaw_rad) == pytest.approx((100.0, -50.0, 1.0), abs=1e-6)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (clicked(1.0, 2.0, 0.0, frame="odom"), "initialpose: pose is given in frame 'odom', but must be in map_frame"),
        (clicked(math.nan, 2.0, 0.0), "initialpose: pose holds NaN"),
    ],
)
def test_unusable_initial_pose_is_refused(make, message, words) -> None:
    inside = make()
    drive(inside, range(3))
    inside.node._controls._on_initial_pose(message)
    assert inside.complaints[-1].startswith(words) and inside.pipeline.tracker.state == "tracking"
    inside = make(tracking=False)
    inside.node._controls._on_initial_pose(clicked(1.0, 2.0, 0.0))
    assert "needs the tracker" in inside.complaints[-1]


def test_set_origin_moves_the_map_to_the_newest_fix_or_where_told(make, tmp_path: Path) -> None:
    write_tiny_map(tmp_path / "map.mbtiles")
    inside = make(map_path=str(tmp_path / "map.mbtiles"), tracking=False)
    assert ask(inside, "set_origin") == (False, "no valid fix on /fix yet; set new_origin before")
    drive(inside, range(2))
    here = inside.localizer.searches[-1]
    assert ask(inside, "set_origin")[0]
    drive(inside, range(2, 4))
    moved = inside.localizer.searches[-1]
    assert math.hypot(moved.east_m, moved.north_m) < 10.0 < math.hypot(here.east_m, here.north_m)

    def put(origin: list[float]):
        (result,) = inside.node.set_parameters([Parameter("new_origin", value=origin)])
        return result

    assert not put([1.0, 2.0]).successful and "give [latitude_deg" in put([1.0, 2.0]).reason
    assert put([50, 8, 0]).successful, "integers will do"
    success, message = ask(inside, "set_origin")
    assert not success and "map_origin is latitude 50.00000, longitude 8.00000, outside of what" in message
    latitude, longitude, _ = MapProjection(MapOrigin(*ORIGIN)).to_geodetic(100.0, 0.0)
    assert put([float(latitude), float(longitude), 110.0]).successful and ask(inside, "set_origin")[0]
    drive(inside, range(4, 6))
    assert inside.localizer.searches[-1].east_m == pytest.approx(here.east_m - 100.0, abs=5.0)


def test_prefetch_says_how_many_tiles(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = make()
    assert ask(inside, "prefetch") == (False, "map_path is no online source, so nothing has to be fetched")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yaml = tmp_path / "ortho.yaml"
    with FaultServer() as server:
        yaml.write_text(f"{{kind: xyz, name: Ortho, url: '{server.url}/{{z}}/{{x}}/{{y}}', rate_per_s: 1000}}")
        inside = make(
            map_path=str(yaml), map_cache=str(tmp_path / "c.mbtiles"), prefetch_radius_m=100.0, tracking=False
        )
        inside.node.map_file.open()
        inside.pipeline.set_origin(MapOrigin(*ORIGIN))
        assert ask(inside, "prefetch")[1].startswith("the vehicle's place is not known yet")
        drive(inside, range(1))
        source = inside.node.map_file.open()
        assert source.store.drain(30.0)
        before = len(server.requests)
        success, message = ask(inside, "prefetch")
        assert success and int(message.split()[0]) > 4 and "within 100 m are wanted" in message
        assert source.store.drain(30.0) and len(server.requests) > before
