"""Process groups: the processes that train one run together, each on its part of every mini-batch.

Most runs have a group of one process, `SINGLE`, which adds no cost. `rdp.jobs.distributed` starts several. All of
them take the same steps, so a decision of the main process holds for all (`ProcessGroup.on_main`).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """A process group, seen from one of its processes."""

    rank: int = 0  # index of this process; process 0 is the main one
    size: int = 1  # number of processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes records and checkpoints."""
        return self.rank == 0

    def microbatches(self, batch_size: int, accumulate: int) -> list[slice]:
        """Slices of a mini-batch that this process computes in turn, ``accumulate`` of equal size.

        Several slices of one process are the slices of as many processes with one each.

        Raises:
            ValueError: the mini-batch cannot be divided equally.
        """
        size, remainder = divmod(batch_size, self.size * accumulate)
        if remainder:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {self.size} processes x {accumulate} parts")
        indices = range(self.rank * accumulate, (self.rank + 1) * accumulate)
        return [slice(index * size, (index + 1) * size) for index in indices]

    def wrap(self, network: nn.Module, device: torch.device, *, freezes: bool) -> nn.Module:
        """The network as `DistributedDataParallel`, which averages gradients over processes; itself in a group of one.

        If iterations freeze parameters, unused ones are searched for at each step.
        """
        if self.size == 1:
            return network
        ids = [device.index] if device.type == "cuda" else None
        # Buffers are broadcast from the main process: running statistics follow its part of each mini-batch.
        return nn.parallel.DistributedDataParallel(network, device_ids=ids, find_unused_parameters=freezes)

    def no_sync(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Context in which gradients accumulate in this process, for all backward passes of a step but the last."""
        return network.no_sync() if isinstance(network, nn.parallel.DistributedDataParallel) else nullcontext()

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the processes, in place, and return it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors with those of the main process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def on_main(self, function: Callable[[], T]) -> T:
        """The result of a function that only the main process calls; the others wait for it."""
        if self.size == 1:
            return function()
        results = [function() if self.is_main else None]
        distributed.broadcast_object_list(results)
        return cast("T", results[0])


SINGLE = ProcessGroup()
