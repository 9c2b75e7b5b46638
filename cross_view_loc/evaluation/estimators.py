"""Estimators compared on the same matches: accuracy and time of each in one run.

Besides ours: weighted Procrustes alone; the published RANSAC's settings re-stated (20 draws × 100 hypotheses × 3
points, soft score to 5 m, hard inliers at 2.5 m, 4 refinements), solved in closed form here; OpenCV's RANSAC similarity
and its USAC (MAGSAC), which fits affine maps only, so that its inliers are aligned by Procrustes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from cross_view_loc.geometry.procrustes import Similarity, procrustes, rotate
from cross_view_loc.geometry.robust import PoseLimits, RobustSettings, align_robustly, minimal_sets, soft_inliers

DRAWS, HYPOTHESES, SOFT_M, HARD_M, REFINEMENTS = 20, 100, 5.0, 2.5, 4
OPENCV_INLIER_M = 1.6


@dataclass(frozen=True)
class MatchProblem:
    """Matches, what the prior allows, and the true pose."""

    setting: str
    source: Tensor
    """(N, 2)"""
    target: Tensor
    """(N, 2)"""
    weight: Tensor
    """(N,)"""
    limits: PoseLimits
    truth: tuple[float, float, float]
    """x, y (m), yaw (rad)."""
    judge: Callable[[Similarity], Tensor] | None = None
    """The dense consensus at poses, where there is one."""


Estimator = Callable[[MatchProblem, torch.Generator], "Similarity | None"]


def ours(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """Minimal sets within the prior, votes, batched scoring, reweighted refinement."""
    settings = RobustSettings()
    found = align_robustly(problem.source, problem.target, problem.weight, settings, generator, problem.limits)
    return None if found is None else found.solution


def ours_judged(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """The same with the refined candidates judged by the dense consensus."""
    found = align_robustly(
        problem.source, problem.target, problem.weight, RobustSettings(), generator, problem.limits, problem.judge
    )
    return None if found is None else found.solution


def procrustes_alone(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """Weighted scale-aware Procrustes on all matches."""
    return procrustes(problem.source, problem.target, problem.weight)


def published_ransac(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """The best of each draw's hypotheses by the soft score is refined on its hard inliers; the best draw wins."""
    source, target, weight = problem.source, problem.target, problem.weight
    at = torch.multinomial(weight.expand(DRAWS * HYPOTHESES, -1), 3, generator=generator)
    hypotheses = procrustes(source[at], target[at], torch.ones(at.shape))
    fades = (1 - _residual(hypotheses, problem) / SOFT_M).clamp(min=0) @ weight
    best = fades.view(DRAWS, HYPOTHESES).argmax(1) + torch.arange(DRAWS) * HYPOTHESES
    kept = Similarity(hypotheses.yaw_rad[best], hypotheses.scale[best], hypotheses.translation[best])
    for _ in range(REFINEMENTS):
        hard = (_residual(kept, problem) < HARD_M) * weight
        kept = procrustes(source.expand(DRAWS, -1, -1), target, hard)
    winner = int(((1 - _residual(kept, problem) / SOFT_M).clamp(min=0) @ weight).argmax())
    return Similarity(kept.yaw_rad[winner], kept.scale[winner], kept.translation[winner])


def opencv_ransac(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """cv2.estimateAffinePartial2D: a similarity by RANSAC; it knows no weights."""
    cv2.setRNGSeed(0)
    matrix, _ = cv2.estimateAffinePartial2D(
        problem.source.double().numpy(),
        problem.target.double().numpy(),
        method=cv2.RANSAC,
        ransacReprojThreshold=OPENCV_INLIER_M,
        maxIters=2000,
    )
    if matrix is None:
        return None
    yaw, scale = math.atan2(matrix[1, 0], matrix[0, 0]), math.hypot(matrix[0, 0], matrix[1, 0])
    return Similarity(torch.tensor(yaw), torch.tensor(scale), torch.from_numpy(matrix[:, 2]))


def opencv_usac(problem: MatchProblem, generator: torch.Generator) -> Similarity | None:
    """cv2.estimateAffine2D with USAC_MAGSAC; Procrustes on its inliers."""
    matrix, inlying = cv2.estimateAffine2D(
        problem.source.double().numpy(),
        problem.target.double().numpy(),
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=OPENCV_INLIER_M,
        maxIters=2000,
    )
    if matrix is None or inlying is None or int(inlying.sum()) < 2:
        return None
    return procrustes(problem.source, problem.target, torch.from_numpy(inlying[:, 0]).float())


ESTIMATORS: dict[str, Estimator] = {
    "ours": ours,
    "ours, judged by consensus": ours_judged,
    "published RANSAC": published_ransac,
    "OpenCV RANSAC similarity": opencv_ransac,
    "OpenCV USAC (MAGSAC)": opencv_usac,
    "Procrustes alone": procrustes_alone,
}


def _residual(batch: Similarity, problem: MatchProblem) -> Tensor:
    """(B, N) metres."""
    return (batch.apply(problem.source.expand(len(batch.scale), -1, -1)) - problem.target).norm(dim=-1)


def planted_problems(outlier_share: float, count: int, matches: int = 1024, noise_m: float = 0.4) -> list[MatchProblem]:
    """Matches of a planted pose within ±20 m, ±10° and ±10 % of scale, a share of them replaced by chance ones."""
    problems = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        source = torch.rand(matches, 2, generator=generator) * torch.tensor([40.0, 35.0]) - torch.tensor([20.0, 0.0])
        draw = torch.rand(4, generator=generator) * 2 - 1
        shift, yaw, scale = draw[:2] * 18.0, draw[2] * math.radians(9.0), (0.1 * draw[3]).exp()
        target = scale * rotate(source, yaw) + shift + noise_m * torch.randn(matches, 2, generator=generator)
        wrong = torch.rand(matches, generator=generator) < outlier_share
        target[wrong] = torch.rand(int(wrong.sum()), 2, generator=generator) * 80.0 - 40.0 + torch.tensor([0.0, 16.0])
        problems.append(
            MatchProblem(
                f"planted, {outlier_share:.0%} outliers",
                source,
                target,
                torch.ones(matches),
                PoseLimits(torch.zeros(2), 20.0, 0.0, math.radians(12.0)),
                (float(shift[0]), float(shift[1]), float(yaw)),
            )
        )
    return problems


def town_problems(seeds: Sequence[int], frames: int, town_size_m: float = 400.0) -> Iterator[MatchProblem]:
    """Of each frame of the town bench with true depth: matches as published, and as we draw them, of one score."""
    from cross_view_loc.evaluation.oracle import TrueDepth
    from cross_view_loc.evaluation.town import make_bench
    from cross_view_loc.localizer import Localizer, LocalizerSettings
    from cross_view_loc.matching.consensus import Layer, body_to_patch
    from cross_view_loc.matching.ground import observe_ground
    from cross_view_loc.matching.matches import DRAWN_SHARPNESS, consensus_judge, draw_matches
    from cross_view_loc.matching.search import aerial_features, heading_sectors

    for seed in seeds:
        bench = make_bench(seed, frames, town_size_m=town_size_m)
        depth = TrueDepth()
        localizer = Localizer(bench.orthophoto, LocalizerSettings(threads=torch.get_num_threads()), depth)
        sharpness = float(localizer.matcher.match_sharpness)
        score_sharpness = float(localizer.matcher.score_sharpness)
        for moment in bench.frames:
            depth.set(moment.frames, moment.depth_m)
            ground = observe_ground(moment.frames, localizer.matcher, depth, localizer.device).cells
            ((rotation, _),) = heading_sectors(moment.prior)
            aerial = aerial_features(localizer.aerial, moment.frames, moment.prior, rotation)
            features, patch = aerial.descriptors, aerial.patch
            up_rad = float(patch.rotation_rad)
            limits = PoseLimits(
                torch.tensor(aerial.to_patch(moment.prior.east_m, moment.prior.north_m), dtype=torch.float32),
                moment.prior.radius_m,
                math.remainder(moment.prior.yaw_rad - up_rad, 2 * math.pi),
                moment.prior.yaw_range_rad,
            )
            truth = (
                *aerial.to_patch(moment.truth.east_m, moment.truth.north_m),
                math.remainder(moment.truth.yaw_rad - up_rad, 2 * math.pi),
            )

            judge = consensus_judge([Layer(features, ground, score_sharpness)], aerial.size_m, depth.log_scale_std)
            for setting in ("published draw", "our draw"):
                generator = torch.Generator().manual_seed(0)
                if setting == "published draw":
                    drawn = draw_matches(features, ground, sharpness, generator, 1024, both_ways=True, weigh_again=True)
                else:
                    drawn = draw_matches(features, ground, sharpness * DRAWN_SHARPNESS, generator, limits=limits)
                yield MatchProblem(
                    f"town, {setting} of {len(drawn.weight)}",
                    body_to_patch(drawn.points_body).cpu(),
                    drawn.points_patch.cpu(),
                    drawn.weight.cpu(),
                    limits,
                    truth,
                    judge,
                )


def compare(problems: Iterator[MatchProblem] | Sequence[MatchProblem]) -> list[dict[str, object]]:
    """One row for each setting and estimator; an estimator that finds nothing counts as infinitely wrong."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for problem in problems:
        for name, estimator in ESTIMATORS.items():
            if estimator is ours_judged and problem.judge is None:
                continue
            started = time.perf_counter()
            solution = estimator(problem, torch.Generator().manual_seed(0))
            seconds = time.perf_counter() - started
            position, heading = math.inf, math.pi
            if solution is not None:
                x, y = solution.translation.tolist()
                position = math.hypot(x - problem.truth[0], y - problem.truth[1])
                heading = abs(math.remainder(float(solution.yaw_rad) - problem.truth[2], 2 * math.pi))
            found.setdefault((problem.setting, name), []).append((position, heading, seconds))
    rows = []
    for (setting, name), values in found.items():
        position_m, heading_rad, taken_s = np.array(values).T
        rows.append(
            {
                "setting": setting,
                "estimator": name,
                "frames": len(values),
                "position_median_m": round(float(np.median(position_m)), 3),
                "heading_median_deg": round(math.degrees(float(np.median(heading_rad))), 3),
                "recall_1m": round(float(np.mean(position_m <= 1.0)), 3),
                "milliseconds_p50": round(1e3 * float(np.median(taken_s)), 2),
            }
        )
    return rows


def hypotheses_milliseconds(repeats: int = 15) -> float:
    """Median time to draw, solve and score 2000 hypotheses on 1024 matches."""
    problem = planted_problems(0.6, 1)[0]
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(0)
        sets = minimal_sets(
            problem.source, problem.target, problem.weight, RobustSettings(scale_range=50.0, tries=2), generator
        )
        soft_inliers(sets, problem.source, problem.target, problem.weight, OPENCV_INLIER_M)
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))
