"""`cross_view_loc depth`: depth of every image of a data set, computed once and kept."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from cross_view_loc.commands.depth_option import HELP as DEPTH_HELP
from cross_view_loc.commands.depth_option import depth_name as depth_text
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, from_quaternion, rpy, transform

if TYPE_CHECKING:
    from cross_view_loc.depth.batch import Job
    from cross_view_loc.depth.model import Along

EXAMPLES = """examples:
  cross_view_loc depth /data/kitti --layout kitti --depth learned --list /data/kitti/test1_files.txt
  cross_view_loc depth /data/vigor --layout vigor --depth depth-anything-v2-metric-outdoor-small --shrink 4
  cross_view_loc depth /data/photos --layout images --depth flat --camera pinhole:610,610,320,180 --camera-height 1.4
  cross_view_loc evaluate kitti --root /data/kitti --depth precomputed:/data/kitti_depth

The folder written has the tree of the images: a 16-bit PNG for each, 1/512 m a unit, 0 unknown; along the optical axis
of pinholes, along the ray of any other camera. depth.json says so, and names source, licence and hash of the weights.
An interrupted run goes on where it stopped. Images that cannot be read are named, the others done, the exit status 1.
"""
LAYOUTS = ("kitti", "vigor", "images")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PANORAMA_HEIGHT_M = 2.5
"""What the reader of VIGOR takes the cameras' height for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("root", type=Path, metavar="DIR", help="the data set, or a folder of images")
    parser.add_argument("--layout", choices=LAYOUTS, default="images", help="what DIR is (%(default)s)")
    parser.add_argument("--depth", type=depth_text, default="learned", metavar="NAME", help=DEPTH_HELP)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write; default DIR with _depth behind it")
    parser.add_argument("--list", type=Path, metavar="FILE", help="of kitti and vigor: only the images of this list")
    parser.add_argument(
        "--camera",
        metavar="MODEL",
        help="of --layout images: pinhole:fx,fy,cx,cy[,k1,…] | fisheye:… | equirectangular | strip | a YAML file",
    )
    parser.add_argument("--camera-height", type=float, metavar="M", help="of images: above the ground (1.65)")
    parser.add_argument("--camera-pitch-deg", type=float, metavar="DEG", help="of images: how far it looks down (0)")
    parser.add_argument(
        "--shrink", type=int, default=1, metavar="K", help="pixels of the image along one of the depth's (%(default)s)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="at the same time (%(default)s)")
    parser.add_argument("--weights-dir", type=Path, metavar="DIR", help="other weights of `learned`")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--force", action="store_true", help="compute all anew, also over depth of another source")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Compute what is missing; 1 when images could not be read."""
    out = options.out or options.root.absolute().parent / f"{options.root.absolute().name}_depth"
    _check(options, out)
    jobs = _jobs(options, out)

    from cross_view_loc.depth.batch import Work, compute_all  # torch takes seconds: not before the options are checked
    from cross_view_loc.depth.choose import make_depth
    from cross_view_loc.localizer import pick_device
    from cross_view_loc.networks.weights import SHIPPED

    work = Work(options.depth, options.weights_dir or SHIPPED, pick_device(options.device), options.shrink)
    source = make_depth(work.depth, work.weights_folder, work.device)
    _agree(options, out, source)
    if options.force:
        for job in jobs:
            job.target.unlink(missing_ok=True)
    problems, counts = [], Counter({"made": 0, "kept": 0, "bad": 0})
    bar = tqdm(total=len(jobs), desc="depth", unit="image", file=sys.stderr, disable=None)
    with bar:
        for done in compute_all(jobs, work, source, options.processes):
            counts[done.outcome] += 1
            if done.problem:
                problems.append({"image": str(done.image), "problem": done.problem})
                bar.write(f"skipped: {done.problem}", file=sys.stderr)
            bar.update(1)
    if options.json:
        print(json.dumps({"out": str(out), **counts, "problems": problems}))
    else:
        print(f"{out}: depth of {counts['made']} images made, {counts['kept']} were there, {counts['bad']} skipped")
    if problems:
        print(f"cross_view_loc depth: {counts['bad']} of {len(jobs)} images have no depth, see above", file=sys.stderr)
    return 1 if problems else 0


def _check(options: argparse.Namespace, out: Path) -> None:
    """Raises InputError, MissingInputError for options that cannot be."""
    if not options.root.is_dir():
        raise MissingInputError(f"there is no folder {options.root}; give the data set's or the images'")
    if out.absolute() == options.root.absolute():
        raise InputError(f"--out {out} is the folder of the images; choose another")
    if options.depth.startswith("precomputed:"):
        raise InputError("--depth precomputed:… is what this command makes; choose a source that computes")
    if not 1 <= options.shrink <= 16:
        raise InputError(f"--shrink {options.shrink} leaves nothing of use; choose 1 to 16")
    if not 1 <= options.processes <= 256:
        raise InputError(f"--processes {options.processes} cannot be started; choose 1 to 256")
    given = [name for name in ("camera", "camera_height", "camera_pitch_deg") if getattr(options, name) is not None]
    if options.layout != "images" and given:
        raise InputError(f"--{given[0].replace('_', '-')} is for --layout images; {options.layout} knows its cameras")
    if options.layout == "images":
        if options.camera is None:
            raise InputError("--layout images needs --camera: pinhole:fx,fy,cx,cy, equirectangular, … or a YAML file")
        if options.list is not None:
            raise InputError("--list is for --layout kitti and vigor; give a folder with the wanted images alone")
        if not 0.1 <= (1.65 if options.camera_height is None else options.camera_height) <= 100.0:
            raise InputError(
                f"--camera-height is {options.camera_height:g} m; give the height above the ground, 0.1 to 100"
            )


def _agree(options: argparse.Namespace, out: Path, source: Any) -> None:
    """Write the sidecar, or see that depth of an earlier run is of the same kind. Raises InputError."""
    from cross_view_loc.depth.provenance import licence_of, weights_sha256
    from cross_view_loc.depth.stored import SIDECAR, Provenance, read_sidecar, write_sidecar
    from cross_view_loc.networks.weights import SHIPPED

    cameras = "by the data set"
    along: Along = "z" if options.layout == "kitti" else "range"
    if options.layout == "images":
        height_m, pitch_deg = _mount_numbers(options)
        cameras = f"{options.camera}, {height_m:g} m above the ground, looking {pitch_deg:g} degrees down"
        along = _along(options.camera)
    wanted = Provenance(
        options.depth,
        along,
        source.kind,
        float(source.log_scale_std),
        licence_of(options.depth, source),
        weights_sha256(options.depth, options.weights_dir or SHIPPED),
        options.layout,
        cameras,
        options.shrink,
    )
    if (out / SIDECAR).is_file() and not options.force:
        found = read_sidecar(out)
        for name in ("source", "weights_sha256", "layout", "cameras", "pixels_shrunk"):
            if getattr(found, name) != getattr(wanted, name):
                raise InputError(
                    f"{out} holds depth whose {name} is '{getattr(found, name)}', not '{getattr(wanted, name)}'; "
                    "choose another --out, or --force to compute all anew"
                )
    elif not options.force and out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} holds something else than depth; choose another --out")
    write_sidecar(out, wanted)


def _along(camera: str) -> Along:
    """What depth of the images of `--camera` counts along; a calibration file says which camera it is."""
    from cross_view_loc.depth.stored import along_of
    from cross_view_loc.inputs.camera_text import read_calibration_file

    if Path(camera).suffix in (".yaml", ".yml"):
        return along_of(read_calibration_file(Path(camera)))
    return "z" if camera.startswith("pinhole") else "range"


def _jobs(options: argparse.Namespace, out: Path) -> list[Job]:
    """One job an image. Raises InputError, MissingInputError when there are none or two would share a name."""
    from cross_view_loc.depth.batch import Job
    from cross_view_loc.depth.stored import depth_name

    root = options.root.absolute()
    if options.layout == "kitti":
        found = _kitti_images(root, options.list)
    elif options.layout == "vigor":
        mount = _forward_mount(PANORAMA_HEIGHT_M, 0.0)
        found = [(path, "equirectangular", mount) for path in _vigor_images(root, options.list)]
    else:
        mount = _forward_mount(*_mount_numbers(options))
        camera = str(Path(options.camera).absolute()) if Path(options.camera).is_file() else options.camera
        found = [(path, camera, mount) for path in _images_below(root, out)]
    if not found:
        raise MissingInputError(f"there are no images in {root} for --layout {options.layout}; give another folder")
    jobs: dict[Path, Job] = {}
    for path, camera, mount in found:
        target = out / depth_name(path.relative_to(root))
        if target in jobs and jobs[target].image != path:
            raise InputError(f"{jobs[target].image} and {path.name} would share the depth {target}; rename one of them")
        jobs[target] = Job(path, target, camera, mount)
    return list(jobs.values())


def _mount_numbers(options: argparse.Namespace) -> tuple[float, float]:
    """Height and pitch of `--layout images`."""
    return (
        1.65 if options.camera_height is None else options.camera_height,
        0.0 if options.camera_pitch_deg is None else options.camera_pitch_deg,
    )


def _forward_mount(height_m: float, pitch_deg: float) -> np.ndarray:
    # A positive rotation about y (left) turns x (forward) towards -z: down.
    return transform(rpy(0.0, math.radians(pitch_deg), 0.0) @ R_BODY_OPTICAL, (0.0, 0.0, height_m))


def _images_below(root: Path, out: Path) -> list[Path]:
    """Images in a folder and all below it, but not in what this command writes."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and out.absolute() not in path.parents
    ]


def _vigor_images(root: Path, label_file: Path | None) -> list[Path]:
    """Panoramas of all cities, or of a label file's city and lines."""
    if label_file is None:
        return [path for path in sorted(root.glob("*/panorama/*")) if path.suffix.lower() in SUFFIXES]
    folder = root / label_file.absolute().parent.name / "panorama"
    return [folder / line.split()[0] for line in _lines(label_file)]


def _kitti_images(root: Path, file_list: Path | None) -> list[tuple[Path, str, np.ndarray]]:
    """Left colour images of all drives, or of a list's, with camera and mount."""
    from cross_view_loc.datasets.kitti import kitti_rows

    if file_list is not None:
        return [_of_row(root, row) for row in kitti_rows(root, file_list)]
    raw = root / "raw_data" if (root / "raw_data").is_dir() else root
    images = sorted(raw.glob("*/*/image_02/data/*.png"))
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{path.parts[-5]}/{path.parts[-4]}/{path.name}\n" for path in images]
        everything = Path(folder) / "all_files.txt"
        everything.write_text("".join(names), encoding="utf-8")
        return [_of_row(root, row) for row in kitti_rows(root, everything)]


def _of_row(root: Path, row: dict[str, Any]) -> tuple[Path, str, np.ndarray]:
    numbers = [float(number) for number in row["mount"].split()]
    path = root / Path(row["image"]).relative_to(root.resolve())  # rows have resolved links
    return path, row["camera"], transform(from_quaternion(*numbers[3:]), numbers[:3])


def _lines(path: Path) -> Sequence[str]:
    if not path.is_file():
        raise MissingInputError(f"there is no list of images at {path}; give the data set's file with --list")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
