"""What every model from Hugging Face's `transformers` needs: the library, its image processor, sentences for errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cross_view_loc.depth.hf_images import processor_kind
from cross_view_loc.errors import ModelError


def transformers_for(name: str, what: str) -> Any:
    """The library; ModelError saying what needs it (`what` it is, and its name) when it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"the {what} '{name}' needs the package 'transformers', which is missing; run "
            "`pip install transformers pillow`"
        ) from error
    return transformers


def image_processor(transformers: Any, where: str | Path, name: str, what: str) -> tuple[Any, dict[str, Any]]:
    """(processor that runs on Pillow alone, or None where there is none; its configuration). Raises ModelError."""
    with sentences(name, what), quiet(transformers):
        mixin = transformers.image_processing_base.ImageProcessingMixin
        config, _ = mixin.get_image_processor_dict(where, local_files_only=True)
    if processor_kind(config).startswith("DepthPro"):
        return None, config
    pillow = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}
    try:
        with quiet(transformers):
            made = transformers.AutoImageProcessor.from_pretrained(where, local_files_only=True, **pillow)
    except (ImportError, ValueError, OSError):
        return None, config
    return made, {**made.to_dict(), **config}


@contextmanager
def sentences(name: str, what: str) -> Iterator[None]:
    """Turns what the library raises about files into one sentence with the remedy."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ModelError(
            f"the {what} '{name}' cannot be loaded ({first}); run `cross_view_loc models fetch {name}`, or give a "
            "folder that holds config.json, preprocessor_config.json and the weights"
        ) from error


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and advice on standard error."""
    log = transformers.utils.logging
    level, had_bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if had_bar:
            log.enable_progress_bar()
