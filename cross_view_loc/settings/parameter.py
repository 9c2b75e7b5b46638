"""One row of the table of settings: its type, limits and choices, and the check every value passes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from cross_view_loc.errors import InputError

Kind = Literal["string", "double", "integer", "bool", "double_array", "string_array"]
Value = str | float | int | bool | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One row of the table; `read_only` means it is fixed when the node starts."""

    name: str
    kind: Kind
    default: Value
    description: str
    group: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True

    def checked(self, value: Any, where: str = "parameter") -> Value:
        """`value` in this parameter's type (an integer where a double is wanted is taken), or InputError."""
        value = self._typed(value, where)
        if self.choices and value not in self.choices:
            raise InputError(f"{where} {self.name} is '{value}'; choose one of {', '.join(self.choices)}")
        numbers: Iterable[Any] = value if isinstance(value, tuple) else (value,)
        for number in numbers if self.kind in ("double", "integer", "double_array") else ():
            below = self.minimum is not None and float(number) < self.minimum
            above = self.maximum is not None and float(number) > self.maximum
            if below or above or not math.isfinite(float(number)):
                raise InputError(f"{where} {self.name} is {number}; it must lie in {self.range_text()}")
        return value

    def range_text(self) -> str:
        """The allowed interval for people, e.g. `[0, 1]`."""
        low = "-inf" if self.minimum is None else f"{self.minimum:g}"
        high = "inf" if self.maximum is None else f"{self.maximum:g}"
        return f"[{low}, {high}]"

    def _typed(self, value: Any, where: str) -> Value:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind == "string" and isinstance(value, str):
            return value
        if self.kind == "string" and isinstance(value, bool) and str(value).lower() in self.choices:
            return str(value).lower()  # YAML makes a bool of a bare true
        if self.kind == "bool" and isinstance(value, bool):
            return value
        if self.kind == "double" and is_number:
            return float(value)
        if self.kind == "integer" and is_number and int(value) == value:
            return int(value)
        if self.kind == "double_array" and not isinstance(value, str) and isinstance(value, Iterable):
            items = list(value)
            if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
                return tuple(float(item) for item in items)
        if self.kind == "string_array" and not isinstance(value, str) and isinstance(value, Iterable):
            words = tuple(value)
            if all(isinstance(word, str) for word in words):
                return words
        raise InputError(f"{where} {self.name} is {value!r}; it must be of type {self.kind}")


def setting(
    default: Value,
    group: str,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A field of the settings' dataclass with its row of the table; `live` settings may change while the node runs."""
    row = {"group": group, "description": description, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata={**row, "read_only": not live})
