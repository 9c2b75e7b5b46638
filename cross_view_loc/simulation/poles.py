"""What stands along country roads: telegraph poles with their wires, guard rails and marker posts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.land import LandStyle
from cross_view_loc.simulation.materials import SurfaceMaterial, coloured_seed
from cross_view_loc.simulation.roads import RoadNetwork
from cross_view_loc.simulation.site import Site
from cross_view_loc.simulation.woods import Clearance

_SAG_M = 0.7
_PIECES = 5
_WIRE_M = 0.03
_ARM_M = 1.0


def raise_poles(site: Site, network: RoadNetwork, land: LandStyle, clearance: Clearance) -> None:
    """Poles on one side of some roads, never on a carriageway; wires hang between neighbours."""
    rng, limit = site.rng, site.canvas.size_m / 2 - 2.0
    seed = coloured_seed((0.16, 0.13, 0.10) if rng.random() < 0.7 else (0.36, 0.35, 0.33))
    for road in network.roads:
        if rng.random() >= land.pole_share:
            continue
        side, height = (1 if rng.random() < 0.5 else -1), rng.uniform(7.5, 10.0)
        distance = np.arange(rng.uniform(5.0, 20.0), road.center.length_m - 5.0, rng.uniform(32.0, 48.0))
        if not len(distance):
            continue
        places = road.center.position(distance, side * (road.width_m / 2 + rng.uniform(1.2, 3.5)))
        yaws = np.arctan2(*road.center.tangent(distance).T[::-1])
        keep = (clearance.any_m(places) > 0.6) & (np.abs(places).max(axis=1) < limit)
        places, yaws = places[keep], yaws[keep]
        if not len(places):
            continue
        ground = site.terrain.height(places[:, 0], places[:, 1])
        tops = ground + height
        site.builder.add_boxes(places, 0.14, ground - 0.3, tops, yaws, SurfaceMaterial.PAINTED, seed)
        arms = tops - 0.5
        site.builder.add_boxes(places, [0.06, _ARM_M], arms - 0.12, arms, yaws, SurfaceMaterial.PAINTED, seed)
        for offset in (-_ARM_M, 0.0, _ARM_M):
            across = offset * np.stack([-np.sin(yaws), np.cos(yaws)], axis=1)
            _hang(site, np.concatenate([places + across, arms[:, None]], axis=1))


def raise_rails(site: Site, network: RoadNetwork, land: LandStyle, clearance: Clearance) -> None:
    """Guard rails, or marker posts, along one side of some roads; open at drives and junctions."""
    rng, limit = site.rng, site.canvas.size_m / 2 - 2.0
    for road in network.roads:
        for side in (1, -1):
            wanted, is_rail = rng.random(2)
            beside, (begin, end) = rng.uniform(0.7, 1.6), np.sort(rng.random(2))
            if wanted >= land.rail_share:
                continue
            spacing = 4.0 if is_rail < 0.6 else 20.0
            distance = np.arange(begin, end, spacing / road.center.length_m) * road.center.length_m
            places = road.center.position(distance, side * (road.width_m / 2 + beside))
            keep = (clearance.any_m(places) > 0.4) & (np.abs(places).max(axis=1, initial=0.0) < limit)
            places, yaws = places[keep], np.arctan2(*road.center.tangent(distance[keep]).T[::-1])
            ground = site.terrain.height(places[:, 0], places[:, 1])
            if spacing > 10.0:
                white = coloured_seed((0.7, 0.7, 0.68))
                site.builder.add_boxes(places, 0.06, ground - 0.2, ground + 1.0, yaws, SurfaceMaterial.PAINTED, white)
                continue
            site.builder.add_boxes(places, 0.07, ground - 0.2, ground + 0.7, yaws, SurfaceMaterial.METAL, 2)
            half = [spacing / 2 + 0.05, 0.05]
            site.builder.add_boxes(places, half, ground + 0.42, ground + 0.74, yaws, SurfaceMaterial.METAL, 3)


def _hang(site: Site, ends: NDArray[np.float64]) -> None:
    """A sagging wire through the points (N, 3), as an upright ribbon."""
    share = np.linspace(0.0, 1.0, _PIECES + 1)[None, :, None]
    line = ends[:-1, None] * (1.0 - share) + ends[1:, None] * share
    line[..., 2] -= 4.0 * _SAG_M * (share * (1.0 - share))[..., 0]
    start, stop = line[:, :-1].reshape(-1, 3), line[:, 1:].reshape(-1, 3)
    up = np.array([0.0, 0.0, _WIRE_M])
    vertices = np.stack([start, stop, stop + up, start + up], axis=1).reshape(-1, 3)
    faces = (np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(len(start))[:, None, None]).reshape(-1, 3)
    if len(faces):
        site.builder.add_flat(vertices, faces, SurfaceMaterial.PAINTED, coloured_seed((0.03, 0.03, 0.03)))
