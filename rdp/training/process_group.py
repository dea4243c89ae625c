"""The processes that train a run together, each on its share of every mini-batch.

One process alone is the world of nearly every run, and costs nothing. `rdp.jobs.distributed` starts several.
All of them take the same steps, so whatever one of them decides, it decides for all (`World.first`).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Some processes that train together, as one of them sees it.

    Attributes:
        rank: which this one is, from 0; the first keeps records and checkpoints.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that keeps what is trained."""
        return self.rank == 0

    def parts(self, batch_size: int, accumulate: int) -> list[slice]:
        """The parts of a mini-batch that this process computes, one after another: ``accumulate`` equal ones.

        Several parts of one process are those of as many processes with one part each.
        """
        size, rest = divmod(batch_size, self.size * accumulate)
        if rest:
            raise ValueError(f"batch_size {batch_size} is no multiple of {self.size} processes x {accumulate} parts")
        places = range(self.rank * accumulate, (self.rank + 1) * accumulate)
        return [slice(place * size, (place + 1) * size) for place in places]

    def join(self, network: nn.Module, device: torch.device, *, freezes: bool) -> nn.Module:
        """What to call in place of a network, so that its gradients become means over the processes.

        Args:
            network: the same in every process.
            device: where it is.
            freezes: whether iterations leave parameters out, so that those in use must be told anew each time.
        """
        if self.size == 1:
            return network
        ids = [device.index] if device.type == "cuda" else None
        # Buffers are the first one's: running statistics go by its share of each mini-batch.
        return nn.parallel.DistributedDataParallel(network, device_ids=ids, find_unused_parameters=freezes)

    def alone(self, network: nn.Module) -> AbstractContextManager[Any]:
        """While a backward pass is not the last of its step: gradients stay with this process."""
        return nullcontext() if self.size == 1 else network.no_sync()

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Make tensors what they are in the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def first(self, decide: Callable[[], T]) -> T:
        """What the first process finds; the others wait for it, and do not look."""
        if self.size == 1:
            return decide()
        found = [decide() if self.leads else None]
        distributed.broadcast_object_list(found)
        return found[0]


ALONE = World()
