"""The index of a folder of images: the path, label and checksum of each, and the images that cannot be decoded.

It is made once, in processes on all cores. From then on, a file whose bytes differ from the indexed ones is an error in
training and evaluation.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rdp.data.class_folders import class_names, list_images
from rdp.data.dataset import SPLITS, Prepared
from rdp.data.sources.image_folders import Declaration, declaration
from rdp.errors import UserError
from rdp.utils import rng

_MOMENT_SAMPLE = 10_000  # training images for mean and standard deviation
_CHUNK = 256  # files per task of a process


@dataclass(frozen=True)
class Streamed(Prepared):
    """A dataset whose images are read from their files, below ``root``, as needed.

    Its arrays are int64 labels ``train_y``, …; checksums of the files ``train_sha256``, …, (n, 32) bytes; zero-
    terminated paths relative to ``root``, ``train_names``, …; and ``mean`` and ``std``.
    """

    root: Path

    @cached_property
    def _ends(self) -> dict[str, np.ndarray]:
        """The positions of the zero bytes that end the paths of each split."""
        return {split: np.flatnonzero(self.arrays[f"{split}_names"] == 0) for split in SPLITS}

    def files(self, split: str, indices: Sequence[int] | np.ndarray) -> tuple[list[str], bytes]:
        """The paths of some images of a split, and their concatenated checksums of 32 bytes each."""
        ends, joined = self._ends[split], self.arrays[f"{split}_names"]
        names = (joined[ends[i - 1] + 1 if i else 0 : ends[i]].tobytes() for i in indices)
        checksums = self.arrays[f"{split}_sha256"][indices].tobytes()
        return [f"{self.root}/{os.fsdecode(name)}" for name in names], checksums

    def examples(self, split: str, indices: slice) -> np.ndarray:
        """Images of a split, neither normalised nor augmented, uint8 of shape (n, 3, size, size)."""
        from rdp.data import images

        def load(path: str, sha256: bytes) -> np.ndarray:
            content = images.read_verified(path, sha256)
            return images.evaluation_crop(images.decode(content), self.info.shape[1]).numpy()

        loaded = list(self._map(load, split, indices))
        return np.stack(loaded) if loaded else np.empty((0, *self.info.shape), np.uint8)

    def changed(self) -> Iterator[str]:
        from rdp.data import images

        def check(path: str, sha256: bytes) -> str | None:
            try:
                images.read_verified(path, sha256)
            except UserError as error:
                return str(error)
            return None

        for split in SPLITS:
            yield from filter(None, self._map(check, split, slice(None)))

    def _map(self, function: Callable[[str, bytes], Any], split: str, indices: slice) -> Iterator[Any]:
        """Map a function over path and checksum of some images of a split, in threads on all cores."""
        paths, checksums = self.files(split, np.arange(len(self.labels(split)))[indices])
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            yield from threads.map(function, paths, [checksums[i : i + 32] for i in range(0, len(checksums), 32)])


def make(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Index a declared folder of images: the arrays of `Streamed`, and why some images cannot be decoded, by path.

    Raises `UserError` for missing folders, and for classes or numbers of images that contradict the declaration.
    """
    declared = declaration(name)
    arrays: dict[str, np.ndarray] = {}
    unreadable: dict[str, str] = {}
    with _process_pool() as pool:
        for split, files in _splits(name, declared).items():
            names = [name for name, _ in files]
            examined = list(pool.map(_examine, [declared.root / name for name in names], chunksize=_CHUNK))
            bad = {name: reason for name, (_, reason) in zip(names, examined, strict=True) if reason}
            _check_size(declared, split, len(files), bad)
            unreadable |= bad
            good = [i for i, name in enumerate(names) if name not in bad]
            joined = b"".join(os.fsencode(names[i]) + b"\0" for i in good)
            arrays[f"{split}_names"] = np.frombuffer(joined, np.uint8)
            arrays[f"{split}_y"] = np.array([files[i][1] for i in good], np.int64)
            arrays[f"{split}_sha256"] = np.frombuffer(b"".join(examined[i][0] for i in good), np.uint8).reshape(-1, 32)
            if split == "train":
                sample = rng.generator(0, f"moments/{name}").permutation(len(good))[:_MOMENT_SAMPLE]
                chosen = [declared.root / names[good[i]] for i in sorted(sample)]
                # Integer sums do not depend on the assignment of images to processes.
                count, total, squares = np.sum(
                    list(pool.map(_sums, chosen, repeat(declared.size), chunksize=_CHUNK)), axis=0
                )
                mean = total / count
                arrays["mean"] = mean.astype(np.float32)
                arrays["std"] = np.sqrt(squares / count - mean**2).astype(np.float32)
    return arrays, unreadable


def _splits(name: str, declared: Declaration) -> dict[str, list[tuple[str, int]]]:
    """The path relative to the root, and the label, of every image file of each split."""
    root = declared.root
    if not (root / declared.train).is_dir():
        hint = f": {declared.get}" if declared.get else ""
        raise UserError(f"{root / declared.train}: no such folder; {name} is needed{hint}")
    classes = class_names(root / declared.train)
    if len(classes) != declared.classes:
        raise UserError(f"{root / declared.train}: {len(classes)} class folders, {name} has {declared.classes}")
    # In random order, so that the start of each split has examples of all classes.
    train = _shuffled(list_images(root, declared.train, classes), f"split/{name}")
    splits: dict[str, list[tuple[str, int]]] = {}
    for split in ("validation", "test"):
        part = getattr(declared, split)
        if isinstance(part, int):
            splits[split], train = train[-part:], train[:-part]
        else:
            splits[split] = _shuffled(list_images(root, part, classes), f"split/{name}/{split}")
    return {"train": train} | splits


def _shuffled(files: list[tuple[str, int]], stream: str) -> list[tuple[str, int]]:
    return [files[i] for i in rng.generator(0, stream).permutation(len(files))]


def _check_size(declared: Declaration, split: str, count: int, bad: dict[str, str]) -> None:
    """Raise `UserError` if the number of images in a split is not the declared one."""
    expected = getattr(declared.sizes, split)
    location = f"{declared.root}: {split}"
    if expected not in (count, count - len(bad)):
        explanation = f", of which {len(bad)} cannot be decoded" if bad else ""
        raise UserError(f"{location}: {expected:,} images are declared, there are {count:,}{explanation}")
    if count == len(bad):
        raise UserError(f"{location}: no image can be decoded")


@contextmanager
def _process_pool() -> Iterator[ProcessPoolExecutor]:
    """Processes on all cores."""
    context = get_context("forkserver")  # forking a process that runs torch's threads is unsafe
    context.set_forkserver_preload(["rdp.training.trainer", "rdp.data.images"])
    pool = ProcessPoolExecutor(len(os.sched_getaffinity(0)), context)
    try:
        yield pool
    except BrokenProcessPool:  # usually killed for lack of memory
        raise UserError("a process that reads images ended early; the machine may lack memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _examine(file: Path) -> tuple[bytes, str | None]:
    """The SHA-256 of a file, and the reason if it cannot be decoded."""
    from rdp.data import images

    content, reason = images.read(file), None
    try:
        images.decode(content)
    except images.Unreadable as error:
        reason = str(error)
    return hashlib.sha256(content).digest(), reason


def _sums(file: Path, size: int) -> np.ndarray:
    """Number, sum and sum of squares of the pixels of each channel of an image cropped for evaluation."""
    from rdp.data import images

    crop = images.evaluation_crop(images.decode(images.read(file)), size)
    pixels = crop.numpy().reshape(3, -1).astype(np.int64)
    return np.stack([np.full(3, pixels.shape[1]), pixels.sum(1), (pixels**2).sum(1)])
