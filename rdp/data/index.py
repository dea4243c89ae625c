"""The index of a folder of images: the path, label and checksum of each, and the images that cannot be decoded.

It is made once, in processes on all cores. A damaged file may end its process, which costs no other file. From then on,
a file whose bytes differ from the indexed ones is an error in training and evaluation.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rdp.data.class_folders import class_names, list_images
from rdp.data.dataset import SPLITS, Prepared
from rdp.data.isolation import Died, isolated_map
from rdp.data.sources.image_folders import Declaration, declaration
from rdp.errors import UserError
from rdp.utils import rng

_MOMENT_SAMPLE = 10_000  # training images for mean and standard deviation
_PRELOAD = ["rdp.training.trainer", "rdp.data.images"]


@dataclass(frozen=True)
class Streamed(Prepared):
    """A dataset whose images are read from their files, below ``root``, as needed.

    Its arrays are int64 labels ``train_y``, …; checksums of the files ``train_sha256``, …, (n, 32) bytes; zero-
    terminated paths relative to ``root``, ``train_names``, …; ``mean`` and ``std``; and ``exif_orientation`` if images
    are turned by it, so that the checksum of the arrays covers it.
    """

    root: Path

    @property
    def exif_orientation(self) -> bool:
        """Whether images are turned as their EXIF orientation says."""
        return "exif_orientation" in self.arrays

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
            return images.evaluation_crop(images.decode(content, self.exif_orientation), self.info.shape[1]).numpy()

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


@dataclass
class Findings:
    """What is wrong with the images of a folder, by their paths relative to it.

    Attributes:
        unreadable: why an image is left out.
        duplicates: the image of an earlier split that has the same bytes as an image of validation or test.
        loops: links to a folder that contains them, which are not followed.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)


def make(name: str) -> tuple[dict[str, np.ndarray], Findings]:
    """Index a declared folder of images: the arrays of `Streamed`, and what is wrong with the images.

    Raises `UserError` for missing folders, and for classes or numbers of images that contradict the declaration.
    """
    declared = declaration(name)
    exif = declared.exif_orientation
    arrays: dict[str, np.ndarray] = {"exif_orientation": np.ones(1, np.uint8)} if exif else {}
    findings, earlier = Findings(), dict[bytes, str]()
    splits = _splits(name, declared, findings.loops)
    every = [(declared.root / file, exif) for files in splits.values() for file, _ in files]
    results = iter(_in_processes(_examine, every))
    for split, files in splits.items():
        names = [name for name, _ in files]
        examined = [(b"", str(found)) if isinstance(found, Died) else found for found in islice(results, len(files))]
        bad = {name: reason for name, (_, reason) in zip(names, examined, strict=True) if reason}
        _check_size(declared, split, len(files), bad)
        findings.unreadable |= bad
        good = [i for i, name in enumerate(names) if name not in bad]
        joined = b"".join(os.fsencode(names[i]) + b"\0" for i in good)
        arrays[f"{split}_names"] = np.frombuffer(joined, np.uint8)
        arrays[f"{split}_y"] = np.array([files[i][1] for i in good], np.int64)
        arrays[f"{split}_sha256"] = np.frombuffer(b"".join(examined[i][0] for i in good), np.uint8).reshape(-1, 32)
        findings.duplicates |= {names[i]: earlier[examined[i][0]] for i in good if examined[i][0] in earlier}
        earlier = {examined[i][0]: names[i] for i in good} | earlier
        if split == "train":
            sample = rng.generator(0, f"moments/{name}").permutation(len(good))[:_MOMENT_SAMPLE]
            chosen = [declared.root / names[good[i]] for i in sorted(sample)]
            arrays["mean"], arrays["std"] = _moments(chosen, declared.size, exif)
    return arrays, findings


def _splits(name: str, declared: Declaration, loops: list[str]) -> dict[str, list[tuple[str, int]]]:
    """The path relative to the root, and the label, of every image file of each split; adds to the list of loops."""
    root = declared.root
    if not (root / declared.train).is_dir():
        hint = f": {declared.get}" if declared.get else ""
        raise UserError(f"{root / declared.train}: no such folder; {name} is needed{hint}")
    classes = class_names(root / declared.train)
    if len(classes) != declared.classes:
        raise UserError(f"{root / declared.train}: {len(classes)} class folders, {name} has {declared.classes}")

    def files(subfolder: str, stream: str) -> list[tuple[str, int]]:
        listing = list_images(root, subfolder, classes)
        loops.extend(listing.loops)
        # In random order, so that the start of each split has examples of all classes.
        return _shuffled(listing.images, stream)

    train = files(declared.train, f"split/{name}")
    splits: dict[str, list[tuple[str, int]]] = {}
    for split in ("validation", "test"):
        part = getattr(declared, split)
        if isinstance(part, int):
            splits[split], train = train[-part:], train[:-part]
        else:
            splits[split] = files(part, f"split/{name}/{split}")
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


def _moments(files: list[Path], size: int, exif: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the pixels of each channel, float32, of images cropped for evaluation."""
    sums = _in_processes(_sums, [(file, size, exif) for file in files])
    for file, found in zip(files, sums, strict=True):
        if isinstance(found, Died):
            raise UserError(f"{file}: {found}")
    # Integer sums do not depend on the assignment of images to processes.
    count, total, squares = np.sum(sums, axis=0)
    mean = total / count
    return mean.astype(np.float32), np.sqrt(squares / count - mean**2).astype(np.float32)


def _in_processes(function: Callable[..., Any], items: list[tuple[Any, ...]]) -> list[Any]:
    """`isolated_map` for items that begin with a file; raises `UserError` if memory seems to be short."""
    results = isolated_map(function, items, _PRELOAD)
    for (file, *_), result in zip(items, results, strict=True):
        if isinstance(result, Died) and result.killed:
            raise UserError(f"{file}: the process that reads it was killed twice; the machine may lack memory")
    return results


def _examine(file: Path, exif: bool) -> tuple[bytes, str | None]:
    """The SHA-256 of a file, and the reason if it cannot be decoded."""
    from rdp.data import images

    if file.is_symlink() and not file.exists():
        return b"", "a link to a missing file"
    content, reason = images.read(file), None
    try:
        images.decode(content, exif)
    except images.Unreadable as error:
        reason = str(error)
    return hashlib.sha256(content).digest(), reason


def _sums(file: Path, size: int, exif: bool) -> np.ndarray:
    """Number, sum and sum of squares of the pixels of each channel of an image cropped for evaluation."""
    from rdp.data import images

    crop = images.evaluation_crop(images.decode(images.read(file), exif), size)
    pixels = crop.numpy().reshape(3, -1).astype(np.int64)
    return np.stack([np.full(3, pixels.shape[1]), pixels.sum(1), (pixels**2).sum(1)])
