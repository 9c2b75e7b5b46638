"""Pictures that explain a run: tracks and 95 % ellipses on the orthophoto, and what matched with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Ellipse
from numpy.typing import NDArray

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.types import Estimate, Frame

Array = NDArray[np.float64]

CHI2_95_2D = 5.991
"""The 95 % quantile of a chi-squared variable of two degrees of freedom."""

BACKGROUND, TEXT, FAINT = "#12161d", "#e8ecf2", "#8792a3"
TRUTH, GNSS, OURS, REFUSED = "#ffffff", "#ff9f43", "#2de2e6", "#ff5c8a"
MATCH_COLORS = "plasma"


@dataclass(frozen=True)
class Track:
    """Positions in map metres (N, 2) at times (N,) in seconds, with (N, 2, 2) covariances where there are any."""

    times_s: Array
    positions_m: Array
    covariances: Array | None = None
    errors_m: Array | None = None
    """(N,) distance to the truth."""


@dataclass(frozen=True)
class MatchView:
    """One frame with its estimate, over an aerial patch whose up direction is the estimated heading."""

    frame: Frame
    estimate: Estimate
    patch: Patch


def draw_demo(
    path: Path,
    title: str,
    aerial: Patch,
    truth: Track,
    gnss: Track,
    ours: Track,
    match: MatchView | None,
    refused_s: Sequence[float] = (),
) -> None:
    """Write the demo's picture: overview, errors over time, a close-up with ellipses, and the match panel.

    `refused_s` are the times, on the tracks' clock, of estimates that were refused.
    """
    figure = Figure(figsize=(16, 9), dpi=100, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=TEXT, fontsize=15, x=0.02, ha="left", y=0.975, weight="bold")
    grid = figure.add_gridspec(
        2, 3, width_ratios=[1.42, 1, 1], height_ratios=[1.16, 1], left=0.03, right=0.985, top=0.9, bottom=0.045,
        wspace=0.05, hspace=0.1,
    )  # fmt: skip
    left = grid[:, 0].subgridspec(2, 1, height_ratios=[4.6, 1], hspace=0.12)
    _draw_overview(figure.add_subplot(left[0]), aerial, truth, gnss, ours)
    _draw_errors(figure.add_subplot(left[1]), gnss, ours, refused_s)
    _draw_close_up(figure.add_subplot(grid[1, 2]), aerial, truth, gnss, ours)
    if match is not None:
        draw_matches(figure, figure.add_subplot(grid[0, 1:]), figure.add_subplot(grid[1, 1]), match)
    save_jpeg(figure, path)


def draw_matches(figure: Any, image_axes: Axes, patch_axes: Axes, match: MatchView, lines: int = 40) -> None:
    """The camera image over the patch; matched points in both, coloured by probability, the best joined by lines."""
    height, width = match.frame.image.shape[:2]
    show_image(image_axes, match.frame.image, (0, width, height, 0))
    show_patch(patch_axes, match.patch, by_pixel=True)
    matches = sorted(match.estimate.matches, key=lambda each: each.probability)
    image_axes.set_title(f"camera image, {len(matches)} best matches", **title_style())
    patch_axes.set_title("aerial image, heading up", **title_style())
    if matches:
        pixels = np.array([each.pixel for each in matches])
        places = match.patch.map_to_pixel(np.array([each.point_map for each in matches]))
        rank = np.linspace(0.0, 1.0, len(matches))  # probabilities differ by orders of magnitude; ranks do not
        dots: dict[str, Any] = {"c": rank, "cmap": MATCH_COLORS, "s": 16, "edgecolors": "black", "linewidths": 0.4}
        image_axes.scatter(pixels[:, 0], pixels[:, 1], **dots)
        patch_axes.scatter(places[:, 0], places[:, 1], **dots)
        colors = image_axes.collections[0].get_cmap()(rank)
        for i in range(max(0, len(matches) - lines), len(matches)):
            joint = ConnectionPatch(
                pixels[i],
                places[i],
                "data",
                "data",
                axesA=image_axes,
                axesB=patch_axes,
                color=colors[i],
                lw=0.5,
                alpha=0.5,
            )
            figure.add_artist(joint)
        _draw_key(image_axes, dots["cmap"])
    center = match.patch.map_to_pixel([match.estimate.east_m, match.estimate.north_m])
    patch_axes.plot(*center, marker=(3, 0, 0), color=OURS, markersize=11, markeredgecolor="black", zorder=5)


def _draw_key(axes: Axes, cmap: str) -> None:
    """What the matches' colours mean, in the image's lower right corner."""
    key = axes.inset_axes((0.74, 0.07, 0.24, 0.03), zorder=6)
    key.imshow(np.linspace(0.0, 1.0, 128)[None], cmap=cmap, aspect="auto")
    key.set_xticks([])
    key.set_yticks([])
    box = {"facecolor": BACKGROUND, "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
    key.text(
        1.0, 1.5, "matches: less to more probable", color=TEXT, fontsize=9, transform=key.transAxes, ha="right",
        va="bottom", bbox=box,
    )  # fmt: skip


def save_jpeg(figure: Figure, path: Path, most_bytes: int = 400_000) -> None:
    """Write the figure as JPEG, at the best quality that stays below `most_bytes`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., 2::-1]
    for quality in (92, 88, 84, 80, 75, 70, 60, 50):
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(data) <= most_bytes:
            break
    path.write_bytes(bytes(data))


def _draw_overview(axes: Axes, aerial: Patch, truth: Track, gnss: Track, ours: Track) -> None:
    show_patch(axes, aerial)
    axes.plot(*truth.positions_m.T, color="black", lw=4.0)
    axes.plot(*truth.positions_m.T, color=TRUTH, lw=2.2, label="truth")
    axes.plot(*gnss.positions_m.T, color=GNSS, lw=1.3, label="GNSS alone")
    axes.scatter(ours.positions_m[:, 0], ours.positions_m[:, 1], color=OURS, s=11, zorder=4, label="cross_view_loc")
    draw_ellipses(axes, ours)
    legend = axes.legend(loc="lower left", facecolor=BACKGROUND, edgecolor=FAINT, labelcolor=TEXT, framealpha=0.85)
    legend.set_zorder(6)
    draw_scale_bar(axes, aerial)


def _draw_close_up(axes: Axes, aerial: Patch, truth: Track, gnss: Track, ours: Track, side_m: float = 36.0) -> None:
    """Where GNSS is about as bad as it usually is, big enough to see the ellipses."""
    if not len(ours.positions_m):
        axes.set_axis_off()
        return
    errors = gnss.errors_m if gnss.errors_m is not None else np.zeros(len(gnss.positions_m))
    moment_s = gnss.times_s[np.argsort(errors)[int(0.75 * (len(errors) - 1))]]
    center = ours.positions_m[np.argmin(np.abs(ours.times_s - moment_s))]
    show_patch(axes, aerial)
    axes.plot(*truth.positions_m.T, color="black", lw=4.5)
    axes.plot(*truth.positions_m.T, color=TRUTH, lw=2.5)
    axes.plot(*gnss.positions_m.T, color=GNSS, lw=1.2, marker="o", markersize=3)
    axes.scatter(ours.positions_m[:, 0], ours.positions_m[:, 1], color=OURS, s=12, zorder=4)
    draw_ellipses(axes, ours, at_most=100_000)
    axes.set_xlim(center[0] - side_m / 2, center[0] + side_m / 2)
    axes.set_ylim(center[1] - side_m / 2, center[1] + side_m / 2)
    axes.set_title(f"close-up, {side_m:.0f} m across, 95 % ellipses", **title_style())


def broken(times_s: Array, values: Array, refused_s: Sequence[float] = ()) -> tuple[Array, Array]:
    """(N,) times and values with a NaN wherever a line would bridge a stretch without values, or a refused moment.

    A stretch is one of more than three times the median step.
    """
    if len(times_s) < 2:
        return times_s, values
    steps = np.diff(times_s)
    refused = np.sort(np.asarray(refused_s, dtype=np.float64))
    between = np.searchsorted(refused, times_s[1:]) > np.searchsorted(refused, times_s[:-1], side="right")
    at = np.flatnonzero((steps > 3.0 * np.median(steps)) | between) + 1
    return np.insert(times_s, at, (times_s[at - 1] + times_s[at]) / 2.0), np.insert(values, at, np.nan)


def _draw_errors(axes: Axes, gnss: Track, ours: Track, refused_s: Sequence[float]) -> None:
    start = min(track.times_s[0] for track in (gnss, ours) if len(track.times_s))
    for track, color, size, refused in ((gnss, GNSS, 0.0, ()), (ours, OURS, 2.5, refused_s)):
        if track.errors_m is not None:
            times_s, errors_m = broken(track.times_s, track.errors_m, refused)
            axes.plot(times_s - start, errors_m, color=color, lw=1.2, marker="o", markersize=size)
    if len(refused_s):
        # On the lower edge: a refused estimate has no error here, only a moment.
        at = np.asarray(refused_s) - start
        axes.plot(at, np.zeros(len(at)), "|", color=REFUSED, markersize=9, clip_on=False, label="refused", zorder=5)
        axes.legend(
            loc="upper right", facecolor=BACKGROUND, edgecolor=FAINT, labelcolor=TEXT, framealpha=0.85, fontsize=8
        )
    axes.set_facecolor(BACKGROUND)
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.01)
    axes.grid(color=FAINT, alpha=0.25, lw=0.6)
    axes.tick_params(colors=FAINT, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.set_title("position error in metres over seconds", **title_style())


def draw_ellipses(axes: Axes, track: Track, at_most: int = 60) -> None:
    """The 95 % ellipses of about `at_most` evenly chosen positions of a track; nothing without covariances."""
    if track.covariances is None:
        return
    step = max(1, len(track.positions_m) // at_most)
    for center, covariance in zip(track.positions_m[::step], track.covariances[::step], strict=True):
        values, vectors = np.linalg.eigh(covariance)
        width, height = 2.0 * np.sqrt(CHI2_95_2D * np.clip(values, 0.0, None))
        angle_deg = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
        axes.add_patch(Ellipse(tuple(center), width, height, angle=angle_deg, fill=False, ec=OURS, lw=1.0, alpha=0.9))


def draw_scale_bar(axes: Axes, aerial: Patch) -> None:
    """A bar of a round length in the lower right corner of a north-up patch."""
    length_m = next(length for length in (100.0, 50.0, 20.0, 10.0, 5.0) if length < aerial.size_m / 3 or length == 5.0)
    x = aerial.center_east_m + 0.46 * aerial.size_m
    y = aerial.center_north_m - 0.46 * aerial.size_m
    axes.plot([x - length_m, x], [y, y], color=TRUTH, lw=3, solid_capstyle="butt")
    axes.text(x - length_m / 2, y, f"{length_m:.0f} m\n", color=TRUTH, ha="center", va="center", fontsize=10)


def show_patch(axes: Axes, patch: Patch, by_pixel: bool = False) -> None:
    """A patch in its own pixels, or a north-up patch in map metres."""
    extent: tuple[float, ...] = (0, patch.size_px, patch.size_px, 0)
    if not by_pixel:
        half, east, north = patch.size_m / 2, patch.center_east_m, patch.center_north_m
        extent = (east - half, east + half, north - half, north + half)
    show_image(axes, patch.image, extent)


def show_image(axes: Axes, image: NDArray[np.uint8], extent: Sequence[float]) -> None:
    """An image without axes; extent is left, right, bottom, top in data units."""
    axes.imshow(image, extent=tuple(extent))  # type: ignore[arg-type]
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_axis_off()


def title_style() -> dict[str, Any]:
    """How the titles of all pictures are set."""
    return {"color": FAINT, "fontsize": 10, "loc": "left", "pad": 4}
