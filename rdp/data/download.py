"""Download and unpack files. A file gets its name only after its checksum is verified."""

import gzip
import hashlib
import logging
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

from rdp.errors import UserError
from rdp.utils import files

OFFLINE = "RDP_OFFLINE"
log = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
_FAILURES = (OSError, EOFError, KeyError, HTTPException, tarfile.TarError, zlib.error)


class _TransferError(Exception):
    """A download or an archive is broken. The message is the reason."""


@dataclass(frozen=True)
class Remote:
    """A file to download to ``path`` from one of several identical copies, with its published checksum.

    ``members`` are the files to unpack from it, with their names in the archive; empty if it is used unpacked.
    """

    path: Path
    urls: list[str]
    md5: str
    members: dict[Path, str]


def download(name: str, remotes: Sequence[Remote]) -> None:
    """Download a dataset's files, each from the first address that works.

    Raises `UserError` if the network is unreachable or forbidden (``RDP_OFFLINE``), or no address has the file.
    """
    for i, remote in enumerate(remotes):
        reason = f"{OFFLINE} is set"
        for url in remote.urls if not os.environ.get(OFFLINE) else []:
            try:
                _transfer(url, remote.path, remote.md5)
                break
            except (_TransferError, OSError, HTTPException, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
        else:
            remaining = " ".join(other.urls[0] for other in remotes[i:])
            raise UserError(
                f"{remote.path}: {name} is missing and could not be downloaded ({reason}); "
                f"by hand: put {remaining} into {remote.path.parent}, then run: rdp data fetch {name}"
            )


def _transfer(url: str, path: Path, md5: str) -> None:
    """Download one file from one address."""
    # Some servers reject Python's default user agent.
    with urlopen(Request(url, headers={"User-Agent": "rdp"}), timeout=_TIMEOUT) as response:
        log.info("%s -> %s", url, path)
        checksum = hashlib.md5(usedforsecurity=False)
        with (
            files.write_session(path.parent, files.partial_pattern(path.name)),
            files.atomic_write(path) as part,
            part.open("wb") as file,
        ):
            for chunk in _chunks(response):
                checksum.update(chunk)
                file.write(chunk)
            if checksum.hexdigest() != md5:
                raise _TransferError(f"{url} has md5 {checksum.hexdigest()}, published {md5}")


def unpack(packed: Path, members: Mapping[Path, str], check: Callable[[Path, Path], str | None]) -> None:
    """Unpack files from a tar.gz or gz file: destinations, each with the member's name in a tar.gz.

    ``check`` maps a temporary file and its destination to what is wrong with the file, or None. Raises `UserError` if
    the archive is damaged or lacks a member, or the disk is full.
    """
    with _naming(packed), ExitStack() as stack:
        archive = stack.enter_context(tarfile.open(packed)) if packed.name.endswith(".tar.gz") else None
        for path, member in members.items():
            source = archive.extractfile(member) if archive else stack.enter_context(gzip.open(packed))
            if source is None:
                raise _TransferError(f"{member} in it is not a file")
            with files.write_session(path.parent, files.partial_pattern(path.name)), files.atomic_write(path) as part:
                with part.open("wb") as file:
                    for chunk in _chunks(source):
                        file.write(chunk)
                if problem := check(part, path):
                    raise _TransferError(f"{path.name} in it has {problem}")


def unpacks_to(packed: Path, path: Path) -> bool:
    """Whether a file equals the content of a gzip file."""
    with _naming(packed), gzip.open(packed) as expected, path.open("rb") as actual:
        while (chunk := expected.read(_CHUNK)) == actual.read(_CHUNK):
            if not chunk:
                return True
    return False


def _chunks(source: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The bytes of a source. Its failures raise `_TransferError`, to tell them from those of the destination."""
    while True:
        try:
            chunk = source.read(_CHUNK)
        except _FAILURES as error:
            raise _TransferError(str(error)) from None
        if not chunk:
            return
        yield chunk


@contextmanager
def _naming(packed: Path) -> Iterator[None]:
    """Name the archive in errors about its content."""
    try:
        yield
    except (_TransferError, *_FAILURES) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{packed}: damaged, or not the published file ({reason}); delete it") from None
