"""The VIGOR benchmark: panoramas in satellite images of four cities, in the same or in other cities than trained on.

    ROOT/splits/CITY/same_area_balanced_test.txt, pano_label_balanced.txt                  the original labels
    ROOT/splits__corrected/CITY/same_area_balanced_test__corrected.txt, …                  SliceMatch's corrected ones

Same area is tested in all four cities, cross area on every panorama of San Francisco and Chicago. Searched is the
middle half of the satellite image, in which the balanced panoramas lie. With a known heading the panorama's middle
column is north; with an unknown one its columns are rolled by a random share of a turn that follows from the seed and
the frame's name, and nothing is said about the heading.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc.datasets.selection import evenly_spaced
from cross_view_loc.datasets.vigor import CAMERA_HEIGHT_M, METERS_PER_PIXEL, vigor_rows
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.evaluation.metrics import Truth
from cross_view_loc.evaluation.pairs import LoadedPair, Pair, with_unique_names
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, transform
from cross_view_loc.types import Prior

LABEL_FILES = {"same": "same_area_balanced_test", "cross": "pano_label_balanced"}
LABEL_FOLDERS = {"original": "splits", "corrected": "splits__corrected"}
TEST_CITIES = {"same": tuple(METERS_PER_PIXEL), "cross": ("SanFrancisco", "Chicago")}
SATELLITE_PX = 640
SEARCHED_PX = SATELLITE_PX // 4
"""Half the side of the searched square."""
KNOWN_HEADING_RANGE_RAD = math.radians(3.0)
"""Searched about a known heading: three drawn matches, a metre off each, hardly ever agree with it better."""
TURN_STEPS = 512
"""A roll is a whole number of columns of a panorama whose width is a multiple of this (VIGOR: 2048)."""


def vigor_pairs(
    root: Path,
    area: str,
    heading: str,
    labels: str,
    seed: int = 0,
    frames: int | None = None,
    stride: int = 1,
    cities: Sequence[str] = (),
) -> list[Pair]:
    """The test frames of an area, or `frames` evenly spaced ones of every `stride`th.

    `heading` is "known" or "unknown"; `cities` leaves out others, and so does a data set that lacks their folders.
    Raises MissingInputError or InputError naming file and line.
    """
    chosen = tested_cities(root, area, cities)
    rows = [(city, row) for city in chosen for row in vigor_rows(root, find_labels(root, city, area, labels))]
    pairs = [_pair(city, row) for city, row in evenly_spaced(rows, frames, stride)]
    pairs = with_unique_names(pairs)
    return [with_unknown_heading(pair, seed) for pair in pairs] if heading == "unknown" else pairs


def tested_cities(root: Path, area: str, cities: Sequence[str] = ()) -> list[str]:
    """Those of an area that are asked for, or have a folder. Raises MissingInputError or InputError for none."""
    found = cities or [city for city in METERS_PER_PIXEL if (root / city).is_dir()]
    if not found:
        raise MissingInputError(f"there is no folder {', '.join(METERS_PER_PIXEL)} in {root}; give VIGOR's with --root")
    chosen = [city for city in TEST_CITIES[area] if city in found]
    if not chosen:
        raise InputError(
            f"{' and '.join(found)} in {root} are not tested in the {area} area; choose of "
            f"{', '.join(TEST_CITIES[area])}"
        )
    return chosen


def find_labels(root: Path, city: str, area: str, labels: str) -> Path:
    """A city's label file. Raises MissingInputError."""
    folder = root / LABEL_FOLDERS[labels] / city
    for ending in ("__corrected.txt", ".txt") if labels == "corrected" else (".txt",):
        if (folder / f"{LABEL_FILES[area]}{ending}").is_file():
            return folder / f"{LABEL_FILES[area]}{ending}"
    raise MissingInputError(
        f"there is no {LABEL_FILES[area]}{ending} in {folder} ({area} area, {labels} labels); unpack the splits there, "
        "or take other --labels or --city"
    )


def _pair(city: str, row: dict[str, Any]) -> Pair:
    image = Path(row["image"])
    radius_m = SEARCHED_PX * row["meters_per_pixel"]
    return Pair(
        f"{city}/{image.name}",
        image,
        row["camera"],
        None,
        transform(R_BODY_OPTICAL, (0.0, 0.0, CAMERA_HEIGHT_M)),
        np.eye(3),
        Path(row["aerial"]),
        SATELLITE_PX,
        row["meters_per_pixel"],
        Truth(row["east_m"], row["north_m"], math.pi / 2),
        Prior(0, 0.0, 0.0, radius_m, math.pi / 2, KNOWN_HEADING_RANGE_RAD),
        city,
    )


def with_unknown_heading(pair: Pair, seed: int) -> Pair:
    """The panorama rolled to the right by a random share of a turn, and a prior that says nothing about the heading.

    Columns run clockwise, so the middle one now shows what lies that much further counter-clockwise: the panorama
    looks there. A square's corners are searched too: the disc about it.
    """
    drawn = np.random.default_rng([seed, zlib.crc32(pair.name.encode())])
    turn = int(drawn.integers(TURN_STEPS)) / TURN_STEPS
    yaw_rad = math.remainder(pair.truth.yaw_rad + 2 * math.pi * turn, 2 * math.pi)
    prior = Prior(0, pair.prior.east_m, pair.prior.north_m, pair.prior.radius_m * math.sqrt(2.0))
    return replace(pair, truth=replace(pair.truth, yaw_rad=yaw_rad), prior=prior, turn=turn)


def tile_of_city(localizer: Any) -> Callable[[LoadedPair], None]:
    """Gives imported weights the tile size of the city a pair is in; our own model needs none."""
    if getattr(localizer, "published", None) is None:
        return lambda loaded: None
    from cross_view_loc.matching.loc2.pipeline import Loc2Matcher
    from cross_view_loc.matching.loc2.specification import specification

    first = localizer.published
    matchers: dict[str, Loc2Matcher] = {}

    def choose(loaded: LoadedPair) -> None:
        city = loaded.pair.place
        if city not in matchers:
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", city).lower()  # NewYork is new_york there
            spec = specification(first.spec.variant, name).with_quirks(first.spec.quirks)
            matchers[city] = Loc2Matcher(first.network, spec, first.backbone, first.device)
        localizer.published = matchers[city]

    return choose
