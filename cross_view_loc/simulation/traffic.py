"""Moving traffic of a drive: cars in the lanes that go their way and never come near the camera's own car.

Every car has a track over the whole drive. A car whose track would come too close to the vehicle's or to another's is
left out for good, so that nothing pops up or vanishes between two pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from cross_view_loc.simulation.fleet import MODELS, choose_models, footprints, model_mesh, placed
from cross_view_loc.simulation.route import STEP_M, plan_route

if TYPE_CHECKING:
    from cross_view_loc.simulation.drive import Drive
    from cross_view_loc.simulation.town import Town

Array = NDArray[np.float64]

TRACK_STEP_S = 0.1
_CHECK_EVERY = 2
_ROUTES = 14
_QUEUE_M = 260.0
"""Cars of one route are spread over this length."""
_SPACING_M = (22.0, 80.0)
_SPEED_MPS = (5.0, 9.0)
_LEADER_GAP_M = (13.0, 28.0)
_LEADER_CHANCE = 0.6
_FOLLOWER_GAP_M = 13.0
_MARGIN_M = 0.4
HIDDEN_UP_M = -5000.0
"""Height of cars that are not on the road at a moment."""
# The camera's own car about base_link, with room in front for what the driver keeps: x from, x to, half width.
_OWN_CAR_M = (-1.6, 6.5, 1.2)


class Traffic:
    """Where the moving cars are; the same arguments give the same traffic."""

    def __init__(self, town: Town, drive: Drive, seed: int) -> None:
        rng = np.random.default_rng([town.seed, seed, 11])
        self._terrain = town.terrain
        self._times_s = np.arange(0.0, drive.duration_s + TRACK_STEP_S, TRACK_STEP_S)
        self._own = drive.T_map_base(self._times_s)
        tracks: list[Array] = []
        models: list[int] = []
        for track in self._candidates(town, drive, rng):
            model = int(choose_models(1, rng)[0])
            if self._is_free(track, model, tracks, models):
                tracks.append(track)
                models.append(model)
        self._tracks = np.array(tracks).reshape(-1, len(self._times_s), 3)
        self.models: NDArray[np.intp] = np.array(models, dtype=np.intp)
        """(N,) indices into `fleet.MODELS`."""
        self.seeds: NDArray[np.int64] = rng.integers(1 << 30, size=len(models))
        """(N,) vary the colour."""

    def places(self, time_s: float) -> Array:
        """(N, 3) east, north, yaw of every car; NaN for those that are not on the road at this time."""
        at = np.clip(time_s / TRACK_STEP_S, 0.0, len(self._times_s) - 1.0)
        low = min(int(at), len(self._times_s) - 2)
        share = at - low
        return (1.0 - share) * self._tracks[:, low] + share * self._tracks[:, low + 1]

    def footprints(self, time_s: float) -> NDArray[np.object_]:
        """Shapely polygons of the cars on the road at this time."""
        places = self.places(time_s)
        there = np.isfinite(places[:, 0])
        return footprints(places[there], self.models[there], 0.0)

    def vertices(self, time_s: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vertices and normals of all cars' models one after the other; those not on the road lie far below."""
        parts = []
        for place, model in zip(self.places(time_s), self.models, strict=True):
            mesh = model_mesh(int(model))
            if np.isfinite(place[0]):
                parts.append(placed(mesh, place, self._terrain))
            else:
                parts.append((mesh.vertices + np.array([0.0, 0.0, HIDDEN_UP_M], dtype=np.float32), mesh.normals))
        if not parts:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _candidates(self, town: Town, drive: Drive, rng: np.random.Generator) -> list[Array]:
        """(T, 3) tracks: a car ahead and one behind on the drive's own way, then queues on routes of their own."""
        tracks = []
        if rng.random() < _LEADER_CHANCE:
            tracks.append(drive.places_ahead(self._times_s, float(rng.uniform(*_LEADER_GAP_M))))
        if rng.random() < 0.5:
            tracks.append(drive.places_ahead(self._times_s, -_FOLLOWER_GAP_M))
        for _ in range(_ROUTES):
            speed_mps = rng.uniform(*_SPEED_MPS)
            points = plan_route(town.network, _QUEUE_M + speed_mps * (self._times_s[-1] + 1.0), rng)
            start_m = rng.uniform(0.0, 20.0)
            while start_m < _QUEUE_M:
                tracks.append(_along(points, start_m + speed_mps * self._times_s))
                start_m += rng.uniform(*_SPACING_M)
        return tracks

    def _is_free(self, track: Array, model: int, others: list[Array], other_models: list[int]) -> bool:
        sampled = track[::_CHECK_EVERY]
        there = np.isfinite(sampled[:, 0])
        if not there.any():
            return False
        own_boxes = _own_car(self._own[::_CHECK_EVERY])
        mine = np.full(len(sampled), model, dtype=np.intp)
        near = there & (np.linalg.norm(sampled[:, :2] - self._own[::_CHECK_EVERY, :2, 3], axis=1) < 14.0)
        if near.any():
            boxes = footprints(sampled[near], mine[near], _MARGIN_M)
            if shapely.intersects(boxes, own_boxes[near]).any():
                return False
        for other, other_model in zip(others, other_models, strict=True):
            theirs = other[::_CHECK_EVERY]
            reach = (MODELS[model].length + MODELS[other_model].length) / 2 + 2.0
            near = np.linalg.norm(sampled[:, :2] - theirs[:, :2], axis=1) < reach
            if near.any():
                boxes = footprints(sampled[near], mine[near], _MARGIN_M)
                their_boxes = footprints(theirs[near], np.full(int(near.sum()), other_model, dtype=np.intp), 0.0)
                if shapely.intersects(boxes, their_boxes).any():
                    return False
        return True


def _along(points: Array, distance_m: Array) -> Array:
    """(T, 3) places at distances along a route of points every STEP_M; NaN past its end."""
    at = distance_m / STEP_M
    count = np.arange(len(points))
    # The heading of a car is that of the chord between its axles.
    front, rear = (
        np.stack([np.interp(at + reach / STEP_M, count, points[:, axis]) for axis in (0, 1)], axis=1)
        for reach in (1.3, -1.3)
    )
    chord = front - rear
    yaw = np.unwrap(np.arctan2(chord[:, 1], chord[:, 0]))
    track = np.concatenate([(front + rear) / 2, yaw[:, None]], axis=1)
    track[at > len(points) - 4.0] = np.nan
    return track


def _own_car(T_map_base: Array) -> NDArray[np.object_]:
    """Rectangles of the camera's own car at poses (T, 4, 4)."""
    rear, front, half = _OWN_CAR_M
    corners = np.array([[rear, -half], [front, -half], [front, half], [rear, half]])
    rings = np.einsum("tij,kj->tki", T_map_base[:, :2, :2], corners) + T_map_base[:, None, :2, 3]
    return np.asarray(shapely.polygons(rings))
