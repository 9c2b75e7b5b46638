"""The failure gallery: a row's worst frames as pictures that show why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib.transforms as mtransforms
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.evaluation.metrics import FrameError
from cross_view_loc.evaluation.pictures import (
    BACKGROUND,
    GNSS,
    OURS,
    TEXT,
    TRUTH,
    Track,
    draw_ellipses,
    draw_scale_bar,
    save_jpeg,
    show_image,
    show_patch,
    title_style,
)
from cross_view_loc.evaluation.risk import WRONG_BEYOND_M
from cross_view_loc.evaluation.town import TownBench, TownFrame, announce
from cross_view_loc.localizer import Localizer
from cross_view_loc.matching.alignment import Candidate
from cross_view_loc.matching.encoders import CELL_M
from cross_view_loc.types import Estimate, Frame

SIDE_M = 72.0
"""Side of the aerial picture: the prior's square whatever its turn, and some of what the camera sees."""
METERS_PER_PIXEL = 0.15
HEAT_METERS_PER_PIXEL = 0.3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FailureCase:
    """One frame, what became of it, and the picture's ingredients."""

    moment: TownFrame
    estimate: Estimate
    error: FrameError
    patch: Patch
    heat: Array
    """(P, P) share of the posterior in each pixel of a north-up square of SIDE_M about the prior; row 0 is north."""
    scene: str
    """Region, seed, gap and place, for the caption."""

    @property
    def badness(self) -> tuple[bool, float]:
        """Accepted but wrong comes first, then by position error."""
        return self.error.accepted and self.error.position_m > WRONG_BEYOND_M, self.error.position_m

    @property
    def caption(self) -> str:
        """What the picture shows, in figures."""
        error, estimate = self.error, self.estimate
        verdict = "accepted" if error.accepted else f"refused ({estimate.reason.split(';')[0]})"
        spread = math.sqrt(max(float(np.linalg.eigvalsh(estimate.covariance[:2, :2])[-1]), 0.0))
        return (
            f"{self.scene}: {error.position_m:.1f} m off (left {error.lateral_m:+.1f}, "
            f"ahead {error.longitudinal_m:+.1f}), heading {error.heading_deg:+.1f}°, "
            f"prior {error.prior_position_m:.1f} m off\n"
            f"confidence {estimate.confidence:.2f}, largest σ {spread:.1f} m, Mahalanobis² {error.nees:.0f}: {verdict}"
        )


@dataclass
class WorstFrames:
    """Keeps the `count` worst frames it is shown; posteriors are computed only for those that are kept a while."""

    count: int
    cases: list[FailureCase] = field(default_factory=list)

    def offer(
        self, bench: TownBench, localizer: Localizer, moment: TownFrame, estimate: Estimate, error: FrameError
    ) -> None:
        """Keep a frame if it is among the worst so far; scores it once more for its posterior."""
        key = error.accepted and error.position_m > WRONG_BEYOND_M, error.position_m
        if self.count < 1 or (len(self.cases) == self.count and key <= self.cases[-1].badness):
            return
        announce(localizer, moment)
        candidates = localizer.score(moment.frames, moment.prior)
        center = moment.prior.east_m, moment.prior.north_m
        patch = bench.orthophoto.patch(*center, round(SIDE_M / METERS_PER_PIXEL), METERS_PER_PIXEL, math.pi / 2)
        heat = posterior_heat(candidates, *center, candidates[0].temperature)
        scene = f"{bench.region} {bench.seed}, {bench.gap} gap, {moment.place}"
        # A view of a drive's pictures would keep all of them in memory.
        frames = tuple(replace(frame, image=frame.image.copy()) for frame in moment.frames)
        moment = replace(moment, frames=frames, depth_m=tuple(depth_m.copy() for depth_m in moment.depth_m))
        self.cases.append(FailureCase(moment, estimate, error, patch, heat, scene))
        self.cases.sort(key=lambda case: case.badness, reverse=True)
        del self.cases[self.count :]


def posterior_heat(candidates: list[Candidate], east_m: float, north_m: float, temperature: float) -> Array:
    """Posterior over positions, summed over headings, scales and patches, as (P, P) shares that sum to at most 1.

    The picture is a north-up square of SIDE_M about (east, north). Each pixel takes the lattice pose nearest to it.
    """
    side = round(SIDE_M / HEAT_METERS_PER_PIXEL)
    offset_m = (np.arange(side) + 0.5) * HEAT_METERS_PER_PIXEL - SIDE_M / 2
    points = np.stack(np.meshgrid(east_m + offset_m, north_m - offset_m), axis=-1)
    heat = np.zeros((side, side))
    largest = max(float(candidate.volume.max()) for candidate in candidates)
    total = 0.0
    for candidate in candidates:
        mass = ((candidate.volume.double() - largest) / temperature).exp().sum((0, 1)).numpy()  # (up, right)
        total += float(mass.sum())
        patch, lattice = candidate.aerial.patch, candidate.lattice
        right_up = (points - [patch.center_east_m, patch.center_north_m]) @ candidate.aerial.patch_axes()
        cells = np.rint((right_up - lattice.prior.double().numpy()) / CELL_M).astype(np.int64) + lattice.radius_cells
        inside = ((cells >= 0) & (cells < mass.shape[0])).all(-1)
        column, row = (np.clip(cells[..., axis], 0, mass.shape[0] - 1) for axis in (0, 1))
        heat += np.where(inside, mass[row, column], 0.0)
    return heat / max(total, 1e-300) * (HEAT_METERS_PER_PIXEL / CELL_M) ** 2


def draw_gallery(folder: Path, cases: list[FailureCase]) -> list[Path]:
    """One JPEG a case, the worst first: `01.jpg`, `02.jpg`, … in `folder`, which is made. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{rank:02d}.jpg" for rank in range(1, len(cases) + 1)]
    for path, case in zip(paths, cases, strict=True):
        draw_case(path, case)
    return paths


def draw_case(path: Path, case: FailureCase) -> None:
    """Camera image; aerial image with truth, estimate, ellipse and prior; the posterior over the same square."""
    figure = Figure(figsize=(16, 6.2), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    figure.text(0.012, 0.975, case.caption, color=TEXT, fontsize=11, va="top", linespacing=1.4)
    grid = figure.add_gridspec(
        1, 3, width_ratios=[1.25, 1, 1], left=0.01, right=0.99, top=0.84, bottom=0.02, wspace=0.03
    )
    _draw_cameras(figure, grid[0], case.moment.frames)
    above, heat = figure.add_subplot(grid[1]), figure.add_subplot(grid[2])
    show_patch(above, case.patch)
    draw_scale_bar(above, case.patch)
    _draw_poses(above, case)
    above.set_title("aerial image: white truth, cyan estimate, orange prior", **title_style())
    show_patch(heat, case.patch)
    half, east, north = SIDE_M / 2, case.patch.center_east_m, case.patch.center_north_m
    # The root of the density shows a second mode of a tenth of the mass; a linear scale would hide it.
    strength = np.sqrt(case.heat / max(float(case.heat.max()), 1e-300))
    heat.imshow(
        strength,
        extent=(east - half, east + half, north - half, north + half),
        cmap="inferno",
        alpha=np.clip(0.35 + strength, 0.0, 0.95),
        interpolation="nearest",
        vmin=0.0,
        vmax=1.0,
    )
    _draw_poses(heat, case, bold=False)
    heat.set_title("posterior over positions (square root)", **title_style())
    save_jpeg(figure, path)


def _draw_cameras(figure: Figure, slot: object, frames: tuple[Frame, ...]) -> None:
    columns = 1 if len(frames) == 1 else 2
    rows = math.ceil(len(frames) / columns)
    grid = slot.subgridspec(rows, columns, wspace=0.02, hspace=0.08)  # type: ignore[attr-defined]
    for index, frame in enumerate(frames):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        height, width = frame.image.shape[:2]
        show_image(axes, frame.image, (0, width, height, 0))
        axes.set_title(f"camera {frame.name}", **title_style())


def _draw_poses(axes: Axes, case: FailureCase, bold: bool = True) -> None:
    truth, estimate, prior = case.moment.truth, case.estimate, case.moment.prior
    radius = prior.radius_m
    if prior.yaw_range_rad >= math.pi:
        angle = np.linspace(0.0, 2 * math.pi, 90)
        axes.plot(prior.east_m + radius * np.cos(angle), prior.north_m + radius * np.sin(angle), color=GNSS, lw=1.3)
    else:
        square = Rectangle((-radius, -radius), 2 * radius, 2 * radius, fill=False, ec=GNSS, lw=1.3)
        turn = mtransforms.Affine2D().rotate(prior.yaw_rad).translate(prior.east_m, prior.north_m)
        square.set_transform(turn + axes.transData)
        axes.add_patch(square)
        _draw_arrow(axes, prior.east_m, prior.north_m, prior.yaw_rad, GNSS, bold)
    _draw_arrow(axes, truth.east_m, truth.north_m, truth.yaw_rad, TRUTH, bold)
    _draw_arrow(axes, estimate.east_m, estimate.north_m, estimate.yaw_rad, OURS, bold)
    position = np.array([[estimate.east_m, estimate.north_m]])
    draw_ellipses(axes, Track(np.zeros(1), position, estimate.covariance[None, :2, :2]))


def _draw_arrow(axes: Axes, east_m: float, north_m: float, yaw_rad: float, color: str, bold: bool) -> None:
    """A dot where the vehicle is and a line the way it faces, legible on any ground."""
    length_m = 5.0
    ahead = [east_m, east_m + length_m * math.cos(yaw_rad)], [north_m, north_m + length_m * math.sin(yaw_rad)]
    width = 2.2 if bold else 1.2
    axes.plot(*ahead, color="black", lw=width + 1.6, solid_capstyle="round", zorder=4)
    axes.plot(*ahead, color=color, lw=width, solid_capstyle="round", zorder=5)
    axes.plot(east_m, north_m, "o", color=color, markersize=5 if bold else 3.5, markeredgecolor="black", zorder=6)
