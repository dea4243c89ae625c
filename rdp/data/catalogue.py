"""What ``rdp data list``, ``fetch`` and ``verify`` say of datasets, by what their sources offer.

See `rdp.data` for what a source may offer.
"""

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
    """A row of `COLUMNS` for each dataset. Nothing is read but manifests."""
    root = paths.datasets()
    for name in data.available():
        info = data.info(name)
        there, size = _files(name, root)
        ready, checksum = prepared.standing(name, results)
        examples = " / ".join(str(count) for count in info.sizes.values())
        yield (name, there, ready, examples, str(info.classes), size, checksum[:12], info.licence, _get(name))


def fetch(name: str) -> str:
    """Download what is absent of a dataset's files, verify them all, and say where they lie.

    Raises:
        UserError: no network, a damaged file, or a dataset that no command gets: how it is got.
    """
    source, root = data.source(name), paths.datasets()
    if hasattr(source, "BUNDLED"):
        return f"{name}: nothing to fetch: {source.BUNDLED}"
    if hasattr(source, "fetch"):
        source.fetch(name, root)
    wrong = problems(name, root)
    if not hasattr(source, "fetch") and (wrong or not hasattr(source, "files")):
        raise UserError(f"{name}: no command downloads it; how to get it: {data.info(name).get}")
    if wrong:
        raise UserError(wrong[0])
    return _told(name, root)


def verify(name: str, results: Path) -> tuple[list[str], list[str]]:
    """Hold a dataset's files against their published checksums, and its prepared form against its manifest.

    Returns:
        What is well, and what is absent or damaged, a line each.
    """
    root, kept = paths.datasets(), prepared.folder(name, results)
    wrong = problems(name, root)
    well = [] if wrong else [_told(name, root)]
    try:
        if prepared.standing(name, results)[0] == "no":  # or it would be prepared now
            raise UserError(f"{kept / 'manifest.json'}: no such file; run: rdp data prepare {name}")
        found = prepared.load(name, results)
        changed = list(found.changed())
        wrong += changed
        if not changed:
            well.append(f"{name}: {kept} as its manifest says, checksum {found.digest[:12]}")
    except UserError as error:
        wrong.append(str(error))
    return well, wrong


def problems(name: str, root: Path) -> list[str]:
    """What is absent or damaged of a dataset's files, as far as its source can tell."""
    source = data.source(name)
    if hasattr(source, "verify"):
        return list(source.verify(name, root))
    wanted = source.files(name, root) if hasattr(source, "files") else []
    absent = [path for path in wanted if _bytes(path) is None]
    return [f"{path}: no such file or folder; {name} is needed: {_get(name)}" for path in absent]


def _told(name: str, root: Path) -> str:
    """That a dataset's files are well."""
    source = data.source(name)
    if hasattr(source, "BUNDLED"):
        return f"{name}: no files needed: {source.BUNDLED}"
    found = len(source.files(name, root)) if hasattr(source, "files") else 0
    count = humanize.count(found, "file") if found else "its files"
    return f"{name}: {count} in {root}, {'as published' if hasattr(source, 'verify') else 'not verified'}"


def _files(name: str, root: Path) -> tuple[str, str]:
    """Which of a dataset's files are there (``yes``, ``part``, ``no``), and their size or that of the download."""
    source, download = data.source(name), data.info(name).download_bytes
    if hasattr(source, "BUNDLED"):
        return "none needed", ""
    found = [_bytes(path) for path in source.files(name, root)] if hasattr(source, "files") else []
    there = [size for size in found if size is not None]
    if there and len(there) == len(found):
        return "yes", humanize.size(sum(there)) if sum(there) else ""
    size = f"{humanize.size(download)} to download" if download else ""
    return ("part" if there else "no") if found else "unknown", size


def _bytes(path: Path) -> int | None:
    """A file's size, or 0 of a folder with anything in it; None where there is none."""
    try:
        if path.is_dir():
            return 0 if any(path.iterdir()) else None
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _get(name: str) -> str:
    source = data.source(name)
    if hasattr(source, "BUNDLED"):
        return source.BUNDLED
    return f"rdp data fetch {name}" if hasattr(source, "fetch") else data.info(name).get
