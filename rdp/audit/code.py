"""Check the checkout against records and tables: code, package versions, and study file."""

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rdp.audit.findings import Check
from rdp.audit.runs import StoredRuns
from rdp.errors import UserError
from rdp.store import Store, adoptions, fingerprint
from rdp.study import Plan
from rdp.study.states import adopted
from rdp.tables import collect
from rdp.utils import digest, paths
from rdp.utils.distribution import LOCK, pinned_versions
from rdp.utils.humanize import count

_ROOT = paths.ROOT
_LISTED = 20  # runs that a study lacks, or has too many, which are listed


def check_code(runs: StoredRuns, store: Store) -> Check:
    """Check that this checkout's code, or code adopted by it, made each record."""
    statement = "Every record was made by the code with which this checkout would train it, or by adopted code."
    check, adopted_runs = Check("code", statement, "run"), 0
    commits: Counter[str] = Counter()
    by_other_code: dict[str, list[str]] = {}
    records = [(run, spec, record) for run, (spec, record, _) in runs.items() if record is not None]
    for run, spec, record in records:
        check.checked += 1
        commits[str(record.telemetry.commit)] += 1
        if adopted(store, spec, record.identity.code, record.identity.stack):
            adopted_runs += 1
        elif record.identity.code != fingerprint.code_of(spec):
            by_other_code.setdefault(spec.cell, []).append(run)
        if digest.of(record.telemetry.stack) != record.identity.stack:
            check.find(run, "the stack in its telemetry does not match its identity")
    for names in by_other_code.values():
        check.find(names[0], f"made by other code than this checkout's ({count(len(names), 'run')} of its cell)")
    for adoption in store.adoptions.of_records(record for _, _, record in records):
        check.find(store.root / adoptions.FOLDER / adoptions.name(adoption), *_contradictions(adoption, store))
    check.find_lines(store.adoptions.damaged)
    if adopted_runs:
        check.notes.append(f"{count(adopted_runs, 'run')} made by other code, and adopted (rdp adopt)")
    for commit, number in sorted(commits.items()):
        dirty = ", with uncommitted changes" if commit.endswith("+") else ""
        check.notes.append(f"{count(number, 'run')} trained at commit {commit}{dirty}")
    return check


def _contradictions(adoption: dict[str, Any], store: Store) -> list[str]:
    """Describe where an adoption disagrees with the stored records of the runs that it was based on."""
    lines = []
    for entry in adoption["runs"]:
        if not isinstance(entry, dict) or not {"run", "digest", "again", "bits"} <= entry.keys():
            return ["names no retrained runs"]
        try:
            record = store.read_finished(str(entry["run"]))
        except UserError:  # reported by the check of records
            continue
        if record is None or record.digest != entry["digest"]:  # removed or retrained since
            continue
        if record.identity.code != adoption["old"] or record.bits != entry["bits"]:
            lines.append(f"disagrees with the record of {entry['run']}")
    return lines


def check_lock(runs: StoredRuns) -> Check:
    """Check that the lock pins the package versions in records and the installed ones."""
    check = Check("lock", f"{LOCK} pins the package versions in records and the installed ones.", "version")
    if not (_ROOT / LOCK).is_file():
        check.notes.append(f"no {LOCK} to compare versions with")
        return check
    pinned = check.attempt(LOCK, pinned_versions, _ROOT / LOCK)
    if not pinned:
        check.find(LOCK, *(["pins nothing"] if pinned is not None else []))
        return check
    recorded = Counter(
        (name, str(installed))
        for _, record, _ in runs.values()
        if record is not None
        for name, installed in record.telemetry.versions.items()
    )
    for (name, used), number in sorted(recorded.items()):
        check.checked += 1
        if name in pinned and _public(used) not in pinned[name]:
            check.find(
                name, f"{count(number, 'run')} made with {used}; {LOCK} pins {' or '.join(sorted(pinned[name]))}"
            )
    for name, versions in sorted(pinned.items()):
        try:
            installed = version(name)
        except PackageNotFoundError:  # of another platform, or of an extra that is not installed
            continue
        check.checked += 1
        if _public(installed) not in versions:
            check.find(name, f"version {installed} is installed; {LOCK} pins {' or '.join(sorted(versions))}")
    if python := sorted(used for name, used in recorded if name == "python"):
        check.notes.append(f"the lock does not pin Python; records were made with {', '.join(python)}")
    return check


def _public(text: str) -> str:
    """Return a version without its local label, such as ``+cpu``."""
    return text.partition("+")[0]


def check_study(plan: Plan, results: Path) -> Check:
    """Check that the tables hold exactly the runs of the study file."""
    check = Check("study", "The tables hold exactly the runs of the study file.", "run")
    planned = [spec.run for spec in plan.specs]
    check.checked = len(planned)
    try:
        tabled = collect.read(plan.name, results)[0]["run"].tolist()
    except (UserError, KeyError):  # reported by the check of tables
        return check
    for run in [run for run in planned if run not in set(tabled)][:_LISTED]:
        check.find(plan.file, f"asks for {run}, which the tables lack; run: rdp collect {plan.name}")
    for run in [run for run in tabled if run not in set(planned)][:_LISTED]:
        check.find(results / plan.name / "records.parquet", f"has {run}, which {plan.file} does not ask for")
    return check
