"""Weights that are on this machine, or one sentence about how they get there. Nothing here asks the network."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cross_view_loc.errors import ModelError
from cross_view_loc.models.lock import Lock, check_files, read_lock
from cross_view_loc.models.registry import RegisteredModel, registered
from cross_view_loc.models.store import accepted_licence, repository_folder

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def fetched(repository: str, folder: Path | None = None) -> tuple[Path, Lock] | None:
    """The folder and the lock of a repository that was fetched; None when it was not.

    Raises ModelError when its files are not what was fetched.
    """
    place = repository_folder(repository, folder)
    lock = read_lock(place)
    if lock is None:
        return None
    fault = check_files(place, lock)
    if fault:
        raise ModelError(f"{fault}; run `cross_view_loc models fetch {repository}` to mend it")
    return place, lock


def find_registered(model: RegisteredModel, folder: Path | None = None) -> Path:
    """The folder with a registry's model.

    Raises ModelError, with the command that helps, when it is not here, damaged, or its licence was not accepted.
    """
    found = fetched(model.repository, folder)
    question = f", whose licence {model.licence} has to be accepted once" if model.must_accept else ""
    if found is None:
        raise ModelError(
            f"the model '{model.name}' ({model.repository}) is not on this machine; run `cross_view_loc models fetch "
            f"{model.name}`{question}"
        )
    if model.must_accept and not accepted_licence(model.repository, folder):
        raise ModelError(
            f"the licence {model.licence} of the model '{model.name}' has not been accepted; run `cross_view_loc "
            f"models fetch {model.name}`, which asks"
        )
    return found[0]


def find_named(name: str, folder: Path | None = None) -> tuple[Path | str, str, str]:
    """(folder, or the name for Hugging Face's own cache; the name to show; the licence where it is known).

    Takes a local folder, a registry name, or a repository `owner/name`. What another program put into Hugging Face's
    cache is taken when its licence is an open one of the registry's, or was accepted here. Raises ModelError as
    `find_registered`.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path, name, ""
    model = registered(name)
    if model is not None and (model.name == name or model.must_accept):
        return find_registered(model, folder), model.name, model.licence
    found = fetched(name, folder)
    licence = model.licence if model is not None else ""
    if found is not None:
        return found[0], name, licence or found[1].licence
    accepted = accepted_licence(name, folder)
    if _REPOSITORY.fullmatch(name):
        if not (_hugging_face_cache() / f"models--{name.replace('/', '--')}").is_dir():
            raise ModelError(
                f"the model '{name}' is no folder and not on this machine; run `cross_view_loc models fetch {name}`"
            )
        if model is None and not accepted:
            raise ModelError(
                f"the licence of the model '{name}', which another program has fetched, has not been accepted; run "
                f"`cross_view_loc models fetch {name}`, which asks, or give the folder of its files"
            )
    return name, name, licence or accepted


def _hugging_face_cache() -> Path:
    """Where Hugging Face's own library keeps repositories, by its documented environment variables."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    where = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    return Path(os.path.expandvars(where)).expanduser()
