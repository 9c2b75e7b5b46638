"""Drives through four towns in the layout of VIGOR, each town under the name and at the place of one of its cities.

    CITY/panorama/ID,LATITUDE,LONGITUDE,.jpg             2048 × 1024, middle column north, rims south
    CITY/satellite/satellite_LATITUDE_LONGITUDE.png      640 px, north up
    splits/CITY/satellite_list.txt, same_area_balanced_train.txt, same_area_balanced_test.txt, pano_label_balanced.txt
    splits__corrected/CITY/…                             the same, label files named …__corrected.txt

For what the labels say see `vigor_labels.py`. Panoramas are level: they were before they were published.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc.geometry.geodesy import MapOrigin, MapProjection
from cross_view_loc.simulation.drive_renderer import Shot
from cross_view_loc.simulation.layouts.scene import LayoutSettings, Scene, write_image
from cross_view_loc.simulation.layouts.vigor_labels import (
    METERS_PER_PIXEL,
    ORIGINAL_METERS_PER_PIXEL,
    TILE_PX,
    Cell,
    Labelled,
    TileGrid,
    label_files,
)
from cross_view_loc.simulation.simulate import Progress

PANORAMA_WIDTH, PANORAMA_HEIGHT = 2048, 1024
CAMERA_HEIGHT_M = 2.5
CITIES = {
    "NewYork": MapOrigin(40.74, -73.99, 10.0),
    "Seattle": MapOrigin(47.61, -122.33, 50.0),
    "SanFrancisco": MapOrigin(37.77, -122.42, 20.0),
    "Chicago": MapOrigin(41.88, -87.63, 180.0),
}
TOWN_SIZE_M = 480.0
R_MAP_NORTH_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""An optical frame (x right, y down, z forward) that is level and looks north, in the map (east, north, up)."""
_GRID_STREAM = 22


def write_vigor(
    settings: LayoutSettings, out: Path, progress: Progress, cities: tuple[str, ...] = tuple(CITIES)
) -> dict[str, Any]:
    """Write `settings.frames` panoramas of each city into `out`, replacing a former run's; says what was written.

    The towns' seeds count up from `settings.seed` in the order of CITIES. Raises InputError when a town has not as
    many moments.
    """
    for folder in (*CITIES, "splits", "splits__corrected"):
        shutil.rmtree(out / folder, ignore_errors=True)
    step = progress.start("panoramas", settings.frames * len(cities))
    counts = {}
    for city in cities:
        seed = settings.seed + list(CITIES).index(city)
        scene = Scene.make(settings, seed, TOWN_SIZE_M, MapProjection(CITIES[city]))
        counts[city] = _write_city(scene, settings.frames, out, city, step)
    return {
        "out": str(out),
        "layout": "vigor",
        "seed": settings.seed,
        "gap": settings.gap,
        "region": settings.region,
        "images": settings.frames * len(cities),
        "aerial_images": sum(counts.values()),
        "lists": {city: settings.frames for city in cities},
    }


def _write_city(scene: Scene, frames: int, out: Path, city: str, step: Any) -> int:
    """Write one city; returns how many satellite images it has."""
    gsd = METERS_PER_PIXEL[city]
    offset = np.random.default_rng([scene.world.seed, _GRID_STREAM]).uniform(-0.5, 0.5, 2) * TILE_PX / 2 * gsd
    grid = TileGrid(gsd, float(offset[0]), float(offset[1]))
    tiles: dict[Cell, str] = {}
    rows = []
    for index, time_s in enumerate(scene.moments_s(frames, TILE_PX * gsd)):
        east_m, north_m, up_m = (float(value) for value in np.asarray(scene.drive.T_map_base(time_s))[:3, 3])
        photo = scene.cameras.shoot([north_shot(east_m, north_m, up_m, time_s)])[0]
        name = _panorama_name(scene, city, index, east_m, north_m)
        write_image(out / city / "panorama" / name, photo.image)
        cells = grid.cells_of(east_m, north_m)
        for cell in cells:
            if cell not in tiles:
                tiles[cell] = _satellite_name(scene, *grid.middle_m(cell))
                write_image(out / city / "satellite" / tiles[cell], scene.aerial(*grid.middle_m(cell), TILE_PX, gsd))
        satellites = tuple((tiles[cell], *grid.middle_m(cell)) for cell in cells)
        rows.append(Labelled(name, east_m, north_m, satellites))
        step(1)
    for folder, suffix, divisor in (
        ("splits", "", ORIGINAL_METERS_PER_PIXEL),
        ("splits__corrected", "__corrected", gsd),
    ):
        (out / folder / city).mkdir(parents=True)
        texts = label_files(rows, divisor, suffix)
        texts["satellite_list.txt"] = "".join(f"{name}\n" for name in sorted(tiles.values()))
        for file, text in texts.items():
            (out / folder / city / file).write_text(text, encoding="ascii")
    return len(tiles)


def north_shot(east_m: float, north_m: float, up_m: float, time_s: float) -> Shot:
    """A level panorama that looks north from above a point on the road."""
    T_map_camera = np.eye(4)
    T_map_camera[:3, :3] = R_MAP_NORTH_CAMERA
    T_map_camera[:3, 3] = east_m, north_m, up_m + CAMERA_HEIGHT_M
    return Shot(T_map_camera, PANORAMA_WIDTH, PANORAMA_HEIGHT, None, time_s)


def _panorama_name(scene: Scene, city: str, index: int, east_m: float, north_m: float) -> str:
    digest = hashlib.sha256(f"{city} {scene.world.seed} {index}".encode()).digest()
    latitude_deg, longitude_deg, _ = scene.projection.to_geodetic(east_m, north_m, 0.0)
    identity = base64.urlsafe_b64encode(digest)[:22].decode()
    return f"{identity},{float(latitude_deg):.6f},{float(longitude_deg):.6f},.jpg"


def _satellite_name(scene: Scene, east_m: float, north_m: float) -> str:
    latitude_deg, longitude_deg, _ = scene.projection.to_geodetic(east_m, north_m, 0.0)
    return f"satellite_{float(latitude_deg):.10f}_{float(longitude_deg):.10f}.png"
