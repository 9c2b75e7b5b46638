"""Several training processes started by torchrun: who am I, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cross_view_loc.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The elementwise sum of `values` over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def share_state(self, network: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.count > 1:
            with torch.no_grad():
                for value in network.state_dict().values():
                    dense = value.contiguous()  # a channels-last tensor cannot be sent as it lies
                    dist.broadcast(dense, 0)
                    value.copy_(dense)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()
"""The usual run."""


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """The group that torchrun started and this process's device ("cuda" becomes its own GPU); alone without torchrun.

    Gradients travel by NCCL between GPUs, by gloo between CPUs. Raises InputError for an incomplete environment.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is {count} but {missing[0]} is not set; start several processes with torchrun")
    is_cuda = device.startswith("cuda")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if is_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if is_cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def average_gradients(
    gradients: Sequence[Sequence[Tensor | None]], parameters: Sequence[nn.Parameter], processes: Processes
) -> None:
    """Set `.grad` to the mean over this process's batches and over the processes, summed in a fixed order.

    A parameter that no batch used anywhere keeps no gradient, so that the optimiser leaves it alone.
    """
    batches = len(gradients) * processes.count
    found = [[one[index] for one in gradients if one[index] is not None] for index in range(len(parameters))]
    sums = [torch.stack(each).sum(0) if each else None for each in found]  # type: ignore[arg-type]
    if processes.count == 1:
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = None if total is None else total / batches
        return
    used = torch.tensor([float(total is not None) for total in sums], device=parameters[0].device)
    dense = [torch.zeros_like(p) if total is None else total for p, total in zip(parameters, sums, strict=True)]
    flat = processes.add_up(torch.cat([used, *(total.reshape(-1) for total in dense)]))
    start = len(used)
    for index, parameter in enumerate(parameters):
        part = flat[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
        parameter.grad = torch.empty_like(parameter).copy_(part / batches) if float(flat[index]) > 0 else None
