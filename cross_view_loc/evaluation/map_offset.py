"""How far the imagery is shifted: what all estimates of a drive have in common against a truth better than the map.

An estimate made on imagery that shows things `offset` from where they are is itself displaced by `offset`. But a camera
mounted otherwise than TF says, or truth of another point of the vehicle, displaces it too: by a constant in the
vehicle's frame, which turns with the heading. Both are fitted together; a drive in one direction cannot tell them
apart, and its standard deviation says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cross_view_loc.aerial.offsets import OffsetSource
from cross_view_loc.aerial.sources import AerialSource
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.calibration_check import BLOCK_NS, independent_count, student_975
from cross_view_loc.evaluation.runs import truth_at
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline

Array = NDArray[np.float64]

FEWEST_FRAMES = 20
FEWEST_BLOCKS = 4
BODY_BIAS_STD_M = 0.3
"""How large a constant error in the vehicle's frame is expected to be (mounting, the truth's lever arm)."""
BIWEIGHT = 4.685
"""Tukey's constant: 95 % efficient on Gaussian errors (Huber, Robust Statistics, 1981, section 4.8)."""


@dataclass(frozen=True)
class MapOffset:
    """What the imagery is shifted by, on top of what its source already undoes."""

    east_m: float
    north_m: float
    std_m: tuple[float, float]
    """Of east and of north, with what the truth itself may be off."""
    frames: int
    used: int
    """Frames that the robust fit gave at least half their weight."""
    forward_m: float
    left_m: float
    """Constant error in the vehicle's frame, fitted beside it."""
    independent: float = math.inf
    """How many independent observations the frames are worth: neighbours err alike."""

    @property
    def is_significant(self) -> bool:
        """Whether it is beyond chance along either axis: two of its standard deviations, more of few frames."""
        values, limit = (self.east_m, self.north_m), student_975(max(self.independent - 4.0, 3.0))
        return any(abs(value) > limit * std for value, std in zip(values, self.std_m, strict=True))


def why_truth_is_too_coarse(std_m: float | None, map_std_m: float) -> str:
    """Why a truth of that standard deviation cannot judge the map; empty when it can (None: it reports none)."""
    if std_m is None or std_m <= map_std_m:
        return ""
    return (
        f"truth has a standard deviation of {std_m:.2f} m, the map one of {map_std_m:.2f} m (map_std_m): give truth "
        "better than the map, such as RTK"
    )


def estimate_map_offset(
    records: Sequence[FrameRecord], truth: Timeline[Matrix], truth_std_m: float | None, map_std_m: float
) -> MapOffset:
    """Offset of the imagery (metres east, north) by the accepted estimates.

    Raises InputError when the truth is coarser than the map, or the drive is too short to say.
    """
    refusal = why_truth_is_too_coarse(truth_std_m, map_std_m)
    if refusal:
        raise InputError(refusal)
    rows = [
        (pose.stamp_ns, pose.east_m - place.east_m, pose.north_m - place.north_m, place.yaw_rad)
        for record in records
        if (pose := record.estimate) is not None and pose.accepted and (place := truth_at(truth, pose.stamp_ns))
    ]
    blocks = len({stamp // BLOCK_NS for stamp, *_ in rows})
    if len(rows) < FEWEST_FRAMES or blocks < FEWEST_BLOCKS:
        raise InputError(
            f"{len(rows)} accepted estimates with truth in {blocks} stretches of {BLOCK_NS / 1e9:.0f} s are too few; "
            f"give a drive with at least {FEWEST_FRAMES} in {FEWEST_BLOCKS}"
        )
    values = np.array([row[1:] for row in rows])
    fitted, covariance, weight = fit_offset(values[:, :2], values[:, 2], blocks)
    # What is left tells how long errors stay alike; what counts little in the fit counts little here.
    c, s = np.cos(values[:, 2]), np.sin(values[:, 2])
    bias = np.stack([c * fitted[2] - s * fitted[3], s * fitted[2] + c * fitted[3]], axis=1)
    left = (values[:, :2] - fitted[:2] - bias) * weight[:, None]
    independent = independent_count(left, [int(row[0]) for row in rows])
    fitted, covariance, weight = fit_offset(values[:, :2], values[:, 2], independent)
    stds = np.sqrt(np.diag(covariance)[:2] + (truth_std_m or 0.0) ** 2)
    return MapOffset(
        float(fitted[0]),
        float(fitted[1]),
        (float(stds[0]), float(stds[1])),
        len(rows),
        int((weight >= 0.5).sum()),
        float(fitted[2]),
        float(fitted[3]),
        independent,
    )


def fit_offset(errors: Array, yaw_rad: Array, independent: float) -> tuple[Array, Array, Array]:
    """Fit errors (N, 2) in the map as offset + R(yaw) · bias, robustly (iterated biweight from the median on).

    Returns (4,) offset east, north and bias forward, left; their (4, 4) covariance as if only `independent` of the N
    were; and (N,) weights.
    """
    design = np.zeros((len(errors), 2, 4))
    design[:, 0, 0] = design[:, 1, 1] = 1.0
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    design[:, 0, 2], design[:, 0, 3], design[:, 1, 2], design[:, 1, 3] = c, -s, s, c
    fitted = np.array([*np.median(errors, axis=0), 0.0, 0.0])
    precision = np.diag([0.0, 0.0, *[BODY_BIAS_STD_M**-2] * 2])
    share = min(1.0, independent / len(errors))
    for _ in range(30):
        lengths = np.linalg.norm(errors - design @ fitted, axis=1)
        # The median length of a two-dimensional Gaussian is 1.177 of its standard deviations.
        sigma = max(float(np.median(lengths)) / math.sqrt(2.0 * math.log(2.0)), 0.01)
        weight = np.clip(1.0 - (lengths / (BIWEIGHT * sigma)) ** 2, 0.0, None) ** 2
        scaled = weight * share / sigma**2
        information = np.einsum("n,nij,nik->jk", scaled, design, design) + precision
        before, fitted = fitted, np.linalg.solve(information, np.einsum("n,nij,ni->j", scaled, design, errors))
        if np.abs(fitted - before).max() < 1e-6:
            break
    return fitted, np.linalg.inv(information), weight


def yaml_advice(offset: MapOffset, source: AerialSource, map_path: str) -> tuple[tuple[float, float], str]:
    """The `map_offset_m` to set (with what the source undoes already), and the lines to write where."""
    before = source.offset_m if isinstance(source, OffsetSource) else (0.0, 0.0)
    # Whole centimetres; adding zero turns -0.0 into 0.0.
    total = (round(before[0] + offset.east_m, 2) + 0.0, round(before[1] + offset.north_m, 2) + 0.0)
    line = f"map_offset_m: [{total[0]:.2f}, {total[1]:.2f}]"
    path = Path(map_path)
    if path.suffix in (".yaml", ".yml"):
        return total, f"{line}    # in {path}"
    kinds = {".mbtiles": "mbtiles", ".pmtiles": "pmtiles", ".tif": "geotiff", ".tiff": "geotiff"}
    kind = "folder" if path.is_dir() else kinds.get(path.suffix.lower(), "geotiff")
    return total, f"kind: {kind}    # a file shifted.yaml, to be given as the map\npath: {path}\n{line}"


def offset_object(offset: MapOffset, source: AerialSource, map_path: str) -> dict[str, Any]:
    """The offset for JSON; lines to be set only where it is significant."""
    total, yaml = yaml_advice(offset, source, map_path)
    told = {**dataclasses.asdict(offset), "significant": offset.is_significant, "map_offset_m": total}
    return told | ({"yaml": yaml} if offset.is_significant else {})


def offset_text(offset: dict[str, Any]) -> str:
    """The imagery's offset for people."""
    if "reason" in offset:
        return f"imagery offset: not estimated, {offset['reason']}"
    told = (
        f"imagery offset: east {offset['east_m']:+.2f} ± {offset['std_m'][0]:.2f} m, north {offset['north_m']:+.2f} ± "
        f"{offset['std_m'][1]:.2f} m, from {offset['used']} of {offset['frames']} accepted frames"
    )
    if not offset["significant"]:
        return f"{told}; not more than its uncertainty, so nothing to set"
    if offset.get("not_borne_out"):
        return f"{told}; the second half does not bear it out, so nothing to set"
    indented = "\n".join(f"  {line}" for line in offset["yaml"].splitlines())
    return f"{told}; to undo it:\n{indented}"
