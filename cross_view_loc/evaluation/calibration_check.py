"""What keeps a calibration from doing harm: how much a drive really says, and whether its other half bears it out.

Estimates of neighbouring images err alike, so a hundred of them may be worth ten. What is fitted is believed only
beyond the uncertainty that the independent ones leave, and advised only where it made the half of the drive better
that it was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.metrics import CHI2_95_3DOF, RIGHT_MODE_M, FrameError, frame_error
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline

Array = NDArray[np.float64]

SECOND_NS = 1_000_000_000
BLOCK_NS = 2 * SECOND_NS
"""Frames nearer together than this see the same place and count as one observation at most."""
FEWEST_INDEPENDENT = 30
"""For the covariance: a 95 % quantile of fewer is the largest value or the one below it."""
ENOUGH_S = FEWEST_INDEPENDENT * BLOCK_NS / SECOND_NS
"""How long what is fitted on must last."""
LEAST_PAIRED_BLOCKS = 4
LEAST_GAIN = (0.02, 0.05)
"""Metres and degrees below which a change is none, however regular."""
QUANTILE_STD = 1.245
"""Relative standard deviation of the 95 % quantile of one chi-squared value of three degrees of freedom: it is
√(p(1−p)/n) / (f(q)·q) of n values, with the density f(7.815) = 0.0224."""


def student_975(freedom: float) -> float:
    """The 97.5 % quantile of Student's t: how many of its standard deviations a fitted value must exceed.

    Cornish–Fisher expansion about the normal quantile (Abramowitz and Stegun, 26.7.5), within 2 % from 3 degrees on.
    """
    freedom = max(freedom, 1.0)
    return 1.96 + 2.372 / freedom + 2.823 / freedom**2


def independent_count(residuals_m: Array, stamps_ns: Sequence[int]) -> float:
    """How many independent observations (N, 2) residuals in order of time are worth, at most one each two seconds.

    Means over seconds, whose correlations are summed up to the first that is not positive (Geyer 1992, the initial
    positive sequence).
    """
    seconds = np.asarray(stamps_ns, dtype=np.int64) // SECOND_NS
    seconds -= seconds.min()
    kept = np.unique(seconds)
    means = np.full((int(kept.max()) + 1, 2), np.nan)
    for second in kept:
        means[second] = residuals_m[seconds == second].mean(axis=0)
    power = float(np.nansum(means**2)) / len(kept)
    time_s = 1.0
    for lag in range(1, len(means) // 2 + 1):
        products = (means[lag:] * means[:-lag]).sum(axis=1)
        products = products[np.isfinite(products)]
        correlation = float(products.mean()) / power if len(products) and power > 0.0 else 0.0
        if correlation <= 0.0:
            break
        time_s += 2.0 * (1.0 - lag / len(means)) * correlation
    blocks = len({int(stamp) // BLOCK_NS for stamp in stamps_ns})
    return max(1.0, min(float(blocks), len(kept) / time_s))


def accepted_errors(records: Sequence[FrameRecord], truth: Timeline[Matrix]) -> dict[int, FrameError]:
    """Errors of the accepted estimates that the truth reaches, by stamp (ns)."""
    return {
        record.stamp_ns: frame_error(record.estimate, place)
        for record in records
        if record.estimate is not None
        and record.estimate.accepted
        and (place := truth_at(truth, record.stamp_ns)) is not None
    }


def is_better(before: dict[int, FrameError], after: dict[int, FrameError]) -> bool:
    """Whether position or heading became better beyond chance, the other not worse, and few estimates were lost.

    Image by image, averaged over two seconds: neighbours gain or lose together.
    """
    both = sorted(before.keys() & after.keys())
    blocks = sorted({stamp // BLOCK_NS for stamp in both})
    if len(blocks) < LEAST_PAIRED_BLOCKS or len(after) < 0.9 * len(before):
        return False
    gains = np.array(
        [
            (
                before[stamp].position_m - after[stamp].position_m,
                abs(before[stamp].heading_deg) - abs(after[stamp].heading_deg),
            )
            for stamp in both
        ]
    )
    index = np.array([stamp // BLOCK_NS for stamp in both])
    means = np.array([gains[index == block].mean(axis=0) for block in blocks])
    limit = student_975(len(blocks) - 1) * means.std(axis=0, ddof=1) / math.sqrt(len(blocks))
    mean = means.mean(axis=0)
    limit = np.maximum(limit, LEAST_GAIN)
    return bool(np.any(mean > limit) and not np.any(mean < -limit))


def check_covariance_scale(factor: float, stamps_ns: Sequence[int]) -> None:
    """InputError where so few independent estimates, at these stamps (ns), cannot bear a factor on the covariance."""
    independent = len({stamp // BLOCK_NS for stamp in stamps_ns})
    if independent < FEWEST_INDEPENDENT:
        raise InputError(
            f"accepted estimates in {independent} stretches of {BLOCK_NS / SECOND_NS:.0f} s are too few; give a drive "
            f"of at least {2 * ENOUGH_S:.0f} s, of which half is fitted on"
        )
    spread = QUANTILE_STD / math.sqrt(independent)
    if abs(math.log(factor)) <= 2.0 * spread:
        raise InputError(
            f"a factor of {factor:.2f} ± {factor * spread:.2f} from {independent} independent estimates is not "
            "significantly other than 1"
        )


def bears_scale(errors: Sequence[FrameError], factor: float) -> bool:
    """Whether accepted estimates that it was not fitted on speak for the factor too.

    More nearly 95 % of them must lie in their 95 % ellipsoid, and the Gaussian log score must rise.
    """
    nees = np.array([error.nees for error in errors if error.position_m <= RIGHT_MODE_M])
    if not len(nees):
        return False
    before, after = (abs(float(np.mean(nees / scale <= CHI2_95_3DOF)) - 0.95) for scale in (1.0, factor))
    gain = float(np.mean(nees)) * (1.0 - 1.0 / factor) / 2.0 - 1.5 * math.log(factor)
    return after < before and gain > 0.0
