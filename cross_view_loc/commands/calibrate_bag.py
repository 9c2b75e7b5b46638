"""The part of `evaluate bag` behind --calibrate: fit on the first half of the drive, try on the second."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cross_view_loc.aerial.offsets import OffsetSource
from cross_view_loc.bags.offline import OfflineRun
from cross_view_loc.bags.results import FrameRecord
from cross_view_loc.bags.truth import RecordedTruth
from cross_view_loc.commands.run import run_with_bar
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.bag_calibration import (
    NAMES,
    ROUNDS,
    CameraCorrection,
    FrameSample,
    fit_camera,
    fit_covariance_scale,
    static_transform_command,
)
from cross_view_loc.evaluation.map_offset import estimate_map_offset, yaml_advice
from cross_view_loc.evaluation.runs import depth_served, record_errors, run_row, truth_at


def calibrate(
    offline: OfflineRun, truth: RecordedTruth, span: tuple[int, int], stride: int, **setting: object
) -> tuple[list[dict[str, object]], dict[str, Any]]:
    """Rows of the second half before and after, and what was fitted on the first.

    What cannot be fitted (too few frames, coarse truth) is left as it is, with the reason.
    """
    middle_ns = (span[0] + span[1]) // 2
    first, second = (span[0], middle_ns), (middle_ns, span[1])
    localizer, sample = offline.localizer(), FrameSample()
    records = run_with_bar(offline.runner(sample.keeping(localizer.locate), stride), *first)
    fitted: dict[str, Any] = {"fitted_on_s": (middle_ns - span[0]) * 1e-9}
    offset_m = _fit_offset(offline, records, truth, fitted)
    correction = _fit_camera(offline, localizer.locate, sample, truth, offset_m, fitted)
    source = offline.source
    if correction != CameraCorrection() or offset_m != (0.0, 0.0):
        # With the camera put right, what is left in common is the imagery's.
        records = run_with_bar(offline.runner(correction.locating(localizer.locate), stride), *first)
        offset_m = _fit_offset(offline, records, truth, fitted)
    settings = offline.settings
    if offset_m != (0.0, 0.0):
        source = OffsetSource(source, offset_m)
        records = _run(offline, settings, source, correction, stride, first)
    try:
        scale = fit_covariance_scale(record_errors(records, truth.poses))
        fitted["covariance_scale"] = round(settings.covariance_scale * scale, 2)
        settings = dataclasses.replace(settings, covariance_scale=fitted["covariance_scale"])
    except InputError as error:
        fitted["covariance_scale_reason"] = str(error)
    before = run_with_bar(offline.runner(localizer.locate, stride), *second)
    after = _run(offline, settings, source, correction, stride, second)
    rows = [
        run_row(part, truth.poses, settings, part=name, **setting, **depth_served(localizer))
        for name, part in (("second half, before", before), ("second half, after", after))
    ]
    return rows, fitted


def _run(
    offline: OfflineRun, settings: Any, source: Any, correction: CameraCorrection, stride: int, span: tuple[int, int]
) -> list[FrameRecord]:
    locate = correction.locating(offline.localizer(settings, source).locate)
    return run_with_bar(offline.runner(locate, stride, settings), *span)


def _fit_offset(
    offline: OfflineRun, records: Sequence[FrameRecord], truth: RecordedTruth, fitted: dict[str, Any]
) -> tuple[float, float]:
    """The imagery's offset where it is significant, else none; with the words for people in `fitted`."""
    try:
        offset = estimate_map_offset(records, truth.poses, truth.std_m, offline.settings.map_std_m)
    except InputError as error:
        fitted["map_offset"] = {"reason": str(error)}
        return 0.0, 0.0
    total, yaml = yaml_advice(offset, offline.source, offline.settings.map_path)
    fitted["map_offset"] = {
        **dataclasses.asdict(offset), "significant": offset.is_significant, "map_offset_m": total, "yaml": yaml,
    }  # fmt: skip
    return (offset.east_m, offset.north_m) if offset.is_significant else (0.0, 0.0)


def _fit_camera(
    offline: OfflineRun,
    locate: Any,
    sample: FrameSample,
    truth: RecordedTruth,
    offset_m: tuple[float, float],
    fitted: dict[str, Any],
) -> CameraCorrection:
    try:
        with tqdm(total=ROUNDS + 1 + len(NAMES), desc="camera", file=sys.stderr, disable=None) as bar:
            fit = fit_camera(
                sample.frames, lambda stamp: truth_at(truth.poses, stamp), locate, offset_m, lambda: bar.update(1)
            )
    except InputError as error:
        fitted["camera"] = {"reason": str(error)}
        return CameraCorrection()
    correction = fit.significant()
    values = dataclasses.asdict(fit.correction)
    camera = {
        "pitch_deg": math.degrees(values["pitch_rad"]),
        "roll_deg": math.degrees(values["roll_rad"]),
        "yaw_deg": math.degrees(values["yaw_rad"]),
        "height_m": values["height_m"],
        "std": [math.degrees(fit.std[0]), math.degrees(fit.std[1]), math.degrees(fit.std[2]), fit.std[3]],
        "frames": fit.frames,
        "significant": correction != CameraCorrection(),
        "applied": dataclasses.asdict(correction),
    }
    if camera["significant"]:
        frame = correction.applied(sample.frames[0])
        child = offline.settings.camera_frame or "CAMERA_FRAME"
        camera["command"] = static_transform_command(frame, offline.settings.base_frame, child)
    fitted["camera"] = camera
    return correction


def calibration_text(fitted: dict[str, Any]) -> str:
    """What was fitted, for people."""
    lines = [f"fitted on the first {fitted['fitted_on_s']:.0f} s:"]
    camera = fitted["camera"]
    if "reason" in camera:
        lines.append(f"  camera: not fitted, {camera['reason']}")
    else:
        values = zip(("pitch_deg", "roll_deg", "yaw_deg", "height_m"), camera["std"], strict=True)
        units = {"height_m": " m"}
        told = ", ".join(
            f"{name.split('_')[0]} {camera[name]:+.2f} ± {std:.2f}{units.get(name, '°')}" for name, std in values
        )
        lines.append(f"  camera, to be added to its mounting: {told} (from {camera['frames']} frames)")
        lines.append(f"    {camera['command']}" if camera["significant"] else "    nothing that needs to be changed")
    scale = fitted.get("covariance_scale")
    lines.append(
        f"  covariance_scale: not fitted, {fitted['covariance_scale_reason']}"
        if scale is None
        else f"  covariance_scale: {scale:.2f}"
    )
    return "\n".join(lines)
