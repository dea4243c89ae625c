"""Scaled learning rates in single steps of an optimizer of torch."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


class LearningRateScale:
    """Multiplies the learning rates of an optimizer during each of its steps, and restores them afterwards.

    So learning rate schedulers read and change the rates as without it.

    Args:
        optimizer: the optimizer.
        scale: called before each step; returns the factor.
    """

    def __init__(self, optimizer: Optimizer, scale: Callable[[], float]) -> None:
        self._scale = scale
        self._rates: list[Any] = []  # of the parameter groups, during a step
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Remove the hooks from the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        self._after_step(optimizer)  # a step that raised an error left its rates behind
        scale = self._scale()
        if scale != 1:
            self._rates = [group["lr"] for group in optimizer.param_groups]
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * scale

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=False):
            group["lr"] = rate
        self._rates = []
