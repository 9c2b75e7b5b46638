"""An older state of a town: what a map shows that was made before a tenth of the place changed.

The town that vehicles meet stays as it is; the copy for the map lacks what was built since, still has what was removed
since, and carries the road paint of its day.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cross_view_loc.simulation.buildings import FOUNDATION_M
from cross_view_loc.simulation.grouping import groups_of_near
from cross_view_loc.simulation.materials import GroundMaterial, SurfaceMaterial
from cross_view_loc.simulation.mesh import MeshBuilder, TriangleMesh

if TYPE_CHECKING:
    from cross_view_loc.simulation.town import Town

STALE_SHARE = 0.1
"""Part of the objects and of the painted area that changed since the map was made."""
_PIECE_M = 12.0
"""Long lines are repainted in pieces of this length."""
_BUILDING = (SurfaceMaterial.WALL, SurfaceMaterial.ROOF_TILE, SurfaceMaterial.ROOF_FLAT)
_ROOFTOP = (SurfaceMaterial.KERB, SurfaceMaterial.METAL)
_ROAD = (GroundMaterial.ASPHALT, GroundMaterial.SIDEWALK)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """How much of one kind of thing differs between a town and its older copy."""

    changed: float
    total: float

    @property
    def share(self) -> float:
        """0 to 1; 0 when there is nothing of this kind."""
        return self.changed / self.total if self.total else 0.0


def stale_town(town: Town, seed: int, share: float = STALE_SHARE) -> tuple[Town, dict[str, Change]]:
    """The town as the map saw it, and what differs: trees, buildings, furniture, borders (counts), markings (m²).

    Shares what did not change with `town`, which is left alone. The same arguments give the same copy.
    """
    rng = np.random.default_rng([town.seed, seed, 6])
    then = copy.copy(town)
    then.ground_material, then.trees = town.ground_material.copy(), town.trees.copy()
    edit = _MeshEdit(town.mesh)
    changes = {
        "trees": _change_trees(then, edit, rng, share),
        "buildings": _change_buildings(then, edit, rng, share),
        "furniture": _change_furniture(town, edit, rng, share),
        "borders": _change_borders(edit, rng, share),
    }
    then.markings, changes["markings"] = _repainted(town, rng, share)
    then.mesh = edit.build()
    return then, changes


class _MeshEdit:
    """A mesh with triangles dropped, vertices moved, seeds changed and parts added."""

    def __init__(self, mesh: TriangleMesh) -> None:
        self.mesh = replace(mesh, vertices=mesh.vertices.copy(), seeds=mesh.seeds.copy())
        self.keep: Mask = np.ones(len(mesh.triangles), dtype=bool)
        self.added = MeshBuilder()

    def groups(self, materials: tuple[SurfaceMaterial, ...]) -> dict[int, NDArray[np.intp]]:
        """Triangles of these materials by seed, in the order of the seeds."""
        index = np.flatnonzero(np.isin(self.mesh.materials, [int(material) for material in materials]))
        index = index[np.argsort(self.mesh.seeds[index], kind="stable")]
        seeds, starts = np.unique(self.mesh.seeds[index], return_index=True)
        return dict(zip(seeds.tolist(), np.split(index, starts[1:]), strict=True)) if len(index) else {}

    def vertices_of(self, triangles: NDArray[np.intp]) -> NDArray[np.int32]:
        return np.unique(self.mesh.triangles[triangles])

    def build(self) -> TriangleMesh:
        mesh, keep = self.mesh, self.keep
        kept = replace(mesh, triangles=mesh.triangles[keep], materials=mesh.materials[keep], seeds=mesh.seeds[keep])
        return kept.joined(self.added.build())


def _chosen(count: int, share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """A share of 0 .. count - 1 in random order; the fraction of one is left to chance."""
    wanted = int(share * count + rng.random())
    return rng.permutation(count)[:wanted]


def _change_trees(then: Town, edit: _MeshEdit, rng: np.random.Generator, share: float) -> Change:
    """Half of them were not planted yet, some were smaller, some stood elsewhere."""
    trunks = list(edit.groups((SurfaceMaterial.TRUNK,)).items())
    crowns = edit.groups((SurfaceMaterial.LEAF,))
    gone = np.zeros(len(then.trees), dtype=bool)
    chosen = _chosen(len(trunks), share, rng)
    for index in chosen:
        seed, trunk = trunks[index]
        triangles = np.concatenate([trunk, crowns.get(seed, np.empty(0, np.intp))])
        members = edit.vertices_of(triangles)
        points = edit.mesh.vertices
        foot = points[edit.vertices_of(trunk)].mean(axis=0).astype(np.float64)
        foot[2] = float(then.height(foot[0], foot[1]))
        row = int(np.argmin(((then.trees[:, :2] - foot[:2]) ** 2).sum(axis=1)))
        fate = rng.random()
        bearing, distance, size = rng.uniform(0.0, 2 * np.pi), rng.uniform(3.0, 7.0), rng.uniform(0.35, 0.6)
        place = foot[:2] + distance * np.array([np.cos(bearing), np.sin(bearing)])
        if fate > 0.75 and _is_free(then, place):
            shift = np.array([*(place - foot[:2]), float(then.height(*place)) - foot[2]])
            points[members] += shift.astype(np.float32)
            then.trees[row, :2] = place
        elif fate > 0.5:
            points[members] = foot + size * (points[members] - foot)
            then.trees[row, 2:] *= size
        else:
            edit.keep[triangles] = False
            gone[row] = True
    then.trees = then.trees[~gone]
    return Change(len(chosen), len(trunks))


def _is_free(town: Town, place: NDArray[np.float64]) -> bool:
    if np.abs(place).max() > town.size_m / 2 - 2.0:
        return False
    column, row = np.floor(town.ground_pixel(place)).astype(int)
    return town.ground_material[row, column] not in _ROAD


def _change_buildings(then: Town, edit: _MeshEdit, rng: np.random.Generator, share: float) -> Change:
    """A quarter were not built yet; others had an annex that is gone, another height or an older roof."""
    buildings = list(edit.groups(_BUILDING).items())
    on_roofs = edit.groups(_ROOFTOP)
    chosen = _chosen(len(buildings), share, rng)
    for index in chosen:
        seed, shell = buildings[index]
        triangles = np.concatenate([shell, on_roofs.get(seed, np.empty(0, np.intp))])
        walls = shell[edit.mesh.materials[shell] == int(SurfaceMaterial.WALL)]
        fate = rng.random()
        if fate < 0.25:
            edit.keep[triangles] = False
            _clear_site(then, edit, walls)
        elif fate < 0.7 and len(walls):
            _add_annex(then, edit, walls, rng)
        elif fate < 0.85:
            members = edit.vertices_of(triangles)
            heights = edit.mesh.vertices[members, 2]
            base = heights.min() + FOUNDATION_M
            factor = rng.choice([rng.uniform(0.5, 0.7), rng.uniform(1.3, 1.6)])
            edit.mesh.vertices[members, 2] = np.where(heights > base, base + factor * (heights - base), heights)
        else:
            edit.mesh.seeds[triangles] = rng.integers(1 << 30)
    return Change(len(chosen), len(buildings))


def _clear_site(then: Town, edit: _MeshEdit, walls: NDArray[np.intp]) -> None:
    """Bare soil where the building was going to stand."""
    if len(walls):
        corners = then.ground_pixel(edit.mesh.vertices[edit.vertices_of(walls)]).astype(np.float32)
        hull = cv2.convexHull(corners).round().astype(np.int32)
        cv2.fillConvexPoly(then.ground_material, hull, int(GroundMaterial.SOIL))


def _add_annex(then: Town, edit: _MeshEdit, walls: NDArray[np.intp], rng: np.random.Generator) -> None:
    """A low flat-roofed box against the middle of a wall, if there is room off the street."""
    mesh = edit.mesh
    for wall in rng.permutation(walls)[:6]:
        corners = mesh.vertices[mesh.triangles[wall]].astype(np.float64)
        ends = corners[:, :2]
        spans = ends[[1, 2, 0]] - ends
        longest = int(np.argmax(np.linalg.norm(spans, axis=1)))
        length = float(np.linalg.norm(spans[longest]))
        outward = mesh.normals[mesh.triangles[wall, 0]][:2].astype(np.float64)
        depth = rng.uniform(2.5, 5.0)
        middle = ends[longest] + spans[longest] / 2 + outward * depth / 2
        far = middle + outward * depth / 2
        if length < 4.0 or not _is_free(then, middle) or not _is_free(then, far):
            continue
        ground = float(then.height(*middle))
        half = (length * rng.uniform(0.25, 0.5), depth / 2)
        yaw = float(np.arctan2(spans[longest][1], spans[longest][0]))
        top = ground + rng.uniform(2.6, 3.6)
        seed = int(rng.integers(1 << 30))
        edit.added.add_boxes(middle, half, ground - 0.5, top, yaw, SurfaceMaterial.ROOF_FLAT, seed)
        return


def _change_furniture(town: Town, edit: _MeshEdit, rng: np.random.Generator, share: float) -> Change:
    """Lamps, signs and bins that were not there yet, or a few metres aside."""
    mesh = edit.mesh
    index = np.flatnonzero(np.isin(mesh.materials, [int(SurfaceMaterial.METAL), int(SurfaceMaterial.LAMP)]))
    if not len(index):
        return Change(0, 0)
    centres = mesh.vertices[mesh.triangles[index]].mean(axis=1)
    count, labels = groups_of_near(centres[:, :2], 1.5)
    above_m = centres[:, 2] - town.height(centres[:, 0], centres[:, 1])
    low = np.full(count, np.inf)
    np.minimum.at(low, labels, above_m)
    standing = np.flatnonzero(low < 1.5)  # the rest are machines on roofs
    chosen = _chosen(len(standing), share, rng)
    for pick in chosen:
        triangles = index[labels == standing[pick]]
        shift = rng.uniform(1.5, 4.0) * np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)])
        if rng.random() < 0.5:
            edit.keep[triangles] = False
        else:
            mesh.vertices[edit.vertices_of(triangles), :2] += shift.astype(np.float32)
    return Change(len(chosen), len(standing))


def _change_borders(edit: _MeshEdit, rng: np.random.Generator, share: float) -> Change:
    """Hedges and fences set up since."""
    borders = list(edit.groups((SurfaceMaterial.HEDGE, SurfaceMaterial.FENCE)).values())
    chosen = _chosen(len(borders), share, rng)
    for index in chosen:
        edit.keep[borders[index]] = False
    return Change(len(chosen), len(borders))


def _repainted(town: Town, rng: np.random.Generator, share: float) -> tuple[NDArray[np.uint8], Change]:
    """The paint of the map's day: pieces that are new since are missing, worn or elsewhere.

    Half of the old places of repainted pieces are off by a few decimetres, the others by metres along or across.
    """
    now = town.markings
    then = now.copy()
    _, labels = cv2.connectedComponents((now > 0).astype(np.uint8))
    rows, columns = np.nonzero(now)
    cell_px = round(_PIECE_M / town.ground_resolution_m)
    across = len(now) // cell_px + 1
    keys = (labels[rows, columns].astype(np.int64) * across + rows // cell_px) * across + columns // cell_px
    order = np.argsort(keys, kind="stable")
    _, starts = np.unique(keys[order], return_index=True)
    pieces = np.split(order, starts[1:]) if len(order) else []
    changed = 0
    moved: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []
    for index in rng.permutation(len(pieces)):
        if changed >= share * len(rows):
            break
        piece = pieces[index]
        fate, near = rng.random(), rng.random() < 0.5
        bearing = rng.uniform(0.0, 2 * np.pi)
        distance_m = rng.uniform(0.3, 0.8) if near else rng.uniform(1.5, 5.0)
        then[rows[piece], columns[piece]] = now[rows[piece], columns[piece]] * 0.3 if fate < 0.25 else 0
        if fate > 0.6:
            moved.append((piece, distance_m * np.array([np.cos(bearing), np.sin(bearing)])))
        changed += len(piece)
    for piece, shift_m in moved:
        shift = np.round(shift_m / town.ground_resolution_m).astype(int)
        r, c = rows[piece] + shift[1], columns[piece] + shift[0]
        inside = (np.minimum(r, c) >= 0) & (np.maximum(r, c) < len(now))
        inside[inside] &= np.isin(
            town.ground_material[r[inside], c[inside]], [GroundMaterial.ASPHALT, GroundMaterial.PARKING_ASPHALT]
        )
        target = r[inside], c[inside]
        then[target] = np.maximum(then[target], now[rows[piece][inside], columns[piece][inside]])
    area_m2 = town.ground_resolution_m**2
    return then, Change(changed * area_m2, len(rows) * area_m2)
