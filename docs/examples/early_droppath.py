"""Droppath for the first half of training only."""

from rdp.methods import FULL, Iteration, Training
from rdp.methods.schedules.droppath import DropPath


class EarlyDropPath(DropPath):
    """Droppath per example until step ``until``, vanilla afterwards."""

    until: int = 500

    def iteration(self, step: int, training: Training) -> Iteration:
        if step >= self.until:
            return FULL
        return super().iteration(step, training)
