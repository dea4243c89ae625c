"""Prepared datasets: the arrays of a source in one format, with their checksum.

A source is read and verified once, on a machine that may have a network. Training then needs neither the network nor
the source's own library. For streamed images, only an index is stored; the images stay in their folder.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rdp import data
from rdp.data.dataset import SPLITS, DatasetInfo, Prepared
from rdp.data.download import OFFLINE
from rdp.errors import UserError
from rdp.utils import digest, files, paths
from rdp.utils.humanize import count

FORMAT = 2
log = logging.getLogger(__name__)


def folder(name: str, results: Path) -> Path:
    """The folder of a prepared dataset."""
    return results / "data" / name


def prepare(name: str, results: Path, *, download: bool | None = None) -> Path:
    """Read, verify and store a dataset; returns the path of its manifest.

    Missing files are downloaded if ``download``, by default unless ``RDP_OFFLINE`` is set. Raises `UserError` if files
    are missing or damaged, or the folder cannot be written.
    """
    from safetensors.numpy import save_file

    info = data.info(name)
    arrays, extra = _index(name) if data.streamed(name) else (_read(name, info, download), {})
    mean, std = (arrays["mean"], arrays["std"]) if data.streamed(name) else _moments(arrays)
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
    } | extra
    with files.write_session(target, *files.PARTIAL_PATTERNS):
        with files.atomic_write(target / "data.safetensors") as part:
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, part)
        files.write_json(target / "manifest.json", digest.seal(manifest))
    return target / "manifest.json"


def _index(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The index of a folder of images, and its entry in the manifest."""
    from rdp.data import index
    from rdp.data.sources import image_folders

    arrays, findings = index.make(name)
    for path, reason in sorted(findings.unreadable.items()):
        log.warning("%s: %s", name, UserError(f"{path}: cannot be decoded ({reason})"))
    for path, other in sorted(findings.duplicates.items()):
        log.warning("%s: %s", name, UserError(f"{path}: has the same bytes as {other}, which is in another split"))
    for path in findings.loops:
        log.warning("%s: %s", name, UserError(f"{path}: a link to a folder that contains it"))
    if findings.loops:
        log.warning("%s: left out %s to a folder that contains it", name, count(len(findings.loops), "link"))
    lines = []
    if findings.unreadable:
        lines.append(f"left out {count(len(findings.unreadable), 'image')} that cannot be decoded")
    if findings.duplicates:
        lines.append(f"{count(len(findings.duplicates), 'image')} of validation and test are in an earlier split too")
    for line in lines:
        log.warning("%s: %s", name, line)
    if lines and image_folders.declaration(name).strict:
        raise UserError(f"{name}: {'; '.join(lines)}; its declaration is strict")
    recorded = {"unreadable": findings.unreadable, "duplicates": findings.duplicates, "loops": findings.loops}
    return arrays, recorded


def _read(name: str, info: DatasetInfo, download: bool | None) -> dict[str, np.ndarray]:
    """The arrays of a dataset's source, checked against its properties."""
    permitted = not os.environ.get(OFFLINE) if download is None else download
    arrays: dict[str, np.ndarray] = data.source(name).read(name, paths.datasets(), permitted)
    _check(name, info, arrays)
    return arrays


def _moments(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the training examples, per channel or feature."""
    # float64 sums: the mean of 45,000 images must not depend on the order of the additions.
    train = arrays["train_x"].astype(np.float64)
    axes = (0, *range(2, train.ndim))
    return train.mean(axes), train.std(axes)


def inconsistencies(dataset: Prepared) -> list[str]:
    """One line per property of a loaded dataset that contradicts its arrays; their checksum does not cover these."""
    try:
        _check(dataset.name, dataset.info, dataset.arrays)
    except KeyError as error:
        return [f"it has no {error}"]
    except UserError as error:
        return [str(error)]
    lines = []
    moments = _moments(dataset.arrays)
    for name, stated, actual in zip(("mean", "std"), (dataset.mean, dataset.std), moments, strict=True):
        if stated.shape != actual.shape or not np.allclose(stated, actual, rtol=1e-5):
            lines.append(f"{name} is {stated.tolist()}; the training examples give {actual.tolist()}")
    return lines


def ensure(name: str, results: Path) -> None:
    """Prepare a dataset unless it is prepared already, without a download."""
    if not (folder(name, results) / "manifest.json").exists():
        prepare(name, results, download=False)  # jobs may run on nodes without a network


def load(name: str, results: Path) -> Prepared:
    """Load a dataset and verify its checksum; prepares it first if necessary.

    Raises `UserError` if the prepared form is damaged, or preparation fails.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    target = folder(name, results)
    ensure(name, results)
    manifest = _manifest(name, target)
    try:
        arrays = load_file(target / "data.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(name, target, f"unreadable ({error})") from None
    actual, expected = digest.of_arrays(arrays), manifest["digest"]
    if actual != expected:
        raise _damaged(name, target, f"its checksum is {actual[:12]}, the manifest says {expected[:12]}")
    mean, std = (np.asarray(manifest[key], np.float32) for key in ("mean", "std"))
    info = data.info(name)
    if data.streamed(name):
        from rdp.data import index
        from rdp.data.sources import image_folders

        declared = image_folders.declaration(name)
        info = replace(info, sizes=manifest["sizes"])  # without images that cannot be decoded
        streamed = index.Streamed(name, info, arrays, mean, std, actual, declared.root)
        if streamed.exif_orientation != declared.exif_orientation:
            raise UserError(f"{target}: made with another exif_orientation; run: rdp data prepare {name}")
        return streamed
    return Prepared(name, info, arrays, mean, std, actual)


def status(name: str, results: Path) -> tuple[str, str]:
    """Whether a dataset is prepared (``yes``, ``no`` or ``damaged``), and its checksum.

    Reads only the manifest; `load` verifies the arrays.
    """
    target = folder(name, results)
    if not os.path.lexists(target / "manifest.json"):
        return "no", ""
    try:
        checksum = _manifest(name, target)["digest"]
    except UserError:
        return "damaged", ""
    # A dataset with batches of its own may store its images elsewhere.
    incomplete = not data.streamed(name) and not (target / "data.safetensors").is_file()
    return ("damaged", "") if incomplete else ("yes", checksum)


def _manifest(name: str, target: Path) -> dict[str, Any]:
    """The verified manifest of a prepared dataset."""
    try:
        manifest = files.read_json(target / "manifest.json")
    except UserError as error:
        raise UserError(f"{error}; run: rdp data prepare {name}") from None
    files.check_format(target / "manifest.json", manifest, "dataset", FORMAT, f"Run: rdp data prepare {name}")
    intact = isinstance(manifest, dict) and digest.unseal(manifest) and _well_formed(manifest)
    if not intact or manifest["name"] != name:
        raise UserError(f"{target / 'manifest.json'}: damaged, or of another dataset; run: rdp data prepare {name}")
    checked: dict[str, Any] = manifest
    return checked


def _well_formed(manifest: dict[str, Any]) -> bool:
    """Whether the fields of a manifest have the right types."""
    sizes = manifest.get("sizes")
    lists = [manifest.get("mean"), manifest.get("std"), list(sizes.values()) if isinstance(sizes, dict) else None]
    numeric = all(isinstance(values, list) and all(isinstance(n, float | int) for n in values) for values in lists)
    return numeric and all(isinstance(manifest.get(key), str) for key in ("name", "digest"))


def _damaged(name: str, target: Path, reason: str) -> UserError:
    return UserError(f"{target / 'data.safetensors'}: damaged: {reason}; run: rdp data prepare {name}")


def _check(name: str, info: DatasetInfo, arrays: dict[str, np.ndarray]) -> None:
    """Raise `UserError` for arrays that contradict the properties of their dataset."""
    for split in SPLITS:
        x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if x.shape != (info.sizes[split], *info.shape) or y.shape != (info.sizes[split],):
            raise UserError(f"dataset {name}: {split} has shapes {x.shape}, {y.shape}, not those of its DatasetInfo")
        if y.min() < 0 or y.max() >= info.classes:
            raise UserError(f"dataset {name}: {split} has labels outside 0 to {info.classes - 1}")
