"""What the town's surfaces are made of; the renderer decides what each looks like."""

from enum import IntEnum


class GroundMaterial(IntEnum):
    """Values of the town's ground raster `Town.ground_material`."""

    ASPHALT = 0
    SIDEWALK = 1
    GRASS = 2
    CONCRETE = 3
    PARKING_ASPHALT = 4
    GRAVEL = 5
    SOIL = 6
    PLAZA = 7
    PAVER = 8


class SurfaceMaterial(IntEnum):
    """Material of a triangle. The texture coordinates the renderer relies on, by material:

    GROUND: unused (the ground raster is looked up by map position). WALL: u metres along the facade, v metres above the
    ground floor. ROOF_TILE: u metres along the eaves, v metres up the slope. ROOF_FLAT: map position in metres.
    CAR: u along the car in lengths (-0.5 rear to 0.5 front), v in car heights (0 to 1). Others: unused.
    The triangle's seed varies the look within a material; a LAMP with seed 1 is a luminaire, above 1 a traffic sign.
    """

    GROUND = 0
    WALL = 1
    ROOF_TILE = 2
    ROOF_FLAT = 3
    LEAF = 4
    TRUNK = 5
    CAR = 6
    KERB = 7
    METAL = 8
    HEDGE = 9
    FENCE = 10
    LAMP = 11
