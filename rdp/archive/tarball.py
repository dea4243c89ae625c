"""Archives of runs: tar files of which every byte follows from the manifest that they begin with.

The manifest names every file in the archive with its size and SHA-256, and is sealed. Whoever reads it knows what each
header, each content and the padding must be, and compares: a flipped bit anywhere, a file too many and a cut are found,
and no name, link or mode of the archive is ever followed. The same files make the same bytes.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rdp.errors import UserError
from rdp.utils import digest, files

MANIFEST = "manifest.json"
# Of the store's own layout, and of what goes beside it; nothing else can be in an archive.
_NAME = re.compile(
    r"store/(adopted/[0-9a-f-]{38}\.json"
    r"|[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}/"
    r"(tuned\.json|seed-[0-9]{4,10}(\.json|/record\.json|/[a-z]+\.safetensors)))"
    r"|claims\.json"
)
_CHUNK = 1 << 20
_LARGEST = 1 << 30  # bytes of a manifest that is read
FORMAT = 2


def write(path: Path, told: dict[str, Any], contents: dict[str, Path | bytes]) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: where.
        told: what the manifest says beside the files.
        contents: by name in the archive, a file or its bytes.

    Raises:
        UserError: it cannot be written, or a file changes or vanishes meanwhile.
    """
    listed = {}
    for name, source in sorted(contents.items()):
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name} is no name of a file in an archive of runs")
        listed[name] = {"bytes": _size(source), "sha256": _sha256(source)}
    manifest = digest.seal({"format": FORMAT} | told | {"files": listed})
    with files.whole(path) as part, part.open("wb") as to:
        _add(to, MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
        for name, entry in listed.items():
            if _add(to, name, contents[name]) != (entry["bytes"], entry["sha256"]):
                raise UserError(f"{contents[name]}: changed while it was read")
        to.write(bytes(2 * tarfile.BLOCKSIZE))


def read(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive into an empty folder, and return its manifest, in its present form.

    Raises:
        UserError: it is no archive of runs, of a later version, or damaged. What is then in the folder is worthless.
    """
    try:
        with path.open("rb") as source:
            manifest = _manifest(path, source)
            for name, entry in manifest["files"].items():
                if not _NAME.fullmatch(name):
                    raise UserError(f"{path}: names a file outside the store: {name}")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as to:
                    _unpack(path, source, name, entry, to)
            if source.read(2 * tarfile.BLOCKSIZE + 1) != bytes(2 * tarfile.BLOCKSIZE):
                raise UserError(f"{path}: damaged: it does not end where its manifest says")
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror}") from None
    return manifest


def _manifest(path: Path, source: IO[bytes]) -> dict[str, Any]:
    """The manifest, verified by its seal."""
    try:
        size = tarfile.TarInfo.frombuf(source.read(tarfile.BLOCKSIZE), "utf-8", "strict").size
    except (tarfile.TarError, ValueError):
        size = -1
    source.seek(0)
    if not 0 <= size <= _LARGEST or source.read(tarfile.BLOCKSIZE) != _header(MANIFEST, size):
        raise UserError(
            f"{path}: not an archive of runs, as rdp store export writes it, or its first bytes are damaged"
        )
    content, padding = source.read(size), -size % tarfile.BLOCKSIZE
    try:
        manifest: dict[str, Any] = json.loads(content)
        whole = digest.unseal(manifest) is True and source.read(padding) == bytes(padding)
    except (ValueError, AttributeError):
        raise UserError(f"{path}: damaged, or cut short: its manifest cannot be read") from None
    if not whole:
        raise UserError(f"{path}: damaged: the seal of its manifest does not fit")
    files.check_format(path, manifest, "archive", FORMAT, "Export the runs again: rdp store export.")
    return manifest


def _unpack(path: Path, source: IO[bytes], name: str, entry: dict[str, Any], to: IO[bytes]) -> None:
    header = _header(name, entry["bytes"])
    if source.read(len(header)) != header:
        raise UserError(f"{path}: damaged, or cut short: {name} does not begin where its manifest says")
    found, left = hashlib.sha256(), entry["bytes"]
    while left and (chunk := source.read(min(left, _CHUNK))):
        found.update(chunk)
        to.write(chunk)
        left -= len(chunk)
    padding = -entry["bytes"] % tarfile.BLOCKSIZE
    if left or found.hexdigest() != entry["sha256"] or source.read(padding) != bytes(padding):
        raise UserError(f"{path}: damaged, or cut short: {name} is not the file that its manifest says")


def _header(name: str, size: int) -> bytes:
    """What stands before a file: nothing of who packed it, or when."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _add(to: IO[bytes], name: str, source: Path | bytes) -> tuple[int, str]:
    """Write a file with its header and padding; its size and SHA-256, as they were written."""
    size, found, written = _size(source), hashlib.sha256(), 0
    to.write(_header(name, size))
    for chunk in _chunks(source):
        found.update(chunk)
        to.write(chunk)
        written += len(chunk)
    to.write(bytes(-written % tarfile.BLOCKSIZE))
    return written, found.hexdigest()


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _size(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _sha256(source: Path | bytes) -> str:
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else digest.of_file(source)
