"""An exponential moving average of a network's weights, which is what is evaluated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """The average of a network's state: parameters and running statistics, as timm's ``ModelEmaV3`` has it.

    Args:
        network: whose state it is; the average begins there.
        decay: how much of the average a step keeps, in (0, 1).

    Attributes:
        state: the average, by the names of the network's ``state_dict``; whole numbers are the network's own.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self._network = decay, network
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take a step towards what the network is now."""
        for name, tensor in self._network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, 1 - self.decay)
            else:
                self.state[name].copy_(tensor)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average for its weights, and afterwards its own again."""
        own = {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}
        try:
            self._load(self.state)
            yield
        finally:
            self._load(own)

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take up a ``state`` that was kept."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def _load(self, state: dict[str, torch.Tensor]) -> None:
        for name, tensor in self._network.state_dict().items():
            tensor.copy_(state[name])
