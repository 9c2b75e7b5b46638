"""What kind of place on the road network a position is: the scene class that reports group results by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Point

from cross_view_loc.simulation.roads import Road, RoadNetwork

_NEAR_JUNCTION_M = 12.0
"""Beyond the junction's own radius."""
_LOOK_M = 15.0
_BEND_RAD = np.radians(12.0)
"""Change of heading over twice `_LOOK_M`: a radius of about 140 m."""


def classify_place(network: RoadNetwork, east_m: float, north_m: float) -> str:
    """ "junction" near the meeting of three or more roads, "bend" where the nearest road turns, else "street"."""
    position = np.array([east_m, north_m])
    for node, radius_m in network.junction_radius_m.items():
        if radius_m and np.linalg.norm(network.positions[node] - position) < radius_m + _NEAR_JUNCTION_M:
            return "junction"
    point = Point(position)
    road = min(network.roads, key=lambda road: road.line.distance(point))
    along = road.line.project(point)
    before = _direction(network, road, along - _LOOK_M)
    after = _direction(network, road, along + _LOOK_M)
    turn = abs(np.arctan2(before[0] * after[1] - before[1] * after[0], before @ after))
    return "bend" if turn > _BEND_RAD else "street"


def _direction(network: RoadNetwork, road: Road, along_m: float) -> NDArray[np.float64]:
    """Unit direction of the road at a distance, carried on into the one road that continues it."""
    length = road.center.length_m
    if 0.0 <= along_m <= length:
        return road.center.tangent(along_m)
    node, beyond = (road.start, -along_m) if along_m < 0.0 else (road.end, along_m - length)
    others = [network.graph.edges[node, other]["road"] for other in network.graph[node]]
    others = [other for other in others if {other.start, other.end} != {road.start, road.end}]
    if len(others) != 1:
        return road.center.tangent(np.clip(along_m, 0.0, length))
    following = others[0]
    from_start = following.start == node
    distance = min(beyond, following.center.length_m)
    tangent = following.center.tangent(distance if from_start else following.center.length_m - distance)
    # `tangent` runs along the following road; we want the way this road runs, through the node and on.
    away = tangent if from_start else -tangent
    return away if along_m > length else -away
