"""Bundles: the files that a study's tables, figures, verdicts and report are made from, small enough to be committed.

::

    results/recorded/<study>/
        manifest.json               machine, versions, commits, times; cells; the SHA-256 of every other file; a seal
        <study>.yaml                the study's file, as it was
        records.jsonl.xz            every record, one a line, those of sweeps first
        predictions.xz              the runs' predictions.safetensors, in that order
        labels/<dataset>.safetensors.xz    labels of the test split
        datasets/<dataset>.json     the manifest of the dataset
        sweeps.json.xz              what each sweep chose, where there are any
        adoptions.json              the adoptions of code that made records, where there are any
        claims.json                 when the text of each claim was first seen
        probes/<probe>.parquet.xz, speed.parquet.xz    what was measured on the weights, which a bundle does not hold

Nothing here imports torch or pandas, so that the Snakefile may ask.
"""

import hashlib
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdp import study
from rdp.errors import UserError, choices
from rdp.spec import RunSpec
from rdp.study import Plan
from rdp.utils import digest, files, paths

FORMAT = 2
MANIFEST = "manifest.json"
RECORDS = "records.jsonl.xz"
PREDICTIONS = "predictions.xz"
SWEEPS = "sweeps.json.xz"
ADOPTIONS = "adoptions.json"
CLAIMS = "claims.json"
SPEED = "speed.parquet.xz"
_NAME = re.compile(r"([a-z]+/)?[a-z0-9_]+(\.[a-z]+)+")


@dataclass(frozen=True)
class Bundle:
    """A bundle, verified.

    Attributes:
        folder: where it is.
        manifest: without its seal.
        seal: of the manifest, and so of every file.
        files: the bytes of each, by name.
    """

    folder: Path
    manifest: dict[str, Any]
    seal: str
    files: dict[str, bytes]

    @property
    def study(self) -> str:
        """The study's name."""
        return self.manifest["study"]

    @property
    def study_file(self) -> Path:
        """The study's file, as it was."""
        return self.folder / f"{self.study}.yaml"

    def content(self, name: str) -> bytes:
        """A file's content, unpacked where it is packed."""
        if name not in self.files:
            raise UserError(f"{self.folder / MANIFEST}: names no {name}: not a whole bundle")
        try:
            return lzma.decompress(self.files[name]) if name.endswith(".xz") else self.files[name]
        except lzma.LZMAError as error:
            raise UserError(f"{self.folder / name}: cannot be unpacked ({error})") from None


def find(name: str) -> Bundle:
    """The bundle of a study, by the study's name: the working directory's, or the project's.

    By the path of a study's file it is the bundle that the file lies in, or else that of the study.

    Raises:
        UserError: no bundle, or one of which a file is absent or damaged, or that is another study's.
    """
    is_path = name.endswith((".yaml", ".yml"))
    stem, beside = (paths.named(name).stem, paths.named(name).parent) if is_path else (name, None)
    found = paths.bundles()
    if beside is not None and (beside / MANIFEST).is_file():
        found[stem] = beside
    if stem not in found:
        raise UserError(f"results/recorded: no recorded study '{stem}'; {choices(stem, found)}")
    bundle = load(found[stem])
    if bundle.study != stem:
        raise UserError(f"{bundle.folder / MANIFEST}: of the study '{bundle.study}', in the place of '{stem}'")
    return bundle


def load(folder: Path) -> Bundle:
    """Read a bundle, and verify its manifest by its seal and every file by the manifest."""
    path = folder / MANIFEST
    manifest = files.read_json(path)
    seal = manifest.get("seal") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not digest.unseal(manifest):
        raise UserError(f"{path}: damaged: its seal does not fit")
    files.check_format(path, manifest, "bundle", FORMAT, "Pack the study again.")
    return Bundle(
        folder, manifest, str(seal), {name: _read(folder, name, of) for name, of in manifest["files"].items()}
    )


def _read(folder: Path, name: str, told: dict[str, Any]) -> bytes:
    path = folder / name
    if not _NAME.fullmatch(name):
        raise UserError(f"{folder / MANIFEST}: names a file outside a bundle: {name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), and the bundle's manifest names it") from None
    if len(content) != told["bytes"]:
        raise UserError(f"{path}: damaged: {len(content):,} bytes, its manifest says {told['bytes']:,}")
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise UserError(f"{path}: damaged: its checksum is not that of the manifest")
    return content


def write(folder: Path, manifest: dict[str, Any], contents: dict[str, bytes]) -> Bundle:
    """Write a bundle in the place of what bundle there is, whole or not at all; the same contents give the same bytes.

    Raises:
        UserError: it cannot be written, or the folder holds something else.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds something else than a bundle; name another place with --to")
    packed = {
        name: lzma.compress(content, preset=6 | lzma.PRESET_EXTREME) if name.endswith(".xz") else content
        for name, content in sorted(contents.items())
    }
    told = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in packed.items()}
    with files.whole_folder(folder) as part:
        for name, content in packed.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        files.write_json(part / MANIFEST, digest.seal(manifest | {"files": told}))
    return load(folder)


def cells(specs: Iterable[RunSpec]) -> dict[str, list[int]]:
    """Runs as a manifest lists them: the seeds of each cell, by its name in the store."""
    found: dict[str, list[int]] = {}
    for spec in specs:
        found.setdefault(spec.cell, []).append(spec.seed)
    return found


def runs(plan: Plan) -> list[RunSpec]:
    """The runs of a study as a bundle has them: those of its sweeps first."""
    return [*plan.sweep.values(), *plan.specs]


def plan(bundle: Bundle, asked: str) -> Plan:
    """The study of a bundle, by the file in it.

    Args:
        bundle: that is meant.
        asked: the study that was asked for, by name or path. Where this checkout has a file of it, it must ask for
            the same runs; whatever else its file says, the one in the bundle counts.

    Raises:
        UserError: the study, or the way in which runs are named, is another than when the bundle was made.
    """
    found = study.load(str(bundle.study_file))
    _compare(bundle, found, "this checkout makes other runs of it than the commit that recorded them")
    if asked.endswith((".yaml", ".yml")) or asked in paths.studies():
        _compare(bundle, study.load(asked), f"it is another study than the recorded one, {bundle.study_file}")
    return found


def _compare(bundle: Bundle, found: Plan, why: str) -> None:
    ours, theirs = (
        {f"{cell}/seed-{seed:04d}" for cell, seeds in each.items() for seed in seeds}
        for each in (cells(runs(found)), bundle.manifest["cells"])
    )
    if ours != theirs:
        more, less = sorted(ours - theirs), sorted(theirs - ours)
        parts = [
            f"{len(names)} {which}, first {names[0]}"
            for names, which in ((more, "runs are not in the bundle"), (less, "of the bundle's are not in the study"))
            if names
        ]
        raise UserError(f"{found.file}: {why}: {'; '.join(parts)}")


def size(bundle: Bundle) -> int:
    """Bytes of all files of a bundle."""
    return sum(map(len, bundle.files.values())) + (bundle.folder / MANIFEST).stat().st_size
