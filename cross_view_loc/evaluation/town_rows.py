"""Many settings on the same rendered towns: which benches a set of settings needs, and the rows of figures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cross_view_loc.evaluation.gallery import WorstFrames
from cross_view_loc.evaluation.metrics import FrameError, summarize
from cross_view_loc.evaluation.oracle import TrueDepth, UnknownInverseDepth, UnknownScaleDepth
from cross_view_loc.evaluation.renders import DriveSetting, RenderedDrive, rendered_drive
from cross_view_loc.evaluation.risk import gate_figures
from cross_view_loc.evaluation.town import TownFrame, announce, cameras_of, evaluate_bench, with_priors
from cross_view_loc.localizer import Localizer, LocalizerSettings
from cross_view_loc.types import Estimate

ALL_PLACES = "all"
WINDOW_LENGTH_M = 60.0
ON_THE_WAY = 4
"""Moments between two measured ones where a window over time is measured: some 3 m apart on a drive of 50."""


@dataclass(frozen=True)
class RowSetting:
    """What one row of figures measures; the names are those of the row."""

    protocol: str = "offset"
    gap: str = "mild"
    region: str = "town"
    depth: str = "learned"
    estimator: str = "consensus"
    cameras: str = "front"
    model: str = ""
    """Folder of weights; empty for those that ship."""
    window: int = 1

    @property
    def slug(self) -> str:
        """A name for files."""
        parts = [self.protocol, self.gap, self.region, self.depth, self.estimator, self.cameras, self.model_name]
        parts += [f"window{self.window}"] if self.window > 1 else []
        return re.sub(r"[^\w.-]+", "-", "_".join(parts))

    @property
    def model_name(self) -> str:
        """The model as rows show it."""
        return Path(self.model).name if self.model else "town"


@dataclass
class RowResult:
    """The frames of one row."""

    setting: RowSetting
    errors: list[FrameError] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    worst: WorstFrames = field(default_factory=lambda: WorstFrames(0))

    def row(self, **more: object) -> dict[str, object]:
        """All figures over all frames."""
        return self._figures(self.errors, ALL_PLACES, more)

    def scene_rows(self, **more: object) -> list[dict[str, object]]:
        """The same figures for each kind of place that occurs."""
        return [
            self._figures(
                [error for error, where in zip(self.errors, self.places, strict=True) if where == place], place, more
            )
            for place in sorted(set(self.places))
        ]

    def _figures(self, errors: list[FrameError], place: str, more: dict[str, object]) -> dict[str, object]:
        setting = {**asdict(self.setting), "model": self.setting.model_name, "place": place, **more}
        return summarize(errors, **setting) | gate_figures(errors)


def combine(
    protocols: Sequence[str],
    gaps: Sequence[str],
    regions: Sequence[str],
    depths: Sequence[str],
    estimators: Sequence[str],
    cameras: Sequence[str],
    models: Sequence[str],
    windows: Sequence[int] = (1,),
) -> list[RowSetting]:
    """Every combination once, in the order of the arguments; the protocol may choose the cameras."""
    products = itertools.product(protocols, gaps, regions, models, cameras, depths, estimators, windows)
    return list(
        dict.fromkeys(
            RowSetting(protocol, gap, region, depth, estimator, cameras_of(protocol, rig), model, window)
            for protocol, gap, region, model, rig, depth, estimator, window in products
        )
    )


def measure(
    settings: Sequence[RowSetting],
    seeds: Iterable[int],
    frames: int,
    base: Callable[[str], LocalizerSettings],
    town_size_m: float = 400.0,
    cache: Path | None = None,
    worst: int = 0,
    on_frame: Callable[[str], None] = lambda doing: None,
    on_render: Callable[[str], None] = lambda doing: None,
) -> list[RowResult]:
    """One result a setting. A drive is rendered once and measured under every setting that can use it.

    `base` gives what all rows of a gap share. `worst`: frames a row to keep for the gallery. `on_render` and
    `on_frame` are told what is being rendered, or which drive a frame was of.
    """
    results = {setting: RowResult(setting, worst=WorstFrames(worst)) for setting in settings}
    for seed in seeds:
        for (region, gap, cameras), group in _by_drive(settings):
            name = f"{region} {seed} {gap} {cameras}"
            on_render(name)
            between = ON_THE_WAY if any(setting.window > 1 for setting in group) else 0
            drive = rendered_drive(DriveSetting(seed, frames, cameras, gap, region, town_size_m, between), cache=cache)
            for setting in group:
                for _ in _measure_row(results[setting], drive, base(gap)):
                    on_frame(name)
    return list(results.values())


def _by_drive(settings: Sequence[RowSetting]) -> Iterator[tuple[tuple[str, str, str], list[RowSetting]]]:
    groups: dict[tuple[str, str, str], list[RowSetting]] = {}
    for setting in settings:
        groups.setdefault((setting.region, setting.gap, setting.cameras), []).append(setting)
    yield from groups.items()


def _measure_row(result: RowResult, drive: RenderedDrive, base: LocalizerSettings) -> Iterator[FrameError]:
    setting = result.setting
    bench = with_priors(drive, setting.protocol)
    if not result.errors:  # the first call of a process loads and tunes kernels, which is no frame's time
        first, idle = bench.frames[0], make_localizer(setting, drive, base)
        announce(idle, first)
        idle.locate(first.frames, first.prior)
    localizer = make_localizer(setting, drive, base)

    def remember(moment: TownFrame, estimate: Estimate, error: FrameError) -> None:
        result.errors.append(error)
        result.places.append(moment.place)
        result.worst.offer(bench, localizer, moment, estimate, error)

    yield from evaluate_bench(bench, localizer, remember)


def make_localizer(setting: RowSetting, drive: RenderedDrive, base: LocalizerSettings) -> Localizer:
    """The localizer of a row on the orthophoto of a drive, with a depth source of the setting's name."""
    # The network is the inner source of lost scale, and stands in the settings where the oracle replaces it.
    named = "learned" if setting.depth in ("true", "relative", "inverse") else setting.depth
    settings = replace(base, depth=named, estimator=setting.estimator, weights_dir=setting.model)
    # The moments are a few metres apart: all that the window holds shall be used.
    settings = replace(settings, window_frames=setting.window, window_length_m=WINDOW_LENGTH_M)
    localizer = Localizer(with_priors(drive).orthophoto, settings, TrueDepth() if setting.depth == "true" else None)
    if setting.depth == "relative":
        localizer.depth = UnknownScaleDepth(localizer.depth, drive.setting.seed)
    elif setting.depth == "inverse":
        localizer.depth = UnknownInverseDepth(localizer.depth, drive.setting.seed)
    return localizer
