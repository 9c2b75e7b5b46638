"""Ground truth for a bag: a topic of it or a TUM file, as poses of `base_link` in the map over time.

Truth is worth only what its frame is: metres about another origin, poses of an antenna or of a lidar are refused by
name rather than compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from cross_view_loc.bags.offline import OfflineRun
from cross_view_loc.bags.reader import FIX_TYPE, ODOMETRY_TYPE
from cross_view_loc.errors import InputError, MissingInputError
from cross_view_loc.geometry.transform_tree import TransformTree
from cross_view_loc.geometry.transforms import Matrix, from_quaternion, rotation_z, transform
from cross_view_loc.inputs.fixes import read_fix
from cross_view_loc.inputs.poses import bare_frame, pose_of, transform_of
from cross_view_loc.inputs.stamps import Timeline, stamp_ns, whole_drive
from cross_view_loc.types import Estimate, Prior

POSE_TYPES = ("geometry_msgs/msg/PoseWithCovarianceStamped", "geometry_msgs/msg/PoseStamped")
TRUTH_TYPES = (ODOMETRY_TYPE, *POSE_TYPES, FIX_TYPE)
LARGEST_HEADING_ERROR_RAD = math.radians(15.0)
"""Of a pose by GNSS: where the heading is not known this well, there is no truth."""
ELSEWHERE_M = 100.0
"""Truth this far from where the receiver says the vehicle is counts from another origin."""


@dataclass(frozen=True)
class RecordedTruth:
    """Where `base_link` was."""

    name: str
    """Topic or file."""
    poses: Timeline[Matrix]
    """(4, 4) T_map_base by stamp."""
    std_m: float | None
    """Median of the horizontal standard deviations it reports; None when it reports none."""


def read_recorded_truth(offline: OfflineRun, given: str = "") -> RecordedTruth:
    """The truth of a bag: `given` is a topic or a TUM file; empty takes the bag's topic that is called truth.

    Raises MissingInputError when there is none, InputError when it is of another frame, origin, type or time.
    """
    named = given or offline.topics.truth
    if not named:
        candidates = ", ".join(offline.bag.of_type(*TRUTH_TYPES)) or "none"
        raise MissingInputError(
            f"{offline.bag.path} has no topic that is called truth; name one with --truth (could hold truth: "
            f"{candidates}) or give a TUM file"
        )
    if named in offline.bag.topics:
        truth = _of_topic(offline, named)
    elif Path(named).is_file():
        truth = RecordedTruth(named, read_tum(Path(named)), None)
    else:
        candidates = ", ".join(offline.bag.of_type(*TRUTH_TYPES)) or "none"
        raise MissingInputError(
            f"--truth {named} is neither a topic of {offline.bag.path} nor a file; topics that could hold truth: "
            f"{candidates}"
        )
    if truth.poses.newest_stamp is None:
        raise InputError(f"{named} holds no pose that can be used; check its messages")
    if offline.origin_from == "first fix" and (named not in offline.bag.topics or not _is_fix(offline, named)):
        raise InputError(
            f"{named} counts metres from an origin that neither the map nor a configuration tells; set map_origin in "
            "--config"
        )
    return truth


def refuse_truth_of_elsewhere(truth: RecordedTruth, priors: list[Prior], gap_ns: int) -> None:
    """InputError when the truth has nothing at the images' stamps, or lies far from all priors."""
    pairs = [(prior, T) for prior in priors if (T := truth.poses.at(prior.stamp_ns, gap_ns)) is not None]
    if not pairs:
        raise InputError(f"{truth.name} has no pose at the stamp of any image; check that both are of one clock")
    apart_m = float(np.median([math.hypot(T[0, 3] - p.east_m, T[1, 3] - p.north_m) for p, T in pairs]))
    if apart_m > ELSEWHERE_M:
        raise InputError(
            f"{truth.name} lies {apart_m:.0f} m from the fixes: it counts from another origin or in another frame; "
            "set map_origin to the truth's origin in --config"
        )


def read_tum(path: Path) -> Timeline[Matrix]:
    """T_map_base from `stamp x y z qx qy qz qw` lines; stamps in seconds, read to the nanosecond."""
    poses = whole_drive()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({error}); give a text of `stamp x y z qx qy qz qw` lines") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = line.split()
            x, y, z, qx, qy, qz, qw = (float(word) for word in words[1:])
            stamp = int(Decimal(words[0]) * 10**9)
            T_map_base = transform(from_quaternion(qx, qy, qz, qw), (x, y, z))
        except (ValueError, InvalidOperation, InputError) as error:
            raise InputError(f"{path}, line {number} is not `stamp x y z qx qy qz qw`; correct or remove it") from error
        poses.add(stamp, T_map_base)
    return poses


def pose_of_exact_prior(stamp_ns: int, prior: Prior) -> Matrix | None:
    """The prior of an exact fix is the pose, (4, 4), where the heading is known."""
    if prior.yaw_range_rad > LARGEST_HEADING_ERROR_RAD:
        return None
    return transform(rotation_z(prior.yaw_rad), (prior.east_m, prior.north_m, 0.0))


def _is_fix(offline: OfflineRun, topic: str) -> bool:
    return offline.bag.topics[topic].type == FIX_TYPE


def _of_topic(offline: OfflineRun, topic: str) -> RecordedTruth:
    kind = offline.bag.topics[topic].type
    if kind not in TRUTH_TYPES:
        raise InputError(
            f"{topic} is {kind}; ground truth is Odometry, PoseStamped or PoseWithCovarianceStamped in the map frame, "
            "or a NavSatFix"
        )
    return _of_fixes(offline, topic) if kind == FIX_TYPE else _of_poses(offline, topic)


def _of_poses(offline: OfflineRun, topic: str) -> RecordedTruth:
    poses = whole_drive()
    tree, stds = static_transforms(offline), []
    for item in offline.bag.messages([topic]):
        message = item.message
        frame, wanted = bare_frame(message.header.frame_id), offline.settings.map_frame
        if frame != wanted:
            raise InputError(
                f"{topic} is in frame '{frame}', not '{wanted}'; name truth in the map's frame, or set map_frame"
            )
        with_covariance = message.pose if hasattr(message.pose, "pose") else None
        try:
            T_map_child = pose_of(message.pose if with_covariance is None else with_covariance.pose)
        except InputError:  # NaN or an empty quaternion: what some publishers send before they know
            continue
        child = bare_frame(getattr(message, "child_frame_id", ""))
        if child and child != offline.settings.base_frame:
            T_map_child = T_map_child @ tree.lookup(child, offline.settings.base_frame)
        poses.add(stamp_ns(message), T_map_child)
        if with_covariance is not None:
            stds.append(_horizontal_std_m(np.asarray(with_covariance.covariance, dtype=np.float64).reshape(6, 6)))
    return RecordedTruth(topic, poses, _reported(stds))


def _of_fixes(offline: OfflineRun, topic: str) -> RecordedTruth:
    """The priors that such a receiver would give, which brings the antenna to base_link with the node's own heading."""
    poses = whole_drive()

    def take(frames: Any, prior: Prior) -> Estimate:
        T_map_base = pose_of_exact_prior(prior.stamp_ns, prior)
        if T_map_base is not None:
            poses.add(prior.stamp_ns, T_map_base)
        return Estimate(prior.stamp_ns, prior.east_m, prior.north_m, prior.yaw_rad, np.eye(3))

    reference = replace(
        offline,
        topics=replace(offline.topics, fix=topic),
        settings=replace(offline.settings, fix_topic=topic, fix_min_std_m=0.0, tracking=False),
    )
    reference.runner(take).run(offline.bag.start_ns, offline.bag.end_ns + 1)
    stds = []
    for item in offline.bag.messages([topic]):
        try:
            stds.append(read_fix(item.message).std_m(0.0))
        except InputError:
            continue
    return RecordedTruth(topic, poses, _reported(stds))


def static_transforms(offline: OfflineRun) -> TransformTree:
    """All of /tf_static, wherever in the bag it stands."""
    tree = TransformTree()
    for item in offline.bag.messages(offline.topics.tf_static):
        for stamped in item.message.transforms:
            tree.add_static(stamped.header.frame_id, stamped.child_frame_id, transform_of(stamped.transform))
    return tree


def _horizontal_std_m(covariance: Matrix) -> float:
    return math.sqrt(max(float(np.linalg.eigvalsh(covariance[:2, :2])[-1]), 0.0))


def _reported(stds: list[float]) -> float | None:
    """The median; zeros are what publishers write who do not know."""
    known = [std for std in stds if math.isfinite(std) and std > 0.0]
    return float(np.median(known)) if known else None
