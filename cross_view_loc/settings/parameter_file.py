"""ROS parameter files, read without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cross_view_loc.errors import InputError


def read_parameter_file(path: str | Path) -> dict[str, Any]:
    """Names and values of every `ros__parameters` block in the file, later blocks winning.

    Raises InputError when the file is missing, is no YAML or has no such block.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a parameter file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{path} is not valid YAML ({reason}); compare with config/localizer.yaml") from error
    blocks = list(content.values()) if isinstance(content, dict) else []
    found = [block["ros__parameters"] for block in blocks if isinstance(block, dict) and "ros__parameters" in block]
    if not found or not all(isinstance(block, dict) for block in found):
        raise InputError(f"{path} has no ros__parameters; start it with '/**:' and an indented 'ros__parameters:'")
    return {name: value for block in found for name, value in block.items()}
