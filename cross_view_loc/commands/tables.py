"""Rows of figures as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Column = tuple[str, str, str]
"""Key in the row, title, format."""


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> str:
    """One line a row under the titles, aligned to the right; a figure without data is a dash."""
    cells = [[title for _, title, _ in columns]]
    cells += [["–" if row[key] is None else format(row[key], style) for key, _, style in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells)
