"""What an examination found: one sentence each, how bad it is, and what to do about it."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cross_view_loc.settings.parameter import Value


class Level(enum.IntEnum):
    """How bad a finding is."""

    OK = 0
    WARN = 1
    """Works, but worse than it could, or only under an assumption."""
    FAIL = 2
    """No pose, or a wrong one, before this is put right."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    group: str
    """Which input it is about, as a heading."""
    check: str
    """Short stable name for programs, e.g. "camera_info.size"."""
    level: Level
    sentence: str
    """What was measured, with its numbers."""
    remedy: str = ""
    """What to do; empty when there is nothing to do."""
    parameter: str = ""
    """The parameter to set, if one helps."""
    value: Value | None = None
    """What to set it to; None when it takes a person to say."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of the sentence for programs."""

    def as_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "group": self.group,
            "check": self.check,
            "level": self.level.name,
            "sentence": self.sentence,
            "remedy": self.remedy,
            "parameter": self.parameter or None,
            "value": list(self.value) if isinstance(self.value, tuple) else self.value,
            "data": dict(self.data),
        }


@dataclass(frozen=True)
class Group:
    """Makes findings of one group."""

    name: str

    def ok(self, check: str, sentence: str, **more: Any) -> Finding:
        """A finding that asks for nothing."""
        return Finding(self.name, check, Level.OK, sentence, **more)

    def warn(self, check: str, sentence: str, remedy: str, **more: Any) -> Finding:
        """A finding that costs accuracy or rests on an assumption."""
        return Finding(self.name, check, Level.WARN, sentence, remedy, **more)

    def fail(self, check: str, sentence: str, remedy: str, **more: Any) -> Finding:
        """A finding that prevents poses or makes them wrong."""
        return Finding(self.name, check, Level.FAIL, sentence, remedy, **more)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level; OK of none."""
    return max((finding.level for finding in findings), default=Level.OK)


def as_text(findings: Iterable[Finding], width: int = 118) -> str:
    """Findings under their groups' headings, in the order in which the groups first came."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(finding)
    lines: list[str] = []
    for name, members in groups.items():
        lines += ["", name]
        for finding in members:
            lines += textwrap.wrap(
                finding.sentence, width, initial_indent=f"  {finding.level.name:4s}  ", subsequent_indent=" " * 8
            )
            if finding.remedy:
                lines += textwrap.wrap(finding.remedy, width, initial_indent="        → ", subsequent_indent=" " * 10)
            if finding.parameter and finding.value is not None and finding.level > Level.OK:
                lines.append(f"          {finding.parameter}: {_shown(finding.value)}")
    return "\n".join(lines[1:])


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{number:.9g}" for number in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
