"""Mini-batches and their augmentation, on the device that stores the images."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from rdp.utils import rng

if TYPE_CHECKING:
    from rdp.data.dataset import Prepared
    from rdp.spec import Recipe


class Normaliser:
    """Normalise to (x - mean) / std in float32, per channel or feature."""

    def __init__(self, data: "Prepared", device: torch.device) -> None:
        shape = (1, -1, *[1] * (len(data.info.shape) - 1))
        # Dividing a constant feature by 1 leaves it at 0.
        std = np.where(data.std > 0, data.std, 1).astype(np.float32)
        self.mean = torch.from_numpy(data.mean).view(shape).to(device)
        self.inverse_std = torch.from_numpy(1 / std).view(shape).to(device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(torch.float32) - self.mean) * self.inverse_std


def cutout_mask(centres: np.ndarray, side: int, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a square of ``side`` pixels around each centre, booleans of shape (n, height, width).

    ``centres`` are rows and columns, shape (2, n). A square may extend beyond its image of shape (height, width). Of an
    even side, one pixel more is before the centre than behind it.
    """
    inside = []
    for centre, length in zip(centres, shape, strict=True):
        first = centre[:, None] - side // 2
        pixels = np.arange(length)
        inside.append((first <= pixels) & (pixels < first + side))
    mask: np.ndarray = inside[0][:, :, None] & inside[1][:, None, :]
    return mask


class Batches:
    """What resident and streamed mini-batches share: labels, sizes, normalisation, memory layout and two augmentations.

    Those are Cutout and alternating flips. Both are drawn for the whole mini-batch or training set, wherever its images
    are decoded.
    """

    def __init__(self, data: "Prepared", recipe: "Recipe", seed: int, device: torch.device) -> None:
        labels = data.labels("train")[: recipe.train_size]
        self.recipe, self.seed, self.device = recipe, seed, device
        self.size = len(labels)
        self.steps_per_epoch = self.size // recipe.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch_size {recipe.batch_size} is more than the {self.size} training examples")
        self.y = torch.from_numpy(labels).to(device)
        self.normalise = Normaliser(data, device)
        if recipe.flip == "alternating":
            self._flipped_first = rng.generator(seed, "flip").integers(2, size=self.size)

    def alternating_flips(self, epoch: int, images: np.ndarray) -> np.ndarray:
        """Whether each image, given by its index, is flipped in an epoch: at random in the first, then in turn."""
        flipped: np.ndarray = (self._flipped_first[images] + epoch) % 2 == 1
        return flipped

    def finish(self, x: torch.Tensor, step: int, examples: slice) -> torch.Tensor:
        """Normalise ``examples`` of a step's mini-batch. Cut squares out of images, and give them the recipe's layout.

        The square of Cutout (arXiv 1708.04552) has a uniform centre in the image. It is set to 0, the mean
        of normalised images.
        """
        x = self.normalise(x)
        if x.dim() == 4:
            layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
            x = x.contiguous(memory_format=layout)
            if self.recipe.cutout:
                height, width = x.shape[2:]
                draw = rng.generator(self.seed, "cutout", step)
                centres = draw.integers([[height], [width]], size=(2, self.recipe.batch_size))
                mask = cutout_mask(centres[:, examples], self.recipe.cutout, (height, width))
                x.masked_fill_(torch.from_numpy(mask).to(self.device)[:, None], 0.0)
        return x

    def close(self) -> None:
        """Release resources, if there are any."""


class TrainingBatches(Batches):
    """The mini-batches of a run, as a pure function of the step.

    The training set stays on the device in its original type (images as uint8). Each epoch is a permutation of it, cut
    into full mini-batches; examples of an incomplete mini-batch are skipped. Crops and flips are drawn once per epoch
    and applied while gathering the images, with one indexing operation per mini-batch.
    """

    def __init__(self, data: "Prepared", recipe: "Recipe", seed: int, device: torch.device) -> None:
        super().__init__(data, recipe, seed, device)
        self.augments = data.info.kind == "image" and (recipe.crop_padding > 0 or bool(recipe.flip))
        self.height, self.width = data.info.shape[1:] if data.info.kind == "image" else (0, 0)
        self.x = torch.from_numpy(data.arrays["train_x"][: self.size]).to(device)
        if self.augments:
            pad = recipe.crop_padding
            # Channels last, so that gathered crops have the layout that is fastest for convolutions.
            self.x = torch.nn.functional.pad(self.x, (pad, pad, pad, pad)).permute(0, 2, 3, 1).contiguous()
        self._epoch = -1

    def _start(self, epoch: int) -> None:
        """Draw the order and the augmentations of one epoch."""
        order = rng.generator(self.seed, "order", epoch).permutation(self.size)
        self._order = torch.from_numpy(order).to(self.device)
        if self.augments:
            draw = rng.generator(self.seed, "augment", epoch)
            offsets = draw.integers(0, 2 * self.recipe.crop_padding + 1, (2, self.size, 1))
            if self.recipe.flip == "alternating":
                flips = self.alternating_flips(epoch, order)[:, None]
            else:
                flips = draw.random((self.size, 1)) < (0.5 if self.recipe.flip else 0.0)
            columns = np.arange(self.width)
            rows = offsets[0] + np.arange(self.height)
            columns = offsets[1] + np.where(flips, columns[::-1], columns)
            self._rows = torch.from_numpy(rows).to(self.device)
            self._columns = torch.from_numpy(columns).to(self.device)
        self._epoch = epoch

    def batch(self, step: int, examples: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """A step's mini-batch, or a slice of it: normalised examples, shape (n, …), and labels, shape (n,)."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start(epoch)
        first = number * self.recipe.batch_size
        places = range(first, first + self.recipe.batch_size)[examples]
        selected = slice(places.start, places.stop)
        index = self._order[selected]
        if self.augments:
            rows, columns = self._rows[selected], self._columns[selected]
            x = self.x[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        else:
            x = self.x[index]
        return self.finish(x, step, examples), self.y[index]
