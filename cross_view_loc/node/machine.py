"""What the node takes of the machine: processor, memory, and memory of the GPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cross_view_loc.node.health import OK, Verdict

STATM = Path("/proc/self/statm")


class Machine:
    """Processor time since the last question; `clock` is a monotonic clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at, self._spent_s = clock(), _spent_s()

    def verdict(self, device: str) -> Verdict:
        """Always OK; `device` is the parameter."""
        now, spent_s = self._clock(), _spent_s()
        share = (spent_s - self._spent_s) / max(now - self._asked_at, 1e-3)
        self._asked_at, self._spent_s = now, spent_s
        memory_mb = resident_mb()
        values = {"device": device, "cpu (cores)": f"{share:.2f}"}
        values["memory (MB)"] = "unknown" if memory_mb is None else f"{memory_mb:.0f}"
        sentence = f"{share:.2f} cores, {values['memory (MB)']} MB"
        gpu_mb = gpu_memory_mb()
        if gpu_mb is not None:
            values |= {"gpu memory in use (MB)": f"{gpu_mb[0]:.0f}", "gpu memory reserved (MB)": f"{gpu_mb[1]:.0f}"}
            sentence += f", {gpu_mb[0]:.0f} MB of the GPU"
        return Verdict("machine", OK, sentence, values)


def resident_mb() -> float | None:
    """Memory of this process in RAM; None where the system does not tell."""
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def gpu_memory_mb() -> tuple[float, float] | None:
    """What the networks use and what torch keeps for them; None without a GPU in use."""
    torch = sys.modules.get("torch")  # not imported for this
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.memory_allocated() / 1e6, torch.cuda.memory_reserved() / 1e6


def _spent_s() -> float:
    times = os.times()
    return times.user + times.system
