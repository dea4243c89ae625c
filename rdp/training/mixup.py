"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899), as timm has them, with draws of our own seeds."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from timm.data import Mixup

from rdp.utils import rng

if TYPE_CHECKING:
    from rdp.spec import Recipe


class Mixing:
    """Mixes the examples of a mini-batch with one another, the first with the last: one of the two ways, either with
    probability 1/2 where the recipe has both, and one share for all.

    Args:
        recipe: its ``mixup``, ``cutmix`` and ``label_smoothing``.
        classes: how many there are.
        seed: of the run.
    """

    def __init__(self, recipe: "Recipe", classes: int, seed: int) -> None:
        smoothing = recipe.label_smoothing
        self._mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=smoothing, num_classes=classes)
        self._seed = seed

    def __call__(self, x: torch.Tensor, y: torch.Tensor, step: int, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed images, in place of ``x``, and soft labels, shape (n, classes); n is even.

        The draws are a pure function of seed, step and where the part begins.
        """
        draw = rng.generator(self._seed, f"mix/{part.start or 0}", step).integers(2**32)
        # timm draws from numpy's global generator, which is nobody else's business.
        before = np.random.get_state()  # noqa: NPY002 (timm draws from it)
        np.random.seed(int(draw))  # noqa: NPY002 (timm draws from it)
        try:
            return self._mix(x, y)
        finally:
            np.random.set_state(before)  # noqa: NPY002 (timm draws from it)
