"""``rdp store import``: runs that were carried from another site enter the store, each whole or not at all."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdp.archive import tarball
from rdp.archive.exporting import CLAIMS
from rdp.claims import preregistration
from rdp.errors import UserError
from rdp.jobs import locks
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, adoptions, origin, scratch
from rdp.utils import files


@dataclass
class Arrival:
    """What an import came to.

    Attributes:
        entered: runs that are in the store now and were not before.
        kept: runs that were there already, with the same digests.
        refused: a line about each run that was kept out.
    """

    entered: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def take(path: Path, results: Path) -> Arrival:
    """Take the runs of an archive into the store.

    All of it is verified before anything enters: the archive by its manifest, each record by its digest and its run's
    name, its files by the record, its receipt by the record's file. Adoptions, what sweeps chose, and when claims were
    first seen come along; of two times of a claim the earlier one counts.

    Raises:
        UserError: the archive or something in it is damaged, and the store is as it was.
    """
    origin.refuse(results)
    store = Store(results)
    with scratch.place(store, scratch.ARRIVALS) as folder:
        manifest = tarball.read(path, folder)
        staged = Store(folder)
        records = {run: _verified(path, staged, run, stated) for run, stated in manifest["runs"].items()}
        adopted = [adoptions.read(found) for found in sorted((staged.root / adoptions.FOLDER).glob("*.json"))]
        claims = _claims(folder / CLAIMS)
        for adoption in adopted:
            if not (store.root / adoptions.FOLDER / adoptions.name(adoption)).exists():
                adoptions.write(store.root, adoption)
        _keep_earlier(claims, results)
        _choices(staged, store)
        arrival = Arrival()
        for run, record in records.items():
            _enter(run, record, staged, store, arrival)
    return arrival


def _verified(path: Path, staged: Store, run: str, stated: str) -> RunRecord:
    """A run's record, found to be what the manifest, its receipt and its own digests say."""
    try:
        record = staged.received(run)
        if record is None or record.digest != stated:
            raise UserError(f"{run}: not the record that the manifest states")
        staged.check_files(run, record)
        if {found.name for found in staged.folder(run).iterdir()} != {"record.json", *record.files}:
            raise UserError(f"{run}: with a file that its record does not name")
        try:
            spec = RunSpec(**record.spec)
        except (ValueError, TypeError):
            raise UserError(f"{run}: its specification cannot be read by this version") from None
        if spec.run != run or record.identity["spec"] != spec.spec_digest:
            raise UserError(f"{run}: its record is of another run")
    except UserError as error:
        raise UserError(f"{path}: damaged, or made up: {error}") from None
    return record


def _claims(path: Path) -> dict[str, str]:
    found: dict[str, Any] = files.read_json(path) if path.exists() else {}
    if not isinstance(found, dict) or not all(isinstance(seen, str) for seen in found.values()):
        raise UserError(f"{path}: not when claims were first seen")
    return found


def _keep_earlier(claims: dict[str, str], results: Path) -> None:
    """A text that was seen at either site before a run was there before that run."""
    ours = preregistration.first_seen_times(results)
    preregistration.restore({name: min(seen, ours.get(name, seen)) for name, seen in claims.items()}, results)


def _choices(staged: Store, store: Store) -> None:
    for path in sorted(staged.root.glob("*/tuned.json")):
        target = store.root / path.parent.name / path.name
        if not target.exists():
            files.write_json(target, files.read_json(path))


def _enter(run: str, record: RunRecord, staged: Store, store: Store, arrival: Arrival) -> None:
    """Let one run in, unless another record is in its place or it is in training."""
    with locks.try_lock_run(store, run) as ours:
        if not ours:
            arrival.refused.append(f"{run}: in training by another process, kept out")
            return
        try:
            done = store.glance(run) is not None
            there = store.read(run) if store.folder(run).exists() else None
            if there is not None:
                store.check_files(run, there)
        except UserError as error:
            arrival.refused.append(f"{run}: kept out, another is in its place, and damaged: {error}")
            return
        if there is not None and there.status != "failed" and there.digest != record.digest:
            told = f"{there.digest[:12]} {there.status} here, {record.digest[:12]} {record.status} in the archive"
            arrival.refused.append(f"{run}: kept out, another record is in its place ({told}){_why(there, record)}")
            return
        if there is not None and there.status != "failed":
            arrival.kept.append(run)
            if not done:
                store.write_receipt(run, there)
            return
        try:
            if there is not None:  # no result, and in the way; where things were staged, it goes with them
                store.folder(run).rename(staged.root.parent / uuid.uuid4().hex)
            staged.folder(run).rename(store.folder(run))
        except OSError as error:
            raise UserError(f"{store.folder(run)}: cannot be written ({error.strerror})") from None
        files.flush_folder(store.folder(run).parent)
        store.write_receipt(run, record)
        arrival.entered.append(run)


def _why(there: RunRecord, record: RunRecord) -> str:
    """In which of the four digests two records of a run differ."""
    other = [name for name in ("data", "code", "stack") if there.identity[name] != record.identity[name]]
    return f": made with other {' and '.join(other)}" if other else ": of the very same identity"
