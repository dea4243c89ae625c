"""Checks of records: each is whole, is of its run, and agrees with itself."""

from pathlib import Path

import numpy as np

from rdp.audit.comparing import values
from rdp.audit.findings import Check
from rdp.audit.run_files import check_files, check_numbers, check_receipt
from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs import tuning
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, origin
from rdp.study import Plan
from rdp.utils import files
from rdp.utils.humanize import count

Read = dict[str, tuple[RunSpec, RunRecord | None, str | None]]


def read(plan: Plan, results: Path) -> Read:
    """The records of a study's runs and of its sweeps', with the run's specification; where there is none, why."""
    store, found = Store(results), {}
    for spec in (*plan.sweep.values(), *plan.specs):
        try:
            record, problem = store.read_finished(spec.run), None
        except UserError as error:
            record, problem = None, str(error)
        found[spec.run] = (spec, record, problem)
    return found


def check_records(plan: Plan, results: Path, read: Read, labels: dict[str, np.ndarray]) -> Check:
    """Records: whole, of their runs, on the data that are there, with predictions that give their accuracy.

    Args:
        plan, results, read: the study, its results and the records there.
        labels: of the test splits that could be read, by dataset; see `rdp.audit.inputs.check_data`.
    """
    asks = "Every record is whole, is of its own run and of the data at hand, and its predictions give its accuracy."
    check = Check("records", asks, "run")
    store, digests = Store(results), _data_digests(plan, results)
    for run, (spec, record, problem) in read.items():
        check.looked_at += record is not None or problem is not None
        if problem is not None:
            check.find_line(problem)
        if record is None:
            continue
        path = store.folder(run) / "record.json"
        of = _specification(record)
        if of is None or {of.spec_digest, record.identity.spec} != {spec.spec_digest}:
            check.find(path, f"is the record of another run{f', {of.run}' if of else ''}, in the place of {run}")
            continue
        if digests.get(spec.dataset) not in (None, record.identity.data):
            check.find(path, f"was trained on other data than those prepared, {digests[spec.dataset][:12]}")
        check_receipt(check, store, run, record)
        if check_numbers(check, path, spec, record):
            check_files(check, store, run, record, labels.get(spec.dataset), whole=not origin.is_recorded(results))
        else:
            read[run] = (spec, None, "it lacks what a run leaves")  # so that nothing is held against it
    for status, told in (("not trained", None), ("failed", "failed")):
        of = [run for run, (_, r, problem) in read.items() if problem is None and (r.status if r else None) == told]
        if of:
            check.notes.append(f"{count(len(of), 'run')} {status}, which the report says too; first {of[0]}")
    return check


def check_sweeps(plan: Plan, results: Path, read: Read, scratch: Path) -> Check:
    """Chosen learning rates: those that the sweeps' records give, in ``tuned.json`` and in the runs' records.

    Args:
        plan, results, read: the study, its results and the records there.
        scratch: an empty results directory, where choices are written again.
    """
    check = Check("sweeps", "Every learning rate that a sweep chose follows from the sweep's records.", "run")
    seen: set[Path] = set()
    for spec in plan.specs:
        record = read[spec.run][1]
        if spec.tuning is None or record is None or record.status == "failed":
            continue
        check.looked_at += 1
        candidates = [read[candidate.run][1] for candidate in spec.candidates()]
        path = Store(results).folder(spec.run) / "record.json"
        if any(candidate is None for candidate in candidates):
            check.find(path, "its learning rate was chosen by a sweep whose records are not all there")
            continue
        swept = [candidate for candidate in candidates if candidate is not None]
        choice = check.attempt(lambda spec=spec, swept=swept: tuning.choose(spec, swept), path)
        stated = record.numbers.learning_rate
        if choice is not None and choice.learning_rate != stated:
            check.find(path, f"trained with the learning rate {stated}; its sweep gives {choice.learning_rate}")
        there = path.parents[1] / "tuned.json"
        if choice is not None and there not in seen and there.exists():  # runs that sweep by themselves write none
            seen.add(there)
            again = tuning.write(spec, swept, scratch)
            wrong = check.attempt(lambda there=there, again=again: values(*map(files.read_json, (there, again))), there)
            if wrong:
                check.find(there, f"not what its sweep's records give: {'; '.join(wrong)}")
    return check


def _specification(record: RunRecord) -> RunSpec | None:
    """The run that a record says that it is of; None where it says nothing that makes sense."""
    try:
        return RunSpec(**record.spec)
    except (TypeError, ValueError):
        return None


def _data_digests(plan: Plan, results: Path) -> dict[str, str]:
    """The digests that the manifests of datasets state."""
    found = {}
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        try:
            found[name] = str(files.read_json(prepared.folder(name, results) / "manifest.json")["digest"])
        except (UserError, KeyError, TypeError):
            continue
    return found
