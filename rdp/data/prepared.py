"""Prepared datasets: what a source read, in one form, with its checksum.

Preparing reads and verifies a source once, on a machine that may have a network; training then needs neither
the network nor the source's own library. Of images that are streamed an index is kept, and they stay where they are.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rdp import data
from rdp.data.dataset import Prepared
from rdp.data.download import OFFLINE
from rdp.data.info import SPLITS, DatasetInfo
from rdp.errors import UserError
from rdp.utils import digest, files, paths
from rdp.utils.humanize import count

FORMAT = 2


def folder(name: str, results: Path) -> Path:
    """Where the dataset called ``name`` is kept once prepared."""
    return results / "data" / name


def prepare(name: str, results: Path, *, download: bool | None = None) -> Path:
    """Read, verify and keep the dataset called ``name``; return its manifest's path.

    Args:
        name: a dataset's name.
        results: the results directory.
        download: whether absent files may be fetched; by default unless ``RDP_OFFLINE`` is set.

    Raises:
        UserError: an unknown name, files that are absent or damaged, or a directory that cannot be written.
    """
    from safetensors.numpy import save_file

    info, unreadable = data.info(name), {}
    if data.streamed(name):
        from rdp.data import index

        arrays, unreadable = index.make(name)
        mean, std = arrays["mean"], arrays["std"]
        for line in [f"{path}: cannot be decoded ({reason})" for path, reason in sorted(unreadable.items())]:
            print(f"{name}: {UserError(line)}", file=sys.stderr)
        if unreadable:
            print(
                f"{name}: {count(len(unreadable), 'image')} left out, which cannot be decoded",
                file=sys.stderr,
                flush=True,
            )
    else:
        allowed = not os.environ.get(OFFLINE) if download is None else download
        arrays = data.source(name).read(name, paths.datasets(), allowed)
        _check(name, info, arrays)
        mean, std = _moments(arrays)
    target = folder(name, results)
    manifest = {
        "format": FORMAT,
        "name": name,
        "origin": info.origin,
        "licence": info.licence,
        "sizes": {split: len(arrays[f"{split}_y"]) for split in SPLITS},
        "mean": mean.tolist(),
        "std": std.tolist(),
        "digest": digest.of_arrays(arrays),
    }
    if data.streamed(name):
        manifest["unreadable"] = unreadable
    with files.write_session(target, *files.PARTIAL_PATTERNS):
        with files.atomic_write(target / "data.safetensors") as part:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, part)
        files.write_json(target / "manifest.json", digest.seal(manifest))
    return target / "manifest.json"


def _moments(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the training examples, per channel or feature."""
    # float64 sums: the mean of 45,000 images must not depend on the order of the additions.
    train = arrays["train_x"].astype(np.float64)
    axes = (0, *range(2, train.ndim))
    return train.mean(axes), train.std(axes)


def contradictions(found: Prepared) -> list[str]:
    """What of a loaded dataset does not follow from its arrays, whose checksum says nothing of it, a line each."""
    try:
        _check(found.name, found.info, found.arrays)
    except KeyError as error:
        return [f"it holds no {error}"]
    except UserError as error:
        return [str(error)]
    wrong = []
    for name, stated, given in zip(("mean", "std"), (found.mean, found.std), _moments(found.arrays), strict=True):
        if stated.shape != given.shape or not np.allclose(stated, given, rtol=1e-5):
            wrong.append(f"{name} is {stated.tolist()}; the training examples give {given.tolist()}")
    return wrong


def ensure(name: str, results: Path) -> None:
    """Prepare a dataset where it is absent, from files that are there."""
    if not (folder(name, results) / "manifest.json").exists():
        prepare(name, results, download=False)  # a job fetches nothing: it may run where there is no network


def load(name: str, results: Path) -> Prepared:
    """Load a prepared dataset, verified against its checksum; prepare it first where it is absent."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    target = folder(name, results)
    ensure(name, results)
    manifest = _manifest(name, target)
    try:
        arrays = load_file(target / "data.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(name, target, f"unreadable ({error})") from None
    found, expected = digest.of_arrays(arrays), manifest["digest"]
    if found != expected:
        raise _damaged(name, target, f"its checksum is {found[:12]}, the manifest says {expected[:12]}")
    mean, std = (np.asarray(manifest[key], np.float32) for key in ("mean", "std"))
    info = data.info(name)
    if data.streamed(name):
        from rdp.data import index
        from rdp.data.sources import image_folders

        info = replace(info, sizes=manifest["sizes"])  # without what cannot be decoded
        return index.Streamed(name, info, arrays, mean, std, found, image_folders.declaration(name).root)
    return Prepared(name, info, arrays, mean, std, found)


def standing(name: str, results: Path) -> tuple[str, str]:
    """How a dataset stands at a glance: prepared ``yes``, ``no`` or ``damaged``, and its checksum.

    Of the arrays only the presence is looked at; `load` verifies them.
    """
    target = folder(name, results)
    if not os.path.lexists(target / "manifest.json"):
        return "no", ""
    try:
        found = _manifest(name, target)["digest"]
    except UserError:
        return "damaged", ""
    # Who brings mini-batches of its own may keep its images elsewhere.
    gone = data.loader(name) == data.RESIDENT and not (target / "data.safetensors").is_file()
    return ("damaged", "") if gone else ("yes", found)


def _manifest(name: str, target: Path) -> dict[str, Any]:
    """The manifest of a prepared dataset, found whole."""
    try:
        manifest = files.read_json(target / "manifest.json")
    except UserError as error:
        raise UserError(f"{error}; run: rdp data prepare {name}") from None
    files.check_format(target / "manifest.json", manifest, "dataset", FORMAT, f"Run: rdp data prepare {name}")
    whole = isinstance(manifest, dict) and digest.unseal(manifest) and _shaped(manifest)
    if not whole or manifest["name"] != name:
        raise UserError(f"{target / 'manifest.json'}: damaged, or of another dataset; run: rdp data prepare {name}")
    checked: dict[str, Any] = manifest
    return checked


def _shaped(manifest: dict[str, Any]) -> bool:
    """Whether what is read of a manifest is of its type."""
    sizes = manifest.get("sizes")
    parts = [manifest.get("mean"), manifest.get("std"), list(sizes.values()) if isinstance(sizes, dict) else None]
    numbers = all(isinstance(part, list) and all(isinstance(n, float | int) for n in part) for part in parts)
    return numbers and all(isinstance(manifest.get(name), str) for name in ("name", "digest"))


def _damaged(name: str, target: Path, what: str) -> UserError:
    return UserError(f"{target / 'data.safetensors'}: damaged: {what}; run: rdp data prepare {name}")


def _check(name: str, info: DatasetInfo, arrays: dict[str, np.ndarray]) -> None:
    """Hold a source to what it says of itself."""
    for split in SPLITS:
        x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if x.shape != (info.sizes[split], *info.shape) or y.shape != (info.sizes[split],):
            raise UserError(f"dataset {name}: {split} has shapes {x.shape}, {y.shape}, not what its file says")
        if y.min() < 0 or y.max() >= info.classes:
            raise UserError(f"dataset {name}: {split} has labels outside 0 to {info.classes - 1}")
