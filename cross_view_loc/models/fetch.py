"""A whole model: plan, question, download, lock. What has been fetched once stays the same from then on."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cross_view_loc.errors import InputError, ModelError
from cross_view_loc.models.download import Download, git_sha1_of
from cross_view_loc.models.hub import Hub, HubFile, HubRepository
from cross_view_loc.models.lock import Lock, LockedFile, check_files, read_lock, sha256_of, write_lock
from cross_view_loc.models.registry import OPEN_LICENCES, RegisteredModel, registered
from cross_view_loc.models.store import accept_licence, accepted_licence, repository_folder

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_NEEDED = ("config.json",)
_WANTED = ("preprocessor_config.json", "generation_config.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "README.md")
_WEIGHTS = ("model", ".safetensors"), ("pytorch_model", ".bin")


@dataclass(frozen=True)
class FetchPlan:
    """What would be fetched, before anybody has agreed to it."""

    name: str
    repository: HubRepository
    licence: str
    """The registry's, which may be stricter than the server's; the server's for a repository it does not know."""
    must_accept: bool
    folder: Path
    files: tuple[HubFile, ...]
    expected: dict[str, str] = field(default_factory=dict)
    """SHA-256 that files are known to have."""

    @property
    def size(self) -> int:
        """Bytes of all files whose size the server tells."""
        return sum(file.size or 0 for file in self.files)


def locate_repository(name: str) -> tuple[str, RegisteredModel | None]:
    """(repository, the registry's row if any) of a registry name or `owner/name`. Raises InputError."""
    row = registered(name.removeprefix("hf:"))
    repository = row.repository if row is not None else name.removeprefix("hf:")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise InputError(
            f"there is no model '{name}'; give a name of `cross_view_loc models list`, or owner/name of a repository"
        )
    return repository, row


def already_fetched(name: str, revision: str = "", folder: Path | None = None) -> Lock | None:
    """The lock of a model whose files are all here and, read again, unchanged; None when something must be fetched."""
    repository, _ = locate_repository(name)
    place = repository_folder(repository, folder)
    lock = read_lock(place)
    if lock is None or revision not in ("", lock.revision) or check_files(place, lock, thoroughly=True):
        return None
    return lock


def plan_fetch(hub: Hub, name: str, revision: str = "", folder: Path | None = None) -> FetchPlan:
    """Ask the server what there is; without a `revision` that which was fetched before, else the registry's.

    Raises ModelError, InputError.
    """
    repository, row = locate_repository(name)
    place = repository_folder(repository, folder)
    lock = read_lock(place)
    expected = dict(row.sha256) if row is not None else {}
    if lock is not None and revision in ("", lock.revision):
        revision = lock.revision
        expected |= {file: locked.sha256 for file, locked in lock.files.items()}
    held = hub.repository(repository, revision or (row.revision if row is not None else "main"))
    licence = row.licence if row is not None else held.licence or "unknown"
    must_accept = licence.lower() not in {each.lower() for each in OPEN_LICENCES}
    return FetchPlan(
        row.name if row is not None else repository, held, licence, must_accept, place, choose_files(held), expected
    )


def choose_files(repository: HubRepository) -> tuple[HubFile, ...]:
    """Configuration, weights (safetensors before pickles, all their shards) and licence. Raises ModelError."""
    by_name = {file.name: file for file in repository.files}
    chosen = [by_name[name] for name in (*_NEEDED, *_WANTED) if name in by_name]
    for stem, suffix in _WEIGHTS:
        shards = re.compile(re.escape(stem) + r"-\d+-of-\d+" + re.escape(suffix))
        weights = [by_name[f"{stem}{suffix}"]] if f"{stem}{suffix}" in by_name else []
        index = f"{stem}{suffix}.index.json"
        if not weights and index in by_name:
            weights = [by_name[index], *(file for file in repository.files if shards.fullmatch(file.name))]
        if weights and all(name in by_name for name in _NEEDED):
            return (*chosen, *weights)
    raise ModelError(
        f"{repository.name} has no config.json with model.safetensors or pytorch_model.bin; give a repository of "
        "`transformers` weights, or put the files into a folder and use hf:FOLDER or onnx:FILE"
    )


def fetch(
    hub: Hub, plan: FetchPlan, folder: Path | None = None, on_bytes: Callable[[int], None] = lambda count: None
) -> Lock:
    """Carry out a plan that was agreed to, and record licence and hashes. Raises ModelError; run again, it goes on."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.folder).free
    if plan.size > free:
        raise ModelError(
            f"{plan.name} needs {plan.size / 1e6:.0f} MB and {plan.folder} has {free / 1e6:.0f} MB free; make room or "
            "give another --folder"
        )
    with _alone(plan.folder):
        locked: dict[str, LockedFile] = {}
        for file in plan.files:
            there = _there(plan, file)
            if there is None:
                expected = plan.expected.get(file.name, "")
                there = Download(hub, plan.repository, file, plan.folder, expected, on_bytes).run()
            else:
                on_bytes(there.size)
            locked[file.name] = there
        lock = Lock(plan.repository.name, plan.repository.commit, plan.licence, locked)
        write_lock(plan.folder, lock)
        accept_licence(plan.repository.name, plan.licence, folder)
    return lock


def is_accepted(plan: FetchPlan, folder: Path | None = None) -> bool:
    """Whether the user has agreed to this licence of this repository before."""
    return accepted_licence(plan.repository.name, folder) == plan.licence


def _there(plan: FetchPlan, file: HubFile) -> LockedFile | None:
    """A file that is here whole from an earlier time; None when it must come."""
    path, known = plan.folder / file.name, plan.expected.get(file.name) or file.sha256
    if not path.is_file():
        return None
    status, sha256 = path.stat(), sha256_of(path)
    is_it = sha256 == known if known else bool(file.git_sha1) and git_sha1_of(path) == file.git_sha1
    return LockedFile(status.st_size, sha256, status.st_mtime_ns) if is_it else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two at a time would write into one part."""
    with (folder / ".fetching").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ModelError(f"another command is fetching into {folder}; wait for it") from error
        yield
