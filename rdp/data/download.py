"""Downloads: whole and verified, or not there; and the files that come out of them."""

import gzip
import hashlib
import os
import sys
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
_PIECE = 1 << 20  # bytes
_PATIENCE = 60  # seconds without a byte
_FAILURES = (OSError, EOFError, KeyError, HTTPException, tarfile.TarError, zlib.error)


class _Broken(Exception):
    """A transfer that came to nothing, and why."""


@dataclass(frozen=True)
class Remote:
    """A file to download, and what comes of it.

    Attributes:
        path: where it goes.
        urls: where equal copies of it are.
        md5: its published checksum.
        gives: the files that it holds, with their names in it; none for one that is read as it is.
    """

    path: Path
    urls: list[str]
    md5: str
    gives: dict[Path, str]


def download(name: str, remotes: Sequence[Remote]) -> None:
    """Fetch a dataset's files, each from the first address that has it, verified before it takes its name.

    Raises:
        UserError: no network, or none that is allowed (``RDP_OFFLINE``), or no address with that file.
    """
    for i, remote in enumerate(remotes):
        reason = f"{OFFLINE} is set"
        for url in remote.urls if not os.environ.get(OFFLINE) else []:
            try:
                _transfer(url, remote.path, remote.md5)
                break
            except (_Broken, OSError, HTTPException, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
        else:
            left = " ".join(other.urls[0] for other in remotes[i:])
            raise UserError(
                f"{remote.path}: {name} is absent and could not be downloaded ({reason}); "
                f"by hand: put {left} into {remote.path.parent}, then run: rdp data fetch {name}"
            )


def _transfer(url: str, path: Path, md5: str) -> None:
    """Fetch one file from one address."""
    # Some servers turn Python's own name away.
    with urlopen(Request(url, headers={"User-Agent": "rdp"}), timeout=_PATIENCE) as response:
        print(f"{url} -> {path}", file=sys.stderr, flush=True)
        found = hashlib.md5(usedforsecurity=False)
        with (
            files.write_session(path.parent, files.partial_pattern(path.name)),
            files.atomic_write(path) as part,
            part.open("wb") as file,
        ):
            for piece in _pieces(response):
                found.update(piece)
                file.write(piece)
            if found.hexdigest() != md5:
                raise _Broken(f"{url} has md5 {found.hexdigest()}, published {md5}")


def unpack(packed: Path, wanted: Mapping[Path, str], wrong: Callable[[Path, Path], str | None]) -> None:
    """Write what a tar.gz or gz file holds.

    Args:
        packed: the file.
        wanted: where to, with the member's name in a tar.gz.
        wrong: says what is wrong with a part that is to take the name of one of these; None where all is well.

    Raises:
        UserError: a damaged file, one that does not hold these, or a full disk.
    """
    with _readable(packed), ExitStack() as stack:
        archive = stack.enter_context(tarfile.open(packed)) if packed.name.endswith(".tar.gz") else None
        for path, member in wanted.items():
            source = archive.extractfile(member) if archive else stack.enter_context(gzip.open(packed))
            if source is None:
                raise _Broken(f"{member} in it is no file")
            with files.write_session(path.parent, files.partial_pattern(path.name)), files.atomic_write(path) as part:
                with part.open("wb") as file:
                    for piece in _pieces(source):
                        file.write(piece)
                if said := wrong(part, path):
                    raise _Broken(f"{path.name} in it has {said}")


def same(packed: Path, path: Path) -> bool:
    """Whether a file is what a gzip file holds, byte for byte."""
    with _readable(packed), gzip.open(packed) as expected, path.open("rb") as found:
        while (piece := expected.read(_PIECE)) == found.read(_PIECE):
            if not piece:
                return True
    return False


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a source. A network or an archive that fails must not read like a disk that does."""
    while True:
        try:
            piece = source.read(_PIECE)
        except _FAILURES as error:
            raise _Broken(str(error)) from None
        if not piece:
            return
        yield piece


@contextmanager
def _readable(packed: Path) -> Iterator[None]:
    """Name the packed file in whatever is wrong with it."""
    try:
        yield
    except (_Broken, *_FAILURES) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{packed}: damaged, or not the published file ({reason}); delete it") from None
