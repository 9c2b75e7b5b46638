"""What a disturbance tells the localizer wrongly, by how much and with which sign; and the rows it leads to."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("warp")

from cross_view_loc import cli
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation import sensitivity
from cross_view_loc.evaluation.metrics import FrameError
from cross_view_loc.evaluation.renders import ORTHO_METERS_PER_PIXEL, CameraShots, DriveSetting, RenderedDrive
from cross_view_loc.evaluation.sensitivity import NOTHING, SensitivityResult, disturbances, disturbed_odometry
from cross_view_loc.evaluation.town import TownBench, with_priors
from cross_view_loc.geometry.cameras import EquirectangularCamera, FisheyeCamera, PinholeCamera
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, inverse, rpy, transform
from cross_view_loc.types import Estimate

PINHOLE = PinholeCamera(640, 360, 400.0, 400.0, 320.0, 180.0)
MOUNTS = {
    "front": transform(rpy(0.0, math.radians(2.0), 0.0) @ R_BODY_OPTICAL, np.array([1.2, 0.0, 1.6])),
    "left": transform(rpy(0.0, math.radians(6.0), math.pi / 2) @ R_BODY_OPTICAL, np.array([0.9, 0.8, 1.5])),
}


def drive_of(camera=PINHOLE, count: int = 4) -> RenderedDrive:
    """Nothing rendered: a way of 3 m steps, turning, under a grey map."""
    poses = [transform(rpy(0.0, 0.02, 0.1 * i), np.array([3.0 * i, 0.1 * i, 0.0])) for i in range(count)]
    image = np.zeros((count, 4, 4, 3), np.uint8)
    shots = [CameraShots(name, camera, T, image, np.ones((count, 4, 4), np.float32)) for name, T in MOUNTS.items()]
    setting, ortho = DriveSetting(1, count, between=1), np.zeros((100, 100, 3), np.uint8)
    stamps = np.arange(count, dtype=np.int64) * 500_000_000
    return RenderedDrive(setting, ortho, (0.0, 0.0), stamps, np.stack(poses), ("street",) * count, tuple(shots))


def changed(name: str, camera=PINHOLE) -> tuple[TownBench, TownBench]:
    """The bench, and what it is under a disturbance."""
    drive = drive_of(camera)
    bench = with_priors(drive)
    (found,) = (each for each in disturbances() if each.name == name)
    return bench, found.change(bench, drive)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("name", "shift", "turn"),
    [
        ("camera 0.2 m too high", (0, 0, 0.2), None),
        ("camera 0.2 m too low", (0, 0, -0.2), None),
        ("camera 0.3 m too far ahead", (0.3, 0, 0), None),
        ("camera pitch +2°", (0, 0, 0), "down"),
        ("camera yaw +1°", (0, 0, 0), "left"),
        ("camera roll +2°", (0, 0, 0), "roll"),
    ],
)
def test_a_mount_is_wrong_by_what_its_name_says(name: str, shift, turn, index: int) -> None:
    before, after = (bench.frames[0].frames[index].T_base_camera for bench in changed(name))
    np.testing.assert_allclose(after[:3, 3] - before[:3, 3], shift, atol=1e-12)
    axes = [T[:3, 2] for T in (before, after)]
    elevation = [math.degrees(math.asin(axis[2])) for axis in axes]
    azimuth = [math.degrees(math.atan2(axis[1], axis[0])) for axis in axes]
    assert elevation[1] - elevation[0] == pytest.approx(-2.0 if turn == "down" else 0.0, abs=2e-2)
    assert azimuth[1] - azimuth[0] == pytest.approx(1.0 if turn == "left" else 0.0, abs=0.1)
    lean = [math.degrees(math.asin(T[2, 0])) for T in (before, after)]  # how far its x axis points up
    assert abs(lean[1] - lean[0]) == pytest.approx(2.0 if turn == "roll" else 0.0, abs=2e-2)


@pytest.mark.parametrize("camera", [PINHOLE, FisheyeCamera(640, 360, 200.0, 200.0, 320.0, 180.0, (0.01,))])
def test_a_lens_is_wrong_by_what_its_name_says(camera) -> None:
    longer = changed("focal length +2 %", camera)[1].frames[0].frames[0].camera
    assert longer == replace(camera, fx=camera.fx * 1.02, fy=camera.fy * 1.02)
    assert changed("principal point +1 % right", camera)[1].frames[0].frames[0].camera == replace(camera, cx=326.4)
    assert changed("principal point +1 % down", camera)[1].frames[0].frames[0].camera == replace(camera, cy=186.4)


def test_map_prior_and_attitude() -> None:
    wider, moved = changed("map +1 % m/px about its middle")[1].orthophoto, changed("map 0.5 m east")[1].orthophoto
    assert wider.meters_per_pixel == pytest.approx(1.01 * ORTHO_METERS_PER_PIXEL)
    assert moved.pixel(0.5, 0.0).tolist() == [50.0, 50.0]
    plain, level = changed("vehicle level though it is not")
    assert not np.allclose(plain.frames[0].frames[0].R_level_base, np.eye(3))
    assert all(np.array_equal(frame.R_level_base, np.eye(3)) for moment in level.frames for frame in moment.frames)
    plain, gnss = changed("prior of GNSS (σ 3 m, 5°)")
    assert (
        gnss.frames[0].prior.yaw_range_rad == pytest.approx(math.radians(15.0)) != plain.frames[0].prior.yaw_range_rad
    )


def test_odometry_is_too_long_or_turns_as_its_name_says() -> None:
    drive = drive_of()
    true_step = inverse(drive.T_map_base[0]) @ drive.T_map_base[1]
    exact, longer, turning = (disturbed_odometry(drive.T_map_base, *how) for how in ((1, 0), (1.02, 0), (1, 0.2)))
    np.testing.assert_allclose(exact[3], inverse(drive.T_map_base[0]) @ drive.T_map_base[3], atol=1e-12)
    np.testing.assert_allclose(longer[1][:3, 3], 1.02 * true_step[:3, 3])
    np.testing.assert_allclose(longer[1][:3, :3], true_step[:3, :3])
    between = rpy(0, 0, math.radians(0.2) * float(np.linalg.norm(true_step[:3, 3])))
    np.testing.assert_allclose(turning[1][:3, :3], true_step[:3, :3] @ between)
    moments = changed("window 5, odometry +2 %")[1].frames
    np.testing.assert_allclose(moments[2].frames[1].T_odom_base, longer[2])
    assert [each.window for each in disturbances(3) if "odometry" in each.name] == [3, 3, 3]
    assert not [each for each in disturbances(1) if "odometry" in each.name]


def test_a_panorama_has_no_focal_length() -> None:
    bench = with_priors(drive_of(EquirectangularCamera(64, 32)))
    left_out = {each.name for each in disturbances() if not each.applies_to(bench)}
    assert left_out == {"focal length +2 %", "principal point +1 % right", "principal point +1 % down"}


def result(name: str, east_m: tuple[float, ...], yaw_deg: float = 0.0) -> SensitivityResult:
    errors = [FrameError(abs(east), 0.0, abs(east), yaw_deg, 1.5, True) for east in east_m]
    estimates = [Estimate(0, east, 0.0, math.radians(yaw_deg), np.eye(3), accepted=True) for east in east_m]
    return SensitivityResult(name, "flat", errors=errors, estimates=estimates)


def test_a_row_says_how_much_was_added_and_how_far_estimates_moved() -> None:
    plain = result(NOTHING, (0.5, -0.5, 0.5), yaw_deg=179.0)
    row = result("camera yaw +1°", (0.7, -0.7, 0.7), yaw_deg=-179.0).row(plain, gap="mild")
    assert (row["position_median_m"], row["position_added_m"], row["moved_median_m"]) == (0.7, 0.2, 0.2)
    assert row["turned_median_deg"] == pytest.approx(2.0, abs=1e-3) and row["nees_per_dof"] == 0.5
    assert row["disturbance"] == "camera yaw +1°" and row["gap"] == "mild"


def test_the_command_prints_each_depth_and_disturbance(monkeypatch, capsys, tmp_path) -> None:
    asked: list = []

    def measured(seeds, frames, depths, chosen, base, *more):
        asked.append((list(seeds), frames, depths, [each.name for each in chosen], *more[:2]))
        return [
            replace(result(each.name, (0.5, 0.6)), depth=depth, window=each.window)
            for depth in depths
            for each in chosen
        ]

    monkeypatch.setattr(sensitivity, "measure_sensitivity", measured)
    words = ["evaluate", "sensitivity", "--seeds", "9003", "--frames", "2", "--only", "pitch", "--depth", "flat"]
    assert cli.main([*words, "--depth", "true", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    names = [NOTHING, "camera pitch +2°", "camera pitch -2°"]
    assert [(row["depth"], row["disturbance"]) for row in rows] == [(d, n) for d in ("flat", "true") for n in names]
    assert asked == [([9003], 2, ["flat", "true"], names, "front", "mild")]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2].startswith("camera pitch +2°") and len({len(line) for line in lines}) == 1
    assert cli.main([*words[:6], "--only", "odometry", "--window", "3", "--depth", "flat"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "window 3, exact odometry", "window 3, odometry +2 %", "window 3, odometry turns 0.2°/m"
    ]  # fmt: skip
    assert cli.main([*words[:6], "--only", "colour"]) == 1
    assert "names no disturbance; there are: camera 0.2 m too high" in capsys.readouterr().err
    with pytest.raises(InputError, match="--frames is 0"):
        from cross_view_loc.commands import evaluate_sensitivity

        evaluate_sensitivity.execute(
            cli.build_parser("evaluate").parse_args(["evaluate", "sensitivity", "--frames", "0"])
        )


def test_estimates_that_had_a_past_are_counted(monkeypatch) -> None:
    class Stub:
        """A localizer that has gone some way before all but its first estimate."""

        def __init__(self) -> None:
            self.settings, self.depth, self.located = SimpleNamespace(window_frames=5), None, 0
            self.use_map = self.follow = lambda what: None

        def locate(self, frames, prior) -> Estimate:
            self.located += 1
            self.window = SimpleNamespace(reach_m=3.0 * (self.located - 1))
            return Estimate(frames[0].stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, np.eye(3), accepted=True)

    monkeypatch.setattr(sensitivity, "make_localizer", lambda *_: Stub())
    monkeypatch.setattr(sensitivity, "rendered_drive", lambda *_, **__: drive_of(count=5))
    chosen = [each for each in disturbances(5) if each.window == 5]
    results = sensitivity.measure_sensitivity([1], 3, ["flat"], chosen, None)  # type: ignore[arg-type]
    assert [(result.with_past, len(result.errors)) for result in results] == [(2, 3)] * 3
    assert results[1].row(results[0])["frames_with_past"] == 2
