"""`cross_view_loc train`: make data in the town or from recordings, train both networks, calibrate."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cross_view_loc.errors import InputError
from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED
from cross_view_loc.simulation.regions import REGIONS

EXAMPLES = """examples:
  in the procedural town:
    cross_view_loc train data --out town_data --seeds 1-45
    cross_view_loc train depth --data town_data --steps 2200
    cross_view_loc train matcher --data town_data --steps 3400
    cross_view_loc train calibrate --seeds 8900-8911
  on drives of your own, from recordings with RTK or other ground truth, going on from the weights of the package:
    cross_view_loc train manifest monday.mcap --map city.mbtiles --truth-topic /rtk/fix --out monday.csv
    cross_view_loc train manifest friday.mcap --map city.mbtiles --truth-topic /rtk/fix --out friday.csv
    cross_view_loc train matcher --data monday.csv --held-out friday.csv --start-from town_matcher.safetensors
  on data sets:
    cross_view_loc train manifest KITTI --layout kitti --list train_files.txt --out kitti.csv
    cross_view_loc train manifest VIGOR --layout vigor --list splits/Seattle/same_area_balanced_train.txt --out s.csv
  on four GPUs of one machine, and after an interruption:
    torchrun --nproc-per-node 4 -m cross_view_loc.cli train matcher --data kitti.csv --device cuda --workers 1
    torchrun --nproc-per-node 4 -m cross_view_loc.cli train matcher --data kitti.csv --device cuda --workers 1 --resume
A manifest is a CSV (or JSON lines) file of ground images with camera, mount, pose and aerial source; its columns are
described in cross_view_loc/training/manifest_rows.py. Weights go to ./weights with their curve (.curve.csv); use them
with the parameter weights_dir (on the command line: --model or --weights-dir).
Towns with seeds from 9000 on are for testing and are refused here.
"""
FIRST_TEST_SEED = 9000
WEIGHTS = Path("weights")
"""Never the installed ones: a half-trained network must not replace what localizes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the stages."""
    stages = parser.add_subparsers(dest="stage", required=True)
    data = stages.add_parser("data", help="render towns")
    data.add_argument("--out", type=Path, required=True, help="folder for one file a town")
    data.add_argument("--seeds", type=parse_seeds, required=True, metavar="A-B", help="towns to render")
    data.add_argument("--views", type=int, default=40, help="views a drive (three drives a town)")
    data.add_argument("--region", nargs="+", default=["town"], choices=REGIONS, help="by seed, in turn (%(default)s)")
    data.add_argument("--gap", choices=("mild", "mixed"), default="mild", help="mixed: two drives of three are hard")
    data.add_argument("--workers", type=int, default=2)
    data.add_argument("--device", default="cpu", help="cpu or cuda:N, for the renderer")
    for name, steps, batch in (("depth", 2200, 8), ("matcher", 3400, 6)):
        stage = stages.add_parser(name, help=f"train the {name} network")
        stage.add_argument(
            "--data", type=Path, nargs="+", required=True, help="folders made by `train data` and manifest files"
        )
        stage.add_argument("--steps", type=int, default=steps)
        stage.add_argument("--batch", type=int, default=batch, help="views a worker and step")
        stage.add_argument("--workers", type=int, default=2, help="threads that each compute a batch of the step")
        stage.add_argument("--seed", type=int, default=0)
        stage.add_argument("--learning-rate", type=float, default=2e-3)
        stage.add_argument("--weights", type=Path, default=WEIGHTS, help="folder to write to (%(default)s)")
        stage.add_argument("--start-from", type=Path, help="weights to go on from")
        stage.add_argument("--resume", action="store_true", help="go on where an interrupted run of these options was")
        stage.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
        stage.add_argument("--precision", choices=("bf16", "float32"), default="bf16", help="(%(default)s)")
        stage.add_argument("--log-every", type=int, default=100, metavar="N", help="steps between rows and checkpoints")
        stage.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard events too")
        if name == "matcher":
            stage.add_argument(
                "--held-out", type=Path, nargs="+", default=[], help="data to measure the pose error on as it trains"
            )
            stage.add_argument("--validate-every", type=int, default=500, metavar="N", help="steps (%(default)s)")
            stage.add_argument(
                "--loss",
                choices=("consensus", "loc2"),
                default="consensus",
                help="posterior of the true pose, or the published loss: virtual points and InfoNCE (%(default)s)",
            )
            stage.add_argument(
                "--backbone",
                default="",
                metavar="NAME",
                help="stand on this DINOv2, frozen: a Hugging Face name such as facebook/dinov2-small or a folder",
            )
            stage.add_argument(
                "--depth-weights",
                type=Path,
                help="depth network for metric depth; default: that of --weights, and "
                "for images without depth that of the package",
            )
    manifest = stages.add_parser("manifest", help="make a manifest from a bag with ground truth, KITTI or VIGOR")
    manifest.add_argument("source", type=Path, metavar="SOURCE", help="bag, or folder of the data set")
    manifest.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv or .jsonl")
    manifest.add_argument("--layout", choices=("bag", "kitti", "vigor"), default="bag", help="(%(default)s)")
    manifest.add_argument("--map", type=Path, metavar="MAP", help="bag: .mbtiles or GeoTIFF of where the drive was")
    manifest.add_argument(
        "--truth-topic", metavar="T", help="bag: Odometry in the map frame or NavSatFix; default: guessed by its name"
    )
    manifest.add_argument("--config", type=Path, metavar="YAML", help="bag: the node's parameter file")
    manifest.add_argument("--every-m", type=float, default=2.0, metavar="M", help="bag: metres between images")
    manifest.add_argument("--list", type=Path, metavar="FILE", help="kitti, vigor: which frames")
    calibrate = stages.add_parser("calibrate", help="fit temperature and covariance on held-out towns")
    calibrate.add_argument("--seeds", type=parse_seeds, required=True, metavar="A-B")
    calibrate.add_argument("--frames", type=int, default=40, help="frames a town")
    calibrate.add_argument("--estimator", action="append", metavar="NAME", help="fit this one (may be repeated; all)")
    calibrate.add_argument("--keep-temperature", action="store_true", help="fit the factor on the covariance alone")
    calibrate.add_argument("--cache", type=Path, metavar="DIR", help="keep rendered towns there and use them again")
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
        from cross_view_loc.matching.alignment import ESTIMATORS
        from cross_view_loc.training.calibration import calibrate

        only = options.estimator or ESTIMATORS
        if unknown := sorted(set(only) - set(ESTIMATORS)):
            raise InputError(f"there is no estimator '{unknown[0]}'; choose {', '.join(ESTIMATORS)}")
        calibrate(options.weights, options.seeds, options.frames, _log, options.cache, only, options.keep_temperature)
        return 0
    if options.stage == "manifest":
        return _manifest(options)
    return _train(options)


def _train(options: argparse.Namespace) -> int:
    from cross_view_loc.localizer import pick_device
    from cross_view_loc.training.distributed import joined
    from cross_view_loc.training.optimise import Run
    from cross_view_loc.training.train import TrainingSettings, load_data, train_depth, train_matcher

    for name in ("steps", "batch", "workers", "log_every"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give 1 or more")
    is_depth = options.stage == "depth"
    out = options.weights / (DEPTH_FILE if is_depth else MATCHER_FILE)
    data, held_out = load_data(options.data), [] if is_depth else load_data(options.held_out)
    _refuse_test_towns([town.seed for town in [*data, *held_out]])
    with joined(pick_device(options.device)) as (processes, device):
        settings = TrainingSettings(
            options.steps,
            options.batch,
            options.learning_rate,
            workers=options.workers,
            seed=options.seed,
            bf16=options.precision == "bf16",
            log_every=options.log_every,
            loss="consensus" if is_depth else options.loss,
            backbone="" if is_depth else options.backbone,
            device=device,
            validate_every=500 if is_depth else options.validate_every,
        )
        log = _log if processes.is_first else _silence
        run = Run(out, log, options.resume, processes, options.tensorboard)
        if is_depth:
            train_depth(data, settings, out, log, options.start_from, run)
        else:
            depth = _depth_weights(options, all(town.has_depth for town in [*data, *held_out]))
            train_matcher(data, depth, settings, out, log, options.start_from, run, held_out)
    return 0


def _depth_weights(options: argparse.Namespace, has_depth: bool) -> Path | None:
    """The depth network to lift with: the one named, the one being trained, else the package's where it is needed."""
    own: Path = options.weights / DEPTH_FILE
    if options.depth_weights is not None:
        return Path(options.depth_weights)
    if own.exists():
        return own
    return None if has_depth else SHIPPED / DEPTH_FILE


def _manifest(options: argparse.Namespace) -> int:
    from cross_view_loc.datasets.kitti import kitti_rows
    from cross_view_loc.datasets.vigor import vigor_rows
    from cross_view_loc.training.manifest_rows import write_rows

    if options.layout == "bag":
        rows = _bag_rows(options)
    else:
        if options.list is None:
            raise InputError(f"--layout {options.layout} needs --list: the file that says which frames")
        rows = (kitti_rows if options.layout == "kitti" else vigor_rows)(options.source, options.list)
    write_rows(options.out, rows)
    print(f"{len(rows)} images in {options.out}")
    return 0


def _bag_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    from cross_view_loc.aerial.sources import NO_MAP, open_source
    from cross_view_loc.bags.manifest import manifest_rows
    from cross_view_loc.bags.offline import map_origin, refuse_map_of_elsewhere
    from cross_view_loc.bags.reader import FIX_TYPE, Bag
    from cross_view_loc.bags.runner import choose_topics, first_fix_origin, with_topics
    from cross_view_loc.settings import Settings

    configured = Settings.from_yaml(options.config) if options.config else None
    with Bag(options.source) as bag:
        topics = choose_topics(bag, configured)
        settings = with_topics(configured or Settings(), topics)
        map_path = options.map or settings.map_path
        if not map_path:
            raise InputError(NO_MAP)
        truth = options.truth_topic or topics.truth
        if not truth:
            raise InputError("no ground truth: name its topic, Odometry in the map frame or NavSatFix, --truth-topic T")
        source = open_source(map_path)
        refuse_map_of_elsewhere(source, map_path, first_fix_origin(bag, topics.fix))
        origin, where = map_origin(settings, source, bag, topics)
        if where == "first fix" and truth in bag.topics and bag.topics[truth].type != FIX_TYPE:
            raise InputError(
                f"{truth} counts metres from an origin that neither the map nor a configuration tells; set map_origin "
                "in --config"
            )
        images = options.out.with_name(f"{options.out.stem}_images")
        rows, without = manifest_rows(bag, topics, settings, origin, Path(map_path), truth, images, options.every_m)
    if without:
        _log(f"{without} images were left out: no pose on {truth} at their stamp")
    return rows


def _refuse_test_towns(seeds: list[int]) -> None:
    if any(seed >= FIRST_TEST_SEED for seed in seeds):
        raise InputError(f"towns from seed {FIRST_TEST_SEED} on are for testing; train and calibrate on lower seeds")


def _data(options: argparse.Namespace) -> int:
    from cross_view_loc.training.town_data import render_town

    todo = [seed for seed in options.seeds if not (options.out / f"town_{seed:04d}.npz").exists()]
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = []
        for seed in todo:
            choice = {"region": options.region[seed % len(options.region)], "gap": options.gap}
            jobs.append(pool.submit(render_town, seed, options.out, options.views, device=options.device, **choice))
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="render", unit="town"):
            job.result()
    print(f"{len(options.seeds)} towns in {options.out}")
    return 0


def _log(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _silence(line: str) -> None:
    """What every process but the first logs."""
