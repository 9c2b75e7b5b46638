"""The figures of the public benchmarks as text, ours beside those that others have published."""

from __future__ import annotations

from typing import Any

from cross_view_loc.commands.tables import Column, text_table

COLUMNS: tuple[Column, ...] = (
    ("area", "area", ""),
    ("model", "model", ""),
    ("depth", "depth", ""),
    ("estimator", "estimator", ""),
    ("frames", "frames", "d"),
    ("failed", "failed", "d"),
    ("accepted", "accepted", ".0%"),
    ("position_mean_m", "mean m", ".2f"),
    ("position_median_m", "median m", ".2f"),
    ("heading_mean_deg", "mean °", ".2f"),
    ("heading_median_deg", "median °", ".2f"),
    ("recall_1m", "≤1 m", ".0%"),
    ("recall_3m", "≤3 m", ".0%"),
    ("recall_5m", "≤5 m", ".0%"),
    ("recall_1deg", "≤1°", ".0%"),
    ("recall_3deg", "≤3°", ".0%"),
    ("recall_5deg", "≤5°", ".0%"),
    ("prior_position_median_m", "prior m", ".1f"),
    ("frame_seconds_p50", "s/frame", ".2f"),
)
PUBLISHED_COLUMNS: tuple[Column, ...] = (
    ("area", "area", ""),
    ("method", "method", ""),
    ("position_mean_m", "mean m", ".2f"),
    ("position_median_m", "median m", ".2f"),
    ("heading_mean_deg", "mean °", ".2f"),
    ("heading_median_deg", "median °", ".2f"),
    ("source", "source", ""),
)


def axis_columns(prefix: str) -> tuple[Column, ...]:
    """Figures to the side of and along the heading: "" as they are, "published_" with the names swapped."""
    columns: list[Column] = [("area", "area", ""), ("model", "model", ""), ("depth", "depth", "")]
    for axis, short in (("lateral", "lat."), ("longitudinal", "long.")):
        columns += [(f"{prefix}{axis}_mean_m", f"{short} mean m", ".2f")]
        columns += [(f"{prefix}{axis}_median_m", "median m", ".2f")]
        columns += [(f"{prefix}{axis}_recall_{m}m", f"≤{m} m", ".0%") for m in (1, 3, 5)]
    return tuple(columns)


def describe(rows: list[dict[str, Any]], published: list[dict[str, Any]]) -> str:
    """Our rows, both axes as corrected and (KITTI) as published, why frames failed, and what others have published."""
    parts = [f"{rows[0]['protocol']}\n{text_table(rows, COLUMNS)}"]
    parts += [f"lateral and longitudinal\n{text_table(rows, axis_columns(''))}"]
    if rows[0]["dataset"] == "kitti":
        parts += [
            "the same as the published evaluation names them (swapped)\n" + text_table(rows, axis_columns("published_"))
        ]
    parts += [
        f"{row['area']} {row['model']} {row['depth']}: {count} failed, their priors count: {reason}"
        for row in rows
        for reason, count in row["failed_reasons"].items()
    ]
    others = (
        f"published, on the data sets themselves\n{text_table(published, PUBLISHED_COLUMNS)}"
        if published
        else "published: no figures known"
    )
    return "\n\n".join([*parts, others])
