"""Unpack an archive: add its runs to a store, or rebuild recorded results from it."""

import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdp.archive import recorded, stage
from rdp.archive.format import SPEED, STUDY, Archive
from rdp.archive.stage import Records
from rdp.claims import preregistration
from rdp.data import prepared
from rdp.errors import UserError, os_errors
from rdp.jobs import tuning
from rdp.jobs.locks import try_lock_run
from rdp.store import RunRecord, Store, adoptions, origin, scratch
from rdp.store.record import WEIGHTS, WEIGHTS_OMITTED
from rdp.study import Plan
from rdp.utils import digest, files, paths

_REPLACED = ("store", "data", preregistration.FOLDER)  # folders that `as_recorded` replaces


@dataclass
class Outcome:
    """What `into_store` did."""

    added: list[str] = field(default_factory=list)  # runs that it added to the store
    present: list[str] = field(default_factory=list)  # runs that were in the store, with the same digests
    rejected: list[str] = field(default_factory=list)  # a line for each run that it did not add
    study: Path | None = None  # the study file, if this checkout has no study of that name


def into_store(archive: Archive, results: Path) -> Outcome:
    """Add an archive's runs to the store, each whole or not at all, so that training goes on with the missing ones.

    Everything is verified first. A run in the store is never replaced, unless it failed. Adoptions, tables of probes
    and of throughput are added where absent. Of two times at which a claim was first seen, the earlier one counts.

    Raises:
        UserError: the archive is damaged, and the store is unchanged; or the results are recorded ones.
    """
    origin.refuse(results)
    archive.verify()
    plan, store, outcome = recorded.plan(archive, results / archive.manifest.study), Store(results), Outcome()
    with scratch.temporary_folder(store, scratch.IMPORTED) as folder:
        staged = Store(folder)
        records = stage.stage(archive, plan, staged, stage.labels(archive, plan), weights=archive.manifest.weights)
        claims, adopted = stage.claims(archive), stage.adoptions_of(archive)
        seen = preregistration.first_seen_times(results)
        preregistration.restore({name: min(time, seen.get(name, time)) for name, time in claims.items()}, results)
        _add_adoptions(adopted, store.root)
        # Snakemake compares times: runs of sweeps, then what they choose, then the runs trained with it, then probes.
        for sweep in (True, False):
            for spec, record in records.values():
                if spec.sweep is sweep:
                    _add(spec.run, record, staged, store, outcome)
            if sweep:
                entered = {*outcome.added, *outcome.present}
                _choose({run: pair for run, pair in records.items() if run in entered}, plan, results)
    _add_tables(archive, plan, results)
    if plan.name not in paths.studies():
        stage.write(plan.file, archive.read(STUDY))
        outcome.study = plan.file
    return outcome


def as_recorded(archive: Archive, plan: Plan, results: Path) -> Path:
    """Rebuild recorded results in a directory of their own, from which tables, figures and the report are made.

    Results that were unpacked there before are replaced.

    Returns:
        The mark of recorded results.

    Raises:
        UserError: the archive is damaged or lacks a table of the report; the directory holds other results.
    """
    if absent := [name for name in _table_names(plan) if name not in archive.manifest.files]:
        raise UserError(
            f"{archive.path}: holds no {absent[0]}, which the report needs: measure it where the runs were trained, "
            "and pack again"
        )
    if not origin.is_recorded(results) and _holds_others(results):
        raise UserError(f"{results}: holds results that are not recorded; name another directory with --to")
    content = archive.manifest.model_dump(mode="json") | {"archive_seal": archive.seal}
    # First, so that a killed job leaves a directory that can be replaced.
    origin.write(results, content, complete=False)
    for name in _REPLACED:
        shutil.rmtree(results / name, ignore_errors=True)
    labels = stage.labels(archive, plan)
    for name, arrays in labels.items():
        stage.write(prepared.folder(name, results) / "manifest.json", archive.read(f"datasets/{name}.json"))
        stage.write(origin.labels_path(name, results), archive.read(f"labels/{name}.safetensors.xz"))
        content.setdefault("labels", {})[name] = digest.of_arrays(arrays)
    store = Store(results)
    records = stage.stage(archive, plan, store, labels)
    for spec, record in records.values():
        store.write_receipt(spec.run, record)
    _choose(records, plan, results)
    _add_adoptions(stage.adoptions_of(archive), store.root)
    preregistration.restore(stage.claims(archive), results)
    _add_tables(archive, plan, results, replace=True)
    stage.write(results / f"{plan.name}.yaml", archive.read(STUDY))
    return origin.write(results, content, complete=True)


def _add(run: str, record: RunRecord, staged: Store, store: Store, outcome: Outcome) -> None:
    """Add one run to the store, unless another record is in its place or a job trains it."""
    with try_lock_run(store, run) as free:
        if not free:
            outcome.rejected.append(f"{run}: not added: another process trains it")
            return
        try:
            done = store.read_receipt(run) is not None
            present = store.read(run) if store.folder(run).exists() else None
            if present is not None:
                store.check_files(run, present)
        except UserError as error:
            outcome.rejected.append(f"{run}: not added: the store holds a damaged one: {error}")
            return
        if present is not None and present.status != "failed":
            if present.digest != record.digest:
                outcome.rejected.append(f"{run}: not added: {_difference(present, record)}")
                return
            outcome.present.append(run)
            _take_weights(staged.folder(run), store.folder(run))
            if not done:
                store.write_receipt(run, present)
            return
        with os_errors(store.folder(run), "cannot be written"):
            if present is not None:  # a failed run; the scratch folder is removed with it
                store.folder(run).rename(staged.root.parent / uuid.uuid4().hex)
            staged.folder(run).rename(store.folder(run))
        files.fsync_folder(store.folder(run).parent)
        store.write_receipt(run, record)
        outcome.added.append(run)


def _take_weights(source: Path, target: Path) -> None:
    if (source / WEIGHTS).exists() and (target / WEIGHTS_OMITTED).exists():
        (source / WEIGHTS).rename(target / WEIGHTS)
        (target / WEIGHTS_OMITTED).unlink()


def _difference(present: RunRecord, record: RunRecord) -> str:
    differing = [
        name for name in ("data", "code", "stack") if getattr(present.identity, name) != getattr(record.identity, name)
    ]
    why = f"of other {' and '.join(differing)}" if differing else "of the same identity"
    return (
        f"the store holds another record ({present.digest[:12]} {present.status}; in the archive {record.digest[:12]} "
        f"{record.status}) {why}"
    )


def _choose(records: Records, plan: Plan, results: Path) -> None:
    """Write the choice of each sweep whose runs are all in the archive, where it is absent."""
    for cell in plan.cells:
        spec = cell.specs[0]
        candidates = [records[candidate.run][1] for candidate in spec.candidates() if candidate.run in records]
        absent = not (Store(results).root / spec.cell / "tuned.json").exists()
        if candidates and len(candidates) == len(spec.candidates()) and absent:
            tuning.write(spec, candidates, results)


def _add_adoptions(contents: list[dict[str, Any]], root: Path) -> None:
    for content in contents:
        if not (root / adoptions.FOLDER / adoptions.name(content)).exists():
            adoptions.write(root, content)


def _table_names(plan: Plan) -> list[str]:
    names = [f"probes/{name}.parquet.xz" for name in plan.study.probes]
    return [*names, SPEED] if plan.study.speed_rounds else names


def _add_tables(archive: Archive, plan: Plan, results: Path, *, replace: bool = False) -> None:
    for name in _table_names(plan):
        path = results / plan.name / name.removesuffix(".xz")
        if name in archive.manifest.files and (replace or not path.exists()):
            stage.write(path, archive.read(name))


def _holds_others(results: Path) -> bool:
    """Whether a directory holds files other than logs, which the workflow writes before it unpacks."""
    logs, claims = results / "logs", results / preregistration.FOLDER
    present: Iterable[Path] = (path for path in results.rglob("*") if path.is_file())
    return any(logs not in path.parents or claims in path.parents for path in present)
