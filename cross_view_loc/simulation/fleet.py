"""Cars of several types with windows, wheels and lights, as parts that are placed by the hundred.

The shader colours a car by its texture coordinates (see `SurfaceMaterial.CAR`): every face of a model carries the one
coordinate of what it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mapbox_earcut as earcut
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cross_view_loc.simulation.materials import SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder, TriangleMesh
from cross_view_loc.simulation.terrain import Terrain

Array = NDArray[np.float64]

PAINT, GLASS, RUBBER, TAIL_LIGHT, HEAD_LIGHT = (0.0, 0.6), (0.0, 0.8), (0.0, 0.1), (-0.5, 0.5), (0.5, 0.45)
_WHEEL_CORNERS = 10
_EDGE_MARGIN_M = 4.0


@dataclass(frozen=True)
class CarModel:
    """Measures of one type in metres; x runs from the rear bumper (0) to the front bumper (length)."""

    name: str
    share: float
    length: float
    width: float
    height: float
    belt: float
    """Height at which the windows begin."""
    nose: float
    """Height of the front edge of the bonnet."""
    cabin: tuple[float, float]
    """x of the cabin's rear and front foot."""
    roof: tuple[float, float]
    """x of the roof's rear and front edge."""
    wheel_radius: float = 0.33
    side_windows: tuple[float, float] = (0.06, 0.94)
    """Part of the cabin's side that is glazed."""


MODELS = (
    CarModel("hatchback", 0.24, 4.0, 1.74, 1.46, 0.92, 0.72, (0.05, 3.05), (0.5, 2.3)),
    CarModel("saloon", 0.2, 4.6, 1.8, 1.44, 0.93, 0.72, (0.75, 3.5), (1.35, 2.6)),
    CarModel("estate", 0.2, 4.6, 1.8, 1.48, 0.93, 0.72, (0.05, 3.4), (0.3, 2.55)),
    CarModel("suv", 0.18, 4.5, 1.9, 1.7, 1.08, 0.92, (0.08, 3.35), (0.4, 2.6), 0.38),
    CarModel("van", 0.12, 5.2, 2.0, 2.1, 1.15, 0.95, (0.05, 4.75), (0.1, 3.9), 0.36, (0.72, 0.96)),
    CarModel("lorry", 0.06, 7.2, 2.3, 2.9, 1.2, 1.1, (0.05, 7.1), (0.05, 6.8), 0.45, (0.86, 0.98)),
)


def choose_models(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(count,) indices into MODELS, drawn by their shares."""
    shares = np.array([model.share for model in MODELS])
    return rng.choice(len(MODELS), size=count, p=shares / shares.sum())


@lru_cache(maxsize=len(MODELS))
def model_mesh(index: int) -> TriangleMesh:
    """One car about the middle of its footprint: x forward, y left, z up from the road; seeds 0."""
    model, builder = MODELS[index], MeshBuilder()
    _add_body(builder, model)
    _add_cabin(builder, model)
    _add_wheels(builder, model)
    _add_lights(builder, model)
    mesh = builder.build()
    mesh.vertices[:, 0] -= model.length / 2
    return mesh


def footprints(places: Array, models: NDArray[np.intp], margin_m: float = 0.05) -> NDArray[np.object_]:
    """(N,) shapely polygons covered by cars at places (N, 3) east, north, yaw."""
    half = np.array([(model.length / 2, model.width / 2) for model in MODELS])[models] + margin_m
    forward = np.stack([np.cos(places[:, 2]), np.sin(places[:, 2])], axis=1)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=1)
    forward, left = forward * half[:, :1], left * half[:, 1:]
    middle = places[:, :2]
    corners = [middle - forward - left, middle + forward - left, middle + forward + left, middle - forward + left]
    return np.asarray(shapely.polygons(np.stack(corners, axis=1)))


def placed(mesh: TriangleMesh, place: Array, terrain: Terrain) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vertices and normals in the map of a model at (east, north, yaw), leaning with the slope."""
    x, y, yaw = (float(value) for value in place)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    vertices = mesh.vertices @ rotation
    slope = terrain.gradient(x, y)
    vertices[:, 2] += float(terrain.height(x, y)) + vertices[:, 0] * slope[0] + vertices[:, 1] * slope[1]
    vertices[:, :2] += (x, y)
    return vertices.astype(np.float32), (mesh.normals @ rotation).astype(np.float32)


def parked_fleet(
    spots: Array, terrain: Terrain, size_m: float, keep_clear: BaseGeometry | None, rng: np.random.Generator
) -> TriangleMesh:
    """Cars at spots (N, 3), a little askew; none touches `keep_clear` or stands at the town's edge."""
    count = len(spots)
    models = choose_models(count, rng)
    # Nothing longer than a van fits a parking bay.
    models[models == len(MODELS) - 1] = 0
    places = spots + rng.normal(0.0, (0.12, 0.12, 0.03), (count, 3)).clip(-0.25, 0.25)
    seeds = rng.integers(1 << 30, size=count)
    keep = np.abs(places[:, :2]).max(axis=1, initial=0.0) < size_m / 2 - _EDGE_MARGIN_M
    if keep_clear is not None and count:
        shapely.prepare(keep_clear)
        keep &= ~shapely.intersects(keep_clear, footprints(places, models))
    builder = MeshBuilder()
    for index in np.flatnonzero(keep):
        mesh = model_mesh(int(models[index]))
        vertices, normals = placed(mesh, places[index], terrain)
        builder.add_smooth(vertices, normals, mesh.triangles, SurfaceMaterial.CAR, seeds[index], mesh.uv)
    return builder.build()


def _add_faces(builder: MeshBuilder, points: Array, faces: object, finish: tuple[float, float]) -> None:
    builder.add_flat(points, faces, SurfaceMaterial.CAR, 0, np.tile(finish, (len(points), 1)))  # type: ignore[arg-type]


def _add_quad(builder: MeshBuilder, corners: Array, finish: tuple[float, float]) -> None:
    """A quad whose corners (4, 3) run counter-clockwise seen from outside."""
    _add_faces(builder, np.asarray(corners, dtype=np.float64), [[0, 1, 2], [0, 2, 3]], finish)


def _add_body(builder: MeshBuilder, model: CarModel) -> None:
    length, belt, nose = model.length, model.belt, model.nose
    profile = np.array(
        [
            [0.02, 0.26],
            [length - 0.02, 0.26],
            [length, 0.45],
            [length - 0.03, nose - 0.08],
            [length - 0.22, nose],
            [max(model.cabin[1], length - 1.6), belt],
            [0.08, belt],
            [0.0, belt - 0.3],
        ]
    )
    count = len(profile)
    right = np.stack([profile[:, 0], np.full(count, -model.width / 2), profile[:, 1]], axis=1)
    points = np.concatenate([right, right * [1.0, -1.0, 1.0]])
    side = earcut.triangulate_float64(profile, np.array([count], np.uint32)).reshape(-1, 3).astype(int)
    a, b, c = (profile[side[:, k]] for k in range(3))
    clockwise = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    side[clockwise] = side[clockwise][:, [0, 2, 1]]
    i = np.arange(count)
    j = (i + 1) % count
    ring = np.concatenate([np.stack([i, i + count, j], 1), np.stack([j, i + count, j + count], 1)])
    _add_faces(builder, points, np.concatenate([side, side[:, [0, 2, 1]] + count, ring]), PAINT)
    # What the road sees of a car is dark; the lowest quad stands for its contact shadow.
    half = model.width / 2 + 0.1
    ground = [[-0.1, -half, 0.02], [length + 0.1, -half, 0.02], [length + 0.1, half, 0.02], [-0.1, half, 0.02]]
    _add_quad(builder, np.array(ground), RUBBER)


def _add_cabin(builder: MeshBuilder, model: CarModel) -> None:
    foot, top = model.width / 2 - 0.03, model.width / 2 - (0.2 if model.height < 2.0 else 0.08)
    (x0, x1), (r0, r1) = model.cabin, model.roof
    low = [[x0, -foot, model.belt], [x1, -foot, model.belt], [x1, foot, model.belt], [x0, foot, model.belt]]
    high = [[r0, -top, model.height], [r1, -top, model.height], [r1, top, model.height], [r0, top, model.height]]
    _add_quad(builder, np.array(high), PAINT)
    first, last = model.side_windows
    middle = (first + last) / 2
    two = ((first, middle - 0.02), (middle + 0.02, last)) if last - first > 0.5 else ((first, last),)
    mirrored = tuple((1.0 - b, 1.0 - a) for a, b in two)
    has_rear_window = last - first > 0.5
    panes = (two, ((0.05, 0.95),), mirrored, ((0.07, 0.93),) if has_rear_window else ())
    for k in range(4):
        n = (k + 1) % 4
        quad = np.array([low[k], low[n], high[n], high[k]], dtype=np.float64)
        _add_quad(builder, quad, PAINT)
        outward = np.cross(quad[1] - quad[0], quad[3] - quad[0])
        outward *= 0.012 / np.linalg.norm(outward)
        for start, end in panes[k]:
            _add_quad(builder, _inset(quad, (start, end), (0.08, 0.88)) + outward, GLASS)


def _inset(quad: Array, across: tuple[float, float], up: tuple[float, float]) -> Array:
    """Part of a quad (bottom left, bottom right, top right, top left) between fractions of its sides."""

    def at(u: float, v: float) -> Array:
        return (1 - v) * ((1 - u) * quad[0] + u * quad[1]) + v * ((1 - u) * quad[3] + u * quad[2])

    (u0, u1), (v0, v1) = across, up
    return np.stack([at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)])


def _add_wheels(builder: MeshBuilder, model: CarModel) -> None:
    angle = 2 * np.pi * np.arange(_WHEEL_CORNERS) / _WHEEL_CORNERS
    fan = np.array([[0, k, k + 1] for k in range(1, _WHEEL_CORNERS - 1)])
    radius = model.wheel_radius
    for x in (0.19 * model.length, 0.81 * model.length):
        builder_box = np.array([x, 0.0])
        for side in (-1, 1):
            y = side * model.width / 2
            for share, gap, finish in ((1.0, 0.008, RUBBER), (0.5, 0.016, HEAD_LIGHT)):
                points = np.empty((_WHEEL_CORNERS, 3))
                points[:, 0] = x + share * radius * np.cos(angle)
                points[:, 1] = y + side * gap
                points[:, 2] = radius + share * radius * np.sin(angle)
                _add_faces(builder, points, fan if side < 0 else fan[:, [0, 2, 1]], finish)
            for facing in (-1, 1):  # treads, seen from ahead and behind
                edge = builder_box[0] + facing * 0.8 * radius
                near, far = sorted((y, y - side * 0.2), reverse=facing < 0)
                tread = [[edge, near, 0.0], [edge, far, 0.0], [edge, far, 0.4], [edge, near, 0.4]]
                _add_quad(builder, np.array(tread), RUBBER)


def _add_lights(builder: MeshBuilder, model: CarModel) -> None:
    half = model.width / 2
    for x, facing, finish, low, high in (
        (model.length + 0.012, 1, HEAD_LIGHT, model.nose - 0.24, model.nose - 0.08),
        (-0.012, -1, TAIL_LIGHT, model.belt - 0.32, model.belt - 0.1),
    ):
        for inner, outer in ((half - 0.42, half - 0.06), (-half + 0.06, -half + 0.42)):
            near, far = (inner, outer) if facing > 0 else (outer, inner)
            _add_quad(builder, np.array([[x, near, low], [x, far, low], [x, far, high], [x, near, high]]), finish)
        near, far = (-0.26, 0.26) if facing > 0 else (0.26, -0.26)
        plate = np.array([[x, near, 0.42], [x, far, 0.42], [x, far, 0.53], [x, near, 0.53]])
        _add_quad(builder, plate, HEAD_LIGHT)
