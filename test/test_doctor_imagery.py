"""The doctor's hint at shifted imagery: its size and direction, and that a receiver's own error is no such thing."""

import dataclasses

import numpy as np
import pytest
from bag_helpers import ORIGIN, drive, write_bag2, write_map

from cross_view_loc import localizer
from cross_view_loc.aerial.sources import open_source
from cross_view_loc.bags.reader import Bag, guess_topics
from cross_view_loc.bags.runner import with_topics
from cross_view_loc.doctor.findings import Level
from cross_view_loc.doctor.imagery import offset_findings
from cross_view_loc.geometry.geodesy import MapProjection
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagery")
    return write_bag2(folder / "bag", drive(4.0)), write_map(folder / "map.mbtiles")


def finding(monkeypatch, paths, offset_m, fix_std_m=1.0, use_truth=False, accepted=True):
    class Shifted:
        """A localizer on imagery that shows everything displaced."""

        def __init__(self, aerial_map, settings) -> None:
            assert settings.map_std_m == 0.0

        def locate(self, frames, prior):
            east_m, north_m = prior.east_m + offset_m[0], prior.north_m + offset_m[1]
            return Estimate(
                frames[0].stamp_ns, east_m, north_m, prior.yaw_rad, np.diag([0.1, 0.1, 1e-4]), accepted=accepted
            )

    monkeypatch.setattr(localizer, "Localizer", Shifted)
    with Bag(paths[0]) as bag:
        topics = guess_topics(bag)
        settings = dataclasses.replace(with_topics(Settings(), topics), imu_topic="/imu/data")
        (found,) = offset_findings(
            bag, topics, open_source(paths[1]), MapProjection(ORIGIN), settings, fix_std_m, use_truth
        )
    return found


def test_a_shift_of_metres_is_noticed_with_its_direction(monkeypatch, paths):
    found = finding(monkeypatch, paths, (6.0, -4.0))
    assert found.level is Level.WARN and found.check == "map.offset"
    assert found.data["east_m"] == pytest.approx(6.0, abs=0.3)
    assert found.data["north_m"] == pytest.approx(-4.0, abs=0.3)
    assert "6.0" in found.sentence and "m east" in found.sentence and "m south" in found.sentence
    assert "of a stretch of 4 s lie" in found.sentence  # as long as the bag is
    assert "the receiver is" in found.sentence and "map_offset_m" in found.remedy


def test_what_the_receiver_may_be_wrong_by_is_no_shift(monkeypatch, paths):
    assert finding(monkeypatch, paths, (1.5, -0.8), fix_std_m=1.0).level is Level.OK
    assert finding(monkeypatch, paths, (1.5, -0.8), fix_std_m=0.02).level is Level.WARN


def test_truth_tells_a_smaller_shift_than_fixes_do(monkeypatch, paths):
    found = finding(monkeypatch, paths, (1.5, -0.8), use_truth=True)
    assert found.level is Level.WARN and "/ground_truth/odometry" in found.sentence
    assert finding(monkeypatch, paths, (0.1, 0.1), use_truth=True).level is Level.OK


def test_without_accepted_estimates_nothing_is_claimed(monkeypatch, paths):
    found = finding(monkeypatch, paths, (6.0, -4.0), accepted=False)
    assert found.level is Level.OK and "cannot be told" in found.sentence
