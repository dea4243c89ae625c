"""Mini-batches of images that do not fit into device memory, decoded and augmented in parallel processes.

Neither the number of processes, nor gradient accumulation, nor a resumed run changes any of their bits.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rdp.data import augment, images, workers
from rdp.data.batches import Batches
from rdp.errors import UserError
from rdp.utils import rng

if TYPE_CHECKING:
    from rdp.data.index import Streamed
    from rdp.spec import Recipe

Key = tuple[int, int, int]  # step, and start and end of a slice of its mini-batch


class TrainingBatches(Batches):
    """The mini-batches of a run, as a pure function of the step; cut from each epoch as resident ones are.

    Processes start with the first mini-batch, and end with `close`, this object, or the interpreter.
    """

    def __init__(self, data: "Streamed", recipe: "Recipe", seed: int, device: torch.device) -> None:
        if (available := len(data.labels("train"))) < (recipe.train_size or 0):
            raise UserError(f"dataset {data.name}: {available} training images can be decoded, not {recipe.train_size}")
        super().__init__(data, recipe, seed, device)
        self.data = data
        # Alternating flips depend on the image and the epoch, and come with each task.
        flips_at_random = recipe.flip is True
        transforms = (recipe.resized_crop, recipe.crop_padding, flips_at_random, recipe.randaugment)
        self._augmentation = (data.info.shape[1], *transforms, tuple(data.mean.tolist()))
        try:
            _augmentation(*self._augmentation)
        except ValueError as error:
            raise UserError(f"recipe.{error}") from None
        size = self.size  # a closure over self would delay its deletion, and with it the end of the processes
        self._order = lru_cache(2)(lambda epoch: rng.generator(seed, "order", epoch).permutation(size))
        self._pool: workers.Pool | None = None
        self._current: Key | None = None
        self._slices: list[tuple[int, int]] = []  # of mini-batches, as requested so far

    def batch(self, step: int, examples: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """As `rdp.data.batches.TrainingBatches.batch`; raises `UserError` for a file that is missing or changed."""
        selected = range(self.recipe.batch_size)[examples]
        key = (step, selected.start, selected.stop)
        pool = self._start_pool(len(selected))
        if key != self._current:
            keys = [key, *self._upcoming(key, pool.prefetch)]
            pool.discard_except(set(keys))
            for step, start, stop in keys:
                pool.request((step, start, stop), self._task((step, start, stop)), stop - start)
            self._current = key
        x = torch.from_numpy(pool.get(key)).to(self.device)
        if self.recipe.channels_last:
            x = x.permute(0, 3, 1, 2)
        index = torch.from_numpy(self._indices(key)).to(self.device)
        return self.finish(x, key[0], slice(*key[1:])), self.y[index]

    def close(self) -> None:
        """Stop the processes. The next mini-batch starts new ones."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._current = None

    def _start_pool(self, size: int) -> workers.Pool:
        """The running pool, restarted if its arrays are too small for ``size`` images."""
        if self._pool is not None and self._pool.shape[0] < size:
            self.close()
        if self._pool is None:
            side = self.data.info.shape[1]
            shape = (side, side, 3) if self.recipe.channels_last else (3, side, side)
            preload = ["rdp.training.trainer", augment.__name__, *(["timm.data"] if self.recipe.randaugment else [])]
            self._pool = workers.Pool(_fill, (size, *shape), workers.count(), preload)
        return self._pool

    def _upcoming(self, key: Key, number: int) -> list[Key]:
        """The next requests after ``key`` in a run, which asks for the same slices at every step."""
        step, current = key[0], key[1:]
        if current not in self._slices:
            self._slices.append(current)
        rest = self._slices[self._slices.index(current) + 1 :]
        later = range(step + 1, step + 1 + number)
        return [*((step, *other) for other in rest), *((s, *other) for s in later for other in self._slices)][:number]

    def _indices(self, key: Key) -> np.ndarray:
        """The indices of the images of ``key`` in the training split."""
        epoch, batch = divmod(key[0], self.steps_per_epoch)
        first = batch * self.recipe.batch_size
        order: np.ndarray = self._order(epoch)[first + key[1] : first + key[2]]
        return order

    def _task(self, key: Key) -> tuple[Any, ...]:
        """The arguments of `_fill` for the images of ``key``."""
        draws, indices = (self.seed, key[0], self.recipe.batch_size), self._indices(key)
        flips = np.zeros(len(indices), bool)
        if self.recipe.flip == "alternating":
            flips = self.alternating_flips(key[0] // self.steps_per_epoch, indices)
        layout, exif = self.recipe.channels_last, self.data.exif_orientation
        return (self._augmentation, draws, key[1:], flips, layout, exif, *self.data.files("train", indices))


_augmentation = cache(augment.Augmentation)


def _fill(task: tuple[Any, ...], out: np.ndarray) -> None:
    """Decode and augment images into ``out``, (n, 3, size, size), or (n, size, size, 3) for channels-last."""
    arguments, draws, (start, stop), flips, channels_last, exif, paths, checksums = task
    augmentation, seeds = _augmentation(*arguments), augment.seeds(*draws)[start:stop]
    target = torch.from_numpy(out)
    if channels_last:
        target = target.permute(0, 3, 1, 2)
    for i, (path, seed) in enumerate(zip(paths, seeds, strict=True)):
        content = images.read_verified(path, checksums[32 * i : 32 * i + 32])
        try:
            target[i] = augmentation(images.decode(content, exif), seed, bool(flips[i]))
        except Exception as error:  # libraries raise exceptions of many types
            raise UserError(f"{path}: cannot be decoded or augmented ({type(error).__name__}: {error})") from None
