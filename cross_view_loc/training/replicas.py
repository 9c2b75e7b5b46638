"""One network for several workers: the parameters are shared, the running statistics are each worker's own.

Two threads that update the same BatchNorm statistics race, and a run could not be repeated. Each worker therefore has
buffers of its own, and after a step all get the mean, as of a BatchNorm that saw all their batches at once.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from cross_view_loc.training.distributed import Processes


def replicate(network: nn.Module, count: int) -> list[nn.Module]:
    """`network` itself and count − 1 copies with its very parameters and buffers of their own."""
    shared = {id(parameter): parameter for parameter in network.parameters()}
    return [network] + [copy.deepcopy(network, dict(shared)) for _ in range(count - 1)]


@torch.no_grad()
def merge_buffers(replicas: list[nn.Module], processes: Processes) -> None:
    """Give all replicas, of all processes, the mean of their floating buffers; counters are the first one's."""
    if len(replicas) == 1 and processes.count == 1:
        return
    total = len(replicas) * processes.count
    columns = [list(column) for column in zip(*(replica.buffers() for replica in replicas), strict=True)]
    floating = [column for column in columns if column[0].is_floating_point()]
    if not floating:
        return
    # One flat vector a replica: a reduction per BatchNorm would cost more than the sums themselves.
    mean = torch.stack([torch.cat([column[i].reshape(-1) for column in floating]) for i in range(len(replicas))]).sum(0)
    mean = processes.add_up(mean) / total
    start = 0
    for column in floating:
        size = column[0].numel()
        for buffer in column:
            buffer.copy_(mean[start : start + size].view_as(buffer))
        start += size
