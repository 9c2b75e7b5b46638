"""The curve of a training run: a CSV file beside the weights, and TensorBoard where it is wanted."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cross_view_loc.errors import InputError


def curve_path(weights: Path) -> Path:
    """Where the curve of a run lies that writes `weights`."""
    return weights.with_suffix(".curve.csv")


class Curve:
    """Rows of (step, seconds, learning_rate, losses and measurements); the file is whole after every row."""

    def __init__(self, path: Path, tensorboard: Path | None = None, keep_until_step: int = 0) -> None:
        """Start a curve, or go on with the rows of an earlier run up to `keep_until_step`.

        Raises InputError when TensorBoard is wanted but not installed.
        """
        self.path = path
        self._rows: list[dict[str, Any]] = []
        self._writer = _open_tensorboard(tensorboard)
        if keep_until_step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= keep_until_step]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row; a value that an earlier row lacked becomes a new column."""
        self._rows.append({"step": step, **values})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self.path)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()


def _open_tensorboard(folder: Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboard; pip install tensorboard, or read the .curve.csv beside the "
            "weights"
        ) from error
    return SummaryWriter(str(folder))  # type: ignore[no-untyped-call]
