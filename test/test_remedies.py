"""What commands say to somebody who begins: a remedy with its name, and no figure that is not so."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bag_helpers import CAMERA, drive, write_bag2, write_map

from cross_view_loc import localizer
from cross_view_loc.aerial.image_file import ImageMap
from cross_view_loc.cli import main
from cross_view_loc.commands.evaluate_sensitivity import without_past
from cross_view_loc.commands.locate import picture_reason
from cross_view_loc.doctor.survey import Survey
from cross_view_loc.doctor.transforms import camera_findings
from cross_view_loc.errors import MissingInputError
from cross_view_loc.geometry.transforms import R_BODY_OPTICAL, rpy, transform
from cross_view_loc.inputs.vehicle_motion import VehicleMotion
from cross_view_loc.matching.gate import Gate
from cross_view_loc.settings import Settings
from cross_view_loc.types import Prior


def doctor(capsys, bag: Path, folder: Path, *words: str) -> list[dict]:
    """Findings of a bag with the map about the usual origin."""
    if not (folder / "map.mbtiles").exists():
        write_map(folder / "map.mbtiles")
    main(["doctor", str(bag), "--map", str(folder / "map.mbtiles"), "--quick", "--json", *words])
    return json.loads(capsys.readouterr().out)["findings"]


def moved_north(degrees: float) -> list:
    items = drive()
    for topic, _, message in items:
        if topic == "/gps/fix":
            message.latitude += degrees
    return items


def test_a_camera_without_transform_gets_the_command_that_publishes_it(tmp_path, capsys, monkeypatch):
    bag = write_bag2(tmp_path / "bag", [item for item in drive() if item[0] != "/tf_static"])
    told = {each["check"]: each for each in doctor(capsys, bag, tmp_path)}
    command = f"static_transform_publisher .*--roll -1.5708 --yaw -1.5708 .*--child-frame-id {CAMERA.optical_frame}"
    assert told["tf.camera"]["level"] == "FAIL" and re.search(command, told["tf.camera"]["remedy"])
    assert "ros2 bag play" in told["tf.camera"]["remedy"]
    monkeypatch.setattr(localizer, "Localizer", lambda *_: SimpleNamespace(locate=None, follow=lambda frames: None))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(bag), "--map", "map.mbtiles"]) == 1
    assert re.search(command, capsys.readouterr().err)


def test_a_transform_that_moves_is_not_advised_to_be_static():
    motion = VehicleMotion(Settings())
    with pytest.raises(MissingInputError, match=r"frame-id base_link --child-frame-id lidar"):
        motion.mount("lidar")
    with pytest.raises(MissingInputError) as other:
        motion.transforms.lookup("odom", "base_link")
    assert "static_transform_publisher" not in str(other.value)


def test_the_rotation_advised_is_that_of_a_camera_that_looks_ahead():
    assert np.allclose(rpy(-1.5708, 0.0, -1.5708), R_BODY_OPTICAL, atol=1e-5)


@pytest.mark.parametrize(
    ("pitch_deg", "yaw_deg", "ahead_m", "said"),
    [
        (2.0, -3.0, 1.5, "1.50 m ahead, looks 2.0 deg down and 3.0 deg to the right"),
        (-2.0, 3.0, -0.5, "0.50 m behind, looks 2.0 deg up and 3.0 deg to the left"),
    ],
)
def test_no_direction_has_the_wrong_sign(pitch_deg, yaw_deg, ahead_m, said):
    survey = Survey()
    R = rpy(0.0, math.radians(pitch_deg), math.radians(yaw_deg)) @ R_BODY_OPTICAL
    survey.transforms = SimpleNamespace(lookup=lambda *_: transform(R, (ahead_m, 0.0, 1.6)))
    (finding,), _ = camera_findings(survey, Settings(), "camera_optical")
    assert said in finding.sentence


def test_a_map_of_elsewhere_is_the_one_thing_wrong(tmp_path, capsys):
    told = {each["check"]: each for each in doctor(capsys, write_bag2(tmp_path / "bag", moved_north(0.5)), tmp_path)}
    assert told["map.elsewhere"]["level"] == "FAIL"
    assert "fix.truth" not in told


def test_fixes_kilometres_from_the_truth_are_no_matter_of_the_radius(tmp_path, capsys):
    told = {each["check"]: each for each in doctor(capsys, write_bag2(tmp_path / "bag", moved_north(0.02)), tmp_path)}
    assert told["fix.truth"]["level"] == "WARN" and told["fix.truth"]["parameter"] == "map_origin"
    assert "different origins" in told["fix.truth"]["sentence"] and "radius" not in told["fix.truth"]["remedy"]


# --- one aerial picture ---


def gates_word(share: float) -> str:
    """How the gate refuses for want of imagery."""
    valid = np.zeros((100, 100), bool)
    valid[: round(share * 100)] = True
    patch = SimpleNamespace(valid=valid, meters_per_pixel_source=0.2)
    lattice = SimpleNamespace(holds=lambda pose: True)
    mode = SimpleNamespace(score=1.0, pose=None)
    best = SimpleNamespace(mode=mode, lattice=lattice, aerial=SimpleNamespace(patch=patch))
    return Gate(0.5, 3.0, 0.1).why_refused(best, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("heading_deg", [None, 0.0, 30.0, 200.0])
def test_the_picture_that_is_asked_for_is_just_large_enough(heading_deg):
    yaw_rad = math.radians(heading_deg or 70.0)
    prior = Prior(0, 0.0, 0.0, 20.0) if heading_deg is None else Prior(0, 0.0, 0.0, 20.0, yaw_rad, 0.2)

    def cut(side_m: float, rotation_rad: float = yaw_rad):
        side_px = math.ceil(side_m / 0.1)
        aerial = ImageMap(np.zeros((side_px, side_px, 3), np.uint8), 0.1)
        return aerial, aerial.patch(
            16.0 * math.cos(rotation_rad), 16.0 * math.sin(rotation_rad), 400, 0.2, rotation_rad
        )

    aerial, patch = cut(40.0)
    reason = picture_reason(gates_word(patch.valid.mean()), patch, aerial, prior)
    assert "40 m by 40 m at --gsd 0.1" in reason
    wanted_m = int(re.search(r"give one that is (\d+) m wide", reason)[1])
    assert cut(wanted_m)[1].valid.all()
    if heading_deg is None:
        assert all(cut(wanted_m, math.radians(angle))[1].valid.all() for angle in range(0, 360, 20))
    else:
        assert not cut(wanted_m - 2.0)[1].valid.all()


def test_other_reasons_stay_as_they_are():
    aerial = ImageMap(np.zeros((100, 100, 3), np.uint8), 0.2)
    patch = aerial.patch(0.0, 0.0, 50, 0.2, 0.0)
    assert picture_reason("ambiguous: so", patch, aerial, Prior(0, 0.0, 0.0, 5.0)) == "ambiguous: so"


def test_warp_starts_without_its_word_on_a_machine_without_gpu():
    """In a process of its own: it starts but once."""
    code = (
        "import os; from cross_view_loc.commands import quiet_warp; quiet_warp.start_warp(); "
        "os.write(2, b'still there'); from cross_view_loc.simulation.warp_runtime import wp; "
        "wp.init(); print(wp.get_device('cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, text=True)
    assert (done.stderr, done.stdout.strip()) == ("still there", "cpu")


# --- run and evaluate ---


def test_run_sends_whoever_brings_a_truth_to_evaluate_bag(capsys):
    assert main(["run", "drive/bag", "--truth", "truth.tum"]) == 1
    assert "`cross_view_loc evaluate bag drive/bag --truth truth.tum`" in capsys.readouterr().err


@pytest.mark.parametrize("bags", [1, 2])
def test_resume_of_a_folder_that_is_not_there_does_not_begin_anew(tmp_path, monkeypatch, capsys, bags):
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.mbtiles")
    paths = [str(write_bag2(tmp_path / f"bag{i}", drive())) for i in range(bags)]
    assert main(["run", *paths, "--map", "map.mbtiles", "--out", "mistyped", "--resume"]) == 1
    assert "there is no run to continue at mistyped" in capsys.readouterr().err
    assert not Path("mistyped").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(1, 0, 4)], ""),
        ([(1, 0, 4), (5, 0, 4), (5, 0, 4)], "no frame had"),
        ([(5, 1, 4), (5, 1, 4)], "only 2 of 8 frames had"),
        ([(5, 2, 4), (5, 2, 4)], ""),
    ],
)
def test_windows_without_a_past_are_said_to_be_such(rows, said):
    told = without_past([{"window": w, "frames_with_past": past, "frames": frames} for w, past, frames in rows])
    assert said in told if said else not told
