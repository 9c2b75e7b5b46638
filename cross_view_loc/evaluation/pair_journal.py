"""What a localizer has said of each frame of a benchmark, on disk, so that an interrupted run goes on where it ended.

The idea is that of `bags/journal.py`; here no frame depends on another, so a finished one is not even read again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cross_view_loc.bags.journal import estimate_of, row_of, whole_lines
from cross_view_loc.errors import InputError
from cross_view_loc.types import Estimate


class PairJournal:
    """Estimates by the frame's name. The file stays when all are there: the same command then only counts."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """`about` says what the estimates depend on. Raises InputError when `path` is about something else."""
        about = json.loads(json.dumps(about))
        lines = whole_lines(path)
        if lines and lines[0] != about:
            different = sorted(key for key in about | lines[0] if about.get(key) != lines[0].get(key))
            raise InputError(
                f"{path} was begun with another {' and '.join(different)}; go on as it was begun, or name another "
                "folder with --out"
            )
        self._known = {line["name"]: line for line in lines[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")  # again from the start: a torn last line goes
        for line in (about, *lines[1:]):
            self._write(line)

    def get(self, name: str) -> tuple[Estimate, float, str] | None:
        """Estimate, seconds it took and why it failed (empty: it did not); None for a frame not done yet."""
        line = self._known.get(name)
        return None if line is None else (estimate_of(line), line["seconds"], line["failed"])

    def put(self, name: str, estimate: Estimate, seconds: float, failed: str) -> None:
        """Write down a frame."""
        self._write({**row_of(estimate), "name": name, "seconds": seconds, "failed": failed})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
