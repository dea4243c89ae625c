"""The index of a folder of class folders: every image's path, label and checksum, and what could not be decoded.

Made once, in one pass over all files in processes on all cores; from then on no file is trained on or evaluated whose
bytes are not those that the index was made of.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rdp.data.dataset import Prepared
from rdp.data.info import SPLITS
from rdp.data.listing import classes_of, listing
from rdp.data.sources.image_folders import Declaration, declaration
from rdp.errors import UserError
from rdp.utils import rng

_MOMENTS_OF = 10_000  # training images that mean and standard deviation are taken over
_CHUNK = 256  # files that a process examines at a time


@dataclass(frozen=True)
class Streamed(Prepared):
    """A dataset whose images are read from their files when they are needed.

    Attributes:
        arrays: ``train_y``, …: int64 labels (n,); ``train_sha256``, …: the files' checksums, (n, 32) bytes;
            ``train_names``, …: their paths below ``root``, each ended by a zero byte; ``mean`` and ``std``.
        root: the folder of the images.
    """

    root: Path

    @cached_property
    def _ends(self) -> dict[str, np.ndarray]:
        return {split: np.flatnonzero(self.arrays[f"{split}_names"] == 0) for split in SPLITS}

    def files(self, split: str, places: Sequence[int] | np.ndarray) -> tuple[list[str], bytes]:
        """Paths, and checksums of 32 bytes each, of the images at some places of a split."""
        ends, joined = self._ends[split], self.arrays[f"{split}_names"]
        names = (joined[ends[i - 1] + 1 if i else 0 : ends[i]].tobytes() for i in places)
        return [f"{self.root}/{os.fsdecode(name)}" for name in names], self.arrays[f"{split}_sha256"][places].tobytes()

    def examples(self, split: str, here: slice) -> np.ndarray:
        """Some images of a split, neither normalised nor augmented, uint8 of shape (n, 3, size, size).

        Raises:
            UserError: a file is absent, or not what it was when the index was made.
        """
        paths, checksums = self.files(split, np.arange(len(self.labels(split)))[here])
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            images = threads.map(self._example, paths, [checksums[i : i + 32] for i in range(0, len(checksums), 32)])
            return np.stack(list(images)) if paths else np.empty((0, *self.info.shape), np.uint8)

    def changed(self) -> Iterator[str]:
        """A line for each image file that is absent, or not what it was when the index was made."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            for split in SPLITS:
                paths, checksums = self.files(split, np.arange(len(self.labels(split))))
                each = [checksums[i : i + 32] for i in range(0, len(checksums), 32)]
                yield from (line for line in threads.map(_change, paths, each) if line)

    def _example(self, path: str, sha256: bytes) -> np.ndarray:
        from rdp.data import images

        return images.evaluated(images.decode(images.verified(path, sha256)), self.info.shape[1]).numpy()


def _change(path: str, sha256: bytes) -> str | None:
    from rdp.data import images

    try:
        images.verified(path, sha256)
    except UserError as error:
        return str(error)
    return None


def make(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of `Streamed`, and the reason why for the path of each image that cannot be decoded.

    Raises:
        UserError: folders are absent, or hold other classes or another number of images than was declared.
    """
    declared = declaration(name)
    found = _splits(name, declared)
    arrays: dict[str, np.ndarray] = {}
    unreadable: dict[str, str] = {}
    with _processes() as run:
        for split, files in found.items():
            names = [name for name, _ in files]
            examined = list(run(_examine, declared.root, names))
            bad = {name: reason for name, (_, reason) in zip(names, examined, strict=True) if reason}
            _check(declared, split, len(files), bad)
            unreadable |= bad
            kept = [place for place, name in enumerate(names) if name not in bad]
            joined = b"".join(os.fsencode(names[place]) + b"\0" for place in kept)
            arrays[f"{split}_names"] = np.frombuffer(joined, np.uint8)
            arrays[f"{split}_y"] = np.array([files[place][1] for place in kept], np.int64)
            arrays[f"{split}_sha256"] = np.frombuffer(b"".join(examined[i][0] for i in kept), np.uint8).reshape(-1, 32)
            if split == "train":
                some = rng.generator(0, f"moments/{name}").permutation(len(kept))[:_MOMENTS_OF]
                parts = list(run(_sums, declared.root, [names[kept[place]] for place in sorted(some)], declared.size))
                # Sums of integers: they do not depend on which process added what.
                count, total, squares = (sum(column) for column in zip(*parts, strict=True))
                mean = total / count
                arrays["mean"] = mean.astype(np.float32)
                arrays["std"] = np.sqrt(squares / count - mean**2).astype(np.float32)
    return arrays, unreadable


def _splits(name: str, declared: Declaration) -> dict[str, list[tuple[str, int]]]:
    """Path below the root and label of every image file of each split."""
    root = declared.root
    if not (root / declared.train).is_dir():
        hint = f": {declared.get}" if declared.get else ""
        raise UserError(f"{root / declared.train}: no such folder; {name} is needed{hint}")
    classes = classes_of(root / declared.train)
    if len(classes) != declared.classes:
        raise UserError(f"{root / declared.train}: {len(classes)} class folders, {name} has {declared.classes}")
    # In an order drawn once, so that the first so many of a split are of all classes.
    rest = _shuffled(listing(root, declared.train, classes), f"split/{name}")
    found: dict[str, list[tuple[str, int]]] = {}
    for split in ("validation", "test"):
        where = getattr(declared, split)
        if isinstance(where, int):
            found[split], rest = rest[-where:], rest[:-where]
        else:
            found[split] = _shuffled(listing(root, where, classes), f"split/{name}/{split}")
    return {"train": rest} | found


def _shuffled(files: list[tuple[str, int]], stream: str) -> list[tuple[str, int]]:
    return [files[place] for place in rng.generator(0, stream).permutation(len(files))]


def _check(declared: Declaration, split: str, count: int, bad: dict[str, str]) -> None:
    expected = getattr(declared.sizes, split)
    where = f"{declared.root}: {split}"
    if expected not in (count, count - len(bad)):
        explained = f", of which {len(bad)} cannot be decoded" if bad else ""
        raise UserError(f"{where}: {expected:,} images are declared, there are {count:,}{explained}")
    if count == len(bad):
        raise UserError(f"{where}: no image can be decoded")


@contextmanager
def _processes() -> Iterator[Callable[..., Iterator[Any]]]:
    """Processes on all cores: a function that maps another, by its name, over chunks of names of files."""
    context = get_context("forkserver")  # torch's threads survive no fork
    context.set_forkserver_preload(["rdp.training.trainer", "rdp.data.images"])
    pool = ProcessPoolExecutor(len(os.sched_getaffinity(0)), context)

    def run(function: Callable[..., list[Any]], root: Path, names: list[str], *rest: Any) -> Iterator[Any]:
        chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
        tasks = [pool.submit(function, root, chunk, *rest) for chunk in chunks]
        return (result for task in tasks for result in task.result())

    try:
        yield run
    except BrokenProcessPool:  # killed, for want of memory as a rule
        raise UserError("a process that reads images ended early") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _examine(root: Path, names: list[str]) -> list[tuple[bytes, str | None]]:
    """Each file's SHA-256, and why it cannot be decoded, or None."""
    import hashlib

    from rdp.data import images

    found: list[tuple[bytes, str | None]] = []
    for name in names:
        content, reason = images.read(root / name), None
        try:
            images.decode(content)
        except images.Unreadable as error:
            reason = str(error)
        found.append((hashlib.sha256(content).digest(), reason))
    return found


def _sums(root: Path, names: list[str], size: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Count, sums and sums of squares of the pixels of each channel, over images as they are evaluated."""
    from rdp.data import images

    count, total, squares = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    for name in names:
        pixels = images.evaluated(images.decode(images.read(root / name)), size).numpy().reshape(3, -1).astype(np.int64)
        count, total, squares = count + pixels.shape[1], total + pixels.sum(1), squares + (pixels**2).sum(1)
    return [(count, total, squares)]
