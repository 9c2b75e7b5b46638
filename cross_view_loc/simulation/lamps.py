"""Lights at night: where the street lamps hang, and which of them and of the cars' lights matter to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.fleet import MODELS
from cross_view_loc.simulation.grouping import groups_of_near
from cross_view_loc.simulation.materials import SurfaceMaterial

if TYPE_CHECKING:
    from cross_view_loc.simulation.town import Town
    from cross_view_loc.simulation.traffic import Traffic

Array = NDArray[np.float64]

LIGHTS_PER_PICTURE = 32
_REACH_M = 90.0
_LUMINAIRE_SEED = 1
_LAMP_COLOUR = (1.0, 0.78, 0.5)
_HEAD_COLOUR, _TAIL_COLOUR = (1.0, 0.97, 0.9), (0.5, 0.03, 0.02)


class Lamps:
    """All street lamps of a town, switched on, and the lights of its moving cars."""

    def __init__(self, town: Town, traffic: Traffic | None, strength: float) -> None:
        mesh = town.mesh
        is_luminaire = (mesh.materials == int(SurfaceMaterial.LAMP)) & (mesh.seeds <= _LUMINAIRE_SEED)
        centres = mesh.vertices[mesh.triangles[is_luminaire]].mean(axis=1).astype(np.float64)
        count, labels = groups_of_near(centres, 1.0)
        self.positions: Array = np.array([centres[labels == k].mean(axis=0) for k in range(count)]).reshape(-1, 3)
        """(N, 3) of the luminaires in the map."""
        self._town, self._traffic, self._strength = town, traffic, strength

    def near(self, camera_positions: Sequence[Array], time_s: float) -> tuple[NDArray, NDArray, NDArray]:
        """For each of K cameras the L lights nearest to it: positions (K, L, 3), colours (K, L, 3), and (K, L) 1 for
        those that light the street, 0 for cars' lights, which are only seen. Unused places are black.
        """
        places, colours, cast = self._all(time_s)
        shape = (len(camera_positions), LIGHTS_PER_PICTURE)
        positions, shades, thrown = np.zeros((*shape, 3)), np.zeros((*shape, 3)), np.zeros(shape)
        for k, camera in enumerate(camera_positions):
            distance = np.linalg.norm(places - camera, axis=1)
            nearest = np.argsort(distance, kind="stable")[:LIGHTS_PER_PICTURE]
            nearest = nearest[distance[nearest] < _REACH_M]
            positions[k, : len(nearest)] = places[nearest]
            shades[k, : len(nearest)] = self._strength * colours[nearest]
            thrown[k, : len(nearest)] = cast[nearest]
        return positions.astype(np.float32), shades.astype(np.float32), thrown.astype(np.float32)

    def _all(self, time_s: float) -> tuple[Array, Array, Array]:
        places = [self.positions]
        colours = [np.tile(_LAMP_COLOUR, (len(self.positions), 1))]
        cast = [np.ones(len(self.positions))]
        if self._traffic is not None:
            cars = self._traffic.places(time_s)
            there = np.isfinite(cars[:, 0])
            for car, model in zip(cars[there], self._traffic.models[there], strict=True):
                lights = _car_lights(car, int(model))
                lights[:, 2] += self._town.height(lights[:, 0], lights[:, 1])
                places.append(lights)
                colours.append(np.array([_HEAD_COLOUR, _HEAD_COLOUR, _TAIL_COLOUR, _TAIL_COLOUR]))
                cast.append(np.zeros(4))
        return np.concatenate(places), np.concatenate(colours), np.concatenate(cast)


def _car_lights(place: Array, model: int) -> Array:
    """(4, 3) two head and two tail lights a little outside the body; z is metres above the road."""
    shape = MODELS[model]
    ahead, aside = shape.length / 2 + 0.15, shape.width / 2 - 0.24
    x = np.array([ahead, ahead, -ahead, -ahead])
    y = np.array([aside, -aside, aside, -aside])
    z = np.array([shape.nose - 0.16] * 2 + [shape.belt - 0.2] * 2)
    cosine, sine = np.cos(place[2]), np.sin(place[2])
    return np.stack([place[0] + cosine * x - sine * y, place[1] + sine * x + cosine * y, z], axis=1)
