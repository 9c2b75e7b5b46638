"""Lists of frames: their lines, and some of them evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from cross_view_loc.errors import InputError, MissingInputError

T = TypeVar("T")


def numbered_lines(path: Path, remedy: str) -> list[tuple[int, list[str]]]:
    """Line number and words of every line that is not blank.

    Raises MissingInputError with `remedy` for an absent file, InputError for one that is no text or empty.
    """
    if not path.is_file():
        raise MissingInputError(f"there is no list of frames at {path}; {remedy}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file; {remedy}") from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"{path} lists nothing; {remedy}")
    return lines


def evenly_spaced(items: Sequence[T], count: int | None, stride: int = 1) -> list[T]:
    """`count` of every `stride`th item from the first to the last, in their order; all when there are not as many."""
    items = items[::stride]
    if count is None or count >= len(items):
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[(index * (len(items) - 1)) // (count - 1)] for index in range(count)]
