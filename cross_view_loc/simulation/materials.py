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
    MEADOW = 9
    LITTER = 10
    DIRT = 11
    PLOUGHED = 12
    CROP = 13
    STUBBLE = 14
    WATER = 15
    YELLOW_LINE = 16


ROAD_MATERIALS = (
    GroundMaterial.ASPHALT,
    GroundMaterial.CONCRETE,
    GroundMaterial.GRAVEL,
    GroundMaterial.DIRT,
    GroundMaterial.YELLOW_LINE,
)
"""What carriageways are made of; YELLOW_LINE is asphalt on which paint is yellow."""


class SurfaceMaterial(IntEnum):
    """Material of a triangle. The texture coordinates the renderer relies on, by material:

    GROUND: unused (the ground raster is looked up by map position). WALL: u metres along the facade, v metres above the
    ground floor. ROOF_TILE: u metres along the eaves, v metres up the slope. ROOF_FLAT: map position in metres.
    ROOF_SHINGLE, ROOF_METAL: as ROOF_TILE.
    CAR: u along the car in lengths (-0.5 rear to 0.5 front), v in car heights (0 to 1). Others: unused.
    The triangle's seed varies the look within a material; a LAMP with seed 1 is a luminaire, above 1 a traffic sign.
    The seeds of ROOF_SHINGLE, ROOF_METAL and PAINTED hold their colour, see `coloured_seed`.
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
    ROOF_SHINGLE = 12
    ROOF_METAL = 13
    PAINTED = 14


EVERGREEN_SEED = 1 << 30
"""LEAF triangles with seeds from here on belong to trees without seasons."""


def coloured_seed(colour: tuple[float, float, float], variant: int = 0) -> int:
    """A triangle's seed that holds a linear albedo (0 to 1) in its low 18 bits, square-root coded; `variant` 0-4095."""
    red, green, blue = (min(63, max(0, round(63 * value**0.5))) for value in colour)
    return (variant & 0xFFF) << 18 | red << 12 | green << 6 | blue
