"""What keeps `--calibrate` from doing harm: correlated errors count once, and the other half of the drive decides."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.bags.truth import RecordedTruth
from cross_view_loc.commands import calibrate_bag
from cross_view_loc.commands.calibrate_bag import calibrate, calibration_text, calibration_verdict
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.calibration_check import (
    bears_scale,
    check_covariance_scale,
    independent_count,
    is_better,
    student_975,
)
from cross_view_loc.evaluation.map_offset import estimate_map_offset
from cross_view_loc.evaluation.metrics import FrameError
from cross_view_loc.geometry.transforms import rpy, transform
from cross_view_loc.inputs.stamps import Timeline, whole_drive
from cross_view_loc.settings import Settings
from cross_view_loc.types import Estimate, Prior

SECOND = 1_000_000_000
FOUR_PER_S = SECOND // 4


def error(position_m: float, heading_deg: float = 0.2, nees: float = 3.0) -> FrameError:
    return FrameError(position_m, 0.0, position_m, heading_deg, nees, True)


def correlated(seconds: int, time_s: float, seed: int) -> np.ndarray:
    """(4·seconds, 2) of deviation one; the correlation falls to 1/e in `time_s`."""
    rng = np.random.default_rng(seed)
    keep = math.exp(-0.25 / time_s)
    rows = [rng.normal(size=2)]
    for _ in range(4 * seconds - 1):
        rows.append(keep * rows[-1] + math.sqrt(1 - keep**2) * rng.normal(size=2))
    return np.array(rows)


def stamps(count: int) -> list[int]:
    return [FOUR_PER_S * i for i in range(count)]


def test_errors_that_stay_alike_for_long_count_for_less():
    assert independent_count(correlated(200, 0.1, 1), stamps(800)) > 70
    slow = np.mean([independent_count(correlated(200, 5.0, seed), stamps(800)) for seed in range(5)])
    assert 10 < slow < 35  # 200 s / (2 · 5 s) = 20
    assert independent_count(np.zeros((8, 2)), stamps(8)) == 1.0


@pytest.mark.parametrize("freedom, expected", [(3, 3.182), (6, 2.447), (30, 2.042), (math.inf, 1.960)])
def test_few_observations_need_more_deviations(freedom, expected):
    assert student_975(freedom) == pytest.approx(expected, rel=0.04)


def records_of(errors: np.ndarray) -> tuple[list[FrameRecord], Timeline]:
    truth = whole_drive()
    records = []
    for stamp, (east, north) in zip(stamps(len(errors)), errors, strict=True):
        yaw_rad = math.remainder(0.1 * stamp / FOUR_PER_S, math.tau)  # it turns: else all could be the mounting's
        truth.add(stamp, transform(rpy(0.0, 0.0, yaw_rad), (0.0, 0.0, 0.0)))
        estimate = Estimate(stamp, east, north, yaw_rad, np.diag([0.04, 0.04, 1e-4]), accepted=True)
        records.append(FrameRecord(stamp, "accepted", "", Prior(stamp, 0, 0, 5.0, yaw_rad, 0.2), estimate))
    return records, truth


def test_wandering_errors_of_exact_imagery_are_seldom_an_offset():
    found = 0
    for seed in range(20):
        offset = estimate_map_offset(*records_of(0.2 * correlated(15, 2.0, seed)), None, 0.3)
        found += offset.is_significant
    assert found <= 4  # with two deviations of what counts every second one, it is half of them
    assert estimate_map_offset(*records_of(0.2 * correlated(60, 0.5, 3) + 1.0), None, 0.3).is_significant


def test_better_is_beyond_chance_for_one_and_not_worse_for_the_other():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.05, 80)
    before = {stamp: error(0.5 + noise[i]) for i, stamp in enumerate(stamps(80))}
    assert is_better(before, {stamp: error(0.3 + noise[-i]) for i, stamp in enumerate(before)})
    assert not is_better(before, before)
    assert not is_better(before, {stamp: error(0.6) for stamp in before})
    assert not is_better(before, {stamp: error(0.3, heading_deg=-1.0) for stamp in before})
    assert is_better(before, {stamp: error(0.5 + noise[i], -0.05) for i, stamp in enumerate(before)})
    assert not is_better(before, {stamp: error(0.3) for stamp in list(before)[:60]})  # a quarter was lost


def test_a_covariance_scale_needs_independent_estimates_and_a_second_half():
    with pytest.raises(InputError, match="7 stretches of 2 s are too few; give a drive of at least 120 s"):
        check_covariance_scale(0.2, stamps(14 * 4))
    check_covariance_scale(0.2, stamps(240))
    with pytest.raises(InputError, match="not significantly"):
        check_covariance_scale(0.8, stamps(240))
    nees = np.random.default_rng(5).chisquare(3, 400)
    modest = [error(0.2, nees=0.3 * value) for value in nees]
    assert bears_scale(modest, 0.3)
    assert not bears_scale(modest, 0.05)
    assert not bears_scale([error(0.2, nees=value) for value in nees], 0.5)


@pytest.mark.parametrize(
    "advised, failed, fitted_on_s, expected",
    [
        ([], ["map_offset"], 100.0, "worse (or no better) on the second half: apply nothing (tried: map_offset_m)"),
        ([], [], 100.0, "nothing significant was found on the first half: apply nothing"),
        (["camera"], [], 100.0, "better on the second half: apply the camera's transform"),
    ],
)
def test_the_verdict_says_what_to_do(advised, failed, fitted_on_s, expected):
    assert calibration_verdict(advised, failed, fitted_on_s) == expected
    assert "at least 120 s" in calibration_verdict(advised, failed, 15.0)


class HalvesApart:
    """A drive whose imagery seems shifted in its first half only."""

    def __init__(self, shift_m: float) -> None:
        self.settings, self.source, self.shift_m = Settings(map_path="a.mbtiles"), None, shift_m

    def localizer(self, settings=None, source=None):
        return SimpleNamespace(locate=lambda frames, prior: SimpleNamespace(accepted=False, source=source))

    def runner(self, locate, stride=1, settings=None):
        source = locate([], None).source
        return (0.0, 0.0) if source is None else source.offset_m


def test_what_the_second_half_does_not_bear_out_gives_no_lines_to_copy(monkeypatch):
    errors = np.random.default_rng(1).normal(0, 0.1, (160, 2))
    errors[:80] += 0.4
    records, truth = records_of(errors)

    def run(undone_m, start_ns, stop_ns):
        moved = []
        for record in records:
            if start_ns <= record.stamp_ns < stop_ns:
                pose = record.estimate
                at = {"east_m": pose.east_m - undone_m[0], "north_m": pose.north_m - undone_m[1]}
                moved.append(dataclasses.replace(record, estimate=dataclasses.replace(pose, **at)))
        return moved

    monkeypatch.setattr(calibrate_bag, "run_with_bar", run)
    given = RecordedTruth("truth", truth, None)
    rows, fitted = calibrate(HalvesApart(0.4), given, (0, 40 * SECOND), 1)
    assert rows[1]["position_median_m"] > rows[0]["position_median_m"]
    assert fitted["verdict"].startswith("worse (or no better) on the second half: apply nothing")
    assert fitted["map_offset"]["significant"] and fitted["advised"] == []
    text = calibration_text(fitted)
    assert "map_offset_m:" not in text and "kind:" not in text
    assert "yaml" not in fitted["map_offset"] and "map_offset_m" not in fitted["map_offset"]
    assert text.splitlines()[-1].startswith("verdict: worse")
