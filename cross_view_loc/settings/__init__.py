"""Every setting in one table: the node declares it, `config/localizer.yaml` lists it, `run --config` reads it.

A setting is a field of `Settings` (`inputs.py`, `method.py`); its description, limits and choices
travel in the field's metadata, and `PARAMETERS` is the same table in the form the node, the YAML writer and the tests
want. Names carry the unit.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cross_view_loc.errors import InputError
from cross_view_loc.settings.cameras import CAMERA_SUFFIXES, ONLY_CAMERA, CameraSettings
from cross_view_loc.settings.contradictions import first_contradiction
from cross_view_loc.settings.inputs import InputSettings
from cross_view_loc.settings.method import MethodSettings
from cross_view_loc.settings.parameter import Kind, Parameter, Value
from cross_view_loc.settings.parameter_file import read_parameter_file

if TYPE_CHECKING:
    from cross_view_loc.localizer import LocalizerSettings
    from cross_view_loc.tracking.rules import TrackerRules
    from cross_view_loc.tracking.tracker import Tracker

OTHERS_PARAMETERS = ("use_sim_time", "qos_overrides", "start_type_description_service")
"""Parameters that ROS itself adds to a node; a parameter file may hold them, this table does not."""


@dataclass(frozen=True)
class Settings(MethodSettings, InputSettings):
    """What the node and the offline runner can be told; build it with `from_mapping` or `from_yaml`."""

    rig: tuple[CameraSettings, ...] = ()
    """The cameras, one or several; of a single one it is made of the parameters without a camera's name."""
    named: frozenset[str] | None = dataclasses.field(default=None, compare=False)
    """Which parameters the file set that these are from; None: from no file, so that all of them are meant."""

    def __post_init__(self) -> None:
        for parameter in PARAMETERS:
            value = parameter.checked(getattr(self, parameter.name), "setting")
            # tf2 knows no leading slash, with which ROS 1 began its frames.
            value = value.lstrip("/") if isinstance(value, str) and parameter.name.endswith("_frame") else value
            object.__setattr__(self, parameter.name, value)
        if not self.cameras:
            own = {suffix: getattr(self, suffix) for suffix in CAMERA_SUFFIXES}
            object.__setattr__(self, "rig", (CameraSettings(ONLY_CAMERA, **own),))
        contradiction = first_contradiction(self)
        if contradiction:
            raise InputError(contradiction)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "parameters") -> Settings:
        """Settings from names and values; an unknown name or a bad value raises InputError naming `where`."""
        values = {name: value for name, value in values.items() if not belongs_to_ros(name)}
        cameras = parameter_named("cameras").checked(values.get("cameras", ()), f"{where}:")
        assert isinstance(cameras, tuple)
        rig, others = split_cameras(values, [str(name) for name in cameras], where)
        known: dict[str, Any] = {"rig": rig}
        for name, value in others.items():
            if name not in _BY_NAME:
                raise InputError(f"{where}: there is no parameter '{name}'; {hint_for(name)}")
            known[name] = parameter_named(name).checked(value, f"{where}:")
        return cls(**known)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Settings:
        """Settings from a ROS parameter file (`/**:` or a node's name, then `ros__parameters:`)."""
        values = read_parameter_file(path)
        return dataclasses.replace(cls.from_mapping(values, str(path)), named=frozenset(values))

    def tracker(self) -> Tracker | None:
        """A new tracker by these settings; None when tracking is off."""
        from cross_view_loc.tracking.tracker import Tracker

        return Tracker(self.tracker_rules()) if self.tracking else None

    def tracker_rules(self) -> TrackerRules:
        """The part that the tracker understands."""
        from cross_view_loc.tracking.rules import TrackerRules

        names = [row.name for row in dataclasses.fields(TrackerRules)]
        return TrackerRules(**{name: getattr(self, name) for name in names})

    def localizer_settings(self) -> LocalizerSettings:
        """The part that the localizer itself understands (imports torch)."""
        from cross_view_loc.localizer import LocalizerSettings

        names = [row.name for row in dataclasses.fields(LocalizerSettings)]
        return LocalizerSettings(**{name: getattr(self, name) for name in names})


def _parameters() -> tuple[Parameter, ...]:
    kinds: dict[type, Kind] = {str: "string", float: "double", int: "integer", bool: "bool", tuple: "double_array"}
    rows: list[tuple[str, Any, Any]] = [
        (row.name, row.default, row.metadata) for row in dataclasses.fields(Settings) if row.metadata
    ]
    special: dict[str, Kind] = {"cameras": "string_array", "depth_fallback": "string_array"}
    return tuple(
        Parameter(name, special.get(name, kinds[type(default)]), default, **metadata)
        for name, default, metadata in rows
    )


PARAMETERS: tuple[Parameter, ...] = _parameters()
_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def camera_rows(camera: str) -> tuple[Parameter, ...]:
    """The rows of one camera of several; its topics are below its name."""
    defaults = {"image_topic": f"{camera}/image_raw", "camera_info_topic": f"{camera}/camera_info"}
    rows = (parameter_named(suffix) for suffix in CAMERA_SUFFIXES)
    return tuple(
        dataclasses.replace(row, name=f"{camera}.{row.name}", default=defaults.get(row.name, row.default))
        for row in rows
    )


def split_cameras(
    values: Mapping[str, Any], cameras: Sequence[str], where: str
) -> tuple[tuple[CameraSettings, ...], dict[str, Any]]:
    """The settings of the named cameras, by `NAME.image_topic` or a mapping below NAME, and all other values.

    Raises InputError for a bad value or a name that no camera has.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
    found: list[CameraSettings] = []
    for camera in cameras:
        own = {
            row.name.split(".")[-1]: row.checked(flat.pop(row.name, row.default), f"{where}:")
            for row in camera_rows(camera)
        }
        found.append(CameraSettings(camera, **own))  # type: ignore[arg-type]
    for name in flat:
        camera, dot, _ = name.partition(".")
        if dot:
            known = ", ".join(CAMERA_SUFFIXES) if camera in cameras else ", ".join(cameras) or "none"
            raise InputError(
                f"{where}: there is no parameter '{name}'; "
                + (f"a camera has {known}" if camera in cameras else f"cameras names {known}")
            )
    return tuple(found), flat


def belongs_to_ros(name: str) -> bool:
    """Whether ROS itself adds this parameter to a node."""
    return name.split(".")[0] in OTHERS_PARAMETERS


def hint_for(unknown: str) -> str:
    """What to do about a name that the table does not have: the nearest name, or where all of them stand."""
    near = difflib.get_close_matches(unknown, _BY_NAME, n=1)
    return f"did you mean {near[0]}?" if near else "see config/localizer.yaml for all of them"


def parameter_named(name: str) -> Parameter:
    """The table's row of that name."""
    return _BY_NAME[name]


def parameter_file_text(
    settings: Settings | None = None,
    header: str = "",
    only_changed: bool = False,
    notes: Mapping[str, str] | None = None,
    always: Collection[str] = (),
) -> str:
    """A commented ROS parameter file that holds every parameter, with the values of `settings`.

    `config/localizer.yaml` is this text for the defaults, and `simulate` writes it for a drive. `only_changed` leaves
    out what is as by default, but for the parameters in `always`; `notes` says more about single parameters.
    """
    settings, notes = settings or Settings(), notes or {}
    chosen = [
        row
        for row in PARAMETERS
        if not only_changed or row.name in always or getattr(settings, row.name) != row.default
    ]
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += ["/**:", "  ros__parameters:" if chosen else "  ros__parameters: {}"]
    group = ""
    last_of_cameras = CAMERA_SUFFIXES[-1]
    for parameter in PARAMETERS:
        if parameter in chosen:
            if parameter.group != group:
                group = parameter.group
                lines += ["", f"    # --- {group} ---"]
            lines += _yaml_lines(parameter, getattr(settings, parameter.name), notes.get(parameter.name, ""))
        if parameter.name == last_of_cameras:
            for camera in settings.rig if settings.cameras else ():
                for row in camera_rows(camera.name):
                    value = getattr(camera, row.name.split(".")[-1])
                    lines.append(f"    {row.name}: {_yaml_value(value)}")
    return "\n".join(lines) + "\n"


def _yaml_lines(parameter: Parameter, value: Value, note: str = "") -> list[str]:
    details = [f"one of {', '.join(parameter.choices)}"] if parameter.choices else []
    if parameter.minimum is not None or parameter.maximum is not None:
        details.append(f"range {parameter.range_text()}")
    details.append("fixed at start" if parameter.read_only else "may change while running")
    return [
        f"    # {parameter.description}",
        f"    # ({'; '.join(details)})",
        *(f"    # {line}" for line in note.splitlines()),
        f"    {parameter.name}: {_yaml_value(value)}",
    ]


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_yaml_value(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
