"""`cross_view_loc evaluate kitti` and `evaluate vigor`: the public benchmarks by their published protocols."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cross_view_loc import __version__
from cross_view_loc.commands.depth_option import PAIRS_HELP, depth_name
from cross_view_loc.commands.pair_tables import describe
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.settings import parameter_named

if TYPE_CHECKING:
    from cross_view_loc.evaluation.pair_models import PairModel
    from cross_view_loc.evaluation.pairs import LoadedPair, Pair
    from cross_view_loc.localizer import Localizer

_SHARED = """
--model and --depth may be repeated and are combined. Every frame goes through the localizer of the node; a frame it can
say nothing about counts with its prior as the estimate and under "failed", none is left out of the averages. With --out
the same command goes on where it was interrupted. Images that are missing or of a wrong size stop it with a sentence.
"""
KITTI_EXAMPLES = f"""examples:
  cross_view_loc evaluate kitti --root kitti --variant 10
  cross_view_loc evaluate kitti --root kitti --variant ±180 --area cross --frames 200 --out kitti_180 --json
  cross_view_loc evaluate kitti --root kitti --variant 10 --model town --model loc2_kitti.safetensors --depth learned
ROOT holds raw_data, satmap and test1_files.txt (same area), test2_files.txt (cross area), which may also lie in
ROOT/splits, ROOT/dataLoader or where --list says. ±180: nothing is said about the heading.
"published" lateral and longitudinal figures are those of the published evaluation, which swaps the two.
{_SHARED}"""
VIGOR_EXAMPLES = f"""examples:
  cross_view_loc evaluate vigor --root VIGOR --heading unknown
  cross_view_loc evaluate vigor --root VIGOR --area cross --labels original --frames 400 --out vigor_cross
  cross_view_loc evaluate vigor --root VIGOR --model loc2_vigor.safetensors --backbone dinov2_folder
ROOT holds CITY/panorama, CITY/satellite and the label files in splits/CITY and splits__corrected/CITY.
Unknown heading: each panorama is rolled by a share of a turn that follows from --seed and its name.
{_SHARED}"""
AREAS = ("same", "cross")
CITIES = ("NewYork", "Seattle", "SanFrancisco", "Chicago")


def configure_kitti(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate kitti`."""
    _configure(parser, "the folder with raw_data and satmap")
    parser.add_argument(
        "--variant", default="10", type=_variant, metavar="±10|±180", help="noise of the heading (±%(default)s)"
    )
    parser.add_argument("--list", type=Path, metavar="DIR|FILE", help="where the test lists are")


def configure_vigor(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate vigor`."""
    _configure(parser, "the folder with the four cities")
    parser.add_argument("--heading", choices=("known", "unknown"), default="unknown", help="(%(default)s)")
    parser.add_argument("--labels", choices=("corrected", "original"), default="corrected", help="(%(default)s)")
    parser.add_argument("--city", action="append", choices=CITIES, help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="of the unknown headings (%(default)s)")


def _configure(parser: argparse.ArgumentParser, root: str) -> None:
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=root)
    parser.add_argument("--area", choices=(*AREAS, "both"), default="both", help="(%(default)s)")
    parser.add_argument(
        "--model", action="append", help="town, a folder of weights or imported Loc² weights; repeatable; default town"
    )
    parser.add_argument("--backbone", default="", metavar="DIR|NAME", help="of imported weights")
    parser.add_argument("--depth", action="append", type=depth_name, metavar="NAME", help=PAIRS_HELP)
    parser.add_argument("--estimator", choices=parameter_named("estimator").choices, default="consensus")
    parser.add_argument("--frames", type=int, metavar="N", help="only N evenly spaced frames an area")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="only every Nth frame (%(default)s)")
    parser.add_argument("--map-std", type=float, default=0.3, metavar="M", help="of the imagery (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep finished frames, figures and table there")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _variant(text: str) -> str:
    from cross_view_loc.evaluation.kitti import variant_name

    try:
        return variant_name(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@dataclass
class Bench:
    """A benchmark as the options ask for it."""

    dataset: str
    variant: str
    setting: dict[str, str]
    """What a row says of it."""
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    """By area."""
    adapt: Callable[[Localizer], Callable[[LoadedPair], None]] = lambda localizer: lambda loaded: None
    """What a localizer has to be told before each pair."""


def execute(options: argparse.Namespace) -> int:
    """Run every model with every depth over every area, then print."""
    _check(options)
    from cross_view_loc.evaluation.pair_bench import PairLocalizer  # noqa: F401  (torch: not before the options)
    from cross_view_loc.evaluation.pair_models import find_model
    from cross_view_loc.evaluation.published import published_rows

    models = [find_model(text, options.backbone) for text in options.model or ["town"]]
    bench = _kitti(options) if options.bench == "kitti" else _vigor(options)
    settings = list(dict.fromkeys(itertools.product(models, options.depth or ["learned"])))
    for model, depth in settings:  # all files are there, before hours go to the first
        model.fingerprint(depth)
    total = len(settings) * sum(map(len, bench.pairs.values()))
    with tqdm(total=total, unit="frame", file=sys.stderr, disable=None) as progress:
        rows = [row for model, depth in settings for row in _rows(bench, model, depth, options, progress)]
    published = published_rows(bench.dataset, bench.variant, tuple(bench.pairs))
    text = describe(rows, published)
    if options.out:
        result = {"results": rows, "published": published}
        (options.out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (options.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    print(json.dumps({"results": rows, "published": published}) if options.json else text)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.frames is not None and options.frames < 1:
        raise InputError(f"--frames is {options.frames}; give at least 1, or leave it out for all")
    if options.stride < 1:
        raise InputError(f"--stride is {options.stride}; give 1 for every frame, or more")
    if not options.root.is_dir():
        raise MissingInputError(f"there is no folder {options.root}; give the data set's with --root")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file; choose a folder for --out")
    areas = AREAS if options.area == "both" else (options.area,)
    if len(areas) > 1 and getattr(options, "list", None) is not None and options.list.is_file():
        raise InputError(f"--list {options.list} is one list; say with --area whether it is of the same or cross area")
    options.areas = areas


def _kitti(options: argparse.Namespace) -> Bench:
    from cross_view_loc.evaluation.kitti import kitti_pairs

    bench = Bench("kitti", options.variant, {"protocol": f"kitti ±{options.variant}", "cameras": "front"})
    for area in options.areas:
        bench.pairs[area] = kitti_pairs(
            options.root, area, options.variant, options.list, options.frames, options.stride
        )
    return bench


def _vigor(options: argparse.Namespace) -> Bench:
    from cross_view_loc.evaluation.vigor import TEST_CITIES, tested_cities, tile_of_city, vigor_pairs

    named = {"protocol": f"vigor heading {options.heading}", "labels": options.labels, "cameras": "panorama"}
    bench = Bench("vigor", options.heading, named, adapt=tile_of_city)
    for area in options.areas:
        bench.pairs[area] = vigor_pairs(
            options.root,
            area,
            options.heading,
            options.labels,
            options.seed,
            options.frames,
            options.stride,
            options.city or (),
        )
        tested = tested_cities(options.root, area, options.city or ())
        left_out = [city for city in TEST_CITIES[area] if city not in tested]
        if left_out:
            print(f"{area} area: without {', '.join(left_out)}, so not the whole benchmark", file=sys.stderr)
    return bench


def _rows(
    bench: Bench, model: PairModel, depth: str, options: argparse.Namespace, progress: tqdm[Any]
) -> Iterator[dict[str, object]]:
    """One row an area; the networks are loaded once."""
    from cross_view_loc.evaluation.pair_bench import PairError, digest, measure_pairs, pairs_row
    from cross_view_loc.evaluation.pair_depth import both, show_stored_depth
    from cross_view_loc.evaluation.pair_journal import PairJournal
    from cross_view_loc.evaluation.pairs import refuse_missing

    for pairs in bench.pairs.values():
        refuse_missing(pairs)
    localizer = _localizer(next(iter(bench.pairs.values())), model, depth, options)
    prepare = both(bench.adapt(localizer), show_stored_depth(localizer))
    estimator = "loc2" if model.loc2 is not None else options.estimator
    for area, pairs in bench.pairs.items():
        setting = {
            **bench.setting,
            "dataset": bench.dataset,
            "area": area,
            "model": model.name,
            "depth": depth,
            "estimator": estimator,
        }
        journal = None
        if options.out:
            name = re.sub(r"[^\w.-]+", "-", "_".join([bench.variant, *setting.values()]))
            about = {**setting, **model.fingerprint(depth), "frames": digest(pairs), "version": __version__}
            journal = PairJournal(options.out / f"{name}.jsonl", {**about, "map_std_m": options.map_std})

        def show(error: PairError, area: str = area) -> None:
            progress.set_description(f"{model.name} {depth} {area}", refresh=False)
            progress.update()

        try:
            errors = measure_pairs(pairs, localizer, journal, prepare, show)
        finally:
            if journal is not None:
                journal.close()
        yield pairs_row(errors, **setting, window=1)


def _localizer(pairs: list[Pair], model: PairModel, depth: str, options: argparse.Namespace) -> Localizer:
    from cross_view_loc.evaluation.pairs import load_pair
    from cross_view_loc.localizer import Localizer, LocalizerSettings

    base = LocalizerSettings(
        depth=depth,
        estimator=options.estimator,
        device=options.device,
        map_std_m=options.map_std,
        threads=os.cpu_count() or 1,
        window_frames=1,
    )
    return Localizer(load_pair(pairs[0]).aerial, model.settings(base))
