"""The parameter file to start from: what the findings say to set, on top of what was configured."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable

from cross_view_loc.doctor.findings import Finding, Level
from cross_view_loc.errors import InputError
from cross_view_loc.settings import Settings, parameter_file_text, parameter_named

OPTIONAL_TOPICS = ("odometry_topic", "imu_topic")


def advised_settings(settings: Settings, findings: Iterable[Finding]) -> tuple[Settings, dict[str, str]]:
    """The settings with every finding's value, later ones winning, and a note on each that is not a mere topic."""
    notes: dict[str, str] = {}
    changes: dict[str, object] = {}
    for finding in findings:
        if not finding.parameter or finding.value is None:
            continue
        try:
            changes[finding.parameter] = parameter_named(finding.parameter).checked(finding.value)
        except InputError:
            continue  # a value beyond the parameter's range: the sentence stands for itself
        if finding.level > Level.OK:
            notes[finding.parameter] = f"{finding.level.name}: {finding.sentence}"
    if changes.get("imu_topic") == "" and settings.heading_source == "imu":
        changes["heading_source"] = "auto"
    if changes.get("odometry_topic") == "" and changes.get("heading_source", settings.heading_source) == "odometry":
        changes["heading_source"] = "auto"
    try:
        return dataclasses.replace(settings, **changes), notes  # type: ignore[arg-type]
    except InputError:  # advice of two checks that does not go together: as much of it as does
        for name, value in changes.items():
            with contextlib.suppress(InputError):
                settings = dataclasses.replace(settings, **{name: value})  # type: ignore[arg-type]
        return settings, notes


def parameter_file(settings: Settings, notes: dict[str, str], what: str, is_ready: bool) -> str:
    """A valid ROS parameter file of what differs from the defaults."""
    header = f"To start from, by `cross_view_loc doctor {what}`; everything else is as by default.".replace("  ", " ")
    if not is_ready:
        header += "\nFAIL findings remain that no parameter can cure: see them first."
    # A topic that the file leaves out is guessed again where the file is used with a bag.
    return parameter_file_text(settings, header, only_changed=True, notes=notes, always=OPTIONAL_TOPICS)
