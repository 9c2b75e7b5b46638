"""The table a demo ends in: our errors beside those of GNSS alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cross_view_loc.evaluation.metrics import FrameError

QUANTITIES = (("position", "position_m", "m"), ("lateral", "lateral_m", "m"),
              ("longitudinal", "longitudinal_m", "m"), ("heading", "heading_deg", "°"))  # fmt: skip
FIGURES = ("median", "mean", "p95")


def figures(errors: Sequence[FrameError], field: str) -> tuple[float, float, float] | None:
    """Median, mean and 95 % quantile of a field's absolute values; None when it is nowhere known."""
    values = np.abs([getattr(error, field) for error in errors])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return float(np.median(values)), float(np.mean(values)), float(np.quantile(values, 0.95))


def error_rows(gnss: Sequence[FrameError], ours: Sequence[FrameError]) -> list[dict[str, object]]:
    """The table as data: one row a quantity, with `gnss_median` … `ours_p95` (None where unknown)."""
    rows: list[dict[str, object]] = []
    for label, field, unit in QUANTITIES:
        row: dict[str, object] = {"quantity": label, "unit": unit}
        for who, errors in (("gnss", gnss), ("ours", ours)):
            values = figures(errors, field) or (None, None, None)
            row |= {f"{who}_{name}": value for name, value in zip(FIGURES, values, strict=True)}
        rows.append(row)
    return rows


def table_text(rows: Sequence[dict[str, object]]) -> str:
    """Aligned columns under a two-line head."""
    width = 9
    group = width * len(FIGURES)
    rule = "─"
    lines = [
        f"  {'':16s}{'GNSS alone':>{group}s}   {'cross_view_loc':>{group}s}",
        f"  {'error':16s}{_cells(FIGURES, width)}   {_cells(FIGURES, width)}",
        f"  {rule * (16 + 2 * group + 3)}",
    ]
    for row in rows:
        cells = {who: _cells([_number(row[f"{who}_{name}"]) for name in FIGURES], width) for who in ("gnss", "ours")}
        lines.append(f"  {row['quantity']} ({row['unit']})".ljust(18) + f"{cells['gnss']}   {cells['ours']}")
    return "\n".join(lines)


def _cells(texts: Sequence[str], width: int) -> str:
    return "".join(f"{text:>{width}s}" for text in texts)


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) and math.isfinite(value) else "–"
