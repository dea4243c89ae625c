"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) as in timm, with draws from the run's seed."""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from timm.data.mixup import Mixup as TimmMixup

from rdp.utils import rng

if TYPE_CHECKING:
    from rdp.spec import Recipe


class Mixup:
    """Mixes each example of a mini-batch with another, in reverse order, with one coefficient for all.

    If the recipe has both mixup and CutMix, each mini-batch uses one of them, with probability 1/2.

    Args:
        recipe: its ``mixup``, ``cutmix`` and ``label_smoothing`` are used.
        classes: number of classes.
        seed: of the run.
    """

    def __init__(self, recipe: "Recipe", classes: int, seed: int) -> None:
        smoothing = recipe.label_smoothing
        self._mix = TimmMixup(  # type: ignore[no-untyped-call] # timm does not annotate it
            recipe.mixup, recipe.cutmix, label_smoothing=smoothing, num_classes=classes
        )
        self._seed = seed

    def __call__(self, x: torch.Tensor, y: torch.Tensor, step: int, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed images (``x`` is overwritten) and soft labels, shape (n, classes); n must be even.

        The draws are a pure function of seed, step and start of the part of the mini-batch.
        """
        seed = rng.generator(self._seed, f"mix/{part.start or 0}", step).integers(2**32)
        # timm draws from numpy's global generator, whose state other code may depend on.
        before = np.random.get_state()  # noqa: NPY002 (timm draws from it)
        np.random.seed(int(seed))  # noqa: NPY002 (timm draws from it)
        try:
            return cast("tuple[torch.Tensor, torch.Tensor]", self._mix(x, y))
        finally:
            np.random.set_state(before)  # noqa: NPY002 (timm draws from it)
