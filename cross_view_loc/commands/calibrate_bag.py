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
from cross_view_loc.evaluation.calibration_check import (
    ENOUGH_S,
    accepted_errors,
    bears_scale,
    check_covariance_scale,
    is_better,
)
from cross_view_loc.evaluation.map_offset import estimate_map_offset, offset_object, offset_text
from cross_view_loc.evaluation.runs import depth_served, run_row, truth_at


def calibrate(
    offline: OfflineRun, truth: RecordedTruth, span: tuple[int, int], stride: int, **setting: object
) -> tuple[list[dict[str, object]], dict[str, Any]]:
    """Rows of the second half before and after, and what was fitted on the first and is borne out by the second.

    What cannot be fitted (too few frames, coarse truth) is left as it is, with the reason; what did not make the
    second half better keeps its figures, but neither YAML nor command. `verdict` says in a sentence what to do.
    """
    middle_ns = (span[0] + span[1]) // 2
    first, second = (span[0], middle_ns), (middle_ns, span[1])
    localizer, sample = offline.localizer(), FrameSample()
    records = run_with_bar(offline.runner(sample.keeping(localizer.locate), stride), *first)
    fitted: dict[str, Any] = {"fitted_on_s": (middle_ns - span[0]) * 1e-9}
    offset_m = _fit_offset(offline, records, truth, fitted)
    correction = _fit_camera(offline, localizer.locate, sample, truth, offset_m, fitted)
    source, settings, unmoved = offline.source, offline.settings, records
    if correction != CameraCorrection():
        # With the camera put right, what is left in common is the imagery's.
        records = run_with_bar(offline.runner(correction.locating(localizer.locate), stride), *first)
        offset_m = _fit_offset(offline, records, truth, fitted)
    if offset_m != (0.0, 0.0):
        source = OffsetSource(source, offset_m)
        records = _run(offline, settings, source, correction, stride, first)
    before = run_with_bar(offline.runner(localizer.locate, stride), *second)
    after, advised, failed = before, [], []
    if correction != CameraCorrection() or offset_m != (0.0, 0.0):
        after = _run(offline, settings, source, correction, stride, second)
        tried = ["camera"] * (correction != CameraCorrection()) + ["map_offset"] * (offset_m != (0.0, 0.0))
        if is_better(accepted_errors(before, truth.poses), accepted_errors(after, truth.poses)):
            advised += tried
        else:
            failed += tried
            records, source, correction = unmoved, offline.source, CameraCorrection()
            _withdraw(fitted)
    rows = [("second half, before", before)]
    held = before if failed else after
    scale = _fit_covariance(records, truth, settings.covariance_scale, fitted)
    if scale is not None:
        scaled = dataclasses.replace(settings, covariance_scale=fitted["covariance_scale"])
        if bears_scale(list(accepted_errors(held, truth.poses).values()), scale):
            advised.append("covariance_scale")
            after = _run(offline, scaled, source, correction, stride, second)
        else:
            failed.append("covariance_scale")
            told = fitted.pop("covariance_scale")
            fitted["covariance_scale_reason"] = f"{told:.2f} on the first half, which the second does not bear out"
    rows += [("second half, after", after)] if advised or after is not before else []
    fitted |= {"advised": advised, "verdict": calibration_verdict(advised, failed, fitted["fitted_on_s"])}
    return [
        run_row(part, truth.poses, settings, part=name, **setting, **depth_served(localizer)) for name, part in rows
    ], fitted


def calibration_verdict(advised: Sequence[str], failed: Sequence[str], fitted_on_s: float) -> str:
    """What to do, in a sentence, and for short drives how long one must be."""
    names = {"camera": "the camera's transform", "map_offset": "map_offset_m", "covariance_scale": "covariance_scale"}
    tried = ", ".join(names[name] for name in failed)
    if advised:
        told = f"better on the second half: apply {' and '.join(names[name] for name in advised)}"
        told += f", but not {tried}, which made it no better" if failed else ""
    elif failed:
        told = f"worse (or no better) on the second half: apply nothing (tried: {tried})"
    else:
        told = "nothing significant was found on the first half: apply nothing"
    if fitted_on_s < ENOUGH_S:
        told += (
            f"; {fitted_on_s:.0f} s to fit on are few: give a drive of at least {2 * ENOUGH_S:.0f} s, with turns and "
            "with poses accepted throughout"
        )
    return told


def _withdraw(fitted: dict[str, Any]) -> None:
    """No lines to be copied of what the second half spoke against."""
    for part, names in (("map_offset", ("yaml", "map_offset_m")), ("camera", ("command",))):
        if fitted[part].get("significant"):
            fitted[part]["not_borne_out"] = True
        for name in names:
            fitted[part].pop(name, None)


def _fit_covariance(
    records: Sequence[FrameRecord], truth: RecordedTruth, scale_now: float, fitted: dict[str, Any]
) -> float | None:
    """Factor on the covariance, with the parameter's new value in `fitted`; None, with a reason there, without one."""
    errors = accepted_errors(records, truth.poses)
    try:
        scale = fit_covariance_scale(list(errors.values()))
        check_covariance_scale(scale, list(errors))
    except InputError as error:
        fitted["covariance_scale_reason"] = str(error)
        return None
    fitted["covariance_scale"] = round(scale_now * scale, 2)
    return scale


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
    fitted["map_offset"] = offset_object(offset, offline.source, offline.settings.map_path)
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
        change = "nothing that needs to be changed" if not camera["significant"] else "not borne out by the second half"
        lines.append(f"    {camera.get('command', change)}")
    scale = fitted.get("covariance_scale")
    lines.append(
        f"  covariance_scale: not fitted, {fitted['covariance_scale_reason']}"
        if scale is None
        else f"  covariance_scale: {scale:.2f}"
    )
    lines += [f"  {line}" for line in offset_text(fitted["map_offset"]).splitlines()]
    lines.append(f"verdict: {fitted['verdict']}")
    return "\n".join(lines)
