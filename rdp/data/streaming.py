"""Mini-batches of images that do not fit the device: decoded and augmented in processes, some steps ahead.

What a mini-batch holds is a function of seed and step alone. How many processes there are, in which parts it is asked
for and at which step a run was resumed changes no bit of it.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from rdp.data import augment, images, workers
from rdp.data.batches import Normaliser
from rdp.errors import UserError
from rdp.utils import rng

if TYPE_CHECKING:
    from rdp.data.index import Streamed
    from rdp.spec import Recipe

Key = tuple[int, int, int]  # a step, and first and last place in its mini-batch


class TrainingBatches:
    """The mini-batches of a run: a pure function of the step.

    Each epoch is a permutation of the training set, cut into full mini-batches; the incomplete last one is left out.
    Processes start with the first mini-batch and end with `close`, with this object or with the interpreter.

    Raises:
        UserError: fewer images could be decoded than the recipe trains on, or timm does not know the RandAugment.
    """

    def __init__(self, data: "Streamed", recipe: "Recipe", seed: int, device: torch.device) -> None:
        labels = data.labels("train")[: recipe.train_size]
        self.data, self.recipe, self.seed, self.device = data, recipe, seed, device
        self.size = len(labels)
        if self.size < (recipe.train_size or 0):
            raise UserError(f"dataset {data.name}: {self.size} training images can be decoded, not {recipe.train_size}")
        self.steps_per_epoch = self.size // recipe.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch_size {recipe.batch_size} is more than the {self.size} training examples")
        self.y = torch.from_numpy(labels).to(device)
        self.normalise = Normaliser(data, device)
        how = (recipe.resized_crop, recipe.crop_padding, recipe.flip, recipe.randaugment)
        self._how = (data.info.shape[1], *how, tuple(data.mean.tolist()))
        try:
            _augmentation(*self._how)
        except ValueError as error:
            raise UserError(f"recipe.{error}") from None
        size = self.size  # not self, which would then be freed late, and with it the processes
        self._order = lru_cache(2)(lambda epoch: rng.generator(seed, "order", epoch).permutation(size))
        self._pool: workers.Pool | None = None
        self._held: Key | None = None
        self._stride = 1  # from a step to the next that is asked for
        # The parts that the last step's mini-batch was asked for in, and those that this one's was until now.
        self._parts: list[tuple[int, int]] = []
        self._asked: list[tuple[int, int]] = []

    def batch(self, step: int, part: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised examples of shape (n, 3, size, size) and labels of shape (n,): a part of the mini-batch of
        optimizer step ``step``, by default the whole.

        Raises:
            UserError: an image is absent, or not what it was when the dataset was prepared; its path is told.
        """
        here = range(self.recipe.batch_size)[part]
        key = (step, here.start, here.stop)
        pool = self._pool_for(len(here))
        if key != self._held:
            following = self._foresee(key)
            pool.keep({key, *following})
            for wanted in (key, *following):
                pool.ask(wanted, self._task(wanted), wanted[2] - wanted[1])
            self._held = key
        x = torch.from_numpy(pool.take(key)).to(self.device)
        if self.recipe.channels_last:
            x = x.permute(0, 3, 1, 2)
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        index = torch.from_numpy(self._places(key)).to(self.device)
        return self.normalise(x).contiguous(memory_format=layout), self.y[index]

    def close(self) -> None:
        """End the processes; the next mini-batch would start others."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._held = None

    def _pool_for(self, size: int) -> workers.Pool:
        """The processes, with room for so many images at a time."""
        if self._pool is not None and self._pool.shape[0] < size:
            self.close()
        if self._pool is None:
            side = self.data.info.shape[1]
            shape = (side, side, 3) if self.recipe.channels_last else (3, side, side)
            preload = ["rdp.training.trainer", augment.__name__, *(["timm.data"] if self.recipe.randaugment else [])]
            self._pool = workers.Pool(_fill, (size, *shape), workers.count(), preload)
        return self._pool

    def _foresee(self, key: Key) -> list[Key]:
        """What will be asked for after ``key``: the step's other parts, and the same parts of the steps that follow."""
        step, part = key[0], key[1:]
        if self._held is not None and step != self._held[0]:
            # A method that goes over a mini-batch twice leaves every other one out.
            self._stride = 2 if step - self._held[0] == 2 else 1
            self._parts, self._asked = self._asked, []
        if part not in self._asked:
            self._asked.append(part)
        parts = self._parts if part in self._parts else self._asked
        steps = range(step + self._stride, step + self._stride * (self._pool.ahead + 1), self._stride)
        rest = [(step, *other) for other in parts[parts.index(part) + 1 :]]
        return [*rest, *((later, *other) for later in steps for other in parts)][: self._pool.ahead]

    def _places(self, key: Key) -> np.ndarray:
        """Where in the training split the images of ``key`` stand, in their order."""
        epoch, place = divmod(key[0], self.steps_per_epoch)
        first = place * self.recipe.batch_size
        return self._order(epoch)[first + key[1] : first + key[2]]

    def _task(self, key: Key) -> tuple:
        """What a process needs to know to make the images of ``key``."""
        numbers = (self.seed, key[0], self.recipe.batch_size)
        return (self._how, numbers, key[1:], self.recipe.channels_last, *self.data.files("train", self._places(key)))


_augmentation = cache(augment.Augmentation)


def _fill(task: tuple, out: np.ndarray) -> None:
    """In a process: make the images of a mini-batch, (n, 3, size, size), or (n, size, size, 3) as the task says."""
    how, numbers, (first, last), channels_last, paths, checksums = task
    augmentation, rows = _augmentation(*how), augment.draws(*numbers)[first:last]
    target = torch.from_numpy(out)
    if channels_last:
        target = target.permute(0, 3, 1, 2)
    for place, (path, row) in enumerate(zip(paths, rows, strict=True)):
        content = images.verified(path, checksums[32 * place : 32 * place + 32])
        try:
            target[place] = augmentation(images.decode(content), row)
        except Exception as error:  # whatever a library meets with, in an image of a million
            raise UserError(f"{path}: cannot be made ready to train on ({type(error).__name__}: {error})") from None
