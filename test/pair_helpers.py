"""Tiny data sets in the layouts of KITTI and VIGOR, written by hand, and localizers that know the truth."""

import math
from pathlib import Path

import cv2
import numpy as np
import torch

from cross_view_loc.depth.source import FlatGround
from cross_view_loc.evaluation.pairs import Pair
from cross_view_loc.geometry.transforms import rotation_z
from cross_view_loc.matching.loc2.ground_image import lift_ground
from cross_view_loc.matching.loc2.pipeline import Loc2Matcher, Loc2Matches
from cross_view_loc.matching.matches import CellMatches
from cross_view_loc.types import Estimate

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0001_sync"
KITTI_CALIBRATION = (
    "S_rect_02: 1.242000e+03 3.750000e+02\n"
    "P_rect_02: 7.215377e+02 0 6.095593e+02 4.485728e+01 0 7.215377e+02 1.728540e+02 2.163791e-01 0 0 1 2.745884e-03\n"
)
KITTI_FRAMES = {
    # NUMBER: (yaw, shift x, shift y, θ)
    "0000000003": (0.5, 0.3, -0.6, 0.25),
    "0000000007": (-2.0, -1.0, 1.0, -1.0),
    "0000000009": (3.0, 0.0, 0.0, 0.0),
}


def save(path: Path, image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def write_kitti(root: Path, frames=KITTI_FRAMES, lists=("test1_files.txt", "test2_files.txt")) -> Path:
    """A day, a drive and its lists; the images show nothing."""
    day = root / "raw_data" / DATE
    day.mkdir(parents=True)
    (day / "calib_cam_to_cam.txt").write_text(KITTI_CALIBRATION)
    lines = []
    for number, (yaw_rad, *noise) in frames.items():
        save(day / DRIVE / "image_02" / "data" / f"{number}.png", np.full((375, 1242, 3), 90, np.uint8))
        save(root / "satmap" / DATE / DRIVE / f"{number}.png", np.full((1280, 1280, 3), 90, np.uint8))
        oxts = day / DRIVE / "oxts" / "data" / f"{number}.txt"
        oxts.parent.mkdir(parents=True, exist_ok=True)
        oxts.write_text(f"49.0 8.4 116.0 0.02 -0.01 {yaw_rad} 0 0 0\n")
        lines.append(f"{DATE}/{DRIVE}/{number}.png {' '.join(map(str, noise))}")
    for name in lists:
        (root / name).write_text("\n".join(lines) + "\n")
    return root


VIGOR_OFFSETS = {"NewYork": (30.0, -50.0), "Seattle": (-80.0, 10.0), "SanFrancisco": (0.0, 120.0), "Chicago": (5, 5)}
"""Rows by which the camera lies below the middle of its satellite image, and columns to the left."""


def write_vigor(root: Path, cities=VIGOR_OFFSETS, width=512) -> Path:
    """One panorama a city, in every label file; the corrected labels are a pixel off the original ones."""
    for city, (down, left) in cities.items():
        save(root / city / "panorama" / "a.jpg", np.full((width // 2, width, 3), 90, np.uint8))
        save(root / city / "satellite" / "s.png", np.full((640, 640, 3), 90, np.uint8))
        for folder, ending, change in (("splits", "", 0.0), ("splits__corrected", "__corrected", 1.0)):
            (root / folder / city).mkdir(parents=True)
            line = f"a.jpg s.png {down + change} {left} " + " ".join(f"n{i}.png 1 1" for i in range(3)) + "\n"
            for name in ("same_area_balanced_test", "pano_label_balanced"):
                (root / folder / city / f"{name}{ending}.txt").write_text(line)
    return root


class Knowing:
    """A localizer that is told the pairs and answers each with its truth, moved in the vehicle's own frame."""

    def __init__(self, pairs: list[Pair], forward_m=0.0, left_m=0.0, turn_deg=0.0):
        self.published, self.calls = None, 0
        self._pairs = {str(pair.aerial): pair for pair in pairs}
        self._move = forward_m, left_m, math.radians(turn_deg)

    def use_map(self, aerial_map):
        self.map = aerial_map

    def locate(self, frames, prior):
        self.calls += 1
        pair, crop = self._pairs[self.map.imagery.name], self.map.frame
        assert (prior.east_m, prior.north_m, prior.yaw_rad) == (0.0, 0.0, 0.0)
        assert (crop.east_m, crop.north_m, crop.yaw_rad) == (pair.prior.east_m, pair.prior.north_m, pair.prior.yaw_rad)
        forward_m, left_m, turn_rad = self._move
        step = rotation_z(pair.truth.yaw_rad)[:2, :2] @ [forward_m, left_m]
        place = np.array([pair.truth.east_m - crop.east_m, pair.truth.north_m - crop.north_m]) + step
        x, y = rotation_z(-crop.yaw_rad)[:2, :2] @ place
        yaw_rad = pair.truth.yaw_rad + turn_rad - crop.yaw_rad
        return Estimate(0, float(x), float(y), yaw_rad, np.eye(3), accepted=True)


class PerfectMatches(Loc2Matcher):
    """The released matcher without its networks: ground cells are matched with where it truly is from above."""

    def __init__(self, pairs: list[Pair], spec):
        self.spec, self.device = spec, "cpu"
        self.backbone = lambda image: torch.zeros(1, 4, 8)
        self._pairs, self._last = {str(pair.aerial): pair for pair in pairs}, None

    def match(self, frames, depth, aerial_map, prior, generator):
        truth, crop = self._pairs[aerial_map.imagery.name].truth, aerial_map.frame
        ground = lift_ground(frames[0], self.spec, FlatGround())
        aerial = self.aerial_features(aerial_map, prior, 0.0)
        points = ground.points_body[ground.usable][::9]
        there = points @ rotation_z(truth.yaw_rad)[:2, :2].T + [truth.east_m, truth.north_m]
        in_crop = (there - [crop.east_m, crop.north_m]) @ rotation_z(crop.yaw_rad)[:2, :2]
        patch = torch.tensor([aerial.to_patch(x, y) for x, y in in_crop])
        index = torch.arange(len(points))
        return Loc2Matches(
            CellMatches(index, torch.from_numpy(points), patch.double(), torch.ones(len(points)).double()),
            ground,
            aerial,
        )
