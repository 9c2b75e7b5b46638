"""Plots of what the confidence and the covariance are worth: risk against coverage, claimed against true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cross_view_loc.evaluation.metrics import FrameError, chi2_3dof_cdf
from cross_view_loc.evaluation.pictures import BACKGROUND, FAINT, TEXT, title_style
from cross_view_loc.evaluation.risk import WRONG_BEYOND_M, reliability, risk_coverage

Curves = Sequence[tuple[str, Sequence[FrameError]]]
"""A label and its frames, for each row."""


def draw_risk_coverage(path: Path, curves: Curves) -> None:
    """PNG of each row's risk-coverage curve; the dot is where the gate stands."""
    figure, (axes,) = _figure(1)
    for index, (label, errors) in enumerate(curves):
        curve, color = risk_coverage(errors), _color(index)
        if not len(curve.kept):
            continue
        axes.step(curve.kept, curve.wrong, where="post", color=color, lw=1.4, label=f"{label}: area {curve.area:.3f}")
        taken = [error for error in errors if error.accepted]
        if taken:
            wrong = float(np.mean([error.position_m > WRONG_BEYOND_M for error in taken]))
            axes.plot(len(taken) / len(errors), wrong, "o", color=color, markersize=6, markeredgecolor="white")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(bottom=0)
    _label(axes, "risk against coverage; dots: the gate", "share kept, most confident first", "of it beyond 2 m")
    _save(figure, [axes], path)


def draw_calibration(path: Path, curves: Curves) -> None:
    """PNG: share of accepted estimates within their p region against p, and the right mode against the confidence."""
    figure, (regions, modes) = _figure(2)
    nominal = np.linspace(0.0, 1.0, 201)
    for index, (label, errors) in enumerate(curves):
        nees = np.array([error.nees for error in errors if error.accepted and np.isfinite(error.nees)])
        if len(nees):
            share = np.searchsorted(np.sort(chi2_3dof_cdf(nees)), nominal, side="right") / len(nees)
            regions.plot(nominal, share, color=_color(index), lw=1.4, label=label)
        bins = reliability(errors)
        if len(bins.frames):
            modes.plot(bins.claimed, bins.true, color=_color(index), lw=1.0, alpha=0.7)
            sizes = 12 + 160 * bins.frames / bins.frames.sum()
            title = f"{label}: ECE {bins.expected_error:.3f}"
            modes.scatter(bins.claimed, bins.true, s=sizes, color=_color(index), label=title)
    for axes in (regions, modes):
        axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls="--")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
    for quantile in (0.5, 0.95, 0.99):
        regions.axvline(quantile, color=FAINT, lw=0.6, ls=":")
    _label(regions, "covariance: accepted estimates", "probability of the region", "share of estimates inside")
    _label(modes, "confidence: all estimates", "confidence", "share in the right mode")
    _save(figure, [regions, modes], path)


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8 * panels, 6.5), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, index + 1) for index in range(panels)]


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_facecolor(BACKGROUND)
    axes.set_title(title, **title_style())
    axes.set_xlabel(x, color=FAINT)
    axes.set_ylabel(y, color=FAINT)
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    axes.tick_params(colors=FAINT, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _save(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    for axes in panels:
        if axes.get_legend_handles_labels()[0]:
            axes.legend(facecolor=BACKGROUND, edgecolor=FAINT, labelcolor=TEXT, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, facecolor=BACKGROUND)


def _color(index: int) -> str:
    return f"C{index % 10}"
