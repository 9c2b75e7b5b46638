"""The option `--depth` of several commands: the same names as the parameter's."""

from __future__ import annotations

import argparse

from cross_view_loc.depth.spec import parse_depth
from cross_view_loc.errors import InputError

HELP = "learned, flat, a name of `models list`, hf:FOLDER_OR_NAME or onnx:FILE (default learned)"
PAIRS_HELP = (
    "learned, flat, a name of `models list`, hf:FOLDER_OR_NAME, onnx:FILE, or precomputed:DIR, which `cross_view_loc "
    "depth` wrote or which has its layout; repeatable; default learned"
)
"""Of the commands whose images are those of a data set."""


def depth_name(text: str) -> str:
    """For `type=`: the text itself when it can be a depth source."""
    try:
        parse_depth(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def town_depth_name(text: str) -> str:
    """The same, or one of the depths that only a simulation has."""
    return text if text in ("true", "relative", "inverse") else depth_name(text)
