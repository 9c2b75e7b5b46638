"""The cross-check with navsat_transform: what it may answer, right and wrong, and what is then advised."""

import math

import numpy as np
import pyproj
import pytest

from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.node.origin_check import POINTS_M, ask, fit_similarity, judge, main, points_geodetic

ORIGIN = MapOrigin(48.99, 8.0, 110.0)
"""A degree from its zone's central meridian: grid north is 0.75° from true north there."""


def navsat(origin: MapOrigin, heading_rad: float = 0.0, corrected: bool = True):
    """navsat_transform's arithmetic by pyproj: UTM minus the datum's, turned by heading and meridian convergence."""
    utm = pyproj.Proj(proj="utm", zone=32, ellps="WGS84")
    convergence = math.radians(utm.get_factors(origin.longitude_deg, origin.latitude_deg).meridian_convergence)
    turn = heading_rad + (convergence if corrected else 0.0)
    zero = utm(origin.longitude_deg, origin.latitude_deg)

    def from_ll(latitude, longitude, height):
        x, y = utm(longitude, latitude)
        dx, dy = x - zero[0], y - zero[1]
        c, s = math.cos(turn), math.sin(turn)
        return c * dx + s * dy, -s * dx + c * dy, height

    return from_ll


def test_utm_agrees_with_utm():
    agrees, sentence = ask(MapProjection(ORIGIN, "utm"), navsat(ORIGIN))
    assert agrees, sentence
    assert "agree" in sentence


def test_a_tangent_plane_is_not_utm_and_the_remedy_is_the_projection():
    agrees, sentence = ask(MapProjection(ORIGIN, "enu"), navsat(ORIGIN))
    assert not agrees
    assert "map_projection: utm" in sentence and "datum" not in sentence


def test_a_local_cartesian_navsat_wants_enu():
    enu = MapProjection(ORIGIN, "enu")

    def from_ll(latitude, longitude, height):
        return tuple(float(value) for value in enu.to_map(latitude, longitude, height))

    assert ask(enu, from_ll)[0]
    agrees, sentence = ask(MapProjection(ORIGIN, "utm"), from_ll)
    assert not agrees and "map_projection: enu" in sentence


@pytest.mark.parametrize("kind", ["enu", "utm"])
def test_zeros_mean_that_the_datum_is_not_set(kind):
    agrees, sentence = ask(MapProjection(ORIGIN, kind), lambda *point: (0.0, 0.0, 0.0))
    assert not agrees and "datum is not set" in sentence


def test_another_datum_is_a_shift():
    moved = MapOrigin(ORIGIN.latitude_deg + 1e-4, ORIGIN.longitude_deg, 110.0)
    agrees, sentence = ask(MapProjection(ORIGIN, "utm"), navsat(moved))
    assert not agrees and "11.1" in sentence and "set its datum to map_origin" in sentence
    assert "map_projection" not in sentence.split(");")[1]


@pytest.mark.parametrize("heading", [math.pi / 2, -math.pi / 2, 0.2])
def test_a_turned_datum_is_named(heading):
    agrees, sentence = ask(MapProjection(ORIGIN, "utm"), navsat(ORIGIN, heading))
    assert not agrees and "heading 0.0" in sentence and "yaw_offset" in sentence


def test_points_lie_where_they_should():
    for projection in (MapProjection(ORIGIN, "enu"), MapProjection(ORIGIN, "utm")):
        for (latitude, longitude, height), expected in zip(points_geodetic(projection), POINTS_M, strict=True):
            east, north, _ = projection.to_map(latitude, longitude, height)
            assert (float(east), float(north)) == pytest.approx(tuple(expected), abs=0.01)
    assert np.linalg.norm(POINTS_M, axis=1).min() > 100.0  # none that (0, 0, 0) could be right for


def test_fit_recovers_scale_turn_and_shift():
    c, s = math.cos(0.3), math.sin(0.3)
    theirs = 1.01 * POINTS_M @ np.array([[c, s], [-s, c]]) + [4.0, -7.0]
    scale, turn, shift = fit_similarity(POINTS_M, theirs)
    assert (scale, turn) == pytest.approx((1.01, 0.3))
    assert shift == pytest.approx([4.0, -7.0])


def test_nonsense_gets_a_remedy_too():
    agrees, sentence = judge([(1.0, 2.0), (500.0, 0.0), (3.0, 9.0)], MapProjection(ORIGIN))
    assert not agrees and ";" in sentence


def test_without_the_service_type_it_says_what_to_install(capsys):
    try:
        import robot_localization  # noqa: F401
    except ImportError:
        assert main([]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and "robot-localization" in captured.err and len(captured.err.splitlines()) == 1
    else:
        pytest.skip("robot_localization is installed")
