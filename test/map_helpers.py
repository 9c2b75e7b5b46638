"""A painted scene and every way of putting it into a map; positions come from pyproj, not from the code under test."""

import io
import math
import sqlite3

import cv2
import numpy as np
import pyproj

from cross_view_loc.aerial.tiles import TileKey

HALF_WORLD_M = math.pi * 6378137.0
MERCATOR = pyproj.Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)


class Scene:
    """Smooth stripes, or plain grey, about a place and soft white dots at places (latitude, longitude)."""

    def __init__(self, latitude_deg, longitude_deg, dots=(), dot_m=0.9, stripes=True):
        self.place, self.dots, self.dot_m = (latitude_deg, longitude_deg), tuple(dots), dot_m
        self.amplitude = 50.0 if stripes else 0.0

    def metres(self, latitude_deg, longitude_deg, about):
        """Roughly metres east and north; exact enough near `about`, and smooth."""
        east_deg = (longitude_deg - about[1] + 180.0) % 360.0 - 180.0
        return (
            east_deg * 111_320.0 * math.cos(math.radians(about[0])),
            (latitude_deg - about[0]) * 111_320.0,
        )

    def paint(self, latitude_deg, longitude_deg):
        """RGB (H, W, 3) at positions (H, W)."""
        east_m, north_m = self.metres(latitude_deg, longitude_deg, self.place)
        waves = ((east_m, 7.0), (north_m, 9.0), (east_m + north_m, 13.0))
        picture = np.stack([90.0 + self.amplitude * np.sin(2 * np.pi * at / length) for at, length in waves], axis=-1)
        for dot in self.dots:
            east_m, north_m = self.metres(latitude_deg, longitude_deg, dot)
            weight = np.exp(-(east_m**2 + north_m**2) / (2 * self.dot_m**2))[..., None]
            picture = picture * (1.0 - weight) + 255.0 * weight
        return picture.round().astype(np.uint8)

    def mercator(self, west_m, south_m, east_m, north_m, width, height):
        """Picture of a box of EPSG:3857."""
        x = west_m + (np.arange(width) + 0.5) * (east_m - west_m) / width
        y = north_m - (np.arange(height) + 0.5) * (north_m - south_m) / height
        longitude_deg, latitude_deg = MERCATOR.transform(*np.meshgrid(x, y))
        return self.paint(latitude_deg, longitude_deg)

    def tile(self, key, size_px=256):
        """Picture of a tile."""
        side_m = 2 * HALF_WORLD_M / 2**key.zoom
        west_m, north_m = key.column * side_m - HALF_WORLD_M, HALF_WORLD_M - key.row * side_m
        return self.mercator(west_m, north_m - side_m, west_m + side_m, north_m, size_px, size_px)


class PaintedStore:
    """A TileStore that paints what it is asked for, except the keys in `absent`."""

    name, attribution, problems = "painted", "© painter", ()
    bounds = (-85.0, -180.0, 85.0, 180.0)

    def __init__(self, scene, zooms, tile_size_px=256, absent=()):
        self.scene, self.zooms, self.tile_size_px = scene, tuple(zooms), tile_size_px
        self.absent, self.asked = set(absent), []

    def read(self, key):
        self.asked.append(key)
        if key.zoom not in self.zooms or key in self.absent:
            return None
        return encode(self.scene.tile(key, self.tile_size_px))


def encode(picture, ending=".png"):
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if ending == ".webp" else []
    return cv2.imencode(ending, np.ascontiguousarray(picture[..., ::-1]), parameters)[1].tobytes()


def keys_about(latitude_deg, longitude_deg, zoom, reach):
    """Keys of the tiles around a place, across ±180° where need be."""
    middle = TileKey.at(latitude_deg, longitude_deg, zoom)
    steps = range(-reach, reach + 1)
    return [TileKey(zoom, (middle.column + i) % 2**zoom, middle.row + j) for i in steps for j in steps]


def write_mbtiles(path, tiles, **metadata):
    """MBTiles of {key: bytes}."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
    connection.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
    connection.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
    for key, data in tiles.items():
        row = 2**key.zoom - 1 - key.row
        connection.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (key.zoom, key.column, row, data))
    connection.commit()
    connection.close()
    return path


def write_pmtiles(path, tiles, tile_type="PNG", **metadata):
    """PMTiles v3 of {key: bytes}."""
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import Writer

    header = {"tile_type": TileType[tile_type], "tile_compression": Compression.NONE}
    boxes = np.array([key.bounds() for key in tiles]) * 1e7
    header |= {"min_lat_e7": int(boxes[:, 0].min()), "min_lon_e7": int(boxes[:, 1].min())}
    header |= {"max_lat_e7": int(boxes[:, 2].max()), "max_lon_e7": int(boxes[:, 3].max())}
    out = io.BytesIO()
    writer = Writer(out)
    for key, data in sorted(tiles.items(), key=lambda item: zxy_to_tileid(item[0].zoom, item[0].column, item[0].row)):
        writer.write_tile(zxy_to_tileid(key.zoom, key.column, key.row), data)
    writer.finalize(header, metadata)
    path.write_bytes(out.getvalue())
    return path


def write_folder(path, tiles, name="{z}/{x}/{y}.png"):
    """Picture files of {key: bytes}; {-y} in the name counts rows from the south."""
    for key, data in tiles.items():
        south = str(2**key.zoom - 1 - key.row)
        relative = name.replace("{z}", str(key.zoom)).replace("{x}", str(key.column)).replace("{q}", key.quadkey)
        file = path / relative.replace("{y}", str(key.row)).replace("{-y}", south)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def write_geotiff(path, scene, crs, reach_m, pixel_m, **options):
    """GeoTIFF of the scene in a coordinate system, with pixels of about `pixel_m` and that reach around the place."""
    import rasterio
    from rasterio.transform import from_origin

    latitude_deg, longitude_deg = scene.place
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_crs.transform(longitude_deg, latitude_deg)
    # The units of the system, from a bit of longitude and of latitude: degrees, feet or stretched metres.
    east_m, north_m = 1e-5 * 111_320.0 * math.cos(math.radians(latitude_deg)), 1e-5 * 111_320.0
    step_x = pixel_m / east_m * math.dist(to_crs.transform(longitude_deg - 1e-5, latitude_deg), (x, y))
    step_y = pixel_m / north_m * math.dist(to_crs.transform(longitude_deg, latitude_deg + 1e-5), (x, y))
    count = round(2 * reach_m / pixel_m)
    left, top = x - (0.37 + count / 2) * step_x, y + (0.21 + count / 2) * step_y
    u, v = np.meshgrid(np.arange(count) + 0.5, np.arange(count) + 0.5)
    longitudes, latitudes = to_crs.transform(left + u * step_x, top - v * step_y, direction="INVERSE")
    picture = scene.paint(latitudes, longitudes)
    profile = {"driver": "GTiff", "width": count, "height": count, "count": 3, "dtype": "uint8", "crs": crs}
    profile |= {"transform": from_origin(left, top, step_x, step_y), "photometric": "RGB", "tiled": True, **options}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.moveaxis(picture, -1, 0))
    return path


def dot_positions(patch, near_map, radius_m=4.0):
    """Measured map positions (N, 2) of the white dots on plain grey near places (N, 2) in map metres."""
    from cross_view_loc.aerial.patch import pixel_centers

    centers = patch.pixel_to_map(pixel_centers(patch.size_px))
    found = []
    for place in near_map:
        near = (np.linalg.norm(centers - place, axis=-1) < radius_m) & patch.valid
        weight = np.clip(patch.image.min(-1).astype(float) - 100.0, 0.0, None) * near
        found.append((centers * weight[..., None]).sum((0, 1)) / weight.sum())
    return np.array(found)
