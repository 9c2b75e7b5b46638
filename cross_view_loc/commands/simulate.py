"""`cross_view_loc simulate`: a town drive as rosbag2, aerial map, truth and parameters, or in a data set's layout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from cross_view_loc.commands.quiet_warp import start_warp
from cross_view_loc.errors import InputError
from cross_view_loc.simulation.gap import GAPS
from cross_view_loc.simulation.layouts.scene import LayoutSettings
from cross_view_loc.simulation.regions import REGIONS
from cross_view_loc.simulation.rig import RIG_NAMES
from cross_view_loc.simulation.simulate import SimulationSettings, check_folder, simulate

EXAMPLES = """examples:
  cross_view_loc simulate --seed 9001 --out /tmp/drive
  cross_view_loc simulate --seed 9001 --out /tmp/drive --duration 20 --cameras surround --gnss dishonest
  cross_view_loc simulate --seed 9001 --out /tmp/hard --gap hard --region suburb
  cross_view_loc run /tmp/drive/bag --map /tmp/drive/map.mbtiles --config /tmp/drive/localizer.yaml
  cross_view_loc simulate --layout kitti --seed 9001 --frames 20 --out /tmp/kitti
  cross_view_loc simulate --layout vigor --seed 9001 --frames 10 --out /tmp/vigor

The folder then holds bag/ (rosbag2, mcap), map.mbtiles, truth.tum (base_link in map at every image) and
localizer.yaml. The same seed gives the same drive. Seeds below 9000 are for training, 9000-9999 for tests.

--layout kitti and vigor write folders, file names, formats and image sizes of those data sets instead: calibration,
poses, satmaps and the three lists of frames with their noise; panoramas, satellite images and both label sets.
"""
LAYOUTS = ("bag", "kitti", "vigor")
BAG_ONLY = ("duration", "cameras", "rate", "gnss", "latitude", "longitude", "image_scale")
"""Options that mean nothing to a data set's layout, which prescribes them."""


class ConsoleProgress:
    """Progress bars on standard error, one a stage; silent when that is no terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def start(self, title: str, total: int) -> Callable[[int], None]:
        """Close the last stage's bar and open the next."""
        self.close()
        bar = tqdm(total=total, desc=title, file=sys.stderr, disable=None)
        self._bar = bar
        return lambda count: (bar.update(count), None)[1]

    def close(self) -> None:
        """End the last bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    defaults = SimulationSettings(seed=0)
    parser.add_argument("--seed", type=int, required=True, help="town, drive, looks and sensor errors follow from it")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must be empty")
    parser.add_argument("--layout", choices=LAYOUTS, default="bag", help="what to write (%(default)s)")
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of --layout kitti: images in each of the three lists; of vigor: panoramas of each city (20)",
    )
    parser.add_argument(
        "--duration", type=float, default=defaults.duration_s, metavar="S", help="seconds (%(default)s)"
    )
    parser.add_argument("--cameras", choices=RIG_NAMES, default=defaults.cameras, help="camera rig (%(default)s)")
    parser.add_argument(
        "--gap",
        choices=GAPS,
        default=defaults.gap,
        help="between map and camera: mild (season, light, cars), or hard (night, wet, stale and shifted map, traffic,"
        " lens, rolling shutter, dirt) (%(default)s)",
    )
    parser.add_argument("--region", choices=REGIONS, default=defaults.region, help="kind of place (%(default)s)")
    parser.add_argument(
        "--rate", type=float, default=defaults.image_rate_hz, metavar="HZ", help="images a second (%(default)s)"
    )
    parser.add_argument(
        "--town-size",
        type=float,
        metavar="M",
        help=f"side of the town ({defaults.town_size_m:g}, or as the layout needs)",
    )
    parser.add_argument(
        "--gnss",
        choices=("honest", "dishonest"),
        default=defaults.gnss,
        help="covariance in the fixes: that of the error, or 0.47/0.37 m as a real receiver claimed (%(default)s)",
    )
    parser.add_argument(
        "--latitude", type=float, default=defaults.latitude_deg, metavar="DEG", help="of the town (%(default)s)"
    )
    parser.add_argument(
        "--longitude", type=float, default=defaults.longitude_deg, metavar="DEG", help="of the town (%(default)s)"
    )
    parser.add_argument("--image-scale", type=float, default=1.0, metavar="F", help="shrink the images (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where images are rendered: cpu or cuda (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a drive that is already in the folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> int:
    """Write the drive and say where it is."""
    start_warp()
    if options.layout != "bag":
        return _write_layout(options)
    if options.frames is not None:
        raise InputError("--frames is for --layout kitti and vigor; a bag takes --duration and --rate")
    settings = SimulationSettings(
        seed=options.seed,
        duration_s=options.duration,
        cameras=options.cameras,
        image_rate_hz=options.rate,
        town_size_m=SimulationSettings.town_size_m if options.town_size is None else options.town_size,
        gnss=options.gnss,
        latitude_deg=options.latitude,
        longitude_deg=options.longitude,
        image_scale=options.image_scale,
        device=options.device,
        gap=options.gap,
        region=options.region,
    )
    progress = ConsoleProgress()
    try:
        summary = simulate(settings, options.out, progress, options.force)
    finally:
        progress.close()
    if options.json:
        print(json.dumps(summary))
        return 0
    seconds = sum(summary["seconds"].values())
    print(
        f"{summary['out']}: {summary['distance_m']:g} m in {summary['duration_s']:g} s, "
        f"{sum(summary['messages'].values())} messages ({summary['bag_bytes'] / 1e6:.1f} MB), "
        f"{summary['tiles']} tiles ({summary['map_bytes'] / 1e6:.1f} MB), made in {seconds:.0f} s"
    )
    print(f"next: cross_view_loc run {summary['bag']} --map {summary['map']} --config {summary['parameters']}")
    return 0


def _write_layout(options: argparse.Namespace) -> int:
    """Write a data set's layout and say what is in it. Raises InputError for options that it prescribes itself."""
    defaults = argparse.ArgumentParser()
    configure(defaults)
    for name in BAG_ONLY:
        if getattr(options, name) != defaults.get_default(name):
            word = name.replace("_", "-")
            raise InputError(f"--{word} means nothing to --layout {options.layout}, which prescribes it; leave it out")
    frames = LayoutSettings.frames if options.frames is None else options.frames
    settings = LayoutSettings(options.seed, frames, options.town_size, options.gap, options.region, options.device)
    check_folder(options.out, options.force)
    if options.layout == "kitti":
        from cross_view_loc.simulation.layouts.kitti import write_kitti as write
    else:
        from cross_view_loc.simulation.layouts.vigor import write_vigor as write
    progress = ConsoleProgress()
    try:
        summary = write(settings, options.out, progress)
    finally:
        progress.close()
    if options.json:
        print(json.dumps(summary))
        return 0
    lists = ", ".join(f"{name} {count}" for name, count in summary["lists"].items())
    print(f"{summary['out']}: {summary['images']} ground images, {summary['aerial_images']} aerial images; {lists}")
    print(f"next: cross_view_loc evaluate {options.layout} --root {summary['out']}")
    return 0
