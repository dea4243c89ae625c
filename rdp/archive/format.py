"""The archive format: one tar file that holds a study's results, in which every byte follows from its manifest.

::

    manifest.json                        the `Manifest`, sealed
    study.yaml                           the study file
    records.jsonl.xz                     one record a line, those of sweeps first
    predictions.xz                       the predictions.safetensors of these runs, in the same order
    labels/DATASET.safetensors.xz        labels of the test split
    datasets/DATASET.json                manifest of the prepared dataset
    probes/PROBE.parquet.xz              probe tables
    speed.parquet.xz                     throughput table
    adoptions.json                       adoptions of the code that made records
    claims.json                          when each text of a claim was first seen
    weights/CELL/seed-0000.safetensors   weights, if they were asked for

The manifest fixes each header, the offset of each file and the padding, and the reader compares them. It follows no
name, link or mode of the tar file, and executes nothing. The same files give the same bytes. Nothing here imports torch
or pandas, because the Snakefile reads archives.
"""

import hashlib
import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from rdp.archive.manifest import Entry, Manifest
from rdp.errors import UserError, os_errors
from rdp.utils import digest, files

FORMAT = 1
SUFFIX = ".tar"
MANIFEST, STUDY = "manifest.json", "study.yaml"
RECORDS, PREDICTIONS = "records.jsonl.xz", "predictions.xz"
ADOPTIONS, CLAIMS, SPEED = "adoptions.json", "claims.json", "speed.parquet.xz"
_NAME = re.compile(
    r"study\.yaml|records\.jsonl\.xz|predictions\.xz|adoptions\.json|claims\.json|speed\.parquet\.xz"
    r"|(labels/[a-z0-9_]+\.safetensors|probes/[a-z0-9_]+\.parquet)\.xz|datasets/[a-z0-9_]+\.json"
    r"|weights/[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}/seed-[0-9]{4,10}\.safetensors"
)
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_CHUNK = 1 << 20
_LARGEST = 1 << 31  # bytes of a manifest, and of a file after decompression


@dataclass(frozen=True)
class Archive:
    """An archive whose manifest is verified. Its files are verified as they are read."""

    path: Path
    manifest: Manifest
    seal: str  # digest of the manifest, and so of every file
    offsets: Mapping[str, int]  # position of each file's header, by name

    def read(self, name: str) -> bytes:
        """Return a file's content, verified and decompressed."""
        content = b"".join(self._chunks(name))
        if not name.endswith(".xz"):
            return content
        expected = self.manifest.files[name].content_bytes
        decompressor = lzma.LZMADecompressor()
        try:
            content = decompressor.decompress(content, max_length=expected + 1)
        except lzma.LZMAError as error:
            raise UserError(f"{self.path}: {name} cannot be decompressed ({error})") from None
        if len(content) != expected or not decompressor.eof:
            raise UserError(f"{self.path}: {name} does not decompress to the {expected:,} bytes its manifest states")
        return content

    def extract(self, name: str, target: Path) -> None:
        """Write a file as it is stored, verified."""
        with files.atomic_write(target) as part, part.open("wb") as to:
            for chunk in self._chunks(name):
                to.write(chunk)

    def verify(self) -> "Archive":
        """Read every byte, and return this archive.

        Raises:
            UserError: a byte differs from what the manifest states.
        """
        for name in self.manifest.files:
            for _ in self._chunks(name):
                pass
        with self._open() as source:
            source.seek(-len(_END), os.SEEK_END)
            if source.read() != _END:
                raise UserError(f"{self.path}: damaged: it does not end as a tar file does")
        return self

    def _chunks(self, name: str) -> Iterator[bytes]:
        """A file's stored bytes. An error after the last chunk means that all of them are worthless."""
        if name not in self.manifest.files:
            raise UserError(f"{self.path}: holds no {name}")
        entry = self.manifest.files[name]
        header, checksum, left = _header(name, entry.bytes), hashlib.sha256(), entry.bytes
        with self._open() as source:
            source.seek(self.offsets[name])
            intact = source.read(len(header)) == header
            while left and (chunk := source.read(min(left, _CHUNK))):
                checksum.update(chunk)
                left -= len(chunk)
                yield chunk
            intact &= source.read(_padding(entry.bytes)) == bytes(_padding(entry.bytes))
        if not intact or checksum.hexdigest() != entry.sha256:
            raise UserError(f"{self.path}: damaged: {name} is not the file that its manifest states")

    def _open(self) -> IO[bytes]:
        with os_errors(self.path):
            return self.path.open("rb")


def load(path: Path) -> Archive:
    """Read an archive's manifest, and verify its seal and the file's size.

    Raises:
        UserError: not an archive, of a later format, damaged, or with a file that an archive cannot hold.
    """
    with os_errors(path), path.open("rb") as source:
        content = _read_manifest(path, source)
        size = os.fstat(source.fileno()).st_size
    try:
        value = json.loads(content)
        seal, intact = str(value.get("seal")), digest.unseal(value)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise UserError(f"{path}: damaged: its manifest cannot be read") from None
    if not intact:
        raise UserError(f"{path}: damaged: the seal of its manifest does not match")
    if value.get("format") != FORMAT:
        raise UserError(
            f"{path}: archive format {value.get('format')}; this version of rdp reads format {FORMAT}. "
            "Pack the study again with this version"
        )
    try:
        manifest = Manifest(**value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: damaged: its manifest: {where}: {first['msg']}") from None
    position = _BLOCK + len(content) + _padding(len(content))
    offsets = {}
    for name, entry in manifest.files.items():
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: its manifest names a file that an archive cannot hold: {name}")
        if max(entry.bytes, entry.content_bytes) > _LARGEST and name.endswith(".xz"):
            raise UserError(f"{path}: {name} is larger than {_LARGEST:,} bytes after decompression")
        offsets[name] = position
        position += len(_header(name, entry.bytes)) + entry.bytes + _padding(entry.bytes)
    if size != position + len(_END):
        raise UserError(f"{path}: damaged: {size:,} bytes, its manifest states {position + len(_END):,}")
    return Archive(path, manifest, seal, offsets)


def write(path: Path, manifest: Manifest, contents: Mapping[str, Path | bytes]) -> Archive:
    """Write an archive, whole or not at all, in place of the one that is there.

    Args:
        path: the archive.
        manifest: its manifest, without files.
        contents: a file or its content by name; content named ``*.xz`` is compressed.

    Raises:
        UserError: it cannot be written, or a file changes meanwhile.
    """
    stored: dict[str, Path | bytes] = {}
    entries: dict[str, Entry] = {}
    for name, source in sorted(contents.items()):
        if name.endswith(".xz") and isinstance(source, bytes):
            stored[name] = lzma.compress(source, preset=6 | lzma.PRESET_EXTREME)
        else:
            stored[name] = source
        size, checksum = _measure(stored[name])
        entries[name] = Entry(bytes=size, sha256=checksum, content_bytes=_measure(source)[0])
    sealed = digest.seal(manifest.model_copy(update={"files": entries}).model_dump(mode="json"))
    with files.atomic_write(path) as part, part.open("wb") as to:
        content = (json.dumps(sealed, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
        _add(to, MANIFEST, content, len(content))
        for name, entry in entries.items():
            if _add(to, name, stored[name], entry.bytes) != (entry.bytes, entry.sha256):
                raise UserError(f"{stored[name]!s}: changed while it was packed; run the command again")
        to.write(_END)
    return load(path)


def weights_name(run: str) -> str:
    """Return the name of a run's weights in an archive."""
    return f"weights/{run}.safetensors"


def _read_manifest(path: Path, source: IO[bytes]) -> bytes:
    try:
        size = tarfile.TarInfo.frombuf(source.read(_BLOCK), "utf-8", "strict").size
    except (tarfile.TarError, ValueError):
        size = -1
    source.seek(0)
    if not 0 <= size <= _LARGEST or source.read(_BLOCK) != _header(MANIFEST, size):
        raise UserError(f"{path}: not an archive of rdp pack, or its first bytes are damaged")
    content = source.read(size)
    if len(content) != size or source.read(_padding(size)) != bytes(_padding(size)):
        raise UserError(f"{path}: damaged: its manifest is cut short")
    return content


def _header(name: str, size: int) -> bytes:
    """The tar header of a file, without owner or time."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _add(to: IO[bytes], name: str, source: Path | bytes, size: int) -> tuple[int, str]:
    """Write a file with its header and padding; return its size and SHA-256 as written."""
    written, checksum = 0, hashlib.sha256()
    to.write(_header(name, size))
    with _open(source) as file:
        while chunk := file.read(_CHUNK):
            checksum.update(chunk)
            written += to.write(chunk)
    to.write(bytes(_padding(written)))
    return written, checksum.hexdigest()


def _open(source: Path | bytes) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _measure(source: Path | bytes) -> tuple[int, str]:
    with _open(source) as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a binary file or BytesIO
        return file.seek(0, os.SEEK_END), checksum
