"""Trajectory errors on cases done by hand, and against evo where it is installed."""

import math

import numpy as np
import pytest

from cross_view_loc.bags.results import FrameRecord, tum_text
from cross_view_loc.evaluation.metrics import Truth
from cross_view_loc.evaluation.trajectory import rigid_fit, trajectory_error
from cross_view_loc.types import Estimate


def estimate(east_m: float, north_m: float, yaw_rad: float, stamp_ns: int = 0) -> Estimate:
    return Estimate(stamp_ns, east_m, north_m, yaw_rad, np.eye(3), accepted=True)


def test_a_constant_offset_is_all_ate_and_no_rpe():
    truths = [Truth(float(i), 0.0, 0.0) for i in range(5)]
    found = trajectory_error([estimate(i + 3.0, 4.0, 0.0) for i in range(5)], truths)
    assert found.ate_m == pytest.approx(5.0)
    assert found.ate_aligned_m == pytest.approx(0.0, abs=1e-9)
    assert found.rpe_m == pytest.approx(0.0, abs=1e-9) and found.rpe_deg == pytest.approx(0.0, abs=1e-9)


def test_a_turned_trajectory_is_aligned_away_and_its_motions_are_the_same():
    truths = [Truth(float(i), float(i * i) / 4, 0.3 * i) for i in range(6)]
    c, s = math.cos(0.5), math.sin(0.5)
    turned = [estimate(c * t.east_m - s * t.north_m + 7, s * t.east_m + c * t.north_m, t.yaw_rad + 0.5) for t in truths]
    found = trajectory_error(turned, truths)
    assert found.ate_m > 5.0
    assert found.ate_aligned_m == pytest.approx(0.0, abs=1e-9)
    assert found.rpe_m == pytest.approx(0.0, abs=1e-9)


def test_one_wrong_pose_counts_twice_in_rpe_and_across_the_wrap_of_yaw():
    truths = [Truth(0.0, 0.0, math.pi - 0.05), Truth(0.0, 0.0, -math.pi + 0.05), Truth(0.0, 0.0, -math.pi + 0.15)]
    found = trajectory_error(
        [estimate(0, 0, math.pi - 0.05), estimate(0, 2.0, -math.pi + 0.05), estimate(0, 0, -math.pi + 0.15)], truths
    )
    assert found.rpe_m == pytest.approx(2.0)
    assert found.ate_m == pytest.approx(math.sqrt(4.0 / 3.0))
    assert found.rpe_deg == pytest.approx(0.0, abs=1e-9)


def test_too_few_poses_have_no_figures_and_unequal_ones_are_refused():
    alone = trajectory_error([estimate(1.0, 0.0, 0.0)], [Truth(0.0, 0.0, 0.0)]).row()
    assert alone["ate_rmse_m"] == 1.0 and alone["rpe_rmse_m"] is None
    assert set(trajectory_error([], []).row().values()) == {None}
    with pytest.raises(ValueError, match="2 truths"):
        trajectory_error([estimate(0, 0, 0)], [Truth(0, 0, 0)] * 2)


def test_the_fit_never_mirrors():
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    mirrored = points * [1.0, -1.0]
    assert np.linalg.norm(rigid_fit(points, mirrored) - mirrored) > 0.5


def noisy_drive() -> tuple[list[Estimate], list[Truth]]:
    rng = np.random.default_rng(4)
    truths, found = [], []
    east = north = yaw = 0.0
    for i in range(40):
        yaw += 0.08
        east, north = east + 1.5 * math.cos(yaw), north + 1.5 * math.sin(yaw)
        truths.append(Truth(east, north, yaw))
        error = rng.normal(0, [0.3, 0.3, 0.02])
        stamp_ns = 1_700_000_000_000_000_000 + i * 100_000_000
        found.append(estimate(east + error[0] + 1.0, north + error[1], yaw + error[2], stamp_ns))
    return found, truths


def test_the_figures_are_those_of_evo(tmp_path):
    pytest.importorskip("evo", reason="evo is not installed: pip install evo")
    from evo.core import metrics, sync
    from evo.tools import file_interface

    found, truths = noisy_drive()
    true_poses = [estimate(t.east_m, t.north_m, t.yaw_rad, e.stamp_ns) for t, e in zip(truths, found, strict=True)]
    paths = {}
    for name, poses in (("found", found), ("true", true_poses)):
        paths[name] = tmp_path / f"{name}.tum"
        paths[name].write_text(tum_text(FrameRecord(pose.stamp_ns, "accepted", estimate=pose) for pose in poses))
    reference, measured = sync.associate_trajectories(
        *(file_interface.read_tum_trajectory_file(str(paths[name])) for name in ("true", "found"))
    )

    def evo(metric) -> float:
        metric.process_data((reference, measured))
        return metric.get_statistic(metrics.StatisticsType.rmse)

    ours = trajectory_error(found, truths)
    assert ours.ate_m == pytest.approx(evo(metrics.APE(metrics.PoseRelation.translation_part)), abs=2e-6)
    assert ours.rpe_m == pytest.approx(evo(metrics.RPE(metrics.PoseRelation.translation_part)), abs=5e-6)
    assert ours.rpe_deg == pytest.approx(evo(metrics.RPE(metrics.PoseRelation.rotation_angle_deg)), abs=1e-5)
    measured.align(reference)
    assert ours.ate_aligned_m == pytest.approx(evo(metrics.APE(metrics.PoseRelation.translation_part)), abs=2e-6)
