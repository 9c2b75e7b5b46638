"""`cross_view_loc train`: make data in the town, train the depth network, train the matcher, calibrate."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.errors import InputError
from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE

EXAMPLES = """examples:
  cross_view_loc train data --out town_data --seeds 1-45
  cross_view_loc train depth --data town_data --steps 2200
  cross_view_loc train matcher --data town_data --steps 3400
  cross_view_loc train calibrate --seeds 8900-8903
Weights go to ./weights; use them with the parameter weights_dir (on the command line: --model or --weights-dir).
Towns with seeds from 9000 on are for testing and are refused here.
"""
FIRST_TEST_SEED = 9000
WEIGHTS = Path("weights")
"""Never the installed ones: a half-trained network must not replace what localizes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the four stages."""
    stages = parser.add_subparsers(dest="stage", required=True)
    data = stages.add_parser("data", help="render towns")
    data.add_argument("--out", type=Path, required=True, help="folder for one file a town")
    data.add_argument("--seeds", type=parse_seeds, required=True, metavar="A-B", help="towns to render")
    data.add_argument("--views", type=int, default=40, help="views a drive (three drives a town)")
    data.add_argument("--workers", type=int, default=2)
    data.add_argument("--device", default="cpu", help="cpu or cuda:N, for the renderer")
    for name, steps, batch in (("depth", 2200, 8), ("matcher", 3400, 6)):
        stage = stages.add_parser(name, help=f"train the {name} network")
        stage.add_argument("--data", type=Path, required=True, help="folder made by `train data`")
        stage.add_argument("--steps", type=int, default=steps)
        stage.add_argument("--batch", type=int, default=batch, help="views a worker and step")
        stage.add_argument("--workers", type=int, default=2, help="threads that each compute a batch of the step")
        stage.add_argument("--seed", type=int, default=0)
        stage.add_argument("--learning-rate", type=float, default=2e-3)
        stage.add_argument("--weights", type=Path, default=WEIGHTS, help="folder to write to (%(default)s)")
        stage.add_argument("--start-from", type=Path, help="weights to go on from")
    calibrate = stages.add_parser("calibrate", help="fit temperature and covariance on held-out towns")
    calibrate.add_argument("--seeds", type=parse_seeds, required=True, metavar="A-B")
    calibrate.add_argument("--frames", type=int, default=40, help="frames a town")
    calibrate.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with both (%(default)s)")


def parse_seeds(text: str) -> list[int]:
    """ "3", "0-43" or "0-3,7" → seeds; argparse reports a bad one."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list of seeds such as 0-43")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def execute(options: argparse.Namespace) -> int:
    """Run one stage; progress goes to standard error."""
    if options.stage in ("data", "calibrate"):
        _refuse_test_towns(options.seeds)
    if options.stage == "data":
        return _data(options)
    if options.stage == "calibrate":
        from cross_view_loc.training.calibration import calibrate

        calibrate(options.weights, options.seeds, options.frames, _log)
        return 0
    from cross_view_loc.training.train import TrainingSettings, load_towns, train_depth, train_matcher

    towns = load_towns(options.data)
    _refuse_test_towns([town.seed for town in towns])
    settings = TrainingSettings(
        options.steps, options.batch, options.learning_rate, workers=options.workers, seed=options.seed
    )
    if options.stage == "depth":
        train_depth(towns, settings, options.weights / DEPTH_FILE, _log, options.start_from)
    else:
        depth = options.weights / DEPTH_FILE
        train_matcher(
            towns,
            depth if depth.exists() else None,
            settings,
            options.weights / MATCHER_FILE,
            _log,
            options.start_from,
        )
    return 0


def _refuse_test_towns(seeds: list[int]) -> None:
    if any(seed >= FIRST_TEST_SEED for seed in seeds):
        raise InputError(f"towns from seed {FIRST_TEST_SEED} on are for testing; train and calibrate on lower seeds")


def _data(options: argparse.Namespace) -> int:
    from cross_view_loc.training.town_data import render_town

    todo = [seed for seed in options.seeds if not (options.out / f"town_{seed:04d}.npz").exists()]
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(render_town, seed, options.out, options.views, device=options.device) for seed in todo]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="render", unit="town"):
            job.result()
    print(f"{len(options.seeds)} towns in {options.out}")
    return 0


def _log(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
