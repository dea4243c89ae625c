"""Exponential moving average of a network's weights, used for evaluation and stored with the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class ExponentialMovingAverage:
    """Average of a network's parameters and running statistics, equal to timm's ``ModelEmaV3``.

    Args:
        network: the network; the average starts at its state.
        decay: weight of the average in each update, in (0, 1).

    Attributes:
        state: the average, with the keys of the network's ``state_dict``. Integer tensors are copied, not averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self._network = decay, network
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's state."""
        for name, tensor in self._network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, 1 - self.decay)
            else:
                self.state[name].copy_(tensor)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the network the average as its weights while the block lasts."""
        own = {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}
        try:
            self._load(self.state)
            yield
        finally:
            self._load(own)

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Overwrite the average with a saved ``state``."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def _load(self, state: dict[str, torch.Tensor]) -> None:
        for name, tensor in self._network.state_dict().items():
            tensor.copy_(state[name])
