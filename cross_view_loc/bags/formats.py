"""Where recordings lie on disk, and what helps against each way in which one cannot be read."""

from __future__ import annotations

from pathlib import Path

import yaml

FILE_SUFFIXES = (".mcap", ".db3", ".bag")
"""Endings of files that are bags by themselves."""
METADATA = "metadata.yaml"
"""What makes a folder a rosbag2 folder."""

_OTHERWISE = {
    "no such table: message_definitions": "its table message_definitions is missing although its version promises one: "
    "write it anew with `ros2 bag convert`",
    "Some database files are missing": "put the named files back beside its metadata.yaml, or give one of its files",
    "Profile is not ros2": "it is an MCAP file of something else than ROS 2: convert it to the profile ros2",
    "Unrecognized storage format": "give a rosbag2 folder, an .mcap, .db3 or .bag file",
    "encryption": "decrypt it first",
    "not supported": "convert it with `ros2 bag convert`",
}
"""What helps where nothing is damaged, by words of the library's error."""


def bags_in(folder: Path) -> list[Path]:
    """The recordings that lie directly in a folder, in order of name; empty when there are none.

    These are rosbag2 folders and bag files. A rosbag2 folder has none: its files are parts of itself.
    """
    if not folder.is_dir() or (folder / METADATA).exists():
        return []
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(
        (path for path in found if (path / METADATA).is_file() or (path.suffix in FILE_SUFFIXES and path.is_file())),
        key=lambda path: path.name,
    )


def indexable_files(path: Path) -> list[Path]:
    """The files of a bag that can be read without their index, in order.

    Empty where one is missing, is a database, or is compressed once more.
    """
    if path.is_file():
        return [path] if path.suffix in (".mcap", ".bag") else []
    if not (path / METADATA).exists():
        return []
    try:
        told = yaml.safe_load((path / METADATA).read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        names, mode = list(told["relative_file_paths"]), str(told.get("compression_mode", ""))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):  # it was cut off as well
        names, mode = [], ""
    files = [path / Path(name).name for name in names] or sorted(path.glob("*.mcap"))
    is_plain = mode.lower() in ("", "none") and all(file.suffix == ".mcap" and file.is_file() for file in files)
    return files if is_plain else []


def repair(path: Path) -> str:
    """The command that repairs a damaged bag of this format, as the end of a sentence."""
    files = [file for file in sorted(path.iterdir()) if file.suffix in FILE_SUFFIXES] if path.is_dir() else [path]
    broken = files[0] if files else path
    if len(files) > 1:
        broken = broken.with_name(f"FILE{broken.suffix}")  # which of them is not known
    command = {
        ".mcap": f"`mcap recover {broken} -o repaired.mcap`",
        # Not .recover: many builds of sqlite3 lack what it needs.
        ".db3": f"`sqlite3 {broken} .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 repaired.db3`",
        ".bag": f"`rosbag reindex {broken}` (ROS 1)",
    }.get(broken.suffix, f"`ros2 bag reindex {path}`")
    return f"repair it with {command}, or record it again"


def remedy(path: Path, why: str) -> str:
    """What helps against an error of the library at opening, as the end of a sentence."""
    if path.is_dir() and not (path / METADATA).exists():
        inside = [file.name for file in bags_in(path)]
        if inside:
            return f"it holds several recordings: give one of them ({', '.join(inside)})"
        return "it is no rosbag2 folder and no recording lies in it: give a rosbag2 folder, an .mcap, .db3 or .bag file"
    return next((help_ for words, help_ in _OTHERWISE.items() if words in why), "") or repair(path)
