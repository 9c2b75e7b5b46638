"""Fits what a drive with truth can tell about a vehicle: how its camera really sits, and how honest the covariance is.

A camera that is tilted, turned or mounted otherwise than TF says displaces every estimate, by amounts that depend on
the mounting in a known way: each of the four is changed by a little, some frames are localized again, and the changes
of their errors are the columns of a linear least-squares problem (Gauss–Newton with numerical derivatives). One frame's
change is as noisy as its estimate, and noise in the columns would shrink what is fitted, so the median over the frames
is taken: in the vehicle's own axes they are all alike. Heading errors tell the camera's yaw, longitudinal errors and
the scale its pitch and height. The imagery's offset is fitted beside them, so that one is not taken for the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.bags.runner import Locate
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.map_offset import BIWEIGHT
from cross_view_loc.evaluation.metrics import CHI2_95_3DOF, RIGHT_MODE_M, FrameError, Truth
from cross_view_loc.geometry.transforms import rpy, to_quaternion
from cross_view_loc.types import Estimate, Frame, Prior

Array = NDArray[np.float64]

NAMES = ("pitch", "roll", "yaw", "height")
STEPS = np.array([math.radians(1.0), math.radians(1.0), math.radians(1.0), 0.1])
EXPECTED_STD = np.array([math.radians(2.0), math.radians(2.0), math.radians(2.0), 0.2])
"""How far mountings are usually off what somebody has measured."""
OFFSET_STD_M = 2.0
LEAST_STD = np.array([0.05, 0.05, math.radians(0.1), 0.01])
"""Of forward, left, yaw and the log of the scale: no frame counts as better than this."""
SEARCH_M, SEARCH_RAD = 6.0, math.radians(6.0)
"""About the truth: the derivative is that of the right mode."""
ROUNDS = 2
MOST_FRAMES = 24
FEWEST_FRAMES = 8
INDEPENDENT_NS = 1_000_000_000
FEWEST_FOR_COVARIANCE = 40


@dataclass(frozen=True)
class CameraCorrection:
    """What is to be added to the mounting that TF tells: angles about the vehicle's axes, height along its z."""

    pitch_rad: float = 0.0
    """Positive lowers the camera's view (REP-103)."""
    roll_rad: float = 0.0
    yaw_rad: float = 0.0
    height_m: float = 0.0

    @classmethod
    def of(cls, values: Array) -> CameraCorrection:
        """From (4,) in the order of NAMES."""
        return cls(*(float(value) for value in values))

    def applied(self, frame: Frame) -> Frame:
        """The frame with its camera put right."""
        T = np.array(frame.T_base_camera)
        T[:3, :3] = rpy(self.roll_rad, self.pitch_rad, self.yaw_rad) @ T[:3, :3]
        T[2, 3] += self.height_m
        return replace(frame, T_base_camera=T)

    def locating(self, locate: Locate) -> Locate:
        """`locate` with every frame's camera put right."""
        return lambda frames, prior: locate([self.applied(frame) for frame in frames], prior)


@dataclass
class FrameSample:
    """Keeps some frames of a drive, evenly spread however long it becomes, without keeping all of them."""

    most: int = MOST_FRAMES
    frames: list[Frame] = field(default_factory=list)
    _stride: int = 1
    _seen: int = 0

    def keeping(self, locate: Locate) -> Locate:
        """`locate` that keeps accepted frames on the way."""

        def located(frames: Sequence[Frame], prior: Prior) -> Estimate:
            estimate = locate(frames, prior)
            if estimate.accepted:
                self.offer(frames[0])
            return estimate

        return located

    def offer(self, frame: Frame) -> None:
        """Keep every `_stride`th; when there are too many, every second goes and the stride doubles."""
        if self._seen % self._stride == 0:
            self.frames.append(frame)
        self._seen += 1
        if len(self.frames) >= 2 * self.most:
            self.frames, self._stride = self.frames[::2], 2 * self._stride


@dataclass(frozen=True)
class CameraFit:
    """The correction, its standard deviations in the order of NAMES, and from how many frames."""

    correction: CameraCorrection
    std: tuple[float, ...]
    frames: int

    def significant(self) -> CameraCorrection:
        """Only what is more than three times its standard deviation: the rest is better left as it was measured."""
        values = np.array([getattr(self.correction, name) for name in _FIELDS])
        return CameraCorrection.of(np.where(np.abs(values) > 3.0 * np.array(self.std), values, 0.0))


_FIELDS = ("pitch_rad", "roll_rad", "yaw_rad", "height_m")


def fit_camera(
    frames: Sequence[Frame],
    truth_at: Callable[[int], Truth | None],
    locate: Locate,
    offset_m: tuple[float, float] = (0.0, 0.0),
    on_step: Callable[[], object] = lambda: None,
) -> CameraFit:
    """Fit the mounting on frames with truth; `offset_m` is where the search looks on shifted imagery.

    `on_step` is called after each of the (ROUNDS + 4) passes over the frames. Raises InputError for too few frames.
    """
    known = [(frame, place) for frame in frames if (place := truth_at(frame.stamp_ns)) is not None]
    known = known[:: max(1, len(known) // MOST_FRAMES)][:MOST_FRAMES]
    if len(known) < FEWEST_FRAMES:
        raise InputError(
            f"{len(known)} accepted frames with truth are too few to fit a camera by; give at least {FEWEST_FRAMES}"
        )

    def errors(values: Array) -> Array:
        """(N, 4) of forward, left, yaw, log of the scale."""
        correction, rows = CameraCorrection.of(values), []
        for frame, place in known:
            prior = Prior(
                frame.stamp_ns, place.east_m + offset_m[0], place.north_m + offset_m[1], SEARCH_M, place.yaw_rad,
                SEARCH_RAD,
            )  # fmt: skip
            found = locate([correction.applied(frame)], prior)
            turned = math.remainder(found.yaw_rad - place.yaw_rad, 2 * math.pi)
            c, s = math.cos(place.yaw_rad), math.sin(place.yaw_rad)
            east, north = found.east_m - place.east_m, found.north_m - place.north_m
            rows.append([c * east + s * north, c * north - s * east, turned, math.log(found.scale)])
        on_step()
        return np.array(rows)

    values, base = np.zeros(4), errors(np.zeros(4))
    slopes = np.stack([np.median(errors(step) - base, axis=0) / step.sum() for step in np.diag(STEPS)], axis=1)
    yaws = np.array([place.yaw_rad for _, place in known])
    independent = 1 + sum(
        late.stamp_ns - early.stamp_ns >= INDEPENDENT_NS for (early, _), (late, _) in itertools.pairwise(known)
    )
    for _ in range(ROUNDS):
        step, covariance = _step(base, slopes, yaws, values, independent / len(known))
        values = values + step
        base = errors(values)
    return CameraFit(CameraCorrection.of(values), tuple(float(s) for s in np.sqrt(np.diag(covariance)[:4])), len(known))


def _step(base: Array, slopes: Array, yaws: Array, values: Array, share: float) -> tuple[Array, Array]:
    """Change of the four values that makes the errors vanish, beside an offset of the map; (6, 6) covariance.

    base (N, 4) are the errors at `values`, slopes (4, 4) their derivatives; `share` of the frames are independent.
    """
    count = len(base)
    design = np.zeros((count, 4, 6))
    design[:, :, :4] = slopes
    c, s = np.cos(yaws), np.sin(yaws)
    design[:, 0, 4], design[:, 0, 5], design[:, 1, 4], design[:, 1, 5] = -c, -s, s, -c
    precision = np.diag([*EXPECTED_STD**-2.0, OFFSET_STD_M**-2.0, OFFSET_STD_M**-2.0])
    pull = np.zeros(6)
    pull[:4] = -(EXPECTED_STD**-2.0) * values  # towards no correction at all
    solved = np.zeros(6)
    for _ in range(20):
        left = base + design @ solved
        # About zero, not about the median: what all have in common is what is being solved for.
        sigma = np.maximum(1.4826 * np.median(np.abs(left), axis=0), LEAST_STD)
        weight = np.clip(1.0 - (left / (BIWEIGHT * sigma)) ** 2, 0.0, None) ** 2 * share / sigma**2
        information = np.einsum("nk,nki,nkj->ij", weight, design, design) + precision
        before = solved
        solved = np.linalg.solve(information, pull - np.einsum("nk,nki,nk->i", weight, design, base))
        if np.abs(solved - before).max() < 1e-7:
            break
    return solved[:4], np.linalg.inv(information)


def fit_covariance_scale(errors: Sequence[FrameError]) -> float:
    """Factor on the covariance by which 95 % of the accepted estimates lie inside their 95 % ellipsoid.

    Estimates in a wrong mode are left out: they are the business of the gate. Raises InputError for too few.
    """
    values = np.array([error.nees for error in errors if error.accepted and error.position_m <= RIGHT_MODE_M])
    if len(values) < FEWEST_FOR_COVARIANCE:
        raise InputError(
            f"{len(values)} accepted estimates are too few to fit the covariance by; give at least "
            f"{FEWEST_FOR_COVARIANCE}"
        )
    return float(np.clip(np.quantile(values, 0.95) / CHI2_95_3DOF, 0.05, 20.0))


def static_transform_command(frame: Frame, parent: str, child: str) -> str:
    """The words that publish a frame's (corrected) camera pose, for a terminal or a launch file."""
    x, y, z = (f"{value:.4f}" for value in frame.T_base_camera[:3, 3])
    qx, qy, qz, qw = (f"{value:.6f}" for value in to_quaternion(frame.T_base_camera[:3, :3]))
    return (
        f"ros2 run tf2_ros static_transform_publisher --x {x} --y {y} --z {z} --qx {qx} --qy {qy} --qz {qz} --qw {qw} "
        f"--frame-id {parent} --child-frame-id {child}"
    )
