"""Checks of what a checkout has against what records say: code, versions, study."""

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rdp.audit.findings import Check
from rdp.audit.runs import Read
from rdp.errors import UserError
from rdp.store import Store, adoptions, fingerprint
from rdp.study import Plan
from rdp.study.states import adopted
from rdp.tables import collect
from rdp.utils import digest, paths
from rdp.utils.humanize import count
from rdp.utils.lockfile import LOCK, pinned_versions

_ROOT = paths.ROOT


def check_code(read: Read, store: Store) -> Check:
    """Code: each record was made by the modules that this checkout would train its run with, or by adopted ones."""
    asks = "Every record was made by the code that this checkout would train it with, or by code that was adopted."
    check, accepted = Check("code", asks, "run"), 0
    commits: Counter[str] = Counter()
    other: dict[str, list[str]] = {}
    for run, (spec, record, _) in read.items():
        if record is None:
            continue
        check.looked_at += 1
        commits[str(record.telemetry.commit)] += 1
        if adopted(store, spec, record.identity.code, record.identity.stack):
            accepted += 1
        elif record.identity.code != fingerprint.code_of(spec):
            other.setdefault(spec.cell, []).append(run)
        if digest.of(record.telemetry.stack) != record.identity.stack:
            check.find(run, "the stack that its telemetry describes is not the one of its identity")
    for runs in other.values():
        check.find(runs[0], f"made by other code than this checkout's ({count(len(runs), 'run')} of its cell)")
    for adoption in store.adoptions.of_records(record for _, record, _ in read.values() if record is not None):
        for line in _doubts(adoption, store):
            check.find(store.root / adoptions.FOLDER / adoptions.name(adoption), line)
    for line in store.adoptions.damaged:
        check.find_line(line)
    if accepted:
        check.notes.append(f"{count(accepted, 'run')} made by other code, and adopted (rdp adopt)")
    for commit, runs_of in sorted(commits.items()):
        dirty = ", with files that differed from it" if commit.endswith("+") else ""
        check.notes.append(f"{count(runs_of, 'run')} trained at commit {commit}{dirty}")
    return check


def _doubts(adoption: dict[str, Any], store: Store) -> list[str]:
    """What speaks against an adoption in what it says of the runs that showed it, as far as the store has them still.

    Their records, and those that training again left, share all but the code: of the one follows the other's digest.
    """
    found = []
    for told in adoption["runs"]:
        if not isinstance(told, dict) or not {"run", "digest", "again", "bits"} <= told.keys():
            return ["names no runs that were trained again"]
        try:
            record = store.read_finished(str(told["run"]))
        except UserError:  # which the check of records finds
            continue
        if record is None or record.digest != told["digest"]:  # cleaned away since, or trained again
            continue
        if record.identity.code != adoption["old"] or record.bits != told["bits"]:
            found.append(f"says of {told['run']} what its record does not")
    return found


def check_lock(read: Read) -> Check:
    """Versions: what records were made with, and what is installed, are what the lock pins."""
    check = Check("lock", f"Versions in records, and those installed, are the ones that {LOCK} pins.", "version")
    if not (_ROOT / LOCK).is_file():
        check.notes.append(f"there is no {LOCK} here to hold versions against")
        return check
    pinned = check.attempt(lambda: pinned_versions(_ROOT / LOCK), LOCK)
    if not pinned:
        if pinned is not None:
            check.find(LOCK, "pins nothing")
        return check
    said = Counter(
        (name, str(found))
        for _, record, _ in read.values()
        if record is not None
        for name, found in record.telemetry.versions.items()
    )
    for (name, found), runs in sorted(said.items()):
        check.looked_at += 1
        if name in pinned and _public(found) not in pinned[name]:
            check.find(name, f"{count(runs, 'run')} made with {found}; {LOCK} pins {' or '.join(sorted(pinned[name]))}")
    for name, versions in sorted(pinned.items()):
        try:
            found = version(name)
        except PackageNotFoundError:  # of another platform, or a part that is not installed
            continue
        check.looked_at += 1
        if _public(found) not in versions:
            check.find(name, f"installed is {found}; {LOCK} pins {' or '.join(sorted(versions))}")
    python = sorted(found for name, found in said if name == "python")
    if python:
        check.notes.append(f"Python is no part of the lock; records were made with {', '.join(python)}")
    return check


def _public(found: str) -> str:
    """A version without what a build adds to it, as in ``2.12.0+cpu``."""
    return found.partition("+")[0]


def check_study(plan: Plan, results: Path) -> Check:
    """Study: the tables are of the runs that its file asks for now."""
    check = Check(
        "study", "The tables are of the very runs that the study's file asks for, by its present text.", "run"
    )
    asked = [spec.run for spec in plan.specs]
    check.looked_at = len(asked)
    try:
        found = collect.read(plan.name, results)[0]["run"].tolist()
    except (UserError, KeyError):  # which the check of tables finds
        return check
    for run in [run for run in asked if run not in set(found)][:20]:
        check.find(plan.file, f"asks for {run}, of which the tables know nothing; run: rdp collect {plan.name}")
    for run in [run for run in found if run not in set(asked)][:20]:
        check.find(results / plan.name / "records.parquet", f"has {run}, which {plan.file} does not ask for")
    return check
