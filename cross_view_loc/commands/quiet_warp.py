"""Starts NVIDIA Warp without its warning that a machine without a GPU has none: towns are rendered on the CPU too."""

from __future__ import annotations

import os
import sys
import tempfile

from cross_view_loc.errors import MissingInputError

NO_GPU = b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"
STDERR = 2


def start_warp() -> None:
    """Initialise Warp, where it is installed, and pass on what it says but for that line.

    The line comes from its library, past Python's streams and its own log level.
    """
    try:
        from cross_view_loc.simulation.warp_runtime import wp
    except MissingInputError:  # whoever renders says so; pictures that are kept need none
        return
    sys.stderr.flush()
    kept = os.dup(STDERR)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), STDERR)
        try:
            wp.init()
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            said.seek(0)
            os.write(STDERR, b"".join(line for line in said if not line.startswith(NO_GPU)))
