"""Opens a bag's files with `rosbags`; what was cut off gets a new index, what cannot be opened one sentence."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from cross_view_loc.bags.cut_mcap import indexed_mcap
from cross_view_loc.bags.cut_ros1 import indexed_ros1
from cross_view_loc.bags.formats import bags_in, indexable_files, remedy, repair
from cross_view_loc.bags.patched_file import PatchedPath
from cross_view_loc.errors import InputError

_LOG = logging.getLogger(__name__)
_LIBRARY_ERRORS = (AnyReaderError, OSError, ValueError, KeyError, struct.error, AssertionError)
"""What `rosbags` lets through when a file is damaged; each becomes one InputError."""


def open_reader(path: Path) -> tuple[AnyReader, str]:
    """The open reader of a bag, and why it reaches only to a cut (one sentence; empty for a whole bag).

    Raises InputError when nothing of the bag can be read.
    """
    inside = bags_in(path)
    bag = inside[0] if len(inside) == 1 else path
    try:
        return _open([bag]), ""
    except Exception as error:  # the library raises many kinds for a damaged file
        if not isinstance(error, _LIBRARY_ERRORS) and not type(error).__module__.startswith("rosbags"):
            raise
        files = indexable_files(bag)
        if files:
            return _indexed(path, files)
        why = one_line(error)
        raise InputError(f"cannot open {path} as a bag ({why}); {remedy(bag, why)}") from error


def one_line(error: BaseException) -> str:
    """The error's words for the middle of a sentence."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _indexed(path: Path, files: Sequence[Path]) -> tuple[AnyReader, str]:
    """The bag's files, those that do not open by themselves with an index made anew."""
    parts: list[Any] = []
    cut = ""
    for file in files:
        try:
            _open([file]).close()
            parts.append(file)
            continue
        except Exception as error:
            why = one_line(error)
        try:
            part, ends = _with_new_index(file)
            _open([part]).close()
        except InputError:
            raise
        except Exception as error:  # it is not its end that is wrong
            raise InputError(f"cannot open {path} as a bag ({why}); {remedy(file, why)}") from error
        parts.append(part)
        if ends:
            cut = f"the bag {file} is cut off: {ends}, and is read up to there; {repair(file)}"
            _LOG.warning("%s", cut)
    return _open(parts), cut


def _with_new_index(file: Path) -> tuple[PatchedPath, str]:
    """The file's whole part, and why it ends there (empty when that is the file's own end)."""
    if file.suffix == ".bag":
        return indexed_ros1(file)
    part, whole = indexed_mcap(file)
    if whole.skipped:
        _LOG.warning(
            "%s: the messages on %s are described in a language that cannot be read (not ros2msg or ros2idl); "
            "they are left out", file, ", ".join(whole.skipped),
        )  # fmt: skip
    return part, whole.cut


def _open(paths: Sequence[Any]) -> AnyReader:
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_JAZZY))
    reader.open()
    return reader
