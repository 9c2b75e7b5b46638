"""The lock file beside fetched weights: what was fetched, and by which hashes it is known again from then on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from cross_view_loc.errors import ModelError
from cross_view_loc.models.store import write_whole

LOCK_FILE = "cross_view_loc.lock.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class LockedFile:
    """One file as it was when its hash was right."""

    size: int
    sha256: str
    mtime_ns: int = 0
    """A file of this size and time is taken for the same without reading it."""


@dataclass(frozen=True)
class Lock:
    """What a folder holds."""

    repository: str
    revision: str
    """The commit, where the server told it, else what was asked for."""
    licence: str
    files: dict[str, LockedFile] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def read_lock(folder: Path) -> Lock | None:
    """The lock of a folder; None when nothing has been fetched there whole. Raises ModelError for a damaged one."""
    path = folder / LOCK_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        files = {name: LockedFile(**file) for name, file in values.pop("files").items()}
        return Lock(files=files, **values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}); remove {folder} and fetch it again") from error


def write_lock(folder: Path, lock: Lock) -> None:
    """Put a lock into a folder."""
    values = {**vars(lock), "files": {name: vars(file) for name, file in lock.files.items()}}
    write_whole(folder / LOCK_FILE, json.dumps(values, indent=1, sort_keys=True) + "\n")


def check_files(folder: Path, lock: Lock, thoroughly: bool = False) -> str:
    """What is wrong with a folder's files, as the middle of a sentence; empty when all are as they were fetched.

    A file of the recorded size and time is trusted unless `thoroughly`; any other is read.
    """
    for name, file in lock.files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        status = path.stat()
        if status.st_size != file.size:
            return f"{path} has {status.st_size} bytes and had {file.size} when it was fetched"
        if (thoroughly or status.st_mtime_ns != file.mtime_ns) and sha256_of(path) != file.sha256:
            return f"{path} has changed since it was fetched (another SHA-256)"
    return ""


def sha256_of(path: Path) -> str:
    """The hash of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
