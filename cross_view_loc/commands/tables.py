"""Rows of figures as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Column = tuple[str, str, str]
"""Key in the row, title, format."""


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[Column], names: int = 0) -> str:
    """One line a row under the titles, the first `names` columns to the left; a figure without data is a dash."""
    cells = [[title for _, title, _ in columns]]
    cells += [["–" if row[key] is None else format(row[key], style) for key, _, style in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < names else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
