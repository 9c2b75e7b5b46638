"""Where fetched and imported weights lie on this machine, and which licences were accepted; needs no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

ACCEPTED = "accepted_licences.json"


def models_folder() -> Path:
    """Where fetched and imported weights are kept: $XDG_DATA_HOME/cross_view_loc/models."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "cross_view_loc" / "models"


def repository_folder(repository: str, folder: Path | None = None) -> Path:
    """Where the files of a repository `owner/name` are, or would be."""
    return (folder or models_folder()) / repository.replace("/", "--")


def accepted_licence(repository: str, folder: Path | None = None) -> str:
    """The licence that was accepted for a repository; empty when none was."""
    return str(_accepted(folder).get(repository, ""))


def accept_licence(repository: str, licence: str, folder: Path | None = None) -> None:
    """Remember the user's yes, in the folder of the models."""
    root = folder or models_folder()
    write_whole(
        root / ACCEPTED, json.dumps({**_accepted(folder), repository: licence}, indent=1, sort_keys=True) + "\n"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that another process sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _accepted(folder: Path | None) -> dict[str, object]:
    try:
        found = json.loads(((folder or models_folder()) / ACCEPTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
