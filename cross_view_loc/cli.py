"""The `cross_view_loc` command: finds the sub-command, turns errors into one sentence and a non-zero exit."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from cross_view_loc import __version__
from cross_view_loc.errors import CrossViewError

COMMANDS = {
    "demo": "drive through a procedural town, run the real node over DDS, show its errors",
    "simulate": "write a town drive as rosbag2 with its aerial map and ground truth",
    "doctor": "say what is right and wrong with a recording, its map and this machine, and what to set",
    "run": "localize a rosbag offline, without ROS",
    "locate": "localize one ground image in one aerial image",
    "prefetch": "fetch the map of an area ahead of a drive, for use without a network",
    "map": "look into a map, check it along a track, cut a picture out of it",
    "evaluate": "measure errors by a stated protocol",
    "benchmark": "time the stages of the method on this machine",
    "train": "train the matcher or the depth network",
    "depth": "compute the depth of a data set's images once and keep it",
    "models": "list the weights there are, fetch or import released ones",
}
OUTPUT_CLOSED = 141
"""Exit status when the reader of the output went away, as of any program that SIGPIPE ends."""


def build_parser(selected: str | None) -> argparse.ArgumentParser:
    """Parser whose `selected` sub-command is fully configured; the others stay names, so start-up is fast."""
    parser = argparse.ArgumentParser(
        prog="cross_view_loc",
        description="Where a vehicle is and which way it faces, from its camera and an aerial image.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        child = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == selected:
            module = importlib.import_module(f"cross_view_loc.commands.{name}")
            child.description, child.epilog = summary, getattr(module, "EXAMPLES", None)
            module.configure(child)
            child.set_defaults(execute=module.execute)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; the exit status is 0 only on success."""
    # Threads that spin while they wait multiply the time of every step as soon as something else wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(words)
        sys.stdout.flush()  # here, where a reader that is gone can still be told from an error
    except BrokenPipeError:
        _let_go_of_stdout()
        return OUTPUT_CLOSED
    return status


def _run(words: list[str]) -> int:
    selected = next((word for word in words if not word.startswith("-")), None)
    options = build_parser(selected).parse_args(words)
    try:
        return int(options.execute(options))
    except CrossViewError as error:
        print(f"cross_view_loc {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or error
        print(
            f"cross_view_loc {options.command}: {where}{reason}; check the path, its rights and the disk",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"cross_view_loc {options.command}: interrupted", file=sys.stderr)
        return 130


def _let_go_of_stdout() -> None:
    """Nobody reads it any more (`| head`): what is left in its buffer goes nowhere, instead of failing at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
