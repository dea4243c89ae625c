"""Droppath for the first half of training only."""

from rdp.methods import FULL, Iteration
from rdp.methods.schedules.droppath import DropPath


class EarlyDropPath(DropPath):
    """Droppath per example until step ``until``, vanilla afterwards."""

    until: int = 500

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        if step >= self.until:
            return FULL
        return super().iteration(step, units=units, batch_size=batch_size, seed=seed)
