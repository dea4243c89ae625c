"""Implement ``rdp data list``, ``fetch`` and ``verify`` with the optional functions of sources, see `rdp.data`."""

import stat
from collections.abc import Iterator
from pathlib import Path

from rdp import data
from rdp.data import prepared
from rdp.errors import UserError
from rdp.utils import humanize, paths

COLUMNS = (
    "dataset",
    "files",
    "prepared",
    "train / validation / test",
    "classes",
    "size",
    "checksum",
    "licence",
    "how to get it",
)


def rows(results: Path) -> Iterator[tuple[str, ...]]:
    """One row of `COLUMNS` per dataset. Reads only manifests."""
    root = paths.datasets()
    for name in data.available():
        info = data.info(name)
        presence, size = _presence(name, root)
        status, checksum = prepared.status(name, results)
        examples = " / ".join(str(count) for count in info.sizes.values())
        yield (name, presence, status, examples, str(info.classes), size, checksum[:12], info.licence, _remedy(name))


def fetch(name: str) -> str:
    """Download the missing files of a dataset, verify all of them, and return a line for the user.

    Raises `UserError` if the network is unreachable, a file is damaged, or no command downloads the dataset.
    """
    source, root = data.source(name), paths.datasets()
    if hasattr(source, "BUNDLED"):
        return f"{name}: nothing to fetch: {source.BUNDLED}"
    if hasattr(source, "fetch"):
        source.fetch(name, root)
    lines = problems(name, root)
    if not hasattr(source, "fetch") and (lines or not hasattr(source, "files")):
        raise UserError(f"{name}: no command downloads it; how to get it: {data.info(name).get}")
    if lines:
        raise UserError(lines[0])
    return _summary(name, root)


def verify(name: str, results: Path) -> tuple[list[str], list[str]]:
    """Compare a dataset's files with their published checksums, and its prepared form with its manifest.

    Returns lines about what is intact, and lines about what is missing or damaged.
    """
    root, folder = paths.datasets(), prepared.folder(name, results)
    bad = problems(name, root)
    intact = [] if bad else [_summary(name, root)]
    try:
        if prepared.status(name, results)[0] == "no":  # `load` would prepare it
            raise UserError(f"{folder / 'manifest.json'}: no such file; run: rdp data prepare {name}")
        dataset = prepared.load(name, results)
        changed = list(dataset.changed())
        bad += changed
        if not changed:
            intact.append(f"{name}: {folder} matches its manifest, checksum {dataset.digest[:12]}")
    except UserError as error:
        bad.append(str(error))
    return intact, bad


def problems(name: str, root: Path) -> list[str]:
    """One line per missing or damaged file of a dataset, as far as its source can tell."""
    source = data.source(name)
    if hasattr(source, "verify"):
        return list(source.verify(name, root))
    files = source.files(name, root) if hasattr(source, "files") else []
    missing = [path for path in files if _bytes(path) is None]
    return [f"{path}: no such file or folder; {name} is needed: {_remedy(name)}" for path in missing]


def _summary(name: str, root: Path) -> str:
    """A line that says that a dataset's files are complete."""
    source = data.source(name)
    if hasattr(source, "BUNDLED"):
        return f"{name}: no files needed: {source.BUNDLED}"
    number = len(source.files(name, root)) if hasattr(source, "files") else 0
    files = humanize.count(number, "file") if number else "its files"
    return f"{name}: {files} in {root}, {'as published' if hasattr(source, 'verify') else 'not verified'}"


def _presence(name: str, root: Path) -> tuple[str, str]:
    """Whether a dataset's files are present (``yes``, ``part``, ``no``), and the size of files or download."""
    source, download = data.source(name), data.info(name).download_bytes
    if hasattr(source, "BUNDLED"):
        return "none needed", ""
    sizes = [_bytes(path) for path in source.files(name, root)] if hasattr(source, "files") else []
    present = [size for size in sizes if size is not None]
    if present and len(present) == len(sizes):
        return "yes", humanize.size(sum(present)) if sum(present) else ""
    size = f"{humanize.size(download)} to download" if download else ""
    return ("part" if present else "no") if sizes else "unknown", size


def _bytes(path: Path) -> int | None:
    """The size of a file, or 0 for a non-empty folder; None if it is missing."""
    try:
        if path.is_dir():
            return 0 if any(path.iterdir()) else None
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _remedy(name: str) -> str:
    """How to get a dataset: a command, or instructions."""
    source = data.source(name)
    if hasattr(source, "BUNDLED"):
        return str(source.BUNDLED)
    return f"rdp data fetch {name}" if hasattr(source, "fetch") else data.info(name).get
